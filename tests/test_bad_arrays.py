"""Bad arrays, on every backend: types, frameworks, gradients and traces that cannot go together."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import torch
from flax import nnx
from torch.autograd import forward_ad

import convspec
from conftest import BACKENDS
from convspec import (
    BackendNotFoundError,
    ConvSpec,
    DTypeError,
    LayoutError,
    ShapeError,
    UnsupportedError,
)
from refusals import TYPES, refused

SPEC = ConvSpec(4, 6, (3, 3), groups=2)
UP = ConvSpec(4, 6, (3, 3), stride=2, groups=2, transposed=True)
#: Its weight has the shape of X.
WHOLE = ConvSpec(4, 2, (5, 5))
X = np.ones((2, 4, 5, 5), np.float32)
W = np.ones(SPEC.weight_shape, np.float32)
B = np.ones(6, np.float32)

Make = Callable[[Any], Any]


@pytest.fixture
def make(backend: convspec.Backend) -> Make:
    """NumPy arrays as the backend's own."""
    return backend.from_foreign


def framework_of(array: Any) -> str:
    """The name of the backend that ``array`` belongs to."""
    return type(array).__module__.split(".")[0].removesuffix("lib")


def built(code: str) -> Any:
    """An array from the code that makes it: arrays are not made before they are needed."""
    return eval(code)


def loaded() -> str:
    """The backends whose framework some test has imported, as messages list them."""
    return ", ".join(sorted(set(convspec.dispatch.entry_points()) & set(sys.modules)))


NO_ARRAYS = [
    (None, "builtins.NoneType"),
    ([[[[1.0]]]], "builtins.list"),
    (2.0, "builtins.float"),
    (False, "builtins.bool"),
    (np.float32(2), "numpy.float32"),
    ("x", "builtins.str"),
    (jax.ShapeDtypeStruct((2, 4, 5, 5), np.float32), "jax.ShapeDtypeStruct"),
    (tf.TensorSpec((2, 4, 5, 5)), "tensorflow.python.framework.tensor.TensorSpec"),
]


@pytest.mark.parametrize(("value", "kind"), NO_ARRAYS)
def test_what_is_no_array(make: Make, value: Any, kind: str) -> None:
    def no_array(name: str) -> Any:
        return refused(
            BackendNotFoundError,
            f"{name}: no backend owns an array of type {kind}; loaded are: {loaded()}.\n"
            f"  Pass an array of one of them, as numpy.asarray({name}) gives.",
        )

    with no_array("x"):
        SPEC(value, make(W))
    if value is not None:
        with no_array("weight"):
            SPEC(make(X), value)
        with no_array("bias"):
            SPEC(make(X), make(W), value)
    with no_array("weight"):
        convspec.conv(make(X), value)
    with no_array("array"):
        convspec.to_framework(value, "numpy")


def test_a_variable_is_what_it_holds() -> None:
    x, w = jnp.asarray(X), jnp.asarray(W)
    assert SPEC(x, nnx.Param(W)).shape == (2, 6, 3, 3)
    with refused(DTypeError, "weight: is float64, but x is float32; convert one of them."):
        SPEC(x, nnx.Param(W.astype(np.float64)))
    message = f"bias: no backend owns an array of type builtins.list; loaded are: {loaded()}."
    with refused(BackendNotFoundError, message):
        SPEC(x, w, nnx.Param([1.0]))


# ---- element types ----


