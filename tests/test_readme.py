"""The README's code runs, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import convspec
from convspec.rewrites import RULES

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_first_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(BLOCKS[0], {})
    promised = [line[2:] for line in BLOCKS[0].splitlines() if line.startswith("# ")]
    assert capsys.readouterr().out.splitlines() == promised


def test_code_with_its_output_comes_early() -> None:
    assert README.splitlines().index("# [[27. 27. 18.]") < 15


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_other_examples_tell_the_truth(block: str) -> None:
    space: dict[str, object] = {}
    exec(block, space)
    told = re.findall(r"^(spec\.\S*\(?.*?\)?)  +# (\(.*?\))(?:;| in|$)", block, flags=re.MULTILINE)
    assert len(told) == 2
    for expression, value in told:
        assert eval(expression, space) == eval(value)


def test_the_backend_in_the_documentation() -> None:
    text = (Path(__file__).parents[1] / "docs" / "backends.md").read_text()
    block = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    space: dict[str, Any] = {}
    exec(block, space)
    assert (space["y"] == 3).all()
    spec, pointwise = space["spec"], space["Pointwise"]()
    assert spec.supports(pointwise)
    with pytest.raises(convspec.UnsupportedError, match="only plain pointwise kernels"):
        spec.replace(stride=2)(space["x"], space["w"], backend=pointwise)


def test_the_documentation_lists_every_rule() -> None:
    text = (Path(__file__).parents[1] / "docs" / "backends.md").read_text()
    assert set(re.findall(r'^\| `"(\w+)"` \|', text, flags=re.MULTILINE)) == set(RULES)
