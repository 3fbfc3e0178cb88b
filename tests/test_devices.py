"""Arrays stay where they are; accelerators get the framework's own kernel; memory is shared.

No accelerator is needed: what decides is faked. docs/devices.md says what was run on which.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import convspec
from convspec import ConvSpec, UnsupportedError, problem
from convspec.backend import Environment
from convspec.dispatch import get_backend
from traced_specs import SPECS, integers

#: The kinds of accelerators that each framework names.
ACCELERATORS = [("torch", "cuda"), ("torch", "mps"), ("jax", "tpu"), ("jax", "gpu")]
ACCELERATORS += [("tensorflow", "gpu")]


def lowered(framework: str, spec: ConvSpec, dtype: str, device: str) -> Any:
    resolved = problem.resolve(spec, problem.smallest_shape(spec), None)
    return get_backend(framework).plan(resolved, Environment(dtype, dtype, device))


def operations(node: Any) -> set[str]:
    return {node.op}.union(*map(operations, node.args))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("framework", "device"), ACCELERATORS)
def test_half_types_go_to_the_kernel_as_they_are(framework: str, device: str, dtype: str) -> None:
    """On the CPU they are computed in float32; accelerators accumulate in it themselves."""
    spec = ConvSpec(4, 6, 3, padding=1, layout="NHWC", weight_layout="HWIO", bias=False)
    plan = lowered(framework, spec, dtype, device)
    assert [call.dtype for call in plan.calls] == [dtype]
    assert "cast" not in operations(plan.plan)
    on_cpu = lowered(framework, spec, dtype, "cpu")
    assert ("cast" in operations(on_cpu.plan)) == (dtype != "float32")


@pytest.mark.parametrize(("framework", "device"), ACCELERATORS)
def test_volumes_are_one_kernel_call_on_accelerators(framework: str, device: str) -> None:
    """What is rewritten because a CPU kernel is slow is left alone elsewhere."""
    for channels in ((3, 64), (1, 16)):
        spec = ConvSpec(*channels, 3, padding="same", layout="NDHWC", bias=False)
        resolved = problem.resolve(spec, (1, 16, 112, 112, channels[0]), None)
        env = Environment("float32", "float32", device)
        assert len(get_backend(framework).plan(resolved, env).calls) == 1


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_torch_has_no_integer_kernels_there(device: str) -> None:
    spec = ConvSpec(2, 2, 3, layout="NCHW")
    with pytest.raises(UnsupportedError, match=f"torch has no integer convolution on {device}"):
        lowered("torch", spec, "int32", device)


class Watching(TorchDispatchMode):
    """Every call of aten, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_torch_on_a_fake_cuda_device(dtype: torch.dtype) -> None:
    """Fake tensors know their device and have no data: nothing is moved, nothing is read."""
    spec = SPECS["channels last"].replace(padding=1, stride=1)
    with FakeTensorMode():
        given = [torch.empty(a.shape, dtype=dtype, device="cuda") for a in integers(spec)]
        with Watching() as watching:
            y = spec(*given)
    assert (y.device.type, y.dtype) == ("cuda", dtype)
    assert set(watching.names) <= {"permute", "convolution", "device"}
    assert watching.names.count("convolution") == 1


