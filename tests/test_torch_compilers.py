"""torch.compile, torch.export, autocast, memory formats, and tensors without data."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func, nop
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import convspec
from convspec import ConvSpec, problem, recording
from convspec.backend import Environment
from convspec.dispatch import get_backend
from traced_specs import SPECS, integers

#: What a compiled call may consist of, beside arithmetic on sizes: the kernel, and moving data.
KERNELS = {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
MOVES = {"permute", "reshape", "view", "pad", "cat", "flip", "getitem", "to", "add"}
MOVES |= {"squeeze", "unsqueeze"}
ENV = Environment("float32", "float32", bias=True, traced=True)


def arrays(spec: ConvSpec, size: int = 7, batch: int = 2) -> list[torch.Tensor]:
    return list(map(torch.from_numpy, integers(spec, size, batch)))


class Recorder:
    """A compiler that keeps the graphs that it is given, and runs them as they are."""

    def __init__(self) -> None:
        self.graphs: list[torch.fx.Graph] = []

    def __call__(self, module: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.graphs.append(module.graph)
        return module.forward

    def names(self) -> list[str]:
        """What the last graph does with tensors, in order."""
        found = []
        for node in self.graphs[-1].nodes:
            if isinstance(node.meta.get("example_value"), torch.Tensor) and node.op.startswith("c"):
                found.append(node.target if node.op == "call_method" else node.target.__name__)
        return found

    def kernels(self) -> list[str]:
        """Those of them that convolve."""
        return [name for name in self.names() if name in KERNELS]


@pytest.fixture(autouse=True)
def fresh() -> None:
    """No graph of another test. A compiler's warning is a failure, as any."""
    torch._dynamo.reset()


@pytest.mark.parametrize("name", SPECS)
def test_one_graph_of_the_kernel_and_what_moves_data(name: str) -> None:
    spec, recorder = SPECS[name], Recorder()
    run = torch.compile(spec, fullgraph=True, backend=recorder, dynamic=False)
    given = arrays(spec)
    for _ in range(3):
        assert torch.equal(run(*given), spec(*given))
    assert len(recorder.graphs) == 1
    names = recorder.names()
    lowered = get_backend("torch").plan(problem.resolve(spec, tuple(given[0].shape), None), ENV)
    assert len(recorder.kernels()) == len(lowered.calls)
    assert set(names) - KERNELS <= MOVES, names


@pytest.mark.parametrize("name", SPECS)
def test_dynamic_sizes_compile_once(name: str) -> None:
    """Batch and space may be any: one graph, and its named padding follows the size."""
    spec, recorder = SPECS[name], Recorder()
    run = torch.compile(spec, fullgraph=True, backend=recorder, dynamic=True)
    weight, bias = arrays(spec)[1:]
    # First sizes that no weight has; no batch, with taps or without, crosses torch's guard at 16.
    for size, batch in ((11, 5), (10, 2), (9, 3), (12, 4)):
        x = arrays(spec, size, batch)[0]
        assert torch.equal(run(x, weight, bias), spec(x, weight, bias))
    assert len(recorder.graphs) == 1


def test_replicated_pictures_have_gradients_in_generated_code() -> None:
    """Inductor mistakes the strides of aten's: conformance/upstream/torch_replicated_strides.py."""
    spec, backward = SPECS["replicate"].replace(layout="NHWC"), []

    def keep(module: torch.fx.GraphModule, inputs: Any) -> Any:
        backward.append({str(node.target) for node in module.graph.nodes})
        return make_boxed_func(module.forward)

    compiler = aot_autograd(fw_compiler=nop, bw_compiler=keep)
    given = [array.requires_grad_() for array in arrays(spec)]
    found = [
        torch.autograd.grad(run(*given).square().sum(), given)
        for run in (spec, torch.compile(spec, fullgraph=True, backend=compiler))
    ]
    assert all(map(torch.equal, *found))
    assert len(backward) == 1
    assert "aten.replication_pad2d_backward.default" not in backward[0]


