"""JAX on the CPU takes other ways than XLA's kernel: the same numbers and gradients, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convspec
from convspec import ConvSpec
from convspec.algorithms import ALGORITHMS
from convspec.plan import Call
from convspec.rewrites import RULES
from convspec_jax import JaxBackend, _gradients, backend
from generators import integers


class Plain(JaxBackend):
    """XLA's kernel for everything that it has."""

    def lacks(self, call: Call) -> str:
        return super().lacks(replaced(call))


def replaced(call: Call) -> Call:
    """The call as one of float16, which no other way is taken for."""
    return replace(call, dtype="float16")


def derivatives(y: Any, c: Any, dx: Any, dw: Any) -> Callable[[Any, Any], list[Any]]:
    """y of x and w, and its derivatives of first and second order, one by one and in batches.

    Those of second order are of both gradients, for the result's gradient c, along dx and dw.
    """

    def of_both(x: Any, w: Any) -> Any:
        return jax.grad(lambda x, w: (y(x, w) * c).sum(), (0, 1))(x, w)

    def all_of_them(x: Any, w: Any) -> list[Any]:
        return [
            y(x, w),
            *of_both(x, w),
            jax.jvp(y, (x, w), (dx, dw))[1],
            jax.jvp(lambda w: of_both(x, w)[0], (w,), (dw,))[1],
            jax.grad(lambda x: (of_both(x, w)[1] * dw).sum())(x),
            *jax.vmap(of_both, (0, None))(jnp.stack([x, dx]), w),
            *jax.vmap(of_both, (None, 0))(x, jnp.stack([w, dw])),
        ]

    return all_of_them


