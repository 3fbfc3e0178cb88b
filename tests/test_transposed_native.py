"""Weights of every convention, checked against what the frameworks compute with them.

A spec in orders of its own is drawn within what a native call has. Its weight goes to the
convention with ``convert_weight``, and the native call has to give what the spec gives. The other
way round, a weight in the convention's order goes to ``spec.in_convention(name)`` as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convspec import ConvSpec, ConvSpecError, convert_layout, get_backend
from generators import integers, random_case
from native_calls import FORWARD, TRANSPOSED, Native
from tensorflow_kernels import errs_on_some_processors

Drawn = tuple[ConvSpec, ConvSpec, tuple[int, ...], Any]
NATIVES = {(name, "transposed"): native for name, native in TRANSPOSED.items()}
NATIVES |= {(name, "forward"): native for name, native in FORWARD.items()}
each_native = pytest.mark.parametrize(
    ("key", "rank"),
    [(key, rank) for key, native in NATIVES.items() for rank in native.ranks],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else f"{value}-D",
)
#: Random specs for each call and rank. XLA compiles every one of them, keras traces layers.
COUNT = {"torch": 12, "tensorflow": 12, "numpy": 12, "jax": 4}


def draw(rng: np.random.Generator, native: Native, rank: int, *, transposed: bool) -> Drawn:
    """A spec in orders of its own, the same in the call's, an input shape, an output size."""
    while True:
        try:
            spec, shape = any_spec(rng, native, rank, transposed=transposed)
            size = any_size(rng, native, spec, shape)
            spec.output_shape(shape, size)
        except ConvSpecError:  # nothing left of the output
            continue
        same, depthwise = spec.padding[0] == "same", native.groups == "depthwise"
        if (
            native.backend == "tensorflow"
            and not transposed
            and errs_on_some_processors(
                spec.kernel_size, spec.stride, spec.dilation, same=same, depthwise=depthwise
            )
        ):
            continue
        target = spec.in_convention(native.convention)
        if native.weight_layout:
            target = target.replace(weight_layout=native.weight_layout)
        return spec, target, shape, size


def any_spec(
    rng: np.random.Generator, native: Native, rank: int, *, transposed: bool
) -> tuple[ConvSpec, tuple[int, ...]]:
    letters = shuffled(rng, "DHW"[-rank:])
    k, s, d = (rng.integers(1, most + 1, rank) for most in (3, 3, 2))
    if native.even_stride:
        s[:] = s[0]
    if not native.dilated or (native.dilated == "unstrided" and max(s) > 1):
        d[:] = 1
    e = d * (k - 1) + 1
    kind = native.padding[rng.integers(len(native.padding))]
    extra = np.zeros(rank, int)
    if transposed and kind == "framework's valid":
        extra = np.maximum(s - e, 0)
    elif transposed and native.extra and kind != "same":
        extra = rng.integers(0, np.maximum(s, d) if native.extra == "any" else s)
    groups = int(rng.integers(1, 4)) if native.groups else 1
    cin, cout = (groups * int(n) for n in rng.integers(1, 4, 2))
    if native.groups == "depthwise":
        cin = groups
    layout = shuffled(rng, "NC" + letters)
    letters = "".join(letter for letter in layout if letter in letters)
    spec = ConvSpec(
        cin,
        cout,
        k,
        s,
        tuple(any_padding(rng, kind) for _ in letters),
        d,
        groups,
        bias=False,
        transposed=transposed,
        output_padding=extra,
        layout=layout,
        output_layout=shuffled(rng, layout),
        weight_layout=shuffled(rng, "OI" + letters),
        flip_kernel=bool(rng.integers(2)),
        group_axis="OI"[rng.integers(2)],
    )
    sizes = {"N": 2, "C": cin}
    for letter, reach in zip(letters, e, strict=True):
        sizes[letter] = int(rng.integers(2, 5)) + (0 if transposed else int(reach))
    return spec, tuple(sizes[letter] for letter in layout)


def any_padding(rng: np.random.Generator, kind: str) -> Any:
    lo, hi = (int(n) for n in rng.integers(-1 if kind == "signed" else 0, 3, 2))
    return {"same": "same", "even": lo, "pairs": (lo, hi), "signed": (lo, hi)}.get(kind, 0)


