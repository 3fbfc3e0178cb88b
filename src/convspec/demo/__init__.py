"""``convspec demo``: real inputs through real filters, on every installed framework."""

from __future__ import annotations

import sys
from pathlib import Path

from .. import dispatch
from ..tables import progress
from . import files, filters, pictures, runner, signals
from .errors import DemoError, FileError
from .files import SUFFIXES

__all__ = ["SUFFIXES", "run"]


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
        _check_present(name)
    try:
        inputs, troubles = _inputs(file)
    except FileError as error:
        return _complain(error, 2)
    except DemoError as error:
        return _complain(error, 1)
    groups = [(signal, filters.examples(signal)) for signal in inputs]
    examples = [example for _, group in groups for example in group]
    chosen = names or list(dispatch.installed())
    with progress(len(chosen) + len(examples) * (len(chosen) + 1)) as step:
        engines, failures = runner.load(chosen, step)
        outcomes = [runner.run(example, engines, step) for example in examples]
    runner.report(outcomes, failures)
    drawn = iter(outcomes)
    try:
        for signal, group in groups:
            path = pictures.save(signal, [next(drawn) for _ in group], out)
            print(f"saved {path}")
    except DemoError as error:
        troubles.append(error)
    except OSError as error:
        return _complain(f"{out}: pictures cannot be saved there: {error.strerror or error}", 1)
    for trouble in troubles:
        _complain(trouble, 1)
    bad = any(outcome.bad for outcome in outcomes) or not engines or (names and failures)
    return 1 if bad or troubles else 0


def _check_present(name: str) -> None:
    """Let the core say what is wrong with a name; whether the framework loads shows later."""
    if name not in dispatch.installed():
        dispatch.get_backend(name)


def _inputs(file: Path | None) -> tuple[list[signals.Signal], list[DemoError]]:
    """What to filter, and what is missing for the rest."""
    if file is not None:
        return [files.read(file)], []
    inputs, troubles = [], []
    for make in signals.BUILT_IN:
        try:
            inputs.append(make())
        except DemoError as error:
            troubles.append(error)
    return inputs, troubles


def _complain(error: object, status: int) -> int:
    print(f"convspec demo: {error}", file=sys.stderr)
    return status
