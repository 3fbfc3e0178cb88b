"""Real inputs: an ECG, a photograph and an MRI volume, each out of an installed package."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DemoError, MissingPackageError, package

Floats = np.ndarray[Any, np.dtype[np.float32]]

#: Samples a second of the ECG in PyWavelets.
ECG_RATE = 360


@dataclass(frozen=True)
class Signal:
    """Something to filter.

    Attributes:
        name: what it is, for tables and titles.
        stem: name of its picture, without a suffix.
        values: float32 of shape (W,), (H, W), (H, W, 3) or (D, H, W).
        spacing: distance between neighbours along each spatial axis.
        unit: what ``spacing`` is measured in; empty where positions are just counted.
        quantity: what the values are.
        anatomical: whether the axes D, H, W point up, to the front and to the right.
    """

    name: str
    stem: str
    values: Floats
    spacing: tuple[float, ...]
    unit: str = ""
    quantity: str = "value"
    anatomical: bool = False

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.spacing)

    @property
    def colour(self) -> bool:
        """Whether the last axis holds red, green and blue."""
        return self.values.ndim > self.rank


def ecg() -> Signal:
    """2.8 seconds of an electrocardiogram, from PyWavelets.

    Raises:
        MissingPackageError: PyWavelets is not installed.
    """
    values = package("pywt").data.ecg().astype(np.float32)
    return Signal("ECG", "ecg", values, (1 / ECG_RATE,), "s", "ADC counts")


def photograph() -> Signal:
    """The astronaut Eileen Collins, 512 x 512, from scikit-image; nothing is downloaded.

    Raises:
        MissingPackageError: scikit-image or Pillow is not installed.
        DemoError: scikit-image came without the picture.
    """
    from .files import image

    values = image(_shipped("skimage", "data/astronaut.png"))
    return Signal("Photograph", "photograph", values, (1.0, 1.0))


def volume() -> Signal:
    """An MRI of a head, 24 slices of 96 x 128, from nibabel's test data.

    Raises:
        MissingPackageError: nibabel is not installed.
        DemoError: nibabel came without its test data.
    """
    from .files import nifti

    values, spacing, unit = nifti(_shipped("nibabel", "tests/data/example4d.nii.gz"))
    return Signal("MRI volume", "mri", values, spacing, unit, "intensity", anatomical=True)


#: What runs when the user gives no file.
BUILT_IN: tuple[Callable[[], Signal], ...] = (ecg, photograph, volume)


def _shipped(name: str, path: str) -> Path:
    """A file inside an installed package, which is not imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise MissingPackageError([name])
    file = Path(next(iter(found.submodule_search_locations))) / path
    if not file.is_file():
        raise DemoError(f"this {name} came without {path}; the wheel on PyPI has it.")
    return file
