"""tf.function with sizes that are not known while tracing, XLA, Keras, and higher derivatives."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import convspec
from convspec import ConvSpec, problem
from convspec.backend import Environment
from convspec.dispatch import get_backend
from convspec_tensorflow import _backend, _probe
from convspec_tensorflow._slow import onednn
from traced_specs import SPECS, integers


def arrays(spec: ConvSpec, size: int = 7, batch: int = 2) -> list[tf.Tensor]:
    return list(map(tf.constant, integers(spec, size, batch)))


def signature(spec: ConvSpec) -> list[tf.TensorSpec]:
    """Batch and space unknown."""
    data = [spec.in_channels if letter == "C" else None for letter in spec.layout]
    return [tf.TensorSpec(data), tf.TensorSpec(spec.weight_shape), tf.TensorSpec(spec.bias_shape)]


@pytest.mark.parametrize("name", SPECS)
def test_unknown_sizes(name: str) -> None:
    """One graph for all batches, the empty one too, and all sizes; named padding follows them."""
    spec = SPECS[name]
    run = tf.function(spec, input_signature=signature(spec))
    for size, batch in ((7, 2), (8, 1), (9, 0)):
        given = arrays(spec, size, batch)
        expected = spec(*given)
        y = run(*given)
        assert y.shape == expected.shape
        assert np.array_equal(y, expected)
    assert run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("space", [False, True], ids=["space known", "unknown"])
@pytest.mark.parametrize("name", [name for name in SPECS if name != "unbatched"])
def test_any_number_of_samples(name: str, space: bool) -> None:
    """One graph, as a training loop makes it, with its gradients; none of no samples, too."""
    spec = SPECS[name]
    sizes = [list(array.shape) for array in arrays(spec)]
    sizes.append(list(spec.output_shape(sizes[0])))
    for size, letters in ((sizes[0], spec.layout), (sizes[3], spec.output_layout)):
        size[letters.index("N")] = None
        if space:
            size[:] = [
                n if letter == "C" else None for n, letter in zip(size, letters, strict=True)
            ]

    @tf.function(input_signature=list(map(tf.TensorSpec, sizes)))
    def run(*given: tf.Tensor) -> tuple[tf.Tensor, ...]:
        *arrays, g = given
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            y = spec(*arrays)
        return y, *tape.gradient(y, arrays, output_gradients=g)

    for batch in (3, 0, 1):
        given = arrays(spec, batch=batch)
        expected = spec(*given)
        g = tf.reshape(tf.range(float(tf.size(expected))), expected.shape) % 5 - 2
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = spec(*given)
        wanted = y, *tape.gradient(y, given, output_gradients=g)
        found = run(*given, g)
        for one, want in zip(found, wanted, strict=True):
            assert one.shape == want.shape
            assert np.array_equal(one, want)
        assert batch > 0 or not any(np.any(array) for array in found)


def test_a_gradient_that_is_known_to_be_of_no_samples() -> None:
    """In a graph of any number: oneDNN would give what follows from it another shape."""
    spec = ConvSpec(16, 3, 3, padding=1, transposed=True, layout="NHWC", bias=False)
    size, w = [None, 6, 7, 16], tf.ones(spec.weight_shape)

    @tf.function(input_signature=[tf.TensorSpec(size)])
    def run(x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = spec(x, w)
        return y, *tape.gradient(y, [x, w], output_gradients=tf.zeros((0, 6, 7, 3)))

    y, dx, dw = run(tf.zeros((0, *size[1:])))
    assert (y.shape, dx.shape) == ((0, 6, 7, 3), (0, 6, 7, 16))
    assert not np.any(dw)


def needed(found: list[tf.Tensor]) -> list[str]:
    """The types of the operations that these are computed of."""
    seen: dict[Any, str] = {}
    waiting = list(found)
    while waiting:
        tensor = waiting.pop()
        if tensor.ref() not in seen:
            operation = tensor.op
            seen[tensor.ref()] = operation.type
            several = operation.type == "IdentityN"  # each of its results is one of its inputs
            waiting += [operation.inputs[tensor.value_index]] if several else operation.inputs
    return list(seen.values())


@pytest.mark.parametrize("size", [9, None])
@pytest.mark.parametrize("rank", [1, 2])
def test_gradients_do_not_compute_the_call_again(rank: int, size: int | None) -> None:
    """Not for its shape either, where it is not known how many samples there are."""
    groups, dilation = ((2, 1), (1, 2))[rank % 2]
    spec = ConvSpec(4, 6, (3,) * rank, padding="same", groups=groups, dilation=dilation, bias=False)
    spec = spec.replace(layout=f"N{spec.spatial}C")
    like = [tf.TensorSpec([None, *[size] * rank, n]) for n in (4, 6)]

    @tf.function(input_signature=[like[0], tf.TensorSpec(spec.weight_shape), like[1]])
    def run(x: tf.Tensor, w: tf.Tensor, g: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = spec(x, w)
        return tape.gradient(y, (x, w), output_gradients=g)

    kinds = needed(run.get_concrete_function().outputs)
    assert any("Backprop" in kind for kind in kinds)
    assert "Conv2D" not in kinds


@pytest.mark.parametrize("stride", [(1, 3), (1, 1, 4), (2, 1, 2)], ids=str)
def test_one_output_column_of_one_channel(stride: tuple[int, ...]) -> None:
    """oneDNN mistakes the strides of such an input; the graph learns of the column when it runs."""
    letters = "DHW"[-len(stride) :]
    spec = ConvSpec(
        *(1, 8, 2, stride), bias=False, layout=f"N{letters}C", weight_layout=f"{letters}IO"
    )
    run = tf.function(spec, input_signature=signature(spec)[:2])
    rng = np.random.default_rng(0)
    w = rng.integers(-3, 4, spec.weight_shape).astype("float32")
    for last in (2, 3, 4, 9):
        x = rng.integers(-3, 4, (2, *(9,) * (len(stride) - 1), last, 1)).astype("float32")
        np.testing.assert_array_equal(run(x, w), convspec.reference(spec, x, w))


@pytest.mark.parametrize("name", ["channels last", "replicate", "volume groups", "flipped"])
def test_xla(name: str) -> None:
    spec = SPECS[name]
    given = arrays(spec)
    assert np.array_equal(tf.function(spec, jit_compile=True)(*given), spec(*given))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_stays_with_the_kernel(stride: int, transposed: bool) -> None:
    """As its own word, with gradients, though the amounts follow from sizes that are not known.

    And of what the graph asks the sizes there is one question each: are they none?
    """
    order = "HWOI" if transposed else "HWIO"
    spec = ConvSpec(
        4,
        6,
        3,
        stride,
        "same",
        transposed=transposed,
        layout="NHWC",
        weight_layout=order,
        bias=False,
    )
    sizes = [tf.TensorSpec([2, None, None, c]) for c in (4, 6)]

    @tf.function(input_signature=[sizes[0], tf.TensorSpec(spec.weight_shape), sizes[1]])
    def run(x: tf.Tensor, w: tf.Tensor, g: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = spec(x, w)
        return y, *tape.gradient(y, [x, w], g)

    nodes = run.get_concrete_function().graph.get_operations()
    kinds = [node.type for node in nodes]
    assert sum(kind.startswith("Conv2D") for kind in kinds) == 3
    assert not {"Pad", "PadV2", "Slice", "StridedSlice", "Transpose"} & set(kinds)
    assert {node.get_attr("padding") for node in nodes if node.type[:6] == "Conv2D"} == {b"SAME"}
    assert kinds.count("Assert") == 2
    for size in (5, 6, 1):
        x, w, _ = arrays(spec, size)
        y = spec(x, w)
        g = tf.cast(tf.range(tf.size(y)) % 5 - 2, tf.float32)
        g = tf.reshape(g, y.shape)
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            expected = spec(x, w)
        for found, want in zip(
            run(x, w, g), (expected, *tape.gradient(expected, [x, w], g)), strict=True
        ):
            assert np.array_equal(found, want)


def test_output_size_may_be_unknown_too() -> None:
    spec = ConvSpec(4, 6, 3, 2, "same", transposed=True, layout="NHWC")
    sizes = [*signature(spec)[:2], tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32)]

    @tf.function(input_signature=sizes)
    def run(x: tf.Tensor, w: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        return spec(x, w, output_size=(height, width))

    x, w, _ = arrays(spec)
    for wanted in ((14, 16), (13, 15)):
        assert np.array_equal(run(x, w, *wanted), spec(x, w, output_size=wanted))
    message = "output_size[0] (axis H): the input is no size that it gives"
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(message)):
        run(x, w, 12, 16)


def test_reach_of_a_mode_is_checked_by_the_graph() -> None:
    spec = ConvSpec(4, 6, 5, padding=4, padding_mode="reflect", layout="NHWC")
    run = tf.function(spec, input_signature=signature(spec))
    assert np.array_equal(run(*arrays(spec, 5)), spec(*arrays(spec, 5)))
    message = "padding: reflect on axis H reaches beyond the other end"
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(message)):
        run(*arrays(spec, 4))


def test_a_spec_is_static() -> None:
    """As an argument: one trace for each spec, none for an equal one."""
    run = tf.function(lambda spec, *given: spec(*given))
    for k in (1, 2, 2, 1):
        spec = ConvSpec(4, 6, k, padding="same", layout="NHWC")
        given = arrays(spec)
        assert np.array_equal(run(spec, *given), spec(*given))
    assert run.experimental_get_tracing_count() == 2


def test_functional_form_in_a_graph() -> None:
    spec = SPECS["dilated"]
    x, w, _ = arrays(spec)
    data = tf.TensorSpec([None, None, None, 4])
    run = tf.function(
        lambda x: convspec.conv(x, w, stride=2, padding="same", dilation=2, layout="NHWC"),
        input_signature=[data],
    )
    assert np.array_equal(run(x), spec(x, w))


def test_keras_functional_model() -> None:
    """Inside of a layer a symbolic input of any size is a tensor of unknown sizes."""
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.fail(f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=tensorflow.")
    spec = SPECS["channels last"]

    class Convolution(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=spec.weight_shape)
            self.bias = self.add_weight(shape=spec.bias_shape)

        def call(self, x: Any) -> Any:
            return spec(x, self.kernel, self.bias)

    layer, x = Convolution(), keras.Input((None, None, 4))
    y = layer(x)
    assert y.shape == (None, None, None, 6)
    model = keras.Model(x, y)
    for size, batch in ((7, 2), (8, 3)):
        x = arrays(spec, size, batch)[0]
        assert np.allclose(model(x), spec(x, layer.kernel, layer.bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2])
def test_what_follows_groups_is_not_fused(rank: int) -> None:
    """TensorFlow's graphs fuse a bias or a batch normalisation to a kernel that has no groups."""
    spec = ConvSpec(4, 6, (3,) * rank, groups=2, bias=False, layout=f"N{'HW'[-rank:]}C")
    x, w, b = arrays(spec)

    def biased(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.nn.bias_add(spec(x, w), b))

    def normalised(x: tf.Tensor) -> tf.Tensor:
        y = spec(x, w) if rank == 2 else spec(x, w)[:, None]
        one = tf.ones_like(b)
        return tf.compat.v1.nn.fused_batch_norm(y, one, b, one, one, 0.0, is_training=False)[0]

    for run in (biased, normalised):
        for sizes in (x.shape, (None,) * (rank + 1) + (4,)):
            graph = tf.function(run, input_signature=[tf.TensorSpec(sizes)])
            np.testing.assert_allclose(graph(x), run(x), rtol=1e-6)


