"""The layers of a checkpoint: which tensors each has, and what it is, by the first who knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from ..errors import ConvSpecError
from ..spec import ConvSpec
from . import names
from .deduce import HERE, Unclear, deduce
from .errors import ConvertError
from .files import Entry
from .kinds import KERNELS, Kind, Rules
from .names import Module, Name
from .orders import DEPTHWISE, KNOWN, Order, in_order, weight_spec

#: Conventions whose dense layers have (outputs, inputs).
OUTPUTS_FIRST = ("torch", "onnx", "mlx", "mxnet", "tflite")
#: Formats that keep names in alphabetical order, whatever order they were made in; JAX sorts the
#: keys of its trees.
SORTED = (
    *("hdf5", "safetensors", "safetensors-sharded", "tensorflow", "orbax", "msgpack"),
    *("keras-weights", "keras"),
)


@dataclass(frozen=True)
class Known:
    """What is known of the tensors beside their names and shapes.

    Attributes:
        rules: the user's.
        metadata: kinds and specs by tensor, as this library stamped them.
        model: kinds and specs by layer or tensor, as a model tells them.
    """

    rules: Rules
    metadata: Mapping[str, tuple[Kind, ConvSpec | None]] = field(default_factory=dict)
    model: Mapping[str, tuple[Kind, ConvSpec | None]] = field(default_factory=dict)

    def find(self, module: Module) -> tuple[Kind, ConvSpec | None] | None:
        """What a layer is, by the first who knows."""
        layer = ".".join(module.path)
        tensors = [name.full for name in (module.main, *module.parts.values())]
        keys = (*tensors, layer, "/".join(module.path))
        told = [table[key] for table in (self.metadata, self.model) for key in keys if key in table]
        for key in (*tensors, layer):
            kind = self.rules.find(key)
            if kind is not None and kind.name != "skip":
                others = [other for other, _ in told if other.name == kind.name and not other.doubt]
                return (_with_orders(kind, others[0]) if others else kind), None
        return told[0] if told else None

    def order(self, module: Module) -> Kind | None:
        """What rules without a kind say of a layer's features."""
        keys = [*(name.full for name in module.parts.values()), ".".join(module.path)]
        return next((kind for key in keys if (kind := self.rules.order(key))), None)


def _with_orders(rule: Kind, told: Kind) -> Kind:
    """A rule, with what it leaves out of the orders of features that somebody else has told."""
    return replace(
        rule,
        flatten=told.flatten if rule.flatten is None else rule.flatten,
        unflatten=told.unflatten if rule.unflatten is None else rule.unflatten,
        axes=rule.axes or told.axes,
        rank=told.rank if rule.rank is None else rule.rank,
        inputs_first=told.inputs_first if rule.inputs_first is None else rule.inputs_first,
        parts=rule.parts or told.parts,
    )


def same_orders(source: str, target: str) -> bool:
    """Whether every array is the same in both conventions."""
    a, b = KNOWN[source], KNOWN[target]
    return (
        replace(a, name=b.name) == b
        and DEPTHWISE.get(source) == DEPTHWISE.get(target)
        and (source in OUTPUTS_FIRST) == (target in OUTPUTS_FIRST)
    )


def channels_last(convention: str) -> bool:
    data = KNOWN[convention].data
    return data.index("C") > data.index("*")


