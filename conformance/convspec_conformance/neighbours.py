"""Calls that differ from another one in one thing alone.

Who keeps plans, packed weights or scratch memory by less than the whole question gives such a call
the other's answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from convspec import ConvSpec, ConvSpecError
from convspec.dtypes import COMPLEX

from .cases import Case

#: Of those that there are, so many are asked before a case is asked again.
MOST = 3


def neighbours(case: Case, fair: Callable[[Case], bool]) -> list[Case]:
    """:data:`MOST` of the cases like this one in all but one thing; which ones, its seed says.

    Args:
        case: what will be asked after them.
        fair: whether a case has an answer.
    """
    spec, last = case.spec, case.spec.rank - 1
    wide = "complex128" if case.dtype in COMPLEX else "float64"
    more = tuple(n + (c == "N") for n, c in zip(case.input_shape, spec.layout, strict=True))
    longer = tuple(
        n + (c == spec.spatial[-1]) for n, c in zip(case.input_shape, spec.layout, strict=True)
    )
    specs: list[dict[str, Any]] = [
        {"dilation": (*spec.dilation[:last], spec.dilation[last] + 1)},
        {"stride": (*spec.stride[:last], spec.stride[last] + 1)},
        {"flip_kernel": not spec.flip_kernel},
        {"padding": (*spec.padding[:last], (1, 0) if spec.padding[last] != (1, 0) else (0, 1))},
        {"padding_mode": "replicate" if spec.padding_mode != "replicate" else "zeros"},
        {"output_layout": spec.output_layout[::-1]},
        {"bias": not spec.bias},
        {"transposed": not spec.transposed, "group_axis": spec.group_axis},
        {"weight_layout": _turned(spec), "group_axis": spec.group_axis},
        {"output_padding": (*spec.output_padding[:last], spec.output_padding[last] + 1)},
    ]
    calls: list[dict[str, Any]] = [
        {"dtype": "float64" if case.dtype != "float64" else "float32", "out_dtype": None},
        {"out_dtype": wide if case.out_dtype is None and case.dtype != wide else None},
        {"input_shape": more},
        {"input_shape": longer},
        {"output_size": _one_more(case) if case.output_size is None else None},
    ]
    changes = [*((change, {}) for change in specs), *(({}, change) for change in calls)]
    found: list[Case] = []
    for i in range(len(changes)):
        changed, call = changes[(case.seed + i) % len(changes)]
        try:
            near = spec.replace(**changed) if changed else spec  # which may keep something itself
        except ConvSpecError:
            continue
        given = {"output_size": None, "judge": "exact"} if changed else {"judge": "exact"}
        other = replace(case, **{**given, "spec": near, **call})
        # The same weights may serve both: what differs is how they are read.
        if fair(other) and near.weight_shape == spec.weight_shape:
            found.append(other)
    return found[:MOST]


def _one_more(case: Case) -> tuple[int, ...]:
    """The default output size and one position more on the last axis, as some strides have it."""
    spec = case.spec
    sizes = dict(zip(spec.output_layout, spec.output_shape(case.input_shape), strict=True))
    return tuple(sizes[c] + (c == spec.spatial[-1]) for c in spec.spatial)


def _turned(spec: ConvSpec) -> str:
    """The weight's order with its spatial axes the other way round."""
    letters = iter([c for c in spec.weight_layout if c in spec.spatial][::-1])
    return "".join(next(letters) if c in spec.spatial else c for c in spec.weight_layout)