#: What a float32 graph of these small integers gives is exact, gradients of squares included.
GRADIENTS = ("channels last", "circular", "replicate", "transposed same", "flipped", "dilated")


def derivatives(spec: ConvSpec, given: list[tf.Tensor]) -> list[tf.Tensor]:
    """First derivatives of half the square of y, and second ones along (x, w) themselves."""
    x, w, b = given
    with tf.GradientTape() as outer:
        outer.watch([x, w, b])
        with tf.GradientTape() as inner:
            inner.watch([x, w, b])
            loss = tf.reduce_sum(spec(x, w, b) ** 2) / 2
        first = inner.gradient(loss, [x, w, b])
        along = tf.reduce_sum(first[0] * x) + tf.reduce_sum(first[1] * w)
    return [*first, *outer.gradient(along, [x, w])]


def expected_derivatives(spec: ConvSpec, given: list[tf.Tensor]) -> list[np.ndarray]:
    """The same by torch's autograd, in float64."""
    import torch

    leaves = [torch.from_numpy(np.array(a, "float64")).requires_grad_() for a in given]
    x, w, b = leaves
    first = torch.autograd.grad((spec(x, w, b) ** 2).sum() / 2, leaves, create_graph=True)
    along = (first[0] * x).sum() + (first[1] * w).sum()
    second = torch.autograd.grad(along, [x, w])
    return [a.detach().numpy() for a in (*first, *second)]


