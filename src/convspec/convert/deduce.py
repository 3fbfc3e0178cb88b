"""What names and shapes tell, and what they leave open: nothing is ever guessed.

A kernel whose shape and bias fit a convolution and a transposed one alike is left open unless its
name is one that a framework gave (``conv2d_1``, ``ConvTranspose_0``) or says it (``deconv``,
``depthwise``). A name with ``conv`` in it counts where the readings give different shapes, so that
a mistake could not go unseen: a square kernel stays open. Groups of transposed convolutions are
never deduced. The order of layers in the file counts where it is the order they were made in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConvSpecError
from ..spec import ConvSpec
from .kinds import Kind
from .names import KERAS_CLASSES, Module
from .orders import weight_spec

HERE = "names and shapes"

#: Names that a framework gives to layers without one, by kind.
_GIVEN = {
    "conv": r"(conv[123]d|Conv)(_\d+)?",
    "conv_transpose": r"(conv[123]d_transpose|ConvTranspose)(_\d+)?",
    "depthwise": r"depthwise_conv[12]d(_\d+)?",
}
#: Words that say it, wherever they stand in the name of a layer.
_SAID = {
    "conv_transpose": r"(?i)deconv|conv_?transpose|transposed?_?conv|conv_?trans\b",
    "depthwise": r"(?i)depth_?wise",
}
_DENSE = r"(?i)(^|_)(fc|linear|dense|proj|head|classifier|logits)\d*(_|$)"
_EMBEDDING = r"(?i)embed|^wte$|^wpe$"
_NORM = r"(?i)norm|(^|_)(bn|ln|gn)\d*(_|$)"
_PRELU = r"(?i)p_?re_?lu"


@dataclass(frozen=True)
class Unclear:
    """A tensor of which nobody has said what it is.

    Attributes:
        name: its name in the file.
        shape: its shape.
        reason: what keeps it open, in words.
        line: the line to add to the rules, which may have to be changed.
    """

    name: str
    shape: tuple[int, ...]
    reason: str
    line: str


def deduce(
    module: Module, shapes: Mapping[str, tuple[int, ...]], source: str, distinct: Sequence[str]
) -> Kind | Unclear:
    """What a layer is, by its names and shapes.

    Args:
        module: the tensors of the layer.
        shapes: shapes of all tensors by name.
        source: the convention that they are in.
        distinct: kinds of kernels that the target keeps in an order of their own.
    """
    if module.layer in KERAS_CLASSES:
        return Kind(KERAS_CLASSES[module.layer], HERE)
    name = module.path[-1] if module.path else ""
    if "weight" not in module.parts:
        return Kind("batch_norm" if {"mean", "var"} <= set(module.parts) else "copy", HERE)
    shape = shapes[module.main.full]
    bias = shapes[module.parts["bias"].full] if "bias" in module.parts else None
    hint = module.parts["weight"].hint
    if len(shape) > 2 and hint not in ("prelu", "norm", "embedding"):
        return _kernel(module, name, shape, bias, hint, source, distinct)
    if len(shape) == 2 and hint not in ("prelu", "norm", "embedding"):
        return _matrix(module, name, shape, bias, hint)
    return _vector(module, name, shape, hint, bias is not None)


def _unclear(module: Module, shape: tuple[int, ...], reason: str, *kinds: str) -> Unclear:
    first, *others = kinds
    line = f'"{module.main.full}" = "{first}"'
    if others:
        line += "  # or " + ", ".join(f'"{kind}"' for kind in others)
    return Unclear(module.main.full, shape, reason, line)


def _kernel(
    module: Module,
    name: str,
    shape: tuple[int, ...],
    bias: tuple[int, ...] | None,
    hint: str,
    source: str,
    distinct: Sequence[str],
) -> Kind | Unclear:
    if hint == "depthwise":
        return Kind("depthwise", HERE)
    for kind, pattern in _GIVEN.items():
        if re.fullmatch(pattern, name):
            return Kind(kind, HERE)
    for kind, pattern in _SAID.items():
        if re.search(pattern, name):
            return Kind(kind, HERE)
    tried = ("conv", "conv_transpose", *distinct)
    specs = {kind: _fits(kind, shape, bias, source) for kind in tried}
    fitting = {kind: spec for kind, spec in specs.items() if spec is not None}
    readings = list(fitting)
    if len(readings) == 1:
        return Kind(readings[0], HERE)
    if "conv" in fitting and re.search(r"(?i)conv", name):
        conv = fitting["conv"]
        if "conv_transpose" not in fitting or conv.in_channels != conv.out_channels:
            return Kind("conv", HERE)
    if not readings:
        return _unclear(
            module, shape, f"a bias of shape {bias} fits no convolution of this shape", "copy"
        )
    why = "has no bias to tell them apart" if bias is None else f"its bias {bias} fits all of them"
    return _unclear(module, shape, f"{' or '.join(readings)}: {why}", *readings)


def _fits(
    kind: str, shape: tuple[int, ...], bias: tuple[int, ...] | None, source: str
) -> ConvSpec | None:
    """The convolution that a kernel would be, if its bias agrees."""
    try:
        spec = weight_spec(shape, source, kind=kind)
    except ConvSpecError:
        return None
    if kind == "depthwise" and spec.out_channels == 1:
        return None  # one channel in and out: the same array either way
    return spec if bias is None or bias == spec.bias_shape else None


def _matrix(
    module: Module,
    name: str,
    shape: tuple[int, ...],
    bias: tuple[int, ...] | None,
    hint: str,
) -> Kind | Unclear:
    if hint == "kernel" or (bias is not None and bias[0] in shape):
        return Kind("dense", HERE)
    said = [
        kind
        for kind, pattern in (("embedding", _EMBEDDING), ("dense", _DENSE))
        if re.search(pattern, name)
    ]
    if len(said) == 1:
        return Kind(said[0], HERE)
    return _unclear(module, shape, "a matrix without a bias", "dense", "embedding", "copy")


def _vector(
    module: Module, name: str, shape: tuple[int, ...], hint: str, bias: bool
) -> Kind | Unclear:
    if {"mean", "var"} <= set(module.parts):
        return Kind("batch_norm", HERE)
    if not shape and hint != "prelu":  # one number: no layer has that for a weight
        return Kind("copy", HERE)
    if hint in ("prelu", "norm", "embedding"):
        return Kind(hint, HERE)
    if bias or re.search(_NORM, name):
        return Kind("norm", HERE)
    if re.search(_PRELU, name):
        return Kind("prelu", HERE)
    return _unclear(module, shape, "a vector without a bias", "norm", "prelu", "copy")
