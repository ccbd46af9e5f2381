"""Networks to start from, by name, and weight files for them."""

from widthwise.zoo.build import MODELS, ModelSpec, build_model, input_options, model_spec
from widthwise.zoo.weights import load_weights, read_weights

__all__ = ["MODELS", "ModelSpec", "build_model", "input_options", "load_weights", "model_spec", "read_weights"]
