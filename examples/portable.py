"""What a network needs beside convolutions, written once for the arrays of every framework.

The frameworks share Python's operators, basic slicing and the names of a few functions
(``maximum``, ``concat``, ``matmul``, ...), which is all that is used here. Axes are named by their
letter, so that a network reads the same whether the channels come first or last.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

import convspec
from convspec import ConvSpec, dispatch

#: Where a framework keeps the functions that all of them have, and whose axis orders it gets.
#: NumPy has no habit of its own; matrix products like the channels last.
FRAMEWORKS = {
    "numpy": ("numpy", "tensorflow"),
    "torch": ("torch", "torch"),
    "tensorflow": ("tensorflow", "tensorflow"),
    "jax": ("jax.numpy", "jax"),
}

#: The axis orders in which networks are written down, by number of axes.
WRITTEN = {2: "NC", 3: "NCW", 4: "NCHW", 5: "NCDHW"}


def available() -> tuple[str, ...]:
    """The frameworks of this table that are installed."""
    return tuple(name for name in FRAMEWORKS if name in dispatch.installed())


@dataclass(frozen=True)
class Layer:
    """The numbers of one layer, as float32 NumPy arrays in the order they were written in.

    Attributes:
        spec: the convolution; None for a dense layer.
        weight: of ``spec.weight_shape``, or (inputs, outputs) for a dense layer.
        bias: of shape (outputs,), or None.
        random: whether the weights have random signs. Hard-wired ones have not; the error bound
            (bounds.py) makes the difference.
    """

    spec: ConvSpec | None
    weight: Any
    bias: Any = None
    random: bool = True

    @property
    def terms(self) -> int:
        """How many products are summed for one output, at most."""
        if self.spec is None:
            return int(self.weight.shape[0])
        return math.prod(self.spec.kernel_size) * self.spec.in_channels // self.spec.groups


def drawn(spec: ConvSpec | tuple[int, int], rng: np.random.Generator) -> Layer:
    """A layer with random weights whose outputs are about as large as its inputs (He et al. 2015).

    Args:
        spec: a convolution, or (inputs, outputs) of a dense layer.
        rng: where the numbers come from.
    """
    if isinstance(spec, ConvSpec):
        shape, outputs = spec.weight_shape, spec.out_channels
        fan_in = math.prod(spec.kernel_size) * spec.in_channels / spec.groups
        if spec.transposed:  # only every stride-th tap reaches an output
            fan_in /= math.prod(spec.stride)
    else:
        shape, outputs, fan_in = spec, spec[1], spec[0]
    weight = rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2 / fan_in))
    bias = rng.standard_normal(outputs, dtype=np.float32) * np.float32(0.1)
    return Layer(spec if isinstance(spec, ConvSpec) else None, weight, bias)


class Framework:
    """The layers of a network on one framework, in its own axis orders."""

    def __init__(self, name: str, layers: dict[str, Layer]) -> None:
        """Hand the weights over; from here on no axis is moved until :meth:`leave`."""
        namespace, convention = FRAMEWORKS[name]
        convspec.get_backend(name)
        self.name = name
        self.functions = importlib.import_module(namespace)
        self.layouts = {
            axes: ConvSpec(1, 1, 1, layout=layout).in_convention(convention).layout
            for axes, layout in WRITTEN.items()
            if axes > 2
        } | {2: "NC"}
        self.layers = {}
        for key, layer in layers.items():
            spec, weight = layer.spec, layer.weight
            if spec is not None:
                spec = spec.in_convention(convention)
                weight = np.ascontiguousarray(layer.spec.convert_weight(weight, spec))
            bias = None if layer.bias is None else convspec.to_framework(layer.bias, name)
            self.layers[key] = Layer(spec, convspec.to_framework(weight, name), bias)

    # ---- layers ------------------------------------------------------------------------------

    def conv(self, key: str, x: Any) -> Any:
        """The convolution called ``key``."""
        layer = self.layers[key]
        return layer.spec(x, layer.weight, layer.bias)

    def dense(self, key: str, x: Any) -> Any:
        """The fully connected layer called ``key``: (N, inputs) -> (N, outputs)."""
        layer = self.layers[key]
        return self.functions.matmul(x, layer.weight) + layer.bias

    def relu(self, x: Any) -> Any:
        return self.functions.maximum(x, self.functions.zeros_like(x))

    def tanh(self, x: Any) -> Any:
        return self.functions.tanh(x)

    def pool(self, x: Any, window: Sequence[int], padding: Sequence[int] = (0, 0, 0)) -> Any:
        """The largest of each window (D, H, W), windows side by side, a rest left out.

        The padding, equal on both sides, is zeros: right after a ReLU, where nothing is smaller.
        """
        for letter, k, p in zip("DHW", window, padding, strict=True):
            if p:
                edge = self.functions.zeros_like(self.cut(x, letter, 0, p))
                x = self.concat([edge, x, edge], letter)
            if k > 1:
                x = reduce(self.functions.maximum, self._windows(x, letter, k))
        return x

    def _windows(self, x: Any, letter: str, k: int) -> list[Any]:
        """The first elements of all windows of k along one axis, the second ones, and so on.

        By reshaping, since TensorFlow's slices with a step are 15 times slower.
        """
        axis, count = self.axis(x, letter), self.size(x, letter) // k
        x = self.cut(x, letter, 0, count * k)
        x = self.functions.reshape(x, (*x.shape[:axis], count, k, *x.shape[axis + 1 :]))
        return [x[(slice(None),) * (axis + 1) + (i,)] for i in range(k)]

    def flatten(self, x: Any) -> Any:
        """(N, everything else), in the order of channels first whatever the layout is."""
        axes = len(x.shape)
        if self.layouts[axes] != WRITTEN[axes]:
            x = convspec.convert_layout(x, self.layouts[axes], WRITTEN[axes])
        return self.functions.reshape(x, (x.shape[0], math.prod(x.shape[1:])))

    # ---- axes by their letter ----------------------------------------------------------------

    def axis(self, x: Any, letter: str) -> int:
        return self.layouts[len(x.shape)].index(letter)

    def size(self, x: Any, letter: str) -> int:
        return int(x.shape[self.axis(x, letter)])

    def cut(self, x: Any, letter: str, start: int, stop: int) -> Any:
        """``x[start:stop]`` along one axis."""
        return x[(slice(None),) * self.axis(x, letter) + (slice(start, stop),)]

    def split(self, x: Any, letter: str) -> list[Any]:
        """Slices of size 1 along one axis."""
        return [self.cut(x, letter, i, i + 1) for i in range(self.size(x, letter))]

    def concat(self, parts: Sequence[Any], letter: str) -> Any:
        return self.functions.concat(list(parts), axis=self.axis(parts[0], letter))

    def images(self, x: Any) -> list[Any]:
        """The frames of a volume (N, C, D, H, W), each without its depth axis."""
        axis = self.axis(x, "D")
        return [x[(slice(None),) * axis + (i,)] for i in range(self.size(x, "D"))]

    # ---- in and out --------------------------------------------------------------------------

    def enter(self, x: Any) -> Any:
        """A NumPy array with the channels first as an array of this framework."""
        x = convspec.convert_layout(x, WRITTEN[x.ndim], self.layouts[x.ndim])
        return convspec.to_framework(np.ascontiguousarray(x), self.name)

    def leave(self, x: Any) -> Any:
        """The way back."""
        x = convspec.to_framework(x, "numpy")
        if x.ndim == 2:
            return x
        return convspec.convert_layout(x, self.layouts[x.ndim], WRITTEN[x.ndim])

    def finish(self, x: Any) -> None:
        """Wait until ``x`` has been computed: JAX returns before that."""
        getattr(x, "block_until_ready", lambda: None)()
