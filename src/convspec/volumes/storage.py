"""The volume that is read and the one that is written, by letters of axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import shown
from ..convert import stamp
from ..convert.arrays import chosen
from ..convert.errors import ConvertError
from ..convert.files import Entry, Reader, Writer, create
from ..convert.files.nifti import NiftiReader
from ..convert.files.npy import NAME
from ..convert.files.zarr import ZarrReader
from ..dtypes import check_out, name_of, numpy_dtype
from ..errors import DTypeError, LayoutError
from ..layouts import check_data_layout, permutation
from ..problem import Problem
from ..tiles import Range
from . import slabs

Array = np.ndarray[Any, Any]
#: Formats that can be read in parts, and those that can be written in parts in any order.
READ = ("npy", "zarr", "nifti", "hdf5", "safetensors")
WRITTEN = ("npy", "zarr", "nifti")


@dataclass(frozen=True)
class Source:
    """An array in a file, some axes of the spec's layout perhaps left out, being of size 1.

    Attributes:
        path, name: the file, and which array of it.
        letters: of the array's axes, in the file's order.
        layout: of the first spec.
        shape: in ``layout``.
        dtype: name of the element type.
        fill: whether chunks that are not there are taken for the store's fill value.
        beside: bytes that reading takes besides, for a decoded chunk.
    """

    path: Path
    name: str
    letters: str
    layout: str
    shape: tuple[int, ...]
    dtype: str
    fill: bool
    beside: int

    def read(self, reader: Reader, need: slabs.Need, dtype: Any) -> tuple[Array, int]:
        """What is needed, in ``layout``, and how many bytes of the file's array it took.

        Raises:
            ConvertError: the file is damaged there, or a chunk is not there.
        """
        found = np.empty(slabs.shape(need, self.layout), dtype)
        kept = "".join(c for c in self.layout if c in self.letters)
        view = found[tuple(slice(None) if c in self.letters else 0 for c in self.layout)]
        view = view.transpose(permutation(kept, self.letters))
        taken = 0
        for box in product(*(need[c] for c in self.letters)):
            index = tuple(slice(*ends) for ends in box)
            if not self.fill:
                self._check_chunks(reader, index)
            part = reader.open(self.name)[index]
            where = (
                slice(*slabs.within(need[c], *ends))
                for c, ends in zip(self.letters, box, strict=True)
            )
            view[tuple(where)] = part
            taken += part.nbytes
        return found, taken

    def _check_chunks(self, reader: Reader, index: tuple[slice, ...]) -> None:
        lost = reader.missing(self.name, index)
        if lost:
            raise ConvertError(
                f"{self.path}: chunk {lost[0]} is not there"
                + (f", nor are {len(lost) - 1} others that this tile reads" if lost[1:] else "")
                + ".\n  Copy the folder anew; or, if that is its way to keep nothing but the fill "
                "value, pass fill=True (--fill)."
            )


def source(
    reader: Reader,
    layout: str,
    channels: int,
    *,
    letters: str | None = None,
    name: str | None = None,
    fill: bool = False,
) -> Source:
    """The array of an open file that a chain reads.

    Args:
        reader: the file.
        layout: of the first spec.
        channels: of the first spec.
        letters: the array's axes; default: what the file says, if this library wrote it, or the
            layout, without N and without C (of one channel) if the array has fewer axes.
        name: which array, where the file holds several.
        fill: see :class:`Source`.

    Raises:
        ConvertError: a format that cannot be read in parts, or several arrays.
        LayoutError: axes that do not fit, or could be either of two.
    """
    if reader.format not in READ:
        raise ConvertError(
            f"{reader.path}: {reader.format} files cannot be read in parts; write .npy or .zarr "
            f"with 'convspec convert array'."
        )
    name = chosen(reader, name)
    entry = reader.entries[name]
    if letters is None:
        told = stamp.from_text(reader.path, reader.stamp).get("arrays", {}).get(name, {})
        letters = told.get("layout") if str(told.get("layout")).isalpha() else None
    letters = _letters(letters, entry.shape, layout, channels)
    sizes = dict(zip(letters, entry.shape, strict=True))
    beside = 2 * reader.chunk_bytes(name) if isinstance(reader, ZarrReader) else 0
    shape = tuple(sizes.get(letter, 1) for letter in layout)
    kind = entry.dtype if entry.dtype != bool else np.uint8  # a mask is 0 and 1
    dtype = name_of(kind, f"{reader.path}: dtype")
    return Source(reader.path, name, letters, layout, shape, dtype, fill, beside)


def _letters(given: str | None, shape: Sequence[int], layout: str, channels: int) -> str:
    """The letters of the axes of an array of that shape."""
    if given is not None:
        optional = {"N"} | ({"C"} if channels == 1 else set())
        letters = given if isinstance(given, str) else ""
        fits = len(set(letters)) == len(letters) and set(letters) <= set(layout)
        if not fits or not set(layout) - optional <= set(letters):
            raise LayoutError(
                f"source_layout: expected the axes of {layout!r} in any order"
                f"{', N or C left out if they have one element' if channels == 1 else ''}, got "
                f"{shown(given)}."
            )
        if len(letters) != len(shape):
            raise LayoutError(
                f"source_layout: {letters!r} names {len(letters)} axes, but the volume has "
                f"{len(shape)}: shape {tuple(shape)}."
            )
        return letters
    without = [layout, layout.replace("N", "")]
    if channels == 1:
        without += [text.replace("C", "") for text in without]
    able = sorted({text for text in without if len(text) == len(shape)})
    if len(able) != 1:
        raise LayoutError(
            f"source_layout: the volume has shape {tuple(shape)}, the first spec the layout "
            f"{layout!r}"
            + (f"; its axes could be {' or '.join(able)}" if able else "")
            + ".\n  Say what its axes are, as in source_layout='DHW' (--from DHW)."
        )
    return able[0]


def check_types(read: str, dtype: str, *, told: bool) -> None:
    """Numbers of the volume can be computed with in ``dtype``.

    Raises:
        DTypeError: they would lose something, and nobody has ``told`` to convert them.
    """
    if told:
        check_out(read, dtype)
    elif not np.can_cast(numpy_dtype(read), numpy_dtype(dtype), "safe"):
        raise DTypeError(
            f"volume: is {read}, the weights are {dtype}, which does not hold every {read}.\n"
            f"  If that is meant, say what to compute in: dtype={dtype!r} (--dtype {dtype})."
        )


@dataclass(frozen=True)
class Target:
    """An array that is written in parts, some axes of size 1 perhaps left out.

    Attributes:
        path: where it is written to until it is whole.
        format: of the file.
        entry: shape and type in the file.
        letters: of its axes, in the file's order.
        layout: of the last spec's output.
        stamp: what the file says of itself.
        options: of the format.
    """

    path: Path
    format: str
    entry: Entry
    letters: str
    layout: str
    stamp: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def create(self, chunks: tuple[int, ...]) -> None:
        """A file or store without content, of chunks of this size if it has any.

        Raises:
            ConvertError: the format cannot hold the array.
            OSError: there is no room for it.
        """
        options = {**self.options, **({"chunks": chunks} if self.format == "zarr" else {})}
        create(self.path, self.format, {NAME: self.entry}, self.stamp, **options)

    def reopen(self) -> Writer:
        """The file that :meth:`create` made.

        Raises:
            ConvertError: it is not there, or something else is.
        """
        try:
            options = {**self.options, "keep": True}
            return create(self.path, self.format, {NAME: self.entry}, self.stamp, **options)
        except OSError as error:
            raise ConvertError(f"{self.path}: cannot be opened: {error.strerror}.") from error

    def index(self, output: Sequence[Range]) -> tuple[slice, ...]:
        """Where a box of the result, in ``layout``, lies in the file."""
        ends = dict(zip(self.layout, output, strict=True))
        return tuple(slice(*ends[letter]) for letter in self.letters)

    def write(self, writer: Writer, output: Sequence[Range], block: Array) -> None:
        """A box of the result, on the disk when this returns."""
        kept = "".join(c for c in self.layout if c in self.letters)
        block = block[tuple(slice(None) if c in self.letters else 0 for c in self.layout)]
        index = self.index(output)
        writer.write(NAME, index, block.transpose(permutation(kept, self.letters)))
        writer.sync(NAME, index)


def target_letters(given: str | None, layout: str, channels: int, source: Source) -> str:
    """The axes of the result's file: those of ``layout`` that the source has, too.

    Raises:
        LayoutError: ``given`` is no order of the axes.
    """
    if given is None:
        left_out = {c for c in source.layout if c not in source.letters}
        if channels > 1:
            left_out -= {"C"}
        # A volume's own order of spatial axes stays, where the spec only adds N and C.
        order = [c for c in source.letters if c not in "NC"]
        spatial = iter(order)
        kept = [c if c in "NC" else next(spatial) for c in layout]
        return "".join(c for c in kept if c not in left_out)
    optional = {"C"} if channels == 1 else set()
    optional |= {"N"} if "N" in layout and "N" not in source.letters else set()
    fits = isinstance(given, str) and len(set(given)) == len(given) and set(given) <= set(layout)
    if not fits or not set(layout) - optional <= set(given):
        raise LayoutError(
            f"target_layout: expected the axes of {layout!r} in any order, got {shown(given)}."
        )
    if "C" in given:
        check_data_layout("target_layout", given)
    return given


def affine(
    reader: Reader, source: Source, problems: Sequence[Problem], letters: str
) -> Array | None:
    """Where the voxels of the result lie, if the volume says where its own do.

    Position o of an output reads positions around o*s - lo + (e - 1)/2 of its input; transposed,
    it is the other way round.
    """
    if not isinstance(reader, NiftiReader):
        return None
    before, after = source.letters[:3], letters[:3]
    if len(before) < 3 or set(before) != set(after) or set("NC") & set(before):
        return None
    moved = np.zeros((4, 4))
    moved[3, 3] = 1
    for column, letter in enumerate(after):
        scale, offset = 1.0, 0.0  # from the last output's positions to the volume's
        for problem in reversed(problems):
            axis = problem.spatial.index(letter)
            lo, s = problem.padding[axis][0], problem.stride[axis]
            centre = problem.dilation[axis] * (problem.kernel_size[axis] - 1) / 2 - lo
            if problem.transposed:
                scale, offset = scale / s, (offset - centre) / s
            else:
                scale, offset = scale * s, offset * s + centre
        moved[before.index(letter), column] = scale
        moved[before.index(letter), 3] = offset
    found: Array = reader.affine @ moved
    return found
