"""Whose array it is, which adapter is loaded when, and calls across frameworks."""

from __future__ import annotations

import gc
import pickle
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pytest

import convspec
from convspec import ConvSpec, DTypeError, Problem, Support, UnsupportedError
from convspec.backend import Environment
from convspec.dispatch import owner

ROOT = Path(__file__).parents[1]
SPEC = ConvSpec(2, 3, (3, 3), padding=1, layout="NHWC")
X = np.arange(2 * 4 * 5 * 2, dtype="float32").reshape(2, 4, 5, 2) % 7 - 3
W = np.arange(np.prod(SPEC.weight_shape), dtype="float32").reshape(SPEC.weight_shape) % 5 - 2


def loaded_after(code: str) -> set[str]:
    """Which frameworks a fresh interpreter has imported after ``code``."""
    names = "{'torch', 'tensorflow', 'jax', 'flax'}"
    ask = f"{code}\nimport sys\nprint(*sorted({names} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_no_framework_is_imported_unasked() -> None:
    run = (
        "import numpy as np, convspec\n"
        "spec = convspec.ConvSpec(1, 1, (2, 2))\n"
        "spec(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))\n"
        "convspec.dispatch.installed(), spec.explain((1, 1, 3, 3))"
    )
    assert loaded_after(run) == set()
    assert loaded_after(run + "\nimport torch") == {"torch"}, "the check itself sees imports"


