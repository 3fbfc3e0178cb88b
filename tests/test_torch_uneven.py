"""torch on the CPU: gradients that oneDNN spoils, where the stride does not divide the width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)
from hypothesis import assume, given, settings

from convspec import ConvSpec
from convspec.backend import Environment
from convspec.onednn import PAGE, overrun
from convspec.plan import Call
from convspec.problem import resolve
from convspec_torch import _uneven
from convspec_torch._backend import TorchBackend

FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}

#: A sample has 32 rows of 12 positions of 32 channels, three times :data:`PAGE`.
CASES: dict[str, tuple[ConvSpec, tuple[int, ...]]] = {
    "forward": (ConvSpec(1, 32, (1, 5), (2, 3), (0, 1), bias=False), (3, 1, 64, 31)),
    "transposed": (
        ConvSpec(32, 1, (1, 5), (2, 3), (0, 1), output_padding=1, transposed=True, bias=False),
        (3, 32, 32, 10),
    ),
}
#: By two threads one run in two or three of PyTorch's own goes wrong.
RUNS = 60


def integers(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-3, 4, shape, generator=generator).float()


def call_of(spec: ConvSpec, shape: tuple[int, ...], dtype: str = "float32") -> Call:
    env = Environment(dtype, dtype)
    (call,) = TorchBackend().plan(resolve(spec, shape, None), env).calls
    return call


def functional(call: Call) -> Callable[..., torch.Tensor]:
    """PyTorch's own, of x, weight and bias."""
    amounts = call.stride, [lo for lo, _ in call.padding]
    if call.transposed:
        rest = *amounts, call.output_padding, call.groups, call.dilation
        return lambda x, w, b: TRANSPOSED[call.rank](x, w, b, *rest)
    return lambda x, w, b: FORWARD[call.rank](x, w, b, *amounts, call.dilation, call.groups)


def results(run: Callable[..., Any], *arrays: torch.Tensor) -> list[torch.Tensor]:
    """The result and the gradients of all arrays."""
    arrays = tuple(a.detach().requires_grad_() for a in arrays)
    y = run(*arrays)
    return [y, *torch.autograd.grad(y, arrays, integers(*y.shape).to(y.dtype))]


@pytest.fixture
def two_threads() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def compiled(spec: ConvSpec) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(lambda *a: spec(*a), backend="aot_eager", fullgraph=True, dynamic=False)


def compiled_for_any_size(spec: ConvSpec) -> Callable[..., Any]:
    torch._dynamo.reset()
    run = torch.compile(lambda *a: spec(*a), backend="aot_eager", fullgraph=True, dynamic=True)
    other = (2, spec.in_channels, 20, 17)
    run(integers(*other), integers(*spec.weight_shape))
    return run


def by_a_transform(spec: ConvSpec) -> Callable[..., Any]:
    """With gradients by a transform, within autograd's."""

    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        _, pull = torch.func.vjp(lambda x: spec(x, w), x)
        return spec(x, w) + 0 * pull(torch.ones(()).expand(spec(x, w).shape))[0].sum()

    return run


WAYS = {
    "eager": lambda spec: spec,
    "compiled": compiled,
    "compiled for any size": compiled_for_any_size,
    "by a transform": by_a_transform,
}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_no_run_goes_wrong(name: str, way: str) -> None:
    spec, shape = CASES[name]
    x, w = integers(*shape), integers(*spec.weight_shape)
    expected = results(spec, x.double(), w.double())
    run = WAYS[way](spec)
    for _ in range(RUNS):
        for got, want in zip(results(run, x, w), expected, strict=True):
            assert torch.equal(got.double(), want)


def test_a_call_that_nothing_is_recorded_of_stays_as_it_is() -> None:
    spec, shape = CASES["forward"]
    x, w = integers(*shape), integers(*spec.weight_shape)
    with torch.profiler.profile() as seen, torch.no_grad():
        spec(x, w)
    assert "aten::constant_pad_nd" not in {event.key for event in seen.key_averages()}
    with torch.profiler.profile() as seen:
        spec(x.requires_grad_(), w)
    assert "aten::constant_pad_nd" in {event.key for event in seen.key_averages()}


