"""TensorFlow on two logical devices: replicas train alike; a split volume is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_two_devices() -> None:
    """In one process of its own: how many devices there are is set before TensorFlow starts."""
    done = subprocess.run(
        [sys.executable, HERE / "tf_distributed.py"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["replicas"] == [True] * 4
    assert report["layer"] is True
    assert report["dtensors"]["batch"] is True
    assert report["dtensors"]["space"].startswith(
        "UnsupportedError: x: its DTensor layout splits D over 2 devices; TensorFlow convolves "
        "what is split along the batch N, since it exchanges borders on TPUs alone."
    )
