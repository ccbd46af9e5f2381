"""Widthwise finds out how wide each layer of a convolutional network needs to be."""

from widthwise.channels import ChannelGraph, Group, Subnet
from widthwise.cost import Budget, CostModel
from widthwise.errors import WidthwiseError
from widthwise.subnet import WidthSpace, gated, materialize, shared
from widthwise.tracing import trace

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "ChannelGraph",
    "CostModel",
    "Group",
    "Subnet",
    "WidthSpace",
    "WidthwiseError",
    "gated",
    "materialize",
    "shared",
    "trace",
]
