"""PyTorch's layers and calls as specs and back, and our own layer for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)
from torch import nn

import convspec
from convspec import ConvSpec, ConvSpecError, ShapeError, UnsupportedError, layer_arrays
from convspec_torch import Conv
from generators import integers, random_case
from refusals import refused

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CALLS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED_CALLS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
MODES = ("zeros", "reflect", "replicate", "circular")
# A note on speed, at "same" with even kernels.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


def tensor(rng: np.random.Generator, shape: Any) -> torch.Tensor:
    return torch.from_numpy(integers(rng, shape, "float32"))


@torch.no_grad()
def fill(rng: np.random.Generator, layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.copy_(tensor(rng, parameter.shape))


def any_options(rng: np.random.Generator, rank: int, transposed: bool) -> dict[str, Any]:
    k, s, d = (rng.integers(1, most + 1, rank).tolist() for most in (3, 3, 2))
    groups = int(rng.integers(1, 4))
    cin, cout = (groups * int(n) for n in rng.integers(1, 3, 2))
    options: dict[str, Any] = {"stride": s, "dilation": d, "groups": groups}
    options["padding"] = rng.integers(0, 3, rank).tolist()
    if transposed:
        options["output_padding"] = [
            int(rng.integers(max(a, b))) for a, b in zip(s, d, strict=True)
        ]
    elif rng.random() < 0.3:
        options["padding"] = ("same", "valid")[rng.integers(2)]
        if options["padding"] == "same":
            options["stride"] = 1
    options["bias"] = bool(rng.integers(2))
    if not transposed:
        options["padding_mode"] = MODES[rng.integers(4)]
    return {"in_channels": cin, "out_channels": cout, "kernel_size": k, **options}


def any_layer(rng: np.random.Generator, rank: int, transposed: bool) -> tuple[Any, torch.Tensor]:
    while True:
        layer = (TRANSPOSED if transposed else CONVS)[rank - 1](
            **any_options(rng, rank, transposed)
        )
        fill(rng, layer)
        x = tensor(rng, (2, layer.in_channels, *rng.integers(3, 7, rank)))
        try:
            with torch.no_grad():
                y = layer(x)
        except RuntimeError:  # nothing left of the output, or a reflection too far
            continue
        if y.numel():  # transposed, torch gives empty outputs
            return layer, x


each_kind = pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
each_rank = pytest.mark.parametrize("rank", [1, 2, 3])


@each_rank
@each_kind
@torch.no_grad()
def test_layers_there_and_back(rank: int, transposed: bool) -> None:
    rng = np.random.default_rng(rank)
    for _ in range(30):
        layer, x = any_layer(rng, rank, transposed)
        spec = ConvSpec.from_native(layer)
        weight, bias = layer_arrays(layer)
        assert weight is layer.weight
        assert bias is layer.bias
        expected = layer(x)
        torch.testing.assert_close(spec(x, weight, bias), expected, rtol=0, atol=0)
        again = spec.to_native("torch", weight, bias)
        assert type(again) is type(layer)
        assert again.weight is not layer.weight
        assert ConvSpec.from_native(again) == spec
        torch.testing.assert_close(again(x), expected, rtol=0, atol=0)


@each_rank
@each_kind
@torch.no_grad()
def test_calls(rank: int, transposed: bool) -> None:
    rng = np.random.default_rng(10 + rank)
    for _ in range(30):
        layer, x = any_layer(rng, rank, transposed)
        names = ["stride", "padding", "dilation", "groups"]
        names += ["output_padding"] if transposed else []
        options = {name: getattr(layer, name) for name in names}
        if rng.random() < 0.3:
            x = x[0]
        call = (TRANSPOSED_CALLS if transposed else CALLS)[rank - 1]
        spec = ConvSpec.from_call(call, x, layer.weight, layer.bias, **options)
        expected = call(x, layer.weight, layer.bias, **options)
        y = spec(x, layer.weight, layer.bias)
        torch.testing.assert_close(y, expected, rtol=0, atol=0)


def test_the_comparison_notices_another_spec() -> None:
    layer, x = any_layer(np.random.default_rng(3), 2, transposed=False)
    spec = ConvSpec.from_native(layer)
    assert (spec.replace(flip_kernel=True)(x, *layer_arrays(layer)) != layer(x)).any()


def test_positional_arguments_of_calls() -> None:
    x, w, b = torch.zeros(1, 4, 9, 9), torch.zeros(6, 2, 3, 3), torch.zeros(6)
    spec = ConvSpec(4, 6, (3, 3), 2, 1, 2, 2, layout="NCHW")
    assert ConvSpec.from_call(F.conv2d, x, w, b, 2, 1, 2, 2) == spec
    assert ConvSpec.from_call(torch.conv2d, x, w, b, (2,), [1, 1], 2, 2) == spec
    transposed = ConvSpec(4, 6, (3, 3), 2, 1, 3, 2, False, transposed=True, output_padding=(2, 0))
    given = (x, torch.zeros(4, 3, 3, 3), None, 2, 1, (2, 0), 2, 3)
    assert ConvSpec.from_call(F.conv_transpose2d, *given) == transposed


@pytest.mark.parametrize(
    ("call", "padding", "message"),
    [
        (F.conv2d, "same_lower", "has 'same' and 'valid', not 'same_lower'"),
        (F.conv2d, "causal", "has 'same' and 'valid', not 'causal'"),
        (F.conv2d, "same", "has 'same' at stride 1 only, got stride 2"),
        (F.conv2d, -1, "takes amounts from 0 on, one for both ends of an axis; got -1"),
        (F.conv2d, ((1, 1), 0), "takes amounts from 0 on"),
        (F.conv_transpose2d, "same", "takes amounts from 0 on"),
    ],
)
def test_a_call_that_torch_would_refuse(call: Any, padding: Any, message: str) -> None:
    x, w = torch.zeros(1, 4, 9, 9), torch.zeros(4, 4, 3, 3)
    with pytest.raises(Exception, match=r"pad|argument"):
        call(x, w, stride=2, padding=padding)
    with pytest.raises(UnsupportedError, match=f"padding: torch.nn.functional {message}"):
        ConvSpec.from_call(call, x, w, stride=2, padding=padding)


def test_a_call_is_read_from_shapes_alone() -> None:
    x, w = torch.empty(2, 3, 8, 8, 8, device="meta"), torch.empty(5, 3, 3, 3, 3, device="meta")
    spec = ConvSpec.from_call(F.conv3d, x, w, padding="same")
    assert spec == ConvSpec(3, 5, (3, 3, 3), padding="same", bias=False)


@torch.no_grad()
def test_whatever_torch_has_is_made_and_the_rest_refused() -> None:
    """Of random specs in any orders: the layer computes the same, or the error says why not."""
    rng = np.random.default_rng(0)
    made = {False: 0, True: 0}
    for _ in range(400):
        case = random_case(rng)
        spec, shape = case.spec, case.input_shape
        if "N" not in spec.layout or not all(shape):
            continue
        x, w = tensor(rng, shape), tensor(rng, spec.weight_shape)
        b = tensor(rng, spec.bias_shape) if spec.bias else None
        target = spec.in_convention("torch")
        native = torch.from_numpy(
            convspec.convert_layout(x.numpy(), spec.layout, target.layout).copy()
        )
        for explicit in (False, True):
            try:
                layer = spec.to_native("torch", w, b, explicit_padding=explicit)
            except UnsupportedError as error:
                assert "axis" in str(error)  # noqa: PT017  (all else is a success)
                continue
            made[explicit] += 1
            y = layer(native)
            ours = convspec.convert_layout(spec(x, w, b), spec.output_layout, target.layout)
            torch.testing.assert_close(y, ours.contiguous(), rtol=0, atol=0, msg=repr(spec))
    assert made[False] > 60
    assert made[True] > 150


def test_weights_of_other_frameworks_and_with_gradients() -> None:
    spec = ConvSpec(2, 3, (2, 2), layout="NHWC", weight_layout="HWIO")
    w = np.arange(24, dtype="float32").reshape(spec.weight_shape)
    layer = spec.to_native("torch", w)
    assert layer.bias.tolist() == [0, 0, 0]
    layer.weight.data[...] = 0
    assert w.sum() == 276, "the layer has a copy"
    parameter = nn.Parameter(torch.from_numpy(w))
    copy = spec.to_native("torch", parameter, np.ones(3, "float32"))
    assert copy.weight.is_leaf
    assert copy.weight.requires_grad
    assert copy.bias.tolist() == [1, 1, 1]


def test_making_a_layer_draws_nothing() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    ConvSpec(1, 1, (3,)).to_native("torch", np.ones((1, 1, 3), "float32"))
    assert torch.rand(1) == expected


def test_lazy_layers_once_initialised() -> None:
    layer = nn.LazyConv2d(4, 3, padding=1)
    message = "layer: a LazyConv2d does not know its channels yet; run one batch through it first."
    with refused(UnsupportedError, message):
        ConvSpec.from_native(layer)
    layer(torch.zeros(1, 3, 5, 5))
    assert ConvSpec.from_native(layer) == ConvSpec(3, 4, (3, 3), padding=1)
    transposed = nn.LazyConvTranspose1d(4, 3)
    transposed(torch.zeros(1, 2, 5))
    assert ConvSpec.from_native(transposed) == ConvSpec(2, 4, (3,), transposed=True)


def test_layers_that_compute_something_else() -> None:
    class Same(nn.Conv2d):
        """As in timm: a padding of its own."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(F.pad(x, (0, 1, 0, 1)))

    class Named(nn.Conv2d):
        colour = "red"

    with refused(
        UnsupportedError,
        f"layer: {__name__}.Same has a forward() of its own, so it may compute something else "
        f"than Conv2d.",
    ):
        ConvSpec.from_native(Same(1, 1, 3))
    assert ConvSpec.from_native(Named(1, 1, 3)) == ConvSpec(1, 1, (3, 3))
    shared = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    assert ConvSpec.from_native(shared) == ConvSpec(2, 3, (3, 3))


