"""``ConvSpec``: what a convolution is, in one frozen object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from . import calls, canonical, dispatch, moving, natives, problem, reading, serial, weights
from .arguments import Padding, shown
from .backend import Support
from .conventions import get_convention
from .errors import ConvSpecError
from .geometry import extent
from .tiles import Tiles, halo

if TYPE_CHECKING:
    from .backend import Backend

Array = TypeVar("Array")


@dataclass(frozen=True, init=False, repr=False, eq=True)
class ConvSpec:
    """One convolution, forward or transposed, with the axis orders of its arrays.

    Everything is cross-correlation, as in every deep-learning framework. The positional order is
    that of ``torch.nn.Conv3d``. A scalar holds for every spatial axis; a tuple has one entry for
    each, in the order of the spatial letters in ``layout``.

    Args:
        in_channels: channels of the input, C.
        out_channels: channels of the output; the number of filters.
        kernel_size: spatial size of the kernel.
        stride: step between windows (forward) or between input elements (transposed).
        padding: one entry for all axes or a tuple with one per axis; an entry is an int (both
            sides), a pair ``(lo, hi)`` (negative crops), ``"valid"``, ``"same"`` (TensorFlow's,
            ONNX SAME_UPPER), ``"same_lower"`` or ``"causal"``. ``1234 -> 0012340`` for ``(2, 1)``.
        dilation: step between kernel elements; e = dilation*(kernel_size-1)+1 is the extent.
        groups: channel groups; group g of the output sees group g of the input alone.
        bias: whether a bias belongs to this convolution (layers, counts, checkpoints). A call
            without one adds none.
        padding_mode: what padded positions read: ``"zeros"``; ``"reflect"``, ``1234 ->
            321234321``; ``"replicate"``, ``1234 -> 1112344``; ``"circular"``, ``1234 -> 3412341``.
        transposed: the transpose of the forward convolution with respect to its input.
        output_padding: extra output positions at the end, 0 <= output_padding < max(s, d);
            transposed only.
        layout: axis order of the input: letters such as ``"NCDHW"``, or ``"channels_first"`` /
            ``"channels_last"``. ``N`` may be missing. Default: channels first.
        output_layout: axis order of the output. Default: ``layout``.
        weight_layout: axis order of the weight. Default ``OI...``, transposed ``IO...``. ``M`` in
            place of ``O`` is a depthwise multiplier: output channel = i*M + m.
        flip_kernel: every spatial kernel axis is reversed first: the mathematical convolution;
            when transposed, JAX's and Flax's kernels.
        group_axis: the weight axis that spans all groups: ``"O"`` (default forward) or ``"I"``
            (default transposed).

    Raises:
        LayoutError: malformed layouts, or ones that disagree.
        ShapeError: sizes or amounts out of range, tuples of the wrong length, bools and floats.
        UnsupportedError: what has no meaning, as ``"causal"`` on a transposed convolution.
        ConvSpecError: an unknown ``padding_mode`` or ``group_axis``.

    >>> ConvSpec(3, 64, 3, stride=2, padding=1, layout="NCDHW").output_shape((32, 3, 10, 224, 224))
    (32, 64, 5, 112, 112)
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    padding_mode: str
    transposed: bool
    output_padding: tuple[int, ...]
    layout: str
    output_layout: str
    weight_layout: str
    flip_kernel: bool
    group_axis: str
    #: That of a spec which has no fields yet: compilers hash one before they run ``__init__``.
    _hash = 0
    #: What repeated calls of a spec run: see :mod:`convspec.calls`.
    _kept = cast("dict[Any, Any]", MappingProxyType({}))
    autograph_info__ = dispatch.OPAQUE

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Any = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        transposed: bool = False,
        output_padding: int | Sequence[int] = 0,
        layout: str | None = None,
        output_layout: str | None = None,
        weight_layout: str | None = None,
        flip_kernel: bool = False,
        group_axis: str | None = None,
    ) -> None:
        fields = canonical.fields(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            transposed=transposed,
            output_padding=output_padding,
            layout=layout,
            output_layout=output_layout,
            weight_layout=weight_layout,
            flip_kernel=flip_kernel,
            group_axis=group_axis,
        )
        self.__dict__.update(fields)
        # Specs are keys of the dispatch cache, so the hash is taken once.
        self.__dict__["_hash"] = hash(tuple(fields.values()))
        # A compiler that reads the code holds later calls to one text, rather than to all fields.
        self.__dict__["_text"] = repr(tuple(fields.values()))
        self.__dict__["_kept"] = {}

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> Any:
        return (ConvSpec.from_dict, (self.to_dict(),))

    def __repr__(self) -> str:
        return serial.to_repr(self)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON-ready values, with a ``format_version``."""
        return serial.to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConvSpec:
        """The spec that :meth:`to_dict` wrote.

        Raises:
            ConvSpecError: an unknown key, a missing one, or a newer major format version.
        """
        return cls(**serial.arguments(values))

    def replace(self, **changes: Any) -> ConvSpec:
        """The same spec with some arguments changed.

        What was left to its default follows the change (``output_layout`` follows ``layout``,
        ``weight_layout`` and ``group_axis`` follow ``transposed``), and per-axis values stay with
        their axis when ``layout`` puts the spatial letters in another order.

        Raises:
            ConvSpecError: as the constructor, or an unknown argument.
        """
        return ConvSpec(**canonical.replaced(self, changes))

    # ---- what can be read off the spec alone ----

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel_size)

    @property
    def spatial(self) -> str:
        """The spatial letters, in the order of ``layout`` and of every tuple here."""
        return "".join(letter for letter in self.layout if letter not in "NC")

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """e = dilation*(kernel_size-1)+1 for each axis: how many input positions a window spans."""
        return tuple(extent(k, d) for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight in ``weight_layout``."""
        return weights.shape(self)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """``(out_channels,)``, whether or not ``bias`` says that there is one."""
        return (self.out_channels,)

    @property
    def num_parameters(self) -> int:
        """Number of weight elements, and of bias elements if ``bias``."""
        return prod(self.weight_shape) + (self.out_channels if self.bias else 0)

    # ---- shapes ----

    def output_shape(
        self, input_shape: Sequence[int], output_size: int | Sequence[int] | None = None
    ) -> tuple[int, ...]:
        """Shape of the output in ``output_layout`` for an input shape in ``layout``.

        Args:
            input_shape: one size per letter of ``layout``.
            output_size: transposed only: one size per spatial axis, or one for all.

        Raises:
            LayoutError: the number of axes is not that of ``layout``.
            ShapeError: sizes that do not fit the spec, or an output below 1.
        """
        return problem.resolve(self, input_shape, output_size).output_shape

    def flops(self, input_shape: Sequence[int]) -> int:
        """Floating-point operations of one call, a multiply-add counted as two.

        2*k*I/groups for each output element, k the kernel's spatial volume; transposed,
        2*k*O/groups for each input element. Padding is counted, the bias is not.
        """
        resolved = problem.resolve(self, input_shape, None)
        k = prod(self.kernel_size)
        if self.transposed:
            return prod(resolved.input_shape) * 2 * k * self.out_channels // self.groups
        return prod(resolved.output_shape) * 2 * k * self.in_channels // self.groups

    def adjoint(self, input_shape: Sequence[int]) -> ConvSpec:
        """The transposed spec that maps this spec's output back to ``input_shape``.

        For a transposed spec it is the forward one. The same weight array serves both: its O and
        I axes trade names. The adjoint of a linear map has no bias.

        Raises:
            UnsupportedError: a padding mode other than zeros, whose adjoint is no convolution.
        """
        return ConvSpec(**problem.adjoint_arguments(self, input_shape))

    # ---- parts ----

    def tiles(
        self,
        input_shape: Sequence[int],
        output_chunks: Any,
        output_size: int | Sequence[int] | None = None,
    ) -> Tiles:
        """The convolution in tiles: for each box of the output, what to read and what to run.

        Assembled, the tiles equal the whole bit for bit wherever sums are exact.

        Args:
            input_shape: one size per letter of ``layout``.
            output_chunks: one entry per spatial axis, or per axis of ``output_layout``, or one
                for every spatial axis: a size of chunk, all sizes of the axis in turn, or None
                or -1 for the whole axis. Axis C stays whole.
            output_size: as in a call.

        Returns:
            A sequence of :class:`~convspec.tiles.Tile` that makes each one when asked for it.

        Raises:
            LayoutError, ShapeError: as :meth:`output_shape`; chunks that do not make the axis.
        """
        return Tiles(problem.resolve(self, input_shape, output_size), output_chunks)

    @property
    def halo(self) -> tuple[tuple[int, int], ...]:
        """How far, for each spatial axis and side, a chunk's slab reaches into its neighbours.

        Of the input, positions o*stride to (o+1)*stride belong to output o (transposed, position
        i belongs to the outputs i*stride to (i+1)*stride). Where named padding depends on the
        input's size, it is the largest amount that any size needs.
        """
        return halo(self)

    # ---- other orders ----

    def in_convention(self, name: str) -> ConvSpec:
        """The same convolution in a framework's orders.

        Args:
            name: torch, tensorflow, keras, jax, flax, onnx, mlx, mxnet or matconvnet.

        Raises:
            ConvSpecError: an unknown name.
        """
        return self.replace(**canonical.convention_changes(self, get_convention(name)))

    def convert_weight(
        self, weight: Array, to: ConvSpec | str, *, contiguous: bool = False
    ) -> Array:
        """A weight of this spec in the order of another spec or convention.

        Works on the arrays of every framework, and gives a view where the framework can.

        Args:
            weight: array of shape ``weight_shape``.
            to: a spec of the same convolution, or a convention's name.
            contiguous: copy the elements into the new order too, where the result would be a
                strided view.

        Raises:
            ShapeError: ``weight`` has another shape, or ``to`` other channels, groups or kernel.
        """
        target = self.in_convention(to) if isinstance(to, str) else _checked("to", to)
        converted: Array = moving.convert_weight(self, target, weight, contiguous=contiguous)
        return converted

    def diff(self, other: ConvSpec, input_shape: Sequence[int] | None = None) -> list[str]:
        """How ``other`` differs from this spec, in words; empty when they are the same.

        Args:
            other: the other spec.
            input_shape: in this spec's ``layout``: compare what named padding stands for there,
                so that a "same" that shifts the output by one pixel against padding 1 says so.

        Raises:
            LayoutError, ShapeError: ``input_shape`` does not fit one of the specs.
        """
        return reading.differences(self, _checked("other", other), input_shape)

    # ---- the frameworks' own layers and calls ----

    @classmethod
    def from_native(cls, layer: Any) -> Any:
        """The spec of a framework's layer, in that framework's convention.

        What the layer does beside its convolution, as a Keras layer's activation, is not part of
        it. The arrays come with :func:`convspec.layer_arrays`.

        Args:
            layer: a convolution of ``torch.nn``, Keras, ``flax.nnx``, Equinox or MLX, a
                ``convspec_onnx.Convolution`` or an ONNX model that has just one, or a layer of
                one of our adapters.

        Returns:
            A ``ConvSpec``; for a separable layer, which is two convolutions, a tuple of two.

        Raises:
            UnsupportedError: an unknown layer (the message lists the known ones), one that is
                not built yet, or one that does what no spec says.
        """
        return natives.specs_of(layer)

    @classmethod
    def from_call(cls, fn: Any, *args: Any, **options: Any) -> Any:
        """The spec of a call ``fn(*args, **options)``, in the orders of that call.

        Nothing is computed: of the arrays only the shapes are read, so that
        ``jax.ShapeDtypeStruct``, ``tf.TensorSpec``, meta tensors and ``keras.Input`` will do.

        Args:
            fn: one of ``torch.nn.functional``'s convolutions, ``tf.nn``'s, ``jax.lax``'s or
                ``keras.ops``'.
            args, options: what it would be called with.

        Returns:
            A ``ConvSpec``; for a separable convolution a tuple of two.

        Raises:
            UnsupportedError: an unknown function (the message lists the known ones), or a call
                that no spec says.
            ConvSpecError: arguments that the function does not take.
            ShapeError: a size that the spec depends on is unknown.
        """
        return natives.read_call(fn, args, options)

    def to_native(
        self, name: str, weight: Any, bias: Any = None, *, explicit_padding: bool = False
    ) -> Any:
        """A framework's own layer that computes this convolution on its convention's data layout.

        Args:
            name: torch, keras, flax, equinox, mlx or onnx (which gives a model of one node).
            weight: array of ``weight_shape`` in this spec's order, of any framework. The layer
                gets a copy, in its own order.
            bias: array of shape ``(out_channels,)``. Left out where ``bias`` is true, the layer
                has one of zeros.
            explicit_padding: where the framework's convolution cannot pad like this, pad the
                input in a layer of its own before a convolution without padding (transposed,
                crop the output after it).

        Raises:
            UnsupportedError: the framework's layers cannot express the spec; the message says
                what they have, and what else there is.
            BackendNotFoundError: an unknown name, or the framework is not installed.
            ShapeError: the arrays do not fit the spec.
        """
        return natives.make(self, name, weight, bias, explicit_padding=explicit_padding)

    # ---- computing ----

    def __call__(
        self,
        x: Array,
        weight: Any,
        bias: Any = None,
        *,
        output_size: int | Sequence[int] | None = None,
        out_dtype: Any = None,
        backend: str | Backend | None = None,
    ) -> Array:
        """Compute the convolution on the framework that ``x`` belongs to.

        Args:
            x: array in ``layout``.
            weight: array of ``weight_shape``, of x's framework and dtype, or a NumPy array.
            bias: array of shape ``(out_channels,)``, or None for no bias.
            output_size: transposed only: the spatial size of the output, in ``layout``'s order.
            out_dtype: element type of the result and of the accumulation, as int32 for int8.
            backend: a backend, or the name of one, other than x's own; x is handed over by
                DLPack and the result handed back. ``"fastest"`` is the one that is fastest here:
                measured at the first such call, remembered for later ones (see
                :func:`convspec.tune`), and x's own inside a trace or where gradients are needed.

        Returns:
            An array in ``output_layout``, on x's framework and device.

        Raises:
            LayoutError: the number of axes of an array is not that of its layout.
            ShapeError: a size does not fit; a bias on ``bias=False``; an output below 1.
            DTypeError: element types disagree, or arrays of two frameworks meet.
            UnsupportedError: the backend cannot compute this.
            BackendNotFoundError: nothing installed owns ``x``.
        """
        y: Array = calls.call(self, x, weight, bias, output_size, out_dtype, backend)
        return y

    def supports(
        self,
        backend: str | Backend,
        input_shape: Sequence[int] | None = None,
        dtype: Any = None,
        output_size: int | Sequence[int] | None = None,
    ) -> Support:
        """Whether a backend can compute this spec, and how; nothing is computed.

        Args:
            backend: a backend or its name.
            input_shape: the input's shape in ``layout``; default: the smallest legal one.
            dtype: element type, default float32.
            output_size: as in a call.

        Returns:
            A frozen ``Support(ok, path, reason)``, true when ok.
        """
        return reading.supports(self, backend, input_shape, dtype, output_size)

    def explain(
        self, input_shape: Sequence[int], backend: str | Backend = "numpy", dtype: Any = None
    ) -> str:
        """What a call will do, as text: padding, shapes, permutes, path and native calls.

        Below ``with gradients`` is what is computed in another way where a call is differentiated.
        """
        return reading.explain(self, input_shape, backend, dtype)

    def code(
        self,
        backend: str | Backend,
        input_shape: Sequence[int] | None = None,
        dtype: Any = None,
    ) -> str:
        """The snippet that a person would have written for this in a framework.

        It runs as it is: it makes an input and a weight, and leaves the result in ``y``.

        Args:
            backend: a backend or its name.
            input_shape: the input's shape in ``layout``; default: a small legal one.
            dtype: element type, default float32.
        """
        return reading.code(self, backend, input_shape, dtype)


def _checked(name: str, value: object) -> ConvSpec:
    if not isinstance(value, ConvSpec):
        raise ConvSpecError(f"{name}: expected a ConvSpec, got {shown(value)}.")
    return value
