"""The reference against constructions that share nothing with it."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest

import convspec
from convspec import ConvSpec
from generators import random_case


def by_scalar_loops(spec: ConvSpec, x: np.ndarray, w: np.ndarray, size: tuple) -> np.ndarray:
    """The definition of DESIGN section 3, one scalar product at a time; NC... and default weights.

    Forward: out[o] += in[o*s + k*d - lo]; transposed: out[i*s + k*d - lo] += in[i].
    """
    problem = convspec.problem.resolve(spec, x.shape, size)
    g = spec.groups
    ci, co = spec.in_channels // g, spec.out_channels // g
    y = np.zeros(problem.output_shape, "int64")
    outer = problem.input_size if spec.transposed else problem.output_size
    for n, group, i, o in product(range(x.shape[0]), range(g), range(ci), range(co)):
        a, b = group * ci + i, group * co + o
        for at, tap in product(np.ndindex(*outer), np.ndindex(*spec.kernel_size)):
            place = [
                p * s + k * d - lo
                for p, s, k, d, (lo, _) in zip(
                    at, spec.stride, tap, spec.dilation, problem.padding, strict=True
                )
            ]
            if spec.flip_kernel:
                tap = tuple(k - 1 - t for k, t in zip(spec.kernel_size, tap, strict=True))
            if spec.transposed:
                if all(0 <= p < m for p, m in zip(place, problem.output_size, strict=True)):
                    y[(n, b, *place)] += x[(n, a, *at)] * w[(a, o, *tap)]
                continue
            value = 1
            for axis, (p, m) in enumerate(zip(place, problem.input_size, strict=True)):
                place[axis], inside = _read(p, m, spec.padding_mode)
                value *= inside
            y[(n, b, *at)] += value * x[(n, a, *place)] * w[(b, i, *tap)]
    return y


def _read(p: int, n: int, mode: str) -> tuple[int, int]:
    if 0 <= p < n:
        return p, 1
    if mode == "reflect":
        return (-p if p < 0 else 2 * (n - 1) - p), 1
    if mode == "replicate":
        return (0 if p < 0 else n - 1), 1
    if mode == "circular":
        return p % n, 1
    return 0, 0


def test_against_scalar_loops() -> None:
    rng = np.random.default_rng(8)
    done = 0
    while done < 120:
        case = random_case(rng, (1, 2))
        spec = case.spec.replace(
            layout="NC" + case.spec.spatial,
            output_layout="NC" + case.spec.spatial,
            weight_layout=("IO" if case.spec.transposed else "OI") + case.spec.spatial,
            group_axis=None,
        )
        named = dict(zip(case.spec.layout, case.input_shape, strict=True))
        shape = tuple(named.get(letter, 1) for letter in spec.layout)
        if prod(shape) * prod(spec.weight_shape) > 4000:
            continue  # scalar loops are slow; the sizes do not matter
        x = rng.integers(-3, 4, shape)
        w = rng.integers(-3, 4, spec.weight_shape)
        y = convspec.reference(spec, x, w, output_size=case.output_size)
        assert np.array_equal(y, by_scalar_loops(spec, x, w, case.output_size)), spec
        done += 1


def test_bias_and_rounding_once() -> None:
    """2048 + 1 is no float16, 2048 + 1 + 1 is: only one rounding after the bias gets it."""
    spec = ConvSpec(2, 1, (1,))
    x = np.array([[[2048], [1]]], "float16")
    y = convspec.reference(spec, x, np.ones((1, 2, 1), "float16"), np.ones(1, "float16"))
    assert y.dtype == np.float16
    assert y.item() == 2050


def test_integers_wrap_at_the_input_type() -> None:
    spec = ConvSpec(1, 1, (1,))
    x, w = np.array([[[100]]], "int8"), np.array([[[2]]], "int8")
    assert convspec.reference(spec, x, w).item() == 200 - 256
    assert convspec.reference(spec, x, w, out_dtype="int32").item() == 200


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [0, 0, 1, 2, 3, 4, 0, 0]),
        ("reflect", [3, 2, 1, 2, 3, 4, 3, 2]),
        ("replicate", [1, 1, 1, 2, 3, 4, 4, 4]),
        ("circular", [3, 4, 1, 2, 3, 4, 1, 2]),
    ],
)
def test_padding_modes(mode: str, expected: list[int], backend: convspec.Backend) -> None:
    """A kernel of one tap shows what the padded positions read."""
    spec = ConvSpec(1, 1, (1,), padding=2, padding_mode=mode)
    x = np.array([[[1, 2, 3, 4]]], "float32")
    w = np.ones((1, 1, 1), "float32")
    assert convspec.reference(spec, x, w).ravel().tolist() == expected
    y = spec(backend.from_foreign(x), backend.from_foreign(w))
    assert backend.to_numpy(y).ravel().tolist() == expected
