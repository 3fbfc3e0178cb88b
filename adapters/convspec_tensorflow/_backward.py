"""In eager mode, the gradients of a call as one function, made when they are wanted again.

A graph computes both gradients at the same time, and leaves out the one that nobody watches: of a
first layer the input's, which an eager tape computes all the same. Measured on 17 of the workloads
of benchmarks/, in both layouts (TensorFlow 2.21 with oneDNN, AVX-512, float32, 2 cores, medians of
interleaved calls): both gradients are 0.9 to 1.5 times as fast so, 1.09 in the mean; that by the
weight alone 1.2 to 6 times, 1.64 in the mean. To make a graph takes 10 to 60 milliseconds.

Without oneDNN, XLA computes some of them faster. Measured on 382 random signals and pictures, of
float32 and without strides, beside such a graph:

- of as many input channels as output channels, or more, and samples enough: 1.89 times as fast in
  the mean of 36 with channels first, at least 1.06; 1.36 of 27 with channels last, three of them
  0.76 to 0.78. Of half as many 1.2 to 1.85 with channels first, 0.9 in the mean with channels last;
- of dilated ones 1.8, of large ones (:mod:`convspec_tensorflow._gradients`) 1.7, in the mean, with
  one sample too; of 1x1 kernels with channels first and few positions 1.0 to 2.3, 1.4 in the mean
  of 12 (:mod:`convspec_tensorflow._point`).

An infinite weight meets zeros at the borders there, and gives NaN.

Of others it is slower: of one or two samples of as many channels in as out 0.6 to 1.0, of fewer in
than out 0.3 to 1.0, with strides 0.8 in the mean.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record

from convspec.plan import Call

from ._arrays import tied, watched
from ._compiled import alone, function_of
from ._gradients import by_convolutions
from ._point import per_sample
from ._slow import onednn

Function = Callable[..., Any]

#: By XLA from so many multiplications forward on.
WORTHWHILE = 2**25
#: And from so many times as many input channels, of all samples together, as output channels.
SAMPLES = 4
#: Large kernels up to so many times as many.
LARGEST = 8


def gradients_by_xla(call: Call, *, copied: bool) -> bool:
    """Whether XLA computes the gradients of a repeated eager call on the CPU faster.

    Args:
        copied: whether the data are in another order than the kernel takes.
    """
    if onednn() or call.dtype != "float32" or call.rank > 2 or call.symbolic:
        return False
    if per_sample(call) or call.multiplications < WORTHWHILE:
        return False
    if call.rank == 0:  # of a 1x1 kernel: XLA merges the copies around it
        return copied
    if call.transposed or call.groups > 1 or {*call.stride, *call.input_dilation} != {1}:
        return False
    channels, others = call.in_channels, call.out_channels
    if by_convolutions(call):
        return channels < LARGEST * others
    enough = {*call.dilation} != {1} or call.batch * channels >= SAMPLES * others
    return enough and channels * (1 + copied) >= others


def with_graph(
    kernel: Function, differentiable: Function, *, vectorizes: bool, xla: bool = False
) -> Function:
    """``kernel``, differentiated as ``differentiable``, which gives the same.

    It is for eager mode, and tapes alone: a graph passes no tangents on that come to a gradient.

    Args:
        vectorizes: whether pfor is right about the gradients of ``differentiable``.
        xla: whether XLA compiles them.
    """
    graphs: dict[tuple[int, ...], Function] = {}
    making = threading.Lock()

    def run(*arrays: Any) -> Any:
        wanted = tuple(i for i, array in enumerate(arrays) if watched(array))
        with record.stop_recording():
            y = kernel(*arrays)
        like = tf.TensorSpec(y.shape, y.dtype)

        def backward(g: Any) -> Sequence[Any]:
            g = tf.convert_to_tensor(g)
            plain = partial(gradients, differentiable, arrays, wanted, g, vectorizes=vectorizes)
            if not (alone(xla=xla) and like.is_compatible_with(g)):
                return plain()
            if wanted not in graphs:
                if not making.acquire(blocking=False):
                    return plain()  # while another thread makes one
                try:
                    graphs[wanted] = _graph(differentiable, wanted, (*arrays, g), xla=xla)
                finally:
                    making.release()
            found: Sequence[Any] = graphs[wanted](*arrays, g)
            return found

        record.record_operation("convspec", [y], [arrays[i] for i in wanted], backward)
        return y

    return run


def gradients(
    function: Function, arrays: Sequence[Any], wanted: Sequence[int], g: Any, *, vectorizes: bool
) -> Sequence[Any]:
    """The gradients of ``function`` by some of its arrays, for that of its result.

    Args:
        vectorizes: whether pfor is right about them; if not, they are computed one by one there.
    """
    g = tf.convert_to_tensor(g)  # slices, where they come from tf.gather
    arrays = list(map(tf.identity, arrays))  # each has a gradient of its own, even if they are one
    if not vectorizes:
        arrays[0], g = tied(arrays[0], g), tied(g, arrays[0])
    with tf.GradientTape() as tape:
        tape.watch([arrays[i] for i in wanted])
        y = function(*arrays)
    found: Sequence[Any] = tape.gradient(y, [arrays[i] for i in wanted], output_gradients=g)
    return found


def _graph(
    function: Function, wanted: Sequence[int], like: Sequence[Any], *, xla: bool
) -> Function:
    """:func:`gradients` of arrays, and a gradient, ``like`` these; pfor never comes here."""

    def run(*given: Any) -> Any:
        *arrays, g = given
        return gradients(function, arrays, wanted, g, vectorizes=True)

    return function_of(run, like, xla=xla)
