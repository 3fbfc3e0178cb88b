"""The trainable layer as a Flax NNX module. Imported when it is asked for: Flax is optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from convspec import ConvSpec
from convspec.errors import ConvSpecError
from convspec.natives import Layer

from ._layer import init


class Conv(nnx.Module):  # type: ignore[misc]  # nor are Flax's types
    """A convolution whose every case is one spec's, with Flax's parameters and initial values.

    Attributes:
        spec: the convolution.
        kernel: of shape ``spec.weight_shape``, in the spec's order.
        bias: of shape ``(out_channels,)``, or None where ``spec.bias`` is false.

    Args:
        spec: the convolution.
        rngs: where the kernel comes from, as for ``nnx.Conv``, which draws the same one.
        seed: in place of ``rngs``: draw by :func:`convspec.initial_arrays`, the same in every
            framework.
        param_dtype: of the parameters.

    Raises:
        ConvSpecError: both of ``rngs`` and ``seed``, or neither.
    """

    def __init__(
        self,
        spec: ConvSpec,
        *,
        rngs: nnx.Rngs | None = None,
        seed: int | None = None,
        param_dtype: Any = jnp.float32,
    ) -> None:
        if (rngs is None) == (seed is None):
            raise ConvSpecError("rngs: give either nnx.Rngs or seed=, not both.")
        key = None if rngs is None else rngs.params()
        params = init(spec, key, seed=seed, dtype=param_dtype)
        self.spec = spec
        self.kernel = nnx.Param(params["kernel"])
        self.bias = nnx.Param(params["bias"]) if spec.bias else None

    def __call__(self, x: jax.Array, output_size: int | Sequence[int] | None = None) -> jax.Array:
        """``spec(x, kernel, bias)``; ``output_size`` is for transposed specs."""
        return self.spec(x, self.kernel, self.bias, output_size=output_size)

    def read(self) -> Layer:
        """What :meth:`ConvSpec.from_native` makes of it."""
        return Layer(self.spec, self.kernel, self.bias)
