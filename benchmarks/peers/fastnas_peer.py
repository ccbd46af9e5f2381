"""NVIDIA ModelOpt's FastNAS, as its guide and its notebook for ResNet-20 on CIFAR-10 use it.

The limit is given as a number: its FLOPs are twice the multiply-adds, and it counts pooling too, so a network that
meets it meets ours. Widths are multiples of a divisor, 32 by default; the notebook lowers it for this network, and what
it must be for a budget is found by trying (an impossible budget is refused before the search).
"""

import modelopt.torch.prune as mtp  # user code
from modelopt.torch.nas.utils import inference_flops
from torch import nn

from benchmarks.peers.task import Job, Pruned
from widthwise import accuracy

__all__ = ["BATCHES", "prune"]

BATCHES = 50
"""What FastNAS re-estimates statistics on; with fewer it warns and does not."""


def prune(job: Job) -> Pruned:
    """Its best network under the budget."""
    settings, precision = job.task.settings, job.task.finetune.precision
    loader = job.train.batches(settings.calibration_batch, device=job.example.device, seed=job.task.seed)
    if len(loader) < BATCHES:
        raise RuntimeError(f"FastNAS needs {BATCHES} batches of training images, but there are {len(loader)}")
    divisor = int(job.task.options["divisor"])
    flops = float(inference_flops(job.model, job.example, unit=1.0))
    evaluations = 0

    def score(model: nn.Module) -> float:  # user code
        nonlocal evaluations
        evaluations += 1
        model.eval()  # FastNAS re-estimates statistics here  # user code
        return 100 * accuracy(model, job.score, precision=precision)  # user code

    # user code
    config = mtp.fastnas.FastNASConfig()
    config["nn.Conv2d"]["*"]["channel_divisor"] = divisor
    config["nn.BatchNorm2d"]["*"]["feature_divisor"] = divisor
    small, _ = mtp.prune(
        job.model,
        mode=[("fastnas", config)],
        constraints={"flops": 2.0 * job.limit},
        dummy_input=job.example,
        config={"data_loader": loader, "score_func": score},
    )
    # end of user code
    left = float(inference_flops(small, job.example, unit=1.0))
    notes = {"divisor": divisor, "evaluations": evaluations, "their count": left, "their full count": flops}
    return Pruned(small.eval(), notes)
