"""Bad input, on every backend: a typed error that says what is wrong, and never a framework's own.

Cases are written as transcripts: what is asked, and what is answered. Whatever is refused goes
through :func:`refusals.refused`, which holds each message to the house style.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import convspec
from convspec import ConvSpec, ConvSpecError, ShapeError
from refusals import check_style, refused

SPEC = ConvSpec(4, 6, (3, 3), groups=2)
UP = ConvSpec(4, 6, (3, 3), stride=2, groups=2, transposed=True)
X = np.ones((2, 4, 5, 5), np.float32)
W = np.ones(SPEC.weight_shape, np.float32)
B = np.ones(6, np.float32)

#: The backends, as messages list them.
KNOWN = ", ".join(sorted(convspec.dispatch.entry_points()))

Make = Callable[[Any], Any]


@pytest.fixture
def make(backend: convspec.Backend) -> Make:
    """NumPy arrays as the backend's own."""
    return backend.from_foreign


def transcript(text: str) -> list[Any]:
    """(code, error, message) for each ``>>>`` of a text."""
    cases = []
    for case in text.strip().removeprefix(">>> ").split("\n>>> "):
        code, answer = case.split("\n", 1)
        error, message = answer.replace("{known}", KNOWN).split(": ", 1)
        cases.append(pytest.param(code, getattr(convspec, error), message, id=code))
    return cases


def answer(code: str, **names: Any) -> Any:
    """The value of some code, in which ``names`` are known beside this module's."""
    return eval(code, {**globals(), **names})


@pytest.mark.parametrize(
    "code",
    [
        "None",
        "ConvSpec(1, 1, True, layout='NCW')",
        "ConvSpec(1, 1, 1, layout='ncw')",
        "ConvSpec(1, 1, 3, layout='NCW', stride=3.0)",
    ],
)
def test_a_wrong_refusal_is_noticed(code: str) -> None:
    message = "kernel_size: expected an integer, got 3.0 (float)."
    with pytest.raises((AssertionError, pytest.fail.Exception)), refused(ShapeError, message):
        answer(code)


def test_a_refusal_of_another_type_is_noticed() -> None:
    message = "kernel_size: expected an integer, got 3.0 (float)."
    with pytest.raises(AssertionError), refused(ConvSpecError, message):
        ConvSpec(1, 1, 3.0, layout="NCW")  # type: ignore[arg-type]


@pytest.mark.parametrize("message", ["Nope.", "x: a\nb", "x: a\n  b\n  c\n  d"])
def test_a_message_out_of_style_is_noticed(message: str) -> None:
    with pytest.raises(AssertionError), refused(ShapeError, message):
        raise ShapeError(message)


# ---- the constructor ----

NO_INTEGERS = [
    (True, "the bool True"),
    (np.True_, "the bool np.True_"),
    (np.array(True), "the bool array(True)"),
    (torch.tensor(True), "the bool tensor(True)"),
    (2.0, "2.0 (float)"),
    (np.float32(2), "np.float32(2.0) (float32)"),
    (float("nan"), "nan (float)"),
    (float("inf"), "inf (float)"),
    (2j, "2j (complex)"),
    ("2", "'2' (str)"),
    (None, "None (NoneType)"),
    ({2}, "{2} (set)"),
    ({2: 2}, "{2: 2} (dict)"),
    (torch.tensor(2.0), "tensor(2.) (Tensor)"),
    (b"2" * 99, f"b'{'2' * 55}... (bytes)"),
]
COUNTS = ("in_channels", "out_channels", "groups")
AMOUNTS = ("kernel_size", "stride", "dilation", "output_padding")


@pytest.mark.parametrize(("value", "told"), NO_INTEGERS)
@pytest.mark.parametrize("name", [*COUNTS, *AMOUNTS])
def test_only_integers_are_integers(name: str, value: Any, told: str) -> None:
    arguments = {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "layout": "NCHW"}
    with refused(ShapeError, f"{name}: expected an integer, got {told}."):
        ConvSpec(**{**arguments, name: value})


@pytest.mark.parametrize(("value", "told"), NO_INTEGERS)
@pytest.mark.parametrize("name", AMOUNTS)
def test_every_entry_is_an_integer(name: str, value: Any, told: str) -> None:
    arguments = {"kernel_size": 3, "layout": "NHWC", name: (3, value)}
    with refused(ShapeError, f"{name}[1] (axis W): expected an integer, got {told}."):
        ConvSpec(2, 2, **arguments)


