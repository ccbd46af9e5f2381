"""Published experiments, each a function that returns all of its settings."""

from collections.abc import Callable

from widthwise.recipes.exploration import (
    exploration_resnet18_imagenet,
    exploration_resnet20_minutes,
    exploration_resnet50_imagenet,
    exploration_resnet56_cifar10,
    exploration_vgg11_imagenet,
    exploration_vgg16_cifar10,
)
from widthwise.recipes.joint import (
    joint_resnet20_cifar10,
    joint_resnet20_minutes,
    joint_resnet50_imagenet,
    joint_resnet56_cifar10,
    joint_resnet110_cifar10,
)
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
    "exploration_resnet18_imagenet",
    "exploration_resnet20_minutes",
    "exploration_resnet50_imagenet",
    "exploration_resnet56_cifar10",
    "exploration_vgg11_imagenet",
    "exploration_vgg16_cifar10",
    "joint_resnet20_cifar10",
    "joint_resnet20_minutes",
    "joint_resnet50_imagenet",
    "joint_resnet56_cifar10",
    "joint_resnet110_cifar10",
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
        joint_resnet20_cifar10,
        joint_resnet56_cifar10,
        joint_resnet110_cifar10,
        joint_resnet50_imagenet,
        joint_resnet20_minutes,
        exploration_vgg16_cifar10,
        exploration_resnet56_cifar10,
        exploration_resnet18_imagenet,
        exploration_resnet50_imagenet,
        exploration_vgg11_imagenet,
        exploration_resnet20_minutes,
    )
}
"""By name, for the command line."""
