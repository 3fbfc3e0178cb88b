"""Runs cases on a target, in processes of its own: what kills or hangs them is a verdict.

A lane is a thread here with one worker process; the lanes of a target share its cases. A worker
is kept over many cases, since loading a framework takes seconds, and replaced when it dies.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from convspec import BackendNotFoundError, ConvSpecError

from .cases import GRADIENTS, Case
from .catalogue import describe
from .judges import Verdict
from .worker import Answer, Loaded, serve

#: Seconds that a target may take to load, framework and all.
LOADING = 180.0
#: Seconds after a worker's own limit, before the parent ends it.
GRACE = 3.0
#: Workers in a row that may fail to load before the target is given up.
TRIES = 3


@dataclass(frozen=True)
class Limits:
    """What one case may take.

    Attributes:
        seconds: after which a case hangs.
        memory: bytes of address space of a worker process, or None for no limit.
    """

    seconds: float = 60.0
    memory: int | None = None


@dataclass(frozen=True)
class Result:
    """One case on one target.

    Attributes:
        case: what was computed.
        verdict: what came of it.
        claimed: whether the target says that it computes the case.
        seconds: how long it took.
        steered: whether the case was drawn for this target, in the place of one that it does not
            claim.
    """

    case: Case
    verdict: Verdict
    claimed: bool = True
    seconds: float = 0.0
    steered: bool = False

    @property
    def unexpected(self) -> bool:
        """Whether the target could claim the case: it does not, and passes it."""
        return not self.claimed and self.verdict.status == "pass"


@dataclass
class Run:
    """What came of the cases on one target.

    Attributes:
        target: its name, as it was asked for.
        version: of its framework, empty where it does not say.
        results: in the order of the cases; then those that were drawn for the target.
        broken: why the target could not be loaded, or was given up; empty if all cases were run.
    """

    target: str
    version: str = ""
    results: list[Result] = field(default_factory=list)
    broken: str = ""

    @property
    def failures(self) -> list[Result]:
        """The results with which something is wrong."""
        return [result for result in self.results if result.verdict.bad]


class TargetError(ConvSpecError):
    """A target could not be loaded in a worker process; the message says why."""


def require(name: str) -> None:
    """Refuse a target that cannot be loaded here, before any work is done; nothing is imported.

    Raises:
        ConvSpecError: nothing has this name, or its framework is not installed.
    """
    if ":" in name:
        # As ``python -m`` does: the module may lie where the command is given.
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        return
    description = describe(name)
    if not description.installed:
        raise BackendNotFoundError(
            f"backend: {name!r} needs {' and '.join(description.modules)}, which is not installed."
        )


class Worker:
    """One worker process, replaced by another when a case ends it. Not for several threads."""

    def __init__(self, name: str, limits: Limits = Limits()) -> None:
        self.name = name
        self.limits = limits
        self._folder = tempfile.TemporaryDirectory(prefix="convspec-")
        self._log = Path(self._folder.name) / "log"
        self._process: Any = None
        self._connection: Any = None

    def start(self) -> Loaded:
        """Load the target in a new process.

        Raises:
            TargetError: it could not be loaded; the message says why.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._log.write_bytes(b"")
        limits = self.limits
        self._process = context.Process(
            target=serve,
            args=(theirs, self.name, str(self._log), limits.seconds, limits.memory),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        replies = self._receive(LOADING)
        if not replies:
            raise TargetError(f"backend: {self.name!r} could not be loaded: {self._died()}.")
        if not isinstance(replies[0], Loaded):
            self.stop()
            raise TargetError(replies[0])
        return replies[0]

    def judge(self, case: Case, probe: bool = False) -> Answer:
        """What comes of a case, whatever it does to the process.

        Raises:
            TargetError: no new process could load the target.
        """
        began = perf_counter()
        answer = self._ask("judge", case, probe)
        if isinstance(answer, Answer):
            return answer
        return Answer(answer, claimed=True, seconds=perf_counter() - began)

    def instead(self, case: Case) -> Case | None:
        """A case that the target claims, for the place of one that it does not, if there is any."""
        answer = self._ask("instead", case)
        return answer if isinstance(answer, Case) else None

    def snippet(self, case: Case) -> str:
        """Python source that shows a case; empty where the process did not survive writing it."""
        answer = self._ask("snippet", case)
        return answer if isinstance(answer, str) else ""

    def _ask(self, kind: str, *arguments: Any) -> Any:
        """The answer to a question, or a verdict "crash" or "hang" if the process did not survive.

        Raises:
            TargetError: no new process could load the target.
        """
        if self._process is None:
            self._restart()
        began = perf_counter()
        try:
            self._connection.send((kind, *arguments))
            replies = self._receive(self.limits.seconds + GRACE)
        except (BrokenPipeError, ConnectionResetError):
            replies = []
        if replies:
            return replies[0]
        late = perf_counter() - began >= self.limits.seconds
        ended = self._died()
        if late:
            said = self._last_words()
            return Verdict("hang", f"no answer within {self.limits.seconds:g} s. {said}".strip())
        return Verdict("crash", ended)

    def _restart(self) -> None:
        for _ in range(TRIES - 1):
            with contextlib.suppress(TargetError):
                self.start()
                return
        self.start()

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
            self._connection.close()

    def close(self) -> None:
        """End the process and remove what it wrote."""
        self.stop()
        self._folder.cleanup()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, seconds: float) -> list[Any]:
        """The next answer, which may be None; no item if the process ends or ``seconds`` pass."""
        try:
            return [self._connection.recv()] if self._connection.poll(seconds) else []
        except (EOFError, ConnectionResetError):
            return []

    def _died(self) -> str:
        """End the process; how it ended by itself, and the last that it wrote."""
        self._process.join(GRACE)
        code = self._process.exitcode
        self.stop()
        said = self._last_words()
        return _ending(code) + (f": {said}" if said else "")

    def _last_words(self) -> str:
        """faulthandler's summary and innermost frames; else the last lines that were written."""
        text = self._log.read_text(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        for i, line in enumerate(lines):
            if line.startswith(("Fatal Python error", "Timeout (")):
                frames = [at for at in lines[i:] if at.startswith("File ")]
                return "\n".join([line, *frames[:3]])
        return "\n".join(lines[-2:])


def _ending(code: int | None) -> str:
    if code is None:
        return "the process did not answer"
    if code >= 0:
        return f"the process ended with status {code}"
    name = signal.Signals(-code).name
    memory = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
    return f"the process was ended by {name}{memory}"


def run(
    name: str,
    cases: Sequence[Case],
    *,
    jobs: int = 1,
    limits: Limits = Limits(),
    probe: bool = False,
    steered: bool = False,
    loaded: Callable[[Loaded], Mapping[str, Result]] = lambda loaded: {},
    record: Callable[[Result], None] = lambda result: None,
) -> Run:
    """Judge cases on a target.

    Args:
        name: of the target, for :func:`.targets.load`; it is loaded in worker processes alone.
        cases: what to compute. The results have their order, whatever ``jobs`` is.
        jobs: worker processes at a time.
        limits: of each case.
        probe: whether to run what the target does not claim, too.
        steered: whether to run another case, which it does claim, in the place of each that it
            does not: see :mod:`.steering`.
        loaded: called once, with what is known of the target; gives the results that an earlier
            run has left, by the case's line. Those cases are not run again.
        record: called with each new result as it comes, by one thread at a time.
    """
    workers = [Worker(name, limits) for _ in range(max(1, min(jobs, len(cases))))]
    stopped = threading.Event()
    lock = threading.Lock()
    found: dict[int, Result] = {}
    more: dict[int, Result] = {}
    with ThreadPoolExecutor(len(workers)) as lanes:
        try:
            try:
                about, *_ = lanes.map(Worker.start, workers)
            except TargetError as error:
                return Run(name, broken=str(error))
            run = Run(name, about.version)
            known = loaded(about)
            # Gradients first, which take longest: else one lane would end long after the others.
            todo = iter(sorted(range(len(cases)), key=lambda i: cases[i].judge not in GRADIENTS))

            def judged(worker: Worker, case: Case, into: dict[int, Result], i: int) -> bool:
                """Whether the case is claimed, once there is a result of it."""
                result = known.get(case.line)
                answer = None if result else worker.judge(case, probe)
                with lock:
                    if stopped.is_set():  # and the worker with it: that is no verdict
                        return True
                    if answer is not None:
                        result = Result(case, answer.verdict, answer.claimed, answer.seconds)
                    assert result is not None
                    result = replace(result, steered=into is more)
                    # A property may ask for a spec that is not claimed: in another's place that
                    # says nothing.
                    if into is found or result.verdict.status != "unclaimed":
                        into[i] = result
                    if answer is not None:
                        record(result)
                    return result.claimed

            def lane(worker: Worker) -> None:
                while not stopped.is_set():
                    with lock:
                        i = next(todo, None)
                    if i is None:
                        return
                    if judged(worker, cases[i], found, i) or not steered:
                        continue
                    case = worker.instead(cases[i])
                    if case is not None:
                        judged(worker, case, more, i)

            for future in [lanes.submit(lane, worker) for worker in workers]:
                try:
                    future.result()
                except TargetError as error:
                    run.broken = str(error)
        finally:
            stopped.set()
            for worker in workers:
                worker.close()
    run.results = [results[i] for results in (found, more) for i in sorted(results)]
    return run
