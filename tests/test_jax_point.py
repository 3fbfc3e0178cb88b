"""1x1 kernels that JAX computes as matrix products: the same numbers and derivatives, exactly."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convspec
from convspec import ConvSpec
from convspec_jax import JaxBackend, _point
from generators import integers
from test_jax_slow import Plain, derivatives

#: spec, whether each sample is a matrix of its own
SPECS = [
    (ConvSpec(3, 4, (1, 1)), True),
    (ConvSpec(3, 4, (1,), bias=False), True),
    (ConvSpec(3, 4, (1, 1, 1), weight_layout="DHWIO"), True),
    (ConvSpec(3, 4, (1, 1), dilation=2, layout="CHW"), True),
    (ConvSpec(3, 4, (1, 1), layout="NHWC"), False),
    (ConvSpec(3, 4, (1, 1), padding=((1, 0), (0, 2)), padding_mode="reflect", layout="HWC"), False),
    (ConvSpec(3, 4, (1, 1, 1), layout="NDHWC", weight_layout="DHWIO", flip_kernel=True), False),
    (ConvSpec(3, 4, (1, 1), layout="HNWC"), False),
    (ConvSpec(3, 4, (1, 1), transposed=True, layout="NHWC"), False),
]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORTHWHILE", "FLAT_WORTHWHILE", "POSITIONS", "DATA"):
        monkeypatch.setattr(_point, name, 0)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("spec", "apart"), SPECS, ids=str)
def test_the_same_numbers_and_derivatives(spec: ConvSpec, apart: bool) -> None:
    shape = tuple({"N": 2, "C": spec.in_channels}.get(letter, 5) for letter in spec.layout)
    rng = np.random.default_rng(5)
    shapes = [shape, spec.weight_shape]
    x, w, dx, dw, b, c = (
        integers(rng, s, "float32")
        for s in (*shapes, *shapes, spec.bias_shape, spec.output_shape(shape))
    )

    bias = b if spec.bias else None

    def run(engine: JaxBackend) -> Any:
        of_all = derivatives(lambda x, w: spec(x, w, bias, backend=engine), c, dx, dw)
        return jax.jit(of_all).lower(jnp.asarray(x), jnp.asarray(w))

    programs = run(JaxBackend()), run(Plain())
    assert "convolution" not in programs[0].as_text()
    ours, plain = (program.compile()(jnp.asarray(x), jnp.asarray(w)) for program in programs)
    assert np.array_equal(ours[0], convspec.reference(spec, x, w, bias))
    for got, exact in zip(ours, plain, strict=True):
        np.testing.assert_array_equal(got, exact)
    forward = jax.jit(lambda x, w: spec(x, w, bias)).lower(x, w)
    assert ("batching_dims = [0] x [0]" in forward.as_text()) == apart


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "HNWC"])
def test_what_is_told(layout: str) -> None:
    """A snippet of one line, which is run; and nothing in the program but the product."""
    spec = ConvSpec(3, 4, (1, 1), bias=False, layout=layout)
    shape = tuple({"N": 2, "C": 3}.get(letter, 5) for letter in layout)
    text = spec.explain(shape, JaxBackend())
    at, to = layout.replace("C", "I"), layout.replace("C", "O")
    assert f'jnp.einsum("{at},OIhw->{to}", x, weight)' in text
    x, w = (
        jnp.asarray(integers(np.random.default_rng(1), s, "float32"))
        for s in (shape, spec.weight_shape)
    )
    assert np.array_equal(jnp.einsum(f"{at},OIhw->{to}", x, w), spec(x, w))
    found = {equation.primitive.name for equation in jax.make_jaxpr(spec)(x, w).eqns}
    assert found <= {"squeeze", "reshape", "broadcast_in_dim", "dot_general", "transpose", "jit"}


@pytest.mark.parametrize(
    ("spec", "shape", "told"),
    [
        (ConvSpec(64, 64, (1, 1)), (4, 64, 28, 28), True),
        (ConvSpec(64, 64, (1, 1)), (4, 64, 14, 14), False),  # few positions
        (ConvSpec(64, 64, (1, 1), 2), (4, 64, 56, 56), False),
        (ConvSpec(512, 2048, (1, 1)), (4, 512, 28, 28), False),  # a wide weight
        (ConvSpec(64, 64, (1, 1), layout="NHWC"), (4, 14, 14, 64), True),
        (ConvSpec(64, 64, (1, 1), layout="NHWC"), (1, 14, 14, 64), False),
        (ConvSpec(64, 64, (1, 1), layout="NHWC", groups=2), (4, 14, 14, 64), False),
        (ConvSpec(64, 64, (1,), layout="NWC"), (4, 999, 64), False),  # which XLA knows itself
        (ConvSpec(64, 64, (1,), layout="NCW"), (4, 64, 999), True),
    ],
    ids=str,
)
def test_where(spec: ConvSpec, shape: tuple[int, ...], told: bool) -> None:
    assert ("einsum" in spec.explain(shape, JaxBackend())) == told