def test_the_core_names_no_framework() -> None:
    """In code, that is: tables of conventions and documentation do name them."""
    import ast

    words = ("torch", "tensorflow", "jax", "keras", "flax")
    for path in sorted((ROOT / "src" / "convspec").glob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not any(name.split(".")[0] in words for name in names), path
            if isinstance(node, ast.If | ast.IfExp | ast.Compare):
                constants = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
                assert not set(constants) & set(words), f"{path}:{node.lineno}"


def test_adapters_are_alike() -> None:
    """Each framework has the same files; one without arrays of its own needs fewer."""
    folders = {p.name.removeprefix("convspec_"): p for p in (ROOT / "adapters").glob("convspec_*")}
    for folder in folders.values():
        files = {p.name for p in folder.glob("*.py")}
        assert "__init__.py" in files
        assert files & {"_backend.py", "_native.py"}
    for name in ("numpy", "torch", "tensorflow", "jax"):
        files = {p.name for p in folders[name].glob("*.py")}
        assert {"_arrays.py", "_kernel.py", "_snippets.py"} <= files


def test_entry_points_are_the_adapters() -> None:
    """A new adapter is invisible until reinstalled, so the three lists are compared."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["project"]["entry-points"]
    found = set()
    for module in (convspec.dispatch, convspec.natives):
        declared = groups[module.GROUP]
        found |= {value.split(":")[0].split(".")[0] for value in declared.values()}
        installed = {name: point.value for name, point in module.entry_points().items()}
        assert installed == declared
    assert found == {p.name for p in (ROOT / "adapters").glob("convspec_*")}


def test_the_type_of_x_picks_the_backend(backend: convspec.Backend) -> None:
    x = backend.from_foreign(X)
    assert owner(x) is backend
    y = SPEC(x, backend.from_foreign(W))
    assert owner(y) is backend
    assert np.array_equal(backend.to_numpy(y), convspec.reference(SPEC, X, W))


def test_numpy_weights_go_with_any_framework(backend: convspec.Backend) -> None:
    y = SPEC(backend.from_foreign(X), W, np.ones(3, "float32"))
    assert backend.owns(y)
    assert np.array_equal(backend.to_numpy(y), convspec.reference(SPEC, X, W) + 1)


@pytest.mark.parametrize("name", ["numpy", "torch", "tensorflow", "jax"])
def test_another_backend_by_name(backend: convspec.Backend, name: str) -> None:
    x = backend.from_foreign(X)
    y = SPEC(x, backend.from_foreign(W), backend=name)
    assert type(y) is type(x)
    assert np.array_equal(backend.to_numpy(y), convspec.reference(SPEC, X, W))


def test_variables_are_what_they_hold() -> None:
    import jax.numpy as jnp
    import tensorflow as tf
    import torch
    from flax import nnx

    expected = convspec.reference(SPEC, X, W)
    y = SPEC(torch.from_numpy(X), torch.nn.Parameter(torch.from_numpy(W)))
    assert np.array_equal(y.detach().numpy(), expected)
    y = SPEC(tf.Variable(X), tf.Variable(W))
    assert np.array_equal(y.numpy(), expected)
    y = SPEC(jnp.asarray(X), nnx.Param(jnp.asarray(W)))
    assert np.array_equal(np.asarray(y), expected)


def test_keras_variables() -> None:
    """Of the backend of Keras that this process has; tests/test_native_keras.py has the others."""
    import keras

    y = SPEC(keras.Variable(X), keras.Variable(W))
    assert keras.ops.is_tensor(y)
    assert np.array_equal(keras.ops.convert_to_numpy(y), convspec.reference(SPEC, X, W))


def test_gradients_are_not_lost_silently() -> None:
    import torch

    x = torch.from_numpy(X).requires_grad_()
    with pytest.raises(UnsupportedError, match=re.escape("backend: x takes part in torch's")):
        SPEC(x, torch.from_numpy(W), backend="numpy")
    with torch.no_grad():
        assert SPEC(x, torch.from_numpy(W), backend="numpy").shape == (2, 4, 5, 3)


def test_to_framework_shares_memory() -> None:
    import torch

    x = np.ones((2, 3), "float32")
    t = convspec.to_framework(x, "torch")
    assert isinstance(t, torch.Tensor)
    assert t.data_ptr() == x.ctypes.data
    back = convspec.to_framework(t, "numpy")
    assert back.ctypes.data == x.ctypes.data
    j = convspec.to_framework(t, "jax")
    assert convspec.get_backend("jax").owns(j)
    assert convspec.get_backend("tensorflow").owns(convspec.to_framework(j, "tensorflow"))


def test_half_types_cross_frameworks(backend: convspec.Backend) -> None:
    import ml_dtypes

    for dtype in (np.float16, ml_dtypes.bfloat16):
        x = X.astype(dtype)
        there = backend.from_foreign(x)
        assert backend.describe(there)[1] == np.dtype(dtype).name
        assert np.array_equal(backend.to_numpy(there), x)


def test_supports_tells_beforehand() -> None:
    import jax

    assert SPEC.supports("torch") == Support(True, "native")
    grouped = ConvSpec(4, 4, (3, 3, 3), groups=4)
    assert grouped.supports("tensorflow").path == "decomposed"
    assert "one kernel call for each" in grouped.supports("tensorflow").reason
    small = SPEC.supports("numpy", (1, 4, 4, 3))
    assert not small
    assert small.reason.startswith(
        "x: has 3 channels on axis 3 (C), but the spec has in_channels=2"
    )
    before = jax.config.jax_enable_x64
    try:
        jax.config.update("jax_enable_x64", False)
        refused = SPEC.supports("jax", (1, 4, 4, 2), dtype="float64")
        assert not refused
        assert refused.reason.startswith("backend: jax has no convolution of float64")
    finally:
        jax.config.update("jax_enable_x64", before)


class Doubling(convspec.Backend):
    """A third party's backend: NumPy arrays, twice the reference."""

    name = "doubling"

    @property
    def capabilities(self) -> convspec.Capabilities:
        return convspec.Capabilities("1", ("float32",), None, ("cpu",), gradients=False)

    def owns(self, x: object) -> bool:
        return isinstance(x, np.ndarray)

    def describe(self, x: np.ndarray) -> tuple:
        return x.shape, x.dtype.name, "cpu"

    def supports(self, problem: Problem, env: Environment) -> Support:
        return Support(True, "native")

    def prepare(self, problem: Problem, env: Environment):
        assert problem.output_shape == (2, 4, 5, 3)
        return lambda x, w, b=None: 2 * convspec.reference(SPEC, x, w, b)


def test_a_backend_object() -> None:
    assert np.array_equal(SPEC(X, W, backend=Doubling()), 2 * convspec.reference(SPEC, X, W))
    assert SPEC.supports(Doubling())


def test_caches_are_bounded_and_not_pickled() -> None:
    from convspec import kernels, problem

    assert kernels.prepared.cache_info().maxsize == 4096
    assert problem._resolve_plain.cache_info().maxsize == 4096
    SPEC(X, W)
    assert len(pickle.dumps(SPEC)) < 1000


def test_a_repeated_call_prepares_nothing() -> None:
    from convspec import kernels

    SPEC(X, W)
    before = kernels.prepared.cache_info()
    assert np.array_equal(SPEC(X, W), convspec.reference(SPEC, X, W))
    assert kernels.prepared.cache_info() == before


def functions(run: Callable[[], object]) -> list[tuple[str, str]]:
    """All functions that a call enters, in order: of Python's their file and name, of C's name."""
    found = []

    def note(frame: FrameType, event: str, function: object) -> None:
        if event == "call":
            found.append((frame.f_code.co_filename, frame.f_code.co_name))
        elif event == "c_call":
            found.append(("", function.__qualname__))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found[1:-1]  # without run itself, and the end of the profile


def core_functions(run: Callable[[], object]) -> list[str]:
    """The core's own functions that a call enters, in order, but for what NumPy's kernel shares."""
    core = str(Path(convspec.__file__).parent)
    shared = {str(Path(core, name)) for name in ("copies.py", "threads.py")}
    return [
        name
        for path, name in functions(run)
        if path not in shared and path.startswith((core, "<string>"))
    ]


def test_a_repeated_call_finds_its_kernel_and_runs_it(backend: convspec.Backend) -> None:
    spec = ConvSpec(2, 3, (3, 3), padding=1, layout="NHWC", weight_layout="HWIO")
    x, w = map(backend.from_foreign, (X, W.transpose(2, 3, 1, 0).copy()))
    bias = backend.from_foreign(np.arange(3, dtype="float32"))
    for arrays in ((x, w), (x, w, bias)):
        first = spec(*arrays)
        called = core_functions(lambda: spec(*arrays))  # noqa: B023
        # Then the plan, one function of nothing but its steps; JAX has compiled it.
        assert called in (["__call__", "call"], ["__call__", "call", "kernel"])
        assert np.array_equal(backend.to_numpy(spec(*arrays)), backend.to_numpy(first))


def test_a_repeated_call_on_torch_is_a_look_a_guard_and_the_kernel() -> None:
    """All there is to be done, in Python and in C: each of these costs 0.1 to 0.5 microseconds."""
    import torch

    spec = ConvSpec(2, 3, (3, 3), padding=1, layout="NHWC")
    x, w, b = torch.from_numpy(X), torch.nn.Parameter(torch.ones(3, 2, 3, 3)), torch.ones(3)
    for arrays in ((x, w), (x, w, b)):
        spec(*arrays)
        found = [name.split(".")[-1] for _, name in functions(lambda: spec(*arrays))]  # noqa: B023
        look_up = ["__call__", "call", "get", "check"]
        assert found == [*look_up, "kernel", "permute", "conv2d", "permute"]


def test_torch_may_lack_its_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setitem(sys.modules, "torch._C._dynamo.guards", None)
    spec = ConvSpec(2, 3, (3, 3), padding=1, layout="NHWC")
    for _ in range(2):
        y = spec(torch.from_numpy(X), torch.from_numpy(W))
        assert np.array_equal(y, convspec.reference(SPEC, X, W))
    assert not spec._kept


def test_what_tells_calls_apart_is_told_apart() -> None:
    """Each of these follows a call that differs from it in one thing alone."""
    import torch

    x, w = torch.from_numpy(X), torch.from_numpy(W)
    up = ConvSpec(2, 3, (3, 3), stride=2, transposed=True)
    image, kernel = torch.ones((1, 2, 4, 4)), torch.ones((2, 3, 3, 3))
    for _ in range(2):
        assert SPEC(x, w).dtype == torch.float32
        assert SPEC(x.double(), w.double()).dtype == torch.float64
        assert SPEC(x, w, out_dtype="float64").dtype == torch.float64
        with pytest.raises(DTypeError, match="weight: is float64, but x is float32"):
            SPEC(x, w.double())
        with pytest.raises(convspec.ShapeError, match="x: has 1 channels on axis 3"):
            SPEC(x[..., :1], w)
        with pytest.raises(UnsupportedError, match="weight: is on meta, but x is on cpu"):
            SPEC(x, w.to("meta"))
        with pytest.raises(UnsupportedError, match="x: a Tensor is no plain array of torch"):
            SPEC(x.to_sparse(), w)
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype=dtype):
                assert SPEC(x, w).dtype == dtype
        assert SPEC(x[:0], w).shape == (0, 4, 5, 3)
        with torch.inference_mode():
            assert SPEC(x, w).is_inference()
        assert SPEC(x, w.clone().requires_grad_()).requires_grad
        assert torch.equal(SPEC(x.neg(), w), SPEC(x._neg_view(), w))
        assert torch.equal(torch.func.vmap(SPEC, (0, None))(x[None], w)[0], SPEC(x, w))
        with pytest.raises(UnsupportedError, match="x: a Tensor is no plain array of torch"):
            SPEC(x.to_mkldnn(), w)
        assert up(image, kernel).shape == (1, 3, 9, 9)
        assert up(image, kernel, output_size=10).shape == (1, 3, 10, 10)
        for wrong in (10.0, True):
            with pytest.raises(convspec.ShapeError, match="output_size"):
                up(image, kernel, output_size=wrong)


