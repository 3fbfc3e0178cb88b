"""Output that appears whole or not at all: a temporary beside the target, fsync, one rename."""

from __future__ import annotations

import ctypes
import glob
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConvertError

#: What a temporary's name starts with; then come the host and process that made it, and the
#: target's name, whose ending some packages go by.
PREFIX = ".convspec-part-"
#: What folders of tensors hold, each kind one of these: zarr, Orbax, sharded safetensors,
#: TensorFlow.
STORES = (
    *("zarr.json", ".zgroup", ".zarray"),
    *("_CHECKPOINT_METADATA", "_METADATA", "default"),
    "model.safetensors.index.json",
    "ckpt.index",
)


def check_target(
    target: Path, sources: tuple[Path, ...], *, force: bool, in_place: bool = False
) -> None:
    """The target may be written.

    Raises:
        ConvertError: it is one of the sources, exists without ``force``, has no folder, or is
            a device or a folder of other things, which nobody wants replaced.
    """
    for source in sources:
        if target.exists() and source.exists() and target.samefile(source):
            if in_place:
                return
            raise ConvertError(
                f"{target}: is the input as well; write to another name, or ask for it with "
                f"in_place=True (--in-place)."
            )
    if not target.parent.is_dir():
        raise ConvertError(f"{target}: there is no folder {target.parent}; make it first.")
    if os.path.lexists(target) and not force:
        raise ConvertError(
            f"{target}: exists already; choose another name, or overwrite it with force=True "
            f"(--force)."
        )
    if target.exists() and not _replaceable(target):
        raise ConvertError(
            f"{target}: is neither a file nor a folder that a converter wrote; choose another name."
        )


def _replaceable(target: Path) -> bool:
    """Whether overwriting would destroy no more than a file or a store of tensors."""
    if target.is_file():
        return True
    return target.is_dir() and (
        not any(target.iterdir()) or any((target / name).exists() for name in STORES)
    )


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its name if the block ends well.

    The block makes a file or a folder there. If it fails, the temporary is removed and the target
    is as it was. Temporaries of processes of this machine that were killed are removed first.

    Raises:
        ConvertError: what the system says while writing, such as a full disk.
    """
    if target.is_symlink():  # the file it leads to is what gets replaced
        target = target.resolve()
    remove_stale(target)
    name = f"{PREFIX}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}-{_end(target)}"
    temporary = target.parent / name
    try:
        yield temporary
        take_name(temporary, target)
    except (OSError, RuntimeError) as error:  # torch and h5py have RuntimeError for a full disk
        why = (getattr(error, "strerror", None) or str(error)).strip().split("\n")[0]
        raise ConvertError(
            f"{target}: cannot be written: {why}. Nothing was changed there."
        ) from error
    finally:  # with what writers put beside it, whose names start with its name
        for path in temporary.parent.glob(f"{glob.escape(temporary.name)}*"):
            remove(path)


def _end(target: Path) -> str:
    """The end of a name, so that the temporary's name is not too long."""
    return target.name[-120:]


def remove_stale(target: Path) -> list[Path]:
    """Remove the temporaries of ``target`` whose process, on this machine, is gone."""
    removed = []
    start = f"{PREFIX}{socket.gethostname()}-"
    for path in target.parent.iterdir():
        if not (path.name.startswith(start) and f"-{_end(target)}" in path.name):
            continue
        process = path.name.removeprefix(start).partition("-")[0]
        if process.isdecimal() and not _alive(int(process)):
            remove(path)
            removed.append(path)
    return removed


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or no such check on this system
        return True
    return True


def remove(path: Path) -> None:
    """A file or a folder is gone, if it was there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """A file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_all(path: Path) -> None:
    """Everything of a file or folder is on the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            _flush_all(inner)
    flush(path)


def take_name(temporary: Path, target: Path) -> None:
    """One step for the outside world: before it the old target, after it the new one.

    What had the name before is then at ``temporary``, if it was a folder, or gone.
    """
    _flush_all(temporary)
    if target.is_dir() or (temporary.is_dir() and target.exists()):
        _exchange(temporary, target)  # the old one is now the temporary, and gets removed
    else:
        temporary.replace(target)
    flush(target.parent)


def _exchange(temporary: Path, target: Path) -> None:
    """Swap two names at once (Linux' renameat2 with RENAME_EXCHANGE)."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError) as error:
        raise ConvertError(
            f"{target}: a folder cannot be replaced in one step on this system; remove it first."
        ) from error
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(here, os.fsencode(temporary), here, os.fsencode(target), exchange):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def allocate(path: Path, size: int) -> None:
    """A new file of ``size`` bytes that really has its place on the disk.

    Without it, a disk that fills up while a memory map is written kills the process.

    Raises:
        OSError: the disk has no room, or the file cannot be made.
    """
    with path.open("xb") as stream:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            zeros = bytes(min(size, 2**24))
            for start in range(0, size, max(len(zeros), 1)):
                stream.write(zeros[: size - start])
