"""The smallest case that still fails on a target, found in a worker process that it may kill."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from .cases import Case
from .reports.document import Small
from .runner import Limits, Result, TargetError, Worker
from .shrink import shrink

#: Seconds after which no smaller case is tried.
PATIENCE = 20.0


def smallest(
    name: str,
    results: list[Result],
    limits: Limits,
    *,
    most: int,
    patience: float = PATIENCE,
) -> dict[str, Small]:
    """Shrink the first few failing cases of a target.

    Args:
        name: of the target, for :func:`.targets.load`.
        results: failing ones.
        limits: of each case.
        most: how many to shrink. Of those that fail in the same way, by the same judge, one is
            shrunk before any other is.
        patience: seconds for each.

    Returns:
        By the line of the failing case, the smallest one that fails in the same way.
    """
    found: dict[str, Small] = {}
    # A smaller case that hangs, near one that crashed, must not take longer than all of it.
    limits = replace(limits, seconds=min(limits.seconds, patience))
    with Worker(name, limits) as worker:
        for result in _various(results)[:most]:
            try:
                found[result.case.line] = _shrunk(worker, result, patience)
            except TargetError:  # it was loaded before; what is known stands
                break
    return found


def _various(results: list[Result]) -> list[Result]:
    """The first of each kind of failure, then the rest."""
    kinds: dict[tuple[str, str, str], Result] = {}
    for result in results:
        kinds.setdefault((result.verdict.status, result.case.judge, result.case.wrong), result)
    first = list(kinds.values())
    return first + [result for result in results if result not in first]


def _shrunk(worker: Worker, result: Result, patience: float) -> Small:
    deadline = perf_counter() + patience
    details = {result.case.line: result.verdict.detail}

    def fails(case: Case) -> bool:
        if perf_counter() > deadline:
            return False
        verdict = worker.judge(case, probe=not result.claimed).verdict
        details[case.line] = verdict.detail
        return verdict.status == result.verdict.status

    case = shrink(result.case, fails)
    return Small(case, details[case.line], worker.snippet(case))
