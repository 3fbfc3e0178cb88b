"""The spec itself: canonical fields, defaults, equality, text, and what can be read off it."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convspec
from convspec import ConvSpec, ConvSpecError, LayoutError, ShapeError
from generators import random_case


def test_scalars_hold_for_every_axis() -> None:
    spec = ConvSpec(3, 64, 3, 2, 1, layout="NCDHW")
    assert spec.kernel_size == (3, 3, 3)
    assert spec.stride == (2, 2, 2)
    assert spec.padding == ((1, 1),) * 3
    assert (spec.rank, spec.spatial) == (3, "DHW")


def test_positional_order_is_torchs() -> None:
    spec = ConvSpec(4, 6, (3, 3), 2, 1, 2, 2, False, "reflect")
    assert (spec.stride, spec.padding, spec.dilation) == ((2, 2), ((1, 1),) * 2, (2, 2))
    assert (spec.groups, spec.bias, spec.padding_mode) == (2, False, "reflect")


@pytest.mark.parametrize(
    ("arguments", "layouts"),
    [
        ({"kernel_size": (3, 3)}, ("NCHW", "NCHW", "OIHW")),
        ({"kernel_size": (3,)}, ("NCW", "NCW", "OIW")),
        ({"kernel_size": 3, "padding": ((1, 1), 0, 0)}, ("NCDHW", "NCDHW", "OIDHW")),
        ({"kernel_size": (3, 3), "transposed": True}, ("NCHW", "NCHW", "IOHW")),
        ({"kernel_size": 3, "weight_layout": "OITHW"}, ("NCTHW", "NCTHW", "OITHW")),
        ({"kernel_size": 3, "output_layout": "HWC"}, ("CHW", "HWC", "OIHW")),
        ({"kernel_size": (3, 3), "layout": "channels_last"}, ("NHWC", "NHWC", "OIHW")),
        ({"kernel_size": 3, "layout": "HWCN"}, ("HWCN", "HWCN", "OIHW")),
        ({"kernel_size": (3, 3), "output_layout": "channels_last"}, ("NCHW", "NHWC", "OIHW")),
        ({"kernel_size": (3,) * 4}, ("NCTDHW", "NCTDHW", "OITDHW")),
    ],
)
def test_default_layouts(arguments: dict, layouts: tuple[str, str, str]) -> None:
    spec = ConvSpec(2, 2, **arguments)
    assert (spec.layout, spec.output_layout, spec.weight_layout) == layouts


def test_padding_words_become_amounts() -> None:
    spec = ConvSpec(1, 1, (3, 3, 5), padding=("causal", "same", "valid"), dilation=(2, 1, 1))
    assert spec.padding == ((4, 0), "same", (0, 0))
    assert ConvSpec(1, 1, (5,), padding="causal").padding == ((4, 0),)
    assert ConvSpec(1, 1, (3, 3), padding="same_lower").padding == ("same_lower",) * 2
    assert ConvSpec(1, 1, (3, 3), padding=((1, 2), -1)).padding == ((1, 2), (-1, -1))


def test_defaults_of_the_group_axis() -> None:
    assert ConvSpec(2, 2, (3,)).group_axis == "O"
    assert ConvSpec(2, 2, (3,), transposed=True).group_axis == "I"
    assert ConvSpec(2, 4, 3, groups=2, weight_layout="WIM").group_axis == "I"


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"groups": 2}, (6, 2, 3, 3)),
        ({"groups": 2, "group_axis": "I"}, (3, 4, 3, 3)),
        ({"groups": 2, "transposed": True}, (4, 3, 3, 3)),
        ({"groups": 2, "transposed": True, "group_axis": "O"}, (2, 6, 3, 3)),
        ({"weight_layout": "HWIO"}, (3, 3, 4, 6)),
    ],
)
def test_weight_shape(arguments: dict, shape: tuple[int, ...]) -> None:
    assert ConvSpec(4, 6, (3, 3), **arguments).weight_shape == shape


def test_depthwise_weight_shape() -> None:
    assert ConvSpec(3, 6, (5, 2), groups=3, weight_layout="HWIM").weight_shape == (5, 2, 3, 2)
    assert ConvSpec(3, 6, (5, 2), groups=3, weight_layout="MWIH").weight_shape == (2, 2, 3, 5)


def test_counts() -> None:
    spec = ConvSpec(3, 64, (2, 3, 3), groups=1)
    assert spec.num_parameters == 3 * 64 * 18 + 64
    assert spec.replace(bias=False).num_parameters == 3 * 64 * 18
    assert spec.bias_shape == (64,)
    assert ConvSpec(1, 1, (3, 5), dilation=(2, 3)).receptive_field == (5, 13)


def test_flops_count_a_multiply_add_as_two() -> None:
    spec = ConvSpec(4, 6, (3, 3), padding=1, groups=2)
    assert spec.flops((2, 4, 5, 7)) == 2 * 9 * (4 // 2) * (2 * 6 * 5 * 7)
    up = ConvSpec(4, 6, (3, 3), stride=2, groups=2, transposed=True)
    assert up.flops((2, 4, 5, 7)) == 2 * 9 * (6 // 2) * (2 * 4 * 5 * 7)


def test_numpy_integers_are_integers() -> None:
    one = ConvSpec(np.int64(2), np.int32(4), np.array([3, 3]), stride=np.int8(2))
    assert one == ConvSpec(2, 4, (3, 3), stride=2)
    assert type(one.stride[0]) is int


def test_equality_and_hash_are_on_canonical_fields() -> None:
    a = ConvSpec(1, 1, 3, padding=1, layout="NCHW")
    b = ConvSpec(1, 1, (3, 3), padding=((1, 1), 1), layout="channels_first", weight_layout="OIHW")
    assert a == b
    assert hash(a) == hash(b)
    assert a != a.replace(bias=False)
    assert a != "a"


def test_frozen() -> None:
    with pytest.raises(AttributeError, match="cannot assign to field 'stride'"):
        ConvSpec(1, 1, (3,)).stride = (2,)  # type: ignore[misc]


@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_text_and_values_round_trip(seed: int) -> None:
    spec = random_case(np.random.default_rng(seed)).spec
    assert eval(repr(spec), {"ConvSpec": ConvSpec}) == spec
    assert ConvSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    copy = pickle.loads(pickle.dumps(spec))
    assert copy == spec
    assert hash(copy) == hash(spec)
    assert spec.replace() == spec


def test_from_dict_refuses_what_it_does_not_know() -> None:
    good = ConvSpec(1, 2, (3,)).to_dict()
    with pytest.raises(ConvSpecError, match=re.escape("from_dict: unknown keys colour.")):
        ConvSpec.from_dict({**good, "colour": 1})
    with pytest.raises(
        ConvSpecError, match=re.escape("from_dict: format version 2.0 is newer than 1.0")
    ):
        ConvSpec.from_dict({**good, "format_version": "2.0"})
    assert ConvSpec.from_dict({**good, "format_version": "1.7"}) == ConvSpec(1, 2, (3,))


def test_replace_lets_defaults_follow() -> None:
    spec = ConvSpec(2, 4, (3, 5), layout="NCHW")
    assert spec.replace(layout="NHWC").output_layout == "NHWC"
    assert spec.replace(transposed=True).weight_layout == "IOHW"
    assert spec.replace(transposed=True).group_axis == "I"
    fixed = spec.replace(output_layout="NHWC", weight_layout="HWIO")
    assert fixed.replace(layout="HWCN").output_layout == "NHWC"
    assert fixed.replace(transposed=True).weight_layout == "HWIO"


def test_replace_keeps_amounts_with_their_axis() -> None:
    spec = ConvSpec(2, 4, (3, 5), stride=(1, 2), padding=("same", (1, 0)), layout="NCHW")
    turned = spec.replace(layout="NWHC")
    assert turned.kernel_size == (5, 3)
    assert turned.stride == (2, 1)
    assert turned.padding == ((1, 0), "same")
    assert turned.replace(layout="NCHW") == spec
    assert spec.replace(layout="NCTW").kernel_size == (3, 5)


def test_conventions() -> None:
    spec = ConvSpec(4, 8, (3, 3, 3), groups=2)
    tensorflow = spec.in_convention("tensorflow")
    assert (tensorflow.layout, tensorflow.weight_layout) == ("NDHWC", "DHWIO")
    assert tensorflow.in_convention("torch") == spec
    up = ConvSpec(4, 8, (3, 3), groups=2, transposed=True)
    assert up.in_convention("jax").weight_layout == "HWIO"
    assert up.in_convention("jax").flip_kernel
    assert up.in_convention("jax").group_axis == "O"
    assert up.in_convention("mlx").weight_layout == "OHWI"
    assert up.in_convention("matconvnet").layout == "HWCN"
    assert up.in_convention("matconvnet").weight_layout == "HWOI"
    unbatched = ConvSpec(1, 1, (3, 5), layout="WHC")
    assert unbatched.in_convention("torch").layout == "CHW"
    assert unbatched.in_convention("torch").kernel_size == (5, 3)
    assert ConvSpec(1, 1, 3, layout="NCTHW").in_convention("keras").layout == "NTHWC"


def test_unknown_convention() -> None:
    with pytest.raises(ConvSpecError, match=re.escape("convention: 'caffe' is none of torch, ")):
        ConvSpec(1, 1, (3,)).in_convention("caffe")


@pytest.mark.parametrize("name", sorted(convspec.conventions.CONVENTIONS))
def test_conventions_come_back(name: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        spec = random_case(rng).spec.in_convention("torch")
        assert spec.in_convention(name).in_convention("torch") == spec


def test_shapes_of_torch_conv3d() -> None:
    volume = (32, 3, 10, 224, 224)
    spec = ConvSpec(3, 64, 3, stride=2, padding=1, layout="NCDHW")
    assert spec.output_shape(volume) == (32, 64, 5, 112, 112)
    spec = ConvSpec(3, 64, (2, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    assert spec.output_shape(volume) == (32, 64, 9, 112, 112)


def test_empty_batch_has_a_shape() -> None:
    assert ConvSpec(1, 2, (3,)).output_shape((0, 1, 5)) == (0, 2, 3)


def test_transposed_same_is_n_times_s() -> None:
    spec = ConvSpec(1, 1, (3,), stride=2, padding="same", transposed=True)
    assert spec.output_shape((1, 1, 5)) == (1, 1, 10)
    assert spec.output_shape((1, 1, 5), output_size=9) == (1, 1, 9)
    with pytest.raises(ShapeError, match=re.escape("output_size[0] (axis W): the forward")):
        spec.output_shape((1, 1, 5), output_size=8)


def test_output_size_takes_what_the_forward_convolution_maps_back() -> None:
    spec = ConvSpec(1, 1, (3,), stride=3, padding=1, transposed=True)
    forward = ConvSpec(1, 1, (3,), stride=3, padding=1)
    feasible = [m for m in range(1, 30) if forward.output_shape((1, 1, m))[2] == 4]
    for size in range(1, 30):
        if size in feasible:
            assert spec.output_shape((1, 1, 4), output_size=(size,)) == (1, 1, size)
        else:
            with pytest.raises(ShapeError, match=re.escape(f"4, got {size}")):
                spec.output_shape((1, 1, 4), output_size=(size,))


def test_diff_speaks() -> None:
    spec = ConvSpec(4, 8, (3, 3), padding=((1, 0), 0), groups=2)
    assert spec.diff(spec) == []
    other = spec.replace(padding=((0, 1), 0), flip_kernel=True, group_axis="I", stride=(1, 2))
    assert spec.diff(other) == [
        "kernel flipped",
        "groups on I instead of O",
        "H shifted by one pixel: padding (1, 0) became (0, 1)",
        "stride on W: 1 became 2",
    ]
    assert spec.diff(spec.replace(layout="NHWC"))[0] == "layout: NCHW became NHWC"


def test_rank_that_nothing_tells() -> None:
    with pytest.raises(LayoutError, match="layout: nothing tells the number of spatial axes"):
        ConvSpec(1, 1, 3)


def test_diff_goes_on_where_axes_have_other_names() -> None:
    spec = ConvSpec(2, 3, 3, padding=1, layout="NCHW")
    assert spec.diff(ConvSpec(2, 3, (3, 5), padding=1, layout="NCAB")) == [
        "spatial axes: HW became AB",
        "kernel_size on W: 3 became 5",
        "layout: NCHW became NCAB",
        "output_layout: NCHW became NCAB",
        "weight_layout: OIHW became OIAB",
    ]
    assert spec.diff(ConvSpec(2, 3, 3, padding=1, layout="NCW")) == ["spatial axes: HW became W"]
