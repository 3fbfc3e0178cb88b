"""A single kernel from file to file, in another convention's order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..copies import contiguous
from ..spec import ConvSpec
from . import stamp, watch
from .arrays import chosen, same_bits
from .errors import ConvertError
from .files import ARRAYS, Entry, chosen_format, create, open_file
from .files.npy import NAME
from .files.protocol import native
from .orders import Order, convert_weight, in_order, weight_spec
from .output import check_target, whole


@dataclass(frozen=True)
class ConvertedWeight:
    """What a conversion of a kernel did.

    Attributes:
        name: of the array in its file.
        source: the convolution in the source's order.
        target: the convolution in the target's order.
        dtype: element type.
        verified: whether the file was read back, converted back and compared.
    """

    name: str
    source: ConvSpec
    target: ConvSpec
    dtype: str
    verified: bool


def weight(
    path: str | Path,
    out: str | Path,
    source: str | Order,
    target: str | Order,
    *,
    kind: str = "conv",
    groups: int | None = None,
    name: str | None = None,
    force: bool = False,
    in_place: bool = False,
    verify: bool = False,
    format: str | None = None,
) -> ConvertedWeight:
    """Convert one kernel from a file to another order and file.

    The formats are those of :func:`array`.

    Args:
        path: file to read.
        out: file to write; appears whole or not at all.
        source: a convention's name, a weight layout such as ``"OIHW"`` or ``"1HWO"``, or an
            :class:`Order`.
        target: likewise.
        kind: ``"conv"``, ``"conv_transpose"`` or ``"depthwise"``.
        groups: as in :func:`convert_weight`.
        name: which array, where a file holds several.
        force: overwrite ``out``.
        in_place: allow ``out`` to be ``path``.
        verify: read the result back, convert it back and compare every element.
        format: format of ``out``; default: what its name says.

    Raises:
        LayoutError: an order is none, or has another number of axes.
        ShapeError: the shape does not fit.
        ConvertError: a file cannot be read or written, or holds several arrays.
    """
    path, out = Path(path), Path(out)
    format = chosen_format(out, format)
    if format not in ARRAYS or format == "nifti":
        raise ConvertError(f"{out}: {format} files hold no kernels; write .npy or another format.")
    check_target(out, (path,), force=force, in_place=in_place)
    before = watch.state(path)
    with open_file(path) as reader:
        name = chosen(reader, name)
        array = reader.read(name)
        spec = weight_spec(array.shape, source, kind=kind, groups=groups)
        converted = convert_weight(array, source, target, kind=kind, groups=spec.groups)
        label = name if format != "npy" else NAME
        entry = Entry(converted.shape, native(array.dtype))
        there = in_order(spec, target, kind)
        text = stamp.to_text({"weights": {label: {"kind": kind, "spec": there.to_dict()}}})
        with whole(out) as temporary:
            writer = create(temporary, format, {label: entry}, text)
            try:
                index = (slice(None),) * converted.ndim
                writer.write(label, index, contiguous(converted, entry.dtype))
                writer.finish()
            finally:
                writer.close()
            if verify:
                with open_file(temporary, format) as written:
                    back = convert_weight(
                        written.read(label), target, source, kind=kind, groups=spec.groups
                    )
                    if not same_bits(back, array):
                        raise ConvertError(f"{out}: was written, but does not lead back.")
            watch.check(path, before)
    return ConvertedWeight(label, spec, there, entry.dtype.name, verify)