def test_unknown_layers_calls_and_names_list_the_known() -> None:
    with refused(
        UnsupportedError, "layer: torch.nn.modules.linear.Linear is none that convspec reads."
    ):
        ConvSpec.from_native(nn.Linear(2, 2))
    with pytest.raises(UnsupportedError, match="torch: Conv, Conv1d, Conv2d, Conv3d, ConvTranspo"):
        layer_arrays(nn.Linear(2, 2))
    with refused(
        UnsupportedError, "layer: torch.nn.modules.conv.Conv2d is a class; pass a layer made of it."
    ):
        ConvSpec.from_native(nn.Conv2d)
    with pytest.raises(UnsupportedError, match=r"fn: builtins\.len .*\n.*torch: conv1d, conv2d"):
        ConvSpec.from_call(len, 1)
    with pytest.raises(UnsupportedError, match="fn: "):
        ConvSpec.from_call([], 1)
    with refused(ConvSpecError, "from_call: conv2d(): missing a required argument: 'weight'."):
        ConvSpec.from_call(F.conv2d, torch.zeros(1, 1, 3, 3))
    with pytest.raises(convspec.BackendNotFoundError, match=r"'caffe' .* there are: .*torch"):
        ConvSpec(1, 1, (3,)).to_native("caffe", np.ones((1, 1, 3)))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ConvSpec(1, 1, (3, 3), padding=((1, 1), (0, 1))),
            "padding[1] (axis W): torch.nn pads both sides alike, and (0, 1) is (0, 1).",
        ),
        (
            ConvSpec(1, 1, (3, 3), 2, "same"),
            "padding[0] (axis H): what 'same' is at stride 2 depends on the input's size, and "
            "torch.nn has fixed amounts.",
        ),
        (
            ConvSpec(1, 1, (3,), 2, "same", transposed=True),
            "padding[0] (axis W): torch.nn crops both sides alike and gives back less than 2 at "
            "the end, and 'same' is (0, 1).",
        ),
        (
            ConvSpec(1, 1, (1,) * 4),
            "kernel_size: torch.nn has ranks 1 to 3, not 4.",
        ),
    ],
    ids=["asymmetric", "same with stride", "transposed same", "rank"],
)
def test_what_torch_cannot_express(spec: ConvSpec, message: str) -> None:
    with refused(UnsupportedError, message):
        spec.to_native("torch", np.ones(spec.weight_shape, "float32"))


