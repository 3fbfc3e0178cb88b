"""A plan: the expression that computes one problem, made of array operations and kernel calls.

A node is an operation by name, the nodes it works on, its fixed parameters, and the shape and
element type of its result. The constructors below leave out what would do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple

from .geometry import Pair, extent, pointwise
from .symbols import Size, Sizes, known, largest, symbolic

#: The operations an adapter supplies, each as ``f(*arrays, **params)``.
OPERATIONS = (
    "add",
    "cast",
    "concat",
    "conv",
    "flip",
    "multiply",
    "pad",
    "permute",
    "reshape",
    "slice",
)

#: Those that it may supply: one cuts an array along an axis into as many equal parts, all at once,
#: so that the gradient is one array; the other picks one of them.
OPTIONAL = ("part", "split")

#: The fields of a :class:`Call` that have one value per spatial axis.
PER_AXIS = (
    "input_size",
    "kernel_size",
    "output_size",
    "stride",
    "padding",
    "dilation",
    "output_padding",
    "input_dilation",
)

#: The fields of a :class:`Call` that follow from the input's shape.
MAY_BE_SYMBOLIC = ("batch", "input_size", "output_size", "padding", "output_padding")

#: More axes than this are merged before padding: TensorFlow's kernel takes no more.
MAX_PADDED_AXES = 6


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of a plan: ``"input"``, or one of :data:`OPERATIONS` or :data:`OPTIONAL`.

    The result of ``"split"`` is not an array, but several; shape and type are of what is cut.
    """

    op: str
    args: tuple[Node, ...]
    params: dict[str, Any]
    shape: tuple[Size, ...]
    dtype: str