@pytest.mark.parametrize(("value", "told"), [case for case in NO_INTEGERS if case[0] != "2"])
def test_every_end_of_the_padding_is_an_integer(value: Any, told: str) -> None:
    with refused(ShapeError, f"padding[0] (axis W): expected an integer, got {told}."):
        ConvSpec(2, 2, 3, padding=value, layout="NCW")
    with refused(ShapeError, f"padding[0] (axis W), hi: expected an integer, got {told}."):
        ConvSpec(2, 2, 3, padding=((0, value),), layout="NCW")


def new(**changes: Any) -> ConvSpec:
    base = {"in_channels": 3, "out_channels": 4, "kernel_size": (3, 3), "layout": "NCHW"}
    return ConvSpec(**{**base, **changes})


CONSTRUCTOR = transcript(
    """
>>> new(in_channels=0)
ShapeError: in_channels: must be at least 1, got 0.
>>> new(out_channels=-1)
ShapeError: out_channels: must be at least 1, got -1.
>>> new(groups=0)
ShapeError: groups: must be at least 1, got 0.
>>> new(groups=2)
ShapeError: in_channels: 3 channels do not divide into 2 groups.
>>> new(groups=3)
ShapeError: out_channels: 4 channels do not divide into 3 groups.
>>> new(kernel_size=(3, 0))
ShapeError: kernel_size[1] (axis W): must be at least 1, got 0.
>>> new(stride=0)
ShapeError: stride: must be at least 1, got 0.
>>> new(dilation=(-2, 1))
ShapeError: dilation[0] (axis H): must be at least 1, got -2.
>>> new(stride=2**31)
ShapeError: stride: must be at most 1073741824, got 2147483648.
>>> new(padding=((0, -(2**40)), 0))
ShapeError: padding[0] (axis H), hi: must be at least -1073741824, got -1099511627776.
>>> new(kernel_size=10**5000)
ShapeError: kernel_size: must be at most 1073741824, got <int that cannot be shown>.
>>> new(kernel_size=(3, 3, 3))
ShapeError: kernel_size: (3, 3, 3) has 3 entries, but there are 2 spatial axes (HW).
  Give one entry per axis, or a scalar for all of them.
>>> new(stride=[2])
ShapeError: stride: (2,) has 1 entries, but there are 2 spatial axes (HW).
  Give one entry per axis, or a scalar for all of them.
>>> new(kernel_size=3, layout="NCW", padding=(1, 2))
ShapeError: padding: (1, 2) has 2 entries, but there are 1 spatial axes (W).
  Give one entry per axis, or a scalar for all of them.
>>> new(kernel_size=3, layout="NCDHW", padding=(1, 2))
ShapeError: padding: (1, 2) has 2 entries, but there are 3 spatial axes (DHW).
  Give one entry per axis, or a scalar for all of them.
>>> new(kernel_size=(), layout=None)
ShapeError: kernel_size: is empty; give one entry per spatial axis.
>>> new(dilation=np.ones((2, 2), int))
ShapeError: dilation[0] (axis H): expected an integer, got array([1, 1]) (ndarray).
>>> new(padding="SAME")
ShapeError: padding[0] (axis H): 'SAME' is none of valid, causal, same, same_lower.
>>> new(padding=("same", "full"))
ShapeError: padding[1] (axis W): 'full' is none of valid, causal, same, same_lower.
>>> new(padding=(1, (1, 2, 3)))
ShapeError: padding[1] (axis W): expected an int, a pair (lo, hi) or a name, got (1, 2, 3).
>>> new(padding="causal")
ShapeError: padding: 'causal' alone is for rank 1, and this spec has rank 2 (HW).
  Say which axis is time, as in ('causal', 'same').
>>> new(padding="causal", transposed=True)
UnsupportedError: padding[0] (axis H): 'causal' has no meaning for a transposed convolution.
  A causal decoder crops the end: pass the explicit padding (0, e-s), where e=3 is the kernel's \
extent and s the stride.
>>> new(padding=(1, "causal"), dilation=2, transposed=True)
UnsupportedError: padding[1] (axis W): 'causal' has no meaning for a transposed convolution.
  A causal decoder crops the end: pass the explicit padding (0, e-s), where e=5 is the kernel's \
extent and s the stride.
>>> new(padding_mode="reflect", transposed=True)
UnsupportedError: padding_mode: a transposed convolution has only zero padding, got 'reflect'.
>>> new(padding_mode="mirror")
ConvSpecError: padding_mode: 'mirror' is none of zeros, reflect, replicate, circular.
>>> new(padding_mode=["zeros"])
ConvSpecError: padding_mode: ['zeros'] is none of zeros, reflect, replicate, circular.
>>> new(output_padding=(0, 1))
ShapeError: output_padding[1] (axis W): a forward convolution has none, got 1; leave it at 0.
>>> new(output_padding=(0, 2), stride=2, transposed=True)
ShapeError: output_padding[1] (axis W): must be below max(stride, dilation) = 2, got 2.
>>> new(output_padding=-1, stride=2, transposed=True)
ShapeError: output_padding: must be at least 0, got -1.
>>> new(output_padding=1, stride=2, padding="same", transposed=True)
ShapeError: output_padding[0] (axis H): named padding sets the output size itself, got 1.
  Leave it at 0 and pass output_size= with the call.
>>> new(bias=None)
ConvSpecError: bias: expected True or False, got None.
>>> new(transposed=1)
ConvSpecError: transposed: expected True or False, got 1.
>>> new(flip_kernel="no")
ConvSpecError: flip_kernel: expected True or False, got 'no'.
>>> new(group_axis="M")
ConvSpecError: group_axis: 'M' is none of O, I.
>>> new(layout="nchw")
LayoutError: layout: 'n' in 'nchw' is no axis letter; use capitals A to Z.
>>> new(output_layout="channels")
LayoutError: output_layout: 'c' in 'channels' is no axis letter; use capitals A to Z.
>>> new(weight_layout="channels_last")
LayoutError: weight_layout: 'channels_last' is short for a spec's data layout; write letters here.
>>> new(layout="NCHH")
LayoutError: layout: 'H' stands twice in 'NCHH'; name each axis once.
>>> new(weight_layout="OIHHW")
LayoutError: weight_layout: 'H' stands twice in 'OIHHW'; name each axis once.
>>> new(layout="NHW")
LayoutError: layout: 'NHW' has no channel axis; add 'C', as in 'NHWC'.
>>> new(layout="NC")
LayoutError: layout: 'NC' has no spatial axis; add one, as in 'NCW'.
>>> new(weight_layout="OI")
LayoutError: weight_layout: 'OI' has no spatial axis; add one, as in 'OIW'.
>>> new(layout="NMHW")
LayoutError: layout: 'M' in 'NMHW' is an axis of a weight, not of data.
  Data layouts have C, optionally N, and spatial letters, as in 'NCHW'.
>>> new(weight_layout="OCHW")
LayoutError: weight_layout: 'C' in 'OCHW' is an axis of data, not of a weight.
  Weight layouts have O (or M), I and spatial letters, as in 'OIHW'.
>>> new(weight_layout="OMIHW")
LayoutError: weight_layout: 'OMIHW' needs 'I' and exactly one of 'O' and 'M' (a depthwise \
multiplier).
>>> new(layout=["N", "C", "H", "W"])
LayoutError: layout: expected a string of axis letters such as 'NCHW', got ['N', 'C', 'H', 'W'].
>>> new(output_layout=np.array(["N", "C"]))
LayoutError: output_layout: expected a string of axis letters such as 'NCHW', got array(['N', \
'C'], dtype='<U1').
>>> new(weight_layout="OIDHW")
LayoutError: weight_layout: 'OIDHW' has the spatial axes 'DHW', but layout 'NCHW' has 'HW'.
>>> new(output_layout="NXYC")
LayoutError: output_layout: 'NXYC' has the spatial axes 'XY', but layout 'NCHW' has 'HW'.
>>> new(output_layout="CHW")
LayoutError: output_layout: 'CHW' must have a batch axis N exactly when layout 'NCHW' has one.
>>> new(layout="CHW", output_layout="NHWC")
LayoutError: output_layout: 'NHWC' must have a batch axis N exactly when layout 'CHW' has one.
>>> new(weight_layout="HWIM")
LayoutError: weight_layout: 'M' in 'HWIM' is a depthwise multiplier and needs groups == \
in_channels, got groups=1 and in_channels=3.
>>> new(weight_layout="HWIM", out_channels=3, groups=3, transposed=True)
LayoutError: weight_layout: 'M' in 'HWIM' is for forward convolutions; a transposed weight has 'O'.
>>> new(weight_layout="HWIM", out_channels=3, groups=3, group_axis="O")
LayoutError: group_axis: in the depthwise weight 'HWIM' the axis I spans all groups; leave \
group_axis out.
>>> new(kernel_size=3, layout="channels_last")
LayoutError: layout: nothing tells the number of spatial axes, since every size is a scalar.
  Pass layout='NCHW' (or another), or one tuple such as kernel_size=(3, 3).
>>> new(kernel_size=(1,) * 22, layout=None)
LayoutError: layout: there are default letters for rank 1 to 21, not 22.
"""
)


