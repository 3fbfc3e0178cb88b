"""The workers of a run, from the parent's side: who has which tile, and what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from ..convert.errors import ConvertError
from .worker import Done, Failed, Order, Task

#: Seconds that a worker has to end when there is nothing left to do.
PATIENCE = 10.0
#: What a worker runs: not the module as a script, whose classes would be others than ours.
START = "from convspec.volumes.worker import serve; serve({}, {})"


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    log: Any
    order: Order | None = None


class Crew:
    """Processes that compute tiles, each with the engine loaded.

    Attributes:
        memory: the most bytes that a worker has had in memory.
        version: name and version of the engine.
    """

    def __init__(self, jobs: int, lock: int) -> None:
        """
        Args:
            jobs: how many processes.
            lock: a file descriptor that they keep open as long as they live.
        """
        self._workers: list[_Worker] = []
        self.memory = 0
        self.version = ""
        try:
            for _ in range(jobs):
                self._workers.append(_start(jobs, lock))
        except BaseException:
            self.close()
            raise

    def load(self, task: Task) -> None:
        """Tell all workers what it is about, and wait until they have loaded it.

        Raises:
            ConvSpecError: what a worker says.
        """
        for worker in self._workers:
            try:
                worker.connection.send(task)
            except OSError:  # its end is told below
                continue
        for worker in self._workers:
            answer = self._answer(worker)
            if isinstance(answer, Failed):
                raise answer.type(answer.message)
            memory, self.version = answer
            self.memory = max(self.memory, memory)

    def run(self, orders: Iterator[Order]) -> Iterator[Done]:
        """Have tiles computed, and give each when it is on the disk.

        Raises:
            ConvSpecError: a tile failed, or its worker ended; the message names the tile.
        """
        for worker in self._workers:
            self._give(worker, orders)
        while busy := {w.connection: w for w in self._workers if w.order is not None}:
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]  # connections alone are waited for
                answer = self._answer(worker)
                if isinstance(answer, Failed):
                    raise answer.type(f"{_place(worker)}{answer.message}")
                self.memory = max(self.memory, answer.memory)
                self._give(worker, orders)
                yield answer

    def _give(self, worker: _Worker, orders: Iterator[Order]) -> None:
        worker.order = next(orders, None)
        if worker.order is not None:
            try:
                worker.connection.send(worker.order)
            except OSError as error:
                raise self._ended(worker) from error

    def _answer(self, worker: _Worker) -> Any:
        try:
            return worker.connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended(worker) from error

    def _ended(self, worker: _Worker) -> ConvertError:
        """The error for a worker that is gone, with its last words."""
        status = worker.process.wait()
        worker.log.seek(0)
        words = worker.log.read().decode(errors="replace").strip().splitlines()
        how = f"ended with status {status}"
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        if status == -signal.SIGKILL:
            how += ", as Linux does where memory runs out"
        error: ConvertError = ConvertError(
            f"{_place(worker)}its worker {how}."
            + (f"\n  It said: {words[-1][:200]}" if words else "")
        )
        return error

    def close(self) -> None:
        """End all workers: those that wait for a tile by themselves, the others at once."""
        for worker in self._workers:
            worker.connection.close()
            if worker.order is not None:
                worker.process.kill()
        for worker in self._workers:
            try:
                worker.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.log.close()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _place(worker: _Worker) -> str:
    return "" if worker.order is None else f"{worker.order.place}: "


def _start(jobs: int, lock: int) -> _Worker:
    """A worker, in an interpreter of its own: no part of the calling script is run again."""
    here, there = Pipe()
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    # A chunk at a time, as the plan counts them.
    environment.setdefault("ZARR_ASYNC__CONCURRENCY", "1")
    environment.setdefault("ZARR_THREADING__MAX_WORKERS", "1")
    # What is freed goes back to the system: of arrays up to 32 MB glibc would keep it, in pieces.
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**20))
    environment.pop("GLIBC_TUNABLES", None)  # as docs/speed.md has them, it would keep all
    if jobs > 1:  # they share the cores; who has set it keeps it
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
    command = [sys.executable, "-c", START.format(there.fileno(), os.getpid())]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        pass_fds=(there.fileno(), lock),
    )
    there.close()
    return _Worker(process, here, log)
