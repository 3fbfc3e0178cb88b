"""From a call to a prepared kernel: whose array is it, what is the problem, which kernel.

Frameworks are never imported here. An adapter is loaded when a module of its entry point's name
has been imported by somebody, or when it is asked for by name.

A compiler may be reading this very code (:meth:`Backend.recording`): it then passes the caches by,
and runs what is marked :func:`fixed` instead of reading it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from ast import literal_eval
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from operator import is_
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from . import dtypes, weights
from .arguments import shown
from .backend import API_VERSION, Backend, Capabilities, Environment, Kernel
from .errors import (
    BackendNotFoundError,
    ConvSpecError,
    DTypeError,
    LayoutError,
    ShapeError,
    UnsupportedError,
)
from .layouts import check_data_layout, permutation, sized
from .problem import resolve_sizes, wanted_size
from .symbols import Sizes, symbols
from .weights import WeightOrder

if TYPE_CHECKING:
    from .natives import Native
    from .spec import ConvSpec

GROUP = "convspec.backends"

#: The backend that has been measured to be the fastest (:mod:`convspec.tuning`).
FASTEST = "fastest"

#: Shape and element type of a weight or bias.
Described = tuple[tuple[Any, ...], str]
Array = TypeVar("Array")
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


# ---- finding backends ----

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

    All at once: a compiler that has read :data:`_loaded` does not see what is added later.
    """
    names = tuple(name for name in entry_points() if name in sys.modules)
    for name in names:
        with suppress(BackendNotFoundError):  # whoever asks for it by name hears of it
            _load(name)
    return names


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
            f"{name}: a {type(x).__name__} is no plain array of {backend.name}: {_first(error)}"
        ) from error
    # A variable may hold another framework's array, as an nnx.Param a NumPy one.
    return (backend, array) if type(array) is type(x) else held(array, name, guest)


def _first(error: Exception) -> str:
    """What an error says, as far as a message has room for it."""
    return f"{error}".strip().split("\n")[0][:100]


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


# ---- one call ----

#: Errors that a kernel may raise and that are not the framework's internal ones.
OURS = (ConvSpecError, AssertionError, Warning)


#: Kernels of calls that have been made, by all that their arrays are told apart by.
_calls: dict[Any, Kernel] = {}
MOST_CALLS = 4096


def call(
    spec: ConvSpec,
    x: Any,
    weight: Any,
    bias: Any,
    output_size: Any,
    out_dtype: Any,
    backend: str | Backend | None,
) -> Any:
    """Compute ``spec`` on arrays: see :meth:`ConvSpec.__call__`.

    What has been decided for a call is kept for all that cannot be told apart from it.
    """
    key = kernel = None
    found = _owner_of(type(x))
    if found is not None:
        try:
            signature = _loaded[found].signature(x, weight, bias)
            if signature is not None:
                types = (type(spec), type(x), type(weight), type(bias))
                # The text of a size tells True and 11.0 from 1 and 11.
                size = None if output_size is None else repr(output_size)
                key = (spec.__dict__["_text"], signature, types, size, out_dtype, backend)
                kernel = _calls.get(key)
        except Exception:  # what has no signature, or no hash, is looked at anew
            key = None
    if kernel is None:
        return _decide(spec, x, weight, bias, output_size, out_dtype, backend, key)
    try:
        return kernel(x, weight) if bias is None else kernel(x, weight, bias)
    except Exception as error:
        if _passes(owner(x), error):
            raise
        raise _refusal(owner(x), spec, x, error) from error


