"""Published experiments, each a function that returns all of its settings."""

from collections.abc import Callable

from widthwise.recipes.recipe import Recipe
from widthwise.recipes.stagewise import (
    stagewise_mobilenet_v1_imagenet,
    stagewise_mobilenet_v2_imagenet,
    stagewise_resnet50_imagenet,
    stagewise_resnet56_cifar10,
)

__all__ = [
    "RECIPES",
    "Recipe",
    "stagewise_mobilenet_v1_imagenet",
    "stagewise_mobilenet_v2_imagenet",
    "stagewise_resnet50_imagenet",
    "stagewise_resnet56_cifar10",
]

RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        stagewise_resnet56_cifar10,
        stagewise_resnet50_imagenet,
        stagewise_mobilenet_v1_imagenet,
        stagewise_mobilenet_v2_imagenet,
    )
}
"""By name, for the command line."""
