"""Ours, measured in the same way; ``compress`` also fine-tunes, with the same settings, so that is part of its call."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import widthwise  # user code
from benchmarks.peers.task import Job
from widthwise import Budget  # user code
from widthwise.data import ImageData
from widthwise.experiments.rows import baselines, seeded  # user code: baseline
from widthwise.methods import FNNP, METHODS, Baseline, Exploration, Method, Result, RunRecord

__all__ = ["compressed", "images_to_fit", "keeps_weights", "method_of"]


def method_of(job: Job) -> Method:
    """The method or baseline of that name in the settings, with the seed of the task in all that has one."""
    settings, name = job.task.settings, str(job.task.options["method"])
    if name in METHODS:
        method: Method = getattr(settings, name)
        if isinstance(method, FNNP) and job.task.options.get("balanced"):
            method = replace(method, sensitivity_images=FNNP().sensitivity_images)
        return seeded(method, job.task.seed)
    return seeded(baselines(settings.scratch)[name], job.task.seed)  # user code: baseline


def keeps_weights(method: Method) -> bool:
    """Whether what is fine-tuned are weights of the given network; others train one of their own, or start afresh."""
    return isinstance(method, FNNP | Exploration) or (isinstance(method, Baseline) and method.scratch is None)


def images_to_fit(job: Job) -> int:
    """Training images that the weights are fitted to before they are fine-tuned; 0 where they are not."""
    return job.task.settings.reconstruct if job.task.options.get("reconstruct") else 0


def compressed(job: Job, data: ImageData, method: Method) -> tuple[Result, RunRecord]:
    """The result and the record of its run, whose phases were timed."""
    folder, share, finetune = Path(job.task.folder), job.task.share, job.task.finetune
    model, compress = job.model, widthwise.compress
    if images := images_to_fit(job):
        compress = partial(compress, reconstruct=images)  # user code: reconstructed
    # user code
    result = compress(model, data, budget=Budget(macs=share), method=method, run=folder, finetune=finetune)
    # end of user code
    return result, RunRecord.read(folder)
