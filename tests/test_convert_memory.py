"""A checkpoint is converted tensor by tensor: what it takes does not grow with the file."""

from __future__ import annotations

import sys

import pytest

from convspec_benchmarks import memory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what memory is anonymous")
def test_a_checkpoint_takes_no_more_than_its_largest_tensor() -> None:
    found = memory.measure(megabytes=256, largest=8)
    assert found["file_bytes"] > 250e6
    # 1.3 times the largest tensor and 100 MB: less than half of the file.
    assert found["added_bytes"] <= found["limit_bytes"] < 0.5 * found["file_bytes"]
    assert found["before_bytes"] > 0
