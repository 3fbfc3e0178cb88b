"""``convspec conformance``: its options, and what they do."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from convspec import ConvSpecError
from convspec.dispatch import entry_points
from convspec.tables import Column, Row, progress, show

from . import capabilities, floor
from .cases import Case
from .catalogue import CATALOGUE, describe
from .generate import LEVELS, suite
from .journal import Journal
from .judges import possible
from .reports import document, junit, markdown, page, terminal
from .runner import Limits, Result, Run, require, run
from .smallest import smallest
from .worker import Loaded

#: Forms of report on disk, by option.
FORMS: dict[str, Callable[[document.Document], str]] = {
    "json": document.text,
    "junit": junit.junit,
    "markdown": markdown.markdown,
    "html": page.page,
}
#: What each level is for.
AIMS = {
    "smoke": "a look after each change: under 10 s a backend on 2 cores",
    "standard": "choices in threes, all known traps: under 60 s a backend on 2 cores",
    "full": "a release: takes its time, probes what is not claimed, and goes on by --resume",
}
GIB = 2**30


def add_parsers(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands to the parser of ``convspec conformance``."""
    commands = parser.add_subparsers(
        dest="subcommand", metavar="COMMAND", title="commands", required=True
    )
    _add_run(commands)
    _add_list(commands)
    _add_faults(commands)


# ---- convspec conformance run ----


def _run(parsed: argparse.Namespace) -> int:
    names = list(dict.fromkeys(parsed.backend))
    for name in names:
        require(name)
    files = {form: Path(getattr(parsed, form)) for form in FORMS if getattr(parsed, form)}
    for file in files.values():
        if not file.parent.is_dir():  # said now, not after an hour
            raise ConvSpecError(f"report: there is no folder {file.parent} for {file.name}.")
    with progress(1) as step:
        step("drawing the cases")
        cases = _cases(parsed)
    level = "selection" if parsed.case else parsed.level
    settings = document.Settings(
        level, parsed.seed, tuple(parsed.only), parsed.probe or level == "full"
    )
    limits = Limits(parsed.timeout, None if parsed.memory is None else int(parsed.memory * GIB))
    runs = _runs(names, cases, settings, limits, parsed)
    report = document.document(runs, cases, settings, _small(runs, limits, parsed.shrink))
    terminal.write(report)
    for form, file in files.items():
        file.write_text(FORMS[form](report), encoding="utf-8")
    if not any(found.results for found in runs):
        return 2
    held = [_holds_its_floor(name, found) for name, found in zip(names, runs, strict=True)]
    return int(not all(held) or any(map(partial(_wanting, parsed.floor), report["targets"])))


def _holds_its_floor(name: str, found: Run) -> bool:
    """Whether an adapter of this repository claims all that it has to; says so if not."""
    missing = [
        result
        for result in found.results
        if not result.claimed and floor.own().requires(name, result.case)
    ]
    if missing:
        print(
            f"\n{name} claims less than its floor: {len(missing)} cases are missing, such as"
            f"\n  {missing[0].case.line}\n  {missing[0].verdict.detail}"
        )
    return not missing


def _small(runs: list[Run], limits: Limits, most: int) -> dict[tuple[str, str], document.Small]:
    """The smallest cases near the first failing ones, by target and line."""
    failing = [found for found in runs if found.failures and most]
    small = {}
    with progress(len(failing)) as step:
        for found in failing:
            step(f"{found.target}: shrinking what failed")
            shown = smallest(found.target, found.failures, limits, most=most)
            small.update({(found.target, line): case for line, case in shown.items()})
    return small


def _wanting(least: float, target: document.Document) -> bool:
    """Whether a target has bad cases, was not run to the end, or claims too little."""
    return bool(
        target["broken"] or document.failed(target) or 100 * target["claimed_share"] < least
    )


def _cases(parsed: argparse.Namespace) -> list[Case]:
    drawn = [possible(line) for line in parsed.case] or suite(parsed.level, parsed.seed)
    cases = [case for case in dict.fromkeys(drawn) if _asked(case, parsed.only)]
    if not cases:
        raise ConvSpecError(f"only: no case of this level has {' and '.join(parsed.only)!r}.")
    return cases


