"""What is done of a result that is not whole yet: a file beside it, made to survive a kill.

The first line says what is being made and how it is cut. Each line after it is the number of a tile
whose data are on the disk, and how many bytes were read for it; with a checksum, so that a line
that was cut short counts for nothing.
Whoever holds the file's lock, the run and its workers, writes; nobody else does.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from ..convert.errors import ConvertError
from ..convert.output import flush
from ..convert.watch import State
from .chain import Arrays
from .sizing import Plan

FORMAT_VERSION = "1.0"
#: Seconds to wait for the workers of a run that was killed.
PATIENCE = 20.0
#: How many places of a file are read for its fingerprint, and how many bytes of each.
SAMPLES, SAMPLE = 16, 2**16


class Journal:
    """The journal of one result.

    Attributes:
        path: of the file.
        header: what the first line says; None where there is no journal yet.
        done: the tiles that are finished: bytes read for each, by its number.
        descriptor: of the locked file. The lock lasts while any process has it open.
    """

    def __init__(self, path: Path) -> None:
        """Lock and read the journal.

        Raises:
            ConvertError: another run has it, or the folder cannot be written.
        """
        self.path = path
        self.header: dict[str, Any] | None = None
        self.done: dict[int, int] = {}
        self.descriptor = self._locked()
        self._read()

    def _locked(self) -> int:
        """The file, opened and locked."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise ConvertError(f"{self.path}: cannot be written: {error.strerror}.") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    return descriptor
            except FileNotFoundError:  # whoever had it has finished
                pass
            except OSError as error:
                if time.monotonic() > until:
                    os.close(descriptor)
                    raise ConvertError(
                        f"{self.path}: another run, or a worker of one that was killed, is "
                        f"writing there; wait for it."
                    ) from error
                time.sleep(0.1)
            os.close(descriptor)

    def _read(self) -> None:
        with open(os.dup(self.descriptor), "rb") as stream:
            stream.seek(0)
            lines = stream.read().split(b"\n")
        whole = [_content(line) for line in lines[:-1]]
        try:
            header = json.loads(whole[0] or b"") if whole else None
            if isinstance(header, dict) and header["format_version"] == FORMAT_VERSION:
                self.header = header
                pairs = (text.split() for text in whole[1:] if text is not None)
                self.done = {int(number): int(read) for number, read in pairs}
        except (ValueError, KeyError):  # it was killed before it began
            self.header = None

    def clear(self) -> None:
        """Forget what was done."""
        os.ftruncate(self.descriptor, 0)
        os.fsync(self.descriptor)
        self.header, self.done = None, {}

    def begin(self, header: Mapping[str, Any]) -> None:
        """From here on this is being made."""
        self.header = {"format_version": FORMAT_VERSION, **header}
        self._append(json.dumps(self.header).encode())
        flush(self.path.parent)

    def add(self, number: int, read: int) -> None:
        """A tile's data are on the disk, and so many bytes were read for it."""
        self._append(b"%d %d" % (number, read))
        self.done[number] = read

    def _append(self, text: bytes) -> None:
        os.lseek(self.descriptor, 0, os.SEEK_END)
        line = b"%s %08x\n" % (text, crc32(text))
        # After a line that was cut short this one starts on a line of its own.
        os.write(self.descriptor, line if self._ends_well() else b"\n" + line)
        os.fsync(self.descriptor)

    def _ends_well(self) -> bool:
        size = os.fstat(self.descriptor).st_size
        return size == 0 or os.pread(self.descriptor, 1, size - 1) == b"\n"

    def close(self) -> None:
        """Unlock the file, and leave none that says nothing."""
        if self.header is None:
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def _content(line: bytes) -> bytes | None:
    """What a line says, or None where it was cut short."""
    text, _, check = line.rpartition(b" ")
    return text if check == b"%08x" % crc32(text) else None


def plan_of(header: Mapping[str, Any]) -> Plan:
    """How the result is cut, as the first line says."""
    plan = header["plan"]
    return Plan(tuple(plan["tile"]), plan["workspace"], plan["bytes"])


# ---- what a result is made of ----


def of_weights(arrays: Sequence[Arrays]) -> str:
    """Fingerprint of all weights and biases."""
    told = hashlib.sha256()
    for pair in arrays:
        for array in pair:
            told.update(b"none" if array is None else f"{array.shape} {array.dtype}".encode())
            if array is not None:
                told.update(array.tobytes())
    return told.hexdigest()


def of_volume(path: Path, state: State) -> str:
    """Fingerprint of a file, or of all files of a folder: sizes, times, and samples of one."""
    told = hashlib.sha256()
    for name, _, size, changed in state:
        told.update(f"{os.path.relpath(name, path)} {size} {changed}\n".encode())
    if path.is_file():
        size = path.stat().st_size
        with path.open("rb") as stream:
            for i in range(SAMPLES):
                stream.seek(max(size - SAMPLE, 0) * i // (SAMPLES - 1))
                told.update(stream.read(SAMPLE))
    return told.hexdigest()
