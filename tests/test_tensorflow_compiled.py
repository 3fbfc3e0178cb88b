"""A repeated eager call, which is one function that XLA compiles, or a graph."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import convspec_tensorflow._backend as adapter
from convspec import ConvSpec, reference, xla
from convspec.backend import Environment
from convspec.problem import resolve
from convspec_tensorflow import _backward, _compiled, _gradients, _point
from traced_specs import SPECS, integers

SPEC = SPECS["plain"]
#: Those that XLA compiles when they are repeated: channels first, and under XLA the same calls.
BY_XLA = {"plain", "pairs", "circular", "reflect same", "replicate"}
#: And those that XLA has a rule for.
RULES = {
    "residues": SPECS["transposed same"],
    "few channels": ConvSpec(3, 4, 3, padding=1, layout="NCDHW"),
    "groups": ConvSpec(10, 4, 3, 2, "same", groups=2, layout="NCHW"),
    "depthwise": ConvSpec(8, 16, 3, 2, padding=1, groups=8, layout="NCHW"),
    "depthwise signals": ConvSpec(8, 8, 3, padding=1, groups=8, layout="NWC", transposed=True),
    "depthwise volumes": ConvSpec(8, 8, (2, 3, 3), padding=1, groups=8, layout="NDHWC"),
    "products": ConvSpec(20, 20, (3, 2), groups=10, layout="NHWC", weight_layout="HWIO"),
}
ENV = Environment("float32", "float32", "cpu", bias=True)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each function that is made is XLA's; for all sizes, as without oneDNN."""
    found: list[bool] = []
    function_of = _compiled.function_of

    def counted(run: Any, like: Any, **how: bool) -> Any:
        found.append(how.get("xla", False))
        return function_of(run, like, **how)

    for module in (adapter, _backward):
        monkeypatch.setattr(module, "function_of", counted)
    for module in (adapter, _backward, _compiled, _gradients, _point):
        monkeypatch.setattr(module, "onednn", lambda: False)
    for name, bound in {"MOVED": 1, "PRODUCTS": 0, "WORTHWHILE": 0}.items():
        monkeypatch.setattr(_compiled, name, bound)
    for name in ("WORTHWHILE", "SAMPLES"):
        monkeypatch.setattr(_backward, name, 0)
    monkeypatch.setattr(xla, "WORTHWHILE", 0)
    monkeypatch.setattr(xla, "GROUPED", 0)
    monkeypatch.setattr(_compiled, "_made", Counter())
    return found


def prepared(spec: ConvSpec, arrays: list[Any], **changes: Any) -> Any:
    """The kernel for arrays like these, which has not been called before."""
    env = replace(ENV, **changes)
    return adapter.TensorflowBackend().prepare(resolve(spec, arrays[0].shape, None), env)


@pytest.mark.parametrize("name", [*RULES, *SPECS])
def test_the_same_numbers(name: str, made: list[bool]) -> None:
    spec = (SPECS | RULES)[name]
    arrays = integers(spec, 5, 2)
    expected = reference(spec, *arrays)
    run = prepared(spec, arrays)
    for _ in range(_compiled.CALLS + 2):
        np.testing.assert_array_equal(run(*map(tf.constant, arrays)), expected)
    by_xla = name in BY_XLA or spec in RULES.values()
    assert made == ([False] if name == "volume groups" else [True] * by_xla)


