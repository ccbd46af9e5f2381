"""Which device of this machine computes."""

import torch

from widthwise.errors import ConfigError

__all__ = ["device_named", "search_device"]


def search_device() -> torch.device:
    """Where candidates are judged: the accelerator if there is one."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


def device_named(name: str) -> torch.device:
    """A device by name: ``cpu``, or an accelerator's (``cuda``, ``cuda:1``, ``mps``).

    Raises:
        ConfigError: this machine has none of that name.
    """
    kind = search_device().type
    numbered = [] if kind == "cpu" else [kind, *(f"{kind}:{i}" for i in range(torch.accelerator.device_count()))]
    here = ["cpu", *numbered]
    if name not in here:
        raise ConfigError(
            f"A device is one that torch finds here ({', '.join(here)}), but got {name!r}; name one of these."
        )
    return torch.device(name)
