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
    fixed = [finding for finding in CHECK["check"](NAMES) if finding.fixed]
    told = "\n".join(f"{finding.name}: {finding.text}" for finding in fixed)
    assert not fixed, (
        f"{told}\n"
        f"These are fixed upstream, or this processor has other kernels, which a script can say "
        f"(`# needs:`). If they are fixed, remove their scripts in conformance/upstream, their "
        f"lines in conformance/KNOWN_UPSTREAM.md, and what an adapter does because of them."
    )


def test_each_is_written_down() -> None:
    assert re.findall(r"\(upstream/(\w+)\.py\)", LISTED) == sorted(NAMES)


def test_a_flag_that_the_processor_lacks_is_no_fix(tmp_path: Path) -> None:
    script, cpuinfo = tmp_path / "vector.py", tmp_path / "cpuinfo"
    script.write_text("# environment: A=1\n# needs: avx512f\nraise SystemExit(0)\n")
    assert CHECK["heading"](script) == ({"A": "1"}, False)
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2\n")
    without = CHECK["processor_flags"](str(cpuinfo))
    assert without == {"fpu", "avx2"}
    gone, seen = (CHECK["Finding"]("vector", broken, "1.0: said") for broken in (False, True))
    judged = CHECK["judged"](gone, script, without)
    assert judged.text == "not applicable here: the processor has no avx512f\n1.0: said"
    assert not judged.fixed
    assert CHECK["judged"](gone, script, {"avx512f"}).fixed
    assert CHECK["judged"](seen, script, without) == seen
    assert CHECK["processor_flags"](str(tmp_path / "none")) == set()


def test_only_the_kernels_for_avx512_are_excused() -> None:
    """Every other bug shows on every processor."""
    excused = {name: CHECK["needs"](path) for name, path in CHECK["scripts"]().items()}
    assert {name: flags for name, flags in excused.items() if flags} == {
        "tensorflow_one_channel": ["avx512f"],
        "tensorflow_strided_point": ["avx512f"],
        "tensorflow_volume_ends": ["avx512f"],
        "torch_one_channel_strides": ["avx512f"],
        "torch_strided_point": ["avx512f"],
        "torch_volume_ends": ["avx512f"],
    }


def test_a_fixed_one_is_noticed(tmp_path: Path) -> None:
    script = tmp_path / "mended.py"
    script.write_text("print('fixed')\nraise SystemExit(1 + 1 != 2)\n")
    assert CHECK["here"](script).broken is False
    script.write_text("print('still broken')\nraise SystemExit(1 + 1 != 3)\n")
    assert CHECK["here"](script).broken is True
    script.write_text("print('neither')\n")
    with pytest.raises(RuntimeError, match=r"mended\.py does not say how it ended"):
        CHECK["here"](script)
