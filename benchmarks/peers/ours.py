"""Ours, measured in the same way; ``compress`` also fine-tunes, with the same settings, so that is part of its call."""

from pathlib import Path

import widthwise  # user code
from benchmarks.peers.task import Job
from widthwise import FNNP, Baseline, Budget  # user code
from widthwise.data import ImageData
from widthwise.methods import Method, Result, RunRecord

__all__ = ["compressed"]


def _method(job: Job) -> Method:
    task = job.task
    if task.options["method"] == "l1":
        return Baseline(importance="l1")  # user code: l1
    count, images, precision = task.settings.candidates, task.settings.score_images, task.finetune.precision
    # user code: fnnp
    return FNNP(candidates=count, validation_images=images, finalists=1, precision=precision, seed=task.seed)
    # end of user code


def compressed(job: Job, data: ImageData) -> tuple[Result, RunRecord]:
    """The result and the record of its run, whose phases were timed."""
    folder, share, finetune = Path(job.task.folder), job.task.share, job.task.finetune
    model, method = job.model, _method(job)
    # user code
    result = widthwise.compress(model, data, budget=Budget(macs=share), method=method, run=folder, finetune=finetune)
    # end of user code
    return result, RunRecord.read(folder)
