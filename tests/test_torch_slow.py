"""torch on the CPU: small volumes by oneDNN, the same numbers and gradients, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import convspec
from convspec import ConvSpec
from convspec.algorithms import KEPT_BYTES
from convspec.backend import Environment, Kernel
from convspec.problem import Problem, resolve
from convspec_torch import TorchBackend, _backend, _kernel, backend
from convspec_torch._backend import RecordedBackend
from generators import integers


class Plain(TorchBackend):
    """aten's own choice for everything."""

    def prepare(self, problem: Problem, env: Environment) -> Kernel:
        with pytest.MonkeyPatch.context() as patch:
            for module in (_backend, _kernel):
                patch.setattr(module, "small", lambda call: False)
            return super().prepare(problem, env)


ONEDNN = "torch.ops.aten.mkldnn_convolution("
#: name -> spec, spatial size, what explain says of it where calls are recorded
CASES: dict[str, tuple[ConvSpec, tuple[int, ...], str]] = {
    "first": (ConvSpec(3, 32, (3, 3, 3), padding=1), (8, 20, 30), "2 pieces of axis D as a batch"),
    "last": (
        ConvSpec(3, 32, (3, 3, 3), padding=1, layout="NDHWC", weight_layout="DHWIO"),
        (9, 20, 30),
        "samples: 2 pieces of axis D as a batch, 1 kernel call",
    ),
    "strided": (
        ConvSpec(8, 64, (2, 3, 2), (2, 1, 2), ((2, 1), 1, 0), (3, 1, 2)),
        (11, 21, 32),
        "samples: 2 pieces",
    ),
    "cropped": (ConvSpec(4, 64, (3, 3, 3), padding=((-2, 1), 0, 1)), (10, 16, 32), "samples: "),
    "in another order": (
        ConvSpec(3, 64, (3, 3, 3), layout="WHDC", output_layout="CHDW"),
        (30, 20, 8),
        "samples: 2 pieces of axis W as a batch, 1 kernel call",
    ),
    "large": (
        ConvSpec(1, 64, (1, 3, 3), padding=(0, 1, 1)),
        (7, 112, 120),
        "samples: 4 pieces of axis D as a batch, 2 kernel calls",
    ),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers_and_gradients(name: str, bias: bool) -> None:
    spec, size, told = CASES[name]
    shape = _shape(spec, size)
    assert told in spec.explain(shape, RecordedBackend())
    text = spec.explain(shape, "torch")
    assert text.count(ONEDNN) == 1
    assert "\nwith gradients\n  samples: " in text
    rng = np.random.default_rng(5)
    x, w, b = (integers(rng, s, "float32") for s in (shape, spec.weight_shape, spec.bias_shape))
    c = torch.from_numpy(integers(rng, spec.output_shape(shape), "float32"))
    found = []
    for engine in (backend, Plain()):
        arrays = [torch.from_numpy(a).requires_grad_() for a in ((x, w, b) if bias else (x, w))]
        y = spec(*arrays, backend=engine)
        gradients = torch.autograd.grad(y, arrays, c, create_graph=True)
        # And the gradient of the gradients, which are linear in every array.
        again = torch.autograd.grad(gradients[0].square().sum(), arrays[1])
        found.append([y, *gradients, *again])
    expected = convspec.reference(spec, x, w, b if bias else None)
    assert np.array_equal(found[0][0].detach(), expected)
    direct = spec(*(a.detach() for a in arrays), backend=backend)
    assert np.array_equal(direct, expected)
    assert direct.is_contiguous() or spec.layout != "NDHWC"
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def _shape(spec: ConvSpec, size: tuple[int, ...]) -> tuple[int, ...]:
    sizes = {"N": 1, "C": spec.in_channels, **dict(zip(spec.spatial, size, strict=True))}
    return tuple(sizes[letter] for letter in spec.layout)


def test_pieces_that_are_adjacent_are_a_view() -> None:
    """With channels last the kernel's own result comes back, not a copy of it."""
    spec, size, _ = CASES["last"]
    spec = spec.replace(
        padding=(0, 1, 1)
    )  # 7 positions, of which the second piece has one to spare
    even = _shape(spec, (10, *size[1:]))
    with torch.inference_mode():
        y = spec(torch.zeros(even), torch.zeros(spec.weight_shape))
    assert y.is_contiguous()
    assert y.untyped_storage().nbytes() == y.numel() * y.element_size()


def test_through_transforms_and_compilers() -> None:
    spec, size, _ = CASES["first"]
    shape = _shape(spec, size)
    rng = np.random.default_rng(6)
    x = torch.from_numpy(integers(rng, (2, *shape), "float32"))
    w = torch.from_numpy(integers(rng, spec.weight_shape, "float32"))
    expected = torch.stack([spec(a, w, backend=Plain()) for a in x])
    assert torch.equal(torch.vmap(lambda a: spec(a, w))(x), expected)
    _, tangent = torch.func.jvp(lambda w: spec(x[0], w), (w,), (w,))
    assert torch.equal(tangent, expected[0])
    compiled = torch.compile(lambda a, w: spec(a, w), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x[0], w), expected[0])
    traced = torch.jit.trace(lambda a: spec(a, w), (x[0],))
    assert torch.equal(traced(x[1]), expected[1])
    assert "mkldnn" not in str(traced.graph)  # which may run elsewhere
    with FlopCounterMode(display=False) as counter:  # which knows aten's convolution
        spec(x[0], w)
    assert counter.get_total_flops() == 2 * expected[0].numel() * w[0].numel()