UNKNOWN_TYPES = [
    ("X > 0", "bool"),
    ("X.astype(object)", "object"),
    ("X.astype('U1')", "str32"),
    ("X.astype('M8[s]')", "datetime64[s]"),
    ("X.astype(np.longdouble)", np.dtype(np.longdouble).name),
    ("X.astype(ml_dtypes.float8_e4m3fn)", "float8_e4m3fn"),
    ("X.astype(ml_dtypes.int4)", "int4"),
    ("np.zeros(X.shape, 'V4')", "void32"),
    ("np.full(X.shape, 'a', np.dtypes.StringDType())", "StringDType128"),
    ("torch.tensor(X > 0)", "bool"),
    ("torch.zeros(X.shape, dtype=torch.complex32)", "complex32"),
    ("torch.tensor(X).to(torch.float8_e5m2)", "float8_e5m2"),
    ("torch._empty_affine_quantized(X.shape, scale=1, dtype=torch.quint8)", "quint8"),
    ("tf.constant(X > 0)", "bool"),
    ("tf.fill(X.shape, 'a')", "string"),
    ("tf.bitcast(tf.ones(X.shape, tf.int8), tf.qint8)", "qint8"),
    ("tf.cast(X, tf.dtypes.experimental.float8_e5m2)", "float8_e5m2"),
    ("jnp.asarray(X > 0)", "bool"),
    ("jnp.asarray(X, 'float8_e4m3fn')", "float8_e4m3fn"),
    ("jnp.asarray(X, 'int4')", "int4"),
    ("jax.random.split(jax.random.key(0), X.size).reshape(X.shape)", "key<fry>"),
]


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
@pytest.mark.parametrize(("code", "name"), UNKNOWN_TYPES)
def test_unknown_types(code: str, name: str) -> None:
    array = built(code)
    with refused(DTypeError, f"x: {name} is none of {TYPES}."):
        WHOLE(array, array)
    for other in BACKENDS:
        with refused(DTypeError, f"x: {name} is none of {TYPES}."):
            WHOLE(array, array, backend=other)
    own = convspec.get_backend(framework_of(array))
    with refused(
        DTypeError,
        f"weight: is {name}, but x is float32; all arrays of a call have one type.\n"
        "  Convert one of them, or ask for another result type with out_dtype=.",
    ):
        WHOLE(own.from_foreign(X), array)


def test_unknown_types_of_numpy_weights() -> None:
    weight = X.astype(ml_dtypes.float8_e5m2)
    for x in (torch.ones(X.shape).to(torch.float8_e5m2), jnp.ones(X.shape, jnp.float8_e5m2)):
        with refused(DTypeError, f"x: float8_e5m2 is none of {TYPES}."):
            WHOLE(x, weight)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "complex64"])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_mixed_types(backend: convspec.Backend, make: Make, name: str, dtype: str) -> None:
    arrays = {"x": make(X), "weight": make(W), "bias": make(B)}
    foreign = {"weight": W, "bias": B}[name].astype(dtype)
    message = f"{name}: is {dtype}, but x is float32; "
    with refused(
        DTypeError,
        f"{message}all arrays of a call have one type.\n"
        "  Convert one of them, or ask for another result type with out_dtype=.",
    ):
        SPEC(**{**arrays, name: make(foreign)})
    message += "convert one of them."
    other = "numpy" if backend.name == "torch" else "torch"
    with refused(DTypeError, message):  # before anything is handed over
        SPEC(**{**arrays, name: make(foreign)}, backend=other)
    if backend.name != "numpy":
        with refused(DTypeError, message):
            SPEC(**{**arrays, name: foreign})


OUT_DTYPES = [
    ("float8_e5m2", "'float8_e5m2'"),
    ("", "''"),
    ("<f4", "'<f4'"),
    (bool, "<class 'bool'>"),
    (object, "<class 'object'>"),
    (3, "3"),
    (1.5, "1.5"),
    (True, "True"),
    ([], "[]"),
    ({}, "{}"),
    (np.dtype("M8[s]"), "dtype('<M8[s]')"),
    (np.array([1]), "array([1])"),
]


@pytest.mark.parametrize(("value", "told"), [*OUT_DTYPES, (torch, repr(torch)[:57] + "...")])
def test_out_dtype(make: Make, value: Any, told: str) -> None:
    with refused(DTypeError, f"out_dtype: {told} is none of {TYPES}."):
        SPEC(make(X), make(W), out_dtype=value)


