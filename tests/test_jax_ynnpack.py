"""Pictures that JAX keeps from YNNPACK: the same numbers and derivatives, exactly."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convspec
from convspec import ConvSpec, xla
from convspec_jax import JaxBackend, _ynnpack
from generators import integers
from test_jax_slow import Plain, derivatives

SPECS = [
    ConvSpec(3, 4, (3, 3), padding=1),
    ConvSpec(3, 4, (2, 4), (1, 3), "same", layout="NHWC", weight_layout="HWIO"),
    ConvSpec(4, 2, (3, 2), (2, 1), ((1, 0), (1, 1)), (1, 2), layout="HWCN"),
    ConvSpec(2, 5, (5, 3), padding=2, padding_mode="reflect", layout="CHW"),
    ConvSpec(3, 3, (1, 1), 2, flip_kernel=True),
    ConvSpec(3, 4, (1, 3), padding=((-1, 2), (1, -1)), layout="NHWC"),
    ConvSpec(20, 3, (2, 3, 2), padding=(1, 1, 0), layout="NDHWC"),
    ConvSpec(3, 5, (2, 2, 2), padding="same", stride=(1, 2, 1)),
    ConvSpec(12, 6, (3, 3), padding=1, groups=2),
    ConvSpec(4, 3, (4, 4), 2, 1, transposed=True),
]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are doubled wherever YNNPACK may get a call, as if it was always the slower one."""
    for name in ("IN_CHANNELS", "OUT_CHANNELS", "COPIED_OUT_CHANNELS", "WORTHWHILE"):
        monkeypatch.setattr(_ynnpack, name, 1)
    monkeypatch.setattr(_ynnpack, "used", lambda: True)
    for name in ("GROUPED", "WORTHWHILE"):
        monkeypatch.setattr(xla, name, 1)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_same_numbers_and_derivatives(spec: ConvSpec) -> None:
    shape = tuple({"N": 2, "C": spec.in_channels}.get(letter, 9) for letter in spec.layout)
    rng = np.random.default_rng(5)
    shapes = [shape, spec.weight_shape]
    x, w, dx, dw, b, c = (
        integers(rng, s, "float32")
        for s in (*shapes, *shapes, spec.bias_shape, spec.output_shape(shape))
    )
    engine, plain = JaxBackend(), Plain()
    assert "spread" in spec.explain(shape, engine)

    def run(engine: JaxBackend) -> list[Any]:
        of_all = derivatives(lambda x, w: spec(x, w, b, backend=engine), c, dx, dw)
        results: list[Any] = jax.jit(of_all)(jnp.asarray(x), jnp.asarray(w))
        return results

    ours = run(engine)
    assert np.array_equal(ours[0], convspec.reference(spec, x, w, b))
    for got, exact in zip(ours, run(plain), strict=True):
        np.testing.assert_array_equal(got, exact)


@pytest.mark.usefixtures("always")
def test_what_is_not_finite_meets_the_same_products() -> None:
    """Between the input's elements there are zeros, which no tap meets."""
    spec = ConvSpec(2, 3, (3, 3), padding=1, bias=False, layout="NHWC")
    x, w = np.ones((1, 6, 5, 2), np.float32), np.ones(spec.weight_shape, np.float32)
    w[1, 0, 1, 1] = np.inf
    x[0, 2, 3, 1] = np.nan
    engine = JaxBackend()
    assert "spread" in spec.explain(x.shape, engine)
    y = spec(jnp.asarray(x), jnp.asarray(w), backend=engine)
    np.testing.assert_array_equal(y, convspec.reference(spec, x, w))


@pytest.mark.usefixtures("always")
def test_what_xla_would_misread_is_padded_beforehand() -> None:
    """A step between inputs is one more thing that it may take for groups, in the other axis."""
    spec = ConvSpec(2, 2, (2, 2), 2, (2, 1), (2, 1), bias=False, layout="NCHW")
    shape, rng = (2, 2, 4, 4), np.random.default_rng(6)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    text = spec.explain(shape, JaxBackend())
    assert "x: pad zeros by ((0, 0), (0, 0), (2, 2), (1, 1))" in text
    assert "padding=[(0, 0), (0, 0)], lhs_dilation=(2, 1)" in text
    assert np.array_equal(spec(jnp.asarray(x), jnp.asarray(w)), convspec.reference(spec, x, w))


@pytest.mark.parametrize(
    ("spec", "shape", "slow"),
    [
        (ConvSpec(64, 64, (3, 3), padding=1), (1, 64, 56, 56), True),
        (ConvSpec(64, 64, (3, 3)), (1, 64, 200, 200), True),
        (ConvSpec(32, 8, (3, 3)), (4, 32, 64, 64), True),
        (ConvSpec(32, 8, (3, 3), padding=1), (4, 32, 64, 64), False),  # few output channels
        (ConvSpec(64, 64, (3, 3), padding=1), (1, 64, 100, 100), False),  # on all cores
        (ConvSpec(32, 64, (3, 3), padding=1), (1, 32, 100, 100), True),
        (ConvSpec(32, 32, (3, 3), padding=1), (4, 32, 64, 64), False),  # copied anyway
        (ConvSpec(32, 32, (3, 3), padding=1, layout="NHWC"), (4, 64, 64, 32), True),
        (ConvSpec(3, 64, (7, 7), 2, 3), (8, 3, 224, 224), False),
        (ConvSpec(64, 64, (3, 3), padding=1), (1, 64, 8, 8), False),
        (ConvSpec(64, 64, (3, 3), padding=2), (1, 64, 56, 56), False),  # a larger output
        (ConvSpec(64, 64, (3,), padding=1), (1, 64, 9999), False),
    ],
)
def test_where_ynnpack_is_avoided(
    spec: ConvSpec, shape: tuple[int, ...], slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ynnpack, "used", lambda: True)
    assert ("spread: every step along axis H doubled" in spec.explain(shape, JaxBackend())) == slow
    monkeypatch.setattr(_ynnpack, "used", lambda: False)
    assert "spread" not in spec.explain(shape, JaxBackend())


def test_xla_keeps_what_is_spread_from_ynnpack() -> None:
    """The reason for it all: without the rule YNNPACK gets the call, if XLA uses it at all."""
    spec = ConvSpec(64, 64, (3, 3), padding=1, bias=False)
    x, w = (jax.ShapeDtypeStruct(s, "float32") for s in ((2, 64, 56, 56), spec.weight_shape))

    def program(engine: JaxBackend) -> str:
        return str(jax.jit(lambda x, w: spec(x, w, backend=engine)).lower(x, w).compile().as_text())

    assert ("__ynn_fusion" in program(Plain())) == _ynnpack.used()
    assert "__ynn_fusion" not in program(JaxBackend())
