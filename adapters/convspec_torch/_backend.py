"""The PyTorch backend: what its kernel likes, what it lacks, and whose arrays it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import is_autocast_enabled
from torch.compiler import is_compiling
from torch.fx.experimental.symbolic_shapes import guard_scalar, has_static_value

from convspec import dtypes
from convspec.backend import Capabilities, Environment, Guard, Kernel
from convspec.errors import UnsupportedError
from convspec.lowering import Lowered, Orders
from convspec.onednn import ends_meet
from convspec.plan import Call, Step
from convspec.problem import Problem
from convspec.toolkit import PlanBackend

from . import _arrays, _operators, _snippets, _uneven, _ways
from ._autograd import differentiable
from ._dtensor import takes_shards, without_shards
from ._guards import guard_of
from ._kernel import conv, step, writes_elsewhere
from ._slow import backwards, either, small
from ._ways import Ways

STRIDED = torch.strided
#: What autocast reads in another type: every floating one but float64.
AUTOCAST = ("float16", "bfloat16", "float32")


class TorchBackend(PlanBackend):
    """Tensors on any device: ranks 1 to 3 by aten's kernels, higher ones by their sum over taps."""

    name = "torch"
    operations = {**_arrays.OPERATIONS, "conv": conv}
    snippets = _snippets.SNIPPETS
    views = frozenset({"permute", "reshape", "slice"})
    element_types = dtypes.ALL
    #: Whether oneDNN may be asked by name, which nothing can record.
    direct = True

    @property
    def capabilities(self) -> Capabilities:
        devices = ["cpu"]
        devices += ["cuda"] if torch.cuda.is_available() else []
        devices += ["mps"] if torch.backends.mps.is_available() else []
        return Capabilities(
            torch.__version__, self.element_types, None, tuple(devices), gradients=True
        )

    def owns(self, x: Any) -> bool:
        return isinstance(x, torch.Tensor) or isinstance(_held(x), torch.Tensor)

    def unwrap(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return _held(x)
        if x.layout is not STRIDED or x.is_nested:
            kind = "nested" if x.is_nested else x.layout
            raise TypeError(f"it is {kind}; make a dense one of it first.")
        # DLPack loses the bit that says that a view is negated.
        return x if self.recording() or not x.is_neg() else x.resolve_neg()

    def describe(self, x: Any) -> tuple[tuple[Any, ...], str, str]:
        return tuple(x.shape), _arrays.name_of(x.dtype), x.device.type

    def shortcut(self, kernel: Kernel, arrays: Sequence[Any]) -> tuple[Guard, Kernel] | None:
        guard = guard_of(arrays)
        return None if guard is None else (guard, without_shards(kernel))

    def traced(self, x: Any) -> bool:
        return self.recording()

    def recording(self) -> bool:
        return bool(is_compiling())

    def plain(self, size: Any) -> int | None:
        # To code that is being compiled, symbolic sizes pass for ints.
        return guard_scalar(size) if has_static_value(size) else None

    def promoted(self, dtype: str, device: str) -> str:
        if device == "meta" or dtype not in AUTOCAST:  # there is no autocast of what has no data
            return dtype
        if is_autocast_enabled(device):
            return _arrays.name_of(torch.get_autocast_dtype(device))
        return dtype

    def differentiable(self, x: Any) -> bool:
        return differentiable(x)

    def out_of_memory(self, error: Exception) -> bool:
        # The CPU's allocator has no type of its own, nor has that of MPS.
        return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
            isinstance(error, RuntimeError)
            and any(words in str(error) for words in _arrays.OUT_OF_MEMORY)
        )

    def vjp(self, function: Any, arrays: Any, cotangent: Any) -> tuple[Any, ...]:
        return _arrays.vjp(function, arrays, cotangent)

    def maximum(self, a: Any, b: Any) -> Any:
        return torch.sym_max(a, b)

    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        data = f"NC{problem.spatial}"
        if transposed:
            return Orders(data, f"IO{problem.spatial}", data, "I")
        return Orders(data, f"OI{problem.spatial}", data, "O")

    def lacks(self, call: Call) -> str:
        if any(step != 1 for step in call.input_dilation):
            return "input_dilation"
        if call.rank > 3:
            return "rank"
        if not call.settled or any(lo != hi or lo < 0 for lo, hi in call.padding):
            return "padding"
        if backwards(call):
            return "transposed"
        limits = map(max, call.stride, call.dilation)
        if any(not 0 <= p < m for p, m in zip(call.output_padding, limits, strict=True)):
            return "padding"
        if call.device == "cpu" and call.dtype == "float32" and ends_meet(call):
            return "padding"
        if not writes_elsewhere(call):
            return ""
        if not call.transposed:
            return "stride"
        return "transposed" if call.symbolic else "phases"  # residues want sizes that are known

    def pads(self, mode: str, rank: int, dtype: str) -> bool:
        return rank <= 3 and dtype in ("float32", "float64")

    def compute_dtype(self, dtype: str, out_dtype: str, device: str) -> str:
        chosen = super().compute_dtype(dtype, out_dtype, device)
        if chosen in dtypes.INTEGER:
            if device not in ("cpu", "meta"):
                raise UnsupportedError(
                    f"backend: torch has no integer convolution on {device}; it has one on the CPU."
                )
            return "int64"  # the only integer type with kernels in both directions; casts wrap
        if device != "cpu" and dtype == out_dtype:
            return dtype  # accelerators accumulate half types in float32 themselves
        return chosen

    def plan(self, problem: Problem, env: Environment) -> Lowered:
        lowered = super().plan(problem, env)
        if env.traced:
            return lowered
        told = [
            note for call in lowered.calls for note in (*_uneven.notes(call), *_ways.notes(call))
        ]
        return replace(lowered, notes=tuple(dict.fromkeys([*lowered.notes, *told])))

    def prepare(self, problem: Problem, env: Environment) -> Kernel:
        if env.traced:
            run = PlanBackend.prepare(TRACED, problem, env)
            return _arrays.held_to(problem.conditions, run) if problem.conditions else run
        run = super().prepare(problem, env)
        if problem.rank > 2 and any(map(small, self.plan(problem, env).calls)):
            run = either(run, PlanBackend.prepare(RECORDED, problem, env))
        return takes_shards(run, problem, env)

    def gradient_notes(self, problem: Problem, env: Environment) -> tuple[str, ...]:
        lowered = self.plan(problem, env)
        told: tuple[str, ...] = ()
        if any(map(small, lowered.calls)):
            lowered = RECORDED.plan(problem, env)
            told = lowered.notes
        notes = [note for call in lowered.calls for note in _ways.gradient_notes(call)]
        return tuple(dict.fromkeys([*told, *notes]))

    def recorded(self, call: Call, ways: Ways) -> Callable[..., Any] | None:
        """The function of a call that has ways of its own; None if it has none."""
        return ways.run if ways.any else None

    def bound(self, op: str, params: dict[str, Any]) -> Step:
        if op == "conv":
            return step(params["call"], direct=self.direct, recorded=self.recorded)
        if op == "permute":  # what a view costs is reading its arguments: the method's take longer
            return Step(torch.permute, (params["axes"],))
        return super().bound(op, params)

    def compiled(self, kernel: Kernel, env: Environment) -> Kernel:
        if env.dtype in dtypes.HALF and env.out_dtype not in dtypes.HALF:
            # Under autocast the kernel may have given the half type that a plan knows nothing of.
            return lambda *arrays, **sizes: _arrays.cast(
                kernel(*arrays, **sizes), dtype=env.out_dtype
            )
        return kernel

    def prologue(self, lowered: Lowered) -> str:
        return "import torch\nimport torch.nn.functional as F"

    def from_foreign(self, x: Any, like: Any = None) -> Any:
        tensor = _arrays.from_foreign(x)
        return tensor if like is None else tensor.to(like.device)

    def to_numpy(self, x: Any) -> Any:
        return _arrays.to_numpy(x)

    def contiguous(self, x: Any) -> Any:
        return x.contiguous()


class RecordedBackend(TorchBackend):
    """By what autograd knows: aten's convolution, and the functions of this package."""

    direct = False

    def lacks(self, call: Call) -> str:
        return super().lacks(call) or ("samples" if small(call) else "")


class TracedBackend(RecordedBackend):
    """By what compilers know: aten's convolution, and operators."""

    def recorded(self, call: Call, ways: Ways) -> Callable[..., Any] | None:
        return _operators.recorded(call, ways)

    def unbound(self, op: str, params: dict[str, Any]) -> Callable[..., Any]:
        if op == "conv":
            return _operators.of_any_size(params["call"])
        return super().unbound(op, params)


RECORDED = RecordedBackend()
TRACED = TracedBackend()


def _held(x: Any) -> Any:
    """The tensor in a variable that follows torch's protocol, such as Keras's."""
    return getattr(x, "value", None) if hasattr(type(x), "__torch_function__") else None