def test_types_that_jax_has_switched_off() -> None:
    x, w = jnp.asarray(X), jnp.asarray(W)
    wide = "float16, bfloat16, float32, complex64, int8, int16, int32, uint8, uint16, uint32"
    with jax.enable_x64(False):
        message = f"backend: jax has no convolution of float64; it has {wide}."
        with refused(UnsupportedError, message):
            SPEC(x, w, out_dtype="float64")
        message = "out_dtype: float64 does not survive the way from numpy to jax."
        with refused(UnsupportedError, message):
            SPEC(x, w, out_dtype="float64", backend="numpy")
        message = "x: float64 does not survive the way from numpy to jax."
        with refused(UnsupportedError, message):
            SPEC(X.astype("float64"), W.astype("float64"), backend="jax")


# ---- whose arrays ----


@pytest.mark.parametrize("other", BACKENDS)
def test_mixed_frameworks(backend: convspec.Backend, make: Make, other: str) -> None:
    theirs = convspec.get_backend(other).from_foreign
    if other in (backend.name, "numpy"):
        y = SPEC(make(X), theirs(W), theirs(B))
        assert (np.asarray(y) == convspec.reference(SPEC, X, W, B)).all()
        return
    for name, arrays in (("weight", (theirs(W),)), ("bias", (make(W), theirs(B)))):
        with refused(
            DTypeError,
            f"{name}: is an array of {other}, but x is one of {backend.name}; arrays of one call "
            f"belong to one framework.\n"
            f"  Hand it over with convspec.to_framework({name}, {backend.name!r}).",
        ):
            SPEC(make(X), *arrays)


NOT_DENSE = [
    ("torch.tensor(X).to_sparse()", "Tensor is no plain array of torch: it is torch.sparse_coo"),
    ("torch.tensor(X).to_mkldnn()", "Tensor is no plain array of torch: it is torch._mkldnn"),
    (
        "torch.nested.nested_tensor([torch.tensor(X)], layout=torch.jagged)",
        "NestedTensor is no plain array of torch: it is nested",
    ),
    ("tf.sparse.from_dense(X)", "SparseTensor is no plain array of tensorflow: its kind has none"),
    (
        "tf.RaggedTensor.from_tensor(X)",
        "RaggedTensor is no plain array of tensorflow: its kind has none",
    ),
    ("np.ma.masked_array(X, X > 0)", "MaskedArray is no plain array of numpy: it hides elements"),
]


@pytest.mark.parametrize(("code", "told"), NOT_DENSE)
def test_what_is_not_dense(code: str, told: str) -> None:
    array = built(code)
    plain = convspec.get_backend(framework_of(array)).from_foreign(X)
    told = f"a {told}; make a dense one of it first."
    with refused(UnsupportedError, f"x: {told}"):
        WHOLE(array, plain)
    with refused(UnsupportedError, f"x: {told}"):
        WHOLE(array, plain, backend="numpy")
    with refused(UnsupportedError, f"weight: {told}"):
        WHOLE(plain, array)
    with refused(UnsupportedError, f"bias: {told}"):
        WHOLE(plain, plain, array)
    with refused(UnsupportedError, f"array: {told}"):
        convspec.to_framework(array, "numpy")
    with refused(UnsupportedError, f"x: {told}"):
        convspec.convert_layout(array, "NCHW", "NHWC")


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_is_an_array() -> None:
    spec = ConvSpec(2, 2, (3,), layout="CW", weight_layout="OIW")
    x, w = np.arange(10.0).reshape(2, 5), np.ones((2, 2, 3))
    assert (spec(np.asmatrix(x), w) == spec(x, w)).all()


def test_arrays_lie_on_one_device() -> None:
    x, w, b = torch.ones(X.shape), torch.ones(W.shape), torch.ones(B.shape)
    move = "move one of them to the other's device."
    with refused(UnsupportedError, f"weight: is on meta, but x is on cpu; {move}"):
        SPEC(x, w.to("meta"))
    with refused(UnsupportedError, f"bias: is on cpu, but x is on meta; {move}"):
        SPEC(x.to("meta"), w.to("meta"), b)
    message = (
        "x: float32 on meta cannot be handed from torch to numpy: Cannot copy out of meta tensor; "
        "no data!"
    )
    with refused(UnsupportedError, message):
        SPEC(x.to("meta"), w.to("meta"), backend="numpy")