def operators(spec: ConvSpec, x: torch.Tensor, w: torch.Tensor) -> set[str]:
    """Those that a call ends up with."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        spec(x, w)
    return {event.key for event in profile.key_averages()}


def test_onednn_is_asked_by_name_where_nothing_is_recorded() -> None:
    spec, size, _ = CASES["first"]
    x, w = torch.ones(_shape(spec, size)), torch.ones(spec.weight_shape)
    name = "aten::mkldnn_convolution"
    assert "aten::convolution" not in operators(spec, x, w) >= {name}
    watched = w.clone().requires_grad_()
    assert "aten::convolution" in operators(spec, x, watched)
    with torch.no_grad():
        assert "aten::convolution" not in operators(spec, x, watched) >= {name}
    with torch.backends.mkldnn.flags(enabled=False):
        assert name not in operators(spec, x, w)


def test_native_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, size, _ = CASES["first"]
    shape = _shape(spec, size)
    native = convspec.Support(True, "native")
    assert spec.supports(RecordedBackend(), shape).reason.startswith("samples")
    assert spec.supports(RecordedBackend(), shape, "float64") == native
    assert spec.supports(RecordedBackend(), (2, *shape[1:])) == native  # a batch already
    assert spec.supports(RecordedBackend(), (1, 3, 4, 5, 6)) == native  # not worth it
    assert spec.supports(RecordedBackend(), (1, 3, 80, 90, 8)) == native  # oneDNN's anyway
    large = spec.replace(in_channels=512)
    assert large.supports(RecordedBackend(), (1, 512, 4, 9, 9)) == native
    assert KEPT_BYTES < 4 * 64 * 7 * 112 * 120  # what the case "large" is for
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert spec.supports(RecordedBackend(), shape) == native  # perhaps a part of a whole


@pytest.mark.parametrize("shape", [(2, 9, 7, 1), (2, 6, 9, 5, 1)])
def test_a_single_channel_is_taken_as_it_lies(shape: tuple[int, ...]) -> None:
    """With channels last its gradients are far faster; only with strides may they be wrong."""
    rank = len(shape) - 2
    spec = ConvSpec(1, 4, (3,) * rank, padding=1, layout="channels_last", bias=False)
    rng = np.random.default_rng(9)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    arrays = [torch.tensor(array, requires_grad=True) for array in (x, w)]
    y = spec(*arrays)
    assert y.is_contiguous()
    expected = convspec.reference(spec, x, w)
    assert np.array_equal(y.detach(), expected)
    g = integers(rng, y.shape, "float32")
    for array, da in zip((x, w), torch.autograd.grad(y, arrays, torch.tensor(g)), strict=True):
        assert (array * da.numpy()).sum() == (g * expected).sum()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("stride", [(2, 2), (1, 3)])
@pytest.mark.parametrize("transposed", [False, True])
def test_strided_points_are_dense(layout: str, stride: tuple[int, int], transposed: bool) -> None:
    """oneDNN's gradient by the weight would write beyond its memory (KNOWN_UPSTREAM.md)."""
    extra = tuple(s - 1 for s in stride) if transposed else 0
    spec = ConvSpec(
        3, 2, 1, stride, bias=False, layout=layout, transposed=transposed, output_padding=extra
    )
    shape = (2, 3, 9, 10) if layout == "NCHW" else (2, 9, 10, 3)
    env = Environment("float32", "float32")
    (call,) = TorchBackend().plan(resolve(spec, shape, None), env).calls
    assert call.stride == (1, 1)
    rng = np.random.default_rng(2)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    arrays = [torch.tensor(x), torch.tensor(w)]
    arrays[0] = arrays[0].to(memory_format=torch.channels_last)
    y = spec(*(a.requires_grad_() for a in arrays))
    expected = convspec.reference(spec, x, w)
    assert np.array_equal(y.detach(), expected)
    for a, da in zip((x, w), torch.autograd.grad(y.sum(), arrays), strict=True):
        assert (a * da.numpy()).sum() == expected.sum()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("planes", [2, 3])
def test_volumes_whose_ends_meet_are_padded_beforehand(planes: int, transposed: bool) -> None:
    """oneDNN's gradient by the weight would write beyond its memory (KNOWN_UPSTREAM.md)."""
    spec = ConvSpec(8, 4, (7, 3, 3), (2, 1, 1), (3, 1, 1), transposed=transposed, bias=False)
    shape = (2, 8, planes, 5, 6)
    env = Environment("float32", "float32")
    (call,) = TorchBackend().plan(resolve(spec, shape, None), env).calls
    assert call.padding[0] == (0, 0)
    rng = np.random.default_rng(2)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    arrays = [torch.tensor(a, requires_grad=True) for a in (x, w)]
    expected = convspec.reference(spec, x, w)
    for _ in range(20):
        y = spec(*arrays)
        assert np.array_equal(y.detach(), expected)
        for a, da in zip((x, w), torch.autograd.grad(y.sum(), arrays), strict=True):
            assert (a * da.numpy()).sum() == expected.sum()


def test_strided_points_are_exported() -> None:
    """With sizes that are not known: a dense one of every few positions would guard on them."""
    spec = ConvSpec(3, 2, (1, 1), 2, bias=False)
    rng = np.random.default_rng(2)
    x, w = (torch.tensor(integers(rng, s, "float32")) for s in ((2, 3, 9, 10), spec.weight_shape))

    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return spec(x, w)

    size = torch.export.Dim
    sizes = {0: size("n"), 2: size("h", min=8, max=512), 3: size("w", min=8, max=512)}
    program = torch.export.export(Module(), (x,), dynamic_shapes=(sizes,))
    other = torch.tensor(integers(rng, (1, 3, 12, 17), "float32"))
    for array in (x, other):
        assert np.array_equal(
            program.module()(array), convspec.reference(spec, array.numpy(), w.numpy())
        )
