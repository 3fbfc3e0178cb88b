"""What tells the tensors of a repeated call from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from convspec.backend import Guard

#: Types of tensors that are nothing else besides.
PLAIN = (torch.Tensor, torch.nn.Parameter)


def guard_of(tensors: Sequence[Any]) -> Guard | None:
    """A function of as many arguments, true of tensors like these; None where torch gives none.

    It is the guard before the code that ``torch.compile`` makes: one call into C++ compares type,
    element type, device, sizes, ``requires_grad`` and dispatch keys, and so tells apart layouts
    (sparse, oneDNN's), conjugated and negated views, autocast, inference mode, the transforms of
    ``torch.func`` and tracing. Strides may differ: no kernel is chosen by them. It keeps no tensor
    alive. Reading as much in Python takes three times as long. Torch keeps it private: without it,
    or with another one, each call is looked at anew.
    """
    if any(type(tensor) not in PLAIN for tensor in tensors):
        return None
    if torch.jit.is_tracing():  # which calls a second time, to compare, down to lines of source
        return None
    try:
        from torch._C._dynamo.guards import TensorGuards

        strides: list[Any] = [[None] * tensor.dim() for tensor in tensors]
        guard: Guard = TensorGuards(
            *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=strides
        ).check
        if not guard(*tensors):
            return None
    except (ImportError, TypeError):
        return None
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return guard
    dtype = torch.get_autocast_dtype(device)  # autocast has one key for all types
    return lambda *tensors: guard(*tensors) and torch.get_autocast_dtype(device) is dtype