class Short(Doubling):
    """It adds 1 to what it repeats."""

    def shortcut(self, kernel: Callable, arrays: Sequence[np.ndarray]) -> tuple:
        return (lambda x, w: x.shape == X.shape), lambda x, w: 1 + kernel(x, w)


def test_a_shortcut_is_optional() -> None:
    doubled = 2 * convspec.reference(SPEC, X, W)
    plain, short = Doubling(), Short()
    for _ in range(2):
        assert np.array_equal(SPEC(X, W, backend=plain), doubled)
    assert np.array_equal(SPEC(X, W, backend=short), doubled)
    assert np.array_equal(SPEC(X, W, backend=short), 1 + doubled)  # what it gave, and no other's
    assert np.array_equal(SPEC(X, W, backend=plain), doubled)


def test_kept_calls_are_bounded() -> None:
    from convspec import calls

    spec = ConvSpec(2, 3, (3, 3), (1, 2), ((1, 1), 0), layout="NHWC")
    for n in range(1, 20):
        x = np.ones((n, 4, 5, 2), "float32")
        assert np.array_equal(spec(x, W), convspec.reference(spec, x, W))
        assert len(spec._kept[True]) == min(n, calls.MOST_KEPT)
    spec = SPEC.replace()
    for n in range(1, 100):
        spec(X, W, backend=Short())  # each another one
        assert len(spec._kept) == (n - 1) % calls.MOST_OPTIONS + 1