def _decide(
    spec: ConvSpec,
    x: Any,
    weight: Any,
    bias: Any,
    output_size: Any,
    out_dtype: Any,
    backend: str | Backend | None,
    key: Any,
) -> Any:
    """A call whose kernel is not known yet; it is kept under ``key``, unless that is None."""
    engine = None if backend is None or backend == FASTEST else chosen(backend)
    given = (x, weight) if bias is None else (x, weight, bias)
    try:
        own, x = held(x, "x", engine)
        weight = _joined(own, weight, "weight", x)
        if bias is not None:
            bias = _joined(own, bias, "bias", x)
    except ConvSpecError:
        recorder = _recorder(given)  # what no backend takes may stand for an array to come
        if recorder is None:
            raise
        return recorder.record(spec, given, output_size, out_dtype, backend)
    if backend == FASTEST:
        key = None  # what is fastest depends on more than the arrays
        arrays = (x, weight) if bias is None else (x, weight, bias)
        _, dtype, device = own.describe(x)
        if own.promoted(dtype, device) == dtype and not any(
            own.traced(a) or own.differentiable(a) for a in arrays
        ):
            return _fastest(own, spec, arrays, output_size, out_dtype)
    if engine is None:
        engine = own
    elif engine is not own and not engine.owns(x):
        return _elsewhere(own, engine, spec, x, weight, bias, output_size, out_dtype)
    shape, dtype, device = engine.describe(x)
    w = _beside(engine, weight, "weight", x, device)
    b = None if bias is None else _beside(engine, bias, "bias", x, device)
    arrays = (x, weight) if bias is None else (x, weight, bias)
    dtype = engine.promoted(dtype, device)
    if not engine.traced(x):
        # Canonical sizes: True and 11.0 must not find what 1 and 11 gave.
        wanted = None if output_size is None else wanted_size(spec, output_size)
        try:
            kernel = _kernel(spec, engine, shape, dtype, device, w, b, wanted, out_dtype, False)
        except TypeError:  # sizes of a fake array, and an out_dtype that is none, have no hash
            pass
        else:
            # Kept where the backend that signed the arrays has read them, and taken nobody else's.
            if key is not None and engine is own and all(map(is_, arrays, given)):
                if len(_calls) >= MOST_CALLS:
                    _calls.clear()
                _calls[key] = kernel
            try:
                return kernel(*arrays)
            except Exception as error:
                if _passes(engine, error):
                    raise
                raise _refusal(engine, spec, x, error) from error
    return _call_traced(spec, engine, arrays, shape, dtype, device, w, b, output_size, out_dtype)


def _passes(engine: Backend, error: Exception) -> bool:
    """Whether an error of a kernel is none of the framework's internal ones.

    By a private exception a framework talks to itself: torch.utils.checkpoint stops by one as soon
    as it has recomputed enough. What runs out of memory can be computed, in a smaller batch: that
    is what programs catch the framework's own error for.
    """
    return (
        isinstance(error, OURS)
        or type(error).__name__.startswith("_")
        or engine.out_of_memory(error)
    )


def _fastest(
    own: Backend, spec: ConvSpec, arrays: tuple[Any, ...], output_size: Any, out_dtype: Any
) -> Any:
    """The call on the backend that is fastest here, or on the arrays' own if that one fails."""
    from . import tuning  # which needs this module

    options = {"output_size": output_size, "out_dtype": out_dtype}
    engine = tuning.fastest(own, spec, arrays, options)
    if engine is not None:
        try:
            return spec(*arrays, **options, backend=engine)
        except Exception as error:
            if not (isinstance(error, UnsupportedError) or engine.out_of_memory(error)):
                raise
            tuning.warn(f"backend: {engine.name} was the fastest, but refuses: {error}")
    return spec(*arrays, **options)


def _refusal(engine: Backend, spec: ConvSpec, x: Any, error: Exception) -> UnsupportedError:
    """What a framework's kernel has raised, as an error of ours."""
    shape, dtype, device = engine.describe(x)
    refusal: UnsupportedError = UnsupportedError(
        f"backend: {engine.name} cannot compute this: {_first(error)}\n"
        f"  x: {sized(spec.layout, shape)}, {engine.promoted(dtype, device)} on {device}"
    )
    return refusal


def checked(
    spec: ConvSpec,
    shape: Sequence[int],
    x: Any,
    weight: Any,
    bias: Any = None,
    output_size: Any = None,
    out_dtype: Any = None,
) -> tuple[Any, Any, Any]:
    """The arrays of a call on an array like ``x``, but of this shape, which is not at hand whole.

    Returns:
        ``x``, weight and bias as the framework's own arrays.

    Raises:
        ConvSpecError: whatever such a call would refuse.
    """
    own, x = held(x, "x")
    _, dtype, device = own.describe(x)
    weight = _joined(own, weight, "weight", x)
    w = _beside(own, weight, "weight", x, device)
    b = None
    if bias is not None:
        bias = _joined(own, bias, "bias", x)
        b = _beside(own, bias, "bias", x, device)
    dtype = own.promoted(dtype, device)
    wanted = wanted_size(spec, output_size)
    _found(spec, own, tuple(shape), dtype, device, w, b, wanted, out_dtype, False)
    return x, weight, bias


