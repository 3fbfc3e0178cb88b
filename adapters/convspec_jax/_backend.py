"""The JAX backend: what its kernel likes, what it lacks, and whose arrays it takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from functools import cached_property, wraps
from typing import Any

import jax

from convspec import dtypes
from convspec.backend import Capabilities, Environment, Guard, Kernel
from convspec.errors import UnsupportedError
from convspec.lowering import Lowered, Orders
from convspec.plan import Call, assemble
from convspec.problem import Problem
from convspec.toolkit import PlanBackend

from . import _arrays, _snippets
from ._gradients import differentiable, differentiated_by, note
from ._guards import shortcut
from ._kernel import misread
from ._sharded import takes_shards
from ._slow import faster

WIDE = ("float64", "int64", "uint64", "complex128")


class JaxBackend(PlanBackend):
    """JAX arrays and tracers of any rank; every axis order goes to XLA as it is."""

    name = "jax"
    operations = {**_arrays.OPERATIONS, "conv": differentiable}
    snippets = _snippets.SNIPPETS
    views = frozenset({"reshape"})
    pads_symbols = False
    splits = True
    #: Whether its plans are those of derivatives, for which other rules are fast.
    differentiates = False

    @cached_property
    def derivative(self) -> JaxBackend:
        """This backend for derivatives."""
        other = copy(self)
        other.differentiates = True
        return other

    @property
    def capabilities(self) -> Capabilities:
        wide = jax.config.jax_enable_x64
        types = tuple(name for name in dtypes.ALL if wide or name not in WIDE)
        devices = tuple(dict.fromkeys(device.platform for device in jax.devices()))
        return Capabilities(jax.__version__, types, None, devices, gradients=True)

    def owns(self, x: Any) -> bool:
        return isinstance(x, jax.Array) or hasattr(type(x), "__jax_array__")

    def unwrap(self, x: Any) -> Any:
        return x if isinstance(x, jax.Array) else x.__jax_array__()

    def describe(self, x: Any) -> tuple[tuple[Any, ...], str, str]:
        return x.shape, x.dtype.name, _arrays.platform_of(x)

    def shortcut(self, kernel: Kernel, arrays: Sequence[Any]) -> tuple[Guard, Kernel] | None:
        return shortcut(kernel, arrays)

    def traced(self, x: Any) -> bool:
        return isinstance(x, jax.core.Tracer)

    def differentiable(self, x: Any) -> bool:
        return isinstance(x, jax.core.Tracer)

    def out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError) or (
            isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
        )

    def vjp(self, function: Any, arrays: Any, cotangent: Any) -> tuple[Any, ...]:
        return _arrays.vjp(function, arrays, cotangent)

    def maximum(self, a: Any, b: Any) -> Any:
        return jax.core.max_dim(a, b)

    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        batch = "" if "N" in problem.layout else "N"
        return Orders(
            batch + problem.layout,
            problem.weight_layout.replace("M", "O"),
            batch + problem.output_layout,
            "O",
        )

    def lacks(self, call: Call) -> str:
        if call.bias:
            return "bias"
        rule = faster(call, gradients=self.differentiates)
        if rule:
            return rule
        if call.transposed:
            return "transposed"
        # XLA crops for negative amounts, but only positions that are there. On the CPU, where it
        # crops the start of an axis and pads its end, it reads on into other memory.
        if not call.settled or call.overcropped or misread(call):
            return "padding"
        plain = all(step == 1 for step in call.input_dilation)
        return "padding" if plain and any(lo < 0 < hi for lo, hi in call.padding) else ""

    def pads(self, mode: str, rank: int, dtype: str) -> bool:
        return True

    def compute_dtype(self, dtype: str, out_dtype: str, device: str) -> str:
        chosen = super().compute_dtype(dtype, out_dtype, device)
        if device != "cpu" and dtype == out_dtype:
            return dtype  # accelerators accumulate half types in float32 themselves
        return chosen

    def prepare(self, problem: Problem, env: Environment) -> Kernel:
        own, other = self._plans(problem, env)
        run = assemble(own.plan, own.inputs, self.bound, self.unbound)
        if own.differs(other):
            derived = assemble(other.plan, other.inputs, self.bound, self.unbound)
            run = differentiated_by(run, derived)
        return takes_shards(self.compiled(run, env), problem, env)

    def _plans(self, problem: Problem, env: Environment) -> tuple[Lowered, Lowered]:
        """That of the call, and that of its derivative."""
        own = self.plan(problem, env)
        other = problem.transposed or problem.groups > 1
        return own, self.derivative.plan(problem, env) if other else own

    def gradient_notes(self, problem: Problem, env: Environment) -> tuple[str, ...]:
        own, other = self._plans(problem, env)
        notes = other.notes if own.differs(other) else ()
        return tuple(dict.fromkeys([*notes, *filter(None, map(note, other.calls))]))

    def compiled(self, kernel: Kernel, env: Environment) -> Kernel:
        return _told(kernel) if env.traced else jax.jit(kernel)

    def prologue(self, lowered: Lowered) -> str:
        lines = "import jax\nimport jax.numpy as jnp"
        if any(node.dtype in WIDE for node in (lowered.plan, *lowered.inputs)):
            lines += '\n\njax.config.update("jax_enable_x64", True)'
        return lines

    def from_foreign(self, x: Any, like: Any = None) -> Any:
        traced = isinstance(like, jax.core.Tracer)
        array = _arrays.from_foreign(x, traced=traced)
        # Beside an array on several devices it stays uncommitted: JAX copies it to each of them.
        if like is None or traced or not like.committed:
            return array
        devices = like.devices()
        return jax.device_put(array, next(iter(devices))) if len(devices) == 1 else array

    def to_numpy(self, x: Any) -> Any:
        return _arrays.to_numpy(x)


def _told(kernel: Kernel) -> Kernel:
    """The kernel, and what it has to know of symbolic sizes in a ``ConvSpecError``.

    As a part of a program it leaves nothing but its operations. What is differentiated outside
    of any is one program, and its gradients another, instead of one for each operation.
    """
    program = jax.jit(kernel)

    @wraps(kernel)
    def told(*arrays: Any, **options: Any) -> Any:
        try:
            run = kernel if options or not all(map(_arrays.at_hand, arrays)) else program
            return run(*arrays, **options)
        except jax.errors.InconclusiveDimensionOperation as error:
            asked = re.search(r"comparison '(.*?)' (>=|==) '(.*?)'", str(error))
            known = " ".join(asked.groups()) if asked else ""
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise UnsupportedError(
                f"x: sizes of the symbolic shapes {shapes} do not tell whether {known}.\n"
                f"  Say it where the sizes are made: jax.export.symbolic_shape(..., "
                f"constraints=[{known!r}])."
                if asked
                else f"x: sizes of the symbolic shapes {shapes} leave open what is needed: {error}"
            ) from error

    return told
