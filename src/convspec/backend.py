"""What a backend is: the seven things an adapter, ours or a third party's, has to say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import UnsupportedError
from .problem import Problem

#: Version of this interface; the core refuses a backend of another major version.
API_VERSION = 1

Kernel = Callable[..., Any]
#: Tells arrays that a kernel has been prepared for from others.
Guard = Callable[..., bool]


@dataclass(frozen=True)
class Environment:
    """What decides the kernel beside the problem.

    Attributes:
        dtype: element type of the arrays, by NumPy's (or ml_dtypes') name: ``"bfloat16"``.
        out_dtype: element type of the result and at least of the accumulation.
        device: kind of device: ``"cpu"``, ``"cuda"``, ``"mps"``, ``"tpu"``, ``"meta"``.
        bias: whether the kernel is called with a bias.
        traced: whether a compiler or transform is recording the call.
        gradients: whether the call will be differentiated.
    """

    dtype: str
    out_dtype: str
    device: str = "cpu"
    bias: bool = False
    traced: bool = False
    gradients: bool = False


@dataclass(frozen=True)
class Support:
    """Whether a backend computes a problem, and how.

    Attributes:
        ok: it does; the truth value.
        path: ``"native"`` (one convolution kernel of the framework), ``"decomposed"`` (several),
            or ``"none"``.
        reason: why it does not, why it takes several kernels, or what is done for speed.
    """

    ok: bool
    path: str
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True)
class Capabilities:
    """What a backend says of itself.

    Attributes:
        version: version of the framework.
        dtypes: element types it takes, by NumPy's names.
        max_rank: highest number of spatial axes, None for any.
        devices: kinds of device that are present.
        gradients: whether its results can be differentiated.
    """

    version: str
    dtypes: tuple[str, ...]
    max_rank: int | None
    devices: tuple[str, ...]
    gradients: bool


class Backend(ABC):
    """An adapter that computes problems on one framework's arrays.

    Register an instance under the entry-point group ``convspec.backends``; the entry point's name
    is the framework's module name, so that the adapter is loaded when that module is there and
    one of its arrays arrives. Or pass an instance as ``backend=``.
    """

    #: The framework's module name.
    name: str
    #: The :data:`API_VERSION` that this adapter was written for.
    api_version: int = API_VERSION

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend says of itself."""

    @abstractmethod
    def owns(self, x: Any) -> bool:
        """Whether ``x`` is one of the framework's arrays (or variables). Cached by type."""

    @abstractmethod
    def describe(self, x: Any) -> tuple[tuple[Any, ...], str, str]:
        """Shape, dtype by NumPy's name, and kind of device of an array."""

    @abstractmethod
    def supports(self, problem: Problem, env: Environment) -> Support:
        """Whether and how this problem is computed. Never computes, never raises."""

    @abstractmethod
    def prepare(self, problem: Problem, env: Environment) -> Kernel:
        """A plain callable ``kernel(x, weight, bias=None) -> y`` for arrays of the framework.

        While tracing, the problem may hold symbols (:mod:`convspec.symbols`). The kernel is then
        called with ``sizes=``, a function that gives the framework's own value of any size.

        Raises:
            UnsupportedError: :meth:`supports` says no.
        """

    def unwrap(self, x: Any) -> Any:
        """The framework's own array in what :meth:`owns` accepts, such as a variable."""
        return x

    def shortcut(self, kernel: Kernel, arrays: Sequence[Any]) -> tuple[Guard, Kernel] | None:
        """What a repeated call is known by, and what it runs.

        Args:
            kernel: what :meth:`prepare` gave for these arrays.
            arrays: x, weight and perhaps bias as they were passed, variables included, all of this
                framework.

        Returns:
            A guard and a kernel, both functions of as many arrays. The guard is true of those of
            which ``unwrap``, ``describe``, ``promoted`` and ``traced`` would say the same as of
            these; it is asked about anything, and never raises. The kernel takes what the guard is
            true of: it is the given one, where there is no variable to read.
            None, the default: each call is looked at anew, which costs some microseconds.
        """
        return None

    def traced(self, x: Any) -> bool:
        """Whether ``x`` is being recorded by a compiler or transform."""
        return False

    def differentiable(self, x: Any) -> bool:
        """Whether gradients would be lost if ``x`` left the framework."""
        return False

    def recording(self) -> bool:
        """Whether a compiler is reading this very Python code, as ``torch.compile`` does.

        Nothing is cached then: caches are what such compilers cannot read.
        """
        return False

    def plain(self, size: Any) -> int | None:
        """A size that :meth:`describe` gave as a plain number, None where it is symbolic."""
        return size if type(size) is int else None

    def promoted(self, dtype: str, device: str) -> str:
        """The element type that the framework reads arrays of this type in; under autocast another.

        Types are compared after it. The arrays arrive at the kernel as they are.
        """
        return dtype

    def out_of_memory(self, error: Exception) -> bool:
        """Whether an error says that memory has run out. It then reaches the user as it is.

        Everything else that a kernel raises becomes an :class:`~convspec.UnsupportedError`.
        """
        return isinstance(error, MemoryError)

    def vjp(
        self, function: Callable[..., Any], arrays: Sequence[Any], cotangent: Any
    ) -> tuple[Any, ...]:
        """The gradients of ``sum(cotangent * function(*arrays))`` for each of the arrays.

        Nothing is conjugated, and what ``vjp`` gives can be differentiated by ``vjp`` again. Only
        the conformance suite needs it.

        Args:
            function: of the framework's own arrays.
            arrays: its arguments.
            cotangent: an array like what it gives.
        """
        raise self._lacks("does not differentiate")

    def maximum(self, a: Any, b: Any) -> Any:
        """The larger of two sizes, either of which may be symbolic."""
        return max(a, b)

    # ---- moving data: only to_framework, convert_layout, convert_weight and backend= need it ----

    def from_foreign(self, x: Any, like: Any = None) -> Any:
        """A NumPy array, or by DLPack another framework's, as one of this framework's.

        On the device of ``like``, if given. Whatever it raises at an array of another framework,
        the array is tried again as a NumPy one.
        """
        raise self._lacks("takes no arrays of others")

    def to_numpy(self, x: Any) -> Any:
        """An array of this framework as a NumPy array, without a copy where possible."""
        raise self._lacks("gives no NumPy arrays")

    def permute(self, x: Any, axes: tuple[int, ...]) -> Any:
        """``x`` with its axes in another order, a view where the framework can."""
        raise self._lacks("does not permute axes")

    def contiguous(self, x: Any) -> Any:
        """``x`` with its elements in the order of its axes, where the framework has strides."""
        return x

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        """``x`` in another shape of the same size, row-major."""
        raise self._lacks("does not reshape")

    def flip(self, x: Any, axes: tuple[int, ...]) -> Any:
        """``x`` reversed along some axes."""
        raise self._lacks("does not flip axes")

    def _lacks(self, what: str) -> UnsupportedError:
        error: UnsupportedError = UnsupportedError(
            f"backend: {self.name} {what}; its adapter leaves that method out."
        )
        return error
