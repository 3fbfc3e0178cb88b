"""In eager mode, a repeated call as one function, compiled when it is wanted once more.

Without oneDNN, TensorFlow's kernels on the CPU take channels last alone, and its copies into that
order and back are slow, of volumes slower than the kernel. XLA calls the same kernels, and merges
such copies with what is around them. A graph without XLA computes the parts of a volume that are
several kernel calls side by side, and with oneDNN pads a volume while it is read.

Only what is the same kernel calls then is compiled, so that results stay what they are: to the last
bit, but that XLA computes 1x1 kernels as matrix products, and that oneDNN adds up in an order that
depends on the threads that are free.

Measured (TensorFlow 2.21, AVX-512, float32, 2 cores, interleaved medians over our own eager calls):
by XLA without oneDNN, channels first, the workloads of benchmarks/ 1.0 to 1.6 times as fast, and
1.25 in the mean of 130 random signals and pictures; volumes 1.2 to 4.7 times. By graphs 85 random
volumes of two or four groups, or padded and strided with oneDNN, 1.24 in the mean. To compile takes
0.1 to 0.4 seconds with XLA, and 10 to 130 milliseconds without.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import config

from convspec.problem import Problem

from ._arrays import recording, watched

Function = Callable[..., Any]

#: After so many eager calls.
CALLS = 2
#: For so many sizes of one convolution at most: where inputs have many sizes it does not pay.
SIZES = 8
#: By XLA from so many elements of data on that it need not copy into another order.
MOVED = 2**19
#: By a graph from so many multiplications on.
WORTHWHILE = 2**25

_made: Counter[Any] = Counter()


def repeated(kernel: Function, compiled: Callable[[], Function | None]) -> Function:
    """``kernel``, and from the third eager call on the function that ``compiled`` gives, if any.

    What a tape watches is the kernel's, which tapes know how to differentiate.
    """
    calls = 0
    function: Function | None = None

    def run(*given: Any, **options: Any) -> Any:
        nonlocal calls, function
        if not alone():
            return kernel(*given, **options)
        arrays = list(map(tf.convert_to_tensor, given))  # of variables
        if recording() and any(map(watched, arrays)):
            return kernel(*arrays)
        if calls == CALLS:
            function = compiled()
        calls += 1
        return (function or kernel)(*arrays)

    return run


def alone() -> bool:
    """Whether a function may be called: not within pfor, for a Jacobian, which makes one itself.

    Nor in a thread of TensorFlow's own, as in ``tf.py_function``: there a graph waits for another
    of these threads, forever if all of them wait.
    """
    foreign = isinstance(threading.current_thread(), threading._DummyThread)
    return tf.executing_eagerly() and not foreign


def allowed(problem: Problem, purpose: str) -> bool:
    """Whether one more function may be made for a convolution, which is counted.

    Not where somebody looks at single operations, or wants the same bits from each call.
    """
    if tf.config.functions_run_eagerly() or config.is_op_determinism_enabled():
        return False
    kind = (purpose, problem.layout, problem.weight_shape, problem.stride, problem.dilation)
    _made[kind] += 1
    return _made[kind] <= SIZES


def function_of(run: Function, like: Sequence[Any], *, xla: bool = False) -> Function:
    """``run`` as a function of tensors ``like`` these, or itself where that fails."""
    signature = [tf.TensorSpec(a.shape, a.dtype) for a in like]
    with tf.device(None):
        made: Function = tf.function(
            run, autograph=False, jit_compile=xla or None
        ).get_concrete_function(*signature)
    fails = False

    def function(*arrays: Any) -> Any:
        nonlocal fails
        if not fails:
            try:
                return made(*arrays)
            except tf.errors.OpError:  # of XLA, or what follows says it too
                fails = True
        return run(*arrays)

    return function
