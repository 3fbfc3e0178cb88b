"""Deciding everything about a conversion before anything is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ..dtypes import FLOAT, HALF
from . import features, names
from .deduce import HERE, Unclear
from .errors import ConvertError
from .files import Entry
from .files.protocol import dtype_of, native
from .kinds import KERNELS, NORMS, Flatten, Kind
from .layers import OUTPUTS_FIRST, Known, Layers, channels_last
from .names import Module, Name
from .orders import in_order
from .plan import Action, Plan
from .steps import Permute, Reorder, Reshape, Rows, Step, Transpose

#: Formats that number variables by class of layer instead of naming them.
KERAS_FILES = ("keras-weights", "keras")
#: The variables of a Keras layer that is two convolutions.
SEPARABLE = {"0": "depthwise", "1": "conv"}
#: Names of tensors that a kernel is computed of.
FOLDED = r"(^|\.)(weight_g|weight_v|weight_orig)$|parametrizations\."
#: Names that say which normalisation a layer is.
NORM_NAMES = {
    "layer_norm": r"(?i)layer_?norm|(^|_)ln(_|\d|$)",
    "group_norm": r"(?i)group_?norm|(^|_)gn(_|\d|$)",
    "instance_norm": r"(?i)instance_?norm|(^|_)in(_|\d|$)",
    "rms_norm": r"(?i)rms_?norm",
}


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
    if dtype is not None and dtype not in HALF + FLOAT:
        raise ConvertError(f"dtype: {dtype!r} is none of {', '.join(HALF + FLOAT)}.")
    keras = target_format in KERAS_FILES
    found = Layers(entries, layers, source, target, known, source_format=source_format, keras=keras)
    wide = None if dtype is None else dtype_of(dtype)
    return _Planner(entries, found, keras, wide, originals or {}).plan()


class _Planner:
    def __init__(
        self,
        entries: Mapping[str, Entry],
        layers: Layers,
        keras: bool,
        dtype: np.dtype[Any] | None,
        originals: Mapping[str, str],
    ) -> None:
        self.entries, self.layers, self.keras = entries, layers, keras
        self.source, self.target, self.known = layers.source, layers.target, layers.known
        self.dtype, self.originals = dtype, originals
        self.moved = channels_last(self.source) != channels_last(self.target)
        self.result = Plan(self.source, self.target, total=len(entries))
        self.numbers: dict[str, int] = {}
        self.groups: dict[str, list[str]] = {}

    def plan(self) -> Plan:
        self.layers.find()
        for name, kind in self.layers.skipped:
            self._leave_out(name, kind, "the rules say so")
        still_open = features.complete(self.layers)
        for module in self.layers.modules:
            if module.path in self.layers.found and module.path not in still_open:
                self._act(module)
        self.result.unclear = self.layers.unclear + self.result.unclear
        self._check_names()
        if self.keras:
            alike = self._alike()
            if self.layers.alphabetical:
                self.result.unnumbered = alike
            elif alike:
                self.result.notes.append(
                    f"{len(alike)} layers have another of their class and shapes beside them "
                    f"({', '.join(alike[:3])}{', ...' if alike[3:] else ''}): they are numbered in "
                    f"the source's order, and a Keras model that makes them in another one loads "
                    f"them without complaint; run both models to be sure (--verify with model= and "
                    f"like=)"
                )
            if self.layers.alphabetical and any(n > 1 for n in self.numbers.values()):
                self.result.notes.append(
                    "Keras numbers layers in the order in which a model makes them, and the source "
                    "keeps names in alphabetical order; pass like= (--like), a file of the model, "
                    "to be sure"
                )
        self.result.unused = self.known.rules.unused
        return self.result

    # ---- layers ----

    def _act(self, module: Module) -> None:
        kind, _ = self.layers.found[module.path]
        if kind.name in (*KERNELS, "dense") and "weight" not in module.parts:
            raise ConvertError(
                f"{module.main.full}: {kind.origin} say its layer is a {kind.name}, but no tensor "
                f"of {'.'.join(module.path)!r} is a weight of {self.source}'s."
            )
        if self.keras and kind.name == "norm" and not module.layer:
            kind = self._which_norm(module, kind)
            if kind.name == "norm":
                return
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

    def _which_norm(self, module: Module, kind: Kind) -> Kind:
        """The class of a normalisation, by which Keras sorts its files; ``norm`` if it is open."""
        word = module.path[-1] if module.path else ""
        for name, pattern in NORM_NAMES.items():
            if re.search(pattern, word):
                return replace(kind, name=name)
        name = module.main.full
        order = ""
        if kind.flatten is not None:
            order = f", flatten = {features.written(kind.flatten)}"
        self.result.unclear.append(
            Unclear(
                name,
                self.entries[name].shape,
                "a normalisation, and a Keras file sorts layers by their class",
                f'"{name}" = {{ kind = "layer_norm"{order} }}  # or "group_norm", "instance_norm"'
                if order
                else f'"{name}" = "layer_norm"  # or "group_norm", "instance_norm"',
            )
        )
        return kind

    def _other(self, module: Module, name: Name) -> Kind | None:
        """The kind of a tensor that is no part of a layer; None if that is open."""
        kind = self.known.rules.find(name.full)
        if kind is not None:
            return kind
        told = self.known.metadata.get(name.full)
        if told is not None and told[0].name == "copy":
            return told[0]
        shape = self.entries[name.full].shape
        if name.layer:
            line = f'"{name.full}" = "copy"'
            if name.layer.startswith("separable_conv"):
                line = f'"{name.full}" = "{SEPARABLE.get(name.leaf, "copy")}"'
            elif name.layer == "batch_normalization":
                line += '  # or { kind = "batch_norm", parts = ["bias", "mean", "var"] }'
            why = f"variable {name.leaf} of a Keras {name.layer}"
            self.result.unclear.append(Unclear(name.full, shape, why, line))
            return None
        if len(shape) < 2 or self.layers.same:
            return Kind("copy", HERE)
        reason = f"no framework calls a part of a layer {name.leaf!r}"
        if re.search(FOLDED, name.full):
            reason = "a part of a weight or spectral norm: fold it before saving, by PyTorch's "
            reason += "remove_parametrizations or remove_weight_norm"
        line = f'"{name.full}" = "copy"  # as it is, or "skip"'
        if self.moved and len(shape) > 2:
            letters = f"NC{'DHW'[-(len(shape) - 2) :]}" if len(shape) > 3 else "CHW"
            line += f', or {{ kind = "copy", axes = "{letters}" }} for axes that move'
        self.result.unclear.append(Unclear(name.full, shape, reason, line))
        return None

    # ---- names ----

    def _named(self, name: Name, leaf: str) -> str:
        if name.full in self.originals:
            return self.originals[name.full]
        path = self.known.rules.renamed(name.path)
        if self.keras:
            return "/".join(("other", *path, leaf))
        same = self.layers.same and names.same_names(self.source, self.target)
        kept = same and not name.layer and path == name.path
        return name.full if kept else names.joined(self.target, path, leaf)

    def _keras_group(self, module: Module, kind: Kind) -> str:
        """The group of a layer in a Keras file: its class, and which one of that class it is."""
        rank = len(self.layers.shape(module)) - 2
        class_ = names.keras_class(kind.name, rank)
        if not class_:
            return ""
        number = self.numbers.get(class_, 0)
        self.numbers[class_] = number + 1
        group = f"layers/{class_}_{number}" if number else f"layers/{class_}"
        self.groups.setdefault(class_, []).append(group)
        return group

    def _alike(self) -> list[str]:
        """Layers that could trade places unseen, where the source does not number them."""
        if all(m.layer and m.named_by_class for m in self.layers.modules if m.parts):
            return []
        shapes: dict[str, list[tuple[int, ...]]] = {}
        layers: dict[str, str] = {}
        for action in self.result.written:
            group, _, _ = action.target.partition("/vars/")
            shapes.setdefault(group, []).append(action.target_shape)
            layers[group] = action.layer
        alike: list[str] = []
        for groups in self.groups.values():
            made = [str(shapes.get(group)) for group in groups]
            alike += [
                layers.get(group, group)
                for group, each in zip(groups, made, strict=True)
                if made.count(each) > 1
            ]
        return alike

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for action in self.result.written:
            if action.target in seen:
                raise ConvertError(
                    f"{action.name}: would be called {action.target!r}, and so would "
                    f"{seen[action.target]!r}; rename one of them, or leave it out by the rules."
                )
            seen[action.target] = action.name

    # ---- tensors ----

    def _add(self, module: Module, name: Name, kind: Kind, part: str, target: str) -> None:
        entry = self.entries[name.full]
        steps: list[Step] = []
        spec = ours = None
        if part == "weight" and kind.name in KERNELS:
            ours = self.layers.spec(module)
            assert ours is not None
            spec = in_order(ours, self.target, kind.name)
            orders = [(s.weight_layout, s.flip_kernel, s.group_axis) for s in (ours, spec)]
            if orders[0] != orders[1]:
                steps.append(Reorder(ours, spec))
        elif part == "weight" and kind.name == "dense":
            steps += self._dense(module, kind)
        elif part == "bias" and kind.name == "dense":
            steps += self._features(0, kind.unflatten, kind.was[1], "elements")
        elif part == "weight" and kind.name == "prelu":
            steps += self._slopes(name.full, entry.shape, kind)
        elif kind.name in NORMS and part and len(entry.shape) == 1:
            steps += self._features(0, kind.flatten, kind.was[0], "elements")
        if kind.axes and self.moved and len(kind.axes) == len(entry.shape):
            steps.append(Permute(kind.axes, features.in_target(kind.axes, self.target)))
        elif kind.axes and len(kind.axes) != len(entry.shape):
            raise ConvertError(
                f"{name.full}: {kind.origin} say its axes are {kind.axes}, but its shape is "
                f"{entry.shape}."
            )
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
                ".".join(self.known.rules.renamed(module.path)),
            )
        )

    def _features(
        self, axis: int, order: Flatten | bool | int | None, was: str, what: str
    ) -> list[Step]:
        """Features along an axis in the order in which the target flattens them."""
        if not self.moved or not isinstance(order, Flatten):
            return []
        back = len(was) == len(order.layout) and set(was) == set(order.layout)
        letters = was if back else features.in_target(order.layout, self.target)
        return [] if letters == order.layout else [Rows(axis, order, letters, what)]

    def _dense(self, module: Module, kind: Kind) -> list[Step]:
        first, then = self.layers.outputs_first(module), self.target in OUTPUTS_FIRST
        steps = self._features(int(first), kind.flatten, kind.was[0], "rows")
        steps += self._features(int(not first), kind.unflatten, kind.was[1], "columns")
        if first != then:
            steps.append(Transpose())
        return steps

    def _slopes(self, name: str, shape: tuple[int, ...], kind: Kind) -> list[Step]:
        keras, flax = (names.FAMILIES[c] for c in ("keras", "flax"))
        before, after = (names.FAMILIES[c] for c in (self.source, self.target))
        steps: list[Step] = []
        if len(shape) == 1:
            steps += self._features(0, kind.flatten, kind.was[0], "elements")
        if after is keras and before is not keras:
            wanted = (*((1,) * (kind.rank or 0)), prod(shape))
        elif after is flax and prod(shape) == 1:  # flax.nnx.PReLU and Linen's have one number
            wanted = ()
        elif after is before or (self.layers.same and shape):
            return steps
        else:
            wanted = (prod(shape),)
            if max(shape, default=1) != prod(shape):
                raise ConvertError(
                    f"{name}: has slopes of its own for each position, shape {shape}, which "
                    f"{self.target} has not."
                )
        return steps if wanted == shape else [*steps, Reshape(shape, wanted)]

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


def after(kind: Kind, target: str, moved: bool) -> Kind:
    """The kind of a tensor as it is in the target: orders of features in the target's."""
    if not moved:
        return kind

    def turned(order: Flatten | bool | int | None, was: str) -> Flatten | bool | int | None:
        if not isinstance(order, Flatten):
            return order
        back = len(was) == len(order.layout) and set(was) == set(order.layout)
        letters = was if back else features.in_target(order.layout, target)
        sizes = dict(zip(order.layout, order.shape, strict=True))
        return Flatten(letters, tuple(sizes[letter] for letter in letters))

    return replace(
        kind,
        flatten=turned(kind.flatten, kind.was[0]),
        unflatten=turned(kind.unflatten, kind.was[1]),
        axes=features.in_target(kind.axes, target) if kind.axes else "",
    )
