"""convspec on PyTorch tensors: aten's convolution, hence oneDNN, cuDNN or MPS."""

from ._backend import TorchBackend
from ._layer import Conv

backend = TorchBackend()

__all__ = ["Conv", "TorchBackend", "backend"]
