"""A framework's own layers and calls, read as specs, and layers made from specs.

Who reads what is found as backends are: through the entry-point group ``convspec.natives``, whose
names are the modules that layers and calls come from. A reader is loaded when its module has been
imported by somebody, or when a layer is asked for by name; no framework is named here.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from . import dispatch, geometry, moving, weights
from .arguments import Pair, shown
from .errors import BackendNotFoundError, ConvSpecError, ShapeError, UnsupportedError

if TYPE_CHECKING:
    from .spec import ConvSpec

GROUP = "convspec.natives"


class Layer(NamedTuple):
    """What a layer is: its spec in the framework's convention, and its live arrays."""

    spec: ConvSpec
    weight: Any
    bias: Any = None


#: What a reader gives: one convolution, or several that follow one another.
Reading = Layer | tuple[Layer, ...]


class Native:
    """What an adapter knows of its framework's own layers and calls; any part may be left out.

    Register an instance under the entry-point group ``convspec.natives``.

    Attributes:
        name: the framework's module name, which is the entry point's, too.
        convention: the convention (:mod:`convspec.conventions`) of the layers that it makes.
        arrays_of: the backend whose arrays its layers hold, so that these are not copied to the
            host; NumPy arrays are welcome anyway.
        layers: for each type of layer the function that reads one. The first type that fits
            counts.
        calls: for each function of the framework one with the same parameters that tells the
            spec of the call, or several specs that follow one another.
    """

    name: str
    convention: str = ""
    arrays_of: str = ""
    layers: Mapping[type, Callable[[Any], Reading]] = {}
    calls: Mapping[Callable[..., Any], Callable[..., Any]] = {}

    def stands_for_array(self, x: Any) -> bool:
        """Whether ``x`` is a placeholder from which the framework builds models, without numbers.

        Only asked of what no backend takes as an array.
        """
        return False

    def record(
        self,
        spec: ConvSpec,
        arrays: Sequence[Any],
        output_size: Any,
        out_dtype: Any,
        backend: Any,
    ) -> Any:
        """The placeholder of what a call of ``spec`` gives, once the model is run.

        Args:
            spec: the convolution.
            arrays: x, weight and, if there is one, bias, at least one of them a placeholder.
            output_size, out_dtype, backend: as in a call of the spec.
        """
        raise NotImplementedError

    def target(self, spec: ConvSpec) -> ConvSpec:
        """``spec`` in the orders of the layer that :meth:`make` would give.

        Raises:
            UnsupportedError: the framework has no layers.
        """
        if not self.convention:
            raise UnsupportedError(f"to_native: {self.name} has no layers, only calls.")
        return spec.in_convention(self.convention)

    def make(self, spec: ConvSpec, weight: Any, bias: Any) -> Any:
        """The layer of ``spec`` that holds copies of ``weight`` and ``bias``.

        Args:
            spec: in the orders of :meth:`target`.
            weight, bias: arrays of ``arrays_of``'s framework, or NumPy ones; bias None without.

        Raises:
            UnsupportedError: the framework's layers cannot express it.
        """
        raise NotImplementedError

    def padded(self, layer: Any, pairs: Sequence[Pair], mode: str, *, transposed: bool) -> Any:
        """``layer`` behind one that pads by ``pairs``; transposed, before one that crops by them.

        Raises:
            UnsupportedError: the framework has no such layer.
        """
        raise UnsupportedError(f"to_native: {self.name} has no padding layers.")


# ---- finding readers ----


@cache
def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """The registered readers by name. Read once: it costs milliseconds."""
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


@cache
def _load(name: str) -> Native:
    native = entry_points()[name].load()
    if not isinstance(native, Native):
        raise BackendNotFoundError(f"to_native: {name!r} is registered, but is no convspec Native.")
    return native


def imported() -> Iterator[Native]:
    """The readers of what somebody has imported; one that does not load is no other's trouble."""
    for name in sorted(entry_points()):
        if name in sys.modules:
            try:
                native = _load(name)
            except Exception:
                continue
            yield native


