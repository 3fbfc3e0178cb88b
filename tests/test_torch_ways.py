"""torch on the CPU: calls and gradients that take another way, the same numbers, exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)
from hypothesis import assume, given, settings
from torch._dynamo import compiled_autograd
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from convspec import ConvSpec
from convspec_torch import _depthwise, _few, _large, _ways

BACKWARD = torch.ops.aten.convolution_backward
MEMORY = ("rows", "last")


def integers(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randint(-3, 4, shape, generator=generator).float()


def laid(x: torch.Tensor, memory: str) -> torch.Tensor:
    return _depthwise.last(x) if memory == "last" and x.dim() > 3 else x


# ---- the sums themselves, on shapes that no rule would send there ----


@st.composite
def calls(draw: st.DrawFn, *, groups: bool, strides: bool) -> dict[str, Any]:
    rank = draw(st.integers(1, 3))
    many = st.integers(1, 5)
    kernel = draw(st.tuples(*[many] * rank))
    size = draw(st.tuples(*[st.integers(1, 9)] * rank))
    stride = draw(st.tuples(*[st.integers(1, 4) if strides else st.just(1)] * rank))
    dilation = tuple(draw(st.integers(1, 3)) if s == 1 else 1 for s in stride)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, e - 1)) for e in extents)
    assume(all(n + 2 * p >= e for n, p, e in zip(size, padding, extents, strict=True)))
    channels = draw(st.sampled_from([2, 3, 16, 17])) if groups else draw(st.integers(1, 4))
    narrow, wide = (1, channels) if groups else (channels, draw(st.integers(1, 5)))
    x = integers(draw(st.integers(1, 3)), channels, *size)
    return {
        "x": laid(x, draw(st.sampled_from(MEMORY))),
        "w": integers(wide, narrow, *kernel),
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": channels if groups else 1,
        "memory": draw(st.sampled_from(MEMORY)),
    }


def expected(call: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """The output, a gradient of it, and the gradients by x and the weight, by aten in float64."""
    x, w, rank = call["x"].double(), call["w"].double(), call["w"].dim() - 2
    steps = call["stride"], call["padding"], call["dilation"]
    y = _few.CONV[rank](x, w, None, *steps, call["groups"])
    g = laid(integers(*y.shape, seed=1), call["memory"])
    rest = *steps, False, [0] * rank, call["groups"], [True, True, False]
    dx, dw, _ = BACKWARD(g.double(), x, w, None, *rest)
    return y, g, dx, dw


@pytest.mark.parametrize("kept", [2**6, 2**23])
@given(calls(groups=False, strides=True), st.sampled_from([1, 16]))
@settings(deadline=None)
def test_sums_of_shifted_products(kept: int, call: dict[str, Any], rows: int) -> None:
    y, g, dx, dw = expected(call)
    steps = call["stride"], call["padding"], call["dilation"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_few, "KEPT_BYTES", kept)
        patch.setattr(_few, "ROWS", rows)
        found = _few.transposed(g, call["w"], call["x"].shape[2:], *steps)
        assert torch.equal(found.double(), dx)
        if {*call["stride"]} == {1}:
            found = _few.dense(call["x"], call["w"], *steps[1:])
            assert torch.equal(found.double(), y)
            if {*call["dilation"]} == {1}:
                found = _few.by_weight(call["x"], g, call["w"].shape[2:], call["padding"])
                assert torch.equal(found.double(), dw)


@pytest.mark.parametrize("kept", [2**6, 2**22])
@given(calls(groups=True, strides=False))
@settings(deadline=None)
def test_depthwise(kept: int, call: dict[str, Any]) -> None:
    _, g, dx, dw = expected(call)
    x, w, padding, dilation = (call[name] for name in ("x", "w", "padding", "dilation"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_depthwise, "KEPT_BYTES", {2: kept, 3: kept})
        patch.setattr(_depthwise, "WHOLE_BYTES", kept)
        patch.setattr(_depthwise, "WIDE", 1)
        assert torch.equal(_depthwise.by_x(g, w, padding, dilation).double(), dx)
        if {*dilation} == {1}:
            assert torch.equal(_depthwise.by_weight(x, g, w.shape[2:], padding).double(), dw)


# ---- what goes there ----

#: name -> spec, batch and spatial size, what explain says of the call, and of its gradients
CASES: dict[str, tuple[ConvSpec, tuple[int, ...], str, str]] = {
    "to two": (ConvSpec(32, 2, (3, 3), padding=1), (2, 110, 140), "few: ", "weight: with input"),
    "to one": (ConvSpec(48, 1, (3, 5), padding=(2, 1)), (2, 70, 140), "", "weight: with"),
    "to one, 3-D": (
        ConvSpec(16, 1, (3, 1, 2), padding=(1, 0, 1)),
        (1, 35, 41, 42),
        "",
        "weight: with input",
    ),
    "to two, 1-D": (ConvSpec(24, 2, (7,), padding=3), (2, 9000), "", "weight: with"),
    "from two": (ConvSpec(2, 32, (3, 5), padding=(1, 2)), (2, 100, 101), "", "input: a sum"),
    "from one, 3-D": (ConvSpec(1, 16, (3, 3, 3), padding=1), (1, 40, 41, 30), "", "input: a sum"),
    "to two, 3-D": (
        ConvSpec(24, 2, (3, 1, 3), padding=(1, 0, 1)),
        (1, 30, 31, 32),
        "",
        "weight: with input and output exchanged, unless channels lie last",
    ),
    "from three, strided": (
        ConvSpec(3, 64, (7, 7), stride=2, padding=3),
        (1, 190, 181),
        "",
        "input: a sum",
    ),
    "patches": (ConvSpec(3, 96, (8, 8), stride=8), (16, 128, 128), "", "input: a sum"),
    "transposed to one": (
        ConvSpec(64, 1, (4, 4), stride=2, padding=1, transposed=True),
        (2, 120, 122),
        "few: ",
        "",
    ),
    "from three, strided, 3-D": (
        ConvSpec(3, 48, (2, 5, 2), stride=2, padding=1),
        (2, 8, 110, 120),
        "",
        "input: a sum of shifted products, unless channels lie last",
    ),
    "from three, rows": (
        ConvSpec(3, 32, (2, 4, 5), stride=(2, 3, 1), padding=(1, 1, 2)),
        (1, 10, 118, 160),
        "",
        "input: a sum of shifted products",
    ),
    "transposed to three, 3-D": (
        ConvSpec(48, 3, (2, 3, 2), stride=2, padding=1, transposed=True),
        (1, 8, 72, 82),
        "few: a sum of shifted products, unless channels lie last",
        "",
    ),
    "1x1, strided": (
        ConvSpec(32, 48, (1, 1), stride=(2, 3)),
        (3, 60, 62),
        "stride: the positions that count beforehand, unless channels lie last",
        "",
    ),
    "depthwise signal": (
        ConvSpec(48, 48, (31,), padding=15, groups=48),
        (4, 700),
        "padding: zeros of axis W beforehand",
        "weight: upright",
    ),
    "depthwise": (
        ConvSpec(64, 64, (7, 7), padding=3, groups=64),
        (4, 30, 31),
        "",
        "weight: by 3 columns",
    ),
    "large depthwise": (
        ConvSpec(32, 32, (17, 17), padding=8, groups=32),
        (2, 24, 20),
        "padding: zeros of axis W beforehand",
        "weight: by 3 columns",
    ),
    "dilated depthwise": (
        ConvSpec(64, 64, (3, 3), padding=8, dilation=8, groups=64),
        (4, 40, 40),
        "padding: zeros of axis W beforehand",
        "input: a convolution",
    ),
    "depthwise volume": (
        ConvSpec(32, 32, (3, 3, 3), padding=1, groups=32),
        (1, 10, 28, 30),
        "",
        "input: a convolution\n  weight: by its planes",
    ),
    "large output": (
        ConvSpec(2, 16, (3, 3, 3), (1, 2, 1), (1, 0, 1)),
        (1, 34, 257, 130),
        "pages: the output in pieces",
        "samples: ",
    ),
    "depthwise volumes": (
        ConvSpec(24, 24, (2, 3, 5), padding=(1, 1, 2), groups=24),
        (2, 9, 20, 25),
        "",
        "input: a convolution\n  weight: by its planes",
    ),
    "several for each": (
        ConvSpec(16, 48, (3, 5), padding=(1, 2), groups=16),
        (2, 40, 41),
        "depthwise: each channel 3 times, for its outputs",
        "input: a convolution for each output, added up\n  weight: each channel 3 times, for its "
        "outputs, unless channels lie last",
    ),
    "several for each, strided": (
        ConvSpec(16, 32, (3, 3), (2, 3), 1, groups=16),
        (2, 120, 122),
        "depthwise: each channel 2 times, for its outputs, unless channels lie last",
        "",
    ),
    "several for each, 3-D": (
        ConvSpec(8, 16, (3, 2, 3), padding=1, groups=8),
        (2, 9, 20, 25),
        "depthwise: each channel 2 times",
        "input: a convolution for each output",
    ),
    "transposed, dilated": (
        ConvSpec(16, 16, (3, 2), padding=(1, 0), dilation=(2, 3), groups=16, transposed=True),
        (2, 40, 41),
        "depthwise: a convolution",
        "",
    ),
    "transposed volume": (
        ConvSpec(16, 16, (3, 2, 3), padding=1, groups=16, transposed=True),
        (2, 9, 20, 25),
        "transposed: the forward call of the reversed kernel",
        "input: a convolution",
    ),
    "transposed, several for each": (
        ConvSpec(12, 24, (5,), padding=1, dilation=2, groups=12, transposed=True),
        (2, 3000),
        "transposed: the forward call of the reversed kernel",
        "",
    ),
    "transposed from three": (
        ConvSpec(3, 20, (3, 5), padding=(1, 2), transposed=True),
        (2, 70, 71),
        "transposed: the forward call of the reversed kernel",
        "",
    ),
    "transposed, small volume": (
        ConvSpec(12, 16, (3, 2, 3), padding=1, transposed=True),
        (1, 9, 20, 25),
        "transposed: the forward call of the reversed kernel",
        "samples: 2 pieces of axis D as a batch",
    ),
}  # fmt: skip


def arrays(name: str, memory: str) -> tuple[ConvSpec, list[torch.Tensor], torch.Tensor]:
    """The spec, x, weight and bias of a case, and a gradient of its output."""
    spec, (batch, *space), _, _ = CASES[name]
    x = laid(integers(batch, spec.in_channels, *space), memory)
    y_shape = spec.output_shape(x.shape)
    given = [x, integers(*spec.weight_shape, seed=1), integers(spec.out_channels, seed=2)]
    return spec, given, laid(integers(*y_shape, seed=3), memory)


def plain(spec: ConvSpec, given: list[torch.Tensor]) -> torch.Tensor:
    """aten's own call, of double precision if the arrays are."""
    rank = len(spec.kernel_size)
    padding = [lo for lo, _ in spec.padding]
    if spec.transposed:
        conv = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]
        return conv(*given, spec.stride, padding, 0, spec.groups, spec.dilation)
    return _few.CONV[rank](*given, spec.stride, padding, spec.dilation, spec.groups)


