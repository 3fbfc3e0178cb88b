"""The upstream bugs that are written down are still there: when one is fixed, a test says so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

CONFORMANCE = Path(__file__).parent.parent / "conformance"
LISTED = (CONFORMANCE / "KNOWN_UPSTREAM.md").read_text()
CHECK: dict[str, Any] = runpy.run_path(str(CONFORMANCE / "upstream" / "check.py"))
NAMES = list(CHECK["scripts"]())


def test_all_are_still_broken() -> None:
    """One test, since the scripts share the processes that import the frameworks."""
    fixed = [finding for finding in CHECK["check"](NAMES) if not finding.broken]
    told = "\n".join(f"{finding.name}: {finding.text}" for finding in fixed)
    assert not fixed, (
        f"{told}\n"
        f"These are fixed upstream, or this processor has other kernels. If they are fixed, remove "
        f"their scripts in conformance/upstream, their lines in conformance/KNOWN_UPSTREAM.md, and "
        f"what an adapter does because of them."
    )


def test_each_is_written_down() -> None:
    assert re.findall(r"\(upstream/(\w+)\.py\)", LISTED) == sorted(NAMES)


def test_a_fixed_one_is_noticed(tmp_path: Path) -> None:
    script = tmp_path / "mended.py"
    script.write_text("print('fixed')\nraise SystemExit(1 + 1 != 2)\n")
    assert CHECK["here"](script).broken is False
    script.write_text("print('still broken')\nraise SystemExit(1 + 1 != 3)\n")
    assert CHECK["here"](script).broken is True
    script.write_text("print('neither')\n")
    with pytest.raises(RuntimeError, match=r"mended\.py does not say how it ended"):
        CHECK["here"](script)
