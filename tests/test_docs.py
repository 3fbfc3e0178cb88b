"""The examples of the documentation run and print what they say, and its tables are complete."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from convspec import natives

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    ("page", "examples"),
    [("layers.md", 16), ("tiles.md", 30), ("distributed.md", 20), ("speed.md", 5)],
)
def test_examples(page: str, examples: int) -> None:
    done = doctest.testfile(str(DOCS / page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert done.failed == 0
    assert done.attempted >= examples


def test_the_table_has_every_reader() -> None:
    text = (DOCS / "layers.md").read_text()
    table = text[text.index("| module |") : text.index("A layer's activation")]
    assert set(re.findall(r"^\| (\w+) \|", table, re.MULTILINE)) == {
        "module",
        *natives.entry_points(),
    }