def _recorder(arrays: Sequence[Any]) -> Native | None:
    """Who knows one of these as a placeholder of a framework whose graphs record calls."""
    from . import natives  # which needs this module

    return next((n for n in natives.imported() if any(map(n.stands_for_array, arrays))), None)


def _call_traced(
    spec: ConvSpec,
    engine: Backend,
    arrays: tuple[Any, ...],
    shape: tuple[Any, ...],
    dtype: str,
    device: str,
    w: Described,
    b: Described | None,
    output_size: Any,
    out_dtype: Any,
) -> Any:
    """A call that is being recorded; where sizes are symbolic, by a kernel for any sizes."""
    text = spec.__dict__["_text"]
    expected = _expected(type(spec), text)
    pattern = _pattern(engine, shape, expected[0])
    w = (_pattern(engine, w[0], expected[1]), w[1])
    if b is not None:
        b = (_pattern(engine, b[0], expected[2]), b[1])
    late = None in pattern
    wanted = wanted_size(spec, output_size, symbolic=late)
    asked = None if wanted is None else _pattern(engine, wanted, [None] * len(wanted))
    key = (engine, pattern, dtype, device, w, b, asked, out_dtype, True)
    if engine.recording():
        kernel = getattr(_kept, _keep(type(spec), text, *key))
    else:
        kernel = _found(spec, *key)
    return kernel(*arrays, sizes=Sizes(shape, wanted, engine.maximum)) if late else kernel(*arrays)


def _pattern(
    engine: Backend, sizes: Sequence[Any], expected: Sequence[int | None]
) -> tuple[Any, ...]:
    """Sizes with None for those that are not known, nor have to be what is ``expected``.

    One that is certainly another than expected stays as it is, for the message.
    """
    pattern = []
    for i, size in enumerate(sizes):
        wanted = expected[i] if len(expected) == len(sizes) else None
        plain = engine.plain(size)
        if plain is None and wanted is not None:
            plain = size if _differs(size, wanted) else wanted
        pattern.append(plain)
    return tuple(pattern)


def _differs(size: Any, expected: int) -> bool:
    """Whether a symbolic size is certainly another one.

    Asking is what makes a compiler hold later calls to the answer.
    """
    try:
        return not bool(size == expected)
    except Exception:  # each framework has its own way to say that it cannot tell
        return False


def _found(spec: ConvSpec, *key: Any) -> Kernel:
    """The prepared kernel for arrays of these descriptions."""
    try:
        return _kernel(spec, *key)
    except TypeError:  # an out_dtype without a hash: its message comes from the same, uncached
        return _prepare(spec, *key)


# ---- what compilers that read this code run instead of reading ----

#: Kernels under names, as attributes: a compiler sees those that a module has only just got.
#: Of what it compiled, it asks before each run whether they are still there; without the oldest,
#: which make room, it compiles anew.
_kept = ModuleType("convspec.dispatch._kept")
MOST_KEPT = 4096


@fixed
def _keep(kind: Any, text: str, *key: Any) -> str:
    """The name in :data:`_kept` of the kernel for the spec with this text."""
    kernel = _found(_read(kind, text), *key)
    kept = _kept.__dict__
    name = f"kernel_{id(kernel)}"
    if name not in kept:
        held = [name for name in list(kept) if name.startswith("kernel_")]
        for oldest in held[: max(len(held) + 1 - MOST_KEPT, 0)]:
            kept.pop(oldest, None)
        kept[name] = kernel
    return name


@fixed
def _expected(kind: Any, text: str) -> tuple[tuple[int | None, ...], ...]:
    """The sizes that the arrays of a spec have to have: of x, the weight and the bias."""
    spec = _read(kind, text)
    data = tuple(spec.in_channels if letter == "C" else None for letter in spec.layout)
    return data, spec.weight_shape, spec.bias_shape


@lru_cache(maxsize=4096)
def _read(kind: Any, text: str) -> ConvSpec:
    names = kind.__dataclass_fields__
    spec: ConvSpec = kind(**dict(zip(names, literal_eval(text), strict=True)))
    return spec