def get_native(name: str) -> Native:
    """The reader and maker with this name, importing its framework if need be.

    Raises:
        BackendNotFoundError: none is registered under the name, or the framework is missing.
    """
    if not isinstance(name, str) or name not in entry_points():
        known = ", ".join(sorted(entry_points())) or "none"
        raise BackendNotFoundError(
            f"to_native: {shown(name)} has no layers that convspec makes; there are: {known}."
        )
    try:
        return _load(name)
    except ConvSpecError:
        raise
    except Exception as error:  # a broken installation raises anything
        raise BackendNotFoundError(f"to_native: {name!r} could not be loaded: {error}.") from error


def _known(kind: str) -> str:
    """What the loaded readers know, and whose modules nobody has imported."""
    parts = []
    for native in imported():
        table = getattr(native, kind)
        if table:
            parts.append(f"{native.name}: {', '.join(_name(entry) for entry in table)}")
    loaded = {native.name for native in imported()}
    absent = [name for name in sorted(entry_points()) if name not in loaded]
    text = "\n  It reads " + ("; ".join(parts) or "nothing of what is imported") + "."
    return text + (f"\n  Not loaded, so not looked at: {', '.join(absent)}." if absent else "")


def _name(thing: Any) -> str:
    return str(getattr(thing, "__name__", type(thing).__name__))


def _full_name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', None) or type(thing).__module__}.{_name(thing)}"


# ---- reading ----


def read(layer: Any) -> Reading:
    """What a framework's layer is.

    Raises:
        UnsupportedError: nobody reads it, or it does something that no spec says.
    """
    for native in imported():
        for kind, reader in native.layers.items():
            if isinstance(layer, kind):
                return reader(layer)
    if isinstance(layer, type):
        raise UnsupportedError(f"layer: {_full_name(layer)} is a class; pass a layer made of it.")
    raise UnsupportedError(
        f"layer: {_full_name(type(layer))} is none that convspec reads.{_known('layers')}"
    )


def specs_of(layer: Any) -> Any:
    """See :meth:`ConvSpec.from_native`."""
    found = read(layer)
    return found.spec if isinstance(found, Layer) else tuple(part.spec for part in found)


def layer_arrays(layer: Any) -> Any:
    """The live ``(weight, bias)`` of a framework's layer, in the order of its spec.

    They are what the layer holds (a ``torch.nn.Parameter``, ``keras.Variable``, ``nnx.Param``),
    and calls of the spec accept them as they are: ``spec(x, *layer_arrays(layer))`` is what
    the layer computes. The bias is None where the layer has none.

    Args:
        layer: anything that :meth:`ConvSpec.from_native` reads. A separable one gives two pairs.

    Raises:
        UnsupportedError: as :meth:`ConvSpec.from_native`.
    """
    found = read(layer)
    if isinstance(found, Layer):
        return found.weight, found.bias
    return tuple((part.weight, part.bias) for part in found)