@pytest.mark.parametrize(("code", "error", "message"), CONSTRUCTOR)
def test_constructor(code: str, error: type[ConvSpecError], message: str) -> None:
    with refused(error, message):
        answer(code)


def test_what_acts_like_an_integer_is_one() -> None:
    plain = ConvSpec(2, 2, (3, 3), stride=(2, 1), padding=((1, 2), (1, 1)), layout="NCHW")
    for stride in ([2, 1], np.array([2, 1]), torch.tensor([2, 1]), jnp.array([2, 1])):
        spec = ConvSpec(
            np.int8(2),
            np.array(2),
            tf.constant(3),
            stride=stride,
            padding=np.array([[1, 2], [1, 1]]),
            layout=np.str_("NCHW"),
        )
        assert spec == plain
        assert repr(spec) == repr(plain)  # nothing of NumPy's is left in it
    spec = ConvSpec(1, 1, 3, padding=np.str_("same"), padding_mode=np.str_("zeros"), layout="NCW")
    assert type(spec.padding[0]) is str
    assert type(spec.padding_mode) is str


# ---- what a spec is asked ----

QUESTIONS = transcript(
    """
>>> SPEC.output_shape(5)
ShapeError: input_shape: expected one size for each letter of layout 'NCHW', got 5.
>>> SPEC.explain("NCHW")
ShapeError: input_shape: expected one size for each letter of layout 'NCHW', got 'NCHW'.
>>> SPEC.flops((2, 4, 5.0, 5))
ShapeError: input_shape[2]: expected an integer, got 5.0 (float).
>>> SPEC.adjoint((2, 4, 5, True))
ShapeError: input_shape[3]: expected an integer, got the bool True.
>>> SPEC.code("numpy", (2, 4, 5))
LayoutError: x: has 3 axes, but layout 'NCHW' names 4.
  x: shape (2, 4, 5)
>>> SPEC.output_shape((-2, 4, 5, 5))
ShapeError: x: axis N has size -2; only the batch may be empty.
  x: N=-2, C=4, H=5, W=5
>>> SPEC.output_shape((2, 10**5000, 5, 5))
ShapeError: x: has <int that cannot be shown> channels on axis 1 (C), but the spec has \
in_channels=4.
>>> SPEC.replace(padding_mode="reflect").adjoint((2, 4, 5, 5))
UnsupportedError: adjoint: with padding_mode='reflect' it is no convolution; pad the input \
yourself and take the adjoint of the 'zeros' spec.
>>> SPEC.explain((2, 4, 5, 5), dtype="float8_e5m2")
DTypeError: dtype: 'float8_e5m2' is none of float16, bfloat16, float32, float64, complex64, \
complex128, int8, int16, int32, int64, uint8, uint16, uint32, uint64.
>>> SPEC.supports(None)
BackendNotFoundError: backend: expected a name or a Backend, got None.
>>> SPEC.replace(colour="red")
ConvSpecError: replace: 'colour' is no argument of ConvSpec.
>>> SPEC.replace(layout=np.array(["N", "C"]))
LayoutError: layout: expected a string of axis letters such as 'NCHW', got array(['N', 'C'], \
dtype='<U1').
>>> SPEC.replace(layout="NCDHW")
LayoutError: weight_layout: 'OIHW' has the spatial axes 'HW', but layout 'NCDHW' has 'DHW'.
>>> SPEC.in_convention(3)
ConvSpecError: convention: 3 is none of torch, tensorflow, keras, jax, flax, onnx, mlx, mxnet, \
matconvnet.
>>> SPEC.diff({})
ConvSpecError: other: expected a ConvSpec, got {}.
>>> SPEC.convert_weight(W, to=None)
ConvSpecError: to: expected a ConvSpec, got None.
>>> SPEC.convert_weight(W[0], to="jax")
ShapeError: weight: has 3 axes, but weight_layout 'OIHW' names 4.
  given (2, 3, 3), expected (6, 2, 3, 3) for 'OIHW' (groups=2, group_axis='O')
>>> ConvSpec.from_dict([SPEC])
ConvSpecError: from_dict: expected a mapping, got list.
>>> ConvSpec.from_dict({})
ConvSpecError: from_dict: 'format_version' should be like '1.0', got None.
>>> ConvSpec.from_dict({"format_version": "1.0", "in_channels": 2})
ConvSpecError: from_dict: missing keys kernel_size, out_channels.
>>> ConvSpec.from_dict({**SPEC.to_dict(), "format_version": "2.0"})
ConvSpecError: from_dict: format version 2.0 is newer than 1.0; update convspec.
>>> ConvSpec.from_dict({**SPEC.to_dict(), "format_version": "\u00b2"})
ConvSpecError: from_dict: 'format_version' should be like '1.0', got '\u00b2'.
>>> ConvSpec.from_dict({**SPEC.to_dict(), "format_version": "1.0junk"})
ConvSpecError: from_dict: 'format_version' should be like '1.0', got '1.0junk'.
>>> ConvSpec.from_dict({**SPEC.to_dict(), "format_version": 1.0})
ConvSpecError: from_dict: 'format_version' should be like '1.0', got 1.0.
>>> ConvSpec(1, 1, (3,), padding=2**30).output_shape((2**20, 1, 6))
ShapeError: input_shape: the output would have 2251799817879552 elements, but no machine addresses \
more than 140737488355328.
>>> ConvSpec(1, 1, (2**20,), dilation=2**20, padding="causal")
ShapeError: padding[0] (axis W), lo: must be at most 1073741824, got 1099510579200.
>>> ConvSpec.from_dict({**SPEC.to_dict(), "colour": "red", 3: 4})
ConvSpecError: from_dict: unknown keys 3, colour.
>>> ConvSpec.from_dict({**SPEC.to_dict(), "stride": {"H": 1}})
ShapeError: stride: expected an integer, got {'H': 1} (dict).
>>> ConvSpec.from_dict({**SPEC.to_dict(), "padding": [["same"], 0]})
ShapeError: padding[0] (axis H): expected an int, a pair (lo, hi) or a name, got ('same',).
>>> convspec.reference(SPEC, X, W[..., 1:])
ShapeError: weight: has another size than expected on axis W.
  given (6, 2, 3, 2), expected (6, 2, 3, 3) for 'OIHW' (groups=2, group_axis='O')
>>> convspec.reference(SPEC, X, W, B[1:])
ShapeError: bias: has shape (5,), expected (6,): one per output channel.
>>> convspec.reference(SPEC, X > 0, W > 0)
DTypeError: x: bool is none of float16, bfloat16, float32, float64, complex64, complex128, int8, \
int16, int32, int64, uint8, uint16, uint32, uint64.
>>> convspec.get_backend(["torch"])
BackendNotFoundError: backend: ['torch'] is not registered; there are: {known}.
>>> convspec.to_framework(X, None)
BackendNotFoundError: backend: None is not registered; there are: {known}.
>>> convspec.convert_layout(X, "NCHW", "channels_last")
LayoutError: target: 'channels_last' is short for a spec's data layout; write letters here.
>>> convspec.convert_layout(X, "NCW", "NWC")
LayoutError: x: has 4 axes, but source 'NCW' names 3.
  x: shape (2, 4, 5, 5)
"""
)