def _beside(engine: Backend, array: Any, name: str, x: Any, device: str) -> Described:
    """Shape and dtype of a weight or bias, which lies where x does."""
    shape, dtype, place = engine.describe(array)
    # Of a tracer, the device is but a guess.
    if place != device and not (engine.traced(x) or engine.traced(array)):
        raise UnsupportedError(
            f"{name}: is on {place}, but x is on {device}; move one of them to the other's device."
        )
    return shape, engine.promoted(dtype, device)


def _prepare(
    spec: ConvSpec,
    backend: Backend,
    shape: tuple[Any, ...],
    dtype: str,
    device: str,
    weight: Described,
    bias: Described | None,
    output_size: Any,
    out_dtype: Any,
    traced: bool,
) -> Kernel:
    """The kernel for arrays of these descriptions, after checking that they fit the spec.

    Sizes that are not known are None.
    """
    wanted = None if output_size is None else symbols("output_size", output_size)
    problem = resolve_sizes(spec, symbols("x", shape), wanted)
    weights.check_shape("weight", weight[0], spec)
    if bias is not None:
        weights.check_bias(bias[0], spec)
    for name, described in (("weight", weight), ("bias", bias)):
        if described is not None and described[1] != dtype:
            raise DTypeError(
                f"{name}: is {described[1]}, but x is {dtype}; all arrays of a call have one type."
                f"\n  Convert one of them, or ask for another result type with out_dtype=."
            )
    out = dtype if out_dtype is None else dtypes.name_of(out_dtype, "out_dtype")
    dtypes.check("x", dtype)
    dtypes.check_out(dtype, out)
    env = Environment(
        dtype=dtype,
        out_dtype=out,
        device=device,
        bias=bias is not None,
        traced=traced,
    )
    try:
        return backend.prepare(problem, env)
    except ConvSpecError:
        raise
    except Exception as error:
        unknown = [c for c, n in zip(spec.layout, shape, strict=True) if n is None]
        if not unknown:
            raise
        raise UnsupportedError(
            f"x: {backend.name} cannot do this with unknown sizes on the axes {''.join(unknown)}.\n"
            f"  {_first(error)}\n  Make the spatial ones known."
        ) from error


_kernel = lru_cache(maxsize=4096)(_prepare)


def _joined(own: Backend, array: Any, name: str, x: Any) -> Any:
    """A weight or bias as an array of x's framework; only NumPy arrays are handed over."""
    if array is None:
        raise ShapeError(f"{name}: expected an array, got None.")
    theirs, array = held(array, name, own)
    if theirs is own:
        return array
    if theirs.name == "numpy":
        _, dtype, device = own.describe(x)
        given = theirs.describe(array)[1]
        if own.promoted(given, device) != own.promoted(dtype, device):
            raise DTypeError(f"{name}: is {given}, but x is {dtype}; convert one of them.")
        dtypes.check("x", dtype)
        return _handed(theirs, own, array, name, like=x)
    raise DTypeError(
        f"{name}: is an array of {theirs.name}, but x is one of {own.name}; arrays of one call "
        f"belong to one framework.\n"
        f"  Hand it over with convspec.to_framework({name}, {own.name!r})."
    )


def _elsewhere(
    own: Backend,
    engine: Backend,
    spec: ConvSpec,
    x: Any,
    weight: Any,
    bias: Any,
    output_size: Any,
    out_dtype: Any,
) -> Any:
    """The call on another framework's backend, by DLPack there and back."""
    arrays = (
        {"x": x, "weight": weight} if bias is None else {"x": x, "weight": weight, "bias": bias}
    )
    for name, array in arrays.items():
        if own.differentiable(array) or own.traced(array):
            raise UnsupportedError(
                f"backend: {name} takes part in {own.name}'s gradients or tracing, which would be "
                f"lost on {engine.name}.\n  Detach it, or leave out backend=."
            )
    # Types are compared before anything moves; the engine's own checks see equal ones.
    described = {name: own.describe(array)[1] for name, array in arrays.items()}
    for name, dtype in described.items():
        if dtype != described["x"]:
            raise DTypeError(f"{name}: is {dtype}, but x is {described['x']}; convert one of them.")
    dtypes.check("x", described["x"])
    moved = [_handed(own, engine, array, name) for name, array in arrays.items()]
    y = spec(*moved, output_size=output_size, out_dtype=out_dtype, backend=engine)
    return _handed(engine, own, y, "out_dtype", like=x)


