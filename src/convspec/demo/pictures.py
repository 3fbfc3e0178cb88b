"""Pictures: each input beside what the filters make of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import package
from .runner import Outcome
from .signals import Signal

DPI = 130
GREY = "0.35"


def save(signal: Signal | None, outcomes: Sequence[Outcome], folder: Path) -> Path:
    """Save the picture of one input and all its outputs.

    Args:
        signal: what was filtered; None for the example worked by hand.
        outcomes: its convolutions, with at least one result each.
        folder: where it goes; made if need be.

    Returns:
        The path of the PNG.

    Raises:
        MissingPackageError: matplotlib is not installed.
        OSError: nothing can be written there.
    """
    matplotlib = package("matplotlib")
    figure_type = package("matplotlib.figure").Figure
    settings = {
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "agg.path.chunksize": 20000,  # long signals in pieces
        "text.parse_math": False,  # a file's name is no formula
    }
    with matplotlib.rc_context(settings):
        figure = figure_type(layout="constrained", dpi=DPI)
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
        if signal is None:
            title = _by_hand(figure, outcomes[0])
        elif signal.rank == 1:
            title = _signal(figure, signal, outcomes[0])
        elif signal.rank == 2:
            title = _image(figure, signal, outcomes)
        else:
            title = _volume(figure, signal, outcomes[0])
        figure.suptitle(title, fontsize=13, fontweight="bold")
        figure.supxlabel(_footer(outcomes), fontsize=8.5, color=GREY)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{'worked-by-hand' if signal is None else signal.stem}.png"
        with warnings.catch_warnings():  # letters of a file's name that the font lacks
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            figure.savefig(path)
    return path


def _footer(outcomes: Sequence[Outcome]) -> str:
    """Who computed this, and how well they agree."""
    results = [result for outcome in outcomes for result in outcome.results]
    wrong = sorted({result.backend for result in results if result.bad})
    right = sorted({result.backend for result in results} - set(wrong))
    text = f"Computed on {', '.join(right) or 'no backend'}"
    if right:
        off = max(result.difference for result in results if result.backend in right)
        text += f"; largest difference from the reference {off:.1e}" if off else ", without error"
    return text + (f".  WRONG OR FAILED on {', '.join(wrong)}." if wrong else ".")


def _limit(values: Any) -> float:
    """The end of a colour scale around zero, that few values exceed."""
    limit = float(np.percentile(np.abs(values), 99.5)) or float(np.abs(values).max())
    return limit or 1.0


def _signal(figure: Any, signal: Signal, outcome: Outcome) -> str:
    figure.set_size_inches(10, 6.5)
    axes = figure.subplots(3, 1, sharex=True)
    time = np.arange(signal.values.size) * signal.spacing[0]
    smooth, slope = outcome.wanted[0].T
    per = f" per {signal.unit}" if signal.unit else " per sample"
    lines = [
        ("input", signal.values, "0.25", signal.quantity),
        ("smoothed (Gaussian, 9 samples)", smooth, "tab:blue", signal.quantity),
        ("slope (derivative of a Gaussian, 9 samples)", slope, "tab:red", signal.quantity + per),
    ]
    for axis, (title, values, colour, label) in zip(axes, lines, strict=True):
        axis.plot(time, values, color=colour, linewidth=1.0)
        axis.set_title(title, loc="left")
        axis.set_ylabel(label, fontsize=9)
        axis.grid(alpha=0.3)
        axis.margins(x=0.01)
    axes[1].plot(time, signal.values, color="0.7", linewidth=0.7, zorder=1)
    axes[2].axhline(0, color="0.5", linewidth=0.8)
    axes[2].set_xlabel(f"time ({signal.unit})" if signal.unit else "sample")
    figure.align_ylabels(axes)
    return f"{signal.name}: smoothing and slope, one 1-D convolution with two filters"


def _image(figure: Any, signal: Signal, outcomes: Sequence[Outcome]) -> str:
    """The image, every output, and the strength of the last two taken together."""
    last = outcomes[-1].wanted[0]
    panels = [
        (f"{outcome.example.name.rpartition(', ')[2]}: {name}", outcome.wanted[0, :, :, i])
        for outcome in outcomes
        for i, name in enumerate(outcome.example.outputs)
    ]
    shape = signal.values.shape[0] / signal.values.shape[1]
    count = len(panels) + 2
    columns = 1 if shape < 0.25 else count // 2 if shape < 2 else count
    axes = _panels(figure, [shape] * (count // columns), columns)
    axes[0].imshow(_shown(signal.values), cmap=None if signal.colour else "gray")
    axes[0].set_title("input")
    for axis, (title, values) in zip(axes[1:], panels, strict=False):
        _edges(axis, values, _limit(values))
        axis.set_title(title if signal.colour else title.rpartition(": ")[2])
    strength = np.hypot(last[..., 0], last[..., 1])
    drawn = axes[-1].imshow(strength, cmap="magma", vmin=0, vmax=_limit(strength))
    _scale(axes[-1], drawn)
    axes[-1].set_title("stacked: edge strength" if signal.colour else "edge strength")
    for axis in axes:
        axis.set_xlabel("x (pixels)", fontsize=8)
        axis.set_ylabel("y (pixels)", fontsize=8)
    return f"{signal.name}: edge detectors of 3 x 3 pixels"


def _panels(figure: Any, shapes: list[float], columns: int) -> Any:
    """Axes in rows whose panels have these shapes (height by width)."""
    wide = 10.0 if columns == 1 else 4.8 if max(shapes) < 2 else 3.2
    tall = [min(max((wide - 1.2) * shape, 0.8), 7.0) + 0.75 for shape in shapes]
    figure.set_size_inches(wide * columns, sum(tall) + 0.7)
    axes = figure.subplots(len(shapes), columns, height_ratios=tall).ravel()
    for axis in axes:
        axis.tick_params(labelsize=8)
    return axes


def _edges(axis: Any, values: Any, limit: float, **more: Any) -> Any:
    """Draw what may be of either sign, white at zero."""
    drawn = axis.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, **more)
    return _scale(axis, drawn)


def _scale(axis: Any, drawn: Any) -> Any:
    """A colour bar as high as the image beside it."""
    bar = axis.figure.colorbar(drawn, cax=axis.inset_axes((1.03, 0.0, 0.04, 1.0)))
    bar.ax.tick_params(labelsize=8)
    return bar


def _shown(values: Any) -> Any:
    """A colour image with its values brought to 0 to 1, where they are not there already."""
    low, high = float(values.min()), float(values.max())
    if values.ndim == 2 or (low >= 0 and high <= 1):
        return values
    return (values - low) / ((high - low) or 1.0)


def _volume(figure: Any, signal: Signal, outcome: Outcome) -> str:
    """The middle slice and its slopes, and the gradient's size there and in the slice across."""
    slopes = outcome.wanted[0]
    strength = np.sqrt((slopes**2).sum(axis=-1))
    z, x = signal.values.shape[0] // 2, signal.values.shape[2] // 2
    d, h, w = ("up", "to the front", "to the right") if signal.anatomical else "DHW"
    pairs = zip((d, h, w), signal.values.shape, signal.spacing, strict=True)
    length = {name: n * step for name, n, step in pairs}
    unit = signal.unit or "voxels"
    per = f"{signal.quantity} per {signal.unit or 'voxel'}"
    limit, most = _limit(slopes), _limit(strength)
    flat, side = length[h] / length[w], length[d] / length[h]
    axes = _panels(figure, [max(flat, min(side, 1.5)), flat], 3)

    def place(axis: Any, title: str, across: str, up: str) -> dict[str, Any]:
        axis.set_title(title)
        axis.set_xlabel(f"{across} ({unit})", fontsize=8)
        axis.set_ylabel(f"{up} ({unit})", fontsize=8)
        if signal.anatomical:
            return {"origin": "lower", "extent": (0.0, length[across], 0.0, length[up])}
        return {"origin": "upper", "extent": (0.0, length[across], length[up], 0.0)}

    look = place(axes[0], f"input, slice {z + 1} of {len(slopes)}", w, h)
    bar = _scale(axes[0], axes[0].imshow(signal.values[z], cmap="gray", **look))
    bar.set_label(signal.quantity, fontsize=8)
    for axis, title, values, across, up in (
        (axes[1], "gradient magnitude", strength[z], w, h),
        (axes[2], "gradient magnitude, from the side", strength[:, :, x], h, d),
    ):
        look = place(axis, title, across, up)
        drawn = axis.imshow(values, cmap="magma", vmin=0, vmax=most, **look)
        _scale(axis, drawn).set_label(per, fontsize=8)
    for i, (axis, name) in enumerate(zip(axes[3:], (d, h, w), strict=True)):
        title = f"slope {name}" if signal.anatomical else f"slope along {name}"
        look = place(axis, title, w, h)
        _edges(axis, slopes[z, ..., i], limit, **look).set_label(per, fontsize=8)
    return f"{signal.name}: gradient by one 3-D convolution with three filters of 5 x 5 x 5 voxels"


