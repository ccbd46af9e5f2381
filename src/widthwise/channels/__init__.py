"""The channels of a model as data: the graph, sub-networks of it, importance."""

from widthwise.channels.graph import ChannelGraph, Group, Layer, Member
from widthwise.channels.subnet import Subnet

__all__ = ["ChannelGraph", "Group", "Layer", "Member", "Subnet"]
