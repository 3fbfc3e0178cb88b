"""A volume on disk, larger than the memory it may take, through ``convspec apply``.

    python -m convspec_benchmarks.volumes --folder /scratch --json result.json

Makes the volume, runs one convolution over it under a limit of memory, and compares with the same
convolution on a part of it in memory. It may be given little time (``--seconds``): the run is then
killed and goes on when the same command is given again; the JSON file gathers what they all took.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from convspec import ConvSpec
from convspec.volumes.sizing import bytes_of

from .running import about_the_machine

#: Half the resolution, as for a pyramid; the amounts of padding depend on no size.
SPEC = ConvSpec(1, 1, 3, stride=2, padding=1, bias=False, layout="NCDHW")
#: Planes of the part that is computed in memory.
PART = 64
#: The run, in a process of its own, for it has to be killed.
RUN = """
import sys
from convspec.volumes import apply

files = ("spec.json", "w.npz", "volume.npy", "out.npy")
print(apply(*files, engine=sys.argv[1], memory=sys.argv[2], source_layout="DHW").read)
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="convspec_benchmarks.volumes", description=__doc__)
    parser.add_argument("--folder", required=True, help="where volume and result are kept")
    parser.add_argument("--shape", default="2000,1000,1000", help="of the volume (8 GB)")
    parser.add_argument("--memory", default="1.5GB", help="of all processes together (1.5GB)")
    parser.add_argument("--engine", default="torch", help="backend that computes (torch)")
    parser.add_argument("--seconds", type=float, default=1e9, help="kill the run after them")
    parser.add_argument("--cgroup", help="folder of a control group that the run is put into")
    parser.add_argument("--json", required=True, metavar="FILE", help="what was measured")
    parsed = parser.parse_args()
    shape = tuple(int(n) for n in parsed.shape.split(","))
    folder = Path(parsed.folder)
    volume = made(folder, shape)
    path = Path(parsed.json)
    report = json.loads(path.read_text()) if path.exists() else _begun(parsed, shape)
    before = in_memory(volume, parsed.engine)
    done = go(folder, volume, parsed)
    after = in_memory(volume, parsed.engine)
    report["goes"].append({"load": os.getloadavg()[0], "in_memory": [before, after], **done})
    _conclude(report, shape)
    path.write_text(json.dumps(report, indent=1) + "\n")
    told = {key: value for key, value in report.items() if key not in ("spec", "about", "goes")}
    print(json.dumps(told, indent=1))
    return 0


def made(folder: Path, shape: tuple[int, ...]) -> Path:
    """A volume of small integers as float32."""
    path = folder / "volume.npy"
    if not path.exists():
        rng = np.random.default_rng(0)
        plane = rng.integers(-3, 4, shape[1:]).astype("float32")
        array = np.lib.format.open_memmap(folder / "part.npy", "w+", "float32", shape)
        for i in range(shape[0]):
            array[i] = np.roll(plane, 7 * i)
        del array
        (folder / "part.npy").rename(path)
    return path


def in_memory(volume: Path, engine: str) -> list[float]:
    """Seconds, of the clock and of processors, for a position of some planes in memory."""
    x = np.array(np.load(volume, mmap_mode="r")[None, None, :PART])
    weight = np.ones(SPEC.weight_shape, "float32")
    seconds = []
    for _ in range(4):
        start, processors = time.perf_counter(), time.process_time()
        y = SPEC(x, weight, backend=engine)
        seconds.append((time.perf_counter() - start, time.process_time() - processors))
        del y
    return [median(found) / x.size for found in zip(*seconds[1:], strict=True)]


