"""The user's own file as a signal: what it holds is told by its suffix and its number of axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..tables import one_line
from .errors import FileError, MissingPackageError, package
from .filters import SMALLEST
from .signals import Floats, Signal

SUFFIXES = (".npy", ".png", ".jpg", ".jpeg", ".nii", ".nii.gz")

#: Most positions that are filtered: the reference takes seconds for as many. Larger inputs are
#: cut down to their middle.
LARGEST = 2**21


def read(path: Path) -> Signal:
    """The signal in a file.

    Args:
        path: a ``.npy`` array of shape (W,), (H, W), (H, W, 3) or (D, H, W); a ``.png`` or
            ``.jpg`` image; a ``.nii`` or ``.nii.gz`` volume, of which the first is taken.

    Raises:
        FileError: the file is missing, unreadable, empty, too small, of another kind, or holds
            anything but finite real numbers.
        MissingPackageError: the package that reads this kind is not installed.
    """
    name = path.name.encode("utf-8", "replace").decode("utf-8")
    lower = name.lower()
    suffix = next((s for s in reversed(SUFFIXES) if lower.endswith(s)), "")
    if not suffix:
        raise FileError(f"{name}: cannot tell what this is; known are {' '.join(SUFFIXES)}.")
    spacing: tuple[float, ...] | None = None
    unit, anatomical = "", False
    try:
        with path.open("rb") as stream:  # a missing file or a folder in the system's words
            start = stream.read(6)
        if not start:
            raise FileError(f"{name}: the file is empty.")
        if suffix == ".npy":
            values = _numbers(name, _array(name, path, start))
        elif suffix.startswith(".nii"):
            values, spacing, unit = nifti(path)
            anatomical = True
        else:
            values = image(path)
    except (FileError, MissingPackageError):
        raise
    except OSError as error:
        raise FileError(f"{name}: {error.strerror or one_line(error).rstrip('.')}.") from None
    except Exception as error:  # three readers' own ways to say that a file is broken
        raise FileError(
            f"{name}: is no readable {suffix} file: {one_line(error).rstrip('.')}."
        ) from None
    rank = _rank(name, values)
    values = _middle(whole := _checked(name, values, rank), rank)
    # Not the file's own name, which would overwrite an image in the folder of the pictures.
    stem = f"{name[: -len(suffix)]}-filtered"
    if values is not whole:
        name += f", middle {'x'.join(map(str, values.shape[:rank]))}"
    return Signal(name, stem, values, spacing or (1.0,) * rank, unit, "value", anatomical)


def _array(name: str, path: Path, start: bytes) -> Any:
    if start != b"\x93NUMPY":  # numpy.load takes other kinds of file too
        raise FileError(f"{name}: is no .npy file; numpy.save writes one.")
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise FileError(f"{name}: holds Python objects, the demo filters numbers.") from None
        raise


def image(path: Path) -> Floats:
    """An image file as float32 from 0 to 1, of shape (H, W) or (H, W, 3); transparency is dropped.

    Raises:
        MissingPackageError: Pillow is not installed.
        OSError: the file is unreadable.
    """
    pillow, operations = package("PIL.Image"), package("PIL.ImageOps")
    with pillow.open(path) as opened:
        picture = operations.exif_transpose(opened)
        if picture.mode.startswith(("I", "F")):  # 16 bits or more in one channel
            values = np.asarray(picture, np.float32)
            return np.asarray(values / np.float32(max(float(values.max(initial=0)), 1.0)))
        grey = picture.mode in ("1", "L", "LA", "La")
        values = np.asarray(picture.convert("L" if grey else "RGB"), np.float32)
    return np.asarray(values / np.float32(255))


def nifti(path: Path) -> tuple[Floats, tuple[float, ...], str]:
    """The first volume of a NIfTI file as (D, H, W): to the top, to the front, to the right.

    Returns:
        The values, the distance between voxels along each axis, and its unit.

    Raises:
        MissingPackageError: nibabel is not installed.
        FileError: the file holds no volume of real numbers.
    """
    nibabel = package("nibabel")
    opened = nibabel.as_closest_canonical(nibabel.load(path))
    data = opened.dataobj
    if len(data.shape) < 3 or 0 in data.shape:
        raise FileError(f"{path.name}: has shape {tuple(data.shape)}, which is no volume.")
    values = _numbers(path.name, np.asanyarray(data[(..., *[0] * (len(data.shape) - 3))]))
    steps = tuple(float(step) for step in opened.header.get_zooms()[:3])
    unit = str(opened.header.get_xyzt_units()[0])
    if not all(np.isfinite(steps)) or min(steps) <= 0:
        steps, unit = (1.0, 1.0, 1.0), ""
    return values.transpose(2, 1, 0), steps[::-1], "mm" if unit == "unknown" else unit


def _numbers(name: str, values: np.ndarray[Any, Any]) -> Floats:
    """An array as float32; bools and integers are numbers too."""
    if values.dtype.kind not in "buif":
        raise FileError(f"{name}: holds {values.dtype}, the demo filters real numbers.")
    with np.errstate(over="ignore"):  # what does not fit is told as infinite
        return values.astype(np.float32)


def _rank(name: str, values: Floats) -> int:
    """Number of spatial axes; a last axis of 3 beside two others holds colours."""
    if not 1 <= values.ndim <= 3:
        raise FileError(
            f"{name}: has shape {values.shape}; "
            f"the demo takes (W,), (H, W), (H, W, 3) or (D, H, W)."
        )
    return 2 if values.ndim == 3 and values.shape[2] == 3 else values.ndim


def _checked(name: str, values: Floats, rank: int) -> Floats:
    """Values that every filter can take."""
    if values.size == 0:
        raise FileError(f"{name}: has shape {values.shape}, which holds no values.")
    least = SMALLEST[rank]
    if min(values.shape[:rank]) < least:
        hint = ""
        if rank == 3 and min(values.shape[0], values.shape[2]) in (1, 3, 4):
            hint = " An image is (H, W) or (H, W, 3)."
        raise FileError(
            f"{name}: has shape {values.shape}, too small for filters of size {least}.{hint}"
        )
    wrong = int(np.count_nonzero(~(np.abs(values) <= np.finfo(np.float32).max / 1024)))
    if wrong:
        raise FileError(
            f"{name}: {wrong} of {values.size} values are NaN, infinite or too large for float32."
        )
    return values


def _middle(values: Floats, rank: int) -> Floats:
    """The middle of an input with more than :data:`LARGEST` positions."""
    space = values.shape[:rank]
    positions = float(np.prod(space, dtype=np.float64))
    if positions <= LARGEST:
        return values
    keep = [max(int(n * (LARGEST / positions) ** (1 / rank)), SMALLEST[rank]) for n in space]
    cut = [slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(space, keep, strict=True)]
    return np.ascontiguousarray(values[tuple(cut)])
