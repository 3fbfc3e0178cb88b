"""Arrays from file to file with their axes in another order, in tiles that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..copies import contiguous
from ..errors import LayoutError
from ..layouts import permutation
from . import blocked, stamp, watch
from .blocked import Blocked
from .errors import ConvertError
from .files import ARRAYS, Entry, Reader, chosen_format, create, open_file
from .files.nifti import NiftiReader
from .files.npy import NAME
from .files.protocol import blocks, native
from .output import check_target, whole

#: Called with (steps done, all steps, what was done last).
Progress = Callable[[int, int, str], None]
#: Bytes of one tile. Reading and writing each hold one.
TILE = 2**25


@dataclass(frozen=True)
class Converted:
    """What a conversion of an array did.

    Attributes:
        name: of the array in its file.
        source_shape: shape before.
        shape: shape of the written array.
        dtype: element type.
        padding: blocked axes that were padded: size before and after.
        verified: whether the file was read back and compared.
    """

    name: str
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    padding: dict[str, tuple[int, int]]
    verified: bool


def array(
    path: str | Path,
    out: str | Path,
    source: str | None = None,
    target: str | None = None,
    *,
    name: str | None = None,
    sizes: Mapping[str, int] | None = None,
    force: bool = False,
    in_place: bool = False,
    verify: bool = False,
    format: str | None = None,
    progress: Progress | None = None,
    tile: int = TILE,
) -> Converted:
    """Convert an array from one file and layout to another.

    Works in tiles, on arrays larger than memory too. The formats are ``.npy``, ``.npz``,
    ``.safetensors``, ``.h5``, ``.zarr``, ``.nii`` and ``.nii.gz``.

    Args:
        path: file to read.
        out: file to write; appears whole or not at all.
        source: axes of the array, as in ``"NDCHW"`` or, blocked, ``"NCHW16c"``. Of NIfTI files the
            first letter is x. Default: what the file says, if this library wrote it.
        target: axes of the result. Default: ``source``, for another format of file.
        name: which array, where a file holds several.
        sizes: sizes without padding of axes that are blocked in ``source``, as ``{"C": 30}``;
            default: what the file says, if this library wrote it, else padding is kept.
        force: overwrite ``out``.
        in_place: allow ``out`` to be ``path``.
        verify: read the result back and compare every element.
        format: format of ``out``; default: what its name says.
        progress: called after each tile with (tiles done, all tiles, what).
        tile: bytes of one tile.

    Raises:
        LayoutError: a layout is malformed, or does not fit the array or the other layout.
        ShapeError: ``sizes`` do not fit.
        ConvertError: a file cannot be read or written, or holds several arrays.
    """
    path, out = Path(path), Path(out)
    format = chosen_format(out, format)
    if format not in ARRAYS:
        raise ConvertError(f"{out}: {format} files hold no single arrays; write {ARRAYS[0]}.")
    check_target(out, (path,), force=force, in_place=in_place)
    before = watch.state(path)
    with open_file(path) as reader:
        name = chosen(reader, name)
        told = stamp.from_text(path, reader.stamp).get("arrays", {}).get(name, {})
        source = source or told.get("layout")
        if source is None:
            raise LayoutError(f"source: {path} does not say its layout; pass it (--from NCHW).")
        if sizes is None and told.get("layout") == source:
            sizes = told.get("sizes")
        plain = Plain(reader.open(name), blocked.parse(source, "source"), sizes)
        into = blocked.parse(target or source, "target")
        permutation(plain.layout.axes, into.axes)  # the same axes, or an error
        entry = Entry(into.shape(plain.sizes), native(reader.entries[name].dtype))
        label = name if format not in ("npy", "nifti") else NAME
        text = stamp.to_text({"arrays": {label: {"layout": into.text, "sizes": plain.sizes}}})
        with whole(out) as temporary:
            options = _options(out, format, reader, plain, into)
            writer = create(temporary, format, {label: entry}, text, **options)
            try:
                steps = list(tiles(plain, into, entry.dtype.itemsize, tile, writer.in_order))
                for i, region in enumerate(steps, 1):
                    index, block = _tile(plain, into, region)
                    writer.write(label, index, block)
                    if progress is not None:
                        progress(i, len(steps), f"{out.name} {entry.shape}")
                writer.finish()
            finally:
                writer.close()
            if verify:
                _verify(out, (temporary, format), label, plain, into, steps)
            watch.check(path, before)
        return Converted(
            label,
            tuple(plain.array.shape),
            entry.shape,
            entry.dtype.name,
            into.padding(plain.sizes),
            verify,
        )


class Plain:
    """An array, blocked or not, as one that can be read by ranges of its axes.

    Attributes:
        array: what is in the file.
        layout: its layout.
        sizes: sizes of its axes, by letter, without padding.
    """

    def __init__(self, array: Any, layout: Blocked, sizes: Mapping[str, int] | None) -> None:
        self.array, self.layout = array, layout
        self.sizes = blocked.true_sizes(layout, layout.sizes(array.shape), sizes)

    def read(self, region: Mapping[str, tuple[int, int]]) -> np.ndarray[Any, Any]:
        """The elements in a range of each axis, axes in the order ``layout.axes``."""
        outer, inner = [], []
        for letter in self.layout.axes:
            step = self.layout.block(letter)
            lo, hi = region[letter]
            outer.append(slice(lo // step, -(-hi // step)))
            inner.append(slice(lo % step, lo % step + hi - lo))
        found = self.array[(*outer, *((slice(None),) * len(self.layout.inner)))]
        return blocked.unpack(found, self.layout)[tuple(inner)]


Region = dict[str, tuple[int, int]]


def tiles(
    plain: Plain, into: Blocked, itemsize: int, limit: int, in_order: bool
) -> Iterator[Region]:
    """Ranges of all axes that together make the array, each of about ``limit`` bytes.

    Tiles are long where the source is contiguous and where the target is; ``in_order`` asks for
    tiles that are contiguous in the target, one after the other.
    """
    steps = {letter: into.block(letter) for letter in into.axes}
    shape = into.shape(plain.sizes)[: len(into.axes)]
    unit = prod(steps.values()) * itemsize
    if 0 in shape:  # one tile without elements
        yield {letter: (0, n) for letter, n in plain.sizes.items()}
        return
    if in_order:
        for index in blocks(shape, unit, limit):
            yield _region(plain.sizes, steps, index, into.axes)
        return
    counts = dict(zip(into.axes, shape, strict=True))
    lengths = dict(counts)
    turn = 0
    while prod(lengths.values()) * unit > limit and max(lengths.values()) > 1:
        # Halve the outermost axis of the source, then of the target, and so on.
        order = (plain.layout.axes, into.axes)[turn % 2]
        letter = next(letter for letter in order if lengths[letter] > 1)
        lengths[letter] = -(-lengths[letter] // 2)
        turn += 1
    grid = [range(0, counts[letter], lengths[letter]) for letter in into.axes]
    for corner in np.ndindex(*map(len, grid)):
        index = tuple(
            slice(axis[i], min(axis[i] + lengths[letter], counts[letter]))
            for letter, axis, i in zip(into.axes, grid, corner, strict=True)
        )
        yield _region(plain.sizes, steps, index, into.axes)


def _region(
    sizes: Mapping[str, int], steps: Mapping[str, int], index: tuple[slice, ...], axes: str
) -> Region:
    """Ranges of elements from ranges of blocks."""
    region = {}
    for letter, part in zip(axes, index, strict=True):
        start = 0 if part.start is None else part.start * steps[letter]
        stop = sizes[letter] if part.stop is None else part.stop * steps[letter]
        region[letter] = start, min(stop, sizes[letter])
    return region


def _tile(plain: Plain, into: Blocked, region: Region) -> tuple[tuple[slice, ...], Any]:
    """Where a tile goes, and the tile."""
    axes = permutation(plain.layout.axes, into.axes)
    block = blocked.pack(plain.read(region).transpose(axes), into)
    index = []
    for letter in into.axes:
        step = into.block(letter)
        lo, hi = region[letter]
        index.append(slice(lo // step, -(-hi // step)))
    return (*index, *((slice(None),) * len(into.inner))), contiguous(block)


def chosen(reader: Reader, name: str | None) -> str:
    if name is None and len(reader.entries) == 1:
        return next(iter(reader.entries))
    if name not in reader.entries:
        held = ", ".join(list(reader.entries)[:10]) or "none"
        given = "holds several arrays" if name is None else f"holds no array {name!r}"
        raise ConvertError(f"{reader.path}: {given}; pass name= (--name), one of: {held}.")
    return name


def _options(out: Path, format: str, reader: Reader, plain: Plain, into: Blocked) -> dict[str, Any]:
    """What a NIfTI file wants besides: whether it is compressed, and where its voxels lie."""
    if format != "nifti":
        return {}
    options: dict[str, Any] = {"compressed": out.name.lower().endswith(".gz")}
    if isinstance(reader, NiftiReader):
        before, after = plain.layout.axes[:3], into.axes[:3]
        if set(before) != set(after) or into.inner:
            raise ConvertError(
                f"{out}: NIfTI's first three axes are the spatial ones, {before!r}; {into.text!r} "
                f"moves one of them away.\n  Write .npy or another format."
            )
        columns = [before.index(letter) for letter in after]
        options["affine"] = reader.affine[:, [*columns, *range(len(before), 4)]]
    return options


def _verify(
    out: Path,
    named: tuple[Path, str],
    label: str,
    plain: Plain,
    into: Blocked,
    steps: list[Region],
) -> None:
    """Every element of the written file is the one it was made of.

    Raises:
        ConvertError: one is not.
    """
    with open_file(*named) as written:
        back = Plain(written.open(label), into, plain.sizes)
        axes = permutation(plain.layout.axes, into.axes)
        for region in steps:
            expected = plain.read(region).transpose(axes)
            if not same_bits(back.read(region), expected):
                raise ConvertError(f"{out}: was written, but reads back differently at {region}.")


def same_bits(a: Any, b: Any) -> bool:
    """Bit for bit, NaN included."""
    a = np.ascontiguousarray(a)
    b = np.ascontiguousarray(b, a.dtype)
    return a.shape == b.shape and bool(
        np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8))
    )