def test_kernels_of_one_element_need_no_padding_of_any_name() -> None:
    """The shortcuts of residual networks: TensorFlow's word, torch's fixed amounts."""
    spec = ConvSpec(2, 3, (1, 1), 2, ("same", "same_lower"), dilation=3, layout="NHWC")
    w = np.arange(6, dtype="float32").reshape(spec.weight_shape)
    layer = spec.to_native("torch", w)
    assert layer.padding == (0, 0)
    for size in (6, 7):
        x = torch.arange(2.0 * size * size).reshape(1, 2, size, size)
        assert torch.equal(layer(x).permute(0, 2, 3, 1), spec(x.permute(0, 2, 3, 1), w))


def test_padding_layers_have_limits() -> None:
    w = np.ones((1, 1, 3), "float32")
    with refused(
        UnsupportedError,
        "padding[0] (axis W): what 'same' stands for at stride 2 depends on the input's size.",
    ):
        ConvSpec(1, 1, (3,), 2, "same").to_native("torch", w, explicit_padding=True)
    with pytest.raises(UnsupportedError, match="adds positions that no input reaches"):
        ConvSpec(1, 1, (3,), padding=((-1, 0),), transposed=True).to_native(
            "torch", w, explicit_padding=True
        )


def test_arrays_that_do_not_fit() -> None:
    spec = ConvSpec(1, 2, (3,), bias=False)
    with pytest.raises(ShapeError, match=r"weight: .*\n.*expected \(2, 1, 3\)"):
        spec.to_native("torch", np.ones((1, 2, 3), "float32"))
    with pytest.raises(ShapeError, match="bias: the spec says bias=False"):
        spec.to_native("torch", np.ones((2, 1, 3), "float32"), np.ones(2, "float32"))