class Layers:
    """The layers of a checkpoint.

    Attributes:
        modules: their tensors, in the order in which they were made where the file tells it.
        alphabetical: whether the file keeps its names sorted, so that this order is lost.
        found: what each layer is, by path, and its spec where somebody has told it.
        unclear: tensors of which nobody has said what they are.
        skipped: tensors that the rules leave out.
        same: whether every array is the same in source and target.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        told: Mapping[str, tuple[str, str]],
        source: str,
        target: str,
        known: Known,
        *,
        source_format: str,
        keras: bool,
    ) -> None:
        self.source, self.target, self.known, self.keras = source, target, known, keras
        self.shapes = {name: entry.shape for name, entry in entries.items()}
        self.same = same_orders(source, target)
        self.found: dict[tuple[str, ...], tuple[Kind, ConvSpec | None]] = {}
        self.unclear: list[Unclear] = []
        self.skipped: list[tuple[Name, Kind]] = []
        order = list(entries)
        levels = [name.split("/") for name in order]
        self.alphabetical = source_format in SORTED and levels == sorted(levels)
        if self.alphabetical:
            order.sort(key=_natural)
        self.modules = names.modules([self._parsed(name, told) for name in order])
        self._in_the_models_order()
        for module in self.modules:
            if module.layer and not module.layer.startswith("separable_conv"):  # that is two layers
                kind = known.find(module)
                names.number(module, kind[0].name if kind else "", kind[0].parts if kind else ())
        self._promote()

    def _parsed(self, name: str, layers: Mapping[str, tuple[str, str]]) -> Name:
        if name in layers:
            return names.parse_keras(name, *layers[name])
        parsed = names.parse(name, self.source)
        if not parsed.part and name in self.known.model:
            layer, part = self.known.model[name][0].place
            if part:
                return replace(parsed, path=tuple(layer.split(".")), part=part, hint="")
        return parsed

    def _in_the_models_order(self) -> None:
        """Layers as a model has them, if it has all that have weights."""
        places = {name: i for i, name in enumerate(self.known.model)}
        at: list[tuple[int, int]] = []
        for i, module in enumerate(self.modules):
            tensors = [name.full for name in module.parts.values()]
            keys = (*tensors, ".".join(module.path), "/".join(module.path))
            found = [places[key] for key in keys if key in places]
            if found:
                at.append((min(found), i))
            elif "weight" in module.parts:
                return
            else:
                at.append((len(places), i))
        if places:
            self.modules = [self.modules[i] for _, i in sorted(at)]
            self.alphabetical = False

    def _promote(self) -> None:
        """Let tensors of unusual names be the weights of layers, where somebody says so."""
        tables = (self.known.metadata, self.known.model)
        for module in list(self.modules):
            for name in list(module.others):
                kind = self.known.rules.find(name.full)
                told = [table[name.full][0] for table in tables if name.full in table]
                for found in [kind] if kind is not None else told[:1]:
                    numbered = name.layer and found.name not in (*KERNELS, "dense", "embedding")
                    if found.name not in ("copy", "skip") and not numbered:
                        module.others.remove(name)
                        path = (*module.path, name.leaf)
                        own = replace(name, path=path)  # two of one layer have two names
                        self.modules.append(Module(path, {"weight": own}))

    # ---- what each is ----

    def find(self) -> None:
        """What each layer is; what is open is gathered in ``unclear``."""
        for module in self.modules:
            self._drop_skipped(module)
            if module.parts or module.others:
                self._find(module)
        self._doubt_square_matrices()

    def _find(self, module: Module) -> None:
        found = self.known.find(module)
        if found is not None and found[0].doubt:
            name, kind = module.main.full, found[0]
            line = f'"{name}" = "{kind.name or "copy"}"'
            self.unclear.append(Unclear(name, self.shapes[name], kind.doubt, line))
            return
        if found is None and not module.parts:  # each of the others is looked at by itself
            found = Kind("copy", HERE), None
        if found is None:
            kind_ = deduce(module, self.shapes, self.source, self.target)
            if isinstance(kind_, Unclear):
                if not (self.same and not self.keras):
                    self.unclear.append(kind_)
                    return
                kind_ = Kind("copy", HERE)
            found = kind_, None
        self.found[module.path] = self._as_the_target_has_it(module, *found)

    def _as_the_target_has_it(
        self, module: Module, kind: Kind, spec: ConvSpec | None
    ) -> tuple[Kind, ConvSpec | None]:
        """A convolution with a group for each channel, where the target has a layer for that."""
        own = DEPTHWISE.get(self.source) != DEPTHWISE.get(self.target)
        if own and kind.name == "conv" and kind.origin == "model" and "weight" in module.parts:
            self.found[module.path] = kind, spec
            told = self.spec(module)
            if told is not None and told.groups == told.in_channels > 1:
                return replace(kind, name="depthwise"), spec
        return kind, spec

    def _doubt_square_matrices(self) -> None:
        """Where some matrices are stored against the habit, square ones may be too."""
        odd = any(kind.origin == HERE and kind.inputs_first for kind, _ in self.found.values())
        for module in self.modules if odd else ():
            kind, _ = self.found.get(module.path, (None, None))
            if kind is None or kind.name != "dense" or kind.origin != HERE:
                continue
            name = module.main.full
            shape = self.shapes[name]
            if shape[0] == shape[1]:
                why = "a square matrix, where others of the file are (inputs, outputs)"
                line = f'"{name}" = {{ kind = "dense", inputs_first = true }}  # or false'
                self.unclear.append(Unclear(name, shape, why, line))
                del self.found[module.path]

    def _drop_skipped(self, module: Module) -> None:
        """Leave out what the rules say."""
        for name in [*module.parts.values(), *module.others]:
            kind = self.known.rules.find(name.full)
            if kind is not None and kind.name == "skip":
                self.skipped.append((name, kind))
                module.parts = {k: v for k, v in module.parts.items() if v is not name}
                module.others = [other for other in module.others if other is not name]

    # ---- asked about them ----

    def shape(self, module: Module) -> tuple[int, ...]:
        return self.shapes[module.main.full]

    def is_(self, module: Module, *kinds: str) -> bool:
        return module.path in self.found and self.found[module.path][0].name in kinds

    def is_kernel(self, module: Module) -> bool:
        """Whether a layer is a convolution, or may be one."""
        if module.path in self.found:
            return self.is_(module, *KERNELS)
        return "weight" in module.parts and len(self.shape(module)) > 2

    def outputs_first(self, module: Module) -> bool:
        """Whether a dense layer's matrix in the source is (outputs, inputs)."""
        first = self.found[module.path][0].inputs_first
        return self.source in OUTPUTS_FIRST if first is None else not first

    def sizes(self, module: Module) -> tuple[int, int]:
        """Inputs and outputs of a dense layer."""
        shape = self.shape(module)
        if len(shape) != 2:
            kind = self.found[module.path][0]
            raise ConvertError(
                f"{module.main.full}: {kind.origin} say it is a matrix, but its shape is {shape}."
            )
        return shape[::-1] if self.outputs_first(module) else shape

    def elements(self, module: Module) -> int:
        return prod(self.shape(module))

    def spec(self, module: Module) -> ConvSpec | None:
        """The convolution of a layer, in the source's orders.

        Raises:
            ConvertError: what somebody said contradicts the shape.
        """
        kind, spec = self.found[module.path]
        if "weight" not in module.parts:
            return None
        name = module.parts["weight"].full
        shape = self.shapes[name]
        order: str | Order = self.source
        if kind.order is not None:
            order = replace(kind.order, name=kind.order.name or self.source)
        try:
            if spec is None:
                arguments: dict[str, Any] = {**kind.arguments, "bias": "bias" in module.parts}
                groups = arguments.pop("groups", None)
                return weight_spec(shape, order, kind=kind.name, groups=groups, **arguments)
            ours = in_order(spec, order, kind.name)
            if kind.name == "conv" and ours.weight_shape != shape and _is_depthwise(spec):
                # Of a model of a framework that has no layer for it, as PyTorch.
                depthwise = in_order(spec, order, "depthwise")
                if depthwise.weight_shape == shape:
                    self.found[module.path] = replace(kind, name="depthwise"), spec
                    return depthwise
        except ConvSpecError as error:
            raise ConvertError(
                f"{name}: {kind.origin} say it is a {kind.name}, but its shape is {shape}: {error}"
            ) from error
        if ours.weight_shape != shape:
            raise ConvertError(
                f"{name}: {kind.origin} say its shape is {ours.weight_shape} in "
                f"{ours.weight_layout}, but it is {shape}."
            )
        return ours


def _is_depthwise(spec: ConvSpec) -> bool:
    return not spec.transposed and spec.groups == spec.in_channels


def _natural(name: str) -> list[Any]:
    """A key that sorts ``conv2`` before ``conv10``."""
    return [
        [(1, int(w), "") if w.isdecimal() else (0, 0, w) for w in re.split(r"(\d+)", level)]
        for level in name.split("/")
    ]
