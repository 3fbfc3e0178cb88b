"""The same operations as a person would write them in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convspec.plan import Call
from convspec.snippets import example_text, index_text, tuple_text

from ._arrays import MODES

#: einsum's letters for positions and taps; n, c and o, i and g are taken.
SPACE, TAPS = "defhjklmabqrstuvwxyzp", "DEFHJKLMABQRSTUVWXYZP"

#: NumPy has no transposed convolution to call, so a snippet brings one along.
TRANSPOSED = '''
def conv_transpose(x, w, stride, dilation, groups):
    """x (N, space, C), w (space, I, O) with the groups on O -> (N, space, O), nothing cropped."""
    kernel, (per_group, out_channels) = w.shape[:-2], w.shape[-2:]
    size = [(n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip(x.shape[1:-1], stride, dilation, kernel)]
    y = np.zeros((len(x), *size, out_channels), x.dtype)
    x = x.reshape(*x.shape[:-1], groups, per_group)
    w = w.reshape(*kernel, per_group, groups, -1)
    for tap in np.ndindex(*kernel):
        part = np.einsum("...gi,igo->...go", x, w[tap])
        to = [slice(k * d, k * d + (n - 1) * s + 1, s)
              for k, d, n, s in zip(tap, dilation, x.shape[1:-2], stride)]
        y[(slice(None), *to)] += part.reshape(*part.shape[:-2], out_channels)
    return y
'''


def prologue(calls: Sequence[Call], dtypes: set[str]) -> str:
    lines = "import numpy as np"
    if "bfloat16" in dtypes:
        lines = f"import ml_dtypes  # NumPy's bfloat16\n{lines}"
    if any(not call.transposed for call in calls):
        lines += "\nfrom numpy.lib.stride_tricks import sliding_window_view"
    if any(call.transposed for call in calls):
        lines += "\n" + TRANSPOSED
    return lines.rstrip()


def array(name: str, shape: Any, dtype: str) -> str:
    return f'{example_text(name, shape, "np")}.astype("{dtype}")'


def conv(x: str, w: str, *, call: Call) -> str:
    if call.transposed:
        return (
            f"conv_transpose({x}, {w}, stride={tuple_text(call.stride)}, "
            f"dilation={tuple_text(call.dilation)}, groups={call.groups})"
        )
    space, taps = SPACE[: call.rank], TAPS[: call.rank]
    axes = tuple(range(1, call.rank + 1))
    windows = f"sliding_window_view({x}, {tuple_text(call.extents)}, axis={tuple_text(axes)})"
    if any(step != 1 for step in (*call.stride, *call.dilation)):
        steps = [_step(s) for s in call.stride]
        inner = [_step(d) for d in call.dilation]
        windows += f"[{', '.join([':', *steps, ':', *inner])}]"
    if call.groups == 1:
        return f'np.einsum("n{space}i{taps},{taps}io->n{space}o", {windows}, {w}, optimize=True)'
    g = call.groups
    sizes = ", ".join(map(str, (*call.output_size, g, call.in_channels // g, *call.kernel_size)))
    windows = f"{windows}.reshape(len({x}), {sizes})"
    kernel = ", ".join(map(str, (*call.kernel_size, call.in_channels // g, g)))
    product = f'"n{space}gi{taps},{taps}igo->n{space}go"'
    result = ", ".join(map(str, (*call.output_size, call.out_channels)))
    return (
        f"np.einsum({product}, {windows}, {w}.reshape({kernel}, -1), optimize=True)"
        f".reshape(len({x}), {result})"
    )


def _step(step: int) -> str:
    return ":" if step == 1 else f"::{step}"


def pad(x: str, *, pairs: Any, mode: str) -> str:
    how = "" if mode == "zeros" else f', mode="{MODES[mode]}"'
    return f"np.pad({x}, {tuple_text(pairs)}{how})"


SNIPPETS: dict[str, Callable[..., str]] = {
    "add": lambda a, b: f"{a} + {b}",
    "cast": lambda x, *, dtype: f'{x}.astype("{dtype}")',
    "concat": lambda *parts, axis: f"np.concatenate([{', '.join(parts)}], axis={axis})",
    "conv": conv,
    "flip": lambda x, *, axes: f"np.flip({x}, {tuple_text(axes)})",
    "input": array,
    "literal": lambda values, *, dtype: f'np.array({values}, dtype="{dtype}")',
    "multiply": lambda a, b: f"{a} * {b}",
    "pad": pad,
    "permute": lambda x, *, axes: f"{x}.transpose{tuple_text(axes)}",
    "reshape": lambda x, *, shape: f"{x}.reshape{tuple_text(shape)}",
    "slice": lambda x, *, index: f"{x}[{index_text(index)}]",
}
