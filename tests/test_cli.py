"""The command line: what it prints, what it saves, and how it fails."""

import json
import subprocess
import sys

import pytest

import widthwise
from widthwise.cli import main
from widthwise.errors import ConfigError

QUICK = ["--fnnp.candidates", "3", "--train.epochs", "1", "--finetune.epochs", "1"]


def test_prune_then_evaluate(tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["prune", *QUICK, "--run", run]) == 0
    printed = capsys.readouterr().out
    for word in ("MACs", "parameters", "validation accuracy", "test accuracy", "latency, batch 1", "batch 64"):
        assert word in printed
    assert main(["evaluate", run]) == 0
    again = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "test accuracy" in line)
    assert row in again.splitlines()
    (tmp_path / "run" / "result.json").unlink()  # killed while it measured
    assert main(["evaluate", run]) == 2
    assert "run the same command again" in " ".join(capsys.readouterr().err.split())


def test_prune_without_a_search(tmp_path, capsys):
    run = tmp_path / "run"
    brief = ["--train.epochs", "2", "--finetune.epochs", "1", "--baseline.sensitivity_images", "200"]
    assert main(["prune", "--method", "baseline", "--reconstruct", "100", *brief, "--run", str(run)]) == 0
    settings = json.loads((run / "config.json").read_text())["method"]
    assert (settings["widths"], settings["importance"]) == ("balanced", "sensitivity")
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    assert "as wide as the sensitivities of their channels" in (run / "report.html").read_text()


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert widthwise.__version__ in capsys.readouterr().out


def test_help_says_what_every_setting_means(capsys):
    for command in ("prune", "compare"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        assert text.startswith(f"usage: widthwise [options] {command} [options] ")
        assert "How many of the best are fine-tuned. (type: int, default: 2)" in text
        assert "`" not in text
        assert ":class:" not in text
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    assert "[--out OUT] runs [runs ...]" in " ".join(capsys.readouterr().out.split())


def test_settings_from_a_file_and_printed(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["prune", *QUICK, "--print_config"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "candidates: 3" in text
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit):
        main(["prune", "--config", str(file), "--print_config"])
    assert capsys.readouterr().out == text


def test_trace_shows_what_can_be_pruned_and_why_not_the_rest(capsys):
    assert main(["trace", "resnet20"]) == 0
    printed = capsys.readouterr().out
    assert "40,551,040" in printed
    assert "layer1.*.conv1 (3) -> layer1.*.conv2 (3)" in printed
    assert "It reaches the model's output" in printed
    assert "layer1.0.conv2:" not in printed
    assert main(["trace", "resnet20", "--all", "--pin", '["layer3.*"]']) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "layer1.0.conv2: layer1.0.conv1" in printed
    assert "Each was asked to stay whole (layer3.*)" in printed


TALKATIVE = """
import warnings
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        print("a forward that prints")
        return super().forward(x)

def build():
    print("a builder that prints")
    warnings.warn("and warns")
    return Net(nn.Conv2d(3, 4, 3), nn.LayerNorm(14), nn.Conv2d(4, 2, 3))
"""


def test_trace_writes_json_and_nothing_else(tmp_path):
    (tmp_path / "talkative.py").write_text(TALKATIVE)
    command = [sys.executable, "-m", "widthwise.cli", "trace", "talkative:build", "--shape", "3x16x16", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    data = json.loads(done.stdout)
    assert (data["model"], data["input_shape"]) == ("talkative:build", [1, 3, 16, 16])
    assert data["macs"] == 14 * 14 * 9 * 3 * 4 + 12 * 12 * 9 * 4 * 2
    assert [group["name"] for group in data["prunable"]] == ["0"]
    assert "reaches the model's output" in [reason["what"] for reason in data["pinned"]]
    for said in ("a builder that prints", "a forward that prints", "and warns"):
        assert said in done.stderr


def test_a_trace_on_images_of_another_shape_says_how_to_name_it(capsys, tmp_path, monkeypatch):
    (tmp_path / "grey.py").write_text("import torch\ndef build(): return torch.nn.Conv2d(1, 4, 3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["trace", "grey:build"]) == 2
    assert "say which: --shape 1x28x28" in " ".join(capsys.readouterr().err.split())
    assert main(["trace", "grey:build", "--shape", "1x28x28"]) == 0


@pytest.mark.parametrize("command", ["trace", "prune"])
@pytest.mark.parametrize(
    ("form", "patterns"),
    [("layer1.*", ["layer1.*"]), ("fc", ["fc"]), ("[layer1.*,layer2.0]", ["layer1.*", "layer2.0"])],
)
def test_layers_to_pin_are_named_alone_or_in_a_list(form, patterns, command, capsys, monkeypatch):
    asked = []

    def stop(*_, pin, unproved, **__):
        asked.extend([pin, unproved])
        raise ConfigError("far enough")

    monkeypatch.setattr("widthwise.commands.tracing.trace", stop)
    monkeypatch.setattr("widthwise.commands.pruning.Recipe", stop)
    model = ["resnet20"] if command == "trace" else ["--model", "digits_net"]
    assert main([command, *model, "--pin", form, "--unproved", form]) == 2
    assert "far enough" in capsys.readouterr().err
    assert [[p] if isinstance(p, str) else list(p) for p in asked] == [patterns, patterns]


def test_trace_says_on_standard_error_what_is_wrong_with_json_too(capsys):
    assert main(["trace", "resnet57", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "resnet56" in printed.err


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["prune", "--budget.macs", "0"], "InvalidBudget", "above zero"),
        (["prune", "--budget.macs", "1.5"], "InvalidBudget", "whole number"),
        (["prune", "--budget.macs", "0.00001"], "InfeasibleBudget", "smallest"),
        (["prune", "--no_budget"], "InvalidBudget", "searches under a budget"),
        (["prune", "--data", "nowhere"], "DataError", "nowhere"),
        (["prune", "--model", "resnet57"], "UnknownModel", "resnet56"),
        (["prune", "--model", "resnet20", "--weights", "missing.safetensors"], None, "missing.safetensors"),
        (["prune", "--fnnp.candidates", "0"], "ConfigError", "at least 1"),
        (["trace", "resnet20", "--shape", "3x"], "ConfigError", "3x224x224"),
        (["trace", "torchvision:resnet18", "--shape", "5x32x32"], "UntraceableModel", "must run on the example"),
        (["evaluate", "."], "CorruptRun", "result.json"),
        (["prune", "--device", "abacus"], "ConfigError", "torch finds here (cpu"),
        (["compare", "--device", "abacus"], "ConfigError", "torch finds here (cpu"),
    ],
)
def test_known_errors_exit_with_2_and_no_traceback(arguments, kind, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert words in " ".join(printed.err.split())
    if kind:
        assert printed.err.startswith(kind)


def test_a_folder_of_other_settings_is_left_alone(tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["prune", *QUICK, "--run", run]) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert main(["prune", *QUICK, "--run", run, "--fnnp.seed", "7"]) == 2
    assert "method.seed" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
