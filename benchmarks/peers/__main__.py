"""``python -m benchmarks.peers run``: every tool on the same network, data, budget and fine-tuning.

Goes on where it was cut; what was measured before is not measured again, and a refusal counts for all seeds. The page
``results.md`` is written anew after every network. ``page`` only writes it, for one or several runs; ``list`` prints
what ``--only`` takes. What is done is said in ``docs/peers.md``, what was predicted in ``docs/predictions.md``.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from jsonargparse import ArgumentParser
from rich.console import Console

from benchmarks.experiments import Records, Value
from benchmarks.peers.page import write
from benchmarks.peers.processes import interpreters, missing, run
from benchmarks.peers.settings import SETTINGS, PeerSettings, named
from benchmarks.peers.task import Task, full_network
from benchmarks.peers.variants import VARIANTS, Variant, chosen
from widthwise import load_data
from widthwise.data import ImageData
from widthwise.methods.compress import describe
from widthwise.runs import RunFolder

__all__ = ["identity_of", "main"]


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the command line says."""

    part: str
    settings: str
    model: str | None
    data: str
    weights: Path | None
    out: Path
    docs: Path
    only: tuple[str, ...]
    budgets: tuple[float, ...]
    seeds: tuple[int, ...]
    python: tuple[str, ...]
    runs: tuple[Path, ...]
    workers: int
    retry: bool

    @property
    def folders(self) -> list[Path]:
        """What the page shows."""
        own = [self.out] if self.part == "run" or not self.runs else []
        return list(dict.fromkeys([*self.runs, *own]))

    def chosen_settings(self) -> PeerSettings:
        """The named settings with what was said beside them."""
        found = named(self.settings, self.model)
        return replace(
            found,
            variants=self.only or found.variants,
            budgets=self.budgets or found.budgets,
            seeds=self.seeds or found.seeds,
        )


@dataclass(frozen=True)
class Step:
    """One network to measure."""

    key: str
    name: str
    variant: Variant
    share: float
    seed: int


def main(arguments: list[str] | None = None) -> Path:
    """Measure what is missing; returns the path of the page."""
    command, console = _parse(sys.argv[1:] if arguments is None else arguments), Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if command.part == "list":
        for name, variant in VARIANTS.items():
            say(f"{name:40} {variant.title}, {variant.lines} lines")
        return command.docs
    if command.part == "run":
        _run(command, say)
    path = write(command.folders, command.docs)
    say(f"written to {path}")
    return path


def _run(command: Command, say: Callable[[str], None]) -> None:
    settings, pythons = command.chosen_settings(), interpreters(list(command.python))
    steps = list(_plan(settings, chosen(settings.variants)))
    identity = identity_of(command.settings, settings, command.weights, load_data(command.data))
    with RunFolder.open(command.out, identity) as folder:
        records = Records(folder.journal, say)
        past = [(k, v) for k, v in records.results.items() if v["outcome"] == "done" or not command.retry]
        known = {key for key, _ in past}
        refused = {(v["variant"], v["budget"]) for _, v in past if v["outcome"] == "refused"}

        def measured(step: Step) -> Value | None:
            """None where there is nothing to do."""
            absent = missing(step.variant.tool, pythons[step.variant.tool])
            if absent:
                say(f"{step.key}: {absent}")
            if absent or step.key in known or (step.name, step.share) in refused:
                return None
            task = _task(command, settings, step)
            value = run(task, pythons[step.variant.tool], command.out / "logs" / f"{step.key}.txt", stop)
            if value["outcome"] == "refused":
                refused.add((step.name, step.share))
            facts = {"variant": step.name, "budget": step.share, "seed": step.seed, "settings": command.settings}
            return {**facts, **value}

        pool, stop = ThreadPoolExecutor(command.workers), Event()
        try:
            waiting = {pool.submit(measured, step): step for step in steps}
            for future in as_completed(waiting):
                value = future.result()
                if value is not None:
                    records.record(waiting[future].key, value, progress=f"{value['outcome']}: ")
                    write(command.folders, command.docs)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _plan(settings: PeerSettings, variants: dict[str, Variant]) -> Iterator[Step]:
    """A whole seed before the next."""
    if full := variants.pop("full", None):
        yield Step("full", "full", full, 1.0, 0)
    for seed in settings.seeds:
        for share in settings.budgets:
            for name, variant in variants.items():
                yield Step(f"{name.replace('/', '-')}-{share:g}-{seed}", name, variant, share, seed)


def _task(command: Command, settings: PeerSettings, step: Step) -> Task:
    return Task(
        tool=step.variant.tool,
        options=step.variant.options,
        lines=step.variant.lines,
        share=step.share,
        seed=step.seed,
        named=command.settings,
        model=settings.model,
        data=command.data,
        weights=None if command.weights is None else str(command.weights),
        folder=str(command.out / "runs" / step.key),
    )


def identity_of(name: str, settings: PeerSettings, weights: Path | None, data: ImageData) -> Value:
    """What every result hangs on: not where the files lie, but which weights and images they hold.

    Args:
        name: of the settings.
        settings: with what was said beside them.
        weights: file of the full network's; drawn afresh if not given.
        data: the images.
    """
    network = full_network(settings.model, None if weights is None else str(weights), data)
    described = describe(network, data)
    given = None if weights is None else described["model"]["weights"]
    return {**settings.identity(), "settings": name, "data": described["data"], "weights": given}


def _parse(arguments: list[str]) -> Command:
    parser = ArgumentParser(prog="python -m benchmarks.peers", description=str(__doc__))
    parser.add_argument("part", choices=["run", "page", "list"])
    parser.add_argument("--settings", default="cpu", choices=list(SETTINGS))
    parser.add_argument("--model", help="another network of the zoo than the settings'")
    parser.add_argument("--data", default="digits", help="anything that load_data takes by name")
    parser.add_argument("--weights", type=Path, help="of the full network; drawn afresh if not given")
    parser.add_argument("--out", type=Path, help="folder of journal, logs and runs; runs/peers_MODEL_SETTINGS")
    parser.add_argument("--docs", type=Path, help="folder of the page; --out if not given")
    parser.add_argument("--only", nargs="+", default=[], help="names, with wildcards, instead of the settings'")
    parser.add_argument("--budgets", nargs="+", type=float, default=[], help="instead of the settings'")
    parser.add_argument("--seeds", nargs="+", type=int, default=[], help="instead of the settings'")
    parser.add_argument("--python", nargs="+", default=[], help="interpreters: PATH for all tools, TOOL=PATH for one")
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="folders for the page, beside --out of `run`")
    parser.add_argument("--workers", type=int, default=1, help="processes at once; 1 for times that can be compared")
    parser.add_argument("--retry", type=bool, default=False, help="measure again what was refused or failed")
    found = vars(parser.parse_args(arguments))
    lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    out = found["out"] or Path("runs") / f"peers_{named(found['settings'], found['model']).model}_{found['settings']}"
    return Command(**{**found, **lists, "out": out, "docs": found["docs"] or out})


if __name__ == "__main__":
    main()
