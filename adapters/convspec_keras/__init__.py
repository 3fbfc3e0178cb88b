"""Keras's layers and calls as specs, and a layer for any spec, on every backend of Keras's."""

from ._layer import Conv
from ._operation import Convolution

__all__ = ["Conv", "Convolution"]
