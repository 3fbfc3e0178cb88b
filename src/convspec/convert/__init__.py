"""Arrays, weights and checkpoints from one framework's files and orders to another's."""

from .arrays import Converted, array
from .checkpoints import Inspected, Report, checkpoint, inspect
from .errors import ConvertError
from .kinds import Flatten, Kind
from .orders import Order, convert_weight, weight_spec
from .plan import Action, Plan
from .verify import Check
from .weights import ConvertedWeight, weight
from .whole_models import ModelCheck

__all__ = [
    "Action",
    "Check",
    "ConvertError",
    "Converted",
    "ConvertedWeight",
    "Flatten",
    "Inspected",
    "Kind",
    "ModelCheck",
    "Order",
    "Plan",
    "Report",
    "array",
    "checkpoint",
    "convert_weight",
    "inspect",
    "weight",
    "weight_spec",
]