def check_repeated(spec: ConvSpec, x: object, w: object, change: Callable[[int], object]) -> None:
    """Calls with a variable, whose numbers change in between; all but the first are repeated."""
    before = len(spec._kept.get(True, ()))
    for n in range(3):
        change(n)
        assert np.array_equal(np.asarray(spec(x, w)), convspec.reference(SPEC, X, W + n))
    assert len(spec._kept[True]) == before + 1


def test_repeated_calls_read_variables_as_they_are() -> None:
    import jax.numpy as jnp
    import tensorflow as tf
    import torch
    from flax import nnx

    spec = SPEC.replace()
    parameter = torch.nn.Parameter(torch.from_numpy(W.copy()))
    with torch.no_grad():
        check_repeated(spec, torch.from_numpy(X), parameter, lambda n: parameter.add_(n > 0))
    parameter.data = torch.ones(3, 2, 1, 1)
    with pytest.raises(convspec.ShapeError, match="weight: has another size than expected"):
        spec(torch.from_numpy(X), parameter)
    variable = tf.Variable(W)
    check_repeated(spec, tf.constant(X), variable, lambda n: variable.assign(W + n))
    param = nnx.Param(jnp.asarray(W))
    check_repeated(spec, jnp.asarray(X), param, lambda n: param.set_value(jnp.asarray(W + n)))

    class Doubled(nnx.Param):
        def get_value(self, **options: object) -> object:
            return 2 * super().get_value(**options)

    doubled = Doubled(jnp.asarray(W))
    for _ in range(2):
        y = spec(jnp.asarray(X), doubled)
        assert np.array_equal(y, 2 * convspec.reference(SPEC, X, W))


def test_repeated_calls_are_recorded_by_tapes() -> None:
    import tensorflow as tf

    # Forward by kernels that have gradients, and, depthwise and dilated, by ones that have none.
    for spec in (SPEC.replace(), ConvSpec(2, 4, 3, padding=2, dilation=2, groups=2, layout="NHWC")):
        x, w = tf.constant(X), tf.Variable(np.ones(spec.weight_shape, "float32"))
        found = []
        for _ in range(3):
            with tf.GradientTape() as tape:
                y = spec(x, w)
            found.append(tape.gradient(y, w, output_gradients=y).numpy())
        assert spec._kept
        assert found[0].any()
        assert np.array_equal(found[1], found[0])
        assert np.array_equal(found[2], found[0])


