"""HDF5, plain or Keras' ``.weights.h5`` and ``.keras``; links that leave the file are refused."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError, package
from ..names import KERAS_CLASSES
from .nested import tree_of
from .npz import open_zip
from .protocol import (
    LARGEST_STAMP,
    STAMP,
    Array,
    Entry,
    Index,
    Reader,
    Writer,
    check_shape,
    dtype_of,
    is_number,
    unsupported,
)

#: As for zip members: a compressed data set that grows more than this is refused.
LARGEST_RATIO, ALWAYS_FINE = 200, 2**28
LARGEST_ATTRIBUTE = 2**16
#: HDF5 keeps attributes below 64 kB; a longer stamp goes into several.
STAMP_PART = 60_000
DEEPEST = 64
#: Classes that are two convolutions, whose variables are numbered like those of one layer.
SEPARABLE = ("separable_conv1d", "separable_conv2d")


def layer_class(group: str) -> str:
    """The class behind a group that Keras wrote: ``conv2d_3`` -> ``conv2d``."""
    stem, _, number = group.rpartition("_")
    return stem if number.isdecimal() and stem else group


def _class_of(group: str, name: str) -> str:
    """The class of a layer, by its group and its own name.

    Groups are called after classes, or, in models that are classes, after attributes; layers after
    classes, or as the user likes. Where both sound like a class, neither is believed.
    """
    by_group, by_name = layer_class(group), layer_class(name)
    known = [c for c in (by_group, by_name) if c in KERAS_CLASSES or c in SEPARABLE]
    return " or ".join(dict.fromkeys(known)) or by_group


class Hdf5Reader(Reader):
    format = "hdf5"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        h5py = package("h5py")
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise ConvertError(f"{path}: is no readable HDF5 file: {error}.") from error
        self._h5py = h5py
        self._bfloat16: set[str] = set()
        try:
            self.stamp = self._stamp()
            self._walk(self._file, "", "", set())
            self._tell_apart()
            if self.layers and self.format == "hdf5":
                self.format = "keras-weights"
        except ConvertError:
            self._file.close()
            raise
        except Exception as error:  # h5py raises many kinds at damaged files
            self._file.close()
            raise ConvertError(f"{path}: is damaged: {error}.") from error

    def _stamp(self) -> str:
        attributes = self._file.attrs
        parts: list[str] = []
        while (key := f"{STAMP}.{len(parts)}") in attributes and len(parts) < 1000:
            parts.append(str(attributes[key]))
        return "".join(parts)[:LARGEST_STAMP]

    def _walk(self, group: Any, start: str, layers: str, seen: set[Any]) -> None:
        # Groups that several names lead to would be walked through once for each path: 2**40 of
        # them take forty groups.
        address = self._h5py.h5o.get_info(group.id).addr
        if address in seen or start.count("/") > DEEPEST:
            raise ConvertError(
                f"{self.path}: the group {start[:80]!r} has another name as well, or is too deep.\n"
                f"  Copy it, so that each group has one name."
            )
        seen.add(address)
        own = f"{layers}/{self._named(group)}".strip("/")
        for key in group:
            name = start + key
            link = group.get(key, getlink=True)
            if not isinstance(link, self._h5py.HardLink):
                raise ConvertError(
                    f"{self.path}: {name!r} is a link to elsewhere ({type(link).__name__}), which "
                    f"is not followed.\n  Copy what it leads to into the file."
                )
            found = group[key]
            if isinstance(found, self._h5py.Group):
                inner = own if group.name != "/" else ""
                self._walk(found, f"{name}/", inner, seen)
            elif isinstance(found, self._h5py.Dataset):
                self._add(name, found, layers)
            else:
                self.skipped[name] = "a named type"

    def _named(self, group: Any) -> str:
        """The name of the Keras layer that a group is of, or ``""``."""
        if "vars" in group and "name" in group["vars"].attrs:
            return str(group["vars"].attrs["name"])[:LARGEST_ATTRIBUTE]
        return ""

    def _add(self, name: str, found: Any, layer: str) -> None:
        if found.external or found.is_virtual:
            raise ConvertError(
                f"{self.path}: {name!r} lies in other files, which are not opened.\n"
                f"  Copy it into the file."
            )
        if found.shape is None:
            self.skipped[name] = "empty"
            return
        dtype = found.dtype
        if dtype.kind == "V" and str(found.attrs.get("dtype", "")) == "bfloat16":
            dtype = dtype_of("bfloat16")  # as Keras writes it
            self._bfloat16.add(name)
        if not is_number(dtype):
            self.skipped[name] = f"{dtype}, no numbers"
            return
        entry = Entry(check_shape(self.path, name, found.shape), dtype)
        stored = found.id.get_storage_size()
        compressed = found.chunks is not None
        if entry.nbytes > max(ALWAYS_FINE, LARGEST_RATIO * stored) or (
            not compressed and entry.nbytes > stored > 0
        ):
            raise ConvertError(
                f"{self.path}: {name!r} would grow from {stored} to {entry.nbytes} bytes; "
                f"if that is meant, store it without compression."
            )
        self.entries[name] = entry
        parts = name.split("/")
        if len(parts) > 2 and parts[-2] == "vars" and layer:
            self.layers[name] = layer, _class_of(parts[-3], layer.rpartition("/")[2])

    def _tell_apart(self) -> None:
        """Call layers that have the same name after their groups."""
        groups: dict[str, set[str]] = {}
        for name, (layer, _) in self.layers.items():
            groups.setdefault(layer, set()).add(name.rpartition("/")[0])
        for name, (layer, class_) in self.layers.items():
            if len(groups[layer]) > 1:
                plain = [word for word in name.split("/")[:-2] if word != "layers"]
                self.layers[name] = "/".join(plain), class_

    def open(self, name: str) -> Any:
        return _Checked(self.path, name, self._file[name], name in self._bfloat16)

    def close(self) -> None:
        self._file.close()


class _Checked:
    """A data set whose damage is told as such."""

    def __init__(self, path: Path, name: str, found: Any, bfloat16: bool) -> None:
        self._path, self._name, self._found = path, name, found
        self.shape = found.shape
        self.dtype = dtype_of("bfloat16") if bfloat16 else found.dtype

    def __getitem__(self, index: Any) -> Array:
        try:
            block = np.asarray(self._found[index])
        except Exception as error:  # OSError for a bad chunk, RuntimeError for a bad filter
            raise ConvertError(f"{self._path}: {self._name!r} is damaged: {error}.") from error
        return block.view(self.dtype) if block.dtype.kind == "V" else block


class Hdf5Writer(Writer):
    def __init__(self, path: Path, entries: Mapping[str, Entry], stamp: str) -> None:
        super().__init__(path, entries, stamp)
        tree_of(path, ((name, name) for name in entries), "/")  # no array is a group as well
        self._file = package("h5py").File(path, "x", libver="v110")
        for name, entry in self.entries.items():
            if entry.dtype.name == "bfloat16":
                found = self._file.create_dataset(name, entry.shape, "V2")
                found.attrs["dtype"] = "bfloat16"
            elif entry.dtype.kind in "biufc":
                self._file.create_dataset(name, entry.shape, entry.dtype)
            else:
                raise unsupported(path, name, entry.dtype, "HDF5")
        for i in range(0, len(stamp), STAMP_PART):
            self._file.attrs[f"{STAMP}.{i // STAMP_PART}"] = stamp[i : i + STAMP_PART]

    def write(self, name: str, index: Index, block: Array) -> None:
        if prod(self.entries[name].shape):
            if block.dtype.kind == "V":
                block = np.ascontiguousarray(block).view("V2")
            self._file[name][index] = block

    def finish(self) -> None:
        self._file.close()

    def close(self) -> None:
        try:
            self._file.close()
        except Exception:  # a full disk makes closing fail as well; the first error is told
            return


class KerasWeightsWriter(Hdf5Writer):
    """``.weights.h5``: as plain, and each layer's group tells the layer's name, as Keras has it."""

    def __init__(
        self, path: Path, entries: Mapping[str, Entry], stamp: str, layers: Mapping[str, str]
    ) -> None:
        super().__init__(path, entries, stamp)
        self._file.require_group("vars")
        for name in entries:
            group, _, _ = name.rpartition("/")
            if group.rpartition("/")[2] == "vars" and name in layers:
                self._file[group].attrs["name"] = layers[name]


class KerasReader(Hdf5Reader):
    """A ``.keras`` archive: its weights, and the configuration as text; nothing is built of it."""

    format = "keras"
    MEMBER = "model.weights.h5"

    def __init__(self, path: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="convspec-")
        try:
            with open_zip(path) as archive:
                if self.MEMBER not in archive.namelist():
                    raise ConvertError(f"{path}: has no {self.MEMBER}; it is no .keras file.")
                weights = Path(self._folder.name) / self.MEMBER
                try:
                    with archive.open(self.MEMBER) as source, weights.open("wb") as target:
                        shutil.copyfileobj(source, target)
                    self.config = json.loads(archive.read("config.json"))
                except ConvertError:
                    raise
                except Exception as error:  # zlib.error, BadZipFile, KeyError, ValueError
                    raise ConvertError(f"{path}: is damaged: {error}.") from error
            super().__init__(weights)
        except ConvertError as error:
            self._folder.cleanup()
            inside = str(Path(self._folder.name) / self.MEMBER)
            raise ConvertError(str(error).replace(inside, f"{path}: {self.MEMBER}")) from error
        except BaseException:
            self._folder.cleanup()
            raise
        self.path = path

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


class KerasWriter(KerasWeightsWriter):
    """A copy of a ``.keras`` archive with other weights."""

    def __init__(
        self,
        path: Path,
        entries: Mapping[str, Entry],
        stamp: str,
        layers: Mapping[str, str],
        model: Path,
    ) -> None:
        self._archive, self._model = path, model
        descriptor, name = tempfile.mkstemp(prefix=path.name, suffix=".h5", dir=path.parent)
        os.close(descriptor)
        self._weights = Path(name)
        self._weights.unlink()
        super().__init__(self._weights, entries, stamp, layers)

    def finish(self) -> None:
        super().finish()
        with open_zip(self._model) as old, zipfile.ZipFile(self._archive, "x") as new:
            for member in old.infolist():
                if member.filename == KerasReader.MEMBER:
                    new.write(self._weights, member.filename)
                else:
                    new.writestr(member, old.read(member))
        self._weights.unlink()

    def close(self) -> None:
        super().close()
        self._weights.unlink(missing_ok=True)
