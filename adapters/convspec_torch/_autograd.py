"""What takes notice of a call, and a call whose gradients are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from ._guards import PLAIN

if TYPE_CHECKING:
    from ._ways import Ways


def noticed(tensors: Sequence[Any]) -> bool:
    """Whether a transform, a mode, autocast or a tracer takes notice, or oneDNN is switched off."""
    modes = torch._C._len_torch_dispatch_stack() + torch._C._len_torch_function_stack()
    if modes or torch.jit.is_tracing() or not torch.backends.mkldnn.enabled:
        return True
    if torch.is_autocast_enabled("cpu") or torch._C._are_functorch_transforms_active():
        return True
    return any(type(tensor) not in PLAIN or _transformed(tensor) for tensor in tensors)


def recorded(tensors: Sequence[Any]) -> bool:
    """Whether anything takes notice, autograd included."""
    return noticed(tensors) or watched(tensors)


def watched(tensors: Sequence[Any]) -> bool:
    """Whether autograd records what is computed of any of these."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def differentiable(x: torch.Tensor) -> bool:
    """Whether autograd, forward-mode gradients or a transform of torch.func has hold of ``x``."""
    return watched([x]) or _transformed(x)


def _transformed(x: torch.Tensor) -> bool:
    if forward_ad.unpack_dual(x).tangent is not None:
        return True
    functorch = torch._C._functorch  # autograd's own batches of gradients are the older kind
    return bool(functorch.is_functorch_wrapped_tensor(x) or functorch.is_legacy_batchedtensor(x))


def convolution(x: Any, w: Any, b: Any, ways: Ways) -> Any:
    """The call of x, weight and bias or None, that autograd records with these ways.

    Of a leaf autograd does not tell whether a pass wants its gradient; of a view of it, it does.
    Tensor.view_as would give one sample another stride, which kernels take for another order.
    """
    tensors = (a[...] if a is not None and a.is_leaf else a for a in (x, w, b))
    return Convolution.apply(*tensors, ways)


class Convolution(torch.autograd.Function):  # type: ignore[misc]
    """:func:`convolution`."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, b: Any, ways: Ways) -> Any:
        ctx.save_for_backward(x, w)
        ctx.set_materialize_grads(False)
        ctx.ways = ways
        return ways.forward(x, w, b)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        if g is None:
            return None, None, None, None
        x, w = ctx.saved_tensors
        if is_compiling():  # the backward pass alone
            return *ctx.ways.backward_plain(g, x, w, ctx.needs_input_grad[:3]), None
        return *ctx.ways.backward(g, x, w, _wanted(ctx)), None


def _wanted(ctx: Any) -> list[bool]:
    """Whether the gradients by x, weight and bias are, of this pass: some leave parts out."""
    nodes = [node for node, _ in ctx.next_functions]
    wanted = zip(ctx.needs_input_grad[:3], [*nodes, None], strict=False)
    return [need and torch._C._will_engine_execute_node(node) for need, node in wanted]
