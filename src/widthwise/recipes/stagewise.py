"""The experiments of stage-wise pruning (Zhang and Ou, section 4).

ImageNet is a folder of images (``folder:/data/imagenet`` with ``train/`` and ``val/``). The paper's validation images
come out of the training images; ``val_fraction`` holds out as many, and the folder's own ``val`` is then the test part,
which no search sees.

The search is the paper's, by its settings: evolution over evolutions of full length, stages judged by the learned
adapters and by equation 7 as it stands, and no network judged whole.
"""

from dataclasses import replace

from widthwise.cost import Budget
from widthwise.data import DataConfig
from widthwise.methods import Stagewise
from widthwise.recipes.recipe import Recipe
from widthwise.search import DivisionSettings
from widthwise.train import TrainConfig

__all__ = [
    "stagewise_mobilenet_v1_imagenet",
    "stagewise_mobilenet_v2_imagenet",
    "stagewise_resnet50_imagenet",
    "stagewise_resnet56_cifar10",
]


_SEARCH = Stagewise(
    chained=0,
    division=DivisionSettings(how="evolution", evaluations=None, recombine=False),
    adapters="learned",
    positions="sum",
)


def stagewise_resnet56_cifar10() -> Recipe:
    """ResNet-56 on CIFAR-10 at half the multiply-adds (table 1)."""
    return Recipe(
        source="Stage-wise Channel Pruning, section 4.2, table 1",
        reported="95.03 % at 61.36 M multiply-adds (full network: 93.27 % at 125.49 M)",
        model="resnet56",
        data="cifar10",
        data_options=DataConfig(val_fraction=0.04),  # 200 of 5000 images per class
        budget=Budget(macs=0.5),
        method=replace(
            _SEARCH,
            retrain=TrainConfig(  # the paper names another paper's (DARTS) schedule: cosine from 0.025
                epochs=600, batch_size=128, lr=0.025, nesterov=False, weight_decay=3e-4
            ),
        ),
    )


def _imagenet(model: str, budget: Budget, reported: str, retrain: TrainConfig) -> Recipe:
    """Section 4.1: 100 epochs of the super-net from 0.1, a tenth of it at epochs 30, 60 and 90."""
    return Recipe(
        source="Stage-wise Channel Pruning, section 4.3, table 2",
        reported=reported,
        model=model,
        data="folder:imagenet",
        data_options=DataConfig(val_fraction=0.039, workers=8),  # 50 of about 1280 images per class
        budget=budget,
        method=replace(
            _SEARCH,
            supernet=TrainConfig(
                epochs=100,
                batch_size=512,
                lr=0.1,
                nesterov=False,
                weight_decay=3e-4,
                schedule="step",
                step_milestones=(0.3, 0.6, 0.9),
            ),
            retrain=retrain,
        ),
    )


def stagewise_resnet50_imagenet() -> Recipe:
    """ResNet-50 on ImageNet at 2.0 G multiply-adds."""
    return _imagenet(
        "torchvision:resnet50",
        Budget(macs=2_000_000_000),
        "76.1 % at 2.0 G multiply-adds (full network: 76.6 % at 4.1 G)",
        TrainConfig(epochs=120, batch_size=256, lr=0.1, nesterov=False, weight_decay=1e-4, label_smoothing=0.1),
    )


def stagewise_mobilenet_v1_imagenet() -> Recipe:
    """MobileNet v1 on ImageNet at 285 M multiply-adds."""
    return _imagenet(
        "mobilenet_v1",
        Budget(macs=285_000_000),
        "71.7 % at 285 M multiply-adds (uniform width: 68.4 % at 325 M)",
        TrainConfig(epochs=250, batch_size=256, lr=0.1, nesterov=False, weight_decay=4e-5, label_smoothing=0.1),
    )


def stagewise_mobilenet_v2_imagenet() -> Recipe:
    """MobileNet v2 on ImageNet at 220 M multiply-adds."""
    return _imagenet(
        "torchvision:mobilenet_v2",
        Budget(macs=220_000_000),
        "73.4 % at 220 M multiply-adds (uniform width: 69.8 % at 220 M)",
        TrainConfig(epochs=250, batch_size=256, lr=0.1, nesterov=False, weight_decay=4e-5, label_smoothing=0.1),
    )
