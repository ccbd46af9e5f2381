"""The settings of a pool of workers, checked."""

from dataclasses import dataclass
from typing import Literal, get_args

from widthwise.errors import ConfigError

__all__ = ["Kind", "ParallelConfig"]

Kind = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """Where candidates are evaluated.

    Raises:
        ConfigError: a setting lies outside its range, or two do not go together.
    """

    kind: Kind = "local"
    """Processes of this machine, or actors on a Ray cluster (the extra `widthwise[ray]`)."""
    workers: int = 0
    """How many at once; 0 evaluates in this process, one after the other."""
    threads: int = 1
    """Torch threads of each worker, also of this process while it evaluates: sums depend on it in their last bits."""
    retries: int = 2
    """How often a task is tried again whose worker died; what a task raises is never tried again."""
    address: str | None = None
    """Of the Ray cluster; None takes the one in RAY_ADDRESS, else starts one on this machine for as long as needed."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}, but got {self.kind!r}")
        for name, value, low in (
            ("workers", self.workers, 0),
            ("threads", self.threads, 1),
            ("retries", self.retries, 0),
        ):
            if value < low:
                raise ConfigError(f"{name} must be at least {low}, but got {value}")
        if self.kind == "ray" and self.workers == 0:
            raise ConfigError("Ray needs workers, but got workers=0; say how many, or use kind='local'")
        if self.kind != "ray" and self.address is not None:
            raise ConfigError(f"an address is that of a Ray cluster, but got {self.address!r} with kind={self.kind!r}")