def _handed(own: Backend, target: Backend, array: Any, name: str, like: Any = None) -> Any:
    """``array`` handed over to another backend, by DLPack or else by NumPy, its type unchanged."""
    dtype = own.describe(array)[1]
    moved = _moved(own, target, array, name, like)
    if target.describe(moved)[1] != dtype:
        raise UnsupportedError(
            f"{name}: {dtype} does not survive the way from {own.name} to {target.name}.\n"
            f"  Convert it to a type that {target.name} has."
        )
    return moved


def _moved(own: Backend, target: Backend, array: Any, name: str, like: Any = None) -> Any:
    try:
        return target.from_foreign(array, like=like)
    except Exception:  # whatever the frameworks raise at types or strides that DLPack lacks
        try:
            return target.from_foreign(own.to_numpy(array), like=like)
        except Exception as error:
            if own.out_of_memory(error) or target.out_of_memory(error):
                raise
            _, dtype, device = own.describe(array)
            raise UnsupportedError(
                f"{name}: {dtype} on {device} cannot be handed from {own.name} to {target.name}: "
                f"{_first(error)}"
            ) from error


# ---- moving data ----


def to_framework(array: Any, name: str) -> Any:
    """An array handed over to another framework, without a copy where DLPack allows.

    Args:
        array: of any framework and shape; a variable is taken as what it holds.
        name: the backend that takes it, as in :func:`get_backend`.

    Returns:
        An array of that framework with the same shape, element type and values.

    Raises:
        BackendNotFoundError: the framework is not installed, or nothing owns the array.
        UnsupportedError: gradients or a trace would be lost, or the element type, as of 64-bit
            arrays in JAX without ``jax_enable_x64``.
    """
    target = get_backend(name)
    own, array = held(array, "array")
    if own is target:
        return array
    if own.differentiable(array) or own.traced(array):
        raise UnsupportedError(
            f"array: takes part in {own.name}'s gradients or tracing, which would be lost; "
            f"detach it first."
        )
    return _handed(own, target, array, "array")


def convert_layout(x: Array, source: str, target: str, *, contiguous: bool = False) -> Array:
    """``x`` with its axes in the order ``target`` instead of ``source``.

    Works on arrays of every framework, and gives a view where the framework can.

    Args:
        x: array with one axis per letter of ``source``.
        source: data layout, such as ``"NDCHW"``.
        target: data layout with the same letters.
        contiguous: copy the elements into that order too, where the result would be a strided
            view; NumPy's arrays on all cores, and fastest where numba is installed.

    Raises:
        LayoutError: malformed layouts, other letters, or another number of axes.
    """
    axes = permutation(check_data_layout("source", source), check_data_layout("target", target))
    backend, array = held(x, "x")
    shape = backend.describe(array)[0]
    if len(shape) != len(source):
        raise LayoutError(
            f"x: has {len(shape)} axes, but source {source!r} names {len(source)}.\n"
            f"  x: shape {tuple(shape)}"
        )
    moved: Array = array if axes == tuple(range(len(axes))) else backend.permute(array, axes)
    return backend.contiguous(moved) if contiguous else moved


def convert_weight(
    spec: ConvSpec, target: ConvSpec, weight: Any, *, contiguous: bool = False
) -> Any:
    """A weight of ``spec`` in the order of ``target``: see :meth:`ConvSpec.convert_weight`."""
    weights.check_same(spec, target)
    backend, weight = held(weight, "weight")
    shape = _pattern(backend, backend.describe(weight)[0], spec.weight_shape)
    weights.check_shape("weight", shape, spec)
    operations: dict[str, Callable[..., Any]] = {
        "permute": backend.permute,
        "reshape": backend.reshape,
        "flip": backend.flip,
    }
    moved = weights.rearrange(
        weight,
        spec.weight_shape,
        WeightOrder.of(spec),
        WeightOrder.of(target),
        spec.groups,
        **operations,
    )
    return backend.contiguous(moved) if contiguous else moved