@pytest.mark.parametrize("name", [*GRADIENTS, "depthwise", "volume groups", "rank 4"])
def test_gradients_of_gradients(name: str) -> None:
    """Nested tapes, eagerly, then with an eager call's own graph, and in one of unknown sizes."""
    spec = SPECS[name]
    given = arrays(spec, 4, 2)
    expected = expected_derivatives(spec, given)
    graph = tf.function(lambda *given: derivatives(spec, given), input_signature=signature(spec))
    eagerly = [derivatives(spec, given) for _ in range(3)]
    for found in (*eagerly, graph(*given)):
        for y, z in zip(found, expected, strict=True):
            # Sums of integers below 2**24 in float32; XLA and oneDNN add them in any order.
            assert np.abs(z).max() < 2**24
            assert np.array_equal(y, z)


#: What TensorFlow's vectorisation (pfor) is wrong about, and what it has no rule for.
VECTORISED = {
    "groups": ConvSpec(4, 6, (3, 2), groups=2, bias=False, layout="NHWC"),
    "groups on I": ConvSpec(4, 6, (3, 2), 2, 1, groups=2, bias=False, transposed=True),
    "explicit padding": ConvSpec(3, 2, 3, padding=(2, (1, 0)), bias=False, layout="NCHW"),
    "depthwise": ConvSpec(2, 4, 3, padding=2, groups=2, bias=False, layout="NHWC"),
    "volume": ConvSpec(2, 4, (2, 1, 2), groups=2, bias=False, layout="NDHWC"),
}