# ---- our own layer ----


@each_kind
def test_it_starts_as_torchs_layer(transposed: bool) -> None:
    spec = ConvSpec(4, 6, (3, 2), 2, 1, groups=2, transposed=transposed)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    torch.manual_seed(3)
    native = kind(4, 6, (3, 2), 2, 1, groups=2)
    torch.manual_seed(3)
    layer = Conv(spec)
    assert layer.state_dict().keys() == native.state_dict().keys() == {"weight", "bias"}
    layer.load_state_dict(native.state_dict())
    torch.manual_seed(3)
    other = Conv(spec.in_convention("jax"))
    torch.testing.assert_close(other.weight, spec.convert_weight(native.weight, to="jax"))
    torch.testing.assert_close(other.bias, native.bias)
    x = torch.rand(1, 4, 5, 5)
    torch.testing.assert_close(layer(x), native(x), rtol=0, atol=0)


def test_it_starts_from_a_seed() -> None:
    spec = ConvSpec(3, 4, 3, 2, "same", layout="NHWC")
    weight, bias = convspec.initial_arrays(spec, seed=5)
    layer = Conv(spec, seed=5, dtype=torch.float64)
    assert layer.weight.dtype == torch.float64
    np.testing.assert_array_equal(layer.weight.detach(), weight)
    np.testing.assert_array_equal(layer.bias.detach(), bias)
    assert (Conv(spec, seed=6).weight != layer.weight).any()


def test_it_trains_and_reads_as_its_spec() -> None:
    spec = ConvSpec(2, 3, 3, 2, "same", transposed=True, layout="NHWC", bias=False)
    layer = Conv(spec)
    x = torch.rand(1, 3, 3, 2)
    assert layer(x).shape == (1, 6, 6, 3)
    assert layer(x, output_size=5).shape == (1, 5, 5, 3)
    layer(x).square().sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    assert layer.bias is None
    assert list(layer.state_dict()) == ["weight"]
    assert ConvSpec.from_native(layer) == spec
    assert layer_arrays(layer) == (layer.weight, None)
    assert repr(layer) == f"Conv({spec!r})"


def test_a_state_dict_of_other_names_lists_both_sides() -> None:
    layer = Conv(ConvSpec(1, 1, (3,)))
    with pytest.raises(RuntimeError, match=r'Missing key.*"weight", "bias".*\n.*"kernel"'):
        layer.load_state_dict({"kernel": torch.zeros(1, 1, 3)})