def watched(given: list[torch.Tensor]) -> list[torch.Tensor]:
    return [array.detach().requires_grad_() for array in given]


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers_and_gradients(name: str, memory: str) -> None:
    spec, given, g = arrays(name, memory)
    exact = watched([array.double() for array in given])
    y = plain(spec, exact)
    wanted = torch.autograd.grad(y, exact, g.double())
    assert torch.equal(spec(*given).double(), y)
    for _ in range(2):  # the second one is a repeated call
        for leaves in (watched(given), [*watched(given[:2]), given[2]], watched(given)[:2]):
            found = spec(*leaves)
            bias = given[2].reshape(-1, *[1] * (y.dim() - 2)) if len(leaves) == 2 else 0
            assert torch.equal((found + bias).double(), y)
            some = [leaf for leaf in leaves if leaf.requires_grad]
            gradients = torch.autograd.grad(found, some, g)
            for one, want in zip(gradients, wanted, strict=False):
                assert torch.equal(one.double(), want)


@pytest.mark.parametrize("name", CASES)
def test_explain_says_so(name: str) -> None:
    spec, (batch, *space), forward, backward = CASES[name]
    text = spec.explain((batch, spec.in_channels, *space), "torch")
    call, _, gradients = text.partition("\nwith gradients\n  ")
    assert forward in call
    assert backward in gradients
    assert bool(gradients) == bool(backward)
    small = spec.explain((1, spec.in_channels, *[n // 6 + 8 for n in space]), "torch", "float64")
    assert "few: " not in small
    assert "with gradients" not in small


@pytest.mark.parametrize(
    ("spec", "batch", "call", "weight"),
    [
        (ConvSpec(32, 4, (3, 3, 3), padding=1), 2, "products", "exchanged"),
        (ConvSpec(16, 4, (3, 3, 3), padding=1), 2, "products, unless channels lie last", ""),
        (ConvSpec(64, 4, (5, 1, 1)), 2, "products, unless channels lie last", "exchanged"),
        (ConvSpec(64, 4, (3, 3, 3)), 1, "products", "exchanged, unless channels lie last"),
    ],
)
def test_volumes_onto_four_channels(
    spec: ConvSpec, batch: int, call: str, weight: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By vectors of 16, onto as many as these; by which order aten's is the faster one."""
    monkeypatch.setattr(_ways, "FEW_DENSE_CHANNELS", 4)
    text = spec.explain((batch, spec.in_channels, 40, 31, 32), "torch")
    assert f"\n  few: a sum of shifted {call}\n" in text
    if weight:
        assert f"{text}\n".endswith(f"\n  weight: with input and output {weight}\n")
    else:
        assert "weight: with" not in text


def ways_taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions that are called from here on."""
    taken: list[str] = []

    def told(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (taken.append(name), function(*args))[1]

    for module, names in ((_few, ["transposed"]), (_depthwise, ["by_x", "by_weight"])):
        for name in names:
            monkeypatch.setattr(module, name, told(name, getattr(module, name)))
    return taken


def test_a_gradient_that_nobody_wants_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, (x, w, _), g = arrays("depthwise volume", "rows")
    taken = ways_taken(monkeypatch)
    torch.autograd.grad(spec(x, w.requires_grad_()), [w], g)
    assert taken == ["by_weight"]
    taken.clear()
    torch.autograd.grad(spec(x.requires_grad_(), w.detach()), [x], g)
    assert taken == ["by_x"]
    # Of those that there might be, a pass wants some.
    y = spec(x * 1, w)
    for wanted, way in ((x, "by_x"), (w, "by_weight")):
        taken.clear()
        torch.autograd.grad(y, [wanted], g, retain_graph=True)
        assert taken == [way]


class Stop(torch.autograd.Function):
    """Has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> None:
        return None


def test_no_gradient_is_none() -> None:
    spec, (x, w, _), _ = arrays("depthwise", "rows")
    leaves = watched([x, w])
    Stop.apply(spec(*leaves)).sum().backward()
    assert [leaf.grad for leaf in leaves] == [None, None]


@pytest.mark.parametrize("memory", MEMORY)
def test_one_sample_is_recorded_as_it_lies(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels copied a sample whose first stride was another one, for ten times as long."""
    spec, (x, w, _), g = arrays("to two", memory)
    seen: list[torch.Tensor] = []
    own = _few.by_weight
    monkeypatch.setattr(_few, "by_weight", lambda x, *a: (seen.append(x), own(x, *a))[1])
    leaves = watched([x[:1], w])
    spec(*leaves).backward(g[:1])
    order = torch.contiguous_format if memory == "rows" else torch.channels_last
    assert [array.is_contiguous(memory_format=order) for array in seen] == [True]


@pytest.mark.parametrize("memory", MEMORY)
def test_large_outputs_lie_as_the_input_does(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, given, _ = arrays("large output", memory)
    y = spec(*given)
    order = torch.contiguous_format if memory == "rows" else torch.channels_last_3d
    assert y.is_contiguous(memory_format=order)
    _large.worthwhile.cache_clear()
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0")
    assert not _large.worthwhile()
    _large.worthwhile.cache_clear()


def test_what_lies_well_in_memory_is_left_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, (x, w, _), g = arrays("depthwise volumes", "last")
    taken = ways_taken(monkeypatch)
    leaves = watched([x, w])
    torch.autograd.grad(spec(*leaves), leaves, g)
    assert taken == ["by_x"]
    for name, memory in (
        ("from three, strided, 3-D", "last"),
        ("transposed to three, 3-D", "last"),
        ("from three, strided, 3-D", "rows"),
        ("transposed to three, 3-D", "rows"),
        ("from three, rows", "last"),
        ("from three, strided", "last"),
    ):
        taken.clear()
        spec, (x, w, _), g = arrays(name, memory)
        leaves = watched([x, w])
        torch.autograd.grad(spec(*leaves), leaves, g)
        left = memory == "last" and "3-D" in name
        assert taken == ([] if left else ["transposed"])
    spec, (x, w, _), g = arrays("large depthwise", "last")
    assert _depthwise.padded(x, 8, 1) is x
    assert _depthwise.padded(x.contiguous(), 8, 1) is not x


def test_sums_do_without_the_kernel_of_small_volumes() -> None:
    """aten's own, for one volume of up to 20480 elements but for W, is 2 to 20 times as slow."""
    spec, (x, w, _), g = arrays("from three, rows", "rows")
    assert len(g) == 1
    assert g[0, :, :, :, 0].numel() <= 20480
    leaves = watched([x, w])
    y = spec(*leaves)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.grad(y, leaves[0], g)
    names = {event.key for event in profile.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert not any("slow_conv" in name for name in names)


@pytest.mark.parametrize("memory", MEMORY)
def test_strided_points_of_rows_are_dense(memory: str) -> None:
    """With channels last the dense call's gradients take up to twice as long."""
    spec, (x, w, _), g = arrays("1x1, strided", memory)
    leaves = watched([x, w])
    y = spec(*leaves)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.grad(y, leaves, g)
    names = {event.key for event in profile.key_averages()}
    assert ("SliceBackward0" in names) == (memory == "rows")


#: One of each kind, for what follows.
KINDS = ["to two", "from three, strided", "depthwise", "depthwise volume"]


@pytest.mark.parametrize("name", KINDS)
def test_second_derivatives(name: str) -> None:
    spec, (x, w, b), g = arrays(name, "rows")

    def second(call: Callable[..., Any], given: list[torch.Tensor], g: torch.Tensor) -> Any:
        leaves = [*watched(given), g.detach().requires_grad_()]
        y = call(*leaves[:-1])
        first = torch.autograd.grad(y, leaves[:2], leaves[-1], create_graph=True)
        return torch.autograd.grad(sum((f * f).sum() for f in first), [*leaves[:2], leaves[-1]])

    small = (torch.sign(array) for array in (x, w, b))  # sums stay below 2**24
    arrays_ = [*small]
    g = torch.sign(g) * (torch.arange(g.numel()).reshape(g.shape) % 97 == 0)
    found = second(lambda *a: spec(*a), arrays_, g)
    exact = [array.double() for array in arrays_]
    wanted = second(lambda *a: plain(spec, list(a)), exact, g.double())
    for one, want in zip(found, wanted, strict=True):
        assert torch.equal(one.double(), want)


@pytest.mark.parametrize("name", KINDS)
def test_transforms_record_the_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, given, g = arrays(name, "rows")
    exact = [array.double() for array in given]
    taken = ways_taken(monkeypatch)

    def loss(call: Callable[..., Any], g: torch.Tensor) -> Callable[..., Any]:
        return lambda *a: (call(*a) * g).sum()

    found = torch.func.grad(loss(spec, g), (0, 1, 2))(*given)
    wanted = torch.func.grad(loss(lambda *a: plain(spec, [*a]), g.double()), (0, 1, 2))(*exact)
    for one, want in zip(found, wanted, strict=True):
        assert torch.equal(one.double(), want)
    _, tangent = torch.func.jvp(lambda x: spec(x, *given[1:]), (given[0],), (given[0],))
    _, want = torch.func.jvp(lambda x: plain(spec, [x, *exact[1:]]), (exact[0],), (exact[0],))
    assert torch.equal(tangent.double(), want)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(given[0], given[0])
        tangent = forward_ad.unpack_dual(spec(dual, *given[1:])).tangent
        assert torch.equal(tangent.double(), want)
    several = torch.stack([given[0], given[0].flip(0)])
    y = torch.vmap(lambda x: spec(x, *given[1:]))(several)
    assert torch.equal(y[1], plain(spec, [several[1], *given[1:]]))
    assert not taken


@pytest.mark.parametrize("name", [*KINDS, "large depthwise"])
def test_what_transforms_only_capture(name: str) -> None:
    spec, given, _ = arrays(name, "rows")
    leaves = watched(given)
    scaled = torch.vmap(lambda factor: factor * spec(*leaves))(torch.tensor([1.0, 2.0]))
    want = plain(spec, given)
    assert torch.equal(scaled, torch.stack([want, 2 * want]))
    several = torch.stack([given[0], given[0].flip(0)], 1)
    y = torch.vmap(lambda x: spec(x, *given[1:]), in_dims=1)(several)
    assert torch.equal(y[0], want)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_in_batches(name: str) -> None:
    spec, given, g = arrays(name, "rows")
    leaves = watched(given)
    several = torch.stack([g, g.flip(-1)])
    found = torch.autograd.grad(spec(*leaves), leaves, several, is_grads_batched=True)
    for i in range(2):
        again = torch.autograd.grad(spec(*leaves), leaves, several[i])
        for one, want in zip(found, again, strict=True):
            assert torch.equal(one[i], want)


@pytest.mark.parametrize("name", [*KINDS, "large depthwise"])
def test_autocast_around_the_call(name: str) -> None:
    spec, given, g = arrays(name, "rows")
    results = []
    for call in (spec, lambda *a: plain(spec, [*a])):
        leaves = watched(given)
        with torch.autocast("cpu"):
            y = call(*leaves)
        assert y.dtype == torch.bfloat16
        results.append([y, *torch.autograd.grad(y, leaves, g.bfloat16())])
    for one, want in zip(*results, strict=True):
        scale = want.abs().max().float()  # bfloat16 has 8 bits, and sums of it a few less
        assert (one.float() - want.float()).abs().max() <= 2**-5 * scale


@pytest.mark.parametrize("name", KINDS)
def test_autocast_around_the_backward_pass(name: str) -> None:
    spec, given, g = arrays(name, "rows")
    leaves = watched(given)
    y = spec(*leaves)
    wanted = torch.autograd.grad(y, leaves, g, retain_graph=True)
    with torch.autocast("cpu"):
        found = torch.autograd.grad(y, leaves, g)
    for one, want in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, want)


@pytest.mark.parametrize("name", [*KINDS, "large depthwise", "depthwise signal"])
def test_checkpoints_and_compilers(name: str) -> None:
    spec, given, g = arrays(name, "rows")
    leaves = watched(given)
    wanted = torch.autograd.grad(spec(*leaves), leaves, g)
    again = checkpoint(spec, *leaves, use_reentrant=False)
    compiled = torch.compile(lambda *a: spec(*a), backend="aot_eager", fullgraph=True)
    for y in (again, compiled(*leaves)):
        for one, want in zip(torch.autograd.grad(y, leaves, g), wanted, strict=True):
            assert torch.equal(one, want)


def test_a_backward_pass_that_is_compiled() -> None:
    spec, given, g = arrays("depthwise", "rows")
    leaves = watched(given)
    wanted = torch.autograd.grad(spec(*leaves), leaves, g)
    y = spec(*leaves)
    with compiled_autograd._enable(torch.compile(backend="eager", fullgraph=True)):
        y.backward(g)
    for leaf, want in zip(leaves, wanted, strict=True):
        assert torch.equal(leaf.grad, want)


@pytest.mark.parametrize("name", ["depthwise", "large depthwise", "depthwise signal"])
def test_checkpoints_within_modes(name: str) -> None:
    """What a call saves is as large whether a mode takes notice of it or not."""
    spec, given, g = arrays(name, "rows")
    leaves = watched(given)
    wanted = torch.autograd.grad(spec(*leaves), leaves, g)
    with FlopCounterMode(display=False):
        y = checkpoint(spec, *leaves, use_reentrant=False)
    for one, want in zip(torch.autograd.grad(y, leaves, g), wanted, strict=True):
        assert torch.equal(one, want)


def test_what_was_changed_since_is_noticed() -> None:
    spec, (x, w, _), g = arrays("depthwise", "rows")
    w.requires_grad_()
    x = x * 1
    y = spec(x, w)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(g)


def test_without_onednn_calls_are_atens(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, given, g = arrays("to two", "rows")
    taken = ways_taken(monkeypatch)
    leaves = watched(given)
    y = spec(*leaves)
    assert taken == ["transposed"]
    with torch.backends.mkldnn.flags(enabled=False):
        torch.autograd.grad(y, leaves, g)
        spec(*leaves)
    assert taken == ["transposed"]


def test_never_within_a_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, (batch, *space), _, _ = CASES["depthwise volume"]
    monkeypatch.setattr(_ways, "alone", lambda: False)
    text = spec.replace(padding=(1, 1, 0)).explain((batch, 32, *space), "torch")
    assert "with gradients" not in text