@pytest.mark.parametrize(("code", "error", "message"), QUESTIONS)
def test_questions(code: str, error: type[ConvSpecError], message: str) -> None:
    with refused(error, message):
        answer(code)


def test_support_tells_what_a_call_would_raise() -> None:
    assert SPEC.supports("numpy", 5).reason == (  # type: ignore[arg-type]
        "input_shape: expected one size for each letter of layout 'NCHW', got 5."
    )
    assert not SPEC.supports("numpy", (2, 4, 2, 5))
    assert not SPEC.supports("numpy", dtype=object)
    assert not SPEC.supports("numpy", output_size=5)


# ---- calls ----

CALLS = transcript(
    """
>>> call(x=np.ones((2, 0, 5, 5), np.float32))
ShapeError: x: has 0 channels on axis 1 (C), but the spec has in_channels=4.
  x: N=2, C=0, H=5, W=5
  Groups are never inferred; check layout='NCHW' or pass groups=.
>>> call(x=X[:, :2])
ShapeError: x: has 2 channels on axis 1 (C), but the spec has in_channels=4.
  x: N=2, C=2, H=5, W=5
  Groups are never inferred; check layout='NCHW' or pass groups=.
>>> call(x=np.ones((2, 8, 5, 5), np.float32))
ShapeError: x: has 8 channels on axis 1 (C), but the spec has in_channels=4.
  x: N=2, C=8, H=5, W=5
  Groups are never inferred; check layout='NCHW' or pass groups=.
>>> call(UP, x=X[:, :1])
ShapeError: x: has 1 channels on axis 1 (C), but the spec has in_channels=4.
  x: N=2, C=1, H=5, W=5
  Groups are never inferred; check layout='NCHW' or pass groups=.
>>> call(SPEC.replace(layout="NHWC"))
ShapeError: x: has 5 channels on axis 3 (C), but the spec has in_channels=4.
  x: N=2, H=4, W=5, C=5
  Groups are never inferred; check layout='NHWC' or pass groups=.
>>> call(x=X[0])
LayoutError: x: has 3 axes, but layout 'NCHW' names 4.
  x: shape (4, 5, 5)
>>> call(SPEC.replace(layout="CHW"))
LayoutError: x: has 4 axes, but layout 'CHW' names 3.
  x: shape (2, 4, 5, 5)
>>> call(x=np.ones((), np.float32))
LayoutError: x: has 0 axes, but layout 'NCHW' names 4.
  x: shape ()
>>> call(x=X[:, :, :, :0])
ShapeError: x: axis W has size 0; only the batch may be empty.
  x: N=2, C=4, H=5, W=0
>>> call(UP, x=X[:0, :, :0])
ShapeError: x: axis H has size 0; only the batch may be empty.
  x: N=0, C=4, H=0, W=5
>>> call(x=X[:0, :, :2])
ShapeError: kernel_size: on axis H the kernel spans 3 positions (size 3, dilation 1), but the \
padded input has 2.
  2 + 0 + 0 = 2; pad more, or shrink the kernel.
>>> call(SPEC.replace(dilation=(1, 3), padding=((0, 0), (2, -1))))
ShapeError: kernel_size: on axis W the kernel spans 7 positions (size 3, dilation 3), but the \
padded input has 6.
  5 + 2 + -1 = 6; pad more, or shrink the kernel.
>>> call(SPEC.replace(padding=(5, 0), padding_mode="reflect"))
ShapeError: padding: 'reflect' on axis H (size 5) reaches at most 4 positions, got (5, 5).
  Pad less, or use padding_mode='replicate' or 'zeros'.
>>> call(SPEC.replace(padding=((-1, 0), (6, -6)), padding_mode="circular"))
ShapeError: padding: 'circular' on axis W (size 5) reaches at most 5 positions, got (6, -6).
  Pad less, or use padding_mode='replicate' or 'zeros'.
>>> call(SPEC.replace(dilation=3, padding="same", padding_mode="reflect"), x=X[..., :3])
ShapeError: padding: 'reflect' on axis W (size 3) reaches at most 2 positions, got (3, 3).
  Pad less, or use padding_mode='replicate' or 'zeros'.
>>> call(UP.replace(padding=20))
ShapeError: padding: on axis H the output would have -29 positions: (5-1)*2 - 20 - 20 + 3 + 0.
  Crop less.
>>> call(weight=W.transpose(2, 3, 1, 0))
ShapeError: weight: has another size than expected on axis O, I, H, W.
  given (3, 3, 2, 6), expected (6, 2, 3, 3) for 'OIHW' (groups=2, group_axis='O')
  The number of elements fits: is the array in another order than weight_layout?
>>> call(weight=np.ones((6, 4, 3, 3), np.float32))
ShapeError: weight: has another size than expected on axis I.
  given (6, 4, 3, 3), expected (6, 2, 3, 3) for 'OIHW' (groups=2, group_axis='O')
>>> call(weight=W[..., 0])
ShapeError: weight: has 3 axes, but weight_layout 'OIHW' names 4.
  given (6, 2, 3), expected (6, 2, 3, 3) for 'OIHW' (groups=2, group_axis='O')
>>> call(weight=None)
ShapeError: weight: expected an array, got None.
>>> call(bias=B[:1])
ShapeError: bias: has shape (1,), expected (6,): one per output channel.
>>> call(bias=B[None])
ShapeError: bias: has shape (1, 6), expected (6,): one per output channel.
>>> call(bias=np.ones((), np.float32))
ShapeError: bias: has shape (), expected (6,): one per output channel.
>>> call(SPEC.replace(bias=False), bias=B)
ShapeError: bias: the spec says bias=False, but the call has one; drop it, or use \
spec.replace(bias=True).
>>> call(out_dtype="int32")
DTypeError: out_dtype: float32 arrays cannot give int32; that would lose a part.
>>> call(x=X.astype("c8"), weight=W.astype("c8"), out_dtype=np.float32)
DTypeError: out_dtype: complex64 arrays cannot give float32; that would lose a part.
>>> call(backend="Torch")
BackendNotFoundError: backend: 'Torch' is not registered; there are: {known}.
>>> call(backend="")
BackendNotFoundError: backend: '' is not registered; there are: {known}.
>>> call(backend=False)
BackendNotFoundError: backend: expected a name or a Backend, got False.
>>> call(backend=[])
BackendNotFoundError: backend: expected a name or a Backend, got [].
>>> call(backend=np.array([1]))
BackendNotFoundError: backend: expected a name or a Backend, got array([1]).
>>> call(backend=convspec.Backend)
BackendNotFoundError: backend: expected a name or a Backend, got <class 'convspec.backend.Backend'>.
>>> call(output_size=3)
ShapeError: output_size: only a transposed convolution takes one, got 3.
>>> call(UP.replace(output_padding=(0, 1)), output_size=12)
ShapeError: output_size: cannot be combined with output_padding=(0, 1); give one of them.
>>> call(UP, output_size=13)
ShapeError: output_size[0] (axis H): the forward convolution maps 11 to 12 positions onto this \
input's 5, got 13.
>>> call(UP, output_size=(11, 10))
ShapeError: output_size[1] (axis W): the forward convolution maps 11 to 12 positions onto this \
input's 5, got 10.
>>> call(UP, output_size=0)
ShapeError: output_size[0] (axis H): the forward convolution maps 11 to 12 positions onto this \
input's 5, got 0.
>>> call(UP, output_size=(11, -1))
ShapeError: output_size[1] (axis W): the forward convolution maps 11 to 12 positions onto this \
input's 5, got -1.
>>> call(UP.replace(padding="same"), output_size=11)
ShapeError: output_size[0] (axis H): the forward convolution maps 9 to 10 positions onto this \
input's 5, got 11.
>>> call(UP, output_size=11.0)
ShapeError: output_size[0] (axis H): expected an integer, got 11.0 (float).
>>> call(UP, output_size=(11, True))
ShapeError: output_size[1] (axis W): expected an integer, got the bool True.
>>> call(UP, output_size=(11, float("nan")))
ShapeError: output_size[1] (axis W): expected an integer, got nan (float).
>>> call(UP, output_size=[11, None])
ShapeError: output_size[1] (axis W): expected an integer, got None (NoneType).
>>> call(UP, output_size="11")
ShapeError: output_size[0] (axis H): expected an integer, got '11' (str).
>>> call(UP, output_size={})
ShapeError: output_size[0] (axis H): expected an integer, got {} (dict).
>>> call(UP, output_size=2**64)
ShapeError: output_size[0] (axis H): must be at most 9223372036854775807, got 18446744073709551616.
>>> call(UP, output_size=(11,))
ShapeError: output_size: (11,) has 1 entries, but there are 2 spatial axes (HW).
  Give one entry per axis, or a scalar for all of them.
>>> call(UP, output_size=(2, 6, 11, 11))
ShapeError: output_size: (2, 6, 11, 11) has 4 entries, but there are 2 spatial axes (HW).
  Give one entry per axis, or a scalar for all of them.
"""
)


