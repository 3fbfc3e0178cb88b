"""convspec on PyTorch tensors: aten's convolution, hence oneDNN, cuDNN or MPS."""

from ._backend import TorchBackend

backend = TorchBackend()

__all__ = ["TorchBackend", "backend"]
