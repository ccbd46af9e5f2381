"""Weights drawn anew, for a network that is to be trained from scratch."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from widthwise.errors import ConfigError
from widthwise.evaluate.modes import placement, random_state_kept

__all__ = ["RESETS", "reinitialise"]


@runtime_checkable
class _Resettable(Protocol):
    """PyTorch's convention: modules draw their weights in this method, at construction and whenever it is called."""

    def reset_parameters(self) -> None: ...


RESETS: dict[type[nn.Module], Callable[[nn.Module], None]] = {
    nn.MultiheadAttention: lambda module: module._reset_parameters(),  # type: ignore[operator]
}
"""How modules draw their weights that do not follow the convention."""


def reinitialise(
    model: nn.Module,
    seed: int,
    *,
    then: Callable[[nn.Module], None] | None = None,
    keep_unknown: bool = False,
) -> tuple[str, ...]:
    """Draws all parameters of `model` anew, in place, each module's as it does at construction.

    That is PyTorch's own initialisation; what a network's constructor does on top of it (torchvision's and the zoo's
    He initialisation) is not known to its modules: pass it as `then`. Running statistics are reset with the weights;
    other buffers stay, as do `requires_grad`, types, devices and memory formats. The result depends on the seed and
    the kind of device alone; the global random state is as before.

    Args:
        model: any network, also a materialised one.
        seed: of everything that is drawn.
        then: is called on the model afterwards, with the same generators, to initialise what it knows better.
        keep_unknown: leave parameters as they are that nothing draws (layer scales, class tokens: parameters of
            modules without `reset_parameters`).

    Returns:
        Names of the parameters that were left as they are.

    Raises:
        ConfigError: nothing draws some parameter, and `keep_unknown` is False. The model is then as before.
    """
    before = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
    try:
        with random_state_kept(placement(model)[0]), torch.no_grad():
            torch.manual_seed(seed)
            for parameter in model.parameters():
                parameter.fill_(torch.nan)  # whatever is NaN in the end, nothing has drawn
            _reset(model)
            if then is not None:
                then(model)
        unknown = tuple(name for name, parameter in model.named_parameters() if bool(parameter.isnan().any()))
        if unknown and not keep_unknown:
            raise ConfigError(
                "weights can be drawn anew where a module has reset_parameters, but nothing draws "
                f"{', '.join(unknown[:10])}{' and others' if len(unknown) > 10 else ''}; pass then=... that "
                "initialises them, or keep_unknown=True to leave them as they are"
            )
    except BaseException:
        _restore(before)
        raise
    _restore([(tensor, value) for tensor, value in before if bool(tensor.isnan().any())])
    return unknown


def _reset(model: nn.Module) -> None:
    """Children first: a module that resets its children has the last word, as in its constructor."""
    for module in reversed(list(model.modules())):
        special = next((reset for kind, reset in RESETS.items() if isinstance(module, kind)), None)
        if special is not None:
            special(module)
        elif isinstance(module, _Resettable):
            module.reset_parameters()


def _restore(pairs: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for tensor, value in pairs:
            tensor.copy_(value)
