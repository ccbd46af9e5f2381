"""The channels of a model as data: the graph, sub-networks of it, importance."""

from widthwise.channels.graph import Axis, ChannelGraph, Group, Layer, Member, Role, Site, Size
from widthwise.channels.reason import Reason
from widthwise.channels.subnet import Subnet

__all__ = ["Axis", "ChannelGraph", "Group", "Layer", "Member", "Reason", "Role", "Site", "Size", "Subnet"]
