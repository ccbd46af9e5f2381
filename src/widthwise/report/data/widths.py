"""How wide each group of channels became, and what each layer costs now."""

from dataclasses import dataclass

from widthwise.methods import RunRecord

__all__ = ["Layers", "Row", "layers_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One group of channels, or one operation."""

    name: str
    """Path of the module that makes the channels, or that runs the operation."""
    before: int
    after: int

    @property
    def kept(self) -> float:
        """The share that is left; 1 where there was nothing."""
        return self.after / self.before if self.before else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """The shape of the network before and after."""

    groups: tuple[Row, ...]
    """Channels of each prunable group, in the order of the model's parameters."""
    macs: tuple[Row, ...]
    """Multiply-adds of each operation, in the order of the forward pass."""


def layers_of(run: RunRecord) -> Layers | None:
    """The widths and costs of a finished run; None of another one."""
    if run.result is None or "groups" not in run.result:
        return None
    groups = [Row(name=g["name"], before=g["width"], after=g["kept"]) for g in run.result["groups"]]
    macs = [Row(name=g["name"] or "(root)", before=g["before"], after=g["after"]) for g in run.result["layers"]]
    return Layers(groups=tuple(groups), macs=tuple(macs))