def _asked(case: Case, only: list[str]) -> bool:
    """Whether a case's line or capabilities have every text."""
    texts = (case.line, *capabilities.labels(case))
    return all(any(wanted.lower() in text.lower() for text in texts) for wanted in only)


def _runs(
    names: list[str],
    cases: list[Case],
    settings: document.Settings,
    limits: Limits,
    parsed: argparse.Namespace,
) -> list[Run]:
    journal = Journal(Path(parsed.resume)) if parsed.resume else None
    runs = []
    try:
        with progress(len(names) * len(cases), remaining=True) as step:
            step("")
            for name in names:
                recording = _Recording(name, journal, step)
                runs.append(
                    run(
                        name,
                        cases,
                        jobs=parsed.jobs,
                        limits=limits,
                        probe=settings.probe,
                        steered=not (parsed.case or parsed.only),
                        loaded=recording.loaded,
                        record=recording.record,
                    )
                )
    finally:
        if journal is not None:
            journal.close()
    return runs


class _Recording:
    """What is done with the results of one target as they come."""

    def __init__(self, name: str, journal: Journal | None, step: Callable[[str], None]) -> None:
        self.name = name
        self.journal = journal
        self.step = step
        self.target = Loaded()
        self.bad = 0

    def loaded(self, target: Loaded) -> dict[str, Result]:
        self.target = target
        if self.journal is None:
            return {}
        known = self.journal.known(self.name, target)
        for result in known.values():
            self._count(result)
        return known

    def record(self, result: Result) -> None:
        if self.journal is not None:
            self.journal.add(self.name, self.target, result)
        self._count(result)

    def _count(self, result: Result) -> None:
        self.bad += result.verdict.bad
        if not result.steered:  # which the length of the bar does not know of
            self.step(f"{self.name}: {self.bad} bad")


def _add_run(commands: Any) -> None:
    command = commands.add_parser(
        "run",
        help="judge backends, case by case",
        description="Judge backends against the reference, case by case, in processes of their\n"
        "own: a crash or a hang is a result, and the run goes on.",
        epilog="examples:\n"
        "  convspec conformance run --backend torch --backend jax --level smoke\n"
        "  convspec conformance run --backend my_package.backend:backend --html report.html\n"
        "  convspec conformance run --backend torch --level full --resume torch.jsonl\n"
        "  convspec conformance run --backend torch \\\n"
        "    --case 'exact float32 1x2x5 seed=1 | ConvSpec(2, 3, (2,))'\n\n"
        "exit status: 0 if all is right, 1 if a case is bad, 2 if the arguments make no sense.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--backend",
        action="append",
        required=True,
        metavar="NAME",
        help="a name that 'convspec conformance list' has, or package.module:object; repeatable",
    )
    _add_level(command)
    command.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="cases whose line, or a capability of which, has TEXT, as in 'padding: same'; "
        "repeatable, each narrows further",
    )
    command.add_argument(
        "--case", action="append", default=[], metavar="LINE", help="this case alone; repeatable"
    )
    command.add_argument(
        "--probe", action="store_true", help="run unclaimed cases too, as the level full does"
    )
    command.add_argument(
        "--jobs",
        type=_positive(int),
        default=_cores(),
        metavar="COUNT",
        help="worker processes at a time (one a core: %(default)s)",
    )
    command.add_argument(
        "--timeout",
        type=_positive(float),
        default=Limits.seconds,
        metavar="SECONDS",
        help="after which a case hangs (%(default)g)",
    )
    command.add_argument(
        "--memory",
        type=_positive(float),
        metavar="GIB",
        help="most address space of a worker process (no limit)",
    )
    command.add_argument(
        "--shrink",
        type=_natural,
        default=3,
        metavar="COUNT",
        help="failing cases of each backend to shrink to the smallest that fails (%(default)s)",
    )
    command.add_argument(
        "--floor",
        type=float,
        default=0.0,
        metavar="PERCENT",
        help="a backend that claims less of the suite is bad (%(default)g)",
    )
    command.add_argument(
        "--resume",
        metavar="FILE",
        help="keep results in FILE as they come, and do not run again what it has",
    )
    for form, text in (
        ("json", "for programs; a schema comes with the package"),
        ("junit", "JUnit XML, for CI servers"),
        ("markdown", "for a pull request"),
        ("html", "one page to look around in, for any browser"),
    ):
        command.add_argument(f"--{form}", metavar="FILE", help=f"write a report {text}")
    command.set_defaults(run=_run)