def test_what_cannot_be_handed_over() -> None:
    message = (
        "array: key<fry> on cpu cannot be handed from jax to numpy: JAX array with PRNGKey dtype "
        "cannot be converted to a NumPy array. Use jax.random.key_data(arr) if y"
    )
    with refused(UnsupportedError, message):
        convspec.to_framework(jax.random.key(0), "numpy")
    message = (
        "array: object on cpu cannot be handed from numpy to tensorflow: Failed to convert a NumPy "
        "array to a Tensor (Unsupported object type float)."
    )
    with refused(UnsupportedError, message):
        convspec.to_framework(X.astype(object), "tensorflow")


def test_any_byte_order_and_any_strides_are_handed_over(make: Make) -> None:
    x, w = X.astype(">f4"), W.astype(">f4")[:, :, ::-1]
    want = convspec.reference(SPEC, x, w)
    for name in BACKENDS:
        assert (SPEC(x, w, backend=name) == want).all()
    y = SPEC(make(X), w)
    assert (np.asarray(y) == want).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_at_any_address_is_handed_over(dtype: torch.dtype) -> None:
    """TensorFlow's kernels abort the process on memory that is not aligned as its own is."""
    for start in range(4):
        x = torch.ones(X.size + start, dtype=dtype)[start:].view(X.shape)
        w = torch.ones(W.size + start, dtype=dtype)[start:].view(W.shape)
        for name in BACKENDS:
            assert (SPEC(x, w, backend=name) == 18).all()


# ---- gradients and traces ----


def lost(name: str, framework: str, to: str) -> Any:
    return refused(
        UnsupportedError,
        f"backend: {name} takes part in {framework}'s gradients or tracing, which would be lost on "
        f"{to}.\n  Detach it, or leave out backend=.",
    )


@pytest.mark.parametrize("at", range(3))
def test_gradients_of_torch(at: int) -> None:
    arrays = [torch.ones(X.shape), torch.ones(W.shape), torch.ones(B.shape)]
    name = ("x", "weight", "bias")[at]
    arrays[at].requires_grad_()
    with lost(name, "torch", "numpy"):
        SPEC(*arrays, backend="numpy")
    message = "array: takes part in torch's gradients or tracing, which would be lost; detach it"
    with refused(UnsupportedError, f"{message} first."):
        convspec.to_framework(arrays[at], "jax")
    with torch.no_grad():
        SPEC(*arrays, backend="numpy")
    arrays[at] = torch.nn.Parameter(arrays[at])
    with lost(name, "torch", "jax"):
        SPEC(*arrays, backend="jax")


# torch compiles its derivative rules so, when the first forward-mode gradient is taken.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_transforms_of_torch() -> None:
    x, w = torch.ones(X.shape), torch.ones(W.shape)

    def elsewhere(x: torch.Tensor) -> torch.Tensor:
        with lost("x", "torch", "numpy"):
            SPEC(x, w, backend="numpy")
        return x.sum()

    torch.func.grad(elsewhere)(x)
    torch.func.jvp(elsewhere, (x,), (x,))
    torch.func.vmap(elsewhere)(x[None])
    with forward_ad.dual_level():
        elsewhere(forward_ad.make_dual(x, x))


def test_traces_of_jax() -> None:
    x, w = jnp.asarray(X), jnp.asarray(W)

    def elsewhere(x: Any, w: Any, name: str) -> Any:
        with lost(name, "jax", "numpy"):
            SPEC(x, w, backend="numpy")
        return x.sum() + w.sum()

    jax.jit(lambda x: elsewhere(x, w, "x"))(x)
    jax.jit(lambda w: elsewhere(x, w, "weight"))(w)
    jax.grad(lambda x: elsewhere(x, w, "x"))(x)
    jax.vmap(lambda x: elsewhere(x, w, "x"))(x[None])


