"""Random small networks out of everything that couples channels."""

from random_networks.network import HEADS, INPUTS, MAKERS, RandomNet, Spec, heads, shapes, specs

__all__ = ["HEADS", "INPUTS", "MAKERS", "RandomNet", "Spec", "heads", "shapes", "specs"]