@pytest.mark.parametrize(("code", "error", "message"), CALLS)
def test_calls(make: Make, code: str, error: type[ConvSpecError], message: str) -> None:
    def call(spec: ConvSpec = SPEC, **given: Any) -> Any:
        arrays = {"x": X, "weight": np.ones(spec.weight_shape, np.float32), **given}
        for name in ("x", "weight", "bias"):
            if arrays.get(name) is not None:
                arrays[name] = make(arrays[name])
        return spec(**arrays)

    for size in (11, (11, 11)):  # what equals these must not find what they have left in a cache
        call(UP, output_size=size)
    with refused(error, message):
        answer(code, call=call)


FUNCTIONAL = transcript(
    """
>>> function(x, w, groups=None)
ShapeError: groups: expected an integer, got None (NoneType).
>>> function(x, w, groups=2.0)
ShapeError: groups: expected an integer, got 2.0 (float).
>>> function(x, w, groups="2")
ShapeError: groups: expected an integer, got '2' (str).
>>> function(x, w, groups=0)
ShapeError: groups: must be at least 1, got 0.
>>> function(x, w, stride=True)
ShapeError: stride: expected an integer, got the bool True.
>>> function(x, w, stride=1.0)
ShapeError: stride: expected an integer, got 1.0 (float).
>>> function(x, w, stride=[1, True])
ShapeError: stride[1] (axis W): expected an integer, got the bool True.
>>> function(x, w, stride=np.array([1.0, 1.0]))
ShapeError: stride[0] (axis H): expected an integer, got np.float64(1.0) (float64).
>>> function(x, w, dilation={})
ShapeError: dilation: expected an integer, got {} (dict).
>>> function(x, w, flip_kernel=1)
ConvSpecError: flip_kernel: expected True or False, got 1.
>>> function(x, w, group_axis={})
ConvSpecError: group_axis: {} is none of O, I.
>>> function(x, w, layout={})
LayoutError: layout: expected a string of axis letters such as 'NCHW', got {}.
>>> function(x, w, layout=np.array(["N"]))
LayoutError: layout: expected a string of axis letters such as 'NCHW', got array(['N'], \
dtype='<U1').
>>> function(x, w, weight_layout="IOW")
LayoutError: weight: has 4 axes, but weight_layout 'IOW' names 3.
  weight: shape (4, 4, 1, 3)
>>> function(x, w, layout="NXYC", weight_layout="OIHW")
LayoutError: weight_layout: 'OIHW' has the spatial axes 'HW', but layout 'NXYC' has 'XY'.
>>> function(x, w, layout="CHW")
LayoutError: x: has 4 axes, but layout 'CHW' names 3.
  x: shape (2, 4, 5, 5)
>>> function(x, w[:, :, :0])
ShapeError: kernel_size[0] (axis H): must be at least 1, got 0.
"""
)


