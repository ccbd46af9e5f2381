"""Training a super-net stage by stage with in-place distillation (stage-wise pruning, Algorithm 1)."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise.channels import Subnet
from widthwise.digest import digest, named
from widthwise.errors import ConfigError
from widthwise.stages import Stages
from widthwise.subnet import SuperNet
from widthwise.supernet.adapters import Adapters
from widthwise.supernet.sampling import Sampler
from widthwise.train.objective import Outcome, Step

__all__ = ["StagewiseObjective", "Teacher", "feature_loss", "head_loss"]


def feature_loss(found: Tensor, target: Tensor) -> Tensor:
    """The distillation loss of a stage, equation 7, as the mean over images, positions and channels.

    The paper divides the squared norm by the channels only; the mean over positions and images as well keeps stages of
    different resolution, and batches of different size, on one scale.
    """
    wide = torch.promote_types(found.dtype, torch.float32)
    return F.mse_loss(found.to(wide), target.to(wide))


def head_loss(found: Tensor, target: Tensor) -> Tensor:
    """The distillation loss of a last stage that returns class scores: the KL divergence of their softmax, in nats.

    The paper has no such stage (its networks have no channels to prune behind the last feature map). Equation 7 does
    not suit it: scores are not bounded, and in place they ran away from one another.
    """
    wide = torch.promote_types(found.dtype, torch.float32)
    mine, theirs = (scores.to(wide).log_softmax(-1).flatten(0, -2) for scores in (found, target))
    return F.kl_div(mine, theirs, reduction="batchmean", log_target=True)


class Teacher:
    """Another network whose stages are the targets (the paper's S1: pre-trained; S2: another architecture).

    Args:
        model: the network; stays as it is, in evaluation mode.
        stages: its stages; for each of the student's there is one of the same resolution, in the same order. Others are
            passed over: one more resolution at the front, or a head where the student's has nothing to prune.
        student: the super-net's stages. A head of it learns the teacher's class scores.

    Raises:
        ConfigError: a stage of the student has no counterpart.
    """

    def __init__(self, model: nn.Module, stages: Stages, student: Stages) -> None:
        found = _counterparts(stages, student)
        if found is None:
            raise ConfigError(
                "Each stage of the student learns from one of the teacher's with the same resolution, in the same "
                f"order, but the teacher has {_text(stages)} and the student {_text(student)}. Name stages that "
                "correspond."
            )
        self.model = model.requires_grad_(False)
        self.model.eval()
        self.stages = stages
        self._found = found
        self.channels = [0 if index is None else stages.stages[index].channels for index in found]

    @property
    def fingerprint(self) -> str:
        """A short digest of its weights and buffers, and of the stages that are looked at."""
        stages = json.dumps([type(self.model).__name__, self.stages.names, self._found])
        return digest(stages.encode(), *named(self.model.state_dict()))

    @torch.no_grad()
    def targets(self, images: Tensor) -> list[Tensor]:
        """What each stage of the student should return."""
        self.model.eval()
        with self.stages.features(self.model) as found:
            outputs: Tensor = self.model(images)
        return [outputs if index is None else found[index] for index in self._found]


def _counterparts(teacher: Stages, student: Stages) -> list[int | None] | None:
    """For each stage of the student the teacher's, None for its outputs; nothing at all if one has none."""
    found: list[int | None] = []
    first = 0
    for stage in student.stages:
        if stage.leaves is None:
            found.append(None)
            continue
        alike = (i for i, other in enumerate(teacher.stages) if i >= first and other.resolution == stage.resolution)
        index = next((i for i in alike if teacher.stages[i].leaves is not None), None)
        if index is None:
            return None
        found.append(index)
        first = index + 1
    return found


def _text(stages: Stages) -> str:
    return ", ".join(f"{s.name} {'x'.join(map(str, s.resolution)) or '(outputs)'}" for s in stages.stages)


class StagewiseObjective:
    """Algorithm 1 as an :class:`~widthwise.train.Objective`.

    A step: the full network on the labels, its stages' features kept; then a random and the smallest sub-network, each
    stage fed with the full network's features and taught its result through the stage's adapter. Gradients of all
    passes add up in the one set of parameters.

    Args:
        network: the super-net.
        stages: of the super-net.
        sampler: draws the sub-networks.
        smallest: also train the smallest sub-network (the small-net of the sandwich rule).
        teacher: whose features are the targets; the full network's own of the same step if not given.
        label_smoothing: of the full network's cross-entropy.
        side_by_side: on CUDA, run each stage in a stream of its own.
        seed: of adapters to a teacher with other numbers of channels.
    """

    one_pass = False

    def __init__(
        self,
        network: SuperNet,
        stages: Stages,
        sampler: Sampler,
        *,
        smallest: bool = True,
        teacher: Teacher | None = None,
        label_smoothing: float = 0.0,
        side_by_side: bool = True,
        seed: int = 0,
    ) -> None:
        self.network, self.stages, self.sampler = network, stages, sampler
        self.own = Adapters(stages, None if teacher is None else teacher.channels, seed=seed)
        self._smallest, self._teacher = smallest, teacher
        self._smoothing, self._side_by_side = label_smoothing, side_by_side

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """The teacher, if there is one."""
        return () if self._teacher is None else (self._teacher.model,)

    def describe(self) -> dict[str, Any]:
        """What decides the outcome beside the training's settings."""
        return {
            "objective": "stagewise",
            "stages": list(self.stages.names),
            "smallest": self._smallest,
            "subnets": self.sampler.fingerprint,
            "teacher": "none" if self._teacher is None else self._teacher.fingerprint,
        }

    def step(self, step: Step) -> Outcome:
        """One step of Algorithm 1; ``parts`` holds the task loss and the loss of each stage."""
        with self.stages.features(step.model) as found:
            logits = step.forward(step.images)
        task = F.cross_entropy(logits, step.labels, label_smoothing=self._smoothing)
        step.backward(task)
        features = [step.images, *found, logits.detach()]
        losses = self.distil(features, step.images, step.seed, step.backward, step.autocast)
        parts = {"task": task.detach(), **dict(zip(self.stages.names, losses, strict=True))}
        return Outcome(logits=logits.detach(), loss=torch.stack(list(parts.values())).sum(), parts=parts)

    def distil(
        self,
        features: list[Tensor],
        images: Tensor,
        seed: int,
        backward: Callable[[Tensor], None],
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> list[Tensor]:
        """Gradients of all stages of all sub-networks of a step; returns the sum of losses of each stage, detached.

        Args:
            features: images, what each stage of the full network returned, and its outputs; detached.
            images: of the batch, for a teacher.
            seed: of the random sub-network.
            backward: accumulates gradients.
            autocast: the mixed precision.
        """
        targets = self.targets(features, images)
        subnets = self.subnets(seed)
        sums = []
        for index in range(len(self.stages)):
            with self._beside(features[index]):
                parts = []
                for subnet in subnets:
                    with autocast():
                        found = self.stage(index, features[index], subnet)
                    loss = self.loss(index, found, targets[index])
                    backward(loss)
                    parts.append(loss.detach())
                sums.append(torch.stack(parts).sum())
        if features[0].device.type == "cuda":
            torch.cuda.synchronize(features[0].device)
        return sums

    def subnets(self, seed: int) -> list[Subnet]:
        """The sub-networks of one step: a random one, and the smallest."""
        return [self.sampler.layerwise(seed), *([self.sampler.smallest] if self._smallest else [])]

    def targets(self, features: list[Tensor], images: Tensor) -> list[Tensor]:
        """What each stage is compared with.

        Args:
            features: images, what each stage of the full network returned, and its outputs.
            images: for a teacher.
        """
        own = features[1 : len(self.stages) + 1]
        return own if self._teacher is None else self._teacher.targets(images)

    def stage(self, index: int, features: Tensor, subnet: Subnet) -> Tensor:
        """What one stage of a sub-network returns, with the target's number of channels.

        Args:
            index: of the stage.
            features: what the full network gives to the stage, detached.
            subnet: the sub-network.
        """
        found: Tensor = self.own(index, self.stages.run(index, self.network, features, subnet), subnet)
        return found

    def loss(self, index: int, found: Tensor, target: Tensor) -> Tensor:
        """What a stage's result is judged by: equation 7; of class scores, :func:`head_loss`."""
        return (head_loss if self.stages.stages[index].leaves is None else feature_loss)(found, target)

    @contextmanager
    def _beside(self, features: Tensor) -> Iterator[None]:
        """A stream of its own on CUDA: no tensor that one stage writes is read by another."""
        if not (self._side_by_side and features.device.type == "cuda"):
            yield
            return
        stream = torch.cuda.Stream(features.device)
        stream.wait_stream(torch.cuda.current_stream(features.device))
        with torch.cuda.stream(stream):
            yield
