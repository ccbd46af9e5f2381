"""What a recipe is: every setting of an experiment, from names to a finished run."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from widthwise.cost import Budget
from widthwise.data import DataConfig, ImageData, load_data
from widthwise.evaluate.devices import device_named
from widthwise.methods import Method, Result, compress
from widthwise.subnet import WidthSpace
from widthwise.train import TrainConfig
from widthwise.zoo import ModelSpec, build_model, input_options, model_spec

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An experiment; ``dataclasses.replace`` changes any of it."""

    source: str = ""
    """Paper, section and table."""
    reported: str = ""
    """What the paper reports for it."""
    model: str
    """A model by name, see :func:`widthwise.build_model`."""
    weights: Path | None = None
    """Trained weights of the full model."""
    data: str
    """A data set by name, see :func:`widthwise.load_data`; where it is a folder, the user's own."""
    data_options: DataConfig = field(default_factory=DataConfig)
    budget: Budget | None
    method: Method
    space: WidthSpace = field(default_factory=WidthSpace)
    train: TrainConfig | None = None
    """First train the full model like this, if it comes without weights."""
    finetune: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=10, lr=0.02))
    """How finalists are fine-tuned, where the method does not train them from scratch."""
    pin: tuple[str, ...] | str = ()
    """See :func:`widthwise.trace`."""
    unproved: tuple[str, ...] | str = ()
    """See :func:`widthwise.trace`."""
    reconstruct: int = 0
    """See :func:`widthwise.compress`."""
    seed: int = 0
    """Of the full model's first weights."""
    device: str = "cpu"
    """Where the full model lies, which is where latency is measured (``cuda``); candidates are judged and networks are
    trained on the accelerator wherever it lies."""

    def run(self, run: str | Path | None = None, *, progress: bool = True) -> Result:
        """Run it, or go on with it.

        Args:
            run: the run folder; nothing is kept without one.
            progress: show bars.
        """
        model, images = self.subject()
        return compress(
            model,
            images,
            budget=self.budget,
            method=self.method,
            run=run,
            space=self.space,
            finetune=self.finetune,
            train=self.train,
            builder=self.builder(images),
            pin=self.pin,
            unproved=self.unproved,
            reconstruct=self.reconstruct,
            progress=progress,
        )

    def subject(self) -> tuple[nn.Module, ImageData]:
        """The full model, with its weights or with fresh ones, and its images.

        Raises:
            ConfigError: there is no such device here.
        """
        home = device_named(self.device)
        images = load_data(self.data, **asdict(self.data_options))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            shape = input_options(self.model, images.input_shape[0])
            model = build_model(self.model, num_classes=images.num_classes, weights=self.weights, **shape)
        return model.to(home), images

    def builder(self, images: ImageData) -> ModelSpec:
        """What builds the full architecture for such images elsewhere."""
        shape = input_options(self.model, images.input_shape[0])
        return model_spec(self.model, num_classes=images.num_classes, **shape)

    @property
    def has_weights(self) -> bool:
        """Whether the full model comes trained."""
        return self.weights is not None or "@" in self.model
