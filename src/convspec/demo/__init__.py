"""``convspec demo``: real inputs through real filters, on every installed framework."""

from __future__ import annotations

import sys
from pathlib import Path

from .. import dispatch
from ..tables import progress
from . import files, filters, pictures, runner, signals
from .errors import DemoError, FileError, MissingPackageError
from .files import SUFFIXES

__all__ = ["SUFFIXES", "run"]

#: What is filtered together and drawn into one picture; the example worked by hand has no signal.
Group = tuple[signals.Signal | None, list[filters.Example]]


def run(file: Path | None, names: list[str], out: Path) -> int:
    """Run the demonstration, print its table and save its pictures.

    Args:
        file: the user's own input; None for the built-in ones.
        names: backends to run on; empty for all whose framework is installed.
        out: the folder that pictures go to, made if need be.

    Returns:
        The exit status: 0; 1 if a difference exceeds its bound, a backend fails or a package is
        missing; 2 if the file cannot be used.

    Raises:
        BackendNotFoundError: a name in ``names`` is not registered, or not installed.
    """
    for name in names:
        if name not in dispatch.installed():
            dispatch.get_backend(name)  # says what is wrong with the name
    try:
        groups, troubles = _built_in() if file is None else ([_of(files.read(file))], [])
    except FileError as error:
        return _complain(error, 2)
    except DemoError as error:
        return _complain(error, 1)

    chosen = list(dict.fromkeys(names or dispatch.installed()))
    count = sum(len(examples) for _, examples in groups)
    with progress(len(chosen) + count * (len(chosen) + 1)) as step:
        engines, failures = runner.load(chosen, step)
        results = [
            (signal, [runner.run(example, engines, step) for example in examples])
            for signal, examples in groups
        ]
    outcomes = [outcome for _, group in results for outcome in group]
    runner.report(outcomes, failures)
    troubles += _draw(results, out)
    _tell(troubles)
    wrong = any(outcome.bad for outcome in outcomes)
    absent = not engines or bool(names and failures)
    return 1 if wrong or absent or troubles else 0


def _built_in() -> tuple[list[Group], list[DemoError]]:
    """The built-in inputs that are there, and why the others are not."""
    groups: list[Group] = []
    troubles = []
    for make in signals.BUILT_IN:
        try:
            groups.append(_of(make()))
        except DemoError as error:
            troubles.append(error)
    return [*groups, (None, [filters.by_hand()])], troubles


def _of(signal: signals.Signal) -> Group:
    return signal, filters.examples(signal)


def _draw(
    results: list[tuple[signals.Signal | None, list[runner.Outcome]]], out: Path
) -> list[DemoError]:
    """Save a picture for each input; what keeps them from being saved."""
    for signal, outcomes in results:
        try:
            path = pictures.save(signal, outcomes, out)
        except OSError as error:
            return [DemoError(f"{out}: no pictures can be saved there: {error.strerror or error}.")]
        except DemoError as error:
            return [error]
        print(f"saved {path}")
    return []


def _tell(troubles: list[DemoError]) -> None:
    """One line for all missing packages, and one for each other trouble."""
    missing = [error for error in troubles if isinstance(error, MissingPackageError)]
    if missing:
        _complain(MissingPackageError(name for error in missing for name in error.packages), 1)
    for error in troubles:
        if error not in missing:
            _complain(error, 1)


def _complain(error: DemoError, status: int) -> int:
    print(f"convspec demo: {error}", file=sys.stderr)
    return status
