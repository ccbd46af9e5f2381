"""Every reason for which tracing pins channels, each with its remedy: one visible table of sentences.

The sentences go on from a channel ("it ..."), and the place may follow ("...: aten::slice in layer1").
"""

from widthwise.channels import Reason

__all__ = [
    "ADDRESS",
    "BOTH_AXES",
    "CUT",
    "FIXED",
    "HOPELESS",
    "INDEXED",
    "INPUT",
    "LOOKED_UP",
    "MIXED",
    "MIXED_AXES",
    "MULTIPLIER",
    "NORMALISED",
    "NO_RULE",
    "OUTPUT",
    "PRODUCT",
    "REDUCED",
    "SINGLE",
    "SPACE",
    "TRAINING_OUTPUT",
    "UNUSED",
    "WHOLE_WEIGHT",
    "WINDOW",
    "asked",
    "broken",
    "odd",
]

_RISK = (
    "To prune the layer at your own risk, name it in trace(..., unproved=[...]) or --unproved: with fewer channels the "
    "network then computes another function, and has to be trained."
)
_WIDTH = (
    "In code of your own, compute sizes from the tensor (chunk, x.shape[1] // 2) or keep them in attributes of the "
    "module. In place of a module that is not yours, put one that does."
)
_RULE = (
    "Write the forward with other operations, or add a rule to widthwise.tracing.RULES, or to MODULE_RULES for a whole "
    "module; docs/extending.md of the source shows how."
)

OUTPUT = Reason("reaches the model's output")
TRAINING_OUTPUT = Reason(
    "reaches the model's output in training",
    "Nothing, where a loss needs it as wide as it is. Elsewhere, let the forward not return it.",
)
INPUT = Reason("is made by no layer of the model (an input, a constant or a free parameter)")
UNUSED = Reason("is not used in the forward pass", "Remove the layer, or trace with an example that uses it.")
SINGLE = Reason("has one channel only")
FIXED = Reason(
    "meets positions that stay (of an input, a constant or something pinned)",
    "Nothing, where it reads the model's input. Elsewhere, let layers make both sides, or free the other side.",
)
WINDOW = Reason("is an axis of a kernel window")
BOTH_AXES = Reason(
    "is an input axis and an output axis of the same weight",
    "Give the two layers weights of their own, if they need not share them.",
)
NO_RULE = Reason("enters an operation without a rule", _RULE)
NORMALISED = Reason(
    "is normalised together with other channels",
    f"Batch norm keeps channels apart, and group norm its groups: use one of these. {_RISK}",
)
MIXED = Reason("is mixed with the other channels", _RISK)
REDUCED = Reason("is reduced over its channels", _RISK)
PRODUCT = Reason(
    "is summed over in a product of two activations",
    f"An attention module that keeps its number of heads in an attribute can lose whole heads. {_RISK}",
)
WHOLE_WEIGHT = Reason(
    "is part of a weight that is normalised as a whole",
    "Take the normalisation away before, which leaves the weights as they are (remove_parametrizations, "
    "remove_weight_norm, remove_spectral_norm of torch.nn.utils); the small network can be normalised again.",
)
CUT = Reason("is cut at a fixed position", _WIDTH)
INDEXED = Reason("is taken by a fixed index", _WIDTH)
ADDRESS = Reason("says where other values are read or written", _RISK)
LOOKED_UP = Reason("is looked up by index", "Nothing: its positions stand for classes, words or places, not channels.")
MULTIPLIER = Reason(
    "is the multiplier of a depthwise convolution", "Nothing: each input channel has so many filters; prune those."
)
SPACE = Reason("lies along space, batch or tokens where channels are expected")
MIXED_AXES = Reason("lies along several axes at once", _RULE)


HOPELESS = frozenset(reason.what for reason in (OUTPUT, TRAINING_OUTPUT, INPUT, UNUSED, WINDOW))
"""What can never be removed, not even at one's own risk."""


def odd(error: Exception) -> Reason:
    """A rule failed on shapes that it does not know."""
    return Reason(f"takes a form that the rule does not know ({type(error).__name__}: {error})", _RULE)


def broken(message: str, module: str = "") -> Reason:
    """A proof found that a network without some of the channels is not what it should be."""
    return Reason(
        message,
        "Look for sizes or positions that the forward knows as constants. Compute them from the tensor, let a view "
        "find them (-1), or keep them in an attribute of the module (head_dim, for heads of channels // heads).",
        module=module,
    )


def asked(pattern: str) -> Reason:
    """The caller wants the layer left alone."""
    return Reason(f"was asked to stay whole ({pattern})")
