"""Initialisers of ONNX models, those in external data files too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError, package
from .protocol import (
    LARGEST_STAMP,
    STAMP,
    Array,
    Entry,
    Reader,
    check_place,
    check_shape,
    dtype_of,
    size_of,
    unsupported,
)
from .spool import SpoolingWriter
from .stored import Stored

#: ONNX's element types, by number (onnx.proto, TensorProto.DataType).
TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
}
NUMBERS = {name: number for number, name in TYPES.items()}
#: Most bytes of a protocol buffer.
LARGEST = 2**31 - 2**20


def load_graph(path: Path) -> Any:
    """An ONNX model without its external data.

    Raises:
        ConvertError: it is none.
    """
    onnx = package("onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own
        raise ConvertError(f"{path}: is no readable ONNX model: {error}.") from error
    if not model.HasField("graph"):
        raise ConvertError(f"{path}: is no ONNX model: it has no graph.")
    return model


class OnnxReader(Reader):
    format = "onnx"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.model = load_graph(path)
        self._tensors: dict[str, Any] = {}
        self._external: dict[str, tuple[Path, int]] = {}
        for item in self.model.metadata_props:
            if item.key == STAMP:
                self.stamp = item.value[:LARGEST_STAMP]
        for tensor in self.model.graph.initializer:
            self._add(tensor)
        for sparse in self.model.graph.sparse_initializer:
            self.skipped[sparse.values.name] = "sparse"

    def _add(self, tensor: Any) -> None:
        name = tensor.name
        if not isinstance(name, str):  # protobuf gives bytes where they are no UTF-8
            raise ConvertError(f"{self.path}: an initialiser's name {name[:40]!r} is no text.")
        if name in self.entries:
            raise ConvertError(f"{self.path}: two initialisers are both called {name!r}.")
        if tensor.data_type not in TYPES:
            self.skipped[name] = f"of the ONNX type {tensor.data_type}, no numbers"
            return
        shape = check_shape(self.path, name, [int(n) for n in tensor.dims])
        entry = Entry(shape, dtype_of(TYPES[tensor.data_type]))
        if tensor.data_location == 1:
            self._external[name] = self._place(name, entry, tensor)
        elif tensor.HasField("raw_data"):
            if len(tensor.raw_data) != entry.nbytes:
                raise ConvertError(
                    f"{self.path}: {name!r} has {len(tensor.raw_data)} bytes, but shape {shape} "
                    f"of {entry.dtype} takes {entry.nbytes}."
                )
        elif entry.nbytes > size_of(self.path) * 16:  # a varint of one byte may be 16
            raise ConvertError(f"{self.path}: {name!r} cannot have the shape {shape}.")
        self.entries[name] = entry
        self._tensors[name] = tensor

    def _place(self, name: str, entry: Entry, tensor: Any) -> tuple[Path, int]:
        """The file beside the model that holds a tensor, and where it starts there."""
        fields = {item.key: item.value for item in tensor.external_data}
        location = fields.get("location", "")
        folder = self.path.parent.resolve()
        if not isinstance(location, str) or "\0" in location:
            raise ConvertError(f"{self.path}: {name!r} should lie in {location[:40]!r}, no name.")
        file = folder / location
        inside = location and not os.path.isabs(location) and file.resolve() == file
        if not inside or not file.resolve().is_relative_to(folder):
            raise ConvertError(
                f"{self.path}: {name!r} should lie in {location!r}; external data lies beside its "
                f"model, and links are not followed."
            )
        try:
            start = int(fields.get("offset", 0))
            length = int(fields.get("length", entry.nbytes))
            size = size_of(file)
        except (ValueError, OSError) as error:
            raise ConvertError(f"{self.path}: {name!r} in {location!r}: {error}.") from error
        if length != entry.nbytes:
            raise ConvertError(
                f"{self.path}: {name!r} takes {entry.nbytes} bytes, but {length} are set aside."
            )
        check_place(file, name, start, start + length, size)
        return file, start

    def open(self, name: str) -> Any:
        entry, tensor = self.entries[name], self._tensors[name]
        if name in self._external:
            file, start = self._external[name]
            return Stored(file, name, entry.dtype, entry.shape, start)
        if tensor.HasField("raw_data"):
            little = entry.dtype.newbyteorder("<") if entry.dtype.kind in "iufc" else entry.dtype
            return np.frombuffer(tensor.raw_data, little).reshape(entry.shape)
        try:
            array: Array = package("onnx.numpy_helper").to_array(tensor)
        except Exception as error:  # ValueError, TypeError
            raise ConvertError(f"{self.path}: {name!r} is damaged: {error}.") from error
        return array.astype(entry.dtype, copy=False).reshape(entry.shape)


class OnnxWriter(SpoolingWriter):
    """A model of initialisers alone, or a copy of another one with new values.

    Args:
        model: a model whose initialisers of the same names get the new values.
        external: write a folder with ``model.onnx`` and ``model.onnx.data`` in place of one file.
    """

    def __init__(
        self,
        path: Path,
        entries: Mapping[str, Entry],
        stamp: str,
        model: Path | None = None,
        external: bool = False,
    ) -> None:
        for name, entry in entries.items():
            if entry.dtype.name not in NUMBERS:
                raise unsupported(path, name, entry.dtype, "ONNX")
        total = sum(entry.nbytes for entry in entries.values())
        if total > LARGEST and not external:
            raise ConvertError(
                f"{path}: {total} bytes are more than one ONNX file can hold.\n"
                f"  Write a folder with external data: end the name with '.onnx/', or pass "
                f"format='onnx-external' (--format onnx-external)."
            )
        super().__init__(path, entries, stamp)
        self._model, self._external_data = model, external

    def save(self) -> None:
        model = self._new_model() if self._model is None else load_graph(self._model)
        if self.stamp:
            item = model.metadata_props.add()
            item.key, item.value = STAMP, self.stamp
        given = {tensor.name: tensor for tensor in model.graph.initializer}
        if not self._external_data:
            for name, array in self.all_spooled():
                self._describe(given, model, name).raw_data = array.tobytes()
            self.path.write_bytes(model.SerializeToString())
            return
        self.path.mkdir()
        with (self.path / "model.onnx.data").open("xb") as data:
            for name, array in self.all_spooled():
                tensor = self._describe(given, model, name)
                tensor.data_location = 1
                data.write(bytes(-data.tell() % 4096))
                fields = {"location": "model.onnx.data", "offset": data.tell()}
                for key, value in (fields | {"length": array.nbytes}).items():
                    item = tensor.external_data.add()
                    item.key, item.value = key, str(value)
                array.tofile(data)
        (self.path / "model.onnx").write_bytes(model.SerializeToString())

    def _describe(self, given: dict[str, Any], model: Any, name: str) -> Any:
        """The initialiser called ``name``, without a value."""
        entry = self.entries[name]
        tensor = given[name] if name in given else model.graph.initializer.add()
        tensor.Clear()
        tensor.name, tensor.data_type = name, NUMBERS[entry.dtype.name]
        tensor.dims.extend(entry.shape)
        return tensor

    def _new_model(self) -> Any:
        helper = package("onnx.helper")
        return helper.make_model(helper.make_graph([], "weights", [], []))
