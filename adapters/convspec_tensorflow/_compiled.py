"""In eager mode, a repeated call as one function, compiled when it is wanted once more.

Without oneDNN, TensorFlow's kernels on the CPU take channels last alone, and its copies into that
order and back are slow, of volumes slower than the kernel. XLA calls the same kernels, and merges
such copies with what is around them; and its own kernels have rules (:mod:`convspec.xla`) that gain
most where only XLA makes one loop of them. A graph without XLA computes the parts of a volume that
are several kernel calls side by side, and with oneDNN pads a volume while it is read.

Where the kernel calls stay the same, so do the results, mostly to the last bit: XLA computes 1x1
kernels as matrix products, graphs add up many parts in another order, and oneDNN in one that
depends on the threads that are free. By a rule of XLA's, results are rounded in another way from
the third call on, and an infinite weight of a transposed call meets zeros at its borders.
``tf.config.experimental.enable_op_determinism()`` keeps all calls as the first.

Measured (TensorFlow 2.21, AVX-512, float32, 2 cores, interleaved medians over our own eager calls,
the mean of each kind, and the least), by XLA, without oneDNN:

- channels first, the same kernel calls: 1.26 over 308 random signals and pictures, 19 of them 0.84
  to 0.97; 1.2 to 4.7 over 30 volumes; the workloads of benchmarks/ 1.0 to 1.6;
- volumes of up to 16 channels, channels first: 1.68 over 49, 1.06;
- up to 8 groups, channels first: 1.44 over 54, 1.03;
- transposed with strides, channels first, up to 128 channels: 1.5 over 30, 0.87.

As elementwise products, depthwise or of more groups of two to four channels, 526 random calls:

- without oneDNN, signals 32 over 36, 5.4; pictures with channels first 5.2 over 48, 1.6, with
  channels last, but for depthwise ones (1.7, 0.6), 4.1 over 7, 2.7; volumes 6.5 over 76, 1.06;
- with oneDNN, signals with channels first 4.5 over 46, 1.7, with channels last 2.3 over 34, 0.6;
  pictures with channels first 3.3 over 51, one of them below 1.2, with channels last 1.2 over 54,
  0.2; depthwise volumes 7 over 119, 1.0, others with channels first 5.8 over 7, 0.97.

By graphs: 1.24 over 85 volumes of two or four groups, or padded and strided with oneDNN, one below
0.98; 1.16 over 70 dilated ones, one below 1.0. To compile takes 0.1 to 0.4 seconds with XLA, of
many groups up to 1.4, and without XLA 10 to 130 milliseconds.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import config

from convspec.lowering import Lowered
from convspec.plan import linear
from convspec.problem import Problem
from convspec.xla import STACKED_CHANNELS

from ._arrays import recording, watched
from ._point import is_product
from ._slow import onednn

Function = Callable[..., Any]

#: After so many eager calls.
CALLS = 2
#: For so many sizes of one convolution at most: where inputs have many sizes it does not pay.
SIZES = 8
#: And so many in all: TensorFlow keeps what XLA compiles, some 0.3 MB each, of many groups 11 MB.
MOST = 256
#: By XLA from so many elements of data on that it need not copy into another order.
MOVED = 2**18
#: By XLA up to so many channels of a transposed call.
TRANSPOSED_CHANNELS = 128
#: By XLA as elementwise products from so many elements of data, or so many multiplications, on;
#: and with oneDNN, of signals with channels last, up to so many multiplications.
PRODUCTS = 2**22
SIGNALS = 2**21
#: By a graph from so many multiplications on.
WORTHWHILE = 2**25

_made: Counter[Any] = Counter()


def may_be_faster(problem: Problem, own: Lowered) -> bool:
    """Whether :func:`by_xla` or :func:`by_graph` may say yes, which takes a while to find out."""
    if by_graph(problem, own) or _products(problem, own):
        return True
    return not onednn() and _moved(problem, own) >= MOVED


def by_xla(problem: Problem, own: Lowered, under_xla: Lowered) -> bool:
    """Whether XLA computes a repeated call on the CPU faster.

    Args:
        problem: of float32.
        own: how an eager call is computed.
        under_xla: how one would be that XLA compiles.
    """
    if not under_xla.calls:
        return _products(problem, own)
    if onednn() or _moved(problem, own) < MOVED:
        return False
    if _alike(own, under_xla) or is_product(problem):
        return True
    if problem.rank > 2:
        few = problem.rank == 3 and problem.in_channels <= STACKED_CHANNELS
        return few and problem.groups == 1 and not problem.transposed
    if problem.transposed:
        return problem.groups == 1 and problem.in_channels <= TRANSPOSED_CHANNELS
    return len(under_xla.calls) == problem.groups > 1


def by_graph(problem: Problem, own: Lowered) -> bool:
    """Whether a graph without XLA computes a repeated call on the CPU faster."""
    if problem.rank != 3 or own.multiplications < WORTHWHILE:
        return False
    padded = any(line.node.op == "pad" for line in linear(own.plan, own.inputs))
    dilated = any({*call.dilation} != {1} for call in own.calls)
    return len(own.calls) > 1 or dilated or (onednn() and padded)


def _products(problem: Problem, own: Lowered) -> bool:
    """Whether elementwise products, if XLA makes one loop of them, are faster."""
    elements = prod(problem.input_shape) + prod(problem.output_shape)
    enough = elements >= MOVED or own.multiplications >= PRODUCTS
    if problem.groups == 1 or not (enough and 1 <= problem.rank <= 3):
        return False
    depthwise, last = problem.groups == problem.in_channels, problem.layout.endswith("C")
    if not onednn():
        return problem.rank != 2 or not (last and depthwise)
    if problem.rank == 1:
        return not last or bool(own.multiplications < SIGNALS)
    if problem.transposed:
        return depthwise and (problem.rank == 3 or (not last and {*problem.stride} == {1}))
    return not last or (depthwise and problem.rank == 3)


def _alike(one: Lowered, other: Lowered) -> bool:
    """Whether two plans have the same kernel calls, for different compilers."""
    first, second = ([replace(call, device="") for call in plan.calls] for plan in (one, other))
    return first == second


def _moved(problem: Problem, lowered: Lowered) -> int:
    """How many elements of data are copied into the order that tf.nn takes, or would be."""
    if is_product(problem):  # a plan of matrix products leaves them where they are
        sides = problem.in_channels + problem.out_channels
        each = prod(problem.input_shape) // problem.in_channels
        return 0 if problem.layout.endswith("C") else each * sides
    total, weights = 0, {1}  # what is made of the plan's second input
    for line in linear(lowered.plan, lowered.inputs):
        if weights.issuperset(line.args):
            weights.add(line.target)
        elif line.node.op == "permute":
            total += prod(line.node.shape)
    return total


def alone(*, xla: bool) -> bool:
    """Whether a function may be called: not within pfor, for a Jacobian, which makes one itself.

    A graph may wait for a thread of TensorFlow's own, and these for the caller: in one of them, as
    in ``tf.py_function``, or in one of Python's that such a function waits for. So graphs are the
    main thread's. XLA's run in the thread that calls them.
    """
    thread = threading.current_thread()
    foreign = isinstance(thread, threading._DummyThread)
    mine = not foreign if xla else thread is threading.main_thread()
    return mine and tf.executing_eagerly()


def repeated(kernel: Function, compiled: Callable[[], Function | None]) -> Function:
    """``kernel``, and from the third eager call on the function that ``compiled`` gives, if any.

    What a tape watches is the kernel's, which tapes know how to differentiate.
    """
    calls = 0
    made: list[Function] = []  # one, in the end
    making = threading.Lock()

    def run(*given: Any, **options: Any) -> Any:
        nonlocal calls
        if not alone(xla=True):
            return kernel(*given, **options)
        arrays = list(map(tf.convert_to_tensor, given))  # of variables
        if recording() and any(map(watched, arrays)):
            return kernel(*arrays)
        calls += 1
        if calls > CALLS and not made and making.acquire(blocking=False):  # others do without
            try:
                if not made:
                    made.append(compiled() or kernel)
            finally:
                making.release()
        return (made[0] if made else kernel)(*arrays)

    return run


def allowed(problem: Problem, purpose: str) -> bool:
    """Whether one more function may be made for a convolution, which is counted.

    Not where somebody looks at single operations, or wants the same bits from each call.
    """
    if tf.config.functions_run_eagerly() or config.is_op_determinism_enabled():
        return False
    kind = (purpose, problem.layout, problem.weight_shape, problem.stride, problem.dilation)
    _made[kind] += 1
    _made["all"] += 1
    return _made[kind] <= SIZES and _made["all"] <= MOST


def function_of(run: Function, like: Sequence[Any], *, xla: bool = False) -> Function:
    """``run`` as a function of tensors ``like`` these; itself where that fails, or might hang."""
    signature = [tf.TensorSpec(a.shape, a.dtype) for a in like]
    try:
        with tf.device(None):
            made = tf.function(run, autograph=False, jit_compile=xla or None).get_concrete_function(
                *signature
            )
    except Exception:  # whatever is wrong with the call, it says itself
        return run
    at_once, captured = made.inference_fn.call_preflattened, made.captured_inputs
    fails = False

    def function(*arrays: Any) -> Any:
        nonlocal fails
        if not fails and alone(xla=xla):
            try:
                if recording():
                    return made(*arrays)
                # What is not recorded needs none of the 0.1 ms for what it would be differentiated.
                return at_once([*arrays, *captured])
            except tf.errors.OpError:  # of XLA, or what follows says it too
                fails = True
        return run(*arrays)

    return function
