"""Arrays, weights and checkpoints from one framework's files and orders to another's."""

from .arrays import Converted, array
from .errors import ConvertError
from .orders import Order, convert_weight, weight_spec

__all__ = ["ConvertError", "Converted", "Order", "array", "convert_weight", "weight_spec"]
