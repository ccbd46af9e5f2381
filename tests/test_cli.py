"""The command line: what it prints, what it saves, and how it fails."""

import pytest

from widthwise.cli import main

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


def test_trace_shows_layers_groups_and_reasons(capsys):
    assert main(["trace", "resnet20"]) == 0
    printed = capsys.readouterr().out
    assert "40,551,040 MACs" in printed
    assert "layer1.0.conv1" in printed
    assert "reaches the model's" in printed


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["prune", "--budget.macs", "0"], "InvalidBudget", "above zero"),
        (["prune", "--budget.macs", "1.5"], "InvalidBudget", "whole number"),
        (["prune", "--budget.macs", "0.00001"], "InfeasibleBudget", "smallest"),
        (["prune", "--data", "nowhere"], "DataError", "nowhere"),
        (["prune", "--model", "resnet57"], "UnknownModel", "resnet56"),
        (["prune", "--model", "resnet20", "--weights", "missing.safetensors"], None, "missing.safetensors"),
        (["prune", "--fnnp.candidates", "0"], "ConfigError", "at least 1"),
        (["trace", "resnet20", "--shape", "3x"], "ConfigError", "3x224x224"),
        (["trace", "torchvision:resnet18", "--shape", "5x32x32"], "UntraceableModel", "must run on the example"),
        (["evaluate", "."], "CorruptRun", "subnet.json"),
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
