"""The same operations as a person would write them in MLX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convspec.plan import Call
from convspec.snippets import example_text, index_text, list_text, tuple_text

from ._arrays import MODES


def conv(x: str, w: str, *, call: Call) -> str:
    arguments = [x, w]
    options: dict[str, tuple[tuple[int, ...], int]] = {
        "stride": (call.stride, 1),
        "kernel_dilation": (call.dilation, 1),
        "input_dilation": (call.input_dilation, 1),
    }
    for name, (values, default) in options.items():
        if any(value != default for value in values):
            arguments.append(f"{name}={tuple_text(values)}")
    if any(lo != 0 or hi != 0 for lo, hi in call.padding):
        sides = ([lo for lo, _ in call.padding], [hi for _, hi in call.padding])
        arguments.append(f"padding=({', '.join(map(list_text, sides))})")
    if call.groups > 1:
        arguments.append(f"groups={call.groups}")
    return f"mx.conv_general({', '.join(arguments)})"


def pad(x: str, *, pairs: Any, mode: str) -> str:
    how = "" if mode == "zeros" else f', mode="{MODES[mode]}"'
    return f"mx.pad({x}, {list_text([tuple_text(pair) for pair in pairs])}{how})"


SNIPPETS: dict[str, Callable[..., str]] = {
    "add": lambda a, b: f"{a} + {b}",
    "cast": lambda x, *, dtype: f"{x}.astype(mx.{dtype})",
    "concat": lambda *parts, axis: f"mx.concatenate([{', '.join(parts)}], axis={axis})",
    "conv": conv,
    "flip": lambda x, *, axes: f"mx.flip({x}, {tuple_text(axes)})",
    "input": lambda name, shape, dtype: f"{example_text(name, shape, 'mx')}.astype(mx.{dtype})",
    "literal": lambda values, *, dtype: f"mx.array({values}, dtype=mx.{dtype})",
    "multiply": lambda a, b: f"{a} * {b}",
    "pad": pad,
    "permute": lambda x, *, axes: f"{x}.transpose{tuple_text(axes)}",
    "reshape": lambda x, *, shape: f"{x}.reshape{tuple_text(shape)}",
    "slice": lambda x, *, index: f"{x}[{index_text(index)}]",
}