def test_explain_tells_of_it() -> None:
    spec, shape = CASES["forward"]
    text = spec.explain(shape, backend="torch")
    assert "size: with gradients 33 of axis W, oneDNN's of 31 may be wrong" in text
    assert "F.conv2d(F.pad(x, (1, 1)), weight, stride=(2, 3))" in text
    spec, shape = CASES["transposed"]
    text = spec.explain(shape, backend="torch")
    assert "size: 33 of axis W, then 31, oneDNN's own may be wrong" in text


# ---- which calls: the rule ----


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        # These went wrong, by two threads.
        ((1, 5), (2, 3), (0, 1), (64, 31)),
        ((1, 4), (2, 2), (0, 1), (64, 29)),
        ((1, 4), (2, 2), (0, 1), (32, 45)),
        ((1, 4), (1, 2), (0, 1), (64, 57)),
        ((1, 5), (2, 2), (0, 1), (64, 53)),
        ((1, 5), (1, 2), (0, 1), (32, 37)),
    ],
)
def test_calls_that_went_wrong_are_told(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], size: Any
) -> None:
    spec = ConvSpec(1, 32, kernel, stride, padding, bias=False)
    assert overrun(call_of(spec, (3, 1, *size))) > 0
    assert (
        overrun(call_of(spec, (3, 1, size[0] + 2, size[1]))) < 0
    )  # with one more row there is room
    for width in range(4 * stride[1], 99, stride[1]):
        assert overrun(call_of(spec, (3, 1, size[0], width))) == 0


def test_it_is_rare() -> None:
    """What is beyond the room is less than a row, and hidden but for a few sizes of a sample."""
    spec = ConvSpec(8, 32, (3, 3), 2, 1, bias=False)
    sizes = [(height, width) for height in range(8, 72) for width in range(9, 73, 2)]
    told = [size for size in sizes if overrun(call_of(spec, (1, 8, *size))) > 0]
    assert len(told) * 100 < len(sizes)
    for height, width in told:
        row = 32 * (width // 2 + 3)
        assert -((height + 1) // 2 * row) % PAGE < 2 * row


def test_other_kernels_are_not_meant() -> None:
    spec, shape = CASES["forward"]
    assert not _uneven.uneven(call_of(spec, shape, "float64"))
    dilated = ConvSpec(1, 32, (1, 3), (2, 3), (0, 1), dilation=(1, 2), bias=False)
    assert overrun(call_of(dilated, shape)) == 0


# ---- what is done: the same numbers, of calls that no rule would send there ----


@st.composite
def calls(draw: st.DrawFn) -> tuple[ConvSpec, tuple[int, ...]]:
    rank = draw(st.integers(1, 3))
    kernel, stride = (draw(st.tuples(*[st.integers(1, 5)] * rank)) for _ in range(2))
    padding = draw(st.tuples(*[st.integers(0, 3)] * rank))
    transposed = draw(st.booleans())
    extra = tuple(draw(st.integers(0, s - 1)) if transposed else 0 for s in stride)
    size = draw(st.tuples(*[st.integers(1, 9)] * rank))
    for n, k, s, p, more in zip(size, kernel, stride, padding, extra, strict=True):
        assume((n - 1) * s + k - 2 * p + more > 0 if transposed else n + 2 * p >= k)
    groups = draw(st.integers(1, 2))
    spec = ConvSpec(
        2 * groups,
        3 * groups,
        kernel,
        stride,
        padding,
        groups=groups,
        output_padding=extra,
        transposed=transposed,
        bias=draw(st.booleans()),
    )
    return spec, (draw(st.integers(1, 2)), 2 * groups, *size)


@settings(deadline=None)
@given(calls())
def test_the_same_numbers_by_a_width_that_the_stride_divides(
    drawn: tuple[ConvSpec, tuple[int, ...]],
) -> None:
    spec, shape = drawn
    env = Environment("float64", "float64", bias=spec.bias)
    (call,) = TorchBackend().plan(resolve(spec, shape, None), env).calls
    assume(call.stride == spec.stride)  # others are not of the drawn arrays but of parts of them
    even = _uneven.of_evened(call)
    width = (even.output_size if call.transposed else even.input_size)[-1]
    assert width % call.stride[-1] == 0
    assert overrun(even) <= 0
    arrays = [integers(*shape).double(), integers(*spec.weight_shape).double()]
    arrays += [integers(spec.out_channels).double()] if spec.bias else []

    def whole(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, w, b=None: run(x, w, b)

    expected = results(whole(functional(call)), *arrays)
    got = results(whole(_uneven.evened(call, functional(even))), *arrays)
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other)
