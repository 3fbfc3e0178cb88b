"""The filters, and the convolutions that apply them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..spec import ConvSpec
from .signals import Floats, Signal

#: Edge from bright on the left to dark on the right, and from bright above to dark below.
VERTICAL = np.array([[1, 0, -1]] * 3, np.float32)
HORIZONTAL = VERTICAL.T

#: Shortest axis that the filters for each rank fit into.
SMALLEST = {1: 9, 2: 3, 3: 5}


@dataclass(frozen=True)
class Example:
    """One convolution of one input, in the orders that read best.

    Attributes:
        name: what it is, for the table.
        spec: the convolution, without a bias.
        x: float32 in ``spec.layout``.
        weight: float32 in ``spec.weight_layout``.
        outputs: what each output channel holds.
        expected: the exact result in ``spec.output_layout``, where numbers are small integers;
            None where only a bound on the error is known.
    """

    name: str
    spec: ConvSpec
    x: Floats
    weight: Floats
    outputs: tuple[str, ...]
    expected: Floats | None = None


def examples(signal: Signal) -> list[Example]:
    """The convolutions that suit a signal."""
    if signal.rank == 1:
        return [_smoothing_and_slope(signal)]
    if signal.rank == 3:
        return [_gradient(signal)]
    return _edges(signal)


def _gaussian(size: int, sigma: float) -> tuple[Any, Any]:
    """A smoothing kernel, and the one for the slope of the smoothed signal, per sample."""
    t = np.arange(size) - size // 2
    smooth = np.exp(-0.5 * (t / sigma) ** 2)
    smooth /= smooth.sum()
    slope = t * smooth
    return smooth, slope / (t * slope).sum()


def _smoothing_and_slope(signal: Signal) -> Example:
    smooth, slope = _gaussian(SMALLEST[1], 2.0)
    weight = np.stack([smooth, slope / signal.spacing[0]])[:, None]
    return Example(
        signal.name,
        ConvSpec(
            1,
            2,
            (SMALLEST[1],),
            padding="same",
            bias=False,
            padding_mode="replicate",
            layout="NWC",
            weight_layout="OIW",
        ),
        signal.values[None, :, None],
        weight.astype(np.float32),
        ("smoothed", "slope"),
    )


def _edges(signal: Signal) -> list[Example]:
    """Edge detectors: one filter has one plane for each colour of the image."""
    none = np.zeros_like(VERTICAL)
    both = ("vertical edges", "horizontal edges")
    planes: dict[str, tuple[Any, tuple[str, ...]]]
    if not signal.colour:
        planes = {"vertical and horizontal": ([[VERTICAL], [HORIZONTAL]], both)}
    else:
        planes = {
            "R only": ([[VERTICAL, none, none]], ("vertical edges in R",)),
            "all channels": ([[VERTICAL] * 3], ("vertical edges in R + G + B",)),
            "stacked": ([[VERTICAL] * 3, [HORIZONTAL] * 3], both),
        }
    x = signal.values if signal.colour else signal.values[:, :, None]
    found = []
    for name, (filters, outputs) in planes.items():
        spec = ConvSpec(
            x.shape[2], len(filters), (3, 3), bias=False, layout="NHWC", weight_layout="OIHW"
        )
        weight = np.array(filters, np.float32)
        found.append(Example(f"{signal.name}, {name}", spec, x[None], weight, outputs))
    return found


def _gradient(signal: Signal) -> Example:
    """The slope along each axis, smoothed along the two others."""
    smooth, slope = _gaussian(SMALLEST[3], 1.0)
    filters = []
    for axis, step in enumerate(signal.spacing):
        along = [slope / step if i == axis else smooth for i in range(3)]
        filters.append(np.einsum("d,h,w->dhw", *along))
    return Example(
        signal.name,
        ConvSpec(
            1,
            3,
            (SMALLEST[3],) * 3,
            padding="same",
            bias=False,
            padding_mode="replicate",
            layout="NDHWC",
            weight_layout="OIDHW",
        ),
        signal.values[None, ..., None],
        np.stack(filters)[:, None].astype(np.float32),
        ("slope along D", "slope along H", "slope along W"),
    )


def by_hand() -> Example:
    """Three frames of two channels, one filter of two frames, and a result done on paper."""
    planes = (
        "100 010 100",  # frame 0: both channels
        "010 001 000",
        "110 000 010",  # frame 1
        "011 010 000",
    )
    weight = np.array([float(digit) for plane in planes for digit in plane if digit != " "])
    expected = [321, 332, 365, 376, 673, 684, 717, 728]
    return Example(
        "worked by hand",
        ConvSpec(2, 1, (2, 3, 3), bias=False, layout="NDCHW", weight_layout="ODIHW"),
        np.linspace(1, 96, 96, dtype=np.float32).reshape(1, 3, 2, 4, 4),
        weight.astype(np.float32).reshape(1, 2, 2, 3, 3),
        ("output",),
        np.array(expected, np.float32).reshape(1, 2, 1, 2, 2),
    )
