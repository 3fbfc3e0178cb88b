"""Portable convolution: one spec, any framework's arrays in, the same numbers out."""

from .backend import Backend, Capabilities, Environment, Support
from .dispatch import backends, get_backend
from .errors import (
    BackendNotFoundError,
    ConvSpecError,
    DTypeError,
    LayoutError,
    ShapeError,
    UnsupportedError,
)
from .functional import conv, conv_transpose
from .initial import initial_arrays
from .moving import convert_layout, to_framework
from .natives import layer_arrays
from .problem import Problem
from .reference import reference
from .spec import ConvSpec
from .tuning import tune

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendNotFoundError",
    "Capabilities",
    "ConvSpec",
    "ConvSpecError",
    "DTypeError",
    "Environment",
    "LayoutError",
    "Problem",
    "ShapeError",
    "Support",
    "UnsupportedError",
    "backends",
    "conv",
    "conv_transpose",
    "convert_layout",
    "get_backend",
    "initial_arrays",
    "layer_arrays",
    "reference",
    "to_framework",
    "tune",
]
