"""The plan of a conversion, decided before anything is written: one action for each tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from ..dtypes import FLOAT, HALF
from ..errors import ConvSpecError
from ..layouts import spatial_letters, standard_order
from ..spec import ConvSpec
from . import names
from .deduce import HERE, Unclear, deduce
from .errors import ConvertError
from .files import Entry
from .files.protocol import dtype_of, native
from .kinds import KERNELS, Flatten, Kind, Rules
from .names import Module, Name
from .orders import DEPTHWISE, KNOWN, in_order, weight_spec
from .steps import Reorder, Reshape, Rows, Step, Transpose

#: Conventions whose dense layers have (outputs, inputs).
OUTPUTS_FIRST = ("torch", "onnx", "mlx", "mxnet", "tflite")
#: Formats that number variables by class of layer instead of naming them.
KERAS_FILES = ("keras-weights", "keras")
#: Formats that keep names in alphabetical order, whatever order they were made in.
SORTED = ("hdf5", "safetensors", "safetensors-sharded", "tensorflow", "orbax", *KERAS_FILES)


@dataclass(frozen=True)
class Action:
    """What happens to one tensor.

    Attributes:
        name: in the source.
        kind: of its layer.
        part: of the layer, one of :data:`names.PARTS`, or ``""``.
        source_shape: shape in the source.
        target: name in the target; ``""`` if it is left out.
        target_shape: shape in the target.
        dtype: element type in the target.
        steps: what is done to it.
        spec: the convolution, in the target's convention, of a kernel.
        source_spec: the same in the source's convention.
        layer: the name of its layer.
        note: why it is left out.
    """

    name: str
    kind: Kind
    part: str
    source_shape: tuple[int, ...]
    target: str
    target_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    steps: tuple[Step, ...] = ()
    spec: ConvSpec | None = None
    source_spec: ConvSpec | None = None
    layer: str = ""
    note: str = ""

    def __str__(self) -> str:
        """The action in words."""
        if self.note:
            return f"left out: {self.note}"
        return ", ".join(map(str, self.steps)) or "copy"


@dataclass
class Plan:
    """All actions, and what keeps them from being carried out.

    Attributes:
        source, target: conventions.
        actions: one for each tensor of the source, in its order.
        unclear: tensors of which nobody has said what they are; none may be left.
        skipped: what the file holds beside tensors, and why it is left out.
        unused: rules that matched nothing.
        notes: what the user should know.
        total: how many tensors the source has.
    """

    source: str
    target: str
    actions: list[Action] = field(default_factory=list)
    unclear: list[Unclear] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    total: int = 0

    @property
    def written(self) -> list[Action]:
        return [action for action in self.actions if action.target]

    def check(self) -> None:
        """Nothing is open.

        Raises:
            ConvertError: a tensor's kind is unknown; the message has the lines to add.
        """
        if not self.unclear:
            return
        lines = [f"  {item.name} {item.shape}: {item.reason}" for item in self.unclear]
        rules = [f"  {item.line}" for item in self.unclear]
        raise ConvertError(
            f"{len(self.unclear)} of {self.total} tensors can be read in more than one way:\n"
            + "\n".join(lines)
            + "\nSay what they are in a rules file (--rules FILE), or hand over a model (--model):"
            + "\n  [kinds]\n"
            + "\n".join(rules)
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
        for key in (*tensors, layer):
            kind = self.rules.find(key)
            if kind is not None and kind.name != "skip":
                return kind, None
        for table in (self.metadata, self.model):
            for key in (*tensors, layer, "/".join(module.path)):
                if key in table:
                    return table[key]
        return None


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


def make(
    entries: Mapping[str, Entry],
    layers: Mapping[str, tuple[str, str]],
    source: str,
    target: str,
    known: Known,
    *,
    source_format: str,
    target_format: str,
    dtype: str | None = None,
    originals: Mapping[str, str] | None = None,
) -> Plan:
    """Decide everything.

    Args:
        entries: the tensors of the source.
        layers: layers of its tensors, where the format tells them.
        source, target: conventions.
        known: what is known of the tensors.
        source_format, target_format: formats of the files.
        dtype: type of all floating-point tensors in the target; default: as they are.
        originals: names that tensors had before, in the target's convention.

    Raises:
        ConvertError: a rule contradicts a shape, names collide, a type would lose values.
    """
    return _Planner(
        entries, layers, source, target, known, source_format, target_format, dtype, originals or {}
    ).plan()


class _Planner:
    def __init__(
        self,
        entries: Mapping[str, Entry],
        layers: Mapping[str, tuple[str, str]],
        source: str,
        target: str,
        known: Known,
        source_format: str,
        target_format: str,
        dtype: str | None,
        originals: Mapping[str, str],
    ) -> None:
        self.entries, self.source, self.target, self.known = entries, source, target, known
        self.keras = target_format in KERAS_FILES
        self.originals = originals
        if dtype is not None and dtype not in HALF + FLOAT:
            raise ConvertError(f"dtype: {dtype!r} is none of {', '.join(HALF + FLOAT)}.")
        self.dtype = None if dtype is None else dtype_of(dtype)
        self.shapes = {name: entry.shape for name, entry in entries.items()}
        order = list(entries)
        self.alphabetical = source_format in SORTED and order == sorted(order)
        if self.alphabetical:
            order.sort(key=_natural)
        if any(kind.place[1] for kind, _ in known.model.values()):  # a graph: the order it runs in
            places = {name: i for i, name in enumerate(known.model)}
            order.sort(key=lambda name: places.get(name, len(places)))
            self.alphabetical = False
        parsed = [self._parsed(name, layers) for name in order]
        self.modules = names.modules(parsed)
        for module in self.modules:
            if module.layer:
                told = known.find(module)
                names.number(module, told[0].name if told else "", told[0].parts if told else ())
        self._promote()
        self.result = Plan(source, target, total=len(entries))
        self.same = same_orders(source, target)
        self.found: dict[tuple[str, ...], tuple[Kind, ConvSpec | None]] = {}
        self.open: set[tuple[str, ...]] = set()
        self.kernels: set[tuple[str, ...]] = set()
        self.numbers: dict[str, int] = {}

    def _parsed(self, name: str, layers: Mapping[str, tuple[str, str]]) -> Name:
        if name in layers:
            return names.parse_keras(name, *layers[name])
        parsed = names.parse(name, self.source)
        if not parsed.part and name in self.known.model:
            layer, part = self.known.model[name][0].place
            if part:
                return replace(parsed, path=tuple(layer.split(".")), part=part, hint="")
        return parsed

    def plan(self) -> Plan:
        for module in self.modules:
            self._find(module)
        for module in self.modules:
            if module.path in self.found:
                self._complete(module)
        for module in self.modules:
            if module.path in self.found and module.path not in self.open:
                self._act(module)
        self._check_names()
        if self.keras and self.alphabetical and any(n > 1 for n in self.numbers.values()):
            self.result.notes.append(
                "Keras numbers layers in the order they were made, and the source keeps its names "
                "in alphabetical order; pass like= (--like) a file of the model to be sure"
            )
        self.result.unused = self.known.rules.unused
        return self.result

    # ---- what it is ----

    def _promote(self) -> None:
        """Let tensors of unusual names be the weights of layers, where somebody says so."""
        tables = (self.known.metadata, self.known.model)
        for module in list(self.modules):
            for name in list(module.others):
                kind = self.known.rules.find(name.full)
                told = [table[name.full][0] for table in tables if name.full in table]
                for found in [kind] if kind is not None else told[:1]:
                    if found.name not in ("copy", "skip") and not name.layer:
                        module.others.remove(name)
                        path = (*module.path, name.leaf)
                        self.modules.append(Module(path, {"weight": name}))

    def _find(self, module: Module) -> None:
        self._drop_skipped(module)
        if not module.parts and not module.others:
            return
        found = self.known.find(module)
        if found is None and not module.parts:  # each of the others is looked at by itself
            found = Kind("copy", HERE), None
        if found is None:
            distinct = [k for k in ("depthwise",) if self._depthwise_differs()]
            kind = deduce(module, self.shapes, self.source, distinct)
            if isinstance(kind, Unclear):
                if not (self.same and not self.keras):
                    self.result.unclear.append(kind)
                    if len(kind.shape) > 2:
                        self.kernels.add(module.path)
                    return
                kind = Kind("copy", HERE)
            found = kind, None
        self.found[module.path] = found

    def _depthwise_differs(self) -> bool:
        return (self.source in DEPTHWISE) != (self.target in DEPTHWISE) or (
            DEPTHWISE.get(self.source) != DEPTHWISE.get(self.target)
        )

    def _drop_skipped(self, module: Module) -> None:
        """Leave out what the rules say."""
        for name in [*module.parts.values(), *module.others]:
            kind = self.known.rules.find(name.full)
            if kind is not None and kind.name == "skip":
                self._leave_out(name, kind, "the rules say so")
                module.parts = {k: v for k, v in module.parts.items() if v is not name}
                module.others = [other for other in module.others if other is not name]

    # ---- what its neighbours tell ----

    def _complete(self, module: Module) -> None:
        kind, spec = self.found[module.path]
        if kind.name == "dense" and kind.flatten is None:
            kind = self._with_flatten(module, kind)
        elif kind.name == "prelu" and kind.rank is None:
            kind = self._with_rank(module, kind)
        self.found[module.path] = kind, spec

    def _with_flatten(self, module: Module, kind: Kind) -> Kind:
        """What is in front of a dense layer, where that is certain.

        Raises nothing; what is uncertain is recorded as unclear.
        """
        inputs = self._inputs(module)
        convolutions = [m for m in self.modules if self._is(m, *KERNELS) or m.path in self.kernels]
        if channels_last(self.source) == channels_last(self.target) or not convolutions:
            return kind
        at = self.modules.index(module)
        before = [self._outputs(m) for m in self.modules[:at] if self._is(m, "dense")]
        last = self._last(convolutions[-1])
        if inputs in before or (last is not None and last.out_channels == inputs):
            return replace(kind, flatten=False)
        channels = last.out_channels if last is not None else 0
        self.open.add(module.path)
        guess: Any = "false"
        if channels and inputs % channels == 0:
            guess = channels
        name = module.main.full
        self.result.unclear.append(
            Unclear(
                name,
                self.shapes[name],
                f"{inputs} inputs, perhaps flattened channels and positions, whose order changes",
                f'"{name}" = {{ kind = "dense", flatten = {guess} }}'
                f"  # channels in front of the flatten, or false without one",
            )
        )
        return kind

    def _last(self, module: Module) -> ConvSpec | None:
        """A convolution; of one that is open, the forward reading, good for a proposal alone."""
        if module.path in self.found:
            return self._spec(module)
        return weight_spec(self.shapes[module.main.full], self.source)

    def _with_rank(self, module: Module, kind: Kind) -> Kind:
        """How many spatial axes a PReLU sees; matters to Keras alone, whose slopes have them."""
        shape = self.shapes[module.main.full]
        keras = names.FAMILIES["keras"]
        if names.FAMILIES[self.target] is not keras or names.FAMILIES[self.source] is keras:
            return kind
        size = prod(shape)
        ranks = {
            spec.rank
            for m in self.modules
            if self._is(m, *KERNELS)
            and (spec := self._spec(m)) is not None
            and spec.out_channels == size
        }
        if any(self._is(m, "dense") and self._outputs(m) == size for m in self.modules):
            ranks.add(0)
        if len(ranks) == 1:
            return replace(kind, rank=ranks.pop())
        self.open.add(module.path)
        name = module.main.full
        seen = " or ".join(map(str, sorted(ranks))) or "an unknown number of"
        self.result.unclear.append(
            Unclear(
                name,
                shape,
                f"slopes behind layers with {seen} spatial axes",
                f'"{name}" = {{ kind = "prelu", rank = {max(ranks, default=2)} }}',
            )
        )
        return kind

    def _is(self, module: Module, *kinds: str) -> bool:
        return module.path in self.found and self.found[module.path][0].name in kinds

    def _outputs_first(self, kind: Kind) -> bool:
        """Whether a dense layer's matrix in the source is (outputs, inputs)."""
        if kind.inputs_first is not None:
            return not kind.inputs_first
        return self.source in OUTPUTS_FIRST

    def _inputs(self, module: Module) -> int:
        shape = self.shapes[module.main.full]
        return shape[-1] if self._outputs_first(self.found[module.path][0]) else shape[0]

    def _outputs(self, module: Module) -> int:
        shape = self.shapes[module.main.full]
        return shape[0] if self._outputs_first(self.found[module.path][0]) else shape[-1]

    # ---- what is done ----

    def _spec(self, module: Module) -> ConvSpec | None:
        """The convolution of a layer, in the source's orders.

        Raises:
            ConvertError: what somebody said contradicts the shape.
        """
        kind, spec = self.found[module.path]
        if "weight" not in module.parts:
            return None
        name = module.parts["weight"].full
        shape = self.shapes[name]
        try:
            if spec is None:
                arguments = {**kind.arguments, "bias": "bias" in module.parts}
                groups = arguments.pop("groups", None)
                return weight_spec(shape, self.source, kind=kind.name, groups=groups, **arguments)
            ours = in_order(spec, self.source, kind.name)
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

    def _act(self, module: Module) -> None:
        kind, _ = self.found[module.path]
        if kind.name in (*KERNELS, "dense") and "weight" not in module.parts:
            raise ConvertError(
                f"{module.main.full}: {kind.origin} say its layer is a {kind.name}, but no tensor "
                f"of {'.'.join(module.path)!r} is a weight of {self.source}'s."
            )
        group = self._keras_group(module, kind) if self.keras and module.parts else ""
        index = 0
        for part in names.PARTS:
            if part not in module.parts:
                continue
            name = module.parts[part]
            leaf = names.leaf_for(self.target, kind.name, part)
            if kind.name == "copy" or not leaf:
                if part == "counter":
                    self._leave_out(name, kind, f"{self.target} has no such counter")
                    continue
                leaf = name.leaf
            if group:
                target = f"{group}/vars/{index}"
                index += 1
            else:
                target = self._named(name, leaf)
            self._add(module, name, kind, part, target)
        for name in module.others:
            other = self._other(module, name)
            if other is not None:
                self._add(module, name, other, "", self._named(name, name.leaf))

    def _other(self, module: Module, name: Name) -> Kind | None:
        """The kind of a tensor that is no part of a layer; None if that is open."""
        kind = self.known.rules.find(name.full)
        if kind is not None:
            return kind
        told = self.known.metadata.get(name.full)
        if told is not None and told[0].name == "copy":
            return told[0]
        shape = self.shapes[name.full]
        if name.layer:
            self.result.unclear.append(
                Unclear(
                    name.full,
                    shape,
                    f"variable {name.leaf} of a Keras {name.layer}",
                    f'"{name.full}" = "copy"  # or {{ kind = "batch_norm", parts = ["bias", "mean",'
                    f' "var"] }}',
                )
            )
            return None
        if len(shape) < 2 or self.same:
            return Kind("copy", HERE)
        self.result.unclear.append(
            Unclear(
                name.full,
                shape,
                f"no framework calls a part of a layer {name.leaf!r}",
                f'"{name.full}" = "copy"  # as it is, or "skip"',
            )
        )
        return None

    def _named(self, name: Name, leaf: str) -> str:
        if name.full in self.originals:
            return self.originals[name.full]
        if self.keras:
            return "/".join(("other", *name.path, leaf))
        if self.same and names.same_names(self.source, self.target) and not name.layer:
            return name.full
        return names.joined(self.target, name.path, leaf)

    def _keras_group(self, module: Module, kind: Kind) -> str:
        """The group of a layer in a Keras file: its class, and which one of that class it is."""
        rank = len(self.shapes[module.main.full]) - 2
        class_ = names.keras_class(kind.name, rank)
        if not class_:
            return ""
        number = self.numbers.get(class_, 0)
        self.numbers[class_] = number + 1
        return f"layers/{class_}_{number}" if number else f"layers/{class_}"

    def _add(self, module: Module, name: Name, kind: Kind, part: str, target: str) -> None:
        entry = self.entries[name.full]
        steps: list[Step] = []
        spec = ours = None
        if part == "weight" and kind.name in KERNELS:
            ours = self._spec(module)
            assert ours is not None
            spec = in_order(ours, self.target, kind.name)
            step = Reorder(ours, spec)
            orders = [(s.weight_layout, s.flip_kernel, s.group_axis) for s in (ours, spec)]
            if orders[0] != orders[1]:
                steps.append(step)
        elif part == "weight" and kind.name == "dense":
            steps += self._dense(name.full, entry.shape, kind)
        elif part == "weight" and kind.name == "prelu":
            steps += self._slopes(name.full, entry.shape, kind)
        shape = entry.shape
        for each in steps:
            shape = each.shape(shape)
        self.result.actions.append(
            Action(
                name.full,
                kind,
                part,
                entry.shape,
                target,
                shape,
                self._type(name.full, entry),
                tuple(steps),
                spec,
                ours,
                ".".join(module.path),
            )
        )

    def _dense(self, name: str, shape: tuple[int, ...], kind: Kind) -> list[Step]:
        if len(shape) != 2:
            raise ConvertError(
                f"{name}: {kind.origin} say it is a matrix, but its shape is {shape}."
            )
        first, then = self._outputs_first(kind), self.target in OUTPUTS_FIRST
        steps: list[Step] = []
        flatten = kind.flatten
        if flatten is not None and flatten is not False:
            inputs = shape[1] if first else shape[0]
            step = self._rows(name, int(first), inputs, flatten)
            if step.source.layout != step.target:
                steps.append(step)
        if first != then:
            steps.append(Transpose())
        return steps

    def _rows(self, name: str, axis: int, inputs: int, flatten: Flatten | int) -> Rows:
        if not isinstance(flatten, Flatten):
            if inputs % flatten:
                raise ConvertError(
                    f"{name}: {inputs} inputs are no multiple of {flatten} channels."
                )
            pairs = {"C": flatten, "X": inputs // flatten}
            layout = "XC" if channels_last(self.source) else "CX"
            flatten = Flatten(layout, tuple(pairs[letter] for letter in layout))
        if prod(flatten.shape) != inputs:
            raise ConvertError(
                f"{name}: has {inputs} inputs, but {flatten.layout} of {flatten.shape} makes "
                f"{prod(flatten.shape)}."
            )
        spatial = standard_order(spatial_letters(flatten.layout))
        return Rows(axis, flatten, f"{spatial}C" if channels_last(self.target) else f"C{spatial}")

    def _slopes(self, name: str, shape: tuple[int, ...], kind: Kind) -> list[Step]:
        keras = names.FAMILIES["keras"]
        before, after = (names.FAMILIES[c] is keras for c in (self.source, self.target))
        if before == after and (before or len(shape) < 2 or self.same):
            return []
        if after:
            wanted = (*((1,) * (kind.rank or 0)), prod(shape))
        else:
            wanted = (prod(shape),)
            if max(shape, default=1) != prod(shape):
                raise ConvertError(
                    f"{name}: has slopes of its own for each position, shape {shape}, which "
                    f"{self.target} has not."
                )
        return [] if wanted == shape else [Reshape(shape, wanted)]

    def _type(self, name: str, entry: Entry) -> np.dtype[Any]:
        dtype = native(entry.dtype)
        floating = dtype.kind in "fc" or dtype.kind == "V"
        if self.dtype is None or not floating or dtype == self.dtype:
            return dtype
        if not np.can_cast(dtype, self.dtype, "safe"):
            raise ConvertError(f"{name}: {dtype} values do not all fit into {self.dtype}.")
        return self.dtype

    def _leave_out(self, name: Name, kind: Kind, why: str) -> None:
        entry = self.entries[name.full]
        self.result.actions.append(
            Action(name.full, kind, name.part, entry.shape, "", (), entry.dtype, note=why)
        )

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for action in self.result.written:
            if action.target in seen:
                raise ConvertError(
                    f"{action.name}: would be called {action.target!r}, and so would "
                    f"{seen[action.target]!r}; rename one of them, or leave it out by the rules."
                )
            seen[action.target] = action.name


def _natural(name: str) -> list[Any]:
    """A key that sorts ``conv2`` before ``conv10``."""
    return [(1, int(w), "") if w.isdecimal() else (0, 0, w) for w in re.split(r"(\d+)", name)]
