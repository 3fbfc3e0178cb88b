"""The TensorFlow backend: what its kernel likes, what it lacks, and whose arrays it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, partial
from threading import Lock
from typing import Any

import tensorflow as tf

from convspec import dtypes, xla
from convspec.backend import Capabilities, Environment, Guard, Kernel
from convspec.errors import UnsupportedError
from convspec.lowering import Lowered, Orders, lower
from convspec.onednn import ends_meet
from convspec.plan import Call, Step, assemble
from convspec.problem import Problem
from convspec.symbols import Sizes
from convspec.toolkit import PlanBackend

from . import _arrays, _snippets, _unknown
from ._backward import gradients, gradients_by_xla, with_graph
from ._compiled import allowed, by_graph, by_xla, function_of, may_be_faster, repeated
from ._dtensor import refusing_split_space
from ._few import few_inputs, few_outputs, sides_exchanged
from ._gradients import by_convolutions
from ._guards import shortcut
from ._kernel import by_batches, conv, explicit, fuses_pad, kernel, takes_none
from ._point import by_product, per_sample, stays_first, worth_copies
from ._probe import differentiates, works, works_in_graphs, writes_elsewhere
from ._slow import avx512, by_taps, faster, onednn


class TensorflowBackend(PlanBackend):
    """Tensors and variables: ranks 1 to 3 by tf.nn, the rest by sums over taps.

    Which of tf.nn's kernels work depends on the build, the processor and an environment variable,
    so they are tried on a few numbers before they are used (:mod:`convspec_tensorflow._probe`).
    """

    name = "tensorflow"
    operations = {**_arrays.OPERATIONS, "conv": conv}
    snippets = _snippets.SNIPPETS
    views = frozenset({"reshape"})
    pads_symbols = False  # tf.pad refuses to reflect a batch that turns out to be empty
    splits = True
    #: Whether its plans are for gradients: of nothing but calls that have some, and fast ones.
    differentiates = False
    #: Whether 1x1 kernels may be matrix products.
    multiplies = True
    #: Whether its plans leave the data in their order, for which there is no kernel.
    leaves_order = False

    @property
    def capabilities(self) -> Capabilities:
        found = (device.device_type.lower() for device in tf.config.list_physical_devices())
        return Capabilities(
            tf.__version__, dtypes.ALL, None, tuple(dict.fromkeys(found)), gradients=True
        )

    def owns(self, x: Any) -> bool:
        return bool(tf.is_tensor(x)) or isinstance(x, tf.Variable)

    def unwrap(self, x: Any) -> Any:
        if isinstance(x, tf.Tensor):
            return x
        if isinstance(x, (tf.SparseTensor, tf.RaggedTensor)):
            raise TypeError("its kind has none; make a dense one of it first.")
        return tf.convert_to_tensor(x)

    def describe(self, x: Any) -> tuple[tuple[Any, ...], str, str]:
        return _arrays.shape_of(x), x.dtype.name, _arrays.device_of(x)

    def shortcut(self, kernel: Kernel, arrays: Sequence[Any]) -> tuple[Guard, Kernel] | None:
        return shortcut(kernel, arrays)

    def traced(self, x: Any) -> bool:
        return not tf.executing_eagerly()

    def differentiable(self, x: Any) -> bool:
        return not tf.executing_eagerly() or _arrays.watched(x)

    def out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError))

    def vjp(self, function: Any, arrays: Any, cotangent: Any) -> tuple[Any, ...]:
        return _arrays.vjp(function, arrays, cotangent)

    def maximum(self, a: Any, b: Any) -> Any:
        return tf.maximum(a, b)

    def plan(self, problem: Problem, env: Environment) -> Lowered:
        eager = not env.traced and env.device == "cpu" and not self.differentiates
        if eager and onednn():
            try:
                return CHANNELS_FIRST.plan(problem, env)
            except UnsupportedError:
                pass
        lowered = super().plan(problem, env)
        if env.device == _arrays.XLA and not lowered.calls:  # elementwise products: one loop
            left = copy(self)
            left.leaves_order = True
            return lower(problem, env, left)
        if self.differentiates or not any(map(few_outputs, lowered.calls)):
            return lowered
        return replace(lowered, notes=(*lowered.notes, "few output channels: " + OWN))

    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        data = y = f"N{problem.spatial}C"
        if self.leaves_order:
            batch = "" if "N" in problem.layout else "N"
            data, y = batch + problem.layout, batch + problem.output_layout
        elif device == "cpu" and stays_first(problem, gradients=self.differentiates):
            data = y = f"NC{problem.spatial}"
        if transposed:
            return Orders(data, f"{problem.spatial}OI", y, "I")
        # tf.nn.depthwise_conv2d takes (H, W, I, M), one stride for both axes, and no dilation
        # beside a stride. Volumes are sums of pictures, over the taps of their first axis.
        stride, dilation = problem.stride[-2:], problem.dilation[-2:]
        depthwise = (
            problem.rank in (2, 3)
            and device != _arrays.XLA
            and problem.groups == problem.in_channels > 1
            and len(set(stride)) == 1
            and (stride[0] == 1 or set(dilation) == {1})
        )
        return Orders(data, f"{problem.spatial}IO", y, "I" if depthwise else "O")

    def lacks(self, call: Call) -> str:
        if any(step != 1 for step in call.input_dilation):
            return "input_dilation"
        product = self.multiplies and by_product(call, gradients=self.differentiates)
        if not (call.nonempty or product or takes_none(call)):
            return "batch"
        if call.bias:
            return "bias"
        if call.rank == 0:
            return "groups" if call.groups > 1 else ""
        if product and (call.padded or call.transposed):
            return "padding" if call.padded else "transposed"
        if product:
            return "" if per_sample(call) else "point"
        if call.rank > 3:
            return "rank"
        if call.device == _arrays.XLA and (
            quicker := xla.faster(call, gradients=self.differentiates)
        ):
            return quicker
        fast = self.differentiates and few_inputs(call)
        quicker = "" if fast else faster(call, gradients=self.differentiates)
        crops = quicker in ("transposed", "phases")  # as it computes, no more than is left
        if call.padded and not crops and not _pads_itself(call):
            return "padding"
        if quicker:
            return quicker
        if call.rank == 3 and call.groups > 1:  # known: no 3-D kernel has groups outside XLA
            return _missing(call, gradients=self.differentiates)
        return "" if works(call) else _missing(call, gradients=self.differentiates)

    def pads(self, mode: str, rank: int, dtype: str) -> bool:
        return mode == "reflect" and rank <= 3

    def compute_dtype(self, dtype: str, out_dtype: str, device: str) -> str:
        chosen = super().compute_dtype(dtype, out_dtype, device)
        if chosen in dtypes.INTEGER:  # the two types with matrix products; casts wrap
            return "int64" if chosen in ("int64", "uint32", "uint64") else "int32"
        if device not in (*_arrays.CPU, "custom") and dtype == out_dtype:
            return dtype  # accelerators accumulate half types in float32 themselves
        return chosen

    def bound(self, op: str, params: dict[str, Any]) -> Step:
        if op == "conv":
            return Step(kernel(params["call"], gradients=self.differentiates))
        return _arrays.bound(op, params) or super().bound(op, params)

    def unbound(self, op: str, params: dict[str, Any]) -> Callable[..., Any]:
        return _unknown.OPERATIONS.get(op) or super().unbound(op, params)

    def prepare(self, problem: Problem, env: Environment) -> Kernel:
        run = super().prepare(problem, env)
        if not env.traced:
            run = self._once_repeated(run, problem, env)
        run = self._with_gradients(run, problem, env)
        if not env.traced:
            return refusing_split_space(run, problem) if env.device == "custom" else run
        # Sizes that are unknown while tracing are checked when the graph runs: tf.nn takes a wrong
        # channel count for groups, and gives uninitialised memory where the output has no size.
        data = tuple(problem.in_channels if c == "C" else None for c in problem.layout)
        shapes = (data, problem.weight_shape, (problem.out_channels,))

        def checked(*arrays: Any, **sizes: Sizes) -> Any:
            with tf.control_dependencies(_arrays.checks(problem.conditions, sizes.get("sizes"))):
                return run(*map(_arrays.ensure_shape, arrays, shapes), **sizes)

        return self.compiled(checked, env)

    def repetition_notes(self, problem: Problem, env: Environment) -> tuple[str, ...]:
        way = self._compiled_by(problem, env)
        return (f"one function, compiled by {way}, from the third eager call on",) if way else ()

    def _once_repeated(self, kernel: Kernel, problem: Problem, env: Environment) -> Kernel:
        """``kernel``, and later the same as one function where that is faster."""
        if not self._may_be_compiled(problem, env):
            return kernel

        def compiled() -> Kernel | None:
            way = self._compiled_by(problem, env)
            if not (way and allowed(problem, "forward")):
                return None
            shapes = (problem.input_shape, problem.weight_shape, (problem.out_channels,))
            like = [tf.TensorSpec(shape, env.dtype) for shape in shapes[: 2 + env.bias]]
            if way == BY_XLA:
                run = super(TensorflowBackend, self).prepare(problem, _under_xla(env))
                return function_of(run, like, xla=True)
            return function_of(kernel, like)

        return repeated(kernel, compiled)

    def _may_be_compiled(self, problem: Problem, env: Environment) -> bool:
        if env.traced or env.device != "cpu" or {env.dtype, env.out_dtype} != {"float32"}:
            return False
        return may_be_faster(problem, self.plan(problem, env))

    def _compiled_by(self, problem: Problem, env: Environment) -> str:
        """What compiles a repeated eager call to a faster one, or ``""``."""
        if not self._may_be_compiled(problem, env):
            return ""
        own = self.plan(problem, env)
        if by_xla(problem, own, self.plan(problem, _under_xla(env))):
            return BY_XLA
        graph = by_graph(problem, own) and all(map(works_in_graphs, own.calls))
        return BY_GRAPH if graph else ""

    def gradient_notes(self, problem: Problem, env: Environment) -> tuple[str, ...]:
        if env.dtype in dtypes.INTEGER:
            return ()
        own, other = self.plan(problem, env), DIFFERENTIABLE.plan(problem, env)
        notes = () if own.calls == other.calls else other.notes
        if any(map(few_inputs, other.calls)):
            notes += ("input: " + OWN,)
        if any(map(sides_exchanged, other.calls)):
            notes += ("weight: as that of the call from y to x, which has few input channels",)
        if any(map(by_convolutions, other.calls)):
            notes += ("convolutions of stride 1, in eager mode",)
        ways = {
            (by_batches(c, gradients=True), by_batches(c, gradients=False)) for c in other.calls
        }
        if (True, False) in ways:
            notes += ("dilation: a dense call on what lies a dilation apart, as samples",)
        if _by_graph(other.calls, problem, env):
            compiler = BY_XLA if _gradients_by_xla(other.calls, problem) else BY_GRAPH
            notes += (f"one function, compiled by {compiler}, from the second eager call on",)
        return notes

    def _with_gradients(self, kernel: Kernel, problem: Problem, env: Environment) -> Kernel:
        """``kernel``, differentiated by another plan if its own has no gradients or slow ones."""
        if env.dtype in dtypes.INTEGER:
            return kernel
        own, other = self.plan(problem, env), DIFFERENTIABLE.plan(problem, env)
        same = own.calls == other.calls and all(_same_kernel(c, env) for c in own.calls)
        as_it_is = same and all(map(vectorizes, own.calls))
        if as_it_is and not _may_be_graph(other.calls, problem, env):
            return kernel
        differentiable = assemble(
            other.plan, other.inputs, DIFFERENTIABLE.bound, DIFFERENTIABLE.unbound
        )
        plain = all(map(vectorizes, other.calls))
        again = False
        once = Lock()

        @cache
        def recorded() -> Kernel | None:
            if not (_by_graph(other.calls, problem, env) and allowed(problem, "gradients")):
                return None
            xla = _gradients_by_xla(other.calls, problem)
            return with_graph(kernel, differentiable, vectorizes=plain, xla=xla)

        def run(*given: Any, **options: Any) -> Any:
            nonlocal again
            if tf.executing_eagerly():
                if not _arrays.recording():
                    return kernel(*given)
                arrays = [tf.convert_to_tensor(a) for a in given]  # variables, if repeated
                if not any(map(_arrays.watched, arrays)):
                    return kernel(*arrays)
                with once:
                    graph = recorded() if again else None
                if graph and not _arrays.tangents(*arrays):
                    return graph(*arrays)
                again = True  # to make a graph takes longer than to do without it once
                if plain:
                    return differentiable(*arrays)
            else:
                arrays = [tf.convert_to_tensor(a) for a in given]
                if as_it_is:
                    return kernel(*arrays, **options)

            def both(*arrays: Any) -> Any:
                wanted = range(len(arrays))

                def backward(g: Any) -> Any:
                    function = partial(differentiable, **options)
                    return gradients(function, arrays, wanted, g, vectorizes=plain)

                return kernel(*arrays, **options), backward

            return tf.custom_gradient(both)(*arrays)

        return self.compiled(run, env)

    def compiled(self, kernel: Kernel, env: Environment) -> Kernel:
        # Nothing in a plan depends on tensors' values, so AutoGraph has nothing to rewrite in it.
        return tf.autograph.experimental.do_not_convert(kernel) if env.traced else kernel

    def prologue(self, lowered: Lowered) -> str:
        return "import numpy as np\nimport tensorflow as tf"

    def from_foreign(self, x: Any, like: Any = None) -> Any:
        return _arrays.from_foreign(x, like)

    def to_numpy(self, x: Any) -> Any:
        return x.numpy()


class DifferentiableBackend(TensorflowBackend):
    """Plans of nothing but calls that have gradients."""

    operations = {**TensorflowBackend.operations, "conv": partial(conv, gradients=True)}
    differentiates = True

    def lacks(self, call: Call) -> str:
        missing = super().lacks(call)
        if not missing and writes_elsewhere(call):  # residues want sizes that are known
            if not call.transposed:
                return "stride"
            return "transposed" if call.least.symbolic else "phases"
        if not missing and (explicit(call) or (onednn() and ends_meet(call))):
            return "padding"
        if missing or differentiates(call):
            return missing
        return _missing(call, gradients=True)


class ChannelsFirstBackend(TensorflowBackend):
    """Plans of one kernel call that takes channels first as they are, which oneDNN's do on the CPU.

    No copies in another order, which TensorFlow is slow at: 1x1 kernels take 0.65 of the time so,
    others 0.8 to 1 (TensorFlow 2.21, AVX-512, 2 cores, eager). With gradients this loses, and so
    do dilated volumes and depthwise kernels; graphs change the order themselves. Without AVX-512,
    oneDNN leaves signals and pictures of one sample to a kernel that takes 8 to 550 times as long
    as with channels last, whatever the kernel's size, unless there are groups.
    """

    multiplies = False

    def plan(self, problem: Problem, env: Environment) -> Lowered:
        orders = (problem.layout, problem.output_layout)
        if problem.rank == 0 or any(order.replace("N", "")[0] != "C" for order in orders):
            raise UnsupportedError("layout: channels are not first.")
        return lower(problem, env, self)

    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        found = super().orders(problem, device, transposed=transposed)
        data = f"NC{problem.spatial}"
        return replace(found, x=data, y=data)

    def lacks(self, call: Call) -> str:
        depthwise = call.group_axis == "I" and not call.transposed
        missing = super().lacks(call)
        elsewhere = by_batches(call, gradients=False) or few_outputs(call)
        elsewhere = elsewhere or worth_copies(call) or _left_to_reference(call)
        if depthwise or missing not in ONE_CALL or elsewhere:
            raise UnsupportedError(f"layout: no kernel takes {call.x_layout}.")
        return missing


#: What one kernel call and something around it makes up for.
ONE_CALL = ("", "batch", "bias", "padding")

#: What a note says of a call that oneDNN is slow at.
OWN = "by TensorFlow's own kernel, not oneDNN's"
#: What compiles a repeated eager call.
BY_XLA, BY_GRAPH = "XLA", "a graph"

DIFFERENTIABLE = DifferentiableBackend()
CHANNELS_FIRST = ChannelsFirstBackend()


def vectorizes(call: Call) -> bool:
    """Whether pfor, by which tapes form Jacobians, is right about the gradients of this call.

    It forgets explicit padding, and takes channels for those of other groups.
    """
    depthwise = call.group_axis == "I" and not call.transposed
    few = few_inputs(call) or sides_exchanged(call) or (few_outputs(call) and not call.transposed)
    return depthwise or not (explicit(call) or few or call.groups > 1)


def _under_xla(env: Environment) -> Environment:
    return replace(env, device=_arrays.XLA, traced=True)


def _by_graph(calls: list[Call], problem: Problem, env: Environment) -> bool:
    """Whether the gradients of a repeated call are a graph, which knows fewer kernels."""
    return _may_be_graph(calls, problem, env) and all(map(works_in_graphs, calls))


def _may_be_graph(calls: list[Call], problem: Problem, env: Environment) -> bool:
    """Whether a graph would be faster, as was measured on the CPU."""
    slower = any(map(by_convolutions, calls)) and not _gradients_by_xla(calls, problem)
    return not env.traced and env.device == "cpu" and not slower


def _gradients_by_xla(calls: list[Call], problem: Problem) -> bool:
    """Whether it is XLA that compiles this graph."""
    copied = not problem.layout.endswith("C")
    return all(gradients_by_xla(call, copied=copied) for call in calls)


def _same_kernel(call: Call, env: Environment) -> bool:
    """Whether a call is computed in the same way if it will be differentiated."""
    if few_inputs(call) or few_outputs(call) or sides_exchanged(call) or fuses_pad(call):
        return False
    if by_convolutions(call) and not env.traced:
        return False
    return by_batches(call, gradients=True) == by_batches(call, gradients=False)


def _left_to_reference(call: Call) -> bool:
    """Whether oneDNN has nothing but its reference kernel for a call with channels first."""
    single = call.batch == 1 and call.groups == 1 and call.rank < 3
    return single and not (call.transposed or per_sample(call) or avx512())


def _pads_itself(call: Call) -> bool:
    """Whether a padding attribute of the kernel says just what the call says.

    With a stride beyond the kernel, "SAME" begins within the data in Eigen's volumes, not at their
    start: what it lacks in padding, it takes away.
    """
    if call.rank == 3 and any(s > e for s, e in zip(call.stride, call.extents, strict=True)):
        return False
    if call.same or call.transposed:
        return call.same
    return call.rank == 2 and call.settled and min(map(min, call.padding)) >= 0


def _missing(call: Call, *, gradients: bool) -> str:
    """Which one thing to rewrite away, for a call that does not work as it is."""
    plain = (1,) * call.rank
    if call.groups > 1:
        return "rank" if by_taps(call, gradients=gradients) else "groups"
    if call.dilation != plain and works(call, dilation=plain):
        return "dilation"
    if call.transposed:
        return "transposed"
    if call.stride != plain and works(call, stride=plain):
        return "stride"
    return "rank"
