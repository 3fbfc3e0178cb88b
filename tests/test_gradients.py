"""Gradients: the oracle's own, what the judges notice, and every backend that has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import convspec
import convspec_conformance as conformance
from convspec import ConvSpec, reference
from convspec_conformance import fillings, oracles
from convspec_conformance.cases import FILLINGS, GRADIENTS, Case
from convspec_conformance.judges import fair, judge
from generators import integers, random_case

#: What gradients are filled with; the other fillings are for results alone.
FILLED = ("small", "wide", "real")
STANDARD = [case for case in conformance.suite("standard", 0) if case.judge in GRADIENTS]


def test_the_oracle_is_the_transpose() -> None:
    """<g, conv(u, w)> = <dx, u>, <g, conv(x, v)> = <dw, v>, <g, b> = <db, b>, for any u, v, b."""
    rng = np.random.default_rng(0)
    for _ in range(250):
        case = random_case(rng)
        spec, size = case.spec.replace(bias=True), case.output_size
        x, u = (integers(rng, case.input_shape, "float64") for _ in range(2))
        w, v = (integers(rng, spec.weight_shape, "float64") for _ in range(2))
        b = integers(rng, spec.bias_shape, "float64")
        g = integers(rng, spec.output_shape(case.input_shape, size), "float64")
        dx, dw, db = oracles.gradients(spec, x, w, g, output_size=size)
        assert (dx.shape, dw.shape, db.shape) == (x.shape, w.shape, b.shape)
        assert np.vdot(dx, u) == np.vdot(g, reference(spec, u, w, output_size=size)), case.line
        assert np.vdot(dw, v) == np.vdot(g, reference(spec, x, v, output_size=size)), case.line
        by_bias = reference(spec, x, 0 * w, b, output_size=size)
        assert np.vdot(db, b) == np.vdot(g, by_bias), case.line


def test_nothing_is_conjugated() -> None:
    spec = ConvSpec(1, 1, (1,), bias=False)
    x, w, g = (np.full((1, 1, 1), value) for value in (2j, 3j, 5j))
    dx, dw, _ = oracles.gradients(spec, x, w, g)
    assert (dx.item(), dw.item()) == (-15, -10)


def test_what_gradients_are_taken_of_is_exact_and_in_any_memory() -> None:
    for case in STANDARD:
        t = fillings.tangents(case)
        assert t.g.shape == case.spec.output_shape(case.input_shape, case.output_size)
        assert t.g.dtype.name == (case.out_dtype or case.dtype)
        assert {a.dtype.name for a in (t.x, t.w, t.u, t.v)} == {case.dtype}
        assert (t.b is None) is not case.spec.bias
        if case.filling != "small":
            continue
        parts = [np.abs(a) for a in (t.x, t.w, t.g)]
        wide = [a.astype("float64") for a in parts]
        limit = min(fillings.EXACT[name] for name in (t.x.dtype.name, t.g.dtype.name))
        if case.judge == "gradient":
            for sums in oracles.gradients(case.spec, *wide, output_size=case.output_size):
                assert sums.max(initial=0) <= limit


def test_integers_have_no_gradients() -> None:
    spec = ConvSpec(1, 1, (1,))
    for types in ({"dtype": "int32"}, {"dtype": "float32", "out_dtype": "complex64"}):
        assert not fair(Case("gradient", spec, (1, 1, 1), **types))


def test_gradients_have_these_fillings_and_no_other() -> None:
    case = Case("gradient", ConvSpec(1, 1, (1,)), (1, 1, 1), dtype="float16")
    assert tuple(f for f in FILLINGS if fair(replace(case, filling=f))) == FILLED


def test_every_kind_is_there() -> None:
    kinds = {(case.judge, case.filling) for case in STANDARD}
    assert kinds == {
        *(("gradient", filling) for filling in FILLED),
        *(("gradient2", filling) for filling in FILLED),
    }
    assert {case.spec.transposed for case in STANDARD} == {True, False}
    assert {case.spec.padding_mode for case in STANDARD} >= {"reflect", "replicate", "circular"}
    assert {case.spec.groups > 1 for case in STANDARD} == {True, False}


class Wrong(conformance.BackendTarget):
    """PyTorch, with one of its gradients changed."""

    def __init__(self, which: int, change: Any) -> None:
        super().__init__(convspec.get_backend("torch"))
        self.which, self.change = which, change

    def gradients(self, *arguments: Any, **options: Any) -> Any:
        found = [np.array(a) for a in super().gradients(*arguments, **options)]
        if self.which < len(found):
            found[self.which] = self.change(found[self.which])
        return tuple(found)


@pytest.mark.parametrize(
    ("which", "change", "named"),
    [
        (0, np.flip, "the gradient by x"),
        (1, np.flip, "the gradient by the weight"),
        (2, lambda db: db + 1, "the gradient by the bias"),
        (0, lambda dx: dx.astype("float64"), "the gradient by x: type float64"),
        (1, lambda dw: dw[None], "the gradient by the weight: shape"),
    ],
)
def test_a_wrong_gradient_is_noticed(which: int, change: Any, named: str) -> None:
    spec = ConvSpec(4, 6, (2, 3), stride=2, groups=2)
    for filling in FILLED:
        case = Case("gradient", spec, (2, 4, 5, 6), filling=filling)
        assert judge(case, Wrong(3, None)).status == "pass"
        verdict = judge(case, Wrong(which, change))
        assert verdict.status == "fail"
        assert verdict.detail.startswith(named)


def test_a_wrong_second_gradient_is_noticed() -> None:
    class Conjugated(conformance.BackendTarget):
        def second_gradients(self, *arguments: Any, **options: Any) -> Any:
            found = super().second_gradients(*arguments, **options)
            return (*found[:3], -found[3])

    case = Case("gradient2", ConvSpec(2, 3, (2,)), (1, 2, 4))
    verdict = judge(case, Conjugated(convspec.get_backend("torch")))
    assert (verdict.status, verdict.detail.split(":")[0]) == (
        "fail",
        "the gradient of <v, dw> by g",
    )


def test_numpy_has_none_and_does_not_claim_any() -> None:
    target = conformance.load("numpy")
    for case in STANDARD[:10]:
        verdict = judge(case, target)
        assert (verdict.status, verdict.detail) == (
            "unclaimed",
            "numpy offers no gradients (vjp).",
        )


@pytest.mark.parametrize("name", ["torch", "tensorflow", "jax"])
def test_right_on_every_backend(name: str) -> None:
    if name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    target = conformance.load(name)
    for case in STANDARD[:: 6 if name == "jax" else 2]:
        verdict = judge(case, target)
        assert verdict.status == "pass", f"{case.line}\n{verdict.detail}"


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(4, 6, (3, 3), groups=2, bias=False),
        ConvSpec(3, 4, (2, 3), dilation=(2, 1), bias=False),
        ConvSpec(4, 6, (2, 2, 2), padding=1, groups=2, bias=False),
    ],
    ids=["grouped", "dilated", "grouped 3-D"],
)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_tensorflow_differentiates_what_its_own_kernels_do_not(
    spec: ConvSpec, compiled: bool
) -> None:
    """Its gradients of grouped and of dilated convolutions raise on the CPU."""
    import tensorflow as tf

    def both(x: Any, w: Any, g: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = spec(x, w)
        return tape.gradient(y, [x, w], output_gradients=g)

    rng = np.random.default_rng(1)
    shape = (2, spec.in_channels, *(4, 5, 6)[: spec.rank])
    x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
    g = integers(rng, spec.output_shape(shape), "float32")
    found = (tf.function(both) if compiled else both)(*map(tf.constant, (x, w, g)))
    expected = oracles.gradients(spec, x, w, g)
    for got, exact in zip(found, expected, strict=False):
        np.testing.assert_array_equal(got, exact)


@pytest.mark.parametrize(("name", "count"), [("torch", 12), ("tensorflow", 12), ("jax", 6)])
def test_random_specs_up_to_rank_four(name: str, count: int) -> None:
    """Every layout, padding, mode, stride, dilation, group and direction that the cases draw."""
    if name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    target = conformance.load(name)
    rng = np.random.default_rng(1)
    for i in range(count):
        case = random_case(rng, range(1, 5))
        case = replace(case, dtype="float64", out_dtype=None, judge=GRADIENTS[i % 2])
        verdict = judge(case, target)
        assert verdict.status == "pass", f"{case.line}\n{verdict.detail}"


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_in_torch(reentrant: bool) -> None:
    """Without reentrance it ends its recomputation by an exception out of the kernel."""
    import torch
    from torch.utils.checkpoint import checkpoint

    spec = ConvSpec(2, 3, 3, padding=1, layout="NCHW", bias=False)
    rng = np.random.default_rng(0)
    x, w = integers(rng, (1, 2, 4, 5), "float64"), integers(rng, spec.weight_shape, "float64")
    given = [torch.from_numpy(a).requires_grad_() for a in (x, w)]
    y = checkpoint(spec, *given, use_reentrant=reentrant)
    y.backward(torch.ones_like(y))
    for found, exact in zip(given, oracles.gradients(spec, x, w, np.ones(y.shape)), strict=False):
        np.testing.assert_array_equal(found.grad, exact)


class Trained(conformance.BackendTarget):
    """PyTorch, wrong in some ways of being differentiated alone."""

    def __init__(self, change: Any) -> None:
        super().__init__(convspec.get_backend("torch"))
        self.change = change

    def call(self, spec: ConvSpec, *arrays: Any, **options: Any) -> Any:
        return self.change(super().call(spec, *arrays, **options), *arrays)


def _scaled(y: Any, at: int, arrays: Any, *, alone: bool) -> Any:
    """``y``, of which the gradient is twice what it should be where an array has one (alone)."""
    recorded = [a.requires_grad for a in arrays]
    wrong = recorded[at] and (sum(recorded) == 1) == alone
    return 2 * y - y.detach() if wrong else y


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda y, x, w, b: _scaled(y, 0, (x, w, b), alone=True), "the gradient by x"),
        (lambda y, x, w, b: _scaled(y, 1, (x, w, b), alone=True), "the gradient by the weight"),
        (lambda y, x, w, b: _scaled(y, 2, (x, w, b), alone=True), "the gradient by the bias"),
        (
            lambda y, x, w, b: y + 1 if w.requires_grad else y,
            "g times the result while gradients are recorded",
        ),
    ],
)
def test_gradients_are_taken_one_by_one_too_and_the_result_with_them(
    change: Any, named: str
) -> None:
    case = Case("gradient2", ConvSpec(2, 3, (2,)), (1, 2, 4))
    assert judge(case, Trained(lambda y, *_: y)).status == "pass"
    verdict = judge(case, Trained(change))
    assert verdict.status == "fail"
    assert verdict.detail.startswith(named)
