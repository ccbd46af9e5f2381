"""Widthwise finds out how wide each layer of a convolutional network needs to be."""

from widthwise.channels import ChannelGraph, Group, Subnet
from widthwise.cost import Budget, CostModel
from widthwise.data import load_data
from widthwise.errors import WidthwiseError
from widthwise.evaluate import accuracy, adaptive_bn, reconstruct_weights, sensitivity
from widthwise.export import export_model
from widthwise.methods import FNNP, Baseline, Exploration, Joint, Result, Stagewise, compress, measure_latency
from widthwise.runs.model import load, save
from widthwise.subnet import WidthSpace, gated, materialize, shared
from widthwise.tracing import trace
from widthwise.train import TrainConfig
from widthwise.zoo import build_model

__version__ = "0.1.0"

__all__ = [
    "FNNP",
    "Baseline",
    "Budget",
    "ChannelGraph",
    "CostModel",
    "Exploration",
    "Group",
    "Joint",
    "Result",
    "Stagewise",
    "Subnet",
    "TrainConfig",
    "WidthSpace",
    "WidthwiseError",
    "accuracy",
    "adaptive_bn",
    "build_model",
    "compress",
    "export_model",
    "gated",
    "load",
    "load_data",
    "materialize",
    "measure_latency",
    "reconstruct_weights",
    "save",
    "sensitivity",
    "shared",
    "trace",
]
