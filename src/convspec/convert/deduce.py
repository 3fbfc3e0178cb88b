"""What names and shapes tell, and what they leave open: nothing is ever guessed.

A kernel whose shape and bias fit several kinds is left open unless a framework gave it its name
(``conv2d_1``, ``Conv_0``) or, where a mistake could not go unseen because the readings give
different shapes, its name says it (``conv3``, ``deconv``, ``depthwise``). A square one stays open.
Groups of transposed convolutions come from the bias, or are left open. So are arrays with three
axes that no name calls a convolution: they may be bilinear layers or stacks of matrices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConvSpecError
from ..spec import ConvSpec
from .kinds import Kind
from .names import KERAS_CLASSES, Module
from .orders import DEPTHWISE, KNOWN, in_order, weight_spec

HERE = "names and shapes"

#: Conventions of frameworks that name layers, and those names, by kind.
NAMING = ("keras", "tensorflow", "tflite", "jax", "flax", "linen")
_GIVEN = {
    "conv": r"(conv[123]d|Conv)(_\d+)?",
    "conv_transpose": r"(conv[123]d_transpose|ConvTranspose)(_\d+)?",
    "depthwise": r"depthwise_conv[12]d(_\d+)?",
}
#: Conventions whose transposed convolutions may have groups, and those whose kernels may be stored
#: as the forward convolution's (Flax: ``transpose_kernel=True``).
GROUPED = ("torch", "onnx", "mlx", "mxnet", "matconvnet", "jax")
FORWARD = ("flax", "linen", "jax")
#: Words that say it, wherever they stand in the name of a layer, and those that make it doubtful.
_TRANSPOSED = r"(?i)deconv|conv_?transpose|transposed?_?conv|conv_?trans\b"
_DEPTHWISE = r"(?i)depth_?wise"
_CONV = r"(?i)conv"
_UP = r"(?i)up|dec|trans|gen"
_DENSE = r"(?i)(^|_)(fc|linear|dense|proj|head|classifier|logits)\d*(_|$)"
_EMBEDDING = r"(?i)embed|^wte$|^wpe$"
#: Dense layers of GPT-2 and its heirs, whose matrices are (inputs, outputs) in torch too.
_INPUTS_FIRST = r"c_(attn|proj|fc)|q_attn"
_NORM = r"(?i)norm|(^|_)(bn|ln|gn)\d*(_|$)"
_PRELU = r"(?i)p_?re_?lu"
#: What is added to a line where a Flax kernel may be stored either way.
_AS_FORWARD = (
    '{ kind = "conv_transpose", order = "{}OI", flipped = false }, with transpose_kernel=True'
)


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
    module: Module, shapes: Mapping[str, tuple[int, ...]], source: str, target: str
) -> Kind | Unclear:
    """What a layer is, by its names and shapes.

    Args:
        module: the tensors of the layer.
        shapes: shapes of all tensors by name.
        source, target: conventions.
    """
    if module.layer in KERAS_CLASSES:
        return Kind(KERAS_CLASSES[module.layer], HERE)
    if "weight" not in module.parts:
        return Kind("batch_norm" if {"mean", "var"} <= set(module.parts) else "copy", HERE)
    shape = shapes[module.main.full]
    bias = shapes[module.parts["bias"].full] if "bias" in module.parts else None
    hint = module.parts["weight"].hint
    if hint in ("prelu", "norm", "embedding") or len(shape) < 2 or bias == shape:
        return _vector(module, shape, hint, bias)
    if len(shape) == 2:
        return _matrix(module, shape, bias, hint, source)
    return _Kernel(module, shape, bias, source, target).kind(hint)


def _last(module: Module) -> str:
    return module.path[-1] if module.path else ""


def _unclear(module: Module, shape: tuple[int, ...], reason: str, *kinds: str) -> Unclear:
    first, *others = (kind if kind.startswith("{") else f'"{kind}"' for kind in kinds)
    line = f'"{module.main.full}" = {first}'
    if others:
        line += "  # or " + ", ".join(others)
    return Unclear(module.main.full, shape, reason, line)


class _Kernel:
    """An array of three axes or more, and what it can be read as."""

    def __init__(
        self,
        module: Module,
        shape: tuple[int, ...],
        bias: tuple[int, ...] | None,
        source: str,
        target: str,
    ) -> None:
        self.module, self.shape, self.bias = module, shape, bias
        self.source, self.target = source, target
        self.name, self.whole = _last(module), ".".join(module.path)

    def kind(self, hint: str) -> Kind | Unclear:
        if hint == "depthwise":
            return Kind("depthwise", HERE)
        conv, up = self._spec("conv"), self._transposed()
        distinct = DEPTHWISE.get(self.source) != DEPTHWISE.get(self.target)
        depthwise = self._spec("depthwise") if distinct else None
        if self.source in NAMING:
            for kind, pattern in _GIVEN.items():
                if re.fullmatch(pattern, self.name):
                    return self._given(kind, conv, up, depthwise)
        square = conv is not None and conv.in_channels == conv.out_channels
        says_up = re.search(_TRANSPOSED, self.name) is not None
        if says_up and up is not None and not square:
            return self._as_transposed(up)
        if depthwise and re.search(_DEPTHWISE, self.name) and not re.search(_UP, self.whole):
            return Kind("depthwise", HERE)
        readings = [
            kind
            for kind, spec in (("conv", conv), ("conv_transpose", up), ("depthwise", depthwise))
            if spec is not None
        ]
        doubtful = up is not None and up.groups > 1 and re.search(_UP, self.whole)
        if conv is not None and re.search(_CONV, self.name) and not (square or says_up or doubtful):
            return Kind("conv", HERE)
        if up is not None and conv is not None and up.groups > 1 and not self._differ(conv, up):
            readings.remove("conv_transpose")
        if readings == ["conv_transpose"] and up is not None:
            return self._as_transposed(up)
        if len(self.shape) == 3 and not re.search(_CONV, self.name):
            readings.append("copy")
        if len(readings) == 1:
            return Kind(readings[0], HERE)
        if not readings:
            return self._unclear(f"a bias of shape {self.bias} fits no convolution of it", "copy")
        why = "has no bias to tell them apart"
        if self.bias is not None:
            why = f"its bias {self.bias} fits all of them"
        words = ["a bilinear layer" if kind == "copy" else kind for kind in readings]
        if re.search(_UP, self.whole) and "conv_transpose" in readings:
            readings.insert(0, readings.pop(readings.index("conv_transpose")))
        lines = [
            f'{{ kind = "{kind}", groups = {up.groups} }}'
            if kind == "conv_transpose" and up is not None and up.groups > 1
            else kind
            for kind in readings
        ]
        return self._unclear(f"{' or '.join(words)}: {why}", *lines)

    def _unclear(self, reason: str, *lines: str) -> Unclear:
        return _unclear(self.module, self.shape, reason, *lines)

    def _given(
        self, kind: str, conv: ConvSpec | None, up: ConvSpec | None, depthwise: ConvSpec | None
    ) -> Kind | Unclear:
        """By a name that the framework gave."""
        if kind == "conv_transpose":
            if up is not None:
                return self._as_transposed(up)
        elif kind == "depthwise" or conv is not None:
            return Kind(kind, HERE)
        return self._unclear(f"{kind}, but a bias of shape {self.bias} does not fit", kind, "copy")

    def _as_transposed(self, up: ConvSpec) -> Kind | Unclear:
        """A transposed convolution, if its groups and the order it is stored in are certain."""
        plain = "conv_transpose"
        if self.source in FORWARD and (self.bias is None or up.in_channels == up.out_channels):
            letters = "".join(c for c in up.weight_layout if c not in "OI")
            return self._unclear(
                "a transposed kernel, stored in one order or the other",
                plain,
                _AS_FORWARD.replace("{}", letters),
            )
        untold = self.source in GROUPED and (self.bias is None or up.group_axis == "O")
        if untold and min(up.in_channels, up.out_channels) > 1:
            return self._unclear(
                "a transposed kernel, whose shape does not tell its groups",
                '{ kind = "conv_transpose", groups = 1 }',
            )
        return Kind(plain, HERE, {"groups": up.groups})

    def _spec(self, kind: str, groups: int | None = None) -> ConvSpec | None:
        """The convolution that the kernel would be, if its bias agrees."""
        try:
            spec = weight_spec(self.shape, self.source, kind=kind, groups=groups)
        except ConvSpecError:
            return None
        if kind == "depthwise" and spec.out_channels == 1:
            return None  # one channel in and out: the same array either way
        return spec if self.bias is None or self.bias == spec.bias_shape else None

    def _transposed(self) -> ConvSpec | None:
        """Likewise the transposed one, with the groups that the bias tells."""
        plain = self._spec("conv_transpose")
        if plain is not None or self.source not in GROUPED or len(self.bias or ()) != 1:
            return plain
        if KNOWN[self.source].transposed_group_axis == "O":
            return None
        outputs = weight_spec(self.shape, self.source, kind="conv_transpose").out_channels
        assert self.bias is not None
        groups, rest = divmod(self.bias[0], max(outputs, 1))
        return self._spec("conv_transpose", groups) if groups and not rest else None

    def _differ(self, conv: ConvSpec, up: ConvSpec) -> bool:
        """Whether a mistake would go unseen: other numbers in the same shape."""
        as_conv = in_order(conv, self.target, "conv")
        as_up = in_order(up, self.target, "conv_transpose")
        if as_conv.weight_shape != as_up.weight_shape:
            return False
        moved = as_up.flip_kernel != up.flip_kernel or as_up.group_axis != up.group_axis
        pairs = ((conv, as_conv), (up, as_up))
        orders = [[s.weight_layout.index(c) for c in t.weight_layout] for s, t in pairs]
        return moved or orders[0] != orders[1]


def _matrix(
    module: Module,
    shape: tuple[int, ...],
    bias: tuple[int, ...] | None,
    hint: str,
    source: str,
) -> Kind | Unclear:
    name = _last(module)
    square = shape[0] == shape[1]
    heir = re.fullmatch(_INPUTS_FIRST, name) is not None
    lines = ('{ kind = "dense", inputs_first = true }', '{ kind = "dense", inputs_first = false }')
    if bias is not None and (len(bias) != 1 or bias[0] not in shape):
        return _unclear(module, shape, f"a matrix, whose bias {bias} does not fit", "copy")
    if source in NAMING or hint == "kernel":
        if bias is not None and bias[0] != shape[1]:
            return _unclear(module, shape, "a matrix (outputs, inputs), by its bias", lines[1])
        if bias is not None or hint == "kernel":
            return Kind("dense", HERE)
    elif heir and (square or bias is None):
        return _unclear(
            module, shape, "a matrix, (inputs, outputs) if it is a Conv1D as in GPT-2", *lines
        )
    elif bias is not None:
        return Kind("dense", HERE, inputs_first=None if bias[0] == shape[0] else True)
    said = [
        kind
        for kind, pattern in (("embedding", _EMBEDDING), ("dense", _DENSE))
        if re.search(pattern, name)
    ]
    if len(said) == 1 and not (square and said == ["embedding"]):
        return Kind(said[0], HERE)
    return _unclear(module, shape, "a matrix without a bias", "dense", "embedding", "copy")


def _vector(
    module: Module, shape: tuple[int, ...], hint: str, bias: tuple[int, ...] | None
) -> Kind | Unclear:
    name = _last(module)
    if {"mean", "var"} <= set(module.parts):
        return Kind("batch_norm", HERE)
    if not shape and hint != "prelu":  # one number: no layer has that for a weight
        return Kind("copy", HERE)
    if hint in ("prelu", "norm", "embedding"):
        return Kind(hint, HERE)
    if bias is not None or re.search(_NORM, name):
        return Kind("norm", HERE)
    if re.search(_PRELU, name):
        return Kind("prelu", HERE)
    kinds = ("prelu", "norm", "copy") if shape == (1,) else ("norm", "prelu", "copy")
    return _unclear(module, shape, "a vector without a bias", *kinds)
