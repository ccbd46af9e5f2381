"""A sub-network: a boolean vector over the channels of a graph."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from widthwise.errors import SubnetMismatch

__all__ = ["Subnet"]

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Subnet:
    """Which channels a sub-network keeps. Equal to, and hashes as, any other with the same vector."""

    keep: Bool[Tensor, "channels"]
    """bool [channels]: true where the channel is kept."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subnet) and torch.equal(self.keep, other.keep)

    def __hash__(self) -> int:
        return hash(self.keep.numpy().tobytes())

    def __repr__(self) -> str:
        return f"Subnet({int(self.keep.sum())} of {len(self.keep)} channels)"

    def kept_at(self, ids: Int64[Tensor, "*positions"]) -> Bool[Tensor, "*positions"]:
        """Whether the channel at each position is kept; those that are pinned (-1) always are."""
        return self._and_pinned[ids]

    @cached_property
    def _and_pinned(self) -> Bool[Tensor, "_"]:
        return torch.cat([self.keep, torch.ones(1, dtype=torch.bool, device="cpu")])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the format, the number of channels, and the kept ids in order."""
        return {"format": FORMAT, "num_channels": len(self.keep), "kept": self.keep.nonzero()[:, 0].tolist()}

    def to_json(self) -> str:
        """One line of JSON; :meth:`from_json` reads it back."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Subnet":
        """The sub-network that :meth:`to_dict` described.

        Raises:
            SubnetMismatch: unknown format, or ids outside the number of channels.
        """
        try:
            version, size, kept = int(data["format"]), int(data["num_channels"]), list(data["kept"])
            if not all(type(i) is int for i in kept):
                raise TypeError("kept holds other things than integers")
            ids = torch.tensor(kept, dtype=torch.int64, device="cpu")
        except (KeyError, TypeError, ValueError) as error:
            raise SubnetMismatch(
                "A sub-network in JSON has the keys format, num_channels and kept (a list of integers); "
                f"this one does not ({type(error).__name__}: {error}). Write it with Subnet.to_json()."
            ) from error
        if version > FORMAT:
            raise SubnetMismatch(
                f"This version of Widthwise reads sub-networks up to format {FORMAT}, but got format {version}; "
                "install a newer Widthwise."
            )
        if size < 0 or (len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < size):
            raise SubnetMismatch(f"Kept channels must lie in 0..{size - 1}, but the file names others.")
        keep = torch.zeros(size, dtype=torch.bool, device="cpu")
        keep[ids] = True
        return cls(keep)

    @classmethod
    def from_json(cls, text: str) -> "Subnet":
        """The sub-network that :meth:`to_json` wrote."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise SubnetMismatch(f"A sub-network is one JSON object, but this text is not: {error}.") from error
        if not isinstance(data, dict):
            raise SubnetMismatch(f"A sub-network is one JSON object, but got {type(data).__name__}.")
        return cls.from_dict(data)
