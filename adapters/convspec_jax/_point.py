"""Kernels of one position without strides, 1x1 kernels, which are matrix products, on the CPU.

XLA gives a picture's to YNNPACK or to its own convolution (:mod:`convspec_jax._ynnpack`), and with
channels first it copies all data into another order, and so it does for a product of all positions.
As one product for each sample nothing is copied. Measured (JAX 0.10.2, 2 cores with AVX-512,
float32, interleaved, jitted, pictures of 1 to 32 samples, 3 to 512 channels, over the faster of
``lax.conv_general_dilated`` in the given order and permuted around it):

- channels last, from 2**21 multiplications on, of 45: forward 1.6 times as fast in the mean, 0.8 to
  6.2, with gradients 2.1, 1.0 to 5.1; volumes 1.05 and 1.5; of signals XLA makes a product itself;
- channels first, from 400 positions of a sample on, of 33: forward 2.0 times, 1.0 to 4.6, with
  gradients 2.7, 1.4 to 4.2; volumes and signals 1.5 and 1.6. Of 196 positions forward 0.6 to 1.2,
  and of a weight that is not much smaller than the data 0.1 to 1.1: it is copied for each sample.
"""

from __future__ import annotations

from math import prod
from typing import Any

import jax.numpy as jnp

from convspec.plan import Call

from ._kernel import sized

#: From so many multiplications on, for each sample and of all positions.
WORTHWHILE = 2**20
FLAT_WORTHWHILE = 2**21
#: For each sample from so many positions on, and so many times as many elements of data as of the
#: weight.
POSITIONS = 256
DATA = 3.5


def is_product(call: Call) -> bool:
    """Whether a call of known sizes is a matrix product."""
    plain = {*call.input_dilation} == {1} and not (call.padded or call.transposed)
    return call.pointwise and plain and call.groups == 1 and sized(call)


def by_product(call: Call) -> bool:
    """Whether a call on one CPU device is faster so, together with its gradients."""
    if call.device != "cpu" or call.dtype != "float32" or not is_product(call):
        return False
    flat = _flat(call) and call.rank > 1 and call.multiplications >= FLAT_WORTHWHILE
    return per_sample(call) or flat


def product(x: Any, w: Any, call: Call) -> Any:
    """A call that is a matrix product, whatever the orders of its arrays."""
    matrix = jnp.squeeze(w, [call.w_layout.index(letter) for letter in call.spatial])
    letters = "".join(letter for letter in call.w_layout if letter not in call.spatial)
    if per_sample(call):
        rows = jnp.reshape(x, (call.batch, call.in_channels, prod(call.output_size)))
        each = jnp.broadcast_to(matrix, (call.batch, *matrix.shape))
        y = jnp.einsum(f"NIS,N{letters}->NOS", rows, each)
    elif _flat(call):  # XLA contracts several axes slowly, as the gradient of the weight does
        rows = jnp.reshape(x, (call.batch * prod(call.output_size), call.in_channels))
        y = jnp.einsum(f"NI,{letters}->NO", rows, matrix)
    else:
        x_letters, y_letters = call.x_layout.replace("C", "I"), call.y_layout.replace("C", "O")
        y = jnp.einsum(f"{x_letters},{letters}->{y_letters}", x, matrix)
    return jnp.reshape(y, call.output_shape)


def per_sample(call: Call) -> bool:
    """Whether it is one product for each sample."""
    if not all(order.startswith("NC") for order in (call.x_layout, call.y_layout)):
        return False
    positions, weight = prod(call.output_size), call.in_channels * call.out_channels
    data = positions * (call.in_channels + call.out_channels)
    enough = positions >= POSITIONS and call.multiplications >= WORTHWHILE
    return bool(enough and data >= DATA * weight)


def _flat(call: Call) -> bool:
    """Whether all positions are rows of one matrix as they are."""
    return call.x_layout == call.y_layout and call.x_layout.endswith("C")
