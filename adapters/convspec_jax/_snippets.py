"""The same operations as a person would write them in JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convspec.plan import Call
from convspec.snippets import example_text, index_text, list_text, tuple_text

from ._arrays import MODES
from ._point import by_product


def conv(x: str, w: str, *, call: Call) -> str:
    if by_product(call):  # whose kernel has axes of its own, of one position each
        letters = "".join(c if c in "IO" else c.lower() for c in call.w_layout)
        data, result = call.x_layout.replace("C", "I"), call.y_layout.replace("C", "O")
        return f'jnp.einsum("{data},{letters}->{result}", {x}, {w})'
    # JAX reads per-axis values in the order of the kernel's spatial letters.
    at = [call.spatial.index(c) for c in call.w_layout if c not in "OI"]
    arguments = [
        x,
        w,
        f"window_strides={tuple_text([call.stride[i] for i in at])}",
        f"padding={list_text([tuple_text(call.padding[i]) for i in at])}",
    ]
    for name, values in (("lhs_dilation", call.input_dilation), ("rhs_dilation", call.dilation)):
        if any(step != 1 for step in values):
            arguments.append(f"{name}={tuple_text([values[i] for i in at])}")
    orders = (call.x_layout, call.w_layout, call.y_layout)
    arguments.append("dimension_numbers=(" + ", ".join(f'"{text}"' for text in orders) + ")")
    if call.groups > 1:
        arguments.append(f"feature_group_count={call.groups}")
    return f"jax.lax.conv_general_dilated({', '.join(arguments)})"


def pad(x: str, *, pairs: Any, mode: str) -> str:
    how = "" if mode == "zeros" else f', mode="{MODES[mode]}"'
    return f"jnp.pad({x}, {tuple_text(pairs)}{how})"


SNIPPETS: dict[str, Callable[..., str]] = {
    "add": lambda a, b: f"{a} + {b}",
    "cast": lambda x, *, dtype: f"{x}.astype(jnp.{dtype})",
    "concat": lambda *parts, axis: f"jnp.concatenate([{', '.join(parts)}], axis={axis})",
    "conv": conv,
    "flip": lambda x, *, axes: f"jnp.flip({x}, {tuple_text(axes)})",
    "input": lambda name, shape, dtype: f"{example_text(name, shape, 'jnp')}.astype(jnp.{dtype})",
    "literal": lambda values, *, dtype: f"jnp.array({values}, dtype=jnp.{dtype})",
    "multiply": lambda a, b: f"{a} * {b}",
    "pad": pad,
    "part": lambda parts, *, index: f"{parts}[{index}]",
    "permute": lambda x, *, axes: f"{x}.transpose{tuple_text(axes)}",
    "reshape": lambda x, *, shape: f"{x}.reshape{tuple_text(shape)}",
    "slice": lambda x, *, index: f"{x}[{index_text(index)}]",
    "split": lambda x, *, axis, count: f"jnp.split({x}, {count}, axis={axis})",
}