@dataclass(frozen=True)
class Call:
    """One call of a framework's convolution kernel, on arrays in the orders it likes.

    Per-axis tuples follow ``spatial``. ``padding`` is what the problem says of it: added zeros
    forward, cropped positions transposed.

    Attributes:
        x_layout, w_layout, y_layout: axis letters of the three arrays; always with N.
        group_axis: the weight axis that spans all groups.
        input_dilation: forward only: step between input elements, zeros in between.
        same: the padding is exactly that of ``"same"``.
        dtype, device: element type and kind of device of the arrays.
        bias: whether a bias goes into the call.
        nonempty: the batch has samples; a symbolic one may turn out to have none.
    """

    transposed: bool
    x_layout: str
    w_layout: str
    y_layout: str
    group_axis: str
    batch: Size
    in_channels: int
    out_channels: int
    groups: int
    input_size: tuple[Size, ...]
    kernel_size: tuple[int, ...]
    output_size: tuple[Size, ...]
    stride: tuple[int, ...]
    padding: tuple[Pair, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[Size, ...]
    input_dilation: tuple[int, ...]
    same: bool
    dtype: str
    device: str
    bias: bool
    nonempty: bool = True

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel_size)

    @property
    def spatial(self) -> str:
        """The spatial letters, in the order of every per-axis tuple."""
        return "".join(letter for letter in self.x_layout if letter not in "NC")

    @property
    def padded(self) -> bool:
        """Whether any amount of padding, or of output padding, may be other than zero."""
        return any(not isinstance(amount, int) or amount != 0 for amount in self._amounts)

    @property
    def settled(self) -> bool:
        """Whether every amount of padding is a plain number, as a kernel's attribute has to be."""
        return known(*self._amounts)

    @property
    def _amounts(self) -> tuple[Size, ...]:
        return (*(amount for pair in self.padding for amount in pair), *self.output_padding)

    @property
    def symbolic(self) -> bool:
        """Whether any size or amount is a symbol."""
        return any(symbolic(getattr(self, name)) for name in MAY_BE_SYMBOLIC)

    @property
    def least(self) -> Call:
        """This call, of one sample if their number is not known: of more, as much is worthwhile."""
        return self if isinstance(self.batch, int) else replace(self, batch=1)

    def settle(self, sizes: Sizes) -> Call:
        """This call with the framework's own sizes in place of symbols."""
        return replace(self, **{name: sizes(getattr(self, name)) for name in MAY_BE_SYMBOLIC})

    def ordered(self, letters: str) -> Call:
        """This call, its per-axis values given in the order of ``letters``, in its own order."""
        if letters == self.spatial:
            return self
        places = [letters.index(letter) for letter in self.spatial]
        changes: dict[str, Any] = {
            name: tuple(getattr(self, name)[i] for i in places) for name in PER_AXIS
        }
        return replace(self, **changes)

    @property
    def pointwise(self) -> bool:
        """Whether the kernel has one position and no strides."""
        return pointwise(self.kernel_size, self.stride)

    @property
    def extents(self) -> tuple[int, ...]:
        """How far the dilated kernel reaches on each axis."""
        return tuple(extent(k, d) for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def covered(self) -> tuple[int, ...]:
        """How many input positions the windows of a forward call reach; later ones do nothing."""
        return tuple(
            min(n, max(((out - 1) * step + reach - 1 - lo) // gap + 1, 0))
            for n, out, step, reach, (lo, _), gap in zip(
                self.input_size,
                self.output_size,
                self.stride,
                self.extents,
                self.padding,
                self.input_dilation,
                strict=True,
            )
        )

    @property
    def overcropped(self) -> bool:
        """Whether negative padding takes away more than the dilated input has, on some axis."""
        return any(
            _overcropped(extent(n, s), lo, hi)
            for n, s, (lo, hi) in zip(
                self.input_size, self.input_dilation, self.padding, strict=True
            )
        )

    @property
    def multiplications(self) -> Size:
        """Of a forward call, those with padding and with zeros between inputs too."""
        window = self.in_channels // self.groups * prod(self.kernel_size)
        return _product(self.output_shape) * window

    @property
    def output_shape(self) -> tuple[Size, ...]:
        """Shape of the result in ``y_layout``."""
        sizes: dict[str, Size] = dict(zip(self.spatial, self.output_size, strict=True))
        sizes.update(N=self.batch, C=self.out_channels)
        return tuple(sizes[letter] for letter in self.y_layout)


def _overcropped(n: Size, lo: Size, hi: Size) -> bool:
    if not known(lo, hi) or min(lo, hi) >= 0:
        return False  # amounts that depend on the size are those of named padding, which adds
    if known(n):
        return bool(n + min(lo, 0) + min(hi, 0) < 1)
    return bool(max(lo, hi) > 0)  # only what the other end gives back can have been too much


def source(name: str, shape: Sequence[Size], dtype: str) -> Node:
    """One of the kernel's arguments: ``x``, ``weight`` or ``bias``."""
    return Node("input", (), {"name": name}, tuple(shape), dtype)


def permute(x: Node, axes: Sequence[int]) -> Node:
    """The axes of ``x`` in another order."""
    axes = tuple(axes)
    if axes == tuple(range(len(axes))):
        return x
    return Node("permute", (x,), {"axes": axes}, tuple(x.shape[i] for i in axes), x.dtype)


def reshape(x: Node, shape: Sequence[Size]) -> Node:
    """``x`` in another shape of the same size, row-major."""
    while x.op == "reshape":
        (x,) = x.args
    if tuple(shape) == x.shape:
        return x
    return Node("reshape", (x,), {"shape": tuple(shape)}, tuple(shape), x.dtype)


def flip(x: Node, axes: Sequence[int]) -> Node:
    """``x`` reversed along ``axes``."""
    return Node("flip", (x,), {"axes": tuple(axes)}, x.shape, x.dtype) if axes else x


def cast(x: Node, dtype: str) -> Node:
    """``x`` with its elements as another type."""
    return x if x.dtype == dtype else Node("cast", (x,), {"dtype": dtype}, x.shape, dtype)


def pad(x: Node, pairs: Sequence[Pair], mode: str = "zeros") -> Node:
    """``x`` with (lo, hi) >= 0 positions added on each axis."""
    if all(pair == (0, 0) for pair in pairs):
        return x
    shape = tuple(n + lo + hi for n, (lo, hi) in zip(x.shape, pairs, strict=True))
    if len(shape) > MAX_PADDED_AXES and mode == "zeros":
        return _pad_each(x, pairs)
    return Node("pad", (x,), {"pairs": tuple(pairs), "mode": mode}, shape, x.dtype)


def _pad_each(x: Node, pairs: Sequence[Pair]) -> Node:
    """Zeros around one axis after another."""
    for axis, pair in enumerate(pairs):
        x = pad_axis(x, axis, pair)
    return x


def pad_axis(x: Node, axis: int, pair: Pair) -> Node:
    """Zeros around one axis, its neighbours merged into two."""
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    n = x.shape[axis]
    merged = reshape(x, (_product(before), n, _product(after)))
    padded = pad(merged, ((0, 0), pair, (0, 0)))
    return reshape(padded, (*before, n + pair[0] + pair[1], *after))


def _product(sizes: Sequence[Size]) -> Size:
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def slice_axis(x: Node, axis: int, start: Size, count: Size, step: int = 1) -> Node:
    """``count`` positions of one axis, from ``start``, every ``step``-th."""
    if count == x.shape[axis] and start == 0 and step == 1:
        return x
    index = [slice(None)] * len(x.shape)
    index[axis] = slice(start, start + (count - 1) * step + 1, None if step == 1 else step)
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return Node("slice", (x,), {"index": tuple(index)}, shape, x.dtype)


def equal_parts(x: Node, axis: int, count: int, *, at_once: bool) -> list[Node]:
    """``x`` cut into ``count`` equal parts along one axis, of a known size.

    Args:
        at_once: by one operation, not by a slice for each part.
    """
    size = x.shape[axis] // count
    if count == 1:
        return [x]
    if not at_once:
        return [slice_axis(x, axis, i * size, size) for i in range(count)]
    whole = Node("split", (x,), {"axis": axis, "count": count}, x.shape, x.dtype)
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    return [Node("part", (whole,), {"index": i}, shape, x.dtype) for i in range(count)]


def concat(parts: Sequence[Node], axis: int) -> Node:
    """Several nodes end to end along ``axis``."""
    if len(parts) == 1:
        return parts[0]
    whole = _cut(parts, axis)
    if whole is not None:
        return whole
    first = parts[0]
    total = first.shape[axis]
    for part in parts[1:]:
        total = total + part.shape[axis]
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    return Node("concat", tuple(parts), {"axis": axis}, shape, first.dtype)


def _cut(parts: Sequence[Node], axis: int) -> Node | None:
    """The node that was cut into these parts, in this order; None if there is none.

    Cut and joined again it would be the same, but the gradient of each cut has the whole's size.
    """
    if parts[0].op == "part":
        (whole,) = parts[0].args
        cuts = [(part.args, part.params.get("index")) for part in parts]
        everything = [((whole,), i) for i in range(whole.params["count"])]
        same = whole.params["axis"] == axis and cuts == everything
        return whole.args[0] if same else None
    x = parts[0].args[0] if parts[0].op == "slice" else parts[0]
    start = 0
    for part in parts:
        count = part.shape[axis]
        if part.op != "slice" or part.args[0] is not x or not isinstance(count, int):
            return None
        index = [slice(None)] * len(x.shape)
        index[axis] = slice(start, start + count)
        if part.params["index"] != tuple(index):
            return None
        start += count
    return x if start == x.shape[axis] else None


def add(a: Node, b: Node) -> Node:
    """The sum; ``b`` has the shape of ``a``, or ones."""
    return Node("add", (a, b), {}, a.shape, a.dtype)


def multiply(a: Node, b: Node) -> Node:
    """The product; axes of size 1 are stretched."""
    shape = tuple(m if n == 1 else n for n, m in zip(a.shape, b.shape, strict=True))
    return Node("multiply", (a, b), {}, shape, a.dtype)


def conv(call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """A kernel call."""
    args = (x, w) if b is None else (x, w, b)
    return Node("conv", args, {"call": call}, call.output_shape, call.dtype)


# ---- composed of the above ----


def on_axes(shape: Sequence[Size], by_axis: Mapping[int, Pair]) -> list[Pair]:
    """Pairs for every axis, zero where not named."""
    return [by_axis.get(i, (0, 0)) for i in range(len(shape))]


def window(x: Node, by_axis: Mapping[int, Pair], sizes: Mapping[int, Size]) -> Node:
    """Zeros added at the ends (amounts above 0), then cropped (below 0), per axis.

    Adding comes first: it is right even where one end is cropped by more than the axis has.
    """
    positive = {i: (largest(lo, 0), largest(hi, 0)) for i, (lo, hi) in by_axis.items()}
    x = pad(x, on_axes(x.shape, positive))
    for i, (lo, hi) in by_axis.items():
        first, last = largest(-lo, 0), largest(-hi, 0)
        if (first, last) != (0, 0):
            x = slice_axis(x, i, first, sizes[i])
    return x


def stuff(x: Node, steps: Mapping[int, int]) -> Node:
    """step-1 zeros between the elements of each axis named: size (n-1)*step + 1.

    Zeros come behind every element of all axes, and only then are the last ones cropped: axes that
    are merged meanwhile have sizes n*step, whose product is seen to be positive whatever n is.
    """
    steps = {axis: step for axis, step in steps.items() if step != 1}
    if not steps:
        return x
    y, whole = x, list(x.shape)
    for axis in sorted(steps, reverse=True):  # those before it keep their places
        y = reshape(y, (*y.shape[: axis + 1], 1, *y.shape[axis + 1 :]))
        y = pad_axis(y, axis + 1, (0, steps[axis] - 1))
        whole[axis] = whole[axis] * steps[axis]
    y = reshape(y, whole)
    for axis, step in steps.items():
        y = slice_axis(y, axis, 0, (x.shape[axis] - 1) * step + 1)
    return y


# ---- running ----


@dataclass
class Line:
    """One step of a linear program: ``slot[target] = op(*slots[args], **params)``."""

    node: Node
    args: tuple[int, ...]
    target: int
    done: tuple[int, ...] = field(default=())


def linear(plan: Node, inputs: Sequence[Node]) -> list[Line]:
    """The plan as steps in order; slots 0, 1, ... are ``inputs``, ``done`` ones not read again."""
    slots = {id(node): i for i, node in enumerate(inputs)}
    lines: list[Line] = []

    def visit(node: Node) -> int:
        if id(node) not in slots:
            args = tuple(visit(arg) for arg in node.args)
            slots[id(node)] = len(inputs) + len(lines)
            lines.append(Line(node, args, slots[id(node)]))
        return slots[id(node)]

    visit(plan)
    read: set[int] = set()
    for line in reversed(lines):
        line.done = tuple(sorted(set(line.args) - read))
        read.update(line.args)
    return lines


class Step(NamedTuple):
    """An operation with its parameters: ``function(*arrays, *rest)``."""

    function: Callable[..., Any]
    rest: tuple[Any, ...] = ()


def assemble(
    plan: Node,
    inputs: Sequence[Node],
    bound: Callable[[str, dict[str, Any]], Step],
    unbound: Callable[[str, dict[str, Any]], Callable[..., Any]],
) -> Callable[..., Any]:
    """The plan as a plain callable of its inputs, every parameter bound by ``bound``.

    Where the inputs have symbolic sizes, it takes what these stand for as ``sizes=``, and calls
    what ``unbound`` gives with the parameters settled whenever it is run.
    """
    lines = linear(plan, inputs)
    if not lines:
        return lambda x, *_, sizes=None: x
    if any(_symbolic(line.node.params) for line in lines):
        return _sized(lines, unbound)
    steps = [bound(line.node.op, line.node.params) for line in lines]
    sized = not known(*(size for node in inputs for size in node.shape))
    alone = len(steps) == 1 and lines[0].args == tuple(range(len(inputs)))
    if alone and not steps[0].rest and not sized:
        return steps[0].function
    return _straight(lines, len(inputs), steps, sized=sized)


def _straight(
    lines: list[Line], count: int, steps: Sequence[Step], *, sized: bool
) -> Callable[..., Any]:
    """The steps as a function with one statement for each, so that running it looks up nothing.

    ``v2 = f2(v0, p2_0)`` is step 2: the arrays, then what the step has besides.
    """
    body, values = [], {}
    for line, step in zip(lines, steps, strict=True):
        at = line.target
        rest = {f"p{at}_{i}": value for i, value in enumerate(step.rest)}
        values.update({f"f{at}": step.function, **rest})
        result = "return" if line is lines[-1] else f"v{at} ="
        body.append(f"{result} f{at}({', '.join([*(f'v{i}' for i in line.args), *rest])})")
        if line.done and line is not lines[-1]:
            body.append(f"del {', '.join(f'v{i}' for i in line.done)}")  # memory is given back
    inputs = ", ".join(f"v{i}" for i in range(count))
    inputs += ", *, sizes=None" * sized
    text = "\n  ".join([f"def kernel({inputs}):", *body])
    text = f"def make({', '.join(values)}):\n " + text.replace("\n", "\n ") + "\n return kernel"
    made: dict[str, Any] = {}
    exec(text, made)
    kernel: Callable[..., Any] = made["make"](**values)
    return kernel


def _symbolic(params: dict[str, Any]) -> bool:
    return any(
        value.symbolic if isinstance(value, Call) else symbolic(value) for value in params.values()
    )


def _sized(
    lines: list[Line], unbound: Callable[[str, dict[str, Any]], Callable[..., Any]]
) -> Callable[..., Any]:
    """The steps with symbols among their parameters, which become sizes whenever they are run."""
    operations = [unbound(line.node.op, line.node.params) for line in lines]

    def kernel(*arrays: Any, sizes: Sizes) -> Any:
        slots = list(arrays)
        for line, operation in zip(lines, operations, strict=True):
            params = {
                name: value.settle(sizes) if isinstance(value, Call) else sizes(value)
                for name, value in line.node.params.items()
            }
            slots.append(operation(*[slots[i] for i in line.args], **params))
        return slots[-1]

    return kernel