def go(folder: Path, volume: Path, parsed: argparse.Namespace) -> dict[str, Any]:
    """One run of the command, killed when its time is over."""
    (folder / "spec.json").write_text(json.dumps(SPEC.to_dict()))
    np.savez(folder / "w.npz", weight=np.ones(SPEC.weight_shape, "float32"))
    journal = folder / "out.npy.part.journal"
    start = time.perf_counter()
    before = _lines(journal)
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, parsed.engine, parsed.memory],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_into(parsed.cgroup),
    )
    peak, last, processors = 0, {}, 0.0
    while run.poll() is None and time.perf_counter() - start < parsed.seconds:
        memory, used = _taken(run.pid)
        peak, processors = max(peak, memory), max(processors, used)
        if journal.exists():
            last = _journal(journal)
        time.sleep(0.25)
    killed = run.poll() is None
    if killed:
        run.send_signal(signal.SIGKILL)
    said = run.communicate()[0]
    if not killed and run.returncode:
        raise SystemExit(said)
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": processors,
        "tiles_before": before,
        "tiles_after": _lines(journal) if killed else None,
        "killed": killed,
        "peak_bytes": peak,
        **last,
        **({} if killed else {"read_bytes": int(said)}),
    }


def _into(cgroup: str | None) -> Callable[[], None] | None:
    if cgroup is None:
        return None

    def enter() -> None:
        (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))

    return enter


def _lines(journal: Path) -> int:
    """How many tiles a journal says are done."""
    return max(journal.read_bytes().count(b"\n") - 1, 0) if journal.exists() else 0


def _journal(journal: Path) -> dict[str, Any]:
    """What a journal says of the plan."""
    try:
        lines = journal.read_text().splitlines()
        plan = json.loads(lines[0].rpartition(" ")[0])["plan"]
    except (OSError, IndexError, ValueError):  # there is none yet
        return {}
    return {"plan": plan}


def _taken(pid: int) -> tuple[int, float]:
    """What a process and its children have taken so far.

    Returns:
        The sum of the most bytes that each has had in memory, files' pages included, and the
        seconds of processors.
    """
    memory, ticks = 0, 0
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0, 0.0
    for each in (pid, *children):
        try:
            status = Path(f"/proc/{each}/status").read_text().splitlines()
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        memory += sum(int(s.split()[1]) * 1024 for s in status if s.startswith("VmHWM"))
        ticks += int(fields[11]) + int(fields[12])  # utime and stime
    return memory, ticks / os.sysconf("SC_CLK_TCK")


def _begun(parsed: argparse.Namespace, shape: tuple[int, ...]) -> dict[str, Any]:
    report: dict[str, Any] = {"about": about_the_machine(), "spec": SPEC.to_dict(), "goes": []}
    report |= {"engine": parsed.engine, "shape": list(shape), "bytes": 4 * prod(shape)}
    report["memory_limit"] = bytes_of(parsed.memory)
    report["cgroup_limit"] = _limit(parsed.cgroup)
    return report


def _limit(cgroup: str | None) -> int | None:
    if cgroup is None:
        return None
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (Path(cgroup) / name).exists():
            return int((Path(cgroup) / name).read_text())
    return None


def _conclude(report: dict[str, Any], shape: tuple[int, ...]) -> None:
    """The sums over all goes."""
    goes = report["goes"]
    last = goes[-1]
    report["finished"] = not last["killed"]
    report["peak_bytes"] = max(go["peak_bytes"] for go in goes)
    tile = next((go["plan"]["tile"] for go in goes if "plan" in go), None)
    if tile is None:
        return
    out = SPEC.output_shape((1, 1, *shape))[2:]
    counts = [-(-n // t) for n, t in zip(out, tile[2:], strict=True)]
    done = prod(counts) if report["finished"] else last["tiles_after"]
    report["tile"], report["tiles"], report["tiles_done"] = tile[2:], prod(counts), done
    positions = prod(shape) * done / prod(counts)
    samples = [sample for go in goes for sample in go["in_memory"]]
    for i, name in enumerate(("seconds", "processor_seconds")):
        report[name] = sum(go[name] for go in goes)
        apart = report[f"in_memory_{name}"] = positions * median(each[i] for each in samples)
        report[f"{name}_of_in_memory"] = report[name] / apart
    # Each cut is read twice as far as the halo reaches to both sides.
    sides = zip(shape, counts, SPEC.halo, strict=True)
    report["predicted_read_bytes"] = 4 * prod(n + (c - 1) * (lo + hi) for n, c, (lo, hi) in sides)
    if report["finished"]:
        report["read_bytes"] = last.get("read_bytes")


if __name__ == "__main__":
    sys.exit(main())
