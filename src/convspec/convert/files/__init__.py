"""File formats by name: how each is told apart, opened and made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConvertError
from .hdf5 import Hdf5Reader, Hdf5Writer, KerasReader, KerasWeightsWriter, KerasWriter
from .msgpack import MsgpackReader, MsgpackWriter
from .nifti import NiftiReader, NiftiWriter
from .npy import NpyReader, NpyWriter
from .npz import NpzReader, NpzWriter
from .onnx import OnnxReader, OnnxWriter
from .orbax import ITEM, METADATA, OrbaxReader, OrbaxWriter
from .protocol import Entry, Reader, Writer
from .safetensors import INDEX, SafetensorsReader, SafetensorsWriter, ShardedReader, ShardedWriter
from .tensorflow import TensorFlowReader, TensorFlowWriter
from .torch import TorchReader, TorchWriter
from .zarr import ZarrReader, ZarrWriter

__all__ = [
    "ARRAYS",
    "CHECKPOINTS",
    "FORMATS",
    "Entry",
    "Reader",
    "Writer",
    "chosen_format",
    "create",
    "format_of",
    "open_file",
]

#: Readers by format.
READERS: dict[str, Callable[[Path], Reader]] = {
    "npy": NpyReader,
    "npz": NpzReader,
    "safetensors": SafetensorsReader,
    "safetensors-sharded": ShardedReader,
    "hdf5": Hdf5Reader,
    "keras-weights": Hdf5Reader,
    "keras": KerasReader,
    "zarr": ZarrReader,
    "nifti": NiftiReader,
    "torch": TorchReader,
    "msgpack": MsgpackReader,
    "orbax": OrbaxReader,
    "tensorflow": TensorFlowReader,
    "onnx": OnnxReader,
    "onnx-external": OnnxReader,
}
#: Writers by format; each takes the path, the entries, the stamp and options of its own.
WRITERS: dict[str, Callable[..., Writer]] = {
    "npy": NpyWriter,
    "npz": NpzWriter,
    "safetensors": SafetensorsWriter,
    "safetensors-sharded": ShardedWriter,
    "hdf5": Hdf5Writer,
    "keras-weights": KerasWeightsWriter,
    "keras": KerasWriter,
    "zarr": ZarrWriter,
    "nifti": NiftiWriter,
    "torch": TorchWriter,
    "msgpack": MsgpackWriter,
    "orbax": OrbaxWriter,
    "tensorflow": TensorFlowWriter,
    "onnx": OnnxWriter,
    "onnx-external": OnnxWriter,
}
FORMATS = tuple(READERS)
#: Formats of single arrays, and those of whole models.
ARRAYS = ("npy", "npz", "safetensors", "hdf5", "zarr", "nifti")
CHECKPOINTS = tuple(name for name in FORMATS if name not in ("npy", "zarr", "nifti"))

#: Endings of names, longest first.
ENDINGS = {
    INDEX: "safetensors-sharded",
    ".weights.h5": "keras-weights",
    ".safetensors": "safetensors",
    ".msgpack": "msgpack",
    ".nii.gz": "nifti",
    ".keras": "keras",
    ".orbax": "orbax",
    ".index": "tensorflow",
    ".ckpt": "tensorflow",
    ".hdf5": "hdf5",
    ".zarr": "zarr",
    ".onnx": "onnx",
    ".npy": "npy",
    ".npz": "npz",
    ".nii": "nifti",
    ".pth": "torch",
    ".pt": "torch",
    ".h5": "hdf5",
}


def format_of(path: Path, *, writing: bool = False) -> str:
    """The format that a name says, or, of a folder to read, its content.

    Raises:
        ConvertError: neither tells.
    """
    if path.is_dir() and not writing:
        for mark, name in (
            (f"*{INDEX}", "safetensors-sharded"),
            (METADATA, "orbax"),
            (f"{ITEM}/{METADATA}", "orbax"),
            ("zarr.json", "zarr"),
            (".zgroup", "zarr"),
            (".zarray", "zarr"),
            ("*.index", "tensorflow"),
            ("model.onnx", "onnx-external"),
        ):
            if any(path.glob(mark)):
                return name
    for ending, name in ENDINGS.items():
        if path.name.lower().endswith(ending):
            return name
    known = " ".join(ENDINGS)
    raise ConvertError(
        f"{path}: cannot tell the format; known endings are {known}.\n"
        f"  Or name it with format=, one of {', '.join(FORMATS)}."
    )


def chosen_format(path: Path, format: str | None) -> str:
    """The format of a file to be written: as asked for, or what its name says.

    Raises:
        ConvertError: there is no such format, or the name tells none.
    """
    if format is None:
        return format_of(path, writing=True)
    if format not in FORMATS:
        raise ConvertError(f"format: {format!r} is none of {', '.join(FORMATS)}.")
    return format


def open_file(path: str | Path, format: str | None = None) -> Reader:
    """A file for reading, checked.

    Args:
        path: file or folder.
        format: one of :data:`FORMATS`; default: what the name, or a folder's content, says.

    Raises:
        ConvertError: the file is missing, damaged or of another kind, or a package is missing.
    """
    path = Path(path)
    try:
        if not path.exists() and not path.with_name(path.name + ".index").exists():
            raise ConvertError(f"{path}: there is no such file.")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ConvertError(f"{path}: is a device or a pipe; give a file or a folder.")
        format = format or format_of(path)
        if format == "onnx-external" and path.is_dir():
            path = path / "model.onnx"
        reader: Reader = _named(READERS, format)(path)
    except (OSError, EOFError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConvertError(f"{path}: cannot be read: {why}.") from error
    except (MemoryError, RecursionError, OverflowError) as error:
        raise ConvertError(f"{path}: is damaged: {type(error).__name__} while reading.") from error
    return reader


def create(
    path: Path, format: str, entries: Mapping[str, Entry], stamp: str = "", **options: Any
) -> Writer:
    """A file for writing, with all its entries.

    Raises:
        ConvertError: the format cannot hold them, or a package is missing.
    """
    if format == "onnx-external":
        options["external"] = True
    writer: Writer = _named(WRITERS, format)(path, entries, stamp, **options)
    return writer


def _named(table: Mapping[str, Any], format: str) -> Any:
    if format not in table:
        raise ConvertError(f"format: {format!r} is none of {', '.join(table)}.")
    return table[format]