def test_volumes_by_a_graph(made: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several calls; and padded, as only oneDNN does it while a volume is read."""
    spec = ConvSpec(4, 6, 3, (1, 2, 2), 1, groups=2, layout="NDHWC")
    arrays = integers(spec, 5, 2)
    padded = spec.replace(groups=1)
    assert "compiled by" not in forward_notes(padded, arrays)
    for module in (adapter, _compiled):
        monkeypatch.setattr(module, "onednn", lambda: True)
    for each in (spec, padded):
        arrays = integers(each, 5, 2)
        run = prepared(each, arrays)
        for _ in range(_compiled.CALLS + 2):
            np.testing.assert_array_equal(run(*map(tf.constant, arrays)), reference(each, *arrays))
    assert made == [False, False]


@pytest.mark.parametrize(
    ("layout", "groups", "changes", "without", "with_onednn"),
    [
        ("NCH", 8, {}, True, True),
        ("NHC", 8, {}, True, False),
        ("NCHW", 8, {}, True, True),
        ("NHWC", 8, {}, False, False),
        ("NCHW", 8, {"transposed": True}, True, True),
        ("NCHW", 8, {"transposed": True, "stride": 2}, True, False),
        ("NCDHW", 8, {"transposed": True, "stride": 2}, True, True),
        ("NDHWC", 8, {}, True, True),
        ("NDHWC", 1, {}, False, False),
    ],
)
def test_which_products_are_left_to_xla(
    layout: str,
    groups: int,
    changes: dict[str, Any],
    without: bool,
    with_onednn: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rank = len(layout) - 2
    spec = ConvSpec(8, 8, (3,) * rank, groups=groups, layout=layout, bias=False, **changes)
    shape = tuple(8 if letter == "C" else 5 for letter in layout)
    problem = resolve(spec, shape, None)
    backend, env = adapter.TensorflowBackend(), replace(ENV, bias=False)
    own, under_xla = (backend.plan(problem, e) for e in (env, adapter._under_xla(env)))
    assert bool(under_xla.calls) == (groups == 1)
    monkeypatch.setattr(_compiled, "SIGNALS", 0)
    for onednn, expected in ((False, without), (True, with_onednn)):
        monkeypatch.setattr(_compiled, "onednn", lambda onednn=onednn: onednn)
        assert _compiled.by_xla(problem, own, under_xla) == expected
        assert _compiled.may_be_faster(problem, own) >= expected
        monkeypatch.setattr(_compiled, "PRODUCTS", 2**40)
        monkeypatch.setattr(_compiled, "MOVED", 2**40)
        assert not _compiled.by_xla(problem, own, under_xla)
        for name, bound in (("PRODUCTS", 0), ("MOVED", 1)):
            monkeypatch.setattr(_compiled, name, bound)


def test_what_is_told() -> None:
    arrays = integers(SPEC)
    assert (
        forward_notes(SPEC, arrays) == "one function, compiled by XLA, from the third eager call on"
    )
    text = SPEC.explain(arrays[0].shape, adapter.TensorflowBackend())
    assert "\nrepeated\n  one function, compiled by XLA, from the third eager call on" in text
    last = SPEC.replace(layout="NHWC", output_layout="NHWC")
    assert "\nrepeated" not in last.explain((2, 7, 8, 4), adapter.TensorflowBackend())
    for point in (SPEC.replace(kernel_size=1), SPEC.replace(kernel_size=1, padding=0)):
        assert "compiled by XLA" in forward_notes(point, arrays)
        assert forward_notes(point.replace(layout="NHWC"), [np.zeros((2, 7, 8, 4))]) == ""


def forward_notes(spec: ConvSpec, arrays: list[Any]) -> str:
    backend = adapter.TensorflowBackend()
    return "; ".join(backend.repetition_notes(resolve(spec, arrays[0].shape, None), ENV))


@pytest.mark.parametrize(
    "change", [{"dtype": "float64", "out_dtype": "float64"}, {"device": "gpu"}]
)
def test_only_what_was_measured(change: dict[str, str]) -> None:
    problem = resolve(SPEC, (2, 4, 7, 8), None)
    assert adapter.TensorflowBackend().repetition_notes(problem, replace(ENV, **change)) == ()


def test_from_the_third_call_on_for_a_few_sizes(made: list[bool]) -> None:
    """A function for each size would take longer to make than it saves."""
    for size in range(5, 7 + _compiled.SIZES):
        arrays = integers(SPEC, size)
        run = prepared(SPEC, arrays)
        before = len(made)
        for calls in range(1, 5):
            run(*map(tf.constant, arrays))
            assert len(made) <= before + (calls > _compiled.CALLS)
    assert made == [True] * _compiled.SIZES


def test_variables_and_gradients(made: list[bool]) -> None:
    """By XLA too, from the second on; the forward call beside them is compiled like others."""
    arrays = integers(SPEC.replace(out_channels=4), 6)
    spec = SPEC.replace(out_channels=4)
    run = prepared(spec, arrays)
    x, w, b = map(tf.Variable, arrays)
    expected: list[Any] = []
    for _ in range(5):
        with tf.GradientTape() as tape:
            y = run(x, w, b)
        np.testing.assert_array_equal(y, reference(spec, *arrays))
        found = tape.gradient(y, [x, w, b], output_gradients=y)
        expected = expected or found
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert sorted(made) == [True, True]
    with tf.autodiff.ForwardAccumulator(x, x) as forward:
        y = run(x, w, tf.zeros_like(b))
    np.testing.assert_array_equal(forward.jvp(y), y)


def test_which_gradients_are_left_to_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backward, "SAMPLES", 4)
    spec = SPEC.replace(out_channels=4)

    def notes(spec: ConvSpec, *shape: int) -> str:
        backend = adapter.TensorflowBackend()
        return "; ".join(backend.gradient_notes(resolve(spec, shape, None), ENV))

    assert "compiled by XLA" in notes(spec, 4, 4, 7, 8)
    assert "compiled by a graph" in notes(spec, 3, 4, 7, 8)
    assert "compiled by XLA" in notes(spec.replace(dilation=2), 1, 4, 7, 8)
    point = spec.replace(kernel_size=1)
    assert "compiled by XLA" in notes(point, 1, 4, 7, 8)
    assert "compiled by a graph" in notes(point.replace(layout="NHWC"), 1, 7, 8, 4)
    assert "compiled by a graph" in notes(point, 1, 4, 28, 28)  # nothing is copied
    assert "compiled by a graph" in notes(spec.replace(stride=2), 4, 4, 7, 8)
    wide = SPEC.replace(out_channels=8)
    assert "compiled by XLA" in notes(wide, 8, 4, 7, 8)
    assert "compiled by a graph" in notes(wide.replace(layout="NHWC"), 8, 7, 8, 4)


def test_gradients_of_large_kernels(made: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """At first as convolutions, later by XLA; the same numbers."""
    monkeypatch.setattr(_gradients, "WORTHWHILE", 0)
    spec = ConvSpec(16, 3, 4, padding="same", layout="NHWC", weight_layout="HWIO")
    arrays = integers(spec, 6)
    assert "convolutions of stride 1" in spec.explain(arrays[0].shape, adapter.TensorflowBackend())
    run = prepared(spec, arrays)
    expected: list[Any] = []
    for _ in range(3):
        tensors = list(map(tf.constant, arrays))
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = run(*tensors)
        found = tape.gradient(y, tensors, output_gradients=tf.sign(y))
        expected = expected or found
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert made == [True]


def test_threads_of_tensorflow(made: list[bool]) -> None:
    """In tf.py_function a graph could wait for a thread that waits for it."""
    arrays = integers(SPEC, 9)
    run = prepared(SPEC, arrays)

    @tf.function
    def graph() -> Any:
        return tf.py_function(run, list(map(tf.constant, arrays)), tf.float32)

    for _ in range(4):
        np.testing.assert_array_equal(graph(), reference(SPEC, *arrays))
    assert made == []


def test_no_function_where_single_operations_are_wanted(made: list[bool]) -> None:
    arrays = list(map(tf.constant, integers(SPEC, 10)))
    run = prepared(SPEC, arrays)
    tf.config.run_functions_eagerly(True)
    try:
        for _ in range(4):
            run(*arrays)
    finally:
        tf.config.run_functions_eagerly(False)
    assert made == []


def test_what_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a build without XLA: the call goes on as it began, and does not try again."""
    arrays = integers(SPEC, 11)
    run = prepared(SPEC, arrays)
    tried = []

    class Failing:
        captured_inputs = ()

        def get_concrete_function(self, *_: Any) -> Any:
            return self

        @property
        def inference_fn(self) -> Any:
            return self

        def call_preflattened(self, _: Any) -> Any:
            tried.append(1)
            raise tf.errors.UnimplementedError(None, None, "no XLA here")

    monkeypatch.setattr(tf, "function", lambda *_, **__: Failing())
    for _ in range(5):
        np.testing.assert_array_equal(run(*map(tf.constant, arrays)), reference(SPEC, *arrays))
    assert tried == [1]


def test_threads_of_python(made: list[bool]) -> None:
    """TensorFlow's may wait for one, so that a graph is the main thread's; one function for all."""
    spec = ConvSpec(4, 6, 3, 1, 1, groups=2, layout="NDHWC")
    for each in (SPEC.replace(out_channels=5), spec):
        arrays = integers(each, 5)
        tensors, expected = list(map(tf.constant, arrays)), reference(each, *arrays)
        run = prepared(each, arrays)
        with ThreadPoolExecutor(8) as pool:
            for y in pool.map(lambda _, run=run, tensors=tensors: run(*tensors), range(40)):
                np.testing.assert_array_equal(y, expected)
    assert made == [True, False]
    assert _compiled._made["all"] == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_compiled.alone, xla=True).result()
        assert not pool.submit(_compiled.alone, xla=False).result()
    assert _compiled.alone(xla=True)
    assert _compiled.alone(xla=False)


def test_what_cannot_be_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise ValueError("no graph of this")

    arrays = integers(SPEC, 12)
    run = prepared(SPEC, arrays)
    monkeypatch.setattr(tf, "function", failing)
    for _ in range(5):
        np.testing.assert_array_equal(run(*map(tf.constant, arrays)), reference(SPEC, *arrays))


def test_no_more_than_so_many(made: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow never gives back what XLA has compiled."""
    monkeypatch.setattr(_compiled, "MOST", 2)
    for channels in range(1, 5):
        spec = ConvSpec(channels, 2, 3, layout="NCHW")
        arrays = list(map(tf.constant, integers(spec)))
        run = prepared(spec, arrays)
        for _ in range(4):
            run(*arrays)
    assert made == [True, True]