def test_what_is_kept_holds_no_arrays(backend: convspec.Backend) -> None:
    spec = ConvSpec(2, 3, (3, 2))
    x, w = (backend.from_foreign(np.ones(s, "float32")) for s in ((1, 2, 5, 5), spec.weight_shape))
    for _ in range(2):
        spec(x, w)
    assert spec._kept
    alive = weakref.ref(x)
    del x
    gc.collect()
    assert alive() is None


def test_threads() -> None:
    specs = [ConvSpec(2, 3, (k, 2), layout="NHWC") for k in (1, 2, 3, 4)]
    weights = [np.ones(spec.weight_shape, "float32") for spec in specs]
    expected = [convspec.reference(s, X, w) for s, w in zip(specs, weights, strict=True)]
    wrong: list[str] = []

    def work() -> None:
        for _ in range(30):
            for spec, w, y in zip(specs, weights, expected, strict=True):
                if not np.array_equal(spec(X, w), y):
                    wrong.append(repr(spec))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_backends_tell_versions() -> None:
    import torch

    listed = convspec.backends()
    assert {"jax", "numpy", "tensorflow", "torch"} <= set(listed)
    assert listed["torch"].version == torch.__version__
    assert "bfloat16" in listed["numpy"].dtypes


def test_missing_backend() -> None:
    with pytest.raises(convspec.BackendNotFoundError, match=re.escape("backend: 'caffe' is not")):
        convspec.get_backend("caffe")