@pytest.mark.parametrize("mode", ["replicate", "reflect"])
def test_padded_volumes_are_recorded_in_rows(mode: str) -> None:
    """Otherwise they lie as no compiler is told: conformance/upstream/torch_padded_volumes.py."""
    rest: dict[str, Any] = {"padding": 1, "padding_mode": mode, "bias": False}
    for spec in (
        ConvSpec(1, 2, (2, 1), (1, 2), **rest, layout="NHWC"),
        ConvSpec(1, 2, (2, 3, 1), (1, 2, 2), **rest, layout="NDHWC"),
        ConvSpec(3, 1, (2, 3, 1), **rest, layout="NDHWC"),
    ):
        given = [array.requires_grad_() for array in arrays(spec)[:2]]
        y = torch.compile(spec, fullgraph=True, backend="aot_eager")(*given)
        assert torch.equal(y, spec(*given))
        g = torch.ones_like(y)
        found = torch.autograd.grad(y, given, g), torch.autograd.grad(spec(*given), given, g)
        assert all(map(torch.equal, *found))


def test_regions_that_are_compiled_once() -> None:
    """Dynamo cannot find anew what stands under a dtype as a key."""
    spec = SPECS["replicate"]
    given = arrays(spec)
    region = torch.compiler.nested_compile_region(lambda *a: spec(*a))
    twice = torch.compile(lambda *a: region(*a) + region(*a), backend="aot_eager", fullgraph=True)
    assert torch.equal(twice(*given), 2 * spec(*given))


def test_the_gradient_by_one_channel_of_an_unknown_size() -> None:
    """Inductor can't tell the order of a view whose strides are symbols, as a program's result."""
    spec = ConvSpec(1, 6, 3, 2, 1, layout="NCHW")
    run = torch.compile(spec, fullgraph=True, dynamic=True)
    _, w, b = arrays(spec)
    for size in (11, 8):
        x = arrays(spec, size)[0].requires_grad_()
        (got,) = torch.autograd.grad(run(x, w, b).sum(), x)
        (expected,) = torch.autograd.grad(spec(x, w, b).sum(), x)
        assert torch.equal(got, expected)


def test_circular_padding_of_an_unknown_size_knows_its_reach() -> None:
    spec = ConvSpec(4, 6, 9, 2, "same", padding_mode="circular", layout="NCW")
    run = torch.compile(spec, fullgraph=True, backend="eager", dynamic=True)
    weight, bias = arrays(spec)[1:]
    for size in (11, 4):
        x = arrays(spec, size)[0]
        assert torch.equal(run(x, weight, bias), spec(x, weight, bias))
    x = arrays(spec, 3)[0]
    for call in (spec, run):
        with pytest.raises(Exception, match=r"padding: '?circular"):
            call(x, weight, bias)


def test_marked_sizes() -> None:
    """torch._dynamo.mark_dynamic: no guard of ours makes a marked size a number."""
    spec, recorder = SPECS["channels last"], Recorder()
    run = torch.compile(spec, fullgraph=True, backend=recorder)
    weight, bias = arrays(spec)[1:]
    for size, batch in ((11, 5), (8, 3), (13, 2)):
        x = arrays(spec, size, batch)[0]
        for axis in (0, 1, 2):
            torch._dynamo.mark_dynamic(x, axis)
        assert torch.equal(run(x, weight, bias), spec(x, weight, bias))
    assert len(recorder.graphs) == 1


def test_a_spec_is_static() -> None:
    """As an argument, an attribute and a closure; an equal spec does not compile anew."""
    recorder = Recorder()
    run = torch.compile(lambda spec, *given: spec(*given), fullgraph=True, backend=recorder)
    for k in (1, 2, 2, 1):
        spec = ConvSpec(4, 6, k, padding="same", layout="NHWC")
        given = arrays(spec)
        assert torch.equal(run(spec, *given), spec(*given))
    assert len(recorder.graphs) == 2

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spec = SPECS["channels last"]
            _, self.weight, self.bias = map(torch.nn.Parameter, arrays(self.spec))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.spec(x, self.weight, self.bias)

    layer = Layer()
    x = arrays(layer.spec)[0]
    run = torch.compile(layer, fullgraph=True, backend=recorder)
    assert torch.equal(run(x), layer(x))
    assert recorder.names() == ["permute", "permute", "conv2d", "permute"]


