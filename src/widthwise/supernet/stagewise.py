"""Training a super-net stage by stage with in-place distillation (stage-wise pruning, Algorithm 1)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise.channels import Subnet
from widthwise.errors import ConfigError
from widthwise.stages import Stages
from widthwise.subnet import SuperNet
from widthwise.supernet.adapters import Adapters
from widthwise.supernet.sampling import Sampler

__all__ = ["Distillation", "Teacher", "feature_loss"]


def feature_loss(found: Tensor, target: Tensor) -> Tensor:
    """The distillation loss of a stage, equation 7, as the mean over images, positions and channels.

    The paper divides the squared norm by the channels only; the mean over positions and images as well keeps stages of
    different resolution, and batches of different size, on one scale.
    """
    wide = torch.promote_types(found.dtype, torch.float32)
    return F.mse_loss(found.to(wide), target.to(wide))


class Teacher(nn.Module):
    """Another network whose stages are the targets (the paper's S1: pre-trained; S2: another architecture).

    Args:
        model: the network; stays as it is, in evaluation mode.
        stages: its stages, as many as the super-net's.
        student: the super-net's stages; resolutions must be the same, channels need not be.

    Raises:
        ConfigError: the stages do not correspond.
    """

    def __init__(self, model: nn.Module, stages: Stages, student: Stages) -> None:
        super().__init__()
        mine, theirs = ([s.resolution for s in chain.stages] for chain in (student, stages))
        if mine != theirs:
            raise ConfigError(
                "A teacher's stages have the resolutions of the student's, but the teacher has "
                f"{_text(stages)} and the student {_text(student)}. Name stages that correspond."
            )
        self.model = model.eval().requires_grad_(False)
        self._stages = stages
        self.channels = [0 if s.leaves is None else len(s.leaves[1]) for s in stages.stages]

    @torch.no_grad()
    def targets(self, images: Tensor) -> list[Tensor]:
        """What each of its stages returns."""
        self.model.eval()
        with self._stages.features(self.model) as found:
            outputs = self.model(images)
        return [*found, outputs][: len(self._stages)]


def _text(stages: Stages) -> str:
    return ", ".join(f"{s.name} {'x'.join(map(str, s.resolution)) or '(outputs)'}" for s in stages.stages)


class Distillation(nn.Module):
    """The part of a step behind the full network's: sub-networks learn the full network's features, stage by stage.

    Args:
        stages: of the super-net.
        sampler: draws the sub-networks.
        smallest: also train the smallest sub-network (the small-net of the sandwich rule).
        teacher: whose features are the targets; the full network's own of the same step if not given.
        side_by_side: on an accelerator with streams, run the stages in one stream each.
    """

    def __init__(
        self,
        stages: Stages,
        sampler: Sampler,
        *,
        smallest: bool = True,
        teacher: Teacher | None = None,
        side_by_side: bool = True,
    ) -> None:
        super().__init__()
        self.adapters = Adapters(stages, teacher.channels if teacher is not None else None)
        self.stages, self.sampler = stages, sampler
        self._smallest, self._side_by_side = smallest, side_by_side
        self._teacher = [teacher]  # in a list: its weights are no parameters of ours

    def targets(self, features: list[Tensor], images: Tensor) -> list[Tensor]:
        """What each stage is compared with.

        Args:
            features: images, what each stage of the full network returned, and its outputs.
            images: for a teacher.
        """
        teacher = self._teacher[0]
        return features[1 : len(self.stages) + 1] if teacher is None else teacher.targets(images)

    def subnets(self, step: int) -> list[Subnet]:
        """The sub-networks of one step: a random one, and the smallest."""
        return [self.sampler.layerwise(step), *([self.sampler.smallest] if self._smallest else [])]

    def loss(self, index: int, network: SuperNet, features: Tensor, target: Tensor, subnet: Subnet) -> Tensor:
        """Equation 7 for one stage of one sub-network.

        Args:
            index: of the stage.
            network: the super-net.
            features: what the full network gives to the stage, detached.
            target: what its result is compared with, detached.
            subnet: the sub-network.
        """
        return feature_loss(self.adapters(index, self.stages.run(index, network, features, subnet), subnet), target)

    def accumulate(
        self, network: SuperNet, features: list[Tensor], images: Tensor, step: int, backward: Callable[[Tensor], None]
    ) -> list[Tensor]:
        """Gradients of all stages of all sub-networks of a step; returns the sum of losses of each stage, detached.

        Args:
            network: the super-net, in training mode.
            features: images, what each stage of the full network returned, and its outputs; detached.
            images: of the batch, for a teacher.
            step: number of the step.
            backward: accumulates gradients.
        """
        targets = self.targets(features, images)
        subnets = self.subnets(step)
        sums = []
        for index in range(len(self.stages)):
            with self._beside(features[index]):
                parts = []
                for subnet in subnets:
                    loss = self.loss(index, network, features[index], targets[index], subnet)
                    backward(loss)
                    parts.append(loss.detach())
                sums.append(torch.stack(parts).sum())
        if features[0].device.type == "cuda":
            torch.cuda.synchronize(features[0].device)
        return sums

    @contextmanager
    def _beside(self, features: Tensor) -> Iterator[None]:
        """A stream of its own on CUDA: stages have no tensor in common that one of them writes."""
        if not (self._side_by_side and features.device.type == "cuda"):
            yield
            return
        stream = torch.cuda.Stream(features.device)
        stream.wait_stream(torch.cuda.current_stream(features.device))
        with torch.cuda.stream(stream):
            yield