def test_tapes_of_tensorflow() -> None:
    x, w = tf.constant(X), tf.Variable(W)
    with tf.GradientTape(), lost("weight", "tensorflow", "torch"):
        SPEC(x, w, backend="torch")
    with tf.GradientTape() as tape, lost("x", "tensorflow", "numpy"):
        tape.watch(x)
        SPEC(x, tf.constant(W), backend="numpy")
    with tf.autodiff.ForwardAccumulator(x, x), lost("x", "tensorflow", "jax"):
        SPEC(x, tf.constant(W), backend="jax")
    assert SPEC(x, w, backend="torch").shape == (2, 6, 3, 3)


def test_errors_keep_their_type_while_tensorflow_traces() -> None:
    """TensorFlow raises them anew, behind a list of the user's lines."""
    calls = {
        "backend: x takes part in tensorflow's gradients or tracing": (
            UnsupportedError,
            lambda x: SPEC(x, W, backend="numpy"),
        ),
        "x: has 2 channels on axis 1": (ShapeError, lambda x: SPEC(x[:, :2], W)),
        "weight: is float64, but x is float32": (DTypeError, lambda x: SPEC(x, W.astype("f8"))),
        "x: has 3 axes, but layout 'NCHW' names 4": (LayoutError, lambda x: SPEC(x[0], W)),
        "backend: 'no' is not registered": (
            BackendNotFoundError,
            lambda x: SPEC(x, W, backend="no"),
        ),
    }
    for message, (error, run) in calls.items():
        with pytest.raises(error, match=re.escape(message)) as caught:
            tf.function(run)(tf.constant(X))
        assert type(caught.value) is error


def test_sizes_that_tensorflow_learns_late() -> None:
    """What cannot be checked while tracing is checked by the graph: never groups, never garbage."""
    spec = ConvSpec(2, 4, (3, 3), layout="NHWC", weight_layout="HWIO")
    x, w, b = tf.ones((1, 5, 5, 2)), tf.ones((3, 3, 2, 4)), tf.ones(4)
    shapes = ([None] * 4, [None] * 4, [None])
    run = tf.function(spec, input_signature=[tf.TensorSpec(shape) for shape in shapes])
    assert (run(x, w, b) == spec(x, w, b)).numpy().all()
    for arrays, message in (
        ((tf.ones((1, 5, 5, 4)), w, b), "Shape of tensor x [1,5,5,4] is not compatible"),
        ((x, w[:, :, :1], b), "Shape of tensor weight [3,3,1,4] is not compatible"),
        ((x, w, b[:1]), "Shape of tensor bias [1] is not compatible"),
        ((x[:, :2], w, b), "x: no output position is left on axis H"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(message)):
            run(*arrays)
    axes = tf.function(spec, input_signature=[tf.TensorSpec(None), *map(tf.TensorSpec, shapes[1:])])
    with pytest.raises(LayoutError, match="how many axes a tensor has must be known while tracing"):
        axes(x, w, b)


def test_sizes_that_jax_never_learns() -> None:
    def export(spec: ConvSpec, sizes: str, **more: Any) -> Any:
        x = jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes), np.float32)
        weight = np.ones(spec.weight_shape, np.float32)
        return jax.export.export(jax.jit(lambda x: spec(x, weight, **more)))(x)

    export(SPEC, "n, 4, h, w")
    with refused(
        ShapeError,
        "x: has c channels on axis 1 (C), but the spec has in_channels=4.\n"
        "  x: N=?, C=c, H=5, W=5\n"
        "  Groups are never inferred; check layout='NCHW' or pass groups=.",
    ):
        export(SPEC, "n, c, 5, 5")
    message = "output_size[0] (axis H): expected an integer, got 11.0 (float)."
    with refused(ShapeError, message):
        export(UP, "n, 4, h, h", output_size=11.0)
