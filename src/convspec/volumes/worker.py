"""The process that computes tiles: it reads a slab, runs the chain, writes the tile, says so."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ..backend import Backend
from ..convert.errors import ConvertError
from ..convert.files import open_file
from ..dispatch import chosen
from ..dtypes import numpy_dtype
from ..errors import ConvSpecError
from ..problem import Problem
from ..tiles import Range, tile
from . import slabs
from .activations import Activation
from .chain import Arrays
from .storage import Source, Target


@dataclass(frozen=True)
class Task:
    """What all tiles have in common.

    Attributes:
        problems, arrays, activations: of each layer.
        engine: the backend that computes.
        dtype: name of the element type that is computed in.
        source, target: what is read and written.
    """

    problems: Sequence[Problem]
    arrays: Sequence[Arrays]
    activations: Sequence[Activation]
    engine: str | Backend
    dtype: str
    source: Source
    target: Target


@dataclass(frozen=True)
class Order:
    """One tile.

    Attributes:
        number: in the plan.
        place: the same in words.
        output: its box, in the last ``output_layout``.
        workspace: bytes of one call of the engine.
    """

    number: int
    place: str
    output: tuple[Range, ...]
    workspace: int


@dataclass(frozen=True)
class Done:
    """A tile is on the disk: bytes that were read for it, and the process's most memory so far."""

    number: int
    read: int
    memory: int


@dataclass(frozen=True)
class Failed:
    """Why there is no tile, in words; for errors of this library with their type."""

    message: str
    type: type[ConvSpecError]


def serve(descriptor: int, parent: int) -> None:
    """Compute what the parent orders until it closes the connection.

    The first answer comes unasked: bytes of this process with everything loaded and the engine's
    version, or why loading failed.

    Args:
        descriptor: file descriptor of the connection.
        parent: the parent's process number.
    """
    connection = Connection(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    _end_with(parent)
    task: Task = connection.recv()
    try:
        version = _load(task)
        with open_file(task.source.path) as reader:
            connection.send((memory(), version))
            writer = None
            while True:
                order: Order = connection.recv()
                try:
                    writer = writer or task.target.reopen()
                    read = _tile(task, order, reader, writer)
                    connection.send(Done(order.number, read, memory()))
                except Exception as error:
                    connection.send(_failed(error, task))
    except EOFError:
        return
    except Exception as error:
        connection.send(_failed(error, task))


def _load(task: Task) -> str:
    """Load the engine, run it once in miniature, and give its version.

    Raises:
        UnsupportedError: it cannot compute one of the layers.
    """
    engine = chosen(task.engine)
    layers = zip(task.problems, task.arrays, strict=True)
    for i, (problem, (weight, bias)) in enumerate(layers):
        box = tuple((0, min(n, 1) if c != "C" else n) for c, n in _sizes(problem))
        try:
            part = tile(problem, box)
            part.spec(np.zeros(part.input_shape, weight.dtype), weight, bias, backend=engine)
        except ConvSpecError as error:
            raise type(error)(f"layer {i}: {error}") from error
    return f"{engine.name} {engine.capabilities.version}"


def _sizes(problem: Problem) -> list[tuple[str, int]]:
    return list(zip(problem.output_layout, problem.output_shape, strict=True))


def _tile(task: Task, order: Order, reader: Any, writer: Any) -> int:
    layout = task.problems[-1].output_layout
    needed = slabs.needs(task.problems, dict(zip(layout, order.output, strict=True)))
    x, read = task.source.read(reader, needed[0], numpy_dtype(task.dtype))
    y = slabs.compute(
        task.problems, task.arrays, task.activations, task.engine, x, needed, order.workspace
    )
    del x
    task.target.write(writer, order.output, y)
    return read


def _failed(error: Exception, task: Task) -> Failed:
    if isinstance(error, ConvSpecError):
        return Failed(str(error), type(error))
    if isinstance(error, MemoryError) or chosen(task.engine).out_of_memory(error):
        return Failed(f"there is no memory left: {error}".rstrip(": "), ConvertError)
    why = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    return Failed(f"{kind}{why}", ConvertError)


def memory() -> int:
    """The most bytes that this process has had in memory."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _end_with(parent: int) -> None:
    """Linux ends this process when the parent is killed; elsewhere it ends after its tile."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it was killed before that
        raise SystemExit(1)
