"""Which of the known upstream bugs are still there.

python conformance/upstream/check.py [name ...]

Each script beside this one shows one bug: it prints ``still broken`` or ``fixed``, what is expected
and what came, and ends with status 1 or 0. ``# environment: NAME=value`` in its first lines is set
before it starts; ``# crashes`` says that the bug ends the process; ``# needs: flag`` names one in
/proc/cpuinfo without which the framework runs other kernels, which are right: there a bug that is
not seen is ``not applicable here``, not fixed. Those that do not crash share one process for each
environment, since importing the frameworks is what takes time.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent
#: Seconds that a process may take.
LIMIT = 600


@dataclass(frozen=True)
class Finding:
    """What a script says.

    Attributes:
        name: of the script.
        broken: whether the bug is still there.
        text: versions, what was expected and what came.
        missing: the flag that the bug needs and this processor lacks.
    """

    name: str
    broken: bool
    text: str
    missing: str = ""

    @property
    def fixed(self) -> bool:
        """Whether the bug is gone, rather than not to be seen on this processor."""
        return not (self.broken or self.missing)


def scripts() -> dict[str, Path]:
    """Every script by name."""
    return {path.stem: path for path in sorted(HERE.glob("*.py")) if path.stem != "check"}


def heading(path: Path) -> tuple[dict[str, str], bool]:
    """The environment that a script asks for, and whether its bug ends the process."""
    marks = _marks(path)
    named = [mark.removeprefix("environment: ") for mark in marks if mark.startswith("environment")]
    return dict(entry.split("=", 1) for entry in named), "crashes" in marks


def needs(path: Path) -> list[str]:
    """The flags of the processor without which a script's bug is not there."""
    return [mark.removeprefix("needs: ") for mark in _marks(path) if mark.startswith("needs: ")]


def _marks(path: Path) -> list[str]:
    lines = path.read_text().splitlines()[:3]
    return [line.removeprefix("# ") for line in lines if line.startswith("# ")]


def processor_flags(cpuinfo: str = "/proc/cpuinfo") -> set[str]:
    """What the processor has; nothing where the system does not tell."""
    try:
        lines = Path(cpuinfo).read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split()[2:])


def judged(finding: Finding, path: Path, flags: set[str]) -> Finding:
    """A finding with what the processor lacks for it. A bug that is seen needs no excuse."""
    missing = " ".join(flag for flag in needs(path) if flag not in flags)
    if finding.broken or not missing:
        return finding
    text = f"not applicable here: the processor has no {missing}\n{finding.text}"
    return replace(finding, text=text, missing=missing)


def check(names: list[str]) -> Iterator[Finding]:
    """Run scripts by name."""
    found, flags = scripts(), processor_flags()
    for finding in _run(names, found):
        yield judged(finding, found[finding.name], flags)


def _run(names: list[str], found: dict[str, Path]) -> Iterator[Finding]:
    shared: dict[tuple[tuple[str, str], ...], list[Path]] = defaultdict(list)
    for name in names:
        environment, crashes = heading(found[name])
        if crashes:
            yield _alone(found[name], environment)
        else:
            shared[tuple(environment.items())].append(found[name])
    for settings, paths in shared.items():
        yield from _together(paths, dict(settings))


def _start(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def _alone(path: Path, environment: dict[str, str]) -> Finding:
    done = _start([str(path)], environment)
    if done.returncode < 0:
        why = [line for line in done.stderr.splitlines() if "Check failed" in line]
        return Finding(path.stem, True, f"ended by signal {-done.returncode}: {' '.join(why)}")
    if done.returncode > 1 or not done.stdout:
        raise RuntimeError(f"{path.name} went wrong:\n{done.stderr[-2000:]}")
    return Finding(path.stem, done.returncode == 1, done.stdout.strip())


def _together(paths: list[Path], environment: dict[str, str]) -> list[Finding]:
    done = _start([__file__, "--here", *(path.stem for path in paths)], environment)
    if done.returncode:
        raise RuntimeError(f"{[path.stem for path in paths]} went wrong:\n{done.stderr[-2000:]}")
    return [Finding(**entry) for entry in json.loads(done.stdout.splitlines()[-1])]


def here(path: Path) -> Finding:
    """Run a script in this process."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(path))
    except SystemExit as end:
        return Finding(path.stem, bool(end.code), said.getvalue().strip())
    raise RuntimeError(f"{path.name} does not say how it ended.")


def main() -> int:
    parser = argparse.ArgumentParser(description="Which known upstream bugs are still there.")
    parser.add_argument("names", nargs="*", help="scripts; all of them by default")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        findings = [here(scripts()[name]) for name in arguments.names]
        print(json.dumps([vars(finding) for finding in findings]))
        return 0
    fixed = 0
    for finding in check(arguments.names or list(scripts())):
        print(f"{finding.name}\n  " + finding.text.replace("\n", "\n  "))
        fixed += finding.fixed
    return int(fixed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
