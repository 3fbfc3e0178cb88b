"""Files that change while they are read."""

from __future__ import annotations

from pathlib import Path

from .errors import ConvertError

#: Name, inode, size and time of each file.
State = list[tuple[str, int, int, int]]


def state(path: Path) -> State:
    """How a file, or the files of a folder, are now."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = []
    for file in files:
        if file.exists():
            told = file.stat()
            found.append((str(file), told.st_ino, told.st_size, told.st_mtime_ns))
    return found


def check(path: Path, before: State) -> None:
    """The file is as it was.

    Raises:
        ConvertError: it is not; nothing made of it is of use.
    """
    if state(path) != before:
        raise ConvertError(
            f"{path}: changed while it was read. Nothing was written; convert it again when it "
            f"is complete."
        )