#: name -> spec, spatial size, what explain says of it
CASES: dict[str, tuple[ConvSpec, int, str]] = {
    "few channels": (ConvSpec(3, 8, (3, 3, 3), padding=1), 6, "stack: the 3 taps of axis D"),
    "strided": (
        ConvSpec(3, 8, (2, 3, 3), (1, 2, 2), (0, 1, (2, 0)), layout="NDHWC", weight_layout="DHWIO"),
        7,
        "stack: the 2 taps of axis D",
    ),
    "cropped": (ConvSpec(2, 4, (3, 2, 2), padding=((-1, 2), 0, 1), layout="DHWCN"), 9, "stack: "),
    "many channels": (
        ConvSpec(20, 8, (3, 3, 1), dilation=(2, 1, 1), padding="same", layout="NDHWC"),
        5,
        "rank: one kernel call for each of the 3 taps of axis D",
    ),
    "few groups": (ConvSpec(20, 8, (2, 2, 2), groups=2), 4, "groups: one kernel call for each"),
    "few groups of few": (ConvSpec(4, 8, (2, 2, 2), groups=2), 4, "groups: one kernel call"),
    "groups of a picture": (
        ConvSpec(20, 40, (3, 3), padding=1, groups=2),
        24,
        "groups: one kernel call for each of the 2 groups",
    ),
    "groups of a signal": (
        ConvSpec(32, 64, 5, groups=4, layout="NWC"),
        900,
        "groups: one kernel call for each of the 4 groups",
    ),
    "many groups": (ConvSpec(54, 9, (2, 1, 2), groups=9), 4, "rank: one kernel call for each"),
    "depthwise": (
        ConvSpec(6, 12, (3, 3), (2, 1), "same", groups=6, layout="NHWC", weight_layout="HWIM"),
        33,
        "taps: the sum of 9 elementwise products",
    ),
    "depthwise, several outputs": (
        ConvSpec(8, 24, (5, 4), (1, 2), 2, groups=8, layout="NHWC"),
        104,
        "repeat: each channel 3 times, for its outputs",
    ),
    "depthwise signal": (
        ConvSpec(5, 5, (4,), padding="causal", groups=5, dilation=2, flip_kernel=True),
        1700,
        "taps: the sum of 4 elementwise products",
    ),
    "groups of few": (ConvSpec(27, 18, (3, 1, 2), groups=9), 8, "taps: the sum of 18 elementwise"),
    "up": (
        ConvSpec(4, 6, (4, 4), 2, 1, groups=2, transposed=True),
        15,
        "phases: 4 kernel calls for the 4 residues",
    ),
    "up along a long axis": (
        ConvSpec(4, 3, (4, 3), (2, 1), (1, 3), transposed=True, layout="NCHW"),
        7,
        "subpixel: 1 kernel call for the 2 residues",
    ),
    "up by blocks": (
        ConvSpec(4, 3, (2, 2, 2), 2, transposed=True, layout="NDHWC"),
        12,
        "subpixel: 1 kernel call for the 8 residues",
    ),
    "up with holes": (
        ConvSpec(3, 4, (3, 2), (4, 3), ((0, 1), (2, -1)), transposed=True),
        9,
        "subpixel: ",
    ),
    "up and dilated": (
        ConvSpec(3, 4, (3, 2), (4, 3), ((0, 1), (2, -1)), (2, 3), transposed=True),
        5,
        "phases: ",
    ),
    "up to a narrow signal": (
        ConvSpec(5, 3, 5, 2, ((1, 2),), transposed=True, layout="NWC"),
        15,
        "transposed: ",
    ),
    "up to a narrow picture": (
        ConvSpec(64, 2, 3, 2, 1, transposed=True, output_padding=1, layout="NCHW"),
        7,
        "transposed: ",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers_and_gradients(name: str) -> None:
    spec, size, told = CASES[name]
    shape = tuple({"N": 2, "C": spec.in_channels}.get(letter, size) for letter in spec.layout)
    assert told in spec.explain(shape, "jax")
    rng = np.random.default_rng(5)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    c, b = (integers(rng, s, "float32") for s in (spec.output_shape(shape), spec.bias_shape))
    expected = convspec.reference(spec, x, w, b)
    plain = Plain()

    def loss(engine: JaxBackend, x: Any, w: Any, b: Any) -> tuple[Any, Any]:
        y = spec(x, w, b, backend=engine)
        return (y * c).sum(), y

    both = [
        jax.jit(
            jax.value_and_grad(
                lambda *arrays, engine=engine: loss(engine, *arrays), (0, 1, 2), has_aux=True
            )
        )(*map(jnp.asarray, (x, w, b)))
        for engine in (backend, plain)
    ]
    for (_, y), _ in both:
        assert np.array_equal(y, expected)
    for ours, theirs in zip(both[0][1], both[1][1], strict=True):
        assert np.array_equal(ours, theirs)


def test_the_plain_one_is_plain() -> None:
    """What the other ways are compared with takes none of them itself."""
    others = {*ALGORITHMS, *RULES} - {"transposed"}  # that is how XLA says it, not another way
    for spec, size, _ in CASES.values():
        shape = tuple({"N": 2, "C": spec.in_channels}.get(letter, size) for letter in spec.layout)
        reason = spec.supports(Plain(), shape).reason
        assert not any(f"{name}:" in reason for name in others), reason


@pytest.mark.parametrize(
    ("out_channels", "kernel", "stride", "narrow"),
    [(12, 3, 2, True), (13, 3, 2, False), (3, 9, 8, True), (4, 9, 8, False), (1, 2, 2, False)],
)
def test_residues_of_a_signal_that_are_too_narrow(
    out_channels: int, kernel: int, stride: int, narrow: bool
) -> None:
    """Forward only: their gradients are fast."""
    spec = ConvSpec(8, out_channels, kernel, stride, transposed=True, layout="NCW")
    reason = spec.supports("jax", (1, 8, 500)).reason
    assert ("transposed:" in reason) == narrow
    assert ("residues of the stride" in reason) != narrow
    assert "residues of the stride" in spec.explain((1, 8, 500), "jax")


@pytest.mark.parametrize("name", ["few channels", "depthwise", "depthwise, several outputs", "up"])
def test_batched_by_vmap(name: str) -> None:
    spec, size, _ = CASES[name]
    shape = tuple({"N": 2, "C": spec.in_channels}.get(letter, size) for letter in spec.layout)
    rng = np.random.default_rng(6)
    x, w = (integers(rng, (3, *s), "float32") for s in (shape, spec.weight_shape))
    y = jax.vmap(spec)(jnp.asarray(x), jnp.asarray(w))
    for i in range(3):
        assert np.array_equal(y[i], convspec.reference(spec, x[i], w[i]))


def test_channels_are_repeated_for_gradients_alone() -> None:
    """And of several samples only where there is enough to multiply."""
    spec, _, told = CASES["depthwise, several outputs"]
    for samples, repeats in [(1, True), (2, False), (50, True)]:
        shape = (samples, 40, 40, spec.in_channels)
        assert (told in spec.explain(shape, "jax")) == repeats
        assert told not in spec.supports("jax", shape).reason


def test_a_derivative_of_another_way() -> None:
    """In either mode, of any of the arrays, twice; and what the forward call took is not redone."""
    spec = ConvSpec(2, 3, (4, 4), 2, 1, transposed=True, layout="NCHW")
    shape = (2, 2, 9, 12)
    rng = np.random.default_rng(7)
    x, w, b, dx, dw, db = (
        jnp.asarray(integers(rng, s, "float32"))
        for s in 2 * (shape, spec.weight_shape, spec.bias_shape)
    )
    y, tangent = jax.jvp(spec, (x, w, b), (dx, dw, db))
    assert np.array_equal(y, convspec.reference(spec, x, w, b))
    assert np.array_equal(tangent, spec(dx, w, db) + spec(x, dw))
    assert np.array_equal(jax.jvp(lambda x: spec(x, w, b), (x,), (dx,))[1], spec(dx, w))
    second = jax.jvp(lambda x: jax.jvp(lambda w: spec(x, w), (w,), (dw,))[1], (x,), (dx,))[1]
    assert np.array_equal(second, spec(dx, dw))
    loss = jax.grad(lambda x: (spec(x, w) ** 2).sum())
    assert np.array_equal(loss(x), 2 * jax.vjp(lambda x: spec(x, w), x)[1](spec(x, w))[0])
    text = jax.jit(loss).lower(x).as_text()
    assert text.count("stablehlo.convolution") == 1 + 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_derivative_of_another_way_of_many(dtype: str) -> None:
    """Batched by vmap inside and outside of the gradient, and of a type computed in another."""
    spec = ConvSpec(2, 3, (4, 4), 2, 1, transposed=True, layout="NCHW", bias=False)
    shape = (1, 2, 9, 12)
    rng = np.random.default_rng(8)
    xs, ws = (jnp.asarray(rng.integers(-1, 2, (3, *s)), dtype) for s in (shape, spec.weight_shape))
    gs = jnp.asarray(rng.integers(-1, 2, (3, *spec.output_shape(shape))), dtype)

    def total(x: Any, w: Any, g: Any) -> Any:
        return (spec(x, w) * g).sum(dtype="float32")

    def totals(xs: Any, ws: Any) -> Any:
        return jax.vmap(total)(xs, ws, gs).sum()

    inside = jax.grad(totals, (0, 1))(xs, ws)
    outside = jax.vmap(jax.grad(total, (0, 1)))(xs, ws, gs)
    for i in range(3):
        one = jax.grad(lambda x, w, g: (spec(x, w, backend=Plain()) * g).sum(), (0, 1))(
            *(array[i].astype("float32") for array in (xs, ws, gs))
        )
        for found, also, expected in zip(inside, outside, one, strict=True):
            assert found.dtype == dtype
            # Sums of at most 9 * 12 products of -1, 0 and 1 are numbers of either type.
            assert np.array_equal(found[i].astype("float32"), expected)
            assert np.array_equal(also[i].astype("float32"), expected)


@pytest.mark.parametrize(
    ("spec", "shape", "told"),
    [
        (ConvSpec(8, 8, (4, 4), 2, 1, transposed=True), (1, 8, 16, 9), "phases: 4 kernel calls"),
        (ConvSpec(64, 64, (3, 3)), (8, 64, 58, 58), "weight: a sum over parts of the output"),
        (ConvSpec(128, 128, (1, 1)), (8, 128, 14, 14), "weight: a matrix product"),
        (ConvSpec(16, 16, (5,), groups=2), (1, 16, 999), "groups: one kernel call for each"),
    ],
)
def test_explain_tells_of_gradients(spec: ConvSpec, shape: tuple[int, ...], told: str) -> None:
    assert f"\nwith gradients\n  {told}" in spec.explain(shape, "jax")
    assert "with gradients" not in spec.explain(shape, "jax", "int32")


def test_native_where_arrays_may_be_partitioned(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, shape = ConvSpec(3, 8, (3, 3, 5)), (1, 3, 8, 8, 9)
    assert "stack" in spec.explain(shape, JaxBackend())
    monkeypatch.setattr(jax, "device_count", lambda backend: 4)
    text = spec.explain(shape, JaxBackend())
    assert "jax: native path" in text
    assert "stack" not in text
    # But what the partitioner would gather is rewritten, for every type.
    assert spec.replace(in_channels=4, groups=2).supports("jax", (1, 4, 6, 6, 7), "int32").reason
    up = ConvSpec(3, 8, 3, 2, transposed=True, layout="NCHW")
    assert "phases" in up.supports("jax", (1, 3, 6, 6), "int32").reason


def test_other_types_small_ones_and_products_are_native() -> None:
    spec = ConvSpec(3, 8, (3, 3, 5))
    assert "stack" in spec.supports("jax", (1, 3, 8, 8, 9)).reason
    assert spec.supports("jax", (1, 3, 8, 8, 9), "int32") == convspec.Support(True, "native")
    assert spec.supports("jax", (1, 3, 5, 5, 6)) == convspec.Support(True, "native")
    deep = ConvSpec(32, 8, (3, 3, 3), padding=1)
    assert deep.supports("jax", (1, 32, 2, 7, 7)) == convspec.Support(True, "native")
    assert "rank" in deep.supports("jax", (2, 32, 2, 7, 7)).reason
    small = ConvSpec(8, 8, (3, 3), groups=8)
    assert small.supports("jax", (1, 8, 6, 7)) == convspec.Support(True, "native")
    point = ConvSpec(3, 8, (1, 1, 1))
    assert point.supports("jax", (1, 3, 6, 6, 7)) == convspec.Support(True, "native")


def test_an_infinite_weight_meets_no_stuffed_zeros() -> None:
    """Of the zeros between the input's elements, none was there to be multiplied by infinity."""
    spec = ConvSpec(1, 1, (2,), 2, bias=False, transposed=True)
    x, w = np.array([[[1.0, 2.0]]], np.float32), np.array([[[np.inf, 1.0]]], np.float32)
    expected = convspec.reference(spec, x, w)
    assert np.array_equal(expected, [[[np.inf, 1.0, np.inf, 2.0]]])
    assert np.array_equal(spec(jnp.asarray(x), jnp.asarray(w)), expected)


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(3, 6, (3, 3), padding=1, groups=3),
        ConvSpec(3, 18, (3,), padding=1, groups=3),
        ConvSpec(3, 3, (2, 3), stride=2, groups=3, transposed=True),
        ConvSpec(3, 3, (2, 2), stride=9, groups=3, transposed=True),
    ],
)
def test_a_nan_stays_in_its_group(spec: ConvSpec) -> None:
    """XLA makes a dense kernel of a depthwise one in float64, in which zeros meet the NaN."""
    x = np.ones((1, 3, *[4] * spec.rank))
    x[0, 1] = np.nan
    y = np.asarray(spec(jnp.asarray(x), jnp.ones(spec.weight_shape)))
    assert np.isnan(y).any((0, *range(2, y.ndim))).tolist() == [
        1 <= channel * 3 // spec.out_channels < 2 for channel in range(spec.out_channels)
    ]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (ConvSpec(3, 4, (3, 2), (2, 1), 1, dilation=(1, 2)), "concatenate"),
        (ConvSpec(3, 4, (3, 3), layout="HNWC", weight_layout="HWIO", bias=False), "concatenate"),
        (ConvSpec(20, 3, (2, 2, 1), layout="CDHWN"), "concatenate"),  # one call for each depth tap
        (ConvSpec(3, 4, (1, 1)), "dot_general"),
        (ConvSpec(3, 4, 1, layout="WCHN", output_layout="NWHC"), "dot_general"),
        (ConvSpec(3, 4, (2, 3), (3, 1), ((1, 0), (3, 0)), dilation=(2, 1)), "concatenate"),
        (ConvSpec(3, 4, (2, 3), padding=((-1, 1), (1, -2))), "concatenate"),
        (ConvSpec(3, 4, (2, 3), padding=(4, 0)), "concatenate"),  # where some rows read nothing
    ],
)
@pytest.mark.parametrize("part", [1, 60])
def test_gradients_of_the_weight(
    spec: ConvSpec, told: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of the output or as a matrix product, and every transform goes through."""
    shape = tuple({"N": 5, "C": spec.in_channels}.get(letter, 6) for letter in spec.layout)
    rng = np.random.default_rng(6)
    x, w, c, v = (
        jnp.asarray(integers(rng, s, "float32"))
        for s in (shape, spec.weight_shape, spec.output_shape(shape), spec.weight_shape)
    )
    b = [jnp.zeros(spec.bias_shape)] if spec.bias else []

    def run(x: Any, w: Any) -> list[Any]:
        def y(x: Any, w: Any) -> Any:
            return spec(x, w, *b)

        def of_weight(x: Any, w: Any) -> Any:
            return jax.grad(lambda w: (y(x, w) ** 2 * c).sum())(w)

        return [
            y(x, w),
            of_weight(x, w),
            jax.jvp(y, (x, w), (2 * x, v))[1],
            jax.grad(lambda x: (y(x, w) * c).sum())(x),
            jax.jvp(lambda w: of_weight(x, w), (w,), (v,))[1],
            jax.grad(lambda w: (of_weight(x, w) * v).sum())(w),
            jax.grad(lambda x: (of_weight(x, w) * v).sum())(x),
            jax.vmap(of_weight, (None, 0))(x, jnp.stack([w, v])),
            jax.vmap(of_weight, (0, None))(jnp.stack([x, -x]), w),
            jax.grad(jax.checkpoint(lambda w: (y(x, w) * c).sum()))(w),
        ]

    monkeypatch.setattr(_gradients, "WORTHWHILE", 2**60)
    monkeypatch.setattr(_gradients, "PART", part)
    plain = jax.jit(run).lower(x, w)
    expected = plain.compile()(x, w)
    for bound in ("POSITIONS", "CHANNELS", "WORTHWHILE"):
        monkeypatch.setattr(_gradients, bound, 1)
    jax.clear_caches()
    ours = jax.jit(run).lower(x, w)
    assert ours.as_text().count(told) > plain.as_text().count(told)
    for got, exact in zip(ours.compile()(x, w), expected, strict=True):
        np.testing.assert_array_equal(got, exact)
    jax.clear_caches()


@pytest.mark.parametrize(
    ("batch", "channels", "groups", "told"),
    [(32, 8, 1, True), (16, 8, 1, False), (32, 8 * 65, 65, False)],
)
def test_where_the_gradient_of_the_weight_stays_xlas(
    batch: int, channels: int, groups: int, told: bool
) -> None:
    spec = ConvSpec(channels, 64 * groups, (3, 3), padding=1, groups=groups, bias=False)
    shapes = (batch, channels, 32, 32), spec.weight_shape
    x, w = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    assert ("custom_jvp" in str(jax.make_jaxpr(spec)(x, w))) == told


def test_gradients_of_groups_are_put_together() -> None:
    """That of each slice would have the size of the whole, with zeros around."""
    spec = ConvSpec(8, 8, (3, 3), groups=2, bias=False, layout="NHWC", weight_layout="HWIO")
    shape = (8, 20, 20, 8)
    x, w = (integers(np.random.default_rng(8), s, "float32") for s in (shape, spec.weight_shape))
    gradient = jax.grad(lambda x, w: (spec(x, w) ** 2).sum(), (0, 1))
    text = str(jax.make_jaxpr(gradient)(x, w))
    assert text.count("conv_general_dilated[") >= 4
    assert " pad[" not in text
