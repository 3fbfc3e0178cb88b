"""Kernels of one position without strides, 1x1 kernels: matrix products, where these are faster.

Of data with channels last, all positions of all samples are the rows of one matrix. With channels
first each sample is a matrix of its own, and nothing is copied: y = w^T x.

Measured (TensorFlow 2.21, AVX-512, float32, 2 cores, medians of interleaved calls), on 79 random
signals, pictures and volumes with oneDNN and 35 without, eager or in a graph, whichever is faster,
over the faster of tf.nn with either order of the data:

- with gradients, channels first 1.49 times as fast in the mean with oneDNN, 0.97 to 3.9, and 1.38
  without, 0.94 to 5.2; channels last 1.32, 0.93 to 1.9, and 1.29 without, 0.97 to 6.3, most where
  few positions meet a wide weight;
- forward in graphs, channels first, with oneDNN 1.2 to 4 times as fast as with copies into another
  order, as NCHW itself; without 1.7, 1.03 to 3.6, in some of them by XLA;
- forward of few positions and wide weights, with oneDNN, whose kernel reads the weight anew for
  each sample, up to 3 times as fast as rows of one matrix; of more positions 0.9 to 1.1.

A wide weight wants many positions where each sample is a matrix of its own, for its gradient is a
sum of one such matrix for each: with 128 samples of 4 positions, 512 channels onto 2048, it has
0.17 of tf.nn's speed.
"""

from __future__ import annotations

from math import prod

from convspec.geometry import pointwise
from convspec.plan import Call
from convspec.problem import Problem
from convspec.symbols import known

from ._slow import onednn

#: A sample's data are at least so large a part of the weight, with gradients as large: each sample
#: has one of the weight of its own, and no more memory is to be taken than there are data.
DATA = 1 / 4
#: Without oneDNN, from so many positions on: TensorFlow has one thread for small matrices.
EIGEN_POSITIONS = 784
#: Without oneDNN, volumes from so many multiplications on.
VOLUMES = 2**20
#: With oneDNN, from so many elements of the weight on, which it reads anew for each sample after
#: the first, and up to so many positions of all samples.
WEIGHTS = 2**19
ROWS = 2**11
#: If the data have to be copied, for a weight of so many times a sample's elements.
WIDE = 16


def is_product(what: Call | Problem) -> bool:
    """Whether a matrix product computes it, but for padding."""
    return what.rank > 0 and what.groups == 1 and pointwise(what.kernel_size, what.stride)


def stays_first(problem: Problem, *, gradients: bool) -> bool:
    """Whether channels that come first stay there, so that each sample is a matrix of its own.

    Args:
        gradients: whether what counts is the time of the call and its gradients together.
    """
    orders = (problem.layout, problem.output_layout)
    if not is_product(problem) or any(order.replace("N", "")[0] != "C" for order in orders):
        return False
    if not known(*problem.output_size):
        return False
    positions, i, o = prod(problem.output_size), problem.in_channels, problem.out_channels
    if not onednn() and positions < EIGEN_POSITIONS:
        return False
    return bool(positions * (i + o) >= i * o * (1 if gradients else DATA))


def by_product(call: Call, *, gradients: bool) -> bool:
    """Whether a call is computed so, once it neither pads nor is transposed.

    Args:
        gradients: whether what counts is the time of the call and its gradients together.
    """
    if call.device != "cpu" or not (is_product(call) and known(*call.output_size)):
        return False
    return call.x_layout[1] == "C" or by_rows(call, gradients=gradients)


def by_rows(call: Call, *, gradients: bool) -> bool:
    """Whether a call of a 1x1 kernel is faster as one product of all positions, channels last."""
    if call.dtype != "float32" or not is_product(call):
        return False
    call = call.least
    if gradients or not onednn():
        return gradients or (call.rank > 2 and bool(call.multiplications >= VOLUMES))
    read_anew = (call.batch - 1) * call.in_channels * call.out_channels
    return bool(read_anew >= WEIGHTS and call.batch * prod(call.output_size) <= ROWS)


def worth_copies(call: Call) -> bool:
    """Whether that is so for data with channels first, which are copied for it, beside oneDNN's
    kernel for these.
    """
    data = prod(call.output_size) * (call.in_channels + call.out_channels)
    return by_rows(call, gradients=False) and WIDE * data <= call.in_channels * call.out_channels


def per_sample(call: Call) -> bool:
    """Whether it is a product for each sample: x (N, I, S), w (1, I, O) -> y (N, O, S)."""
    plain = not (call.padded or call.transposed or call.bias)
    return plain and call.rank == 1 and call.x_layout[1] == "C" and by_product(call, gradients=True)
