"""The order of features: what dense layers and vectors get from the convolutions around them.

PyTorch flattens (C, H, W), Keras (H, W, C): behind a flatten, or in front of a reshape, features
are in another order, their number is the same, and nothing fails. What was flattened is told by
rules, metadata or a model; names and shapes tell at most that there is nothing to ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

from ..errors import ConvSpecError
from ..layouts import spatial_letters, standard_order
from ..spec import ConvSpec
from . import names
from .deduce import Unclear
from .errors import ConvertError
from .kinds import KERNELS, NORMS, Flatten, Kind
from .layers import Layers, channels_last
from .names import Module
from .orders import weight_spec

Open = set[tuple[str, ...]]


def complete(layers: Layers) -> Open:
    """Complete the kinds of all layers by what is in front of and behind them.

    What stays open is gathered in ``layers.unclear``.

    Returns:
        Paths of the layers that are open.

    Raises:
        ConvertError: a number of features does not fit what somebody says of them.
    """
    return _Features(layers).complete()


def in_target(layout: str, target: str) -> str:
    """Letters in the order in which a convention flattens them, or has them in its arrays."""
    batch = "N" if "N" in layout else ""
    spatial = standard_order(spatial_letters(layout))
    channel = "C" if "C" in layout else ""
    last = channels_last(target)
    return f"{batch}{spatial}{channel}" if last else f"{batch}{channel}{spatial}"


class _Features:
    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.moved = channels_last(layers.source) != channels_last(layers.target)
        self.kernels = [layers.is_kernel(module) for module in layers.modules]
        self.open: Open = set()
        #: Numbers of features that are, or perhaps are, flattened, and the channels among them.
        self.flattened: dict[int, Any] = {}

    def complete(self) -> Open:
        found, modules = self.layers.found, self.layers.modules
        for i, module in enumerate(modules):
            if self.layers.is_(module, "dense") and "weight" in module.parts:
                kind, spec = found[module.path]
                found[module.path] = self._dense(i, module, self._ordered(module, kind)), spec
        for module in modules:
            if self.layers.is_(module, *NORMS, "prelu") and module.parts:
                kind, spec = found[module.path]
                kind = self._vector(module, self._ordered(module, kind))
                if kind.name == "prelu" and kind.rank is None:
                    kind = self._with_rank(module, kind)
                found[module.path] = kind, spec
        return self.open

    def _ordered(self, module: Module, kind: Kind) -> Kind:
        """With what a rule without a kind says."""
        rule = self.layers.known.order(module)
        if rule is None:
            return kind
        flatten = rule.flatten if kind.flatten is None else kind.flatten
        # Who tells one order would tell the other.
        told = rule.unflatten if rule.unflatten is not None or rule.flatten is None else False
        return replace(
            kind, flatten=flatten, unflatten=told if kind.unflatten is None else kind.unflatten
        )

    # ---- dense layers ----

    def _dense(self, at: int, module: Module, kind: Kind) -> Kind:
        name = module.main.full
        inputs, outputs = self.layers.sizes(module)
        if kind.origin == "rules" and kind.flatten is not None and kind.unflatten is None:
            kind = replace(kind, unflatten=False)
        questions: list[str] = []
        said: list[tuple[str, Any]] = []
        if kind.flatten is None and self._asks(inputs):
            guess = kind.likely[0] or self._channels_before(at, inputs)
            questions.append(f"{inputs} inputs, {_flattened(kind.likely[0], 'flattened')}")
            said.append(("flatten", guess))
            if guess:
                self.flattened.setdefault(inputs, guess)
        if kind.unflatten is None and self._asks(outputs):
            guess = kind.likely[1] or self._channels_behind(at, outputs)
            questions.append(f"{outputs} outputs, {_flattened(kind.likely[1], 'reshaped to')}")
            said.append(("unflatten", guess))
            if guess:
                self.flattened.setdefault(outputs, guess)
        if questions:
            if len(said) == 1 and said[0][0] == "flatten" and kind.unflatten is not None:
                said.append(("unflatten", written(kind.unflatten)))
            elif len(said) == 1 and kind.flatten is not None:
                said.insert(0, ("flatten", written(kind.flatten)))
            options = ", ".join(f"{key} = {value or 'false'}" for key, value in said)
            first = kind.inputs_first
            options += "" if first is None else f", inputs_first = {str(first).lower()}"
            self._ask(
                module,
                f"{' and '.join(questions)}, whose order changes",
                f'"{name}" = {{ kind = "dense", {options} }}'
                f"  # channels of what is reshaped{self._others(said)}, false if nothing is",
            )
            return kind
        flatten = self._resolved(name, kind.flatten, inputs, "inputs")
        unflatten = self._resolved(name, kind.unflatten, outputs, "outputs")
        for order, count in ((flatten, inputs), (unflatten, outputs)):
            if self.moved and isinstance(order, Flatten):
                channels = order.shape[order.layout.index("C")]
                if 1 < channels < count:
                    self.flattened[count] = channels
        return replace(kind, flatten=flatten, unflatten=unflatten)

    def _others(self, said: Sequence[tuple[str, Any]]) -> str:
        """Other numbers of channels than those proposed."""
        kernels = self._kernels(self.layers.modules)
        counts = {n for spec in kernels for n in (spec.out_channels, spec.in_channels)}
        left = sorted(n for n in counts - {value for _, value in said} if n > 1)
        return f" (perhaps {', '.join(map(str, left))})" if 0 < len(left) < 8 else ""

    def _asks(self, count: int) -> bool:
        """Whether features could be channels and positions, whose order changes."""
        return self.moved and any(self.kernels) and _composite(count)

    def _ask(self, module: Module, reason: str, line: str) -> None:
        name = module.main.full
        self.open.add(module.path)
        self.layers.unclear.append(Unclear(name, self.layers.shapes[name], reason, line))

    def _channels_before(self, at: int, count: int) -> int:
        """A proposal: the channels of the last convolution in front, 0 where none is likely."""
        before = self.layers.modules[:at]
        if any(
            self.layers.is_(module, "dense") and self.layers.sizes(module)[1] == count
            for module in before
        ):
            return 0
        specs = self._kernels(before)
        if not specs or self.layers.alphabetical:
            specs = sorted(self._kernels(self.layers.modules), key=lambda spec: not spec.transposed)
            if any(spec.out_channels == count for spec in specs):
                return 0
        return _likely([spec.out_channels for spec in specs[-1:]], count)

    def _channels_behind(self, at: int, count: int) -> int:
        """A proposal: the channels that the next convolution takes, 0 where none is likely."""
        if self.layers.alphabetical:
            ups = [spec for spec in self._kernels(self.layers.modules) if spec.transposed]
            return _likely([spec.in_channels for spec in ups], count)
        return _likely(
            [spec.in_channels for spec in self._kernels(self.layers.modules[at + 1 :])[:1]], count
        )

    def _kernels(self, modules: Sequence[Module]) -> list[ConvSpec]:
        return [spec for module in modules if (spec := self._kernel(module)) is not None]

    def _kernel(self, module: Module) -> ConvSpec | None:
        """A convolution; of one that is open, the first reading, good for a proposal alone."""
        if self.layers.is_(module, *KERNELS):
            return self.layers.spec(module)
        if module.path in self.layers.found or not self.layers.is_kernel(module):
            return None
        name = module.main.full
        lines = [item.line for item in self.layers.unclear if item.name == name]
        first = lines[0].partition("#")[0] if lines else ""
        kind = "conv_transpose" if "conv_transpose" in first else "conv"
        try:
            return weight_spec(self.layers.shape(module), self.layers.source, kind=kind)
        except ConvSpecError:
            return None

    def _resolved(
        self, name: str, order: Flatten | int | bool | None, count: int, what: str
    ) -> Flatten | bool | None:
        """An order with all of its sizes.

        Raises:
            ConvertError: they do not make the number of features.
        """
        if order is None or order is False:
            return order
        if not isinstance(order, Flatten):
            last = channels_last(self.layers.source)
            order = Flatten("XC", (-1, order)) if last else Flatten("CX", (order, -1))
        if -1 in order.shape:
            channels = prod(n for n in order.shape if n != -1)
            if count % channels:
                raise ConvertError(
                    f"{name}: {count} {what} are no multiple of {channels} channels."
                )
            left = count // channels
            order = replace(order, shape=tuple(left if n == -1 else n for n in order.shape))
        if prod(order.shape) != count:
            raise ConvertError(
                f"{name}: has {count} {what}, but {order.layout} of {order.shape} makes "
                f"{prod(order.shape)}."
            )
        return order

    # ---- vectors ----

    def _vector(self, module: Module, kind: Kind) -> Kind:
        name, shape = module.main.full, self.layers.shape(module)
        if kind.name != "prelu" and len(shape) > 1:
            return self._several_axes(module, kind, shape)
        count = prod(shape)
        if kind.flatten is None and count in self.flattened and len(shape) < 2:
            word = "layer_norm" if kind.name == "norm" and self.layers.keras else kind.name
            options = "" if kind.rank is None else f", rank = {kind.rank}"
            options += f", parts = {list(kind.parts)}".replace("'", '"') if kind.parts else ""
            self._ask(
                module,
                f"as many elements as features that are flattened, {count}",
                f'"{name}" = {{ kind = "{word}", flatten = {self.flattened[count]}{options} }}'
                f"  # or flatten = false",
            )
            return kind
        flatten = self._resolved(name, kind.flatten, count, "elements")
        if flatten and kind.name == "prelu" and kind.rank is None:
            kind = replace(kind, rank=0)
        return replace(kind, flatten=flatten)

    def _several_axes(self, module: Module, kind: Kind, shape: tuple[int, ...]) -> Kind:
        """A normalisation over channels and positions, each element with a weight."""
        name = module.main.full
        if kind.axes and len(kind.axes) != len(shape):
            raise ConvertError(
                f"{name}: {kind.origin} say its axes are {kind.axes}, but its shape is {shape}."
            )
        if self.moved and not kind.axes:
            letters = "DHW"[-min(len(shape) - 1, 3) :]
            letters = f"{letters}C" if channels_last(self.layers.source) else f"C{letters}"
            self._ask(
                module,
                "a weight for each position, whose axes may change",
                f'"{name}" = {{ kind = "{kind.name}", axes = "{letters}" }}  # by letters',
            )
        return kind

    def _with_rank(self, module: Module, kind: Kind) -> Kind:
        """How many spatial axes a PReLU sees; matters to Keras alone, whose slopes have them."""
        layers = self.layers
        keras = names.FAMILIES["keras"]
        if names.FAMILIES[layers.target] is not keras or names.FAMILIES[layers.source] is keras:
            return kind
        if module.path in self.open:
            return kind
        size = layers.elements(module)
        ranks = {
            spec.rank
            for m in layers.modules
            if layers.is_(m, *KERNELS)
            and (spec := layers.spec(m)) is not None
            and (spec.out_channels == size or size == 1)
        }
        if any(
            layers.is_(m, "dense") and (layers.sizes(m)[1] == size or size == 1)
            for m in layers.modules
        ):
            ranks.add(0)
        if len(ranks) == 1:
            return replace(kind, rank=ranks.pop())
        seen = " or ".join(map(str, sorted(ranks))) or "an unknown number of"
        self._ask(
            module,
            f"slopes behind layers with {seen} spatial axes",
            f'"{module.main.full}" = {{ kind = "prelu", rank = {max(ranks, default=2)} }}',
        )
        return kind


def _flattened(told: int, what: str) -> str:
    if told:
        return f"{what} channels and positions in the order of the model's framework, another one"
    return f"perhaps {what} channels and positions"


def _likely(channels: Sequence[int], count: int) -> int:
    """The largest number of channels that leaves several positions; 0 if there is none."""
    return max((c for c in channels if 1 < c < count and count % c == 0), default=0)


def _composite(count: int) -> bool:
    return any(count % n == 0 for n in range(2, int(count**0.5) + 1))


def written(order: Flatten | int | bool | None) -> str:
    """An order as it stands in a rule."""
    if isinstance(order, Flatten):
        if -1 in order.shape:
            return str(order.shape[order.layout.index("C")])
        return f'{{ layout = "{order.layout}", shape = {list(order.shape)} }}'
    return str(order).lower() if isinstance(order, bool) else str(order)
