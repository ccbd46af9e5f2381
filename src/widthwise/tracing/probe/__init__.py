"""A private copy of the model, what it runs on and in, and what cannot be traced at all."""

from widthwise.tracing.probe.example import as_example
from widthwise.tracing.probe.independent import independent_of
from widthwise.tracing.probe.nested import tensors_in
from widthwise.tracing.probe.probe import DOUBLE, Probe, is_number, make_probe
from widthwise.tracing.probe.refuse import check_made, check_model, did_not_run_again
from widthwise.tracing.probe.surroundings import in_parts, making_on

__all__ = [
    "DOUBLE",
    "Probe",
    "as_example",
    "check_made",
    "check_model",
    "did_not_run_again",
    "in_parts",
    "independent_of",
    "is_number",
    "make_probe",
    "making_on",
    "tensors_in",
]