def _by_hand(figure: Any, outcome: Outcome) -> str:
    """Every number of input, filter and output; rows are channels, columns are frames."""
    example = outcome.example
    x = example.x[0]  # D C H W
    weight = example.weight[0]  # D I H W
    y = outcome.wanted[0]  # D C H W
    figure.set_size_inches(14, 5.6)
    blocks = figure.subfigures(1, 3, width_ratios=[3 * 4, 2 * 3.6, 2 * 3.2])
    texts = ("input, N D C H W", "filter, O D I H W", "output, N D C H W")
    looks = (
        {"cmap": "Blues", "vmin": 0, "vmax": 160},
        {"cmap": "Oranges", "vmin": 0, "vmax": 2.5},
        {"cmap": "Greens", "vmin": 0, "vmax": 1200},
    )
    for block, array, text, look in zip(blocks, (x, weight, y), texts, looks, strict=True):
        shape = " x ".join(map(str, (1, *array.shape)))
        block.suptitle(f"{text}\n{shape}", fontsize=11)
        frames, channels = array.shape[:2]
        axes = block.subplots(channels, frames, squeeze=False)
        for channel, frame in np.ndindex(channels, frames):
            _numbers(axes[channel, frame], array[frame, channel], look)
            axes[channel, frame].set_title(f"frame {frame}, channel {channel}", fontsize=9)
    return "One filter over two frames and two channels, worked by hand"


def _numbers(axis: Any, plane: Any, look: dict[str, Any]) -> None:
    axis.imshow(plane, **look)
    axis.set_xticks([])
    axis.set_yticks([])
    for (i, j), value in np.ndenumerate(plane):
        axis.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=11)
