"""A trainable layer that runs any spec: two functions for JAX, and a module for Flax NNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from convspec import ConvSpec
from convspec.errors import ConvSpecError
from convspec.initial import initial_arrays
from convspec.natives import check_names


def init(
    spec: ConvSpec, key: Any = None, *, seed: int | None = None, dtype: Any = jnp.float32
) -> dict[str, jax.Array]:
    """Parameters for :func:`apply`, under Flax's names: ``kernel``, and ``bias`` if there is one.

    Args:
        spec: the convolution; ``kernel`` has the shape ``spec.weight_shape``.
        key: a JAX random key. The kernel is LeCun-normal and the bias zero, as in Flax, and the
            kernel is the one that Flax's own layer draws from this key.
        seed: in place of a key: draw by :func:`convspec.initial_arrays`, the same in every
            framework.
        dtype: of the parameters.

    Raises:
        ConvSpecError: both of ``key`` and ``seed``, or neither.
    """
    if (key is None) == (seed is None):
        raise ConvSpecError("key: give either a random key or seed=, not both.")
    if seed is not None:
        weight, bias = initial_arrays(spec, seed)
        kernel = jnp.asarray(weight, dtype)
    else:
        # The rule depends on the order of axes, so it works on a kernel in Flax's.
        flax = spec.in_convention("flax")
        kernel = jax.nn.initializers.lecun_normal()(key, flax.weight_shape, dtype)
        kernel = flax.convert_weight(kernel, to=spec)
        bias = jnp.zeros(spec.bias_shape, dtype)
    params = {"kernel": kernel}
    if spec.bias:
        params["bias"] = jnp.asarray(bias, dtype)
    return params


def apply(
    spec: ConvSpec,
    params: Mapping[str, Any],
    x: jax.Array,
    *,
    output_size: int | Sequence[int] | None = None,
) -> jax.Array:
    """``spec(x, kernel, bias)`` with the parameters that :func:`init` gives.

    Args:
        spec: the convolution; static under ``jax.jit``.
        params: arrays named ``kernel``, and ``bias`` if the spec has one.
        x: array in ``spec.layout``.
        output_size: transposed only, as in a call of a spec.

    Raises:
        ConvSpecError: other names; the message lists both sides.
    """
    check_names("params", params, ("kernel", "bias") if spec.bias else ("kernel",))
    return spec(x, params["kernel"], params.get("bias"), output_size=output_size)
