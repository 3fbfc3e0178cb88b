"""Anonymous memory that the conversion of a large checkpoint takes.

    python -m convspec_benchmarks.memory --megabytes 4096 --largest 512 --json result.json

A safetensors file of kernels is made in a temporary folder and converted, in a process of its own
that polls its own RssAnon (Linux, /proc/self/status): what the files' pages take is the system's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from .running import Report, about_the_machine

#: Of the issue that asked for it: so many times the largest tensor, and so many bytes.
TIMES, BESIDE = 1.3, 100 * 10**6


def measure(megabytes: int, largest: int) -> dict[str, Any]:
    """Convert a checkpoint of ``megabytes`` with tensors of ``largest`` (MB) at most."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        biggest = write(path, megabytes * 2**20, largest * 2**20)
        command = [sys.executable, "-m", "convspec_benchmarks.memory", "--convert", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        size = path.stat().st_size
    return {
        "file_bytes": size,
        "largest_bytes": biggest,
        "limit_bytes": int(TIMES * biggest) + BESIDE,
        **found,
    }


def write(path: Path, size: int, largest: int) -> int:
    """Kernels of several shapes in torch's order, by hand: no writer has to hold them."""
    rows = max(round((largest / 4 / 9) ** 0.5), 1)
    each: int = rows * rows * 9 * 4
    header: dict[str, dict[str, Any]] = {}
    at = 0
    while at + each <= max(size, each):
        name = f"layers.{len(header)}.weight"
        header[name] = {
            "dtype": "F32",
            "shape": [rows, rows, 3, 3],
            "data_offsets": [at, at + each],
        }
        at += each
    text = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _ in header:
            left = each
            while left:
                piece = min(left, 2**24)
                stream.write(rng.bytes(piece))
                left -= piece
    return each


def _convert(path: Path) -> dict[str, Any]:
    from convspec.convert import checkpoint

    rules = {"kinds": {"*": "conv"}}
    before, peak, over = anonymous(), 0, threading.Event()

    def poll() -> None:
        nonlocal peak
        while not over.wait(0.002):
            peak = max(peak, anonymous())

    thread = threading.Thread(target=poll)
    thread.start()
    start = time.perf_counter()
    try:
        checkpoint(path, path.with_name("converted.safetensors"), "torch", "keras", rules=rules)
    finally:
        over.set()
        thread.join()
    seconds = time.perf_counter() - start
    return {"before_bytes": before, "added_bytes": peak - before, "seconds": seconds}


def anonymous() -> int:
    """Bytes of anonymous memory that this process has now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not say what memory is anonymous")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m convspec_benchmarks.memory")
    parser.add_argument("--megabytes", type=int, default=4096)
    parser.add_argument("--largest", type=int, default=256)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--convert", metavar="FILE", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.convert:
        print(json.dumps(_convert(Path(parsed.convert))))
        return
    report = Report(about_the_machine())
    row = measure(parsed.megabytes, parsed.largest)
    report.rows.append(row)
    for name, value in row.items():
        shown = f"{value / 1e6:.0f} MB" if name.endswith("bytes") else f"{value:.1f} s"
        print(f"{name.removesuffix('_bytes'):8} {shown}")
    if parsed.json:
        report.save(Path(parsed.json))


if __name__ == "__main__":
    main()
