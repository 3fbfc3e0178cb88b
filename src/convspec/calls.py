"""One call: whose arrays, which problem, which kernel, and what a repeated call does instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from . import dtypes, recording
from .backend import Backend
from .dispatch import chosen, held, owner
from .errors import ConvSpecError, DTypeError, ShapeError, UnsupportedError, first_line
from .kernels import Described, found, prepared
from .layouts import sized
from .moving import handed
from .problem import wanted_size

if TYPE_CHECKING:
    from .natives import Native
    from .spec import ConvSpec

#: The backend that has been measured to be the fastest (:mod:`convspec.tuning`).
FASTEST = "fastest"
#: How many kinds of arrays a spec remembers the kernel for, and how many kinds of other arguments.
MOST_KEPT = 8
MOST_OPTIONS = 64
#: Errors that a kernel may raise and that are not the framework's internal ones.
OURS = (ConvSpecError, AssertionError, Warning)


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

    A repeated call costs what is written here: a look at the arguments, the framework's own guard
    on the arrays, and the kernel. Everything else has been decided by the first one.
    """
    arrays = (x, weight) if bias is None else (x, weight, bias)
    options: Any = bias is None
    try:
        if not (output_size is out_dtype is backend is None):
            # The text of a size tells True and 11.0 from 1 and 11.
            options = (options, repr(output_size), out_dtype, backend)
        kept = spec._kept.get(options, ())
    except Exception:  # something has no text, or no hash: the message comes from what follows
        kept, options = (), None
    for guard, kernel in kept:
        if guard(*arrays):
            try:
                return kernel(*arrays)
            except Exception as error:
                _refuse(owner(x) if backend is None else chosen(backend), spec, x, error)
    return decide(spec, x, weight, bias, output_size, out_dtype, backend, options)


def decide(
    spec: ConvSpec,
    x: Any,
    weight: Any,
    bias: Any,
    output_size: Any,
    out_dtype: Any,
    backend: str | Backend | None,
    options: Any = None,
) -> Any:
    """A call whose kernel is not known yet; it is kept under ``options``, unless that is None."""
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
    arrays = (x, weight) if bias is None else (x, weight, bias)
    if backend == FASTEST:
        options = None  # what is fastest depends on more than the arrays
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
    dtype = engine.promoted(dtype, device)
    if not engine.traced(x):
        # Canonical sizes: True and 11.0 must not find what 1 and 11 gave.
        wanted = None if output_size is None else wanted_size(spec, output_size)
        try:
            kernel = prepared(spec, engine, shape, dtype, device, w, b, wanted, out_dtype, False)
        except TypeError:  # sizes of a fake array, and an out_dtype that is none, have no hash
            pass
        else:
            # Only arrays of the engine's own framework: its guard can tell nothing of others.
            if options is not None and all(map(engine.owns, given)):
                _keep(spec, options, engine.shortcut(kernel, given))
            try:
                return kernel(*arrays)
            except Exception as error:
                _refuse(engine, spec, x, error)
    return recording.call(spec, engine, arrays, shape, dtype, device, w, b, output_size, out_dtype)


# A compiler that reads this code knows nothing of what is kept, and must not be held to it. That is
# torch.compile's mark of a function that stands for another one.
call.__dict__["_torchdynamo_inline"] = decide


def _keep(spec: ConvSpec, options: Any, shortcut: tuple[Any, Any] | None) -> None:
    """The latest first. Tuples are replaced, not changed: other threads may be reading them."""
    if shortcut is None:
        return
    if options not in spec._kept and len(spec._kept) >= MOST_OPTIONS:
        spec._kept.clear()
    spec._kept[options] = (shortcut, *spec._kept.get(options, ()))[:MOST_KEPT]


def _refuse(engine: Backend, spec: ConvSpec, x: Any, error: Exception) -> NoReturn:
    """Raise what a kernel has raised, as an error of ours where it is an internal one."""
    # By a private exception a framework talks to itself: torch.utils.checkpoint stops by one as
    # soon as it has recomputed enough.
    private = type(error).__name__.startswith("_")
    # What runs out of memory can be computed, in a smaller batch: that is what programs catch the
    # framework's own error for.
    if isinstance(error, OURS) or private or engine.out_of_memory(error):
        raise error
    shape, dtype, device = engine.describe(x)
    raise UnsupportedError(
        f"backend: {engine.name} cannot compute this: {first_line(error)}\n"
        f"  x: {sized(spec.layout, shape)}, {engine.promoted(dtype, device)} on {device}"
    ) from error


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
    found(spec, own, tuple(shape), dtype, device, w, b, wanted, out_dtype, False)
    return x, weight, bias


def _recorder(arrays: Sequence[Any]) -> Native | None:
    """Who knows one of these as a placeholder of a framework whose graphs record calls."""
    from . import natives  # which needs this module

    return next((n for n in natives.imported() if any(map(n.stands_for_array, arrays))), None)


def _beside(engine: Backend, array: Any, name: str, x: Any, device: str) -> Described:
    """Shape and dtype of a weight or bias, which lies where x does."""
    shape, dtype, place = engine.describe(array)
    # Of a tracer, the device is but a guess.
    if place != device and not (engine.traced(x) or engine.traced(array)):
        raise UnsupportedError(
            f"{name}: is on {place}, but x is on {device}; move one of them to the other's device."
        )
    return shape, engine.promoted(dtype, device)


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
        return handed(theirs, own, array, name, like=x)
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
    moved = [handed(own, engine, array, name) for name, array in arrays.items()]
    y = spec(*moved, output_size=output_size, out_dtype=out_dtype, backend=engine)
    return handed(engine, own, y, "out_dtype", like=x)
