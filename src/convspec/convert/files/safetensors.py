"""safetensors: a JSON header and the bytes of the tensors, one file or shards with an index.

The format is short enough to be read and written here, in place and tensor by tensor: the package
wants all tensors in memory at once. Its own checks are kept: no holes, no overlaps, no duplicate
names, a header of at most 100 MB (github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError
from ..output import allocate
from .protocol import (
    LARGEST_STAMP,
    STAMP,
    Array,
    Entry,
    Index,
    Reader,
    Writer,
    check_place,
    check_shape,
    dtype_of,
    size_of,
    unsupported,
)
from .stored import Stored

LARGEST_HEADER = 100_000_000
#: Bytes of tensors in one shard, as the Hugging Face hub has it.
SHARD = 5 * 10**9
INDEX = ".safetensors.index.json"

TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
NAMES = {name: code for code, name in TYPES.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


class SafetensorsReader(Reader):
    format = "safetensors"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._starts: dict[str, int] = {}
        size = size_of(path)
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(LARGEST_HEADER, size - 8):
                raise ConvertError(
                    f"{path}: the header should have {length} bytes, but the file has {size}.\n"
                    f"  It is no safetensors file, or was cut short."
                )
            text = stream.read(length)
        try:
            fields = json.loads(text.decode(), object_pairs_hook=_unique)
            metadata = fields.pop("__metadata__", {})
            fields = dict(fields)
            self.stamp = str(dict(metadata).get(STAMP, ""))[:LARGEST_STAMP]
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ConvertError(f"{path}: the header is no JSON object: {error}.") from error
        self._read_fields(fields, 8 + length, size)

    def _read_fields(self, fields: dict[str, Any], start: int, size: int) -> None:
        places = []
        for name, field in fields.items():
            try:
                code, shape, (begin, end) = (
                    field["dtype"],
                    field["shape"],
                    field["data_offsets"],
                )
                known = code in TYPES and type(begin) is type(end) is int
            except (TypeError, KeyError, ValueError):
                known = False
            if not known:
                raise ConvertError(
                    f"{self.path}: {name!r} is described by {str(field)[:80]}, which is unknown."
                )
            entry = Entry(check_shape(self.path, name, shape), dtype_of(TYPES[code]))
            if end - begin != entry.nbytes:
                raise ConvertError(
                    f"{self.path}: {name!r} has shape {entry.shape} of {entry.dtype}, "
                    f"{entry.nbytes} bytes, but {end - begin} are set aside for it."
                )
            check_place(self.path, name, start + begin, start + end, size)
            places.append((begin, end, name))
            self.entries[name] = entry
            self._starts[name] = start + begin
        at = 0
        for begin, end, name in sorted(places):
            if begin != at:
                raise ConvertError(
                    f"{self.path}: {name!r} starts at byte {begin} of the data instead of {at}; "
                    f"tensors overlap or leave holes."
                )
            at = end
        if start + at != size:
            raise ConvertError(
                f"{self.path}: the tensors end at byte {start + at}, but the file has {size}."
            )

    def open(self, name: str) -> Any:
        entry = self.entries[name]
        return Stored(self.path, name, entry.dtype, entry.shape, self._starts[name])


class ShardedReader(Reader):
    """The index of several safetensors files beside it."""

    format = "safetensors-sharded"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if path.is_dir():
            found = sorted(path.glob(f"*{INDEX}"))
            if len(found) != 1:
                raise ConvertError(f"{path}: has {len(found)} files '*{INDEX}'; name one of them.")
            path = found[0]
        if size_of(path) > LARGEST_HEADER:
            raise ConvertError(f"{path}: an index of {size_of(path)} bytes is too large.")
        try:
            index = json.loads(path.read_text("utf-8"), object_pairs_hook=_unique)
            places = {str(name): str(file) for name, file in index["weight_map"].items()}
            metadata = index.get("metadata") or {}
            self.stamp = str(metadata.get(STAMP, ""))[:LARGEST_STAMP]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ConvertError(f"{path}: is no index of safetensors files: {error}.") from error
        self._shards: dict[str, SafetensorsReader] = {}
        for name, file in places.items():
            if Path(file).name != file or file in ("", ".", ".."):
                raise ConvertError(
                    f"{path}: {name!r} should lie in {file!r}; shards lie beside their index."
                )
            if file not in self._shards:
                self._shards[file] = SafetensorsReader(path.parent / file)
            if name not in self._shards[file].entries:
                raise ConvertError(f"{path}: {name!r} should lie in {file}, but does not.")
            self.entries[name] = self._shards[file].entries[name]
        for file, shard in self._shards.items():
            for name in shard.entries:
                if places.get(name) != file:
                    raise ConvertError(f"{path}: {file} holds {name!r}, which the index does not.")
        self._places = places

    def open(self, name: str) -> Any:
        return self._shards[self._places[name]].open(name)


class SafetensorsWriter(Writer):
    def __init__(self, path: Path, entries: Mapping[str, Entry], stamp: str) -> None:
        super().__init__(path, entries, stamp)
        fields: dict[str, Any] = {"__metadata__": {STAMP: stamp}} if stamp else {}
        at = 0
        starts = {}
        for name, entry in self.entries.items():
            if entry.dtype.name not in NAMES:
                raise unsupported(path, name, entry.dtype, "safetensors")
            if name == "__metadata__":
                raise ConvertError(f"{path}: no tensor can be called {name!r} in this format.")
            fields[name] = {
                "dtype": NAMES[entry.dtype.name],
                "shape": list(entry.shape),
                "data_offsets": [at, at + entry.nbytes],
            }
            starts[name] = at
            at += entry.nbytes
        text = json.dumps(fields, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # so that the data starts at a multiple of 8
        allocate(path, 8 + len(text) + at)
        with path.open("r+b") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
        self._starts = {name: 8 + len(text) + start for name, start in starts.items()}

    def write(self, name: str, index: Index, block: Array) -> None:
        entry = self.entries[name]
        if prod(entry.shape):
            # Mapped anew for each block: what was written leaves the process's memory.
            start = self._starts[name]
            whole = np.memmap(self.path, entry.dtype, "r+", start, entry.shape)
            whole[index] = block

    def finish(self) -> None:
        pass


class ShardedWriter(Writer):
    """A folder with shards of at most ``limit`` bytes, and their index."""

    def __init__(
        self, path: Path, entries: Mapping[str, Entry], stamp: str, limit: int = SHARD
    ) -> None:
        super().__init__(path, entries, stamp)
        groups: list[dict[str, Entry]] = [{}]
        for name, entry in self.entries.items():
            full = sum(e.nbytes for e in groups[-1].values()) + entry.nbytes > limit
            if groups[-1] and full:
                groups.append({})
            groups[-1][name] = entry
        path.mkdir()
        self._shards: dict[str, SafetensorsWriter] = {}
        places = {}
        for i, group in enumerate(groups, 1):
            file = f"model-{i:05}-of-{len(groups):05}.safetensors"
            shard = SafetensorsWriter(path / file, group, "")
            self._shards.update(dict.fromkeys(group, shard))
            places.update(dict.fromkeys(group, file))
        total = sum(entry.nbytes for entry in self.entries.values())
        metadata: dict[str, Any] = {"total_size": total}
        if stamp:
            metadata[STAMP] = stamp
        index = {"metadata": metadata, "weight_map": places}
        (path / f"model{INDEX}").write_text(json.dumps(index, indent=1), "utf-8")

    def write(self, name: str, index: Index, block: Array) -> None:
        self._shards[name].write(name, index, block)

    def finish(self) -> None:
        pass
