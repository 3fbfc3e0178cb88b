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
    """A heading, and how the cells under it stand.

    Attributes:
        number: cells stand on the right.
        wrap: cells may be broken into lines on a narrow terminal.
    """

    heading: str
    number: bool = False
    wrap: bool = False


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
    """Write a table to stdout.

    On a terminal it is boxed, or in groups under one another where that is too wide; elsewhere,
    or without rich, it is plain columns, one line a row.
    """
    console = _console(stderr=False)
    if console is None:
        print(plain(columns, rows), flush=True)
        return
    table = _boxed(columns, rows, title)
    if console.measure(table, options=console.options.update(width=1000)).minimum <= console.width:
        console.print(table)
    else:
        print(grouped(columns, rows), flush=True)


def plain(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table as aligned text, one line a row, and a blank line between groups."""
    widths = _widths(columns, [row.cells for row in rows])
    rule = "  ".join("-" * width for width in widths).rstrip()
    text = [_line(columns, widths, [column.heading for column in columns]), rule]
    for i, row in enumerate(rows):
        if row.first and i:
            text.append("")
        text.append(_line(columns, widths, row.cells))
    return "\n".join(text)


def grouped(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """The same for a narrow terminal: what the first column says stands above each group."""
    rest = columns[1:]
    widths = _widths(rest, [row.cells[1:] for row in rows])
    text = [_line(rest, widths, [column.heading for column in rest], " ")]
    above = ""
    for row in rows:
        if row.first or row.cells[0] not in ("", above):
            text += ["", row.cells[0]]
        above = row.cells[0] or above
        text.append(_line(rest, widths, row.cells[1:], " "))
    return "\n".join(text)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column; the last one runs on freely under its heading."""
    lines = [[column.heading for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return [*widths[:-1], len(columns[-1].heading)]


def _line(
    columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str], gap: str = "  "
) -> str:
    return gap.join(
        cell.rjust(width) if column.number else cell.ljust(width)
        for cell, width, column in zip(cells, widths, columns, strict=True)
    ).rstrip()


def _boxed(columns: Sequence[Column], rows: Sequence[Row], title: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    styles = {"bad": "bold red", "dim": "dim"}
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        justify: Any = "right" if column.number else "left"
        table.add_column(column.heading, justify=justify, no_wrap=not column.wrap)
    for i, row in enumerate(rows):
        if row.first and i:
            table.add_section()
        # Text, not str: a cell such as "convspec[torch]" is no markup.
        table.add_row(*map(Text, row.cells), style=styles.get(row.style))
    return table


def one_line(error: BaseException) -> str:
    """An error as the first line of its message."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def _console(*, stderr: bool) -> Any:
    """rich's console for a stream that is a terminal; None elsewhere, or without rich."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(stderr=stderr)
    return console if console.is_terminal else None


@contextmanager
def progress(total: int, *, remaining: bool = False) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, if that is a terminal and rich is there.

    Args:
        total: how many steps there are.
        remaining: whether to tell the time that is left, not the time that has passed.

    Yields:
        A function that says what is about to be done; ``total`` calls fill the bar.
    """
    console = _console(stderr=True)
    if console is None:
        yield lambda text: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    time = (MofNCompleteColumn(), TimeRemainingColumn()) if remaining else (TimeElapsedColumn(),)
    parts = (BarColumn(20), *time, TextColumn("{task.description}", markup=False))
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