def test_broken_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework whose import fails in its own way is one that is missing."""
    from importlib.metadata import EntryPoint

    class Broken(EntryPoint):
        def load(self) -> None:
            raise OSError("libfoo.so: cannot open shared object file")

    points = {"foo": Broken("foo", "foo:backend", "convspec.backends")}
    monkeypatch.setattr(convspec.dispatch, "entry_points", lambda: points)
    message = "backend: 'foo' could not be loaded: libfoo.so: cannot open shared object file."
    with pytest.raises(convspec.BackendNotFoundError, match=re.escape(message)):
        convspec.get_backend("foo")


@pytest.mark.parametrize("module", [None, ModuleType("caffe")])
def test_what_does_not_load_is_no_other_backends_trouble(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType | None
) -> None:
    """Be it blocked, as ``sys.modules[name] = None`` blocks it, or too old for its adapter."""
    from importlib.metadata import EntryPoint

    class Old(EntryPoint):
        def load(self) -> None:
            assert module is not None, "what is blocked is not asked for"
            raise ImportError("caffe has no conv3d")

    class Array(np.ndarray[Any, Any]):
        """Of a type whose owner is not known yet."""

    points = {"caffe": Old("caffe", "caffe:backend", "convspec.backends")}
    points |= convspec.dispatch.entry_points()
    monkeypatch.setattr(convspec.dispatch, "entry_points", lambda: points)
    monkeypatch.setitem(sys.modules, "caffe", module)
    x = np.ones((1, 1, 3)).view(Array)
    assert (ConvSpec(1, 1, (3,))(x, np.ones((1, 1, 3))) == 3).all()


def test_public_names() -> None:
    assert convspec.__all__ == sorted(convspec.__all__)
    assert all(hasattr(convspec, name) for name in convspec.__all__)


def test_functional_forms(backend: convspec.Backend) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (2, 5, 7, 4)).astype("float32")
    w = rng.integers(-3, 4, (3, 2, 2, 6)).astype("float32")
    b = rng.integers(-3, 4, 6).astype("float32")
    spec = ConvSpec(4, 6, (3, 2), 2, "same", groups=2, layout="NHWC", weight_layout="HWIO")
    y = convspec.conv(
        *map(backend.from_foreign, (x, w, b)),
        stride=2,
        padding="same",
        groups=2,
        layout="NHWC",
        weight_layout="HWIO",
    )
    assert np.array_equal(backend.to_numpy(y), convspec.reference(spec, x, w, b))
    w = rng.integers(-3, 4, (4, 3, 3, 2)).astype("float32")
    up = ConvSpec(4, 6, (3, 2), 2, groups=2, transposed=True, layout="channels_last")
    y = convspec.conv_transpose(
        *map(backend.from_foreign, (x, w)), stride=2, groups=2, layout="channels_last"
    )
    assert np.array_equal(backend.to_numpy(y), convspec.reference(up, x, w))


def test_mixed_frameworks() -> None:
    import torch

    with pytest.raises(
        DTypeError, match=re.escape("weight: is an array of torch, but x is one of")
    ):
        SPEC(X, torch.from_numpy(W))


def test_negated_and_conjugated_views_keep_their_values() -> None:
    import torch

    z = torch.complex(torch.arange(6.0), torch.arange(1.0, 7.0)).reshape(1, 1, 6)
    spec = convspec.ConvSpec(1, 1, 1, layout="NCW")
    for view in (z.conj().imag, z.conj()):
        weight = torch.ones((1, 1, 1), dtype=view.dtype)
        for name in ("numpy", "jax", "tensorflow"):
            moved = convspec.get_backend(name).to_numpy(convspec.to_framework(view, name))
            np.testing.assert_array_equal(moved, view.resolve_conj().resolve_neg().numpy())
        torch.testing.assert_close(spec(view, weight, backend="numpy"), spec(view, weight))


def test_types_that_a_framework_lacks_are_not_narrowed() -> None:
    import jax

    with jax.enable_x64(False):
        with pytest.raises(convspec.UnsupportedError, match="int64 does not survive the way"):
            convspec.to_framework(np.array([2**40]), "jax")
        assert not convspec.ConvSpec(1, 1, (3,)).supports("jax", dtype="float64")
    with jax.enable_x64(True):
        assert convspec.to_framework(np.array([2**40]), "jax")[0] == 2**40
        assert convspec.ConvSpec(1, 1, (3,)).supports("jax", dtype="float64")


def test_what_a_kernel_raises_is_typed() -> None:
    import torch

    spec = convspec.ConvSpec(1, 1, 3, layout="NCW")
    weight = torch.ones((1, 1, 3), requires_grad=True)
    with torch.inference_mode():
        x = torch.ones((1, 1, 6))
    with pytest.raises(convspec.UnsupportedError, match="torch cannot compute this: ") as caught:
        spec(x, weight)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_what_runs_out_of_memory_is_the_frameworks_own_error() -> None:
    import jax
    import tensorflow as tf
    import torch

    # 2**47 bytes, which no process can address, of inputs that take hardly any.
    wide = convspec.ConvSpec(1, 2**22, 1, layout="NCHW", bias=False)
    x = torch.zeros(1, 1, 1, 1).expand(1, 1, 2**13, 2**10)
    w = torch.zeros(wide.weight_shape)
    for padding in (0, ((1, 0), 0)):
        with pytest.raises(RuntimeError, match="memory: you tried to allocate") as caught:
            wide.replace(padding=padding)(x, w)
        assert not isinstance(caught.value, convspec.ConvSpecError)
    double = tf.float64  # oneDNN's float32 kernel would end the process (KNOWN_UPSTREAM.md)
    for _ in range(2):  # decided, and kept
        with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM when allocating"):
            wide.in_convention("tensorflow")(
                tf.zeros((1, 2**13, 2**10, 1), double), tf.zeros((1, 1, 1, 2**22), double)
            )
    huge = np.broadcast_to(np.float32(0), (1, 1, 2**23, 2**22))  # torch would get a copy
    with pytest.raises(MemoryError, match="Unable to allocate"):
        wide.replace(out_channels=1)(huge, np.zeros((1, 1, 1, 1), "float32"), backend="torch")
    # JAX and accelerators say so later, or where there is none.
    for name, error, told in (
        ("jax", jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"), True),
        ("jax", jax.errors.JaxRuntimeError("INTERNAL: something else"), False),
        ("torch", torch.OutOfMemoryError("CUDA out of memory."), True),
        ("torch", RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        ("torch", RuntimeError("could not create a primitive"), False),
        ("onnxruntime", RuntimeError("Failed to allocate memory for requested buffer"), True),
        ("numpy", MemoryError(), True),
    ):
        assert convspec.get_backend(name).out_of_memory(error) is told, error