@pytest.mark.parametrize("name", VECTORISED)
def test_vectorised_jacobians(name: str) -> None:
    """tape.jacobian and batch_jacobian, in whose loop over outputs channels change places."""
    spec = VECTORISED[name]
    x, w, _ = arrays(spec, 3, 2)
    for _ in range(3):  # from the second time on, gradients are a graph
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, w])
            y = spec(x, w)
        tape.gradient(y, [x, w])
    by_x, by_w = tape.jacobian(y, [x, w])
    # y is linear in w and in x: the Jacobian times either is y.
    assert np.array_equal(tf.tensordot(by_w, w, w.ndim), y)
    assert np.array_equal(tf.tensordot(by_x, x, x.ndim), y)
    axes = (slice(None),) * (x.ndim - 1)
    sampled = np.stack([by_x.numpy()[(i, *axes, i)] for i in range(2)])
    assert np.array_equal(tape.batch_jacobian(y, x), sampled)


@pytest.mark.parametrize("name", ["groups", "groups on I", "explicit padding"])
def test_vectorized_map(name: str) -> None:
    """Of a gradient, over inputs, over weights, and of a function that was traced elsewhere."""
    spec = VECTORISED[name]
    x, w, _ = arrays(spec, 3, 2)
    g = tf.cast(tf.reshape(tf.range(tf.size(spec(x, w))), spec(x, w).shape) % 5 - 2, tf.float32)

    @tf.function
    def gradients(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = spec(x, w)
        return (y, *tape.gradient(y, [x, w], output_gradients=g))

    xs, ws = tf.stack([x, -x, 2 * x + 1]), tf.stack([w, w + 1, -w])
    by_x = [tf.vectorized_map(lambda x: gradients(x, w), xs), [gradients(x, w) for x in xs]]
    by_w = [tf.vectorized_map(lambda w: gradients(x, w), ws), [gradients(x, w) for w in ws]]
    for found, exact in (by_x, by_w):
        for mapped, one in zip(found, zip(*exact, strict=True), strict=True):
            assert np.array_equal(mapped, one)


@pytest.mark.parametrize("name", ["groups", "explicit padding", "volume"])
def test_forward_accumulator(name: str) -> None:
    """Forward mode, and forward over a tape, against a tape over a tape."""
    spec = VECTORISED[name]
    x, w, _ = arrays(spec, 3, 2)
    u, v = 1 - x, w - 2

    def gradients() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = spec(x, w)
            loss = tf.reduce_sum(y**2) / 2
        return y, tape.gradient(loss, [x, w])

    with tf.autodiff.ForwardAccumulator([x, w], [u, v]) as forward:
        y, first = gradients()
    assert np.array_equal(forward.jvp(y), spec(u, w) + spec(x, v))
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        by_x, by_w = gradients()[1]
        along = tf.reduce_sum(by_x * u) + tf.reduce_sum(by_w * v)
    for found, exact in zip(forward.jvp(first), tape.gradient(along, [x, w]), strict=True):
        assert np.array_equal(found, exact)


@pytest.mark.parametrize("name", ["groups", "groups on I"])
def test_grouped_gradients_of_the_kernel_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where a grouped call has gradients of its own. On the CPU only XLA has them."""
    monkeypatch.setattr(_backend, "differentiates", lambda call: True)
    spec = VECTORISED[name].replace(stride=1, padding=0)
    x, w, _ = arrays(spec, 3, 2)
    env = Environment("float32", "float32", traced=True)
    kernel = get_backend("tensorflow").prepare(problem.resolve(spec, tuple(x.shape), None), env)

    @tf.function(jit_compile=True)
    def jacobians(x: tf.Tensor, w: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = kernel(x, w)
        return tape.jacobian(y, [x, w])

    by_x, by_w = jacobians(x, w)
    assert np.array_equal(tf.tensordot(by_w, w, w.ndim), spec(x, w))
    assert np.array_equal(tf.tensordot(by_x, x, x.ndim), spec(x, w))


def test_graphs_have_to_know_the_shapes_of_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where oneDNN has dilated volumes: in a graph TensorFlow mistakes the sizes of conv3d, which
    is the gradient of a transposed one, if their dilations differ."""
    for trial in ("_probe", "_probe_gradients"):
        monkeypatch.setattr(_probe, trial, lambda kind: True)
    env, backend = Environment("float32", "float32", traced=True), _backend.DifferentiableBackend()
    for dilation, kept in (((1, 3, 1), False), ((2, 2, 2), True)):
        spec = ConvSpec(2, 3, (2, 3, 2), dilation=dilation, transposed=True, layout="NDHWC")
        (call,) = backend.plan(problem.resolve(spec, (2, 3, 4, 5, 2), None), env).calls
        assert (call.dilation == dilation) is kept


OTHER_KERNELS = """
import json, sys
import numpy as np, tensorflow as tf
sys.path.insert(0, sys.argv[1])
import test_tensorflow_graphs as tests
from traced_specs import SPECS
wrong = []
for name, spec in SPECS.items():
    given = tests.arrays(spec, 4, 2)
    graph = tf.function(spec, input_signature=tests.signature(spec))
    if not np.array_equal(graph(*given), spec(*given)):
        wrong.append([name, "graph"])
    expected = tests.expected_derivatives(spec, given)
    for found in (tests.derivatives(spec, given) for _ in range(2)):
        if not all(map(np.array_equal, found, expected)):
            wrong.append([name, "gradients"])
wrong += tests.padded_volumes()
print(json.dumps(wrong))
"""


#: Padded volumes with the sizes of an input. A graph fuses the padding to the kernel, and then it
#: loses a transpose, if the output had axes of size 1 without padding; or ends the process, if
#: there are a dilation and a bias. Of dilations that differ it infers another shape.
PADDED: dict[str, tuple[ConvSpec, tuple[int, ...]]] = {
    "transposed": (
        ConvSpec(
            8,
            1,
            (1, 3, 2),
            (1, 3, 2),
            ((2, 0), (2, 2), "same"),
            bias=False,
            layout="NCDWH",
            output_layout="NWCHD",
        ),
        (2, 8, 1, 5, 5),
    ),
    "dilated": (
        ConvSpec(
            2,
            2,
            (3, 1, 1),
            (1, 1, 3),
            ((4, 1), "same", (2, 2)),
            (2, 1, 3),
            layout="NDWHC",
            output_layout="NCDWH",
        ),
        (1, 3, 3, 1, 2),
    ),
    "dilations that differ": (
        ConvSpec(
            3,
            16,
            (1, 2, 1),
            (1, 3, 2),
            ((2, 2), "same", (3, 3)),
            (3, 1, 2),
            padding_mode="replicate",
            bias=False,
            layout="NCWHD",
            weight_layout="WDHIO",
        ),
        (2, 3, 4, 2, 4),
    ),
}


def padded_volumes() -> list[list[str]]:
    """Those of :data:`PADDED` that are wrong in a graph."""
    wrong = []
    for name, (spec, shape) in PADDED.items():
        shapes = (shape, spec.weight_shape, spec.bias_shape)[: 2 + spec.bias]
        given = [np.ones(size, np.float32) for size in shapes]
        graph = tf.function(lambda *arrays, spec=spec: spec(*arrays))
        if not np.array_equal(graph(*map(tf.constant, given)), convspec.reference(spec, *given)):
            wrong.append(["padded volume", name])
    return wrong


def test_padded_volumes() -> None:
    assert padded_volumes() == []


def test_everything_with_and_without_onednn() -> None:
    """What other processors get. Eigen's kernels lack most of it."""
    env = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0" if onednn() else "1"}
    command = [sys.executable, "-c", OTHER_KERNELS, str(Path(__file__).parent)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("jit", [False, True])
def test_second_gradients_of_slices(jit: bool) -> None:
    """In what XLA compiles, the gradient of the operation Slice has none of its own."""
    spec = ConvSpec(2, 2, 3, padding=1, padding_mode="circular", bias=False, layout="NHWC")
    x, w, _ = arrays(spec, 4, 2)

    @tf.function(jit_compile=jit)
    def second(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(spec(x, w) ** 2) / 2
            g = inner.gradient(loss, x)
        return outer.gradient(g, x, output_gradients=x)

    with tf.GradientTape() as tape:  # it is linear: the second derivative along x is the first
        tape.watch(x)
        loss = tf.reduce_sum(spec(x, w) ** 2) / 2
    assert np.array_equal(second(x), tape.gradient(loss, x))


def test_cotangents_of_unknown_rank() -> None:
    """As tf.py_function gives them."""
    spec = ConvSpec(4, 4, 3, groups=2, bias=False, layout="NHWC")
    x, w, _ = arrays(spec, 5, 2)

    @tf.function
    def gradients(x: tf.Tensor, w: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            twice = tf.py_function(lambda y: y * 2.0, [spec(x, w)], tf.float32)
        return tape.gradient(twice, [x, w])

    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = spec(x, w) * 2.0
    for found, exact in zip(gradients(x, w), tape.gradient(y, [x, w]), strict=True):
        assert np.array_equal(found, exact)


PADDED_IN_GRADIENTS = {
    "cropped": (ConvSpec(4, 3, (3, 3, 4), (3, 2, 1), 1, transposed=True), (1, 4, 2, 3, 3)),
    "cropped on one side": (
        ConvSpec(4, 3, (3, 3, 3), 2, ((1, 0),) * 3, transposed=True),
        (1, 4, 2, 3, 3),
    ),
    "one input channel": (
        ConvSpec(3, 1, (1, 1, 3), (2, 3, 3), ((1, 1), (1, 1), (2, 3))),
        (1, 3, 1, 1, 3),
    ),
    "last": (
        ConvSpec(4, 3, (4, 3, 3), 1, ((1, 3), (3, 0), (2, 1)), transposed=True, layout="NDHWC"),
        (1, 2, 2, 4, 4),
    ),
}


@pytest.mark.parametrize("name", PADDED_IN_GRADIENTS)
def test_no_pad_is_fused_to_what_a_gradient_is(name: str) -> None:
    """A crop's gradient is a Pad, and a transposed volume's a Conv3D, which oneDNN takes together
    for one whose output is as small as without: in graphs, if nothing else reads that Pad.
    """
    spec, shape = PADDED_IN_GRADIENTS[name]
    spec = spec.replace(bias=False)
    rng = np.random.default_rng(5)
    shapes = (shape, spec.weight_shape, spec.output_shape(shape))
    x, w, c = (rng.integers(-2, 3, s) for s in shapes)

    def first(of: str) -> Any:
        def run(**arrays: tf.Tensor) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(arrays[of])
                y = spec(arrays["x"], arrays["w"])
            return tape.gradient(y, arrays[of], arrays["c"])

        return run

    def second(of: str, by: str) -> Any:
        def run(**arrays: tf.Tensor) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(arrays[by])
                found = first(of)(**arrays)
            return tape.gradient(found, arrays[by], arrays[of])

        return run

    pairs = [(of, by) for of in "xw" for by in "xwc" if of != by]
    for run in [*map(first, "xw"), *(second(*pair) for pair in pairs)]:
        wide, arrays = (
            {k: tf.constant(a, dtype) for k, a in zip("xwc", (x, w, c), strict=True)}
            for dtype in ("float64", "float32")
        )
        expected = run(**wide)
        for call in (run, run, tf.function(run)):
            assert np.array_equal(call(**arrays), expected)