# ---- convspec conformance list ----


def _list(parsed: argparse.Namespace) -> int:
    if parsed.level:
        for case in suite(parsed.level, parsed.seed):
            print(case.line)
        return 0
    rows = []
    for name in dict.fromkeys((*CATALOGUE, *sorted(entry_points()))):
        description = describe(name)
        there = description.installed
        state = "" if there else f"needs {' and '.join(description.modules)}"
        rows.append(
            Row(
                (name, description.summary or "a registered backend", state), "" if there else "dim"
            )
        )
    show([Column("backend"), Column("what it is"), Column("missing")], rows)
    print("\nA backend of your own: package.module:object. Levels:\n")
    levels = [Row((level, AIMS[level])) for level in LEVELS]
    show([Column("level"), Column("what it is for")], levels)
    return 0


def _add_list(commands: Any) -> None:
    command = commands.add_parser(
        "list",
        help="list the backends and levels, or the cases of a level",
        description="List the backends that have a name, and the levels; or the cases of a level,\n"
        "one a line, as --case takes them.",
        epilog="examples:\n  convspec conformance list\n  convspec conformance list --level smoke",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--level", choices=tuple(LEVELS), help="list the cases of this level")
    command.add_argument("--seed", type=_natural, default=0, help="of the cases (%(default)s)")
    command.set_defaults(run=_list)


# ---- convspec conformance faults ----


def _faults(parsed: argparse.Namespace) -> int:
    from . import faults

    unknown = sorted(set(parsed.fault) - set(faults.FAULTS))
    if unknown:
        raise ConvSpecError(
            f"fault: {', '.join(unknown)}: there are {', '.join(sorted(faults.FAULTS))}."
        )
    names = tuple(parsed.fault) or tuple(faults.FAULTS)
    with progress(len(names), remaining=True) as step:
        hunts = faults.run_faults(
            names,
            parsed.level,
            parsed.seed,
            parsed.budget,
            ended=lambda hunt: step(hunt.fault.name),
        )
    escaped = [hunt for hunt in hunts if not hunt.caught]
    print(f"{len(hunts) - len(escaped)} of {len(hunts)} faults are caught.\n")
    rows = [
        Row(cells, "" if hunt.caught else "bad")
        for cells, hunt in zip(faults.table(hunts), hunts, strict=True)
    ]
    columns = [Column("fault"), Column("caught by"), Column("cases", number=True)]
    show([*columns, Column("the case", wrap=True)], rows)
    return int(bool(escaped))


def _add_faults(commands: Any) -> None:
    command = commands.add_parser(
        "faults",
        help="test the suite itself by backends that are wrong on purpose",
        description="Run a level on backends that are wrong on purpose, each by one realistic\n"
        "mistake: every one must be caught.",
        epilog="exit status: 0 if all are caught, 1 if one escapes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("fault", nargs="*", metavar="FAULT", help="only these (all)")
    _add_level(command)
    command.add_argument(
        "--budget", type=_positive(int), metavar="COUNT", help="most cases for each fault (all)"
    )
    command.set_defaults(run=_faults)


# ---- arguments ----


def _add_level(command: Any) -> None:
    command.add_argument(
        "--level", choices=tuple(LEVELS), default="standard", help="how many cases (%(default)s)"
    )
    command.add_argument(
        "--seed", type=_natural, default=0, help="another seed, other cases (%(default)s)"
    )


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} should be a whole number, 0 or more")
    return int(text)


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} should be a number above 0")
        return value

    return read


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # the cores that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