@pytest.mark.parametrize("platform", ["cpu", "tpu", "gpu"])
def test_jax_asks_which_platform_it_traces_for(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    spec = ConvSpec(4, 6, 3, padding=1, layout="NHWC")
    x, w, _ = (jnp.asarray(array, "bfloat16") for array in integers(spec))
    # A function of its own: JAX keeps what it traced, whatever it is told here.
    traced = jax.make_jaxpr(lambda x, w: spec(x, w))(x, w)
    names = [equation.primitive.name for equation in traced.eqns]
    assert names.count("conv_general_dilated") == 1
    assert ("convert_element_type" in names) == (platform == "cpu")


@pytest.mark.parametrize("kind", ["CPU", "GPU"])
def test_tensorflow_asks_which_devices_its_graph_may_get(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    spec = ConvSpec(4, 6, 3, padding=1, layout="NHWC", weight_layout="HWIO", bias=False)
    x, w, _ = (tf.cast(array, "float16") for array in integers(spec))
    spec(x, w)  # kernels are tried on the real devices
    devices = [SimpleNamespace(device_type="CPU"), SimpleNamespace(device_type=kind)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices)
    graph = tf.function(spec).get_concrete_function(x, w).graph
    kinds = [node.type for node in graph.get_operations()]
    assert kinds.count("Conv2D") == 1
    assert ("Cast" in kinds) == (kind == "CPU")


# ---- no copies by way of the host ----


def test_torch_never_leaves_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has no data to read, and what would copy to the host is not called."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a hidden copy to the host")

    for name in ("cpu", "numpy", "tolist", "item", "__array__"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    for spec in SPECS.values():
        given = [torch.from_numpy(array) for array in integers(spec)]
        assert spec(*given).device.type == "cpu"
        assert spec(*(array.to("meta") for array in given)).device.type == "meta"


def test_jax_transfers_nothing() -> None:
    for spec in SPECS.values():
        given = list(map(jnp.asarray, integers(spec)))
        with jax.transfer_guard("disallow"):
            y = spec(*given)
        assert y.devices() == given[0].devices()


def test_tensorflow_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [(spec, list(map(tf.constant, integers(spec)))) for spec in SPECS.values()]
    for spec, given in everything:
        spec(*given)  # kernels are tried out at first sight, on arrays of their own

    kind = type(everything[0][1][0])
    for name in ("numpy", "__array__", "_numpy"):
        original = getattr(kind, name)

        def guarded(self: Any, *args: Any, original: Any = original) -> Any:
            # tf.nn.depthwise_conv2d itself reads sizes, which lie on the host.
            assert not self.dtype.is_floating, "a hidden copy to the host"
            return original(self, *args)

        monkeypatch.setattr(kind, name, guarded)
    with pytest.raises(AssertionError, match="hidden"):
        everything[0][1][0].numpy()
    for spec, given in everything:
        assert spec(*given).device == given[0].device


# ---- frameworks beside each other ----


def address(array: Any) -> int:
    """Where the numbers lie in memory."""
    if isinstance(array, np.ndarray):
        return int(array.ctypes.data)
    if isinstance(array, torch.Tensor):
        return array.data_ptr()
    if isinstance(array, jax.Array):
        return int(array.unsafe_buffer_pointer())
    return int(np.from_dlpack(array).ctypes.data)


#: NumPy arrays are copied by jax.numpy.asarray (which may keep them) and by tf.constant (always).
SHARED = [p for p in permutations(("numpy", "torch", "jax", "tensorflow"), 2) if p[0] != "numpy"]


@pytest.mark.parametrize(("source", "target"), [*SHARED, ("numpy", "torch")])
def test_memory_is_shared(source: str, target: str) -> None:
    values = np.arange(256 * 64, dtype="float32").reshape(256, 64)
    made = {
        "numpy": lambda: values,
        "torch": lambda: torch.zeros(256, 64) + torch.from_numpy(values),
        "jax": lambda: jnp.zeros((256, 64)) + values,
        "tensorflow": lambda: tf.zeros((256, 64)) + values,
    }
    array = made[source]()
    # TensorFlow takes no others as they are; NumPy's may be aligned less.
    assert address(array) % 64 == 0 or source == "numpy"
    moved = convspec.to_framework(array, target)
    assert get_backend(target).owns(moved)
    assert address(moved) == address(array)
    assert np.array_equal(get_backend(target).to_numpy(moved), values)


ORDERS = """
import importlib, json, os, sys
import numpy as np, convspec
spec = convspec.ConvSpec(2, 3, (3, 3), padding="same", layout="NHWC")
x, w = np.ones((1, 5, 5, 2), "float32"), np.ones(spec.weight_shape, "float32")
names = ("torch", "tensorflow", "jax")
assert not set(names) & set(sys.modules)
failed = []
for order in (names, names[::-1]):  # any two of them both ways round
    child = os.fork()  # nothing but NumPy has been imported, and no thread started
    if child == 0:
        code = 1
        try:
            for name in order:
                importlib.import_module(name)
            for name in reversed(order):
                y = spec(convspec.to_framework(x, name), w)
                code = 0
                if not (convspec.to_framework(y, "numpy") == convspec.reference(spec, x, w)).all():
                    code = 2
                    break
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(order)
print(json.dumps(failed))
"""


def test_import_order_does_not_matter() -> None:
    """Each framework before and after each other, in processes that start with none of them."""
    done = subprocess.run(
        [sys.executable, "-c", ORDERS], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [], done.stderr[-3000:]
