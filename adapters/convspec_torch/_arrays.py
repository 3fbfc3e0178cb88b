"""PyTorch's array operations, under the names that plans use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)
from torch.compiler import is_compiling, is_exporting
from torch.fx.experimental.symbolic_shapes import has_static_value

from convspec import dtypes
from convspec.backend import Kernel
from convspec.errors import ShapeError
from convspec.problem import Condition
from convspec.symbols import Sizes

TYPES = {name: getattr(torch, name) for name in dtypes.ALL}
MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}
#: What RuntimeErrors say where there is no memory: the allocator of the CPU, and that of MPS.
OUT_OF_MEMORY = ("DefaultCPUAllocator: ", "MPS backend out of memory")


def name_of(dtype: torch.dtype) -> str:
    """torch's name of a dtype, which is NumPy's where NumPy has one."""
    return str(dtype).removeprefix("torch.")


def cast(x: Any, *, dtype: str) -> Any:
    return x.to(TYPES[dtype])


def pad(x: Any, *, pairs: Any, mode: str) -> Any:
    if mode != "zeros":
        pairs = pairs[2:]  # the other modes are for the spatial axes of (N, C, space)
    amounts = [amount for pair in reversed(pairs) for amount in pair]
    if mode == "circular" and not all(map(has_static_value, amounts)):
        return _wrapped(x, pairs)
    if is_compiling():
        # Pads of volumes in channels-last memory have other strides than a compiler is told, and so
        # has the gradient of replicated pictures (upstream/torch_replicated_strides.py).
        if mode == "replicate" and len(pairs) == 2:
            x = row_major(x.unsqueeze(2))
            return F.pad(x, [*amounts, 0, 0], mode=MODES[mode]).squeeze(2)
        if mode in ("replicate", "reflect") and len(pairs) == 3:
            x = row_major(x)
    return F.pad(x, amounts, mode=MODES[mode])


def row_major(array: Any) -> Any:
    """``array`` with row-major strides throughout; a view where its elements lie so already.

    The stride of an axis of size 1 is arbitrary, so such a tensor may count as contiguous and as
    channels-last at once, and aten may hand oneDNN the strides of the other: grouped results, and
    strided ones of a single channel, are then wrong without a word (2.13; compare
    pytorch/pytorch#82060). Tensor.contiguous() would leave that stride as it is.

    Gradients pass through in the same order. So a result of one channel goes through it as well:
    what comes back to the kernel would otherwise have whatever strides its user gave it.
    """
    return array.reshape(-1).reshape(array.shape)


def copied(array: Any) -> Any:
    """``array`` with row-major strides throughout, and its gradient, by a copy of each."""
    return array.clone(memory_format=torch.contiguous_format)


def _wrapped(x: Any, pairs: Any) -> Any:
    """Circular padding of (N, C, space) by amounts that are not known, perhaps zero.

    F.pad asks whether they are, and a compiler compiles a program for each answer.
    """
    for axis, (lo, hi) in enumerate(pairs, 2):
        n = x.shape[axis]
        if lo > n or hi > n:
            raise ShapeError("padding: circular reaches around more than once; x is too small.")
        x = torch.cat([x, x, x], axis).narrow(axis, n - lo, lo + n + hi)
    return x


def from_foreign(x: Any) -> Any:
    """A NumPy array or, by DLPack, another framework's, without a copy where that is possible."""
    if isinstance(x, np.ndarray):
        if x.dtype.name == "bfloat16":  # NumPy cannot name it to others: the same 16 bits
            return from_foreign(x.view(np.uint16)).view(torch.bfloat16)
        if any(step < 0 for step in x.strides) or not x.dtype.isnative or not x.flags.writeable:
            return torch.from_numpy(np.array(x, dtype=x.dtype.newbyteorder("=")))
        return torch.from_numpy(x)
    return torch.from_dlpack(x)


def to_numpy(x: Any) -> Any:
    """A tensor as a NumPy array, without a copy on the CPU."""
    x = x.detach().cpu().resolve_conj().resolve_neg()
    if x.dtype == torch.bfloat16:
        import ml_dtypes

        return x.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return x.numpy()


def vjp(function: Callable[..., Any], arrays: Any, cotangent: Any) -> tuple[Any, ...]:
    """Gradients by autograd, whose own are conjugated, and part of its graph again.

    A compiled backward pass cannot take a cotangent that is a conjugated view, so it is computed.
    """
    watched = [a if a.requires_grad else a.detach().requires_grad_() for a in arrays]
    with torch.enable_grad():
        y = function(*watched)
        found = torch.autograd.grad(
            y, watched, cotangent.conj_physical(), create_graph=True, materialize_grads=True
        )
        return tuple(gradient.conj() for gradient in found)


def held_to(conditions: Sequence[Condition], kernel: Kernel) -> Kernel:
    """A kernel of symbolic sizes, which are held to the conditions while they are recorded.

    A compiler holds later calls to the answers. An exporter asks for proofs: it is not asked.
    """

    def checked(*arrays: Any, sizes: Sizes) -> Any:
        if not is_exporting():
            for condition in conditions:
                if sizes(condition.small) > sizes(condition.large):
                    raise ShapeError(f"{condition.message}.")
        return kernel(*arrays, sizes=sizes)

    return checked


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "cast": cast,
    "concat": lambda *parts, axis: torch.cat(parts, axis),
    "flip": lambda x, *, axes: x.flip(axes),
    "multiply": lambda a, b: a * b,
    "pad": pad,
    "permute": lambda x, *, axes: x.permute(axes),
    "reshape": lambda x, *, shape: x.reshape(shape),
    "slice": lambda x, *, index: x[index],
}
