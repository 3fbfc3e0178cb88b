"""How far may two frameworks differ? A bound on the rounding errors of a network.

Every framework adds up a convolution in an order of its own, so float32 results differ. The bound
is computed along with the network, in float64, by the network's own specs.

One output of a layer is y = sum(w_i x_i) + b over n products. The framework's inputs are x_i + e_i,
and each operation's result is off by a factor 1 + d, |d| <= u = 2**-24. To first order y is off by

    sum(w_i e_i)  +  sum(w_i x_i d_i)  +  sum(s_j d_j),

the errors carried over, the roundings of n products, and those of n additions with the partial
sums s_j, whatever their order. Fused multiply-adds only leave some out.

*Random weights.* The worst case grows by sum|w_i|, about 50 times a layer, and says nothing after
five layers. But roundings behave as if independent with mean zero (Higham and Mary 2019, A new
approach to probabilistic rounding error analysis), and the weights have random signs, drawn
independently of what enters the layer. In the mean square over both, all mixed terms vanish. With
q = sum(w_i**2 x_i**2) + b**2, a sum of j of the n terms, added in an order that has nothing to do
with their values, has mean square (j/n)**2 y**2 + (j/n) (n-j)/(n-1) (q - y**2/n) < q + y**2, so

    E[error**2]  <=  sum(w_i**2 E[e_i**2])  +  (n+1) u**2 (q + y**2).

That is one more convolution: the same spec, with squared weights and squared inputs.

*Fixed weights* have no random signs, so the worst case is taken (Higham 2002, Accuracy and
Stability of Numerical Algorithms, section 3.1): |error| <= sum(|w_i| (|e_i| + g |x_i'|)) with
g = n u / (1 - n u). Again the same spec, with absolute weights. Products, quotients and sums of
arrays are bounded in the same way (class Bounded).

ReLU, max pooling and tanh move two values no further apart than their inputs are; tanh adds 8 u,
its error in these frameworks (6.2 u was the most in 4e7 samples).

The limit for an element is sqrt(2 log(2 N / p)) of these root mean squares. Normally distributed
errors exceed it anywhere among the N elements of a layer with probability p = 1e-9 at most. It is
no bound for kernels that multiply in less than float32 (TF32) or transform first (Winograd, FFT).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convspec import ConvSpec
from portable import WRITTEN, Framework, Layer

U = 2.0**-24
TANH = 8 * U
CHANCE = 1e-9


@dataclass(frozen=True)
class Bounded:
    """Exact values, and how far off a float32 computation may be (root mean square or at most)."""

    value: Any
    error: Any

    @property
    def limit(self) -> Any:
        """What no element's error may exceed."""
        return math.sqrt(2 * math.log(2 * self.error.size / CHANCE)) * self.error

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape  # type: ignore[no-any-return]

    def __getitem__(self, index: Any) -> Bounded:
        return Bounded(self.value[index], self.error[index])

    def __add__(self, other: Bounded | float) -> Bounded:
        other = bounded(other)
        return rounded(self.value + other.value, self.error + other.error)

    def __sub__(self, other: Bounded | float) -> Bounded:
        other = bounded(other)
        return rounded(self.value - other.value, self.error + other.error)

    def __mul__(self, other: Bounded) -> Bounded:
        (a, e), (b, f) = (self.value, self.error), (other.value, other.error)
        return rounded(a * b, abs(a) * f + abs(b) * e + e * f)

    def __truediv__(self, other: Bounded) -> Bounded:
        value = self.value / other.value
        error = self.error + abs(value) * other.error
        return rounded(value, error / (abs(other.value) - other.error))


def bounded(x: Bounded | float) -> Bounded:
    return x if isinstance(x, Bounded) else Bounded(x, abs(x) * U)


def rounded(value: Any, error: Any) -> Bounded:
    """A result that was computed with ``error`` and rounded once more."""
    return Bounded(value, error + U * (abs(value) + error))


class Functions:
    """The functions of a framework, on bounded arrays."""

    @staticmethod
    def maximum(a: Bounded, b: Bounded) -> Bounded:
        return Bounded(np.maximum(a.value, b.value), np.maximum(a.error, b.error))

    @staticmethod
    def zeros_like(x: Bounded) -> Bounded:
        return Bounded(np.zeros_like(x.value), np.zeros_like(x.error))

    @staticmethod
    def concat(parts: list[Bounded], axis: int) -> Bounded:
        values, errors = ([part.value for part in parts], [part.error for part in parts])
        return Bounded(np.concat(values, axis), np.concat(errors, axis))

    @staticmethod
    def reshape(x: Bounded, shape: tuple[int, ...]) -> Bounded:
        return Bounded(x.value.reshape(shape), x.error.reshape(shape))

    @staticmethod
    def tanh(x: Bounded) -> Bounded:
        value = np.tanh(x.value)
        return Bounded(value, x.error + TANH * abs(value))


class Analysis(Framework):
    """Runs a network in float64, in the orders it was written in, with the bound beside it.

    Args:
        layers: the network's.
        compute: what a convolution gives on NumPy arrays: a call of the spec, or
            ``convspec.reference``.
    """

    def __init__(
        self, layers: dict[str, Layer], compute: Callable[..., Any] = ConvSpec.__call__
    ) -> None:
        self.name, self.functions, self.layouts = "analysis", Functions, WRITTEN
        self.layers, self.compute = layers, compute

    def conv(self, key: str, x: Bounded) -> Bounded:
        spec = self.layers[key].spec
        return self._linear(key, x, lambda x, w, b: self.compute(spec, x, w, b))

    def dense(self, key: str, x: Bounded) -> Bounded:
        return self._linear(key, x, lambda x, w, b: x @ w + b)

    def _linear(self, key: str, x: Bounded, apply: Callable[..., Any]) -> Bounded:
        layer = self.layers[key]
        n = layer.terms
        w = layer.weight.astype(np.float64)
        b = None if layer.bias is None else layer.bias.astype(np.float64)
        y = apply(x.value, w, b)
        seen = abs(x.value) + x.error
        if layer.random:
            local = (n + 1) * U**2
            squares = apply(x.error**2 + local * seen**2, w**2, None if b is None else local * b**2)
            return Bounded(y, np.sqrt(squares + local * y**2))
        if b is not None:
            raise ValueError(f"{key}: the bound is for fixed weights without a bias")
        return Bounded(y, apply(x.error + n * U / (1 - n * U) * seen, abs(w), None))

    def enter(self, x: Any) -> Bounded:
        return Bounded(x.astype(np.float64), np.zeros(x.shape))
