"""Short digests, by which runs and checkpoints know what they belong to."""

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

__all__ = ["digest", "named"]


def digest(*facts: object) -> str:
    """16 hexadecimal digits that change with any fact: a tensor's bytes, bytes as they are, else the repr."""
    found = hashlib.sha256()
    for fact in facts:
        found.update(_bytes(fact))
    return found.hexdigest()[:16]


def named(tensors: Mapping[str, Tensor]) -> Iterator[bytes | Tensor]:
    """Names and tensors in turn, as facts of a digest."""
    for name, tensor in tensors.items():
        yield name.encode()
        yield tensor


def _bytes(fact: object) -> bytes:
    if isinstance(fact, Tensor):
        return fact.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return fact if isinstance(fact, bytes) else repr(fact).encode()
