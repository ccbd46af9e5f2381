"""Methods side by side: every run as compress makes it, read again where it is there, and the table's arithmetic."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from torch import nn

import widthwise
from widthwise.cli import main
from widthwise.errors import ConfigError, InfeasibleBudget, RunMismatch
from widthwise.experiments import Comparison, Spread, baselines, compare, every_method
from widthwise.experiments.comparison import _exceptions
from widthwise.experiments.comparison import compared as compared_runs
from widthwise.experiments.rows import seeded
from widthwise.methods import FNNP, Baseline, Joint, RunRecord, Stagewise
from widthwise.methods.compress import plain
from widthwise.search import uniform_widths
from widthwise.subnet import WidthSpace
from widthwise.train import TrainConfig

BRIEF = TrainConfig(epochs=1, batch_size=128, lr=0.05)
L1 = Baseline(widths="uniform", importance="l1")


def net() -> nn.Module:
    torch.manual_seed(0)
    return widthwise.build_model("digits_net")


def compared(
    run: Path, names: tuple[str, ...] = ("fnnp", "l1", "uniform"), seeds: tuple[int, ...] = (3, 4)
) -> Comparison:
    methods = {"fnnp": FNNP(candidates=3, finalists=1)} | baselines(BRIEF)
    return compare(
        net(),
        "digits",
        budget=widthwise.Budget(macs=0.5),
        run=run,
        methods={name: methods[name] for name in names},
        seeds=seeds,
        finetune=BRIEF,
        train=TrainConfig(epochs=2, lr=0.1),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("compare")
    compared(run)
    return run


def test_every_row_can_be_recomputed_from_its_runs(folder: Path) -> None:
    found = compared(folder)
    assert [(arm.name, len(arm.runs)) for arm in found.arms] == [("fnnp", 2), ("uniform", 2), ("l1", 2)]
    rows = {row["method, mean" if "method, mean" in row else "method"]: row for row in table_of(folder)}
    for arm in found.arms:
        results = [run.result for run in arm.runs]
        test = [100 * r["after"]["test_accuracy"] for r in results if r]
        assert float(rows[arm.name]["accuracy (%), mean"]) == pytest.approx(fmean(test))
        assert float(rows[arm.name]["accuracy (%), std"]) == pytest.approx(stdev(test))
        assert found.full_accuracy is not None
        assert float(rows[arm.name]["drop (points), mean"]) == pytest.approx(100 * found.full_accuracy - fmean(test))
        assert 50 <= float(rows[arm.name]["MACs dropped (%), mean"]) < 51
        times = [run.seconds["search"] + run.seconds["finetune"] for run in arm.runs]
        assert float(rows[arm.name]["total (s), mean"]) == pytest.approx(fmean(times))


def table_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "comparison.csv").read_text())))


def test_runs_that_are_there_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FNNP, "search", lambda self, task: pytest.fail("searched again"))
    monkeypatch.setattr(Baseline, "search", lambda self, task: pytest.fail("searched again"))
    before = (folder / "comparison.json").read_bytes()
    environments = (folder / "l1" / "seed-3" / "environment.json").read_bytes()
    compared(folder)
    assert (folder / "comparison.json").read_bytes() == before
    assert (folder / "l1" / "seed-3" / "environment.json").read_bytes() == environments  # says who made it


def test_methods_and_seeds_may_be_added(folder: Path) -> None:
    found = compared(folder, names=("fnnp", "random"), seeds=(3,))
    expected = [("fnnp", 2), ("uniform", 2), ("l1", 2), ("random", 1)]  # what was there before is in the table, too
    assert [(arm.name, len(arm.runs)) for arm in found.arms] == expected
    assert [row["method"] for row in table_of(folder)] == [name for name, _ in expected]


def test_another_network_does_not_get_the_trained_weights_of_the_first(folder: Path) -> None:
    torch.manual_seed(1)
    with pytest.raises(RunMismatch, match=r"model\.weights"):
        compare(
            widthwise.build_model("digits_net"),
            "digits",
            budget=widthwise.Budget(macs=0.5),
            run=folder,
            methods={"l1": L1},
            seeds=(3,),
            finetune=BRIEF,
            train=TrainConfig(epochs=2, lr=0.1),
        )


def test_other_images_are_another_run(tmp_path: Path) -> None:
    """Also where the labels are the same."""
    for options, message in (({"flip": True}, r"data\.train"), ({"mean": (0.5,), "std": (0.1,)}, r"data\.val")):
        run = tmp_path / next(iter(options))
        for changed in (False, True):
            images = widthwise.load_data("digits", **(options if changed else {}))
            arguments = {"budget": widthwise.Budget(macs=0.5), "methods": {"l1": L1}, "seeds": (0,), "run": run}
            if not changed:
                compare(net(), images, finetune=TrainConfig(epochs=0), **arguments)
                continue
            with pytest.raises(RunMismatch, match=message):
                compare(net(), images, finetune=TrainConfig(epochs=0), **arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"finetune": replace(BRIEF, lr=0.07)}, r"finetune\.lr"),
        ({"budget": widthwise.Budget(macs=0.3)}, r"budget\.macs"),
        ({"methods": {"l1": replace(L1, importance="l2")}}, r"method\.importance"),
        ({"methods": {"mine": L1}, "space": WidthSpace(multiple_of=4)}, r"space\.multiple_of"),
        ({"reconstruct": 64}, "reconstruct"),
        ({"pin": "*"}, "graph"),
    ],
)
@pytest.mark.parametrize("seed", [3, 9])
def test_another_setting_is_refused_in_the_same_folder(
    folder: Path, changed: dict[str, Any], message: str, seed: int
) -> None:
    """With a seed that is there and with a new one, which would be averaged with those there."""
    settings = {"budget": widthwise.Budget(macs=0.5), "methods": {"l1": L1}, "finetune": BRIEF}
    train = TrainConfig(epochs=2, lr=0.1)
    with pytest.raises(RunMismatch, match=message):
        compare(net(), "digits", run=folder, seeds=(seed,), train=train, **{**settings, **changed})
    assert not (folder / "l1" / "seed-9").exists()


def test_baselines_keep_the_same_share_of_every_layer(folder: Path) -> None:
    model = net()
    graph = widthwise.trace(model, torch.zeros(1, 1, 8, 8))
    limits = widthwise.Budget(macs=0.5).on(widthwise.CostModel(graph), WidthSpace().of(graph))
    wanted = uniform_widths(WidthSpace().of(graph), limits).tolist()
    for name in ("l1", "uniform"):
        result = RunRecord.read(folder / name / "seed-3").result
        assert result is not None
        assert [group["kept"] for group in result["groups"]] == wanted


def test_the_full_network_is_trained_once(folder: Path) -> None:
    assert (folder / "full" / "checkpoints" / "full.pt").exists()
    befores = [RunRecord.read(folder / name / "seed-3").result for name in ("fnnp", "l1")]
    assert befores[0] is not None
    assert befores[1] is not None
    assert befores[0]["before"]["test_accuracy"] == befores[1]["before"]["test_accuracy"]
    assert "train" not in RunRecord.read(folder / "fnnp" / "seed-3").seconds


def test_seeds_reach_every_setting() -> None:
    method = seeded(Stagewise(), 7)
    assert (method.seed, method.supernet.seed, method.division.seed) == (7, 7, 7)
    assert seeded(Joint(), 5).rounds.network.seed == 5
    assert seeded(FNNP(), 0) == FNNP()


def test_the_table_says_who_does_not_train_as_the_others_do(folder: Path) -> None:
    title = compared(folder).table().title
    assert "uniform is trained from fresh weights." in title
    assert "fnnp is" not in title
    said = {name: list(_exceptions({"method": plain(method)})) for name, method in every_method(BRIEF).items()}
    assert {name for name, notes in said.items() if notes} == {"joint", "stagewise", "uniform"}
    same = Joint(coarse_images="train", finetune_images="train"), Stagewise(weights="inherited")
    assert not any(list(_exceptions({"method": plain(method)})) for method in same)


def test_weights_are_reconstructed_where_they_are_inherited(tmp_path: Path) -> None:
    methods = {name: baselines(replace(BRIEF, epochs=0))[name] for name in ("uniform", "l1")}
    settings = {"budget": widthwise.Budget(macs=0.5), "seeds": (0,), "finetune": replace(BRIEF, epochs=0)}
    found = compare(net(), "digits", run=tmp_path, methods=methods, reconstruct=64, **settings)
    assert {arm.name: arm.runs[0].config["reconstruct"] for arm in found.arms} == {"uniform": 0, "l1": 64}
    assert "l1 has reconstructed weights." in found.table().title


def test_without_methods_there_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs methods and seeds"):
        compare(net(), "digits", budget=widthwise.Budget(macs=0.5), run=tmp_path, methods={})
    for name in ("l1 1/2", "..", "", "full", "comparison.txt"):
        with pytest.raises(ConfigError, match="without slashes"):
            compare(net(), "digits", budget=widthwise.Budget(macs=0.5), run=tmp_path, methods={name: L1})


def test_an_untrained_network_has_no_accuracy_to_drop_from(tmp_path: Path) -> None:
    budget, methods = widthwise.Budget(macs=0.5), {"uniform": baselines(BRIEF)["uniform"]}
    found = compare(net(), "digits", budget=budget, run=tmp_path, methods=methods, seeds=(0,), finetune=BRIEF)
    assert found.full_accuracy is None
    assert compared_runs(tmp_path, full_seconds=1.0).full_accuracy is not None, "it was trained"
    assert dict(zip(found.table().columns, found.table().rows[0], strict=True))["drop (points)"] == Spread(())


def test_there_is_no_drop_where_nobody_looked_at_the_given_network(folder: Path) -> None:
    """Methods that train a network of their own say nothing of the given one."""
    table = replace(compared(folder), full_accuracy=None).table()
    assert {row[table.columns.index("drop (points)")] for row in table.rows} == {Spread(())}


def test_what_is_no_finished_run_is_passed_over(folder: Path) -> None:
    finished = [(arm.name, len(arm.runs)) for arm in compared(folder).arms]
    copies, cut = [folder / "l1" / name for name in ("seed-3-old", "seed-03")], folder / "random" / "seed-8"
    for copy in copies:
        shutil.copytree(folder / "l1" / "seed-3", copy)
    cut.mkdir(parents=True)
    (cut / "journal.jsonl").touch()  # killed before it wrote its settings
    try:
        assert [(arm.name, len(arm.runs)) for arm in compared(folder).arms] == finished
    finally:
        for folder in (*copies, cut):
            shutil.rmtree(folder)


def test_tables_of_somebody_else_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "comparison.md").write_text("mine")
    with pytest.raises(RunMismatch, match=r"comparison\.md.*somebody else's"):
        compared(tmp_path, ("l1",), (3,))
    assert (tmp_path / "comparison.md").read_text() == "mine"


def test_a_budget_that_no_network_meets_is_refused_before_any_training(tmp_path: Path) -> None:
    budgets = {"budget": widthwise.Budget(macs=1e-4), "methods": {"l1": L1}, "train": TrainConfig(epochs=1)}
    with pytest.raises(InfeasibleBudget):
        compare(net(), "digits", run=tmp_path / "run", **budgets)
    for wrong in ({"seeds": (0, -1)}, {"reconstruct": 1}):
        with pytest.raises(ConfigError):
            compare(net(), "digits", run=tmp_path / "run", **(budgets | wrong))
    assert not (tmp_path / "run").exists()


def test_a_network_that_computes_something_else_is_another_one(tmp_path: Path) -> None:
    """With the same weights."""
    settings = {"budget": widthwise.Budget(macs=0.5), "methods": {"l1": L1}, "seeds": (0,), "run": tmp_path}
    compare(net(), "digits", finetune=TrainConfig(epochs=0), **settings)
    other = net()
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1.0
    with pytest.raises(RunMismatch, match=r"model\.modules"):
        compare(other, "digits", finetune=TrainConfig(epochs=0), **settings)


def test_all_methods_are_compared_by_default() -> None:
    names = list(every_method(BRIEF))
    assert names[:4] == ["fnnp", "stagewise", "joint", "exploration"]
    assert names[4:] == ["uniform", "l1", "shared", "balanced", "geometric_median", "bn_scale", "random"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "--methods", "[l1,random]", "--seeds", "[0]", "--run", str(tmp_path / "run")]
    command += ["--train.epochs", "1", "--finetune.epochs", "1", "--budget.macs", "0.4"]
    assert main([*command, "--show", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["method"] for row in rows] == ["l1", "random"]
    assert main(command) == 0
    assert "random" in capsys.readouterr().out
    assert main([*command, "--methods", "[uniform]", "--scratch.epochs", "0"]) == 0, "any row may be added"
    assert main([*command, "--methods", "[l1,magic]"]) == 2
    assert "magic" in capsys.readouterr().err
