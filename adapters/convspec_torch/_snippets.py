"""The same operations as a person would write them in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convspec.plan import Call
from convspec.snippets import example_text, index_text, tuple_text

from ._arrays import MODES
from ._slow import small
from ._uneven import ends, of_evened, uneven


def conv(x: str, w: str, b: str | None = None, *, call: Call) -> str:
    if not uneven(call):
        return _conv(x, w, b, call)
    even, amounts = of_evened(call), tuple_text(ends(call))
    if not call.transposed:
        return _conv(f"F.pad({x}, {amounts})", w, b, even)
    y = f"F.pad({_conv(x, w, None, even)}, {amounts})"
    return y if b is None else f"{y} + {b}.reshape{tuple_text((-1, *[1] * call.rank))}"


def _conv(x: str, w: str, b: str | None, call: Call) -> str:
    if small(call):
        values = (tuple(lo for lo, _ in call.padding), call.stride, call.dilation)
        amounts = ", ".join(map(tuple_text, values))
        return f"torch.ops.aten.mkldnn_convolution({x}, {w}, {b}, {amounts}, {call.groups})"
    arguments = [x, w] if b is None else [x, w, b]
    options: dict[str, Any] = {
        "stride": (call.stride, 1),
        "padding": (tuple(lo for lo, _ in call.padding), 0),
        "output_padding": (call.output_padding, 0),
        "dilation": (call.dilation, 1),
    }
    for name, (values, default) in options.items():
        if any(value != default for value in values):
            arguments.append(f"{name}={tuple_text(values)}")
    if call.groups > 1:
        arguments.append(f"groups={call.groups}")
    function = "conv_transpose" if call.transposed else "conv"
    return f"F.{function}{call.rank}d({', '.join(arguments)})"


def pad(x: str, *, pairs: Any, mode: str) -> str:
    if mode != "zeros":
        pairs = pairs[2:]
    amounts = [amount for pair in reversed(pairs) for amount in pair]
    how = "" if mode == "zeros" else f', mode="{MODES[mode]}"'
    return f"F.pad({x}, {tuple_text(amounts)}{how})"


SNIPPETS: dict[str, Callable[..., str]] = {
    "add": lambda a, b: f"{a} + {b}",
    "cast": lambda x, *, dtype: f"{x}.to(torch.{dtype})",
    "concat": lambda *parts, axis: f"torch.cat([{', '.join(parts)}], dim={axis})",
    "conv": conv,
    "flip": lambda x, *, axes: f"{x}.flip({tuple_text(axes)})",
    "input": lambda name, shape, dtype: f"{example_text(name, shape, 'torch')}.to(torch.{dtype})",
    "literal": lambda values, *, dtype: f"torch.tensor({values}, dtype=torch.{dtype})",
    "multiply": lambda a, b: f"{a} * {b}",
    "pad": pad,
    "permute": lambda x, *, axes: f"{x}.permute{tuple_text(axes)}",
    "reshape": lambda x, *, shape: f"{x}.reshape{tuple_text(shape)}",
    "slice": lambda x, *, index: f"{x}[{index_text(index)}]",
}
