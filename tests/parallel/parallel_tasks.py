"""What the workers of the tests do; a module of its own, for other processes import it."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


class UnportableError(Exception):
    """Cannot be unpickled: its constructor wants two arguments."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


@dataclass(frozen=True)
class Act:
    """One task."""

    kind: str
    number: int = 0
    path: Path | None = None


class Performer:
    """Does acts; counts how often it changed its own tensor."""

    def __init__(self, weight: Tensor, network: nn.Module) -> None:
        self.weight, self.network = weight, network

    def __call__(self, act: Act) -> object:
        return getattr(self, act.kind)(act)

    def square(self, act: Act) -> int:
        time.sleep(0.02 * (act.number % 3))
        return act.number**2

    def facts(self, act: Act) -> tuple[int, int, float]:
        return os.getpid(), torch.get_num_threads(), float(self.weight.sum())

    def forward(self, act: Act) -> Tensor:
        generator = torch.Generator().manual_seed(act.number)
        with torch.no_grad():
            return self.network(torch.randn(2, 3, 16, 16, generator=generator))

    def spoil(self, act: Act) -> float:
        self.weight.fill_(act.number)
        return float(self.weight.sum())

    def fail(self, act: Act) -> None:
        raise ValueError(f"act {act.number} is impossible")

    def fail_oddly(self, act: Act) -> None:
        raise UnportableError(1, 2)

    def die(self, act: Act) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def die_once(self, act: Act) -> int:
        assert act.path is not None
        with act.path.open("a") as file:
            file.write("x")
        if act.path.read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
        return act.number

    def sleep(self, act: Act) -> None:
        assert act.path is not None
        act.path.write_text(str(os.getpid()))
        time.sleep(600)


@dataclass(frozen=True, eq=False)
class Make:
    """Makes a performer; `note` receives a line for each."""

    weight: Tensor
    network: nn.Module
    note: Path | None = None

    def __call__(self) -> Callable[[Act], object]:
        if self.note is not None:
            with self.note.open("a") as file:
                file.write(f"{os.getpid()}\n")
        return Performer(self.weight, self.network)


def make(note: Path | None = None) -> Make:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 14 * 14, 10))
    return Make(torch.ones(1000), network, note)
