"""The methods, by the names of their options on the command line."""

from widthwise.methods import FNNP, Exploration, Joint, Method, Stagewise

__all__ = ["METHODS"]

METHODS: dict[str, type[Method]] = {
    "fnnp": FNNP,
    "stagewise": Stagewise,
    "joint": Joint,
    "exploration": Exploration,
}
"""The methods by the names of their options."""
