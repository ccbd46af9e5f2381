"""Every tool of the comparison in a process of its own, with tiny sizes; what decides a run."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from benchmarks.measure import count_macs
from benchmarks.peers.__main__ import identity_of, main
from benchmarks.peers.child import outcome_of
from benchmarks.peers.ours import keeps_weights, method_of
from benchmarks.peers.processes import interpreters, run
from benchmarks.peers.settings import SETTINGS, cpu, tiny
from benchmarks.peers.task import Job, Task
from benchmarks.peers.variants import TOOLS, VARIANTS, chosen
from made_rows import OURS
from safetensors.torch import save_file
from torch import Tensor, nn

from widthwise import build_model, load_data
from widthwise.errors import ConfigError, RunMismatch
from widthwise.methods import METHODS
from widthwise.runs import RunFolder, read_events, read_json

TASK = Task(
    **{"tool": "none", "options": {}, "lines": 0, "share": 0.5, "seed": 1, "named": "tiny", "model": "digits_net"},
    **{"data": "digits", "weights": None, "folder": "somewhere"},
)


def test_a_task_comes_back_from_json() -> None:
    for name in SETTINGS:
        task = replace(TASK, named=name, model="resnet32", options={"divisor": 8})
        back = Task.from_json(json.loads(json.dumps(task.to_json())))
        assert back == task
        assert back.settings == replace(SETTINGS[name](), model="resnet32")


def test_interpreters_are_named_for_all_tools_or_for_one(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch()
    assert set(interpreters([str(python)]).values()) == {str(python)}
    one = interpreters([f"fastnas={python}"])
    assert one["fastnas"] == str(python)
    assert one["torch_pruning"] != str(python)
    for wrong in (str(tmp_path / "absent"), f"unknown={python}"):
        with pytest.raises(ConfigError, match="--python"):
            interpreters([wrong])


def test_a_process_that_dies_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho out of luck\nexit 3\n", encoding="utf-8")
    python.chmod(0o755)
    value = run(TASK, str(python), tmp_path / "logs" / "x.txt", Event())
    assert value["outcome"] == "failed"
    assert value["why"] == "died (exit code 3): out of luck"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MemoryError(), "failed"),
        (torch.OutOfMemoryError("CUDA out of memory"), "failed"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), "failed"),
        (RuntimeError("no pruning ratio up to 1.0 meets the budget"), "refused"),
        (ValueError("NOT all constraints can be satisfied"), "refused"),
    ],
)
def test_too_little_memory_is_no_refusal(error: Exception, outcome: str) -> None:
    assert outcome_of(error) == outcome


def test_ours_are_those_of_the_settings_with_the_seed_of_the_task() -> None:
    data = load_data("digits")
    kept = {}
    for name in OURS:
        method = method_of(Job.of(replace(TASK, seed=7, options={"method": name}), data))
        kept[name] = keeps_weights(method)
        assert method.seed == 7  # type: ignore[attr-defined]
        if name in METHODS:
            assert type(method) is METHODS[name]
    assert method.importance == "random"  # type: ignore[attr-defined]
    starts = [method_of(Job.of(replace(TASK, options={"method": "fnnp", **o}), data)) for o in ({}, {"balanced": True})]
    assert [start.sensitivity_images for start in starts] == [0, 1000]  # type: ignore[attr-defined]
    assert {name for name, keeps in kept.items() if not keeps} == {"stagewise", "joint", "uniform"}


def test_the_default_leaves_out_near_duplicates_only() -> None:
    of = chosen(cpu().variants)
    assert {f"widthwise/{name}" for name in OURS} < set(of)
    assert len([name for name in of if name.startswith("torch_pruning/")]) == 7
    assert [name for name in of if name.startswith("fastnas/")] == ["fastnas/8", "fastnas/4"]
    assert len(of) < len(VARIANTS)
    assert cpu().finetune.epochs == 1


def test_no_network_of_joint_learns_from_more_images_than_the_others() -> None:
    for make in SETTINGS.values():
        assert (make().joint.coarse_images, make().joint.finetune_images) == ("train", "train")
    with pytest.raises(ConfigError, match="finetune_images='all'"):
        replace(cpu(), joint=replace(cpu().joint, finetune_images="all"))


def test_unknown_names_and_settings_are_refused() -> None:
    assert set(chosen(("fastnas/*",))) == {"fastnas/32", "fastnas/16", "fastnas/8", "fastnas/4"}
    with pytest.raises(ConfigError, match="--only"):
        chosen(("torch_pruning/l3/*",))
    with pytest.raises(ConfigError, match="budgets"):
        replace(cpu(), budgets=(1.5,))
    assert {variant.tool for variant in VARIANTS.values()} == set(TOOLS)


def _run(folder: Path, *only: str, seeds: tuple[str, ...] = ("0",)) -> dict[str, dict[str, Any]]:
    arguments = ["run", "--settings", "tiny", "--out", str(folder / "run"), "--docs", str(folder / "docs")]
    main([*arguments, "--only", *only, "--seeds", *seeds])
    return {e["key"]: e["value"] for e in read_events(folder / "run" / "journal.jsonl") if e["event"] == "result"}


def test_ours_is_measured_like_a_peer_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    found = _run(tmp_path, "full", "widthwise/l1", "widthwise/l1/reconstructed", "widthwise/uniform")
    full, small, uniform = (found[key] for key in ("full", "widthwise-l1-0.5-0", "widthwise-uniform-0.5-0"))
    for value in (small, uniform):
        assert 0.9 * full["macs"] / 2 < value["macs"] <= full["macs"] / 2
        assert value["params"] < full["params"]
        assert min(value["search_seconds"], value["finetune_seconds"], value["memory_mib"]) > 0
    assert small["lines"] == VARIANTS["widthwise/l1"].lines
    fitted = found["widthwise-l1-reconstructed-0.5-0"]
    assert fitted["lines"] == small["lines"] + 1
    assert fitted["macs"] == small["macs"]
    assert fitted["left"] == small["left"]
    for key, images in (("widthwise-l1-0.5-0", 0), ("widthwise-l1-reconstructed-0.5-0", tiny().reconstruct)):
        assert read_json(tmp_path / "run" / "runs" / key / "config.json")["reconstruct"] == images
    assert 0 < small["left"] <= 1
    assert uniform["left"] is uniform["adapted"] is None, "its weights were drawn afresh"
    before = (tmp_path / "run" / "journal.jsonl").read_bytes()
    _run(tmp_path, "full", "widthwise/l1", "widthwise/uniform")
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before


@pytest.mark.slow
def test_every_method_of_ours_meets_the_budget(tmp_path: Path) -> None:
    names = [f"widthwise/{name}" for name in METHODS]
    found = _run(tmp_path, "full", *names)
    limit = found.pop("full")["macs"] / 2
    assert {value["variant"] for value in found.values()} == set(names)
    for value in found.values():
        assert value["outcome"] == "done", value
        assert 0.8 * limit < value["macs"] <= limit
        assert (value["left"] is None) == (value["variant"] in ("widthwise/stagewise", "widthwise/joint"))
    page = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"| **{VARIANTS[name].title}** | method | 1 |" in page for name in names)


def test_a_journal_belongs_to_its_images_and_weights(tmp_path: Path) -> None:
    """Where nothing is measured: another journal is refused before the first network."""
    digits, other_split, other_pixels = (
        load_data("digits", **options) for options in ({}, {"seed": 1}, {"mean": (0.1,), "std": (0.4,)})
    )
    found = identity_of("tiny", tiny(), None, digits)
    assert found == identity_of("tiny", tiny(), None, load_data("digits"))
    assert found["weights"] is None
    assert found["data"]["shape"] == [1, 8, 8]
    assert identity_of("tiny", tiny(), None, other_split)["data"]["train"] != found["data"]["train"]
    shifted = identity_of("tiny", tiny(), None, other_pixels)["data"]
    assert [shifted[part][0] for part in ("train", "val")] == [found["data"][part][0] for part in ("train", "val")]
    assert all(shifted[part][1] != found["data"][part][1] for part in ("train", "val", "test"))
    RunFolder.open(tmp_path / "run", identity_of("tiny", tiny(), None, other_split)).close()
    with pytest.raises(RunMismatch, match=r"data\.train"):
        _run(tmp_path, "full")
    weights = tmp_path / "weights.safetensors"
    save_file(build_model("digits_net").state_dict(), weights)
    with_weights = identity_of("tiny", tiny(), weights, digits)
    assert with_weights["data"] == found["data"]
    assert with_weights["weights"] is not None


@pytest.mark.peers
def test_torch_pruning_meets_the_budget(tmp_path: Path) -> None:
    names = ("torch_pruning/group_norm/local", "torch_pruning/taylor/global", "torch_pruning/l1/isomorphic/convolved")
    found = _run(tmp_path, *names)
    limit = count_macs(build_model("digits_net"), torch.zeros(1, 1, 8, 8)) / 2
    assert len(found) == len(names)
    for key, value in found.items():
        assert value["outcome"] == "done", (key, value)
        assert 0.8 * limit < value["macs"] <= limit, (key, value)
        assert value["versions"]["torch-pruning"]


@pytest.mark.peers
def test_fastnas_meets_the_budget_or_refuses_it_for_all_seeds(tmp_path: Path) -> None:
    found = _run(tmp_path, "fastnas/32", "fastnas/8", seeds=("0", "1"))
    assert set(found) == {"fastnas-32-0.5-0", "fastnas-8-0.5-0", "fastnas-8-0.5-1"}
    refused = found.pop("fastnas-32-0.5-0")
    assert refused["outcome"] == "refused"
    assert "NOT all constraints can be satisfied" in refused["why"]
    for value in found.values():
        assert value["outcome"] == "done", value
        assert value["macs"] <= value["notes"]["their full count"] / 4
        assert value["macs"] == pytest.approx(value["notes"]["their count"] / 2, rel=0.01)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_shortcuts_as_convolutions_compute_the_same() -> None:
    from benchmarks.peers.torch_pruning_peer import convolve_shortcuts

    model = build_model("resnet20").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        convolve_shortcuts(model)
        torch.testing.assert_close(model(images), before)
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 19 + 2


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("convolved", "right"), [(False, False), (True, True)])
def test_what_the_page_says_of_zero_padded_shortcuts(convolved: bool, right: bool) -> None:
    """Torch-Pruning's network beside the full one with the removed channels set to zero."""
    import torch_pruning as tp
    from benchmarks.peers.torch_pruning_peer import convolve_shortcuts

    def masking(module: nn.Module, channels: list[int]) -> None:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            masked = output.clone()
            masked[:, channels] = 0
            return masked

        module.register_forward_hook(hook)

    model, masked = build_model("resnet20").eval(), build_model("resnet20").eval()
    masked.load_state_dict(model.state_dict())
    if convolved:
        convolve_shortcuts(model)
    images = torch.randn(2, 3, 32, 32)
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=images)
    group = graph.get_pruning_group(model.conv1, tp.prune_conv_out_channels, idxs=[5])
    names = {module: name for name, module in model.named_modules()}
    removed = {names[d.target.module]: idxs for d, idxs in group if d.handler == tp.prune_conv_out_channels}
    masking(masked.bn1, removed["conv1"])
    for name, block in masked.named_modules():
        if f"{name}.conv2" in removed:
            masking(block, removed[f"{name}.conv2"])
    group.prune()
    with torch.no_grad():
        assert torch.allclose(model(images), masked(images), atol=1e-4) == right
