"""``python -m benchmarks.peers.child TASK ANSWER PARENT``: one network from one tool in this process, JSON in and out.

An error of a peer while it prunes is an answer like any other (``refused``); one after that is a failure, and so is
one for want of memory.
"""

import importlib
import os
import platform
import re
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any

import torch
from torch import nn

from benchmarks.peers.ours import compressed, images_to_fit, keeps_weights, method_of
from benchmarks.peers.task import Job, Pruned, Task
from benchmarks.peers.variants import TOOLS
from widthwise import accuracy, load_data, materialize
from widthwise.data import ImageData, at_most
from widthwise.evaluate import reconstruct_weights
from widthwise.evaluate.devices import search_device
from widthwise.methods import Result
from widthwise.methods.compress import calibrate_on
from widthwise.methods.evaluators import calibration_batches
from widthwise.runs import read_json, write_json
from widthwise.train import fit

__all__ = ["main", "outcome_of", "peak_memory"]

_LONGEST = 300

_NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)
"""What torch says in a plain RuntimeError."""


def main(asked: str, answer: str, parent: str) -> None:
    """Do what one file says, and write what came of it into another, while the process that asked is there."""
    Thread(target=_leave_with, args=(int(parent),), daemon=True).start()
    task = Task.from_json(read_json(Path(asked)))
    torch.set_num_threads(task.settings.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(task.seed)
    data = load_data(task.data)
    facts = {"lines": task.lines, "versions": _versions(task.tool)}  # first: hours of work may follow
    value = {**facts, **_measured(task, data), "memory_mib": round(peak_memory() / 2**20)}
    write_json(Path(answer), value)


def _leave_with(parent: int) -> None:
    """Nobody waits for the answer once the parent is gone."""
    while True:
        try:
            os.kill(parent, 0)  # only looks whether it is there
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1.0)


def _measured(task: Task, data: ImageData) -> dict[str, Any]:
    job = Job.of(task, data)
    if task.tool == "none":
        return {**_size(job, job.model), **_figures(job.model, data), "outcome": "done"}
    value = _ours(job, data) if task.tool == "widthwise" else _theirs(job, data)
    if value["outcome"] == "done" and value["macs"] > job.limit:
        return {"outcome": "failed", "why": f"{value['macs']} multiply-adds are above the budget of {job.limit}"}
    return value


def _theirs(job: Job, data: ImageData) -> dict[str, Any]:
    prune = _tool(job.task.tool)
    start = perf_counter()
    try:
        pruned = prune(job)
    except Exception as error:
        traceback.print_exc()
        return {"outcome": outcome_of(error), "why": f"{type(error).__name__}: {_first_words(str(error))}"}
    seconds = perf_counter() - start
    return {**_finished(job, data, pruned), "search_seconds": seconds, "outcome": "done"}


def outcome_of(error: Exception) -> str:
    """What an error while a peer prunes comes to: ``refused``, or ``failed`` where it was for want of memory."""
    starved = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return "failed" if starved or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))) else "refused"


def _tool(tool: str) -> Callable[[Job], Pruned]:
    """One tool to a process: some patch torch when they are imported. Its import is not timed."""
    found: Callable[[Job], Pruned] = importlib.import_module(f"benchmarks.peers.{tool}_peer").prune
    return found


def _finished(job: Job, data: ImageData, pruned: Pruned) -> dict[str, Any]:
    """Figures before and after what every network gets, as ``compress`` does it."""
    small, search_memory = pruned.model, peak_memory()
    before = {"left": accuracy(small, data.val), **_size(job, small)}
    start = perf_counter()
    calibrate_on(data.train, job.task.seed, small)
    calibration = perf_counter() - start
    before["adapted"] = accuracy(small, data.val)
    start = perf_counter()
    fit(small, data.train, job.task.finetune, val=data.val)
    seconds = perf_counter() - start + calibration
    notes = {**pruned.notes, "search memory (MiB)": round(search_memory / 2**20)}
    return {**before, "finetune_seconds": seconds, **_figures(small, data), "notes": notes}


def _ours(job: Job, data: ImageData) -> dict[str, Any]:
    shutil.rmtree(job.task.folder, ignore_errors=True)  # a run that goes on has lost some of its time
    method = method_of(job)
    start = perf_counter()
    result, record = compressed(job, data, method)
    seconds, phases, memory = perf_counter() - start, record.seconds, peak_memory()
    return {
        **_size(job, result.model.to(search_device())),
        **(_before(job, data, result) if keeps_weights(method) else {"left": None, "adapted": None}),
        **_figures(result.model, data),
        "search_seconds": seconds - phases["finetune"] - phases["measure"],
        "finetune_seconds": phases["finetune"],
        "notes": {"memory of compress (MiB)": round(memory / 2**20)},
        "outcome": "done",
    }


def _before(job: Job, data: ImageData, result: Result) -> dict[str, float]:
    """Accuracies before fine-tuning, of the given network without the channels that went."""
    small = materialize(job.model, result.graph, result.subnet).to(search_device())
    left = accuracy(small, data.val)
    seed, images = job.task.seed, images_to_fit(job)
    if images:
        fitted_to = calibration_batches(at_most(data.train, images, seed))
        reconstruct_weights(job.model, small, result.graph, result.subnet, fitted_to)
    calibrate_on(data.train, seed, small)
    return {"left": left, "adapted": accuracy(small, data.val)}


def _size(job: Job, model: nn.Module) -> dict[str, int]:
    return {"macs": job.macs(model), "params": sum(parameter.numel() for parameter in model.parameters())}


def _figures(model: nn.Module, data: ImageData) -> dict[str, float | None]:
    """Looks at the test images: for final numbers only."""
    test = None if data.test is None else accuracy(model, data.test)
    return {"val": accuracy(model, data.val), "test": test}


def peak_memory() -> int:
    """Most resident memory of this process so far, in bytes; where the kernel tells it, without its parent's."""
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"), re.M) if status.exists() else None
    return 1024 * (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _versions(tool: str) -> dict[str, str]:
    packages = {name: version(name) for name in (*TOOLS[tool].packages, "torch")}
    return {**packages, "python": platform.python_version()}


def _first_words(text: str) -> str:
    words = " ".join(text.split()) or "no message"
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


if __name__ == "__main__":
    main(*sys.argv[1:])
