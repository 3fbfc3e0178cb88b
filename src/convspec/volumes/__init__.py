"""Volumes on disk through a chain of convolutions: tile by tile, resumable, in bounded memory."""

from .activations import Activation
from .apply import Applied, apply
from .chain import Layer, read_chain

__all__ = ["Activation", "Applied", "Layer", "apply", "read_chain"]
