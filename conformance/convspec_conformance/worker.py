"""The process in which a target computes: it answers one question after the other.

Whatever a kernel does to the process it runs in, it does here: the parent sees the connection
close and reads this process's last words from its log.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from .cases import Case
from .catalogue import describe
from .fingerprint import fingerprint
from .judges import Verdict, claims, judge
from .shrink import snippet
from .steering import Steering
from .targets import Target, load

#: How many threads a kernel gets is said by OpenMP's variable, XLA's and TensorFlow's.
THREADS = ("OMP_NUM_THREADS", "PJRT_NPROC", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclass(frozen=True)
class Loaded:
    """What is known of a target once it is loaded.

    Attributes:
        version: of its framework, empty where it does not say.
        code: the fingerprint of its own code and the suite's.
    """

    version: str = ""
    code: str = ""


@dataclass(frozen=True)
class Answer:
    """What came of a case in this process.

    Attributes:
        verdict: the judge's.
        claimed: whether the target says that it computes the case.
        seconds: how long it took.
    """

    verdict: Verdict
    claimed: bool
    seconds: float


def serve(connection: Connection, name: str, path: str, seconds: float, memory: int | None) -> None:
    """Load a target and answer questions about it until the connection ends.

    Args:
        connection: to the parent; each question is ``(kind, *arguments)``. The first answer comes
            unasked: a :class:`Loaded`, or the reason in words where the target could not be
            loaded.
        name: of the target, for :func:`.targets.load`.
        path: of the file that takes whatever is written to stdout and stderr.
        seconds: after which a question that is not answered ends the process, the stack in its log.
        memory: most bytes of address space, or None for no limit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):  # frameworks write pages there, from C++ too
        os.dup2(log, stream)
    faulthandler.enable(file=log, all_threads=False)
    _be_killed_first()
    # Worker processes share the cores, and threads would spin while they wait for one: measured
    # with torch on two busy cores, 122 s against 16. Who has set a number keeps it.
    for variable in THREADS:
        os.environ.setdefault(variable, os.environ.get(THREADS[0], "1"))
    try:
        if memory is not None:
            _limit(memory)
        with _absent(describe(name).unused), _uncollected():
            target = load(name)
        connection.send(Loaded(_version(target), fingerprint(target)))
    except BaseException as error:  # SystemExit too: whatever it is, the parent tells the user
        connection.send(str(error) or type(error).__name__)
        return
    kinds: dict[str, Callable[..., Any]] = {
        "judge": partial(answer, target),
        "instead": Steering(partial(_claimed, target)).instead,
        "snippet": partial(snippet, target=name),
    }
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            kind, *arguments = connection.recv()
            os.ftruncate(log, 0)
            faulthandler.dump_traceback_later(seconds, exit=True, file=log)
            reply = kinds[kind](*arguments)
            faulthandler.cancel_dump_traceback_later()
            connection.send(reply)


def answer(target: Target, case: Case, probe: bool) -> Answer:
    """Judge one case."""
    start = perf_counter()
    claimed = True
    try:
        claimed = bool(claims(case, target))
        verdict = judge(case, target, probe=probe)
    except Exception as error:  # claims() is the target's code too
        verdict = Verdict("error", f"{type(error).__name__}: {error}")
    return Answer(verdict, claimed, perf_counter() - start)


def _claimed(target: Target, case: Case) -> bool:
    """Whether the target claims a case."""
    try:
        return bool(claims(case, target))
    except Exception:  # the target's code: a case will tell
        return True


def _version(target: Target) -> str:
    backend = getattr(target, "backend", None)
    version = backend.capabilities.version if backend is not None else ""
    return str(getattr(target, "version", version))


@contextlib.contextmanager
def _absent(modules: Iterable[str]) -> Iterator[None]:
    """Let whoever imports one of these modules find that it is not installed."""
    hidden = [module for module in modules if module not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: there is none
    try:
        yield
    finally:
        for module in hidden:
            del sys.modules[module]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep what is made here: a framework's modules are no garbage, and take long to look through.

    A sixth of TensorFlow's import goes into it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _be_killed_first() -> None:
    """Where memory runs out, Linux shall end this process, not the one that reports it."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("900")


def _limit(memory: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
