"""Whose array is it: backends are found by name, and by the types of their arrays.

Frameworks are never imported here. An adapter is loaded when a module of its entry point's name
has been imported by somebody, or when it is asked for by name.

A compiler may be reading this very code (:meth:`Backend.recording`): it runs what is marked
:func:`fixed` instead of reading it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from .arguments import shown
from .backend import API_VERSION, Backend, Capabilities
from .errors import BackendNotFoundError, UnsupportedError, first_line

GROUP = "convspec.backends"

Function = TypeVar("Function", bound=Callable[..., Any])


def fixed(function: Function) -> Function:
    """Mark a function of plain values that a compiler runs once, to keep what it gave.

    ``torch.compiler.assume_constant_result`` sets the same mark, but would have to be imported.
    """
    function.__dict__["_dynamo_marked_constant"] = True
    return function


#: As the attribute ``autograph_info__``: nothing here depends on the numbers in arrays, so that
#: AutoGraph has nothing to rewrite in it. ``tf.autograph.experimental.do_not_convert`` sets the
#: same mark, but would have to be imported.
OPAQUE: dict[str, Any] = {}


_loaded: dict[str, Backend] = {}
_owners: dict[type, str] = {}


@cache
def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """The registered adapters by name. Read once: it costs milliseconds."""
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def get_backend(name: str) -> Backend:
    """The backend with this name, importing its framework if need be.

    Raises:
        BackendNotFoundError: none is registered under the name, or the framework is missing.
    """
    _load(name)
    return _loaded[name]


@fixed
def _load(name: str) -> None:
    """Put the backend with this name among the loaded ones."""
    points = entry_points()
    if not isinstance(name, str) or name not in points:
        known = ", ".join(sorted(points)) or "none"
        raise BackendNotFoundError(f"backend: {shown(name)} is not registered; there are: {known}.")
    if name in _loaded:
        return
    try:
        backend = points[name].load()
    except Exception as error:  # a broken installation raises anything: a missing .so, OSError
        raise BackendNotFoundError(
            f"backend: {name!r} could not be loaded: {error}.\n"
            f"  Install it, for example with: pip install 'convspec[{name}]'"
        ) from error
    if not isinstance(backend, Backend) or int(backend.api_version) != API_VERSION:
        raise BackendNotFoundError(
            f"backend: {name!r} does not implement version {API_VERSION} of convspec's Backend; "
            f"update its package."
        )
    _loaded[name] = backend


def installed() -> tuple[str, ...]:
    """Names of the registered backends whose framework is installed; nothing is imported."""
    return tuple(name for name in sorted(entry_points()) if _present(name))


def backends() -> dict[str, Capabilities]:
    """What is installed, by name, with versions and abilities. Imports each framework."""
    return {name: get_backend(name).capabilities for name in installed()}


def _present(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ValueError:  # a module without a spec
        return True


def owner(x: Any, name: str = "x", guest: Backend | None = None) -> Backend:
    """The backend whose array ``x`` is, found once for each type.

    Args:
        x: an array or a variable.
        name: of the argument that it is, for the message.
        guest: a backend that takes part in the call and need not be registered.

    Raises:
        BackendNotFoundError: no loaded framework owns it.
    """
    found = _owner_of(type(x))
    return _find_owner(x, name, guest) if found is None else _loaded[found]


@fixed
def _owner_of(kind: type) -> str | None:
    return _owners.get(kind)


@fixed
def _set_owner(kind: type, name: str) -> None:
    _owners[kind] = name


@fixed
def _imported() -> tuple[str, ...]:
    """Names of the registered backends whose framework somebody has imported, after loading them.

    All at once: a compiler that has read :data:`_loaded` does not see what is added later. Without
    those that cannot be loaded, which are no other's trouble.
    """
    for name in entry_points():
        if sys.modules.get(name) is not None:  # None stands for what must not be imported
            with suppress(BackendNotFoundError):  # whoever asks for it by name hears of it
                _load(name)
    return tuple(name for name in entry_points() if name in _loaded)


def held(x: Any, name: str, guest: Backend | None = None) -> tuple[Backend, Any]:
    """The array in ``x``, which may be a variable, and the backend whose array it is.

    ``guest`` is a backend that takes part in the call and need not be registered.

    Raises:
        BackendNotFoundError: no loaded framework owns ``x``, or what it holds.
        UnsupportedError: it is no dense array, such as a sparse one.
    """
    backend = owner(x, name, guest)
    try:
        array = backend.unwrap(x)
    except Exception as error:
        if backend.out_of_memory(error):
            raise
        raise UnsupportedError(
            f"{name}: a {type(x).__name__} is no plain array of {backend.name}: {first_line(error)}"
        ) from error
    # A variable may hold another framework's array, as an nnx.Param a NumPy one.
    return (backend, array) if type(array) is type(x) else held(array, name, guest)


def _find_owner(x: Any, name: str, guest: Backend | None) -> Backend:
    names = _imported()
    # A compiler that reads this code cannot read how other frameworks know their arrays.
    first = [name for name in names if name in _loaded and _loaded[name].recording()]
    for module in (*first, *names):
        backend = get_backend(module)
        if backend.owns(x):
            _set_owner(type(x), module)
            return backend
    if guest is not None and guest.owns(x):
        return guest
    kind = f"{type(x).__module__}.{type(x).__qualname__}"
    loaded = ", ".join(sorted(_imported()))
    raise BackendNotFoundError(
        f"{name}: no backend owns an array of type {kind}; loaded are: {loaded}.\n"
        f"  Pass an array of one of them, as numpy.asarray({name}) gives."
    )


def chosen(backend: str | Backend) -> Backend:
    """A backend given as an object or by name."""
    if isinstance(backend, Backend):
        return backend
    if isinstance(backend, str):
        return get_backend(backend)
    raise BackendNotFoundError(f"backend: expected a name or a Backend, got {shown(backend)}.")