@pytest.mark.parametrize(("code", "error", "message"), FUNCTIONAL)
@pytest.mark.parametrize("function", [convspec.conv, convspec.conv_transpose])
def test_functional(
    make: Make,
    function: Callable[..., Any],
    code: str,
    error: type[ConvSpecError],
    message: str,
) -> None:
    x, w = make(X), make(np.ones((4, 4, 1, 3), np.float32))
    plain = function(x, w, stride=(1, 1), groups=1)  # as above
    assert function(x, w, stride=np.array([1, 1])).shape == plain.shape
    with refused(error, message):
        answer(code, function=function, x=x, w=w)


# ---- anything at all ----

GARBAGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 5),
    st.floats(),
    st.text("NCOIMDHWnchw", max_size=5),
    st.sampled_from(["same", "valid", "causal", "channels_last", "zeros", "reflect", "O", "NHWC"]),
    st.binary(max_size=3),
    st.builds(np.array, st.lists(st.integers(-1, 3), max_size=3)),
    st.builds(np.float32, st.floats(width=32)),
    st.sampled_from([np.True_, object(), int, torch.ones(2), tf.ones(2), jnp.ones(2), ...]),
)
ANYTHING = st.recursive(GARBAGE, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
FIELDS = tuple(ConvSpec.__dataclass_fields__)


@settings(max_examples=400, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(FIELDS), ANYTHING, min_size=1, max_size=4))
def test_the_constructor_raises_nothing_else(changes: dict) -> None:
    try:
        spec = new(**changes)
    except ConvSpecError as error:
        check_style(str(error))
    else:
        assert answer(repr(spec)) == spec


@settings(max_examples=200, deadline=None)
@given(shape=ANYTHING, size=ANYTHING, transposed=st.booleans())
def test_shapes_raise_nothing_else(shape: Any, size: Any, transposed: bool) -> None:
    spec = ConvSpec(2, 2, 1, layout="NCW", transposed=transposed)
    for input_shape in (shape, (1, 2, shape)):
        try:
            found = spec.output_shape(input_shape, size)
        except ConvSpecError as error:
            check_style(str(error))
        else:
            assert all(type(n) is int for n in found)
