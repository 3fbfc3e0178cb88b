"""A backend out of three small parts: the framework's array operations, its kernel, its words.

Our four adapters are written with it, and others may be: say which orders the kernel likes and
what it lacks, and everything else in DESIGN follows by rewriting (:mod:`convspec.lowering`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from . import dtypes
from .backend import Backend, Environment, Kernel, Support
from .errors import ConvSpecError, UnsupportedError
from .lowering import Lowered, Orders, lower
from .plan import Call, Node, Step, assemble
from .problem import Problem

Snippet = Callable[..., str]


class PlanBackend(Backend):
    """A backend that lowers problems to plans over :attr:`operations`.

    Attributes:
        operations: a function for each of :data:`convspec.plan.OPERATIONS`.
        snippets: for each of them, a function of the arguments' names and the same parameters
            that gives the expression in the framework's own words; and ``"input"`` and
            ``"literal"``, which make an array of a shape and of Python's nested lists.
        views: the operations that give a view of their input rather than a copy.
    """

    operations: Mapping[str, Callable[..., Any]]
    snippets: Mapping[str, Snippet]
    views: frozenset[str] = frozenset()
    #: Whether the modes of :meth:`pads` are for sizes too that are not known while tracing.
    pads_symbols: bool = True
    #: Whether :data:`convspec.plan.OPTIONAL` are among the operations.
    splits: bool = False

    # ---- what an adapter says of its kernel (convspec.lowering.Framework) ----

    @abstractmethod
    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        """The orders in which the kernel takes its arrays."""

    @abstractmethod
    def lacks(self, call: Call) -> str:
        """The first thing that the kernel lacks for a call, or ``""``."""

    def pads(self, mode: str, rank: int, dtype: str) -> bool:
        """Whether the ``pad`` operation has a mode other than zeros."""
        return False

    @property
    def element_types(self) -> tuple[str, ...]:
        """The element types it takes, those of :attr:`capabilities`; asked whenever it prepares."""
        return self.capabilities.dtypes

    def compute_dtype(self, dtype: str, out_dtype: str, device: str) -> str:
        """The element type that the kernel is to run in: half types in float32."""
        chosen = dtypes.accumulator(dtype, out_dtype)
        for name in (dtype, out_dtype, chosen):
            if name not in self.element_types:
                raise UnsupportedError(
                    f"backend: {self.name} has no convolution of {name}; it has "
                    f"{', '.join(self.element_types)}."
                )
        return chosen

    # ---- what follows from it ----

    def plan(self, problem: Problem, env: Environment) -> Lowered:
        """The plan of a problem, which :meth:`prepare` runs and ``explain`` and ``code`` read."""
        return lower(problem, env, self)

    def repetition_notes(self, problem: Problem, env: Environment) -> tuple[str, ...]:
        """What is computed otherwise once the call has been made a few times, for ``explain``."""
        return ()

    def gradient_notes(self, problem: Problem, env: Environment) -> tuple[str, ...]:
        """What is computed otherwise where the call is differentiated, for ``explain``."""
        return ()

    def supports(self, problem: Problem, env: Environment) -> Support:
        try:
            return self._supports(problem, env, self.element_types)
        except TypeError:  # symbolic sizes have no hash
            return self._supports.__wrapped__(self, problem, env, self.element_types)

    @lru_cache(maxsize=1024)  # noqa: B019  (backends live as long as the process)
    def _supports(self, problem: Problem, env: Environment, types: tuple[str, ...]) -> Support:
        """``types`` is what the backend has now, which a setting may change, as JAX's x64 does."""
        try:
            lowered = self.plan(problem, env)
        except ConvSpecError as error:
            return Support(False, "none", str(error))
        calls = len(lowered.calls)
        return Support(True, "native" if calls == 1 else "decomposed", "; ".join(lowered.notes))

    def prepare(self, problem: Problem, env: Environment) -> Kernel:
        lowered = self.plan(problem, env)
        return self.compiled(assemble(lowered.plan, lowered.inputs, self.bound, self.unbound), env)

    def bound(self, op: str, params: dict[str, Any]) -> Step:
        """An operation with its parameters; whatever can be decided of it now, is."""
        return Step(partial(self.operations[op], **params))

    def unbound(self, op: str, params: dict[str, Any]) -> Callable[..., Any]:
        """An operation that takes its parameters later: of these some have symbols."""
        return self.operations[op]

    def compiled(self, kernel: Kernel, env: Environment) -> Kernel:
        """``kernel`` as the framework likes it best; itself where nothing is to be done."""
        return kernel

    @abstractmethod
    def prologue(self, lowered: Lowered) -> str:
        """The lines that a snippet starts with: its imports."""

    def example(self, name: str, node: Node) -> str:
        """Source of an example array: small integers, in the shape and dtype of an input."""
        return self.snippets["input"](name, node.shape, node.dtype)

    def permute(self, x: Any, axes: tuple[int, ...]) -> Any:
        return self.operations["permute"](x, axes=axes)

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        return self.operations["reshape"](x, shape=shape)

    def flip(self, x: Any, axes: tuple[int, ...]) -> Any:
        return self.operations["flip"](x, axes=axes)
