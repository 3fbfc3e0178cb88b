"""Flax's msgpack (flax.serialization.to_bytes): nested maps with arrays as extension types.

Extension 1 is an array, packed as (shape, name of the type, bytes), 3 a NumPy scalar; arrays above
1 GB are a map of flat chunks (flax/serialization.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError, package
from .nested import flattened, tree_of
from .protocol import (
    EXTENDED,
    Array,
    Entry,
    Reader,
    check_shape,
    dtype_of,
    is_number,
    size_of,
)
from .spool import SpoolingWriter

ARRAY, COMPLEX, SCALAR = 1, 2, 3
CHUNKED = "__msgpack_chunked_array__"
#: Flax's own limit for the bytes of one extension.
LARGEST_CHUNK = 2**30
#: Bytes that are read at once.
READ = 2**20


class MsgpackReader(Reader):
    format = "msgpack"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        msgpack = package("msgpack")
        size = size_of(path)
        if not size:
            raise ConvertError(f"{path}: is empty.")
        try:
            with path.open("rb") as stream:
                unpacker = msgpack.Unpacker(
                    stream,
                    read_size=min(READ, size),
                    max_buffer_size=size,
                    ext_hook=self._extension,
                    raw=False,
                    strict_map_key=False,
                )
                tree = unpacker.unpack()
            if unpacker.tell() != size:
                raise ConvertError(f"{path}: {size - unpacker.tell()} bytes follow its end.")
            tree = self._joined(tree)
            leaves = dict(flattened(path, tree, "/"))
        except ConvertError:
            raise
        except Exception as error:  # msgpack's own, ValueError, RecursionError, ...
            why = str(error) or type(error).__name__
            raise ConvertError(f"{path}: is no readable msgpack file of Flax: {why}.") from error
        self._arrays: dict[str, Array] = {}
        for name, leaf in leaves.items():
            if isinstance(leaf, np.ndarray):
                self._arrays[name] = leaf
                self.entries[name] = Entry(leaf.shape, leaf.dtype)
            else:
                self.skipped[name] = f"a {type(leaf).__name__}, no array"

    def _extension(self, code: int, data: bytes) -> Any:
        if code not in (ARRAY, SCALAR):
            return f"extension {code}"
        shape, kind, content = package("msgpack").unpackb(data, raw=False, strict_map_key=False)
        if not isinstance(kind, str) or not isinstance(content, bytes):
            raise ConvertError(f"{self.path}: an array's header is damaged.")
        shape = check_shape(self.path, "array", shape)
        dtype = dtype_of(kind)
        if not is_number(dtype) or prod(shape) * dtype.itemsize != len(content):
            raise ConvertError(
                f"{self.path}: an array of shape {shape} of {kind} has {len(content)} bytes."
            )
        return np.frombuffer(content, dtype).reshape(shape)

    def _joined(self, tree: Any, depth: int = 0) -> Any:
        """Chunked arrays put together."""
        if not isinstance(tree, dict) or depth > 64:
            return tree
        if CHUNKED not in tree:
            return {key: self._joined(value, depth + 1) for key, value in tree.items()}
        shape = check_shape(self.path, "array", _listed(tree["shape"]))
        flat = np.concatenate(_listed(tree["chunks"]))
        if flat.size != prod(shape):
            raise ConvertError(f"{self.path}: chunks of {flat.size} elements for shape {shape}.")
        return flat.reshape(shape)

    def open(self, name: str) -> Array:
        return self._arrays[name]


def _listed(values: Mapping[str, Any]) -> list[Any]:
    return [values[str(i)] for i in range(len(values))]


class MsgpackWriter(SpoolingWriter):
    def save(self) -> None:
        msgpack = package("msgpack")
        for name, entry in self.entries.items():
            if entry.dtype.kind not in "biufc" and entry.dtype.name not in EXTENDED:
                raise ConvertError(f"{self.path}: {name!r} is {entry.dtype}, no number.")
        packer = msgpack.Packer(strict_types=True)
        with self.path.open("xb") as stream:
            self._pack(stream, packer, tree_of(self.path, ((n, n) for n in self.entries), "/"))

    def _pack(self, stream: Any, packer: Any, tree: Any) -> None:
        if isinstance(tree, dict):
            stream.write(packer.pack_map_header(len(tree)))
            for key, value in tree.items():
                stream.write(packer.pack(key))
                self._pack(stream, packer, value)
            return
        array = self.spooled(tree)
        if array.nbytes <= LARGEST_CHUNK:
            self._pack_array(stream, packer, array)
            return
        flat, step = array.reshape(-1), LARGEST_CHUNK // array.dtype.itemsize
        chunks = [flat[i : i + step] for i in range(0, flat.size, step)]
        stream.write(packer.pack_map_header(3))
        stream.write(packer.pack(CHUNKED) + packer.pack(True) + packer.pack("shape"))
        stream.write(packer.pack({str(i): n for i, n in enumerate(array.shape)}))
        stream.write(packer.pack("chunks") + packer.pack_map_header(len(chunks)))
        for i, chunk in enumerate(chunks):
            stream.write(packer.pack(str(i)))
            self._pack_array(stream, packer, chunk)

    def _pack_array(self, stream: Any, packer: Any, array: Array) -> None:
        content = (list(array.shape), array.dtype.name, array.tobytes())
        msgpack = package("msgpack")
        stream.write(packer.pack(msgpack.ExtType(ARRAY, msgpack.packb(content))))
