"""The same operations as a person would write them in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    axes = tuple(call.x_layout.index(letter) for letter in call.spatial)
    windows = f"sliding_window_view({x}, {tuple_text(call.extents)}, axis={tuple_text(axes)})"
    if any(step != 1 for step in (*call.stride, *call.dilation)):
        steps = [":"] * len(call.x_layout)
        for axis, s in zip(axes, call.stride, strict=True):
            steps[axis] = _step(s)
        windows += f"[{', '.join([*steps, *map(_step, call.dilation)])}]"
    g = call.groups
    split = "g" if g > 1 else ""
    positions = {"N": "n", **dict(zip(call.spatial, space, strict=True))}
    x_axes = _axes(call.x_layout, {**positions, "C": f"{split}i"}) + taps
    w_axes = {"I": "i", "O": f"{split}o", **dict(zip(call.spatial, taps, strict=True))}
    y_axes = _axes(call.y_layout, {**positions, "C": f"{split}o"})
    product = f'"{x_axes},{_axes(call.w_layout, w_axes)}->{y_axes}"'
    if g == 1:
        return f"np.einsum({product}, {windows}, {w}, optimize=True)"
    sizes: dict[str, tuple[str, ...]] = {"N": (f"len({x})",)}
    sizes.update({c: (str(n),) for c, n in zip(call.spatial, call.output_size, strict=True)})
    taken: dict[str, tuple[str, ...]] = {
        c: (str(n),) for c, n in zip(call.spatial, call.kernel_size, strict=True)
    }
    taken |= {"I": (str(call.in_channels // g),), "O": (str(g), str(call.out_channels // g))}
    windows += f".reshape({_sizes(call.x_layout, {**sizes, 'C': (str(g), taken['I'][0])})}, "
    windows += f"{', '.join(map(str, call.kernel_size))})"
    result = _sizes(call.y_layout, {**sizes, "C": (str(call.out_channels),)})
    return (
        f"np.einsum({product}, {windows}, {w}.reshape({_sizes(call.w_layout, taken)}), "
        f"optimize=True).reshape({result})"
    )


def _axes(layout: str, names: Mapping[str, str]) -> str:
    return "".join(names[letter] for letter in layout)


def _sizes(layout: str, sizes: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(size for letter in layout for size in sizes[letter])


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
