"""The fastest backend for a problem, measured on this machine and remembered in a file.

Nothing here runs unless it is asked for: by ``spec(x, w, backend="fastest")`` or :func:`tune`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import threading
import warnings
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dispatch, dtypes
from .backend import Backend
from .errors import ConvSpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import ConvSpec

#: Raised whenever what a line of the file means changes.
FORMAT = 1
REPEATS = 5

_lock = threading.Lock()
#: The winners by key, as far as they have been read or measured; None: not read yet.
_winners: dict[str, str] | None = None
_warned: set[str] = set()


def tune(
    spec: ConvSpec,
    input_shape: Sequence[int],
    *,
    framework: str = "numpy",
    dtype: Any = "float32",
    output_size: int | Sequence[int] | None = None,
    backends: Sequence[str] | None = None,
) -> dict[str, float]:
    """Measure which backend computes a call fastest, and remember it for ``backend="fastest"``.

    Every candidate is given arrays of ``framework`` and gives one back, as in a call with
    ``backend=``: handing over is part of its time. All are imported into this process.

    Args:
        spec: the convolution.
        input_shape: the input's shape in its ``layout``.
        framework: name of the backend whose arrays the calls will have.
        dtype: their element type.
        output_size: as in a call.
        backends: names of the candidates; default: all that are installed. ``framework`` itself
            is always one.

    Returns:
        Seconds for each that can compute it, the fastest first.

    Raises:
        ConvSpecError: ``framework`` itself cannot compute it.
    """
    own = dispatch.get_backend(framework)
    rng = np.random.default_rng(0)
    values = (rng.integers(0, 3, s) for s in (tuple(input_shape), spec.weight_shape))
    arrays = [own.from_foreign(v.astype(dtypes.numpy_dtype(dtypes.name_of(dtype)))) for v in values]
    options = {"output_size": output_size, "out_dtype": None}
    with _lock:
        seconds = _measured(own, spec, arrays, options, backends)
        _remember(_key(own, spec, arrays[0], options), next(iter(seconds)))
    return seconds


def fastest(
    own: Backend, spec: ConvSpec, arrays: Sequence[Any], options: dict[str, Any]
) -> Backend | None:
    """The backend for a call on arrays of ``own``, measured if it has not been; None for ``own``.

    Args:
        arrays: x, the weight and perhaps a bias.
        options: ``output_size`` and ``out_dtype`` of the call.
    """
    key = _key(own, spec, arrays[0], options)
    name = _known().get(key)
    if name is None:
        with _lock:  # one thread measures, the others wait for what it finds
            name = _known().get(key) or _reread().get(key)
            if name is None:
                name = next(iter(_measured(own, spec, arrays, options, None)))
                _remember(key, name)
    if name == own.name:
        return None
    try:
        return dispatch.get_backend(name)
    except ConvSpecError as error:
        warn(f"backend: {name} was the fastest, but is not there now: {error}")
        return None


def warn(message: str) -> None:
    """A warning, the first time that there is cause for it."""
    if message not in _warned:
        _warned.add(message)
        warnings.warn(f"convspec: {message}", RuntimeWarning, stacklevel=2)


# ---- measuring ----


def _measured(
    own: Backend,
    spec: ConvSpec,
    arrays: Sequence[Any],
    options: dict[str, Any],
    backends: Sequence[str] | None,
) -> dict[str, float]:
    """Seconds a call by each backend that can compute it, the fastest first."""
    from convspec_benchmarks.timing import interleaved  # the one who measures needs it

    def run(name: str) -> None:
        y = spec(*arrays, **options, backend=name)
        own.to_numpy(y)  # until it is there

    run(own.name)  # whatever is wrong with the call, its own framework says
    runs = {own.name: lambda: run(own.name)}
    for name in dispatch.installed() if backends is None else backends:
        if name != own.name:
            with suppress(Exception):  # what cannot be loaded, or refuses, is no candidate
                run(name)
                runs[name] = lambda name=name: run(name)  # type: ignore[misc]
    samples = interleaved(runs, REPEATS)
    seconds = {name: median(values) for name, values in samples.items()}
    return dict(sorted(seconds.items(), key=lambda item: item[1]))


# ---- remembering ----


def path() -> Path:
    """The file: ``CONVSPEC_CACHE``, or ``convspec`` in the user's cache directory."""
    folder = os.environ.get("CONVSPEC_CACHE")
    if folder:
        return Path(folder) / "fastest.jsonl"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "convspec" / "fastest.jsonl"


def _key(own: Backend, spec: ConvSpec, x: Any, options: dict[str, Any]) -> str:
    shape, dtype, device = own.describe(x)
    out = options["out_dtype"]
    out = dtype if out is None else dtypes.name_of(out, "out_dtype")
    return _text(spec, repr((own.name, shape, dtype, device, options["output_size"], out)))


@lru_cache(maxsize=4096)
def _text(spec: ConvSpec, rest: str) -> str:
    return f"{spec!r} {rest}"


@cache
def machine() -> str:
    """What tells machines apart whose users share a cache directory."""
    model = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), model)
    return f"{platform.system()} {platform.machine()} {model} {os.cpu_count()}"


def _known() -> dict[str, str]:
    return _reread() if _winners is None else _winners


def _reread() -> dict[str, str]:
    global _winners
    _winners = _read()[0]
    return _winners


def _read() -> tuple[dict[str, str], list[str], bool]:
    """This machine's winners, the lines that are ours, and whether all of them are."""
    winners: dict[str, str] = {}
    lines: list[str] = []
    try:
        given = path().read_bytes().decode("utf-8", "replace").split("\n")
    except OSError:
        return winners, lines, True
    given = [line for line in given if line]
    for line in given:
        try:
            entry = json.loads(line)
            number, where = entry["format"], entry["machine"]
            key, name = str(entry["call"]), str(entry["backend"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        lines.append(line)
        if (number, where) == (FORMAT, machine()):
            winners[key] = name
    whole = len(lines) == len(given)
    if not whole:
        warn(f"{path()}: some of it is no record of convspec's; that is ignored.")
    return winners, lines, whole


def _remember(key: str, name: str) -> None:
    """Keep a winner, in a line at the end of the file: so no writer undoes another's work."""
    global _winners
    entry = {"format": FORMAT, "machine": machine(), "call": key, "backend": name}
    line = json.dumps(entry)
    target = path()
    winners, lines, whole = _read()
    _winners = {**winners, **(_winners or {}), key: name}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not whole:
            _rewrite(target, lines)
        # One write to the end is atomic; the break before it ends what a crash has left.
        number = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(number, f"\n{line}\n".encode())
        finally:
            os.close(number)
    except OSError as error:
        warn(f"{target}: cannot be written, so that it is measured again next time: {error}")


def _rewrite(target: Path, lines: list[str]) -> None:
    """The file with nothing but these lines, put in its place at once."""
    number, name = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
    os.replace(name, target)
