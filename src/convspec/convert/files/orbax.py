"""Orbax checkpoints (folders), by way of orbax-checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError, package
from .nested import flattened, tree_of
from .protocol import Array, Entry, Reader, check_shape, dtype_of, is_number
from .spool import SpoolingWriter

#: What every Orbax folder of a tree holds; a CheckpointManager's step has it one level deeper.
METADATA = "_METADATA"
ITEM = "default"


@contextmanager
def _silent() -> Iterator[None]:
    """Orbax warns about each habit it has since changed, even with nothing to be done."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class OrbaxReader(Reader):
    format = "orbax"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._folder = path if (path / METADATA).is_file() else path / ITEM
        self._orbax = package("orbax.checkpoint")
        try:
            with _silent(), self._orbax.PyTreeCheckpointer() as reader:
                found = reader.metadata(self._folder.resolve())
            self._tree = found.item_metadata.tree
            leaves = dict(flattened(path, self._tree, "/"))
        except ConvertError:
            raise
        except Exception as error:  # of tensorstore, of JSON, of paths
            raise ConvertError(f"{path}: is no readable Orbax checkpoint: {error}.") from error
        for name, leaf in leaves.items():
            shape, kind = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
            if shape is None or kind is None:
                self.skipped[name] = f"a {type(leaf).__name__}, no array"
                continue
            dtype = dtype_of(str(kind))
            if is_number(dtype):
                self.entries[name] = Entry(check_shape(path, name, list(shape)), dtype)
        self._arrays: dict[str, Any] | None = None

    def open(self, name: str) -> Array:
        if self._arrays is None:
            self._arrays = self._restored()
        array = np.asarray(self._arrays[name])
        entry = self.entries[name]
        if array.shape != entry.shape or array.dtype != entry.dtype:
            raise ConvertError(f"{self.path}: {name!r} is {array.shape}, not {entry.shape}.")
        return array

    def _restored(self) -> dict[str, Any]:
        """All arrays: Orbax restores a tree as a whole."""
        tree = package("jax.tree_util")
        plain = self._orbax.RestoreArgs(restore_type=np.ndarray)
        arguments = tree.tree_map(lambda leaf: plain, self._tree)
        try:
            with _silent(), self._orbax.PyTreeCheckpointer() as reader:
                restored = reader.restore(self._folder.resolve(), restore_args=arguments)
        except Exception as error:  # of tensorstore: missing or damaged chunks
            raise ConvertError(f"{self.path}: is damaged: {error}.") from error
        return dict(flattened(self.path, restored, "/"))

    def close(self) -> None:
        self._arrays = None


class OrbaxWriter(SpoolingWriter):
    def save(self) -> None:
        orbax = package("orbax.checkpoint")
        tree = tree_of(self.path, self.all_spooled(), "/")
        with _silent(), orbax.PyTreeCheckpointer() as writer:
            try:
                writer.save(self.path.resolve(), tree)
            except ValueError as error:  # tensorstore's, for a full disk too
                raise OSError(str(error)) from error
