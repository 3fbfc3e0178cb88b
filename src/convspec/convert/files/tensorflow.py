"""TensorFlow checkpoints: a folder or prefix with an index and data, read variable by variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...tables import quiet
from ..errors import ConvertError, package
from .nested import tree_of
from .protocol import Array, Entry, Reader, check_shape, dtype_of, is_number, unsupported
from .spool import SpoolingWriter

#: Behind each name of an object-based checkpoint.
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
#: Attributes under which Keras 3 keeps variables, and what it calls them otherwise.
PRIVATE = {"_kernel": "kernel", "_embeddings": "embeddings"}
PUBLIC = {name: attribute for attribute, name in PRIVATE.items()}
#: Bookkeeping beside the weights.
BESIDE = ("save_counter", "_CHECKPOINTABLE_OBJECT_GRAPH")
PREFIX, ALL_PATHS = "ckpt", "all_model_checkpoint_paths"


class TensorFlowReader(Reader):
    format = "tensorflow"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with quiet():
            tensorflow = package("tensorflow")
        prefix = str(path).removesuffix(".index")
        if path.is_dir():
            found = sorted(path.glob("*.index"))
            if len(found) != 1:
                raise ConvertError(
                    f"{path}: holds {len(found)} checkpoints; name one by its '.index' file."
                )
            prefix = str(found[0]).removesuffix(".index")
        try:
            self._reader = tensorflow.train.load_checkpoint(prefix)
            shapes = self._reader.get_variable_to_shape_map()
            types = self._reader.get_variable_to_dtype_map()
        except Exception as error:  # TensorFlow's own kinds
            first = str(error).split("\n")[0]
            raise ConvertError(f"{path}: is no readable checkpoint: {first}.") from error
        self._keys: dict[str, str] = {}
        for key in sorted(shapes):
            name = key.removesuffix(VALUE)
            if name != key:  # attributes of objects, in TensorFlow's escaping
                name = name.replace(".S", "/").replace("..", ".")
                head, slash, leaf = name.rpartition("/")
                name = f"{head}{slash}{PRIVATE.get(leaf, leaf)}"
            if name in BESIDE or ".OPTIMIZER_SLOT" in key or name.startswith("optimizer/"):
                self.skipped[name] = "bookkeeping of training"
            elif types[key].name == "string":
                self.skipped[name] = "text"
            else:
                dtype = dtype_of(types[key].name)
                shape = check_shape(path, name, list(shapes[key]))
                if is_number(dtype):
                    self.entries[name] = Entry(shape, dtype)
                    self._keys[name] = key

    def open(self, name: str) -> Array:
        try:
            return np.asarray(self._reader.get_tensor(self._keys[name]))
        except Exception as error:
            first = str(error).split("\n")[0]
            raise ConvertError(f"{self.path}: {name!r} is damaged: {first}.") from error


class TensorFlowWriter(SpoolingWriter):
    """A folder with one object-based checkpoint, ``ckpt``: ``tf.train.Checkpoint`` reads it.

    Objects are matched by their attributes' names: kernels have both that Keras gives them.
    """

    def save(self) -> None:
        with quiet():
            tensorflow = package("tensorflow")
        variables = []
        for name, array in self.all_spooled():
            try:
                variables.append((name, tensorflow.Variable(array, name="v")))
            except Exception as error:
                raise unsupported(self.path, name, array.dtype, "TensorFlow") from error
        self.path.mkdir()
        tree: Any = tree_of(self.path, variables, "/")
        tracked = {key: _tracked(tensorflow, value) for key, value in tree.items()}
        root = tensorflow.train.Checkpoint(**tracked)
        root.save_counter  # noqa: B018 (made when asked for; without it restore() lacks something)
        try:
            root.write(str(self.path / PREFIX))
        except tensorflow.errors.OpError as error:
            raise OSError(error.message) from error
        # What tf.train.latest_checkpoint reads, relative to the folder.
        paths = (f'{field}: "{PREFIX}"\n' for field in ("model_checkpoint_path", ALL_PATHS))
        (self.path / "checkpoint").write_text("".join(paths), "utf-8")


def _tracked(tensorflow: Any, value: Any) -> Any:
    """A tree of dictionaries as objects that a checkpoint follows."""
    if not isinstance(value, dict):
        return value
    module = tensorflow.Module()
    for key, inner in value.items():
        # As Keras does it, attributes need not be identifiers.
        tracked = _tracked(tensorflow, inner)
        setattr(module, key, tracked)
        if key in PUBLIC and not isinstance(inner, dict):
            setattr(module, PUBLIC[key], tracked)
    return module
