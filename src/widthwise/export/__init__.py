"""Networks as files for other programs: ONNX and `torch.export`, each proved before it is handed over."""

from widthwise.export.formats import FORMATS
from widthwise.export.proved import export_model

__all__ = ["FORMATS", "export_model"]
