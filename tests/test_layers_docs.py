"""The examples of docs/layers.md run and print what they say, and its tables are complete."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from convspec import natives

PAGE = Path(__file__).parents[1] / "docs" / "layers.md"


def test_examples() -> None:
    done = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert done.failed == 0
    assert done.attempted > 15


def test_the_table_has_every_reader() -> None:
    text = PAGE.read_text()
    table = text[text.index("| module |") : text.index("A layer's activation")]
    assert set(re.findall(r"^\| (\w+) \|", table, re.MULTILINE)) == {
        "module",
        *natives.entry_points(),
    }