def any_size(
    rng: np.random.Generator, native: Native, spec: ConvSpec, shape: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Of a call that is told its size, one of those which "same" maps to the input's."""
    if not (native.sized and spec.transposed and spec.padding[0] == "same"):
        return None
    sizes = (shape[spec.layout.index(letter)] for letter in spec.spatial)
    return tuple(n * s - int(rng.integers(0, s)) for n, s in zip(sizes, spec.stride, strict=True))


def shuffled(rng: np.random.Generator, letters: str) -> str:
    return "".join(letters[i] for i in rng.permutation(len(letters)))


def in_order(size: tuple[int, ...] | None, source: ConvSpec, target: ConvSpec) -> Any:
    return size and tuple(size[source.spatial.index(letter)] for letter in target.spatial)


# ---- weights ----


@each_native
def test_a_converted_weight_gives_the_same_natively(key: tuple[str, str], rank: int) -> None:
    native = NATIVES[key]
    rng = np.random.default_rng(rank)
    for _ in range(COUNT[native.backend]):
        spec, target, shape, size = draw(rng, native, rank, transposed=key[1] == "transposed")
        x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
        expected = spec(x, w, output_size=size)
        theirs = native.call(
            target,
            convert_layout(x, spec.layout, target.layout),
            spec.convert_weight(w, to=target),
            in_order(size, spec, target),
        )
        y = convert_layout(np.asarray(theirs), target.output_layout, spec.output_layout)
        np.testing.assert_array_equal(y, expected, f"{spec!r} on {shape}, output_size={size}")


@each_native
def test_a_native_weight_is_taken_as_it_is(key: tuple[str, str], rank: int) -> None:
    native = NATIVES[key]
    backend = get_backend(native.backend)
    rng = np.random.default_rng(10 + rank)
    for _ in range(COUNT[native.backend]):
        spec, target, shape, size = draw(rng, native, rank, transposed=key[1] == "transposed")
        size = in_order(size, spec, target)
        x = convert_layout(integers(rng, shape, "float32"), spec.layout, target.layout)
        w = integers(rng, target.weight_shape, "float32")
        y = target(backend.from_foreign(x), backend.from_foreign(w), output_size=size)
        np.testing.assert_array_equal(
            backend.to_numpy(y),
            np.asarray(native.call(target, x, w, size)),
            f"{target!r} on {x.shape}, output_size={size}",
        )
        ours = target.convert_weight(w, to=spec)
        assert ours.shape == spec.weight_shape
        np.testing.assert_array_equal(spec.convert_weight(ours, to=target), w)


@pytest.mark.parametrize("change", [{"flip_kernel": False}, {"group_axis": "I"}], ids=str)
def test_the_comparison_notices_another_weight_order(change: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    spec = ConvSpec(4, 6, (2, 3), 2, groups=2, transposed=True, layout="NCHW")
    target = spec.in_convention("jax")
    x, w = integers(rng, (2, 3, 4, 4), "float32"), integers(rng, spec.weight_shape, "float32")
    native = TRANSPOSED["jax.lax, grouped"]
    expected = target(x, spec.convert_weight(w, to=target))
    right = native.call(target, x, spec.convert_weight(w, to=target), None)
    np.testing.assert_array_equal(right, expected)
    other = spec.convert_weight(w, to=target.replace(**change)).reshape(target.weight_shape)
    assert (np.asarray(native.call(target, x, other, None)) != expected).any()


# ---- adjoint ----


def adjoint_case(rng: np.random.Generator) -> tuple[ConvSpec, tuple[int, ...]]:
    while True:
        case = random_case(rng)
        if case.spec.padding_mode == "zeros" and case.output_size is None:
            return case.spec.replace(bias=False), case.input_shape


@pytest.mark.parametrize(("backend", "count"), [("numpy", 400), ("torch", 100), ("jax", 5)])
def test_the_adjoint_has_the_same_inner_products(backend: str, count: int) -> None:
    framework = get_backend(backend)
    rng = np.random.default_rng(count)
    seen = set()
    for _ in range(count):
        spec, shape = adjoint_case(rng)
        adjoint = spec.adjoint(shape)
        assert adjoint.transposed is not spec.transposed
        x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
        y = integers(rng, spec.output_shape(shape), "float32")
        assert adjoint.weight_shape == w.shape
        assert adjoint.output_shape(y.shape) == shape
        ax, aty = (
            framework.to_numpy(a(framework.from_foreign(v), framework.from_foreign(w)))
            for a, v in ((spec, x), (adjoint, y))
        )
        # <A x, y> == <x, A^T y>, exactly: all are integers far below 2**24.
        assert np.vdot(ax, y) == np.vdot(x, aty), (spec, shape)
        seen.add((spec.transposed, bool(np.vdot(ax, y))))
    assert len(seen) == 4 or count < 50  # both directions, and products other than 0


def test_the_adjoint_of_the_adjoint_is_the_same_map() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        spec, shape = adjoint_case(rng)
        again = spec.adjoint(shape).adjoint(spec.output_shape(shape))
        assert again.transposed is spec.transposed
        x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
        assert again.output_shape(shape) == spec.output_shape(shape)
        np.testing.assert_array_equal(again(x, w), spec(x, w), repr(spec))


def test_the_inner_products_notice_a_shift() -> None:
    rng = np.random.default_rng(2)
    spec = ConvSpec(2, 3, 3, 2, padding=((1, 1), (0, 1)), bias=False, layout="NCHW")
    x, w = integers(rng, (2, 2, 6, 7), "float32"), integers(rng, spec.weight_shape, "float32")
    y = integers(rng, spec.output_shape(x.shape), "float32")
    adjoint = spec.adjoint(x.shape)
    shifted = adjoint.replace(padding=((1, 1), (1, 0)))
    assert shifted.output_shape(y.shape) == x.shape
    assert np.vdot(spec(x, w), y) == np.vdot(x, adjoint(y, w))
    assert np.vdot(spec(x, w), y) != np.vdot(x, shifted(y, w))
