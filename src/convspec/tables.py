"""What the command line shows: tables, progress, and a silence while frameworks load."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A heading, and whether the cells under it are numbers, which stand on the right."""

    heading: str
    number: bool = False


@dataclass(frozen=True)
class Row:
    """The cells of one row.

    Attributes:
        cells: one text per column.
        style: ``""``, ``"bad"`` or ``"dim"``: shown by colour on a terminal only, so the cells
            have to say it as well.
        first: whether a group starts here, set apart from the one before.
    """

    cells: tuple[str, ...]
    style: str = ""
    first: bool = False


def show(columns: Sequence[Column], rows: Sequence[Row], title: str = "") -> None:
    """Write a table to stdout: boxed on a terminal, plain columns elsewhere or without rich."""
    console = _console(stderr=False)
    if console is None:
        print(plain(columns, rows), flush=True)
    else:
        console.print(_boxed(columns, rows, title))


def plain(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table as aligned text, two spaces between columns, a blank line between groups."""
    lines = [tuple(column.heading for column in columns), *(row.cells for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        ]
        return "  ".join(padded).rstrip()

    text = [line(lines[0]), "  ".join("-" * width for width in widths)]
    for i, row in enumerate(rows):
        if row.first and i:
            text.append("")
        text.append(line(row.cells))
    return "\n".join(text)


def _boxed(columns: Sequence[Column], rows: Sequence[Row], title: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    styles = {"bad": "bold red", "dim": "dim"}
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column.heading, justify="right" if column.number else "left")
    for i, row in enumerate(rows):
        if row.first and i:
            table.add_section()
        # Text, not str: a cell such as "convspec[torch]" is no markup.
        table.add_row(*map(Text, row.cells), style=styles.get(row.style))
    return table


def _console(*, stderr: bool) -> Any:
    """rich's console for a stream that is a terminal; None elsewhere, or without rich."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(stderr=stderr)
    return console if console.is_terminal else None


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, if that is a terminal and rich is there.

    Yields:
        A function that says what is about to be done; ``total`` calls fill the bar.
    """
    console = _console(stderr=True)
    if console is None:
        yield lambda text: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    parts = (BarColumn(20), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    # Drawn at each step and by no thread, which would write into the silence below.
    with Progress(*parts, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=total, completed=-1)

        def step(text: str) -> None:
            bar.update(task, advance=1, description=text)
            bar.refresh()

        yield step


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what C++ libraries write to file descriptor 2, which no Python setting reaches."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    with tempfile.TemporaryFile() as sink:
        sys.stderr.flush()
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