def test_specs_and_functional_forms_inside() -> None:
    recorder = Recorder()

    @torch.compile(fullgraph=True, backend=recorder)
    def run(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = ConvSpec(4, 6, (3, 2), stride=2, padding="same", layout="NHWC")
        return made(x, w), convspec.conv(x, w, stride=2, padding="same", layout="NHWC")

    spec = ConvSpec(4, 6, (3, 2), stride=2, padding="same", layout="NHWC")
    x, w, _ = arrays(spec)
    for _ in range(2):
        made, functional = run(x, w)
        assert torch.equal(made, spec(x, w))
        assert torch.equal(functional, spec(x, w))
    assert len(recorder.graphs) == 1


def test_the_first_call_may_be_compiled() -> None:
    """No adapter is loaded and no type of array known: still one graph, and it stays."""
    code = """
import torch, convspec
count = 0
def backend(module, inputs):
    global count
    count += 1
    return module.forward
spec = convspec.ConvSpec(2, 3, 3, layout="NHWC", padding="same")
x, w = torch.ones(1, 5, 5, 2), torch.nn.Parameter(torch.ones(3, 2, 3, 3))
run = torch.compile(spec, fullgraph=True, backend=backend)
y = run(x, w)
assert torch.equal(y, spec(x, w)) and torch.equal(run(x, w), y)
assert count == 1, count
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def held() -> int:
    """How many kernels are kept for compiled code."""
    return sum(name.startswith("kernel_") for name in vars(recording._kept))


@pytest.fixture
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_kept", ModuleType("kept"))


@pytest.mark.usefixtures("nothing_kept")
def test_kernels_held_for_compiled_code_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_KEPT", 100)
    torch_ = get_backend("torch")
    for k in range(1, 2001):
        spec = ConvSpec(1, 1, k, bias=False, layout="NCW")
        described = (torch_, (1, 1, 3000), "float32", "cpu", (spec.weight_shape, "float32"))
        name = recording._keep(ConvSpec, spec.__dict__["_text"], *described, None, None, None, True)
        assert callable(getattr(recording._kept, name))
    assert held() == 100


@pytest.mark.usefixtures("nothing_kept")
def test_code_whose_kernel_made_room_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_KEPT", 2)
    specs = [ConvSpec(4, 6, (k, 2), padding="same", layout="NHWC") for k in (1, 2, 3)]
    recorder = Recorder()
    runs = [torch.compile(spec, fullgraph=True, backend=recorder, dynamic=False) for spec in specs]
    for which, graphs in ((0, 1), (1, 2), (2, 3), (1, 3), (2, 3), (0, 4), (0, 4)):
        given = arrays(specs[which])
        assert torch.equal(runs[which](*given), specs[which](*given))
        assert len(recorder.graphs) == graphs
        assert held() == min(graphs, 2)


def test_what_a_spec_refuses_is_told() -> None:
    spec = SPECS["plain"]
    x, w, _ = arrays(spec)
    run = torch.compile(spec, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=re.escape("x: has 3 channels on axis 1 (C), but the spec")):
        run(x[:, :3], w)


class Convolution(torch.nn.Module):
    """A spec with its parameters, as torch.export takes modules."""

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__()
        self.spec = spec
        _, self.weight, self.bias = map(torch.nn.Parameter, arrays(spec))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.spec(x, self.weight, self.bias)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["channels last", "reflect same", "transposed same", "volume"])
def test_export(name: str, strict: bool) -> None:
    layer = Convolution(SPECS[name])
    x = arrays(layer.spec, 11, 5)[0]
    spatial = {i: torch.export.Dim.DYNAMIC for i, c in enumerate(layer.spec.layout) if c != "C"}
    exported = torch.export.export(layer, (x,), dynamic_shapes=(spatial,), strict=strict)
    for size, batch in ((11, 5), (9, 2), (12, 3)):
        x = arrays(layer.spec, size, batch)[0]
        assert torch.equal(exported.module()(x), layer(x))


def test_autocast() -> None:
    """The framework's rule first: what it reads in another type may be of mixed types before."""
    spec = ConvSpec(4, 6, 3, padding="same", layout="NCHW", weight_layout="HWIO")
    x, w, b = arrays(spec)
    expected = torch.nn.functional.conv2d(
        x.bfloat16(), w.permute(3, 2, 0, 1).bfloat16(), b.bfloat16(), padding="same"
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for given in ((x, w, b), (x.bfloat16(), w, b), (x, w.bfloat16(), b), (x, w.half(), b)):
            y = spec(*given)
            assert y.dtype == torch.bfloat16
            assert torch.equal(y, expected)
        assert torch.equal(spec(x, w.numpy(), b), expected)
        assert spec(x, w, b, out_dtype="float32").dtype == torch.float32
        assert spec(x, w, b, out_dtype=torch.float64).dtype == torch.float64
        run = torch.compile(spec, fullgraph=True, backend="eager")
        assert torch.equal(run(x, w, b), expected)
        # float64 is not autocast, here as in torch.
        assert spec(x.double(), w.double(), b.double()).dtype == torch.float64
        with pytest.raises(convspec.DTypeError, match="weight: is bfloat16, but x is float64"):
            spec(x.double(), w, b)
    assert spec(x, w, b).dtype == torch.float32
    with pytest.raises(convspec.DTypeError, match="weight: is float32, but x is bfloat16"):
        spec(x.bfloat16(), w, b)


@pytest.mark.filterwarnings("ignore")  # torch.jit: deprecated, and each size is a constant
@pytest.mark.parametrize("called_before", [False, True])
def test_jit_trace_finds_the_same_graph_twice(called_before: bool) -> None:
    spec = ConvSpec(4, 6, 3, padding="same", layout="NCHW", weight_layout="HWIO")
    x, w, b = arrays(spec)
    if called_before:
        spec(x, w, b)
    traced = torch.jit.trace(lambda x: spec(x, w, b), x)  # traces twice, and compares
    assert torch.equal(traced(x), spec(x, w, b))


def test_gradients_under_autocast() -> None:
    spec = SPECS["channels last"]
    x, w, b = (array.requires_grad_() for array in arrays(spec))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = spec(x, w, b)
    y.float().square().sum().backward()
    assert x.grad is not None
    assert (x.grad.dtype, w.grad.dtype) == (torch.float32, torch.float32)


def test_channels_last_is_kept() -> None:
    spec = ConvSpec(4, 6, 3, padding=1, layout="NCHW")
    x, w, b = arrays(spec)
    x = x.to(memory_format=torch.channels_last)
    y = spec(x, w, b)
    assert y.is_contiguous(memory_format=torch.channels_last)
    volume = SPECS["volume"].replace(layout="NCDHW")
    x, w, b = arrays(volume)
    x, w = (array.to(memory_format=torch.channels_last_3d) for array in (x, w))
    assert volume(x, w, b).is_contiguous(memory_format=torch.channels_last_3d)
    # NDHWC is not a stride order, but the array that is permuted: contiguous in and out.
    assert SPECS["volume"](*arrays(SPECS["volume"])).is_contiguous()


@pytest.mark.parametrize("layout", ["NHWC", "NDHWC"])
def test_channels_last_costs_no_copy(layout: str) -> None:
    """A chain of calls: views and kernels alone, and memory stays channels-last throughout."""
    spec = ConvSpec(4, 4, 3, padding=1, layout=layout)
    x, w, b = arrays(spec)
    graph = make_fx(lambda x: spec(spec(x, w, b).relu(), w, b))(x)
    names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert set(names) <= {"aten.permute.default", "aten.convolution.default", "aten.relu.default"}
    assert names.count("aten.convolution.default") == 2
    assert spec(x, w, b).is_contiguous()


@pytest.mark.parametrize("name", SPECS)
def test_tensors_without_data(name: str) -> None:
    """Shape and type come out; nothing is there to read."""
    spec = SPECS[name]
    given = arrays(spec)
    expected = spec(*given)
    for y in (
        spec(*(array.to("meta") for array in given)),
        spec(*map(FakeTensorMode().from_tensor, given)),
    ):
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    assert spec(*(array.to("meta") for array in given)).device.type == "meta"


def test_fake_tensors_of_any_size() -> None:
    """make_fx with symbolic sizes: SymInts outside of a compiler."""
    for name in ("channels last", "replicate", "transposed same"):
        spec = SPECS[name]
        given = arrays(spec, 11, 5)
        graph = make_fx(spec, tracing_mode="symbolic")(*given)
        x = arrays(spec, 8, 3)[0]
        assert torch.equal(graph(x, *given[1:]), spec(x, *given[1:]))


DECOMPOSED = ("channels last", "circular", "replicate", "flipped", "depthwise")


@pytest.mark.parametrize("name", [*DECOMPOSED, "transposed same", "causal", "rank 4", "unbatched"])
def test_first_and_second_derivatives(name: str) -> None:
    """torch's own checks against differences, in float64; then its function transforms."""
    spec = SPECS[name]
    given = [array.double().requires_grad_() for array in arrays(spec, 4, 2)]
    assert torch.autograd.gradcheck(spec, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(spec, given, fast_mode=True)


# torch compiles its derivative rules so, when the first forward-mode gradient is taken.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", [*DECOMPOSED, "transposed same", "pairs"])
def test_function_transforms(name: str) -> None:
    spec = SPECS[name]
    x, w, b = (array.double() for array in arrays(spec, 5, 2))
    stacked = torch.stack([x, x.flip(0), -x])
    y = torch.func.vmap(lambda x: spec(x, w, b))(stacked)
    assert torch.equal(y, torch.stack([spec(x, w, b) for x in stacked]))
    filters = torch.stack([w, 2 * w])
    y = torch.func.vmap(lambda w: spec(x, w, b))(filters)
    assert torch.equal(y, torch.stack([spec(x, w, b) for w in filters]))

    def loss(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (spec(x, w, b) ** 2).sum()

    gradients = torch.func.grad(loss, argnums=(0, 1))(x, w)
    leaves = [array.clone().requires_grad_() for array in (x, w)]
    for gradient, expected in zip(
        gradients, torch.autograd.grad(loss(*leaves), leaves), strict=True
    ):
        assert torch.equal(gradient, expected)
    # Linear in x: the forward derivative is the map itself, without its bias.
    tangent = torch.func.jvp(lambda x: spec(x, w, b), (x,), (x.flip(0),))[1]
    assert torch.equal(tangent, spec(x.flip(0), w))
    each = torch.func.vmap(torch.func.grad(lambda w, x: (spec(x, w, b) ** 2).sum()), (None, 0))
    assert torch.equal(each(w, stacked)[0], torch.func.grad(loss, argnums=1)(stacked[0], w))


@pytest.mark.parametrize("dynamic", [True, None])
def test_an_output_size_may_be_symbolic(dynamic: bool | None) -> None:
    """As a decoder's, which upsamples to the size of what it joins; x may have a known shape."""
    spec = ConvSpec(2, 3, (3,), 3, transposed=True, layout="NCW", bias=False)
    x, w = torch.ones(1, 2, 9), torch.ones(spec.weight_shape)

    def join(x: torch.Tensor, w: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return spec(x, w, output_size=skip.shape[2:]) + skip

    run = torch.compile(join, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for size in (28, 29, 27):
        skip = torch.arange(3.0 * size).reshape(1, 3, size)
        assert torch.equal(run(x, w, skip), join(x, w, skip))
    # It used to be taken, and gave numbers of this size.
    with pytest.raises(Exception, match=re.escape("output_size[0] (axis W): the input is no size")):
        run(x, w, torch.ones(1, 3, 30))