def read_call(function: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """See :meth:`ConvSpec.from_call`."""
    for native in imported():
        try:
            reader = native.calls.get(function)
        except TypeError:  # no hash, so no function that anybody registered
            reader = None
        if reader is not None:
            try:
                bound = inspect.signature(reader).bind(*args, **options)
            except TypeError as error:
                raise ConvSpecError(f"from_call: {_name(function)}(): {error}.") from None
            return reader(*bound.args, **bound.kwargs)
    raise UnsupportedError(
        f"fn: {_full_name(function)} is no call that convspec reads.{_known('calls')}"
    )


def overridden(layer: Any, base: type, *methods: str) -> None:
    """A subclass may add what it likes, but not compute something else.

    Raises:
        UnsupportedError: the layer's class has a method of its own in place of ``base``'s.
    """
    for method in methods:
        if getattr(type(layer), method) is not getattr(base, method):
            raise UnsupportedError(
                f"layer: {_full_name(type(layer))} has a {method}() of its own, so it may compute "
                f"something else than {_name(base)}.\n  Read a plain {_name(base)} with its arrays."
            )


def sizes_of(name: str, array: Any) -> tuple[Any, ...]:
    """The shape of anything that has one: an array, a variable, a symbolic or abstract value.

    Raises:
        ShapeError: it has none, or not even the number of axes is known.
    """
    shape = getattr(array, "shape", None)
    try:
        return tuple(shape)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ShapeError(
            f"{name}: expected something with a shape, got {shown(array)}; its number of axes must "
            f"be known."
        ) from None


def known(name: str, letter: str, size: Any) -> int:
    """A size that the spec of a call depends on.

    Raises:
        ShapeError: it is unknown while tracing.
    """
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise ShapeError(
            f"{name}: axis {letter} has size {shown(size)}, and the spec of the call depends on it."
            f"\n  Make it known, or read the call with arrays of one size."
        )
    return int(size)


# ---- making ----


def make(
    spec: ConvSpec, name: str, weight: Any, bias: Any, *, explicit_padding: bool = False
) -> Any:
    """See :meth:`ConvSpec.to_native`."""
    native = get_native(name)
    backend, weight = dispatch.held(weight, "weight")
    weights.check_shape("weight", tuple(backend.describe(weight)[0]), spec)
    target = native.target(spec)
    arrays = {"weight": moving.convert_weight(spec, target, weight)}
    if bias is not None:
        own, bias = dispatch.held(bias, "bias")
        weights.check_bias(tuple(own.describe(bias)[0]), spec)
        arrays["bias"] = bias
    given = {key: _for(native, array, key) for key, array in arrays.items()}
    try:
        return native.make(target, given["weight"], given.get("bias"))
    except UnsupportedError:
        if not explicit_padding:
            raise
    plain, pairs = unpadded(target)
    layer = native.make(plain, given["weight"], given.get("bias"))
    return native.padded(layer, pairs, target.padding_mode, transposed=target.transposed)


def _for(native: Native, array: Any, name: str) -> Any:
    """An array as one of the framework whose layers hold it, or as NumPy's.

    Weights that take part in gradients are welcome: what a new layer gets is a copy.
    """
    own = dispatch.owner(array, name)
    if own.name in (native.arrays_of, "numpy"):
        return array
    try:
        return own.to_numpy(array)
    except Exception as error:
        raise UnsupportedError(
            f"{name}: of {own.name} cannot be read out: {str(error).strip().splitlines()[0]}"
        ) from error


def spelled_out(spec: ConvSpec) -> ConvSpec:
    """``spec`` with the amounts that named padding stands for on inputs of any size.

    That is so at stride 1, for kernels of one element, which need none, and for a transposed
    convolution whose output has its default size, n*s. Entries that depend on the input's size
    stay named.
    """
    padding, extra = list(spec.padding), list(spec.output_padding)
    for i, entry in enumerate(spec.padding):
        e, s = spec.receptive_field[i], spec.stride[i]
        if not isinstance(entry, str) or (min(s, e) > 1 and not spec.transposed):
            continue
        pair = geometry.same_padding(s, e, s, lower=entry == "same_lower")
        padding[i] = pair
        if spec.transposed:  # n = 1 as good as any: n*s positions
            extra[i] = s - geometry.transposed_size(1, e, s, pair, 0)
    return spec.replace(padding=tuple(padding), output_padding=tuple(extra))


def crops(spec: ConvSpec) -> list[tuple[int, int, int]]:
    """For each axis of a transposed spec: what it crops at both ends, and its output padding."""
    spelled = spelled_out(spec)
    found = []
    for entry, extra in zip(spelled.padding, spelled.output_padding, strict=True):
        assert not isinstance(entry, str), "transposed, all are amounts"
        found.append((*entry, extra))
    return found


def even_padding(
    spec: ConvSpec, name: str, limits: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding and output padding of layers that pad, or transposed crop, both sides alike.

    Transposed, what is less at the end is output padding: (lo, hi) is lo on both sides, and
    lo - hi back.

    Args:
        spec: the convolution.
        name: what the layers' module is called in messages.
        limits: for each axis of a transposed spec the output padding that is one too much.

    Raises:
        UnsupportedError: both sides differ in another way.
    """
    spelled = spelled_out(spec)
    padding, extra = [], []
    for i, entry in enumerate(spelled.padding):
        place, given = f"padding[{i}] (axis {spec.spatial[i]})", spec.padding[i]
        if isinstance(entry, str):
            rule = f"what {given!r} is at stride {spec.stride[i]} depends on the input's size"
            raise cannot(place, f"{rule}, and {name} has fixed amounts")
        lo, hi = entry
        back = spelled.output_padding[i] + lo - hi if spec.transposed else 0
        if lo < 0 or (not spec.transposed and lo != hi) or not 0 <= back < max(limits[i], 1):
            rule = f"{name} pads both sides alike, and {given!r} is {entry}"
            if spec.transposed:
                rule = (
                    f"{name} crops both sides alike and gives back less than {limits[i]} at the "
                    f"end, and {given!r} is {entry}"
                )
            raise cannot(place, rule, padding=True)
        padding.append(lo)
        extra.append(back)
    return tuple(padding), tuple(extra)


def unpadded(spec: ConvSpec) -> tuple[ConvSpec, tuple[Pair, ...]]:
    """``spec`` without padding, and what is to be padded before it, or cropped after it.

    Raises:
        UnsupportedError: the amounts depend on the input's size.
    """
    spec = spelled_out(spec)
    pairs: list[Pair] = []
    extra = list(spec.output_padding)
    for i, entry in enumerate(spec.padding):
        place = f"padding[{i}] (axis {spec.spatial[i]})"
        if isinstance(entry, str):
            raise UnsupportedError(
                f"{place}: what {entry!r} stands for at stride {spec.stride[i]} depends on the "
                f"input's size.\n  For one size, spec.explain(input_shape) tells the amounts for "
                f"spec.replace(padding=...)."
            )
        lo, hi = entry
        if spec.transposed:  # positions given back at the end need not be cropped there
            end = hi - extra[i]
            hi, extra[i] = max(end, 0), max(-end, 0)
            if lo < 0 or extra[i] >= max(spec.stride[i], spec.dilation[i]):
                raise UnsupportedError(
                    f"{place}: {entry} adds positions that no input reaches, and which hold the "
                    f"bias; no cropping layer gives them.\n  Run the spec itself."
                )
        pairs.append((lo, hi))
    plain = spec.replace(padding=0, padding_mode="zeros", output_padding=tuple(extra))
    return plain, tuple(pairs)


def cannot(place: str, rule: str, *, padding: bool = False) -> UnsupportedError:
    """The error of a spec that a framework's layers cannot express.

    Args:
        place: the argument, and the axis if it is one's.
        rule: what the framework has instead, and what was given.
        padding: whether a padding layer of its own would express it.
    """
    remedy = "Call the spec itself"
    if padding:
        remedy = "Pass explicit_padding=True for a padding layer beside it, or call the spec itself"
    error: UnsupportedError = UnsupportedError(f"{place}: {rule}.\n  {remedy}: it has every case.")
    return error


def groups_of(channels: int, per_group: int, place: str) -> int:
    """How many groups a call has that infers them from the sizes of its arrays.

    Raises:
        ShapeError: the channels do not divide.
    """
    if per_group < 1 or channels % per_group:
        raise ShapeError(
            f"{place}: {channels} channels are no multiple of the weight's {per_group}."
        )
    return channels // per_group


def pointwise(first: ConvSpec, name: str, array: Any, *, bias: bool = False) -> ConvSpec:
    """The second convolution of a separable one: kernels of one element, ``...IO``."""
    channels = known(name, "O", sizes_of(name, array)[-1])
    return type(first)(
        first.out_channels,
        channels,
        1,
        bias=bias,
        layout=first.layout,
        weight_layout=f"{first.spatial}IO",
    )


def check_names(argument: str, given: Iterable[str], expected: Iterable[str]) -> None:
    """Parameters have just the expected names.

    Raises:
        ConvSpecError: some are missing or unknown; the message lists both sides.
    """
    ours, theirs = sorted(expected), sorted(map(str, given))
    if ours != theirs:
        raise ConvSpecError(
            f"{argument}: the names do not match.\n  expected: {', '.join(ours)}\n"
            f"  given: {', '.join(theirs) or 'none'}"
        )
