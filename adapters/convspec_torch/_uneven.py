"""Calls of which oneDNN computes the gradient wrongly, with a width that their stride divides.

Which these are is told at :func:`convspec.onednn.overrun`: none whose width is a multiple of the
stride. Between the last window and the next there always is such a width; up to it zeros are added
to x, or positions left out that no window reaches. A transposed call gives as many more or less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)
from torch.compiler import is_exporting
from torch.fx.experimental.symbolic_shapes import guard_or_false, guard_scalar, has_static_value

from convspec import dtypes
from convspec.onednn import overrun
from convspec.plan import Call

from ._ways import HAS_ONEDNN

SIZES = ("input_size", "output_size", "output_padding")


def uneven(call: Call) -> bool:
    """Whether it is one of these. Of sizes that may change, a compiler holds to the answer.

    Not where a program is exported or traced for any size: there is one for all of them.
    """
    if call.device != "cpu" or call.rank > 3 or call.symbolic:
        return False
    if not HAS_ONEDNN or call.dtype not in ("float32", *dtypes.HALF):
        return False
    sizes = *call.input_size, *call.output_size
    if any(isinstance(n, torch.Tensor) for n in sizes):  # torch.jit.trace's
        return False
    known = all(map(has_static_value, sizes))
    return (known or not is_exporting()) and bool(guard_or_false(overrun(call) > 0))


def plain_sizes(call: Call) -> Call:
    """The call with numbers for the sizes of its axes, which a compiler then holds to, too.

    They are rare; Inductor cannot do with what follows for the sizes of any of them.
    """
    numbers: dict[str, Any] = {
        name: tuple(map(guard_scalar, getattr(call, name))) for name in SIZES
    }
    return replace(call, **numbers)


def counts(call: Call) -> bool:
    """Whether it is computed at all, what oneDNN computes wrongly."""
    return call.transposed or torch.is_grad_enabled()


def of_evened(call: Call) -> Call:
    """The call in its place, without a bias if it is transposed."""
    step, kernel = call.stride[-1], call.kernel_size[-1]
    windows = (call.input_size if call.transposed else call.output_size)[-1]
    width = (windows - 1 - -kernel // step) * step
    call = replace(call, padding=(*call.padding[:-1], (0, 0)), same=False)
    if not call.transposed:
        return replace(call, input_size=(*call.input_size[:-1], width))
    return replace(
        call,
        output_size=(*call.output_size[:-1], width),
        output_padding=(*call.output_padding[:-1], width - (windows - 1) * step - kernel),
        bias=False,
    )


def notes(call: Call) -> tuple[str, ...]:
    """What is done about it, for ``explain``."""
    if not uneven(call):
        return ()
    even, letter = of_evened(call), call.spatial[-1]
    if call.transposed:
        width, wrong = even.output_size[-1], call.output_size[-1]
        return (f"size: {width} of axis {letter}, then {wrong}, oneDNN's own may be wrong",)
    width, wrong = even.input_size[-1], call.input_size[-1]
    return (f"size: with gradients {width} of axis {letter}, oneDNN's of {wrong} may be wrong",)


def ends(call: Call) -> tuple[int, int]:
    """What is added at both ends of the last axis of x, or of what a transposed call gives."""
    before, even = call.padding[-1][0], of_evened(call)
    if call.transposed:
        return -before, call.output_size[-1] + before - even.output_size[-1]
    return before, even.input_size[-1] - call.input_size[-1] - before


def evened(call: Call, inner: Callable[..., Any]) -> Callable[..., Any]:
    """The call of x, weight and bias or None, by ``inner``, which is :func:`of_evened`'s."""
    amounts = ends(call)
    if not call.transposed:
        return lambda x, w, b=None: inner(F.pad(x, amounts), w, b)

    def run(x: Any, w: Any, b: Any = None) -> Any:
        y = F.pad(inner(x, w, None), amounts)
        return y if b is None else y + b.reshape(-1, *[1] * call.rank)

    return run
