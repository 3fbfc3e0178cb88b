"""Arrays, weights and checkpoints from one framework's files and orders to another's."""

from .errors import ConvertError
from .orders import Order, convert_weight, weight_spec

__all__ = ["ConvertError", "Order", "convert_weight", "weight_spec"]
