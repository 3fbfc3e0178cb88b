"""Looking for the first case that catches a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, zip_longest

from ..cases import GRADIENTS, Case
from ..generate import suite
from ..judges import Verdict, judge
from ..runner import Limits, Worker
from .engine import FAULTS, Fault

#: Seconds after which a case of a fatal fault hangs; right ones take milliseconds.
PATIENCE = 2.0


@dataclass(frozen=True)
class Hunt:
    """What came of one fault.

    Attributes:
        fault: what was looked for.
        cases: how many cases were run.
        case: the one that caught it, or None.
        verdict: of that case, or None.
    """

    fault: Fault
    cases: int
    case: Case | None = None
    verdict: Verdict | None = None

    @property
    def caught(self) -> bool:
        """Whether the suite noticed."""
        return self.case is not None


@lru_cache(maxsize=4)
def in_turns(level: str, seed: int) -> tuple[Case, ...]:
    """The cases of a level, one of each judge, filling and wrong call after another."""
    kinds: dict[tuple[str, ...], list[Case]] = {}
    for case in suite(level, seed):
        kinds.setdefault((case.judge, case.wrong, case.filling), []).append(case)
    return tuple(case for case in chain(*zip_longest(*kinds.values())) if case is not None)


def check(name: str, seed: int = 0, budget: int | None = None, level: str = "standard") -> Hunt:
    """Run cases on one fault until one catches it: see :func:`run_faults`."""
    (hunt,) = run_faults([name], level, seed, budget)
    return hunt


def run_faults(
    names: Iterable[str] = (),
    level: str = "standard",
    seed: int = 0,
    budget: int | None = None,
    ended: Callable[[Hunt], None] = lambda hunt: None,
) -> list[Hunt]:
    """Run cases on each fault until one catches it.

    A case that is not claimed catches it too: the NumPy engine claims all of DESIGN section 3.
    Each case is run on all faults that are left, so that what is expected is computed once.

    Args:
        names: of the faults, in the order of the hunts; none means all.
        level: of the cases.
        seed: of the cases.
        budget: most cases to run on a fault, None for the whole level.
        ended: called with each hunt as it ends.
    """
    faults = [FAULTS[name] for name in tuple(names) or tuple(FAULTS)]
    counts = dict.fromkeys(faults, 0)
    hunts: dict[Fault, Hunt] = {}

    def end(hunt: Hunt) -> None:
        hunts[hunt.fault] = hunt
        ended(hunt)

    with ExitStack() as stack:
        judges = {fault: stack.enter_context(_judged(fault)) for fault in faults}
        for case in in_turns(level, seed):
            for fault in [fault for fault in faults if fault not in hunts]:
                if fault.backward and case.judge not in GRADIENTS:
                    continue
                if counts[fault] == budget:
                    end(Hunt(fault, counts[fault]))
                    continue
                counts[fault] += 1
                verdict = judges[fault](case)
                if verdict.bad or verdict.status == "unclaimed":
                    end(Hunt(fault, counts[fault], case, verdict))
    for fault in faults:
        if fault not in hunts:
            end(Hunt(fault, counts[fault]))
    return [hunts[fault] for fault in faults]


@contextmanager
def _judged(fault: Fault) -> Iterator[Callable[[Case], Verdict]]:
    """A judge of cases; fatal faults get a process of their own."""
    if not fault.fatal:
        fault.reset()
        yield lambda case: judge(case, fault)
        return
    with Worker(fault.source, Limits(seconds=PATIENCE)) as worker:
        yield lambda case: worker.judge(case, False).verdict


def table(hunts: Iterable[Hunt]) -> list[tuple[str, str, str, str]]:
    """Rows of fault, judge, cases needed, and the case that caught it."""
    return [
        (
            hunt.fault.name,
            "ESCAPED" if hunt.case is None else hunt.case.judge,
            str(hunt.cases),
            "" if hunt.case is None else hunt.case.line,
        )
        for hunt in hunts
    ]
