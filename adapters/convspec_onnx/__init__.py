"""The convolutions of ONNX models as specs, and models made from specs."""

from ._models import Convolution, convolutions

__all__ = ["Convolution", "convolutions"]
