"""convspec on onnxruntime's values: a problem becomes one ONNX model, for inference alone."""

from ._backend import OnnxruntimeBackend

backend = OnnxruntimeBackend()

__all__ = ["OnnxruntimeBackend", "backend"]
