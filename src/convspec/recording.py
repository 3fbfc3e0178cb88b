"""A call that a compiler or transform is recording.

Its sizes may be symbolic; its kernel is then one for any sizes. What a compiler that reads this
very code (:meth:`Backend.recording`) cannot read is marked :func:`~convspec.dispatch.fixed`: it
runs that instead, and keeps what it gave.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .backend import Backend
from .dispatch import fixed
from .kernels import Described, found
from .problem import wanted_size
from .symbols import Sizes

if TYPE_CHECKING:
    from .spec import ConvSpec


def call(
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
    pattern = pattern_of(engine, shape, expected[0])
    w = (pattern_of(engine, w[0], expected[1]), w[1])
    if b is not None:
        b = (pattern_of(engine, b[0], expected[2]), b[1])
    wanted = wanted_size(spec, output_size, symbolic=None in pattern)
    asked = None if wanted is None else pattern_of(engine, wanted, [None] * len(wanted))
    late = None in (*pattern, *(asked or ()))
    key = (engine, pattern, dtype, device, w, b, asked, out_dtype, True)
    if engine.recording():
        kernel = getattr(_kept, _keep(type(spec), text, *key))
    else:
        kernel = found(spec, *key)
    return kernel(*arrays, sizes=Sizes(shape, wanted, engine.maximum)) if late else kernel(*arrays)


def pattern_of(
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


# ---- what compilers that read this code run instead of reading ----

#: Kernels under names, as attributes: a compiler sees those that a module has only just got.
#: Of what it compiled, it asks before each run whether they are still there; without the oldest,
#: which make room, it compiles anew.
_kept = ModuleType("convspec.recording._kept")
MOST_KEPT = 4096


@fixed
def _keep(kind: Any, text: str, *key: Any) -> str:
    """The name in :data:`_kept` of the kernel for the spec with this text."""
    kernel = found(_read(kind, text), *key)
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
