"""What each tensor is: from rules, metadata, a model, or names and shapes that leave no choice."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..arguments import shown
from .errors import ConvertError
from .names import PARTS
from .orders import Order

KERNELS = ("conv", "conv_transpose", "depthwise")
NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "norm")
KINDS = (*KERNELS, "dense", *NORMS, "prelu", "embedding", "copy", "skip")
#: Other words for kinds, as frameworks have them.
ALIASES = {
    **{f"conv{rank}d": "conv" for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": "conv_transpose" for rank in (1, 2, 3)},
    **{f"convtranspose{rank}d": "conv_transpose" for rank in (1, 2, 3)},
    **{f"batchnorm{rank}d": "batch_norm" for rank in (1, 2, 3)},
    **{f"conv{rank}d_transpose": "conv_transpose" for rank in (1, 2, 3)},
    **{f"depthwise_conv{rank}d": "depthwise" for rank in (1, 2)},
    "convolution": "conv",
    "transposed": "conv_transpose",
    "convtranspose": "conv_transpose",
    "deconv": "conv_transpose",
    "linear": "dense",
    "batchnorm": "batch_norm",
    "layernorm": "layer_norm",
    "groupnorm": "group_norm",
    "ignore": "skip",
}
#: What a rule may say beside the kind: arguments of ConvSpec and how the kernel is stored; the
#: order of a dense layer's inputs, of its outputs, of a vector's elements; the axes of an array;
#: the number of spatial axes that a PReLU sees.
SPEC = ("stride", "padding", "dilation", "groups", "padding_mode", "output_padding")
STORED = ("order", "flipped", "group_axis")
OPTIONS = {
    **dict.fromkeys(KERNELS, (*SPEC, *STORED)),
    "dense": ("flatten", "unflatten", "inputs_first"),
    "prelu": ("rank", "flatten"),
    **dict.fromkeys(NORMS, ("parts", "flatten", "axes")),
    "copy": ("axes",),
    "": ("flatten", "unflatten"),  # a rule without a kind says this of all layers that it matches
}


@dataclass(frozen=True)
class Flatten:
    """How the axes in front of a dense layer were flattened.

    Attributes:
        layout: letters, in the order in which they were flattened, as ``"CHW"``; where only the
            number of channels is known, ``X`` stands for all positions.
        shape: sizes, in that order; one may be -1 until the number of features is known.
    """

    layout: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Kind:
    """What a layer is.

    Attributes:
        name: one of :data:`KINDS`.
        origin: who says so: ``rules``, ``metadata``, ``model`` or ``names and shapes``.
        arguments: arguments of :class:`ConvSpec` that are known, of a convolution.
        flatten: what was flattened into a dense layer's inputs, or into the features that a vector
            has an element for; False if nothing was, None if nobody said; an int is the number of
            channels.
        unflatten: likewise, what a dense layer's outputs are reshaped to.
        axes: of an array of any axes: their letters, as ``"CHW"``, or ``""``.
        rank: of a PReLU: how many spatial axes it sees; None if nobody said.
        complete: whether everything about the convolution is known, not its weight alone.
        parts: of a Keras layer whose variables are numbered: what they are, in order.
        inputs_first: of a dense layer: whether its matrix is (inputs, outputs), where that is not
            the convention's habit.
        order: how a kernel is stored, where that is not the convention's habit.
        place: of a tensor in an ONNX graph, whose name may say nothing: the path of its layer, and
            the part that it is.
        was: letters of flatten and unflatten where the tensor came from, if it goes back there.
        likely: channels of flatten and unflatten in a model whose framework has another order, so
            that they are proposed; 0 for none.
        doubt: why the layer cannot be converted as it is, though its kind is known.
    """

    name: str
    origin: str
    arguments: dict[str, Any] = field(default_factory=dict)
    flatten: Flatten | int | bool | None = None
    unflatten: Flatten | int | bool | None = None
    axes: str = ""
    rank: int | None = None
    complete: bool = False
    parts: tuple[str, ...] = ()
    inputs_first: bool | None = None
    order: Order | None = None
    place: tuple[str, str] = ("", "")
    was: tuple[str, str] = ("", "")
    likely: tuple[int, int] = (0, 0)
    doubt: str = ""


class Rules:
    """Globs and the kinds of the tensors whose names they match.

    An exact name comes before a glob; of several globs the first one counts. Rules without a kind
    are looked up by themselves.

    Attributes:
        names: new names of layers, or of what holds layers, by their paths.
    """

    def __init__(self, kinds: Mapping[str, Kind], names: Mapping[str, str] | None = None) -> None:
        self.names = dict(names or {})
        self._exact = {key: kind for key, kind in kinds.items() if not set(key) & set("*?[")}
        self._globs = {key: kind for key, kind in kinds.items() if key not in self._exact}
        self._used: set[str] = set()

    def find(self, name: str) -> Kind | None:
        """The kind that the rules have for a tensor, or for the layer called ``name``."""
        return next((kind for kind in self._matching(name) if kind.name), None)

    def order(self, name: str) -> Kind | None:
        """What rules without a kind say of the order of a layer's features."""
        return next((kind for kind in self._matching(name) if not kind.name), None)

    def _matching(self, name: str) -> Iterator[Kind]:
        if name in self._exact:
            self._used.add(name)
            yield self._exact[name]
        for glob, kind in self._globs.items():
            if fnmatch.fnmatchcase(name, glob):
                self._used.add(glob)
                yield kind

    def renamed(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """The path of a layer in the target, by the longest name that rules have for it."""
        for count in range(len(path), 0, -1):
            new = self.names.get(".".join(path[:count]))
            if new is not None:
                self._used.add(".".join(path[:count]))
                return (*(word for word in new.split(".") if word), *path[count:])
        return path

    @property
    def unused(self) -> list[str]:
        """What matched nothing: a misspelt name, perhaps."""
        return [key for key in (*self._exact, *self._globs, *self.names) if key not in self._used]


def read_rules(rules: str | Path | Mapping[str, Any] | None) -> Rules:
    """Rules out of a TOML file or a mapping.

    The file maps globs to kinds, under ``[kinds]`` or on top::

        [kinds]
        "conv*.weight" = "conv"
        "up.weight" = { kind = "conv_transpose", groups = 2 }
        "fc1.weight" = { kind = "dense", flatten = { layout = "CHW", shape = [64, 3, 3] } }
        "fc2.weight" = { kind = "dense", flatten = false }
        "blocks.*" = { flatten = false, unflatten = false }
        "lstm.*" = "copy"

        [names]
        "conv2d_1" = "features.3"

    Raises:
        ConvertError: the file cannot be read, or a rule makes no sense.
    """
    if rules is None:
        return Rules({})
    place = "rules"
    if not isinstance(rules, Mapping):
        place = str(rules)
        try:
            rules = tomllib.loads(Path(rules).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConvertError(f"{place}: is no readable TOML file: {error}.") from error
    tables = bool(rules) and set(rules) <= {"kinds", "names"}
    given = rules.get("kinds", {}) if tables else rules
    if not isinstance(given, Mapping):
        raise ConvertError(f"{place}: [kinds] should map globs to kinds, got {shown(given)}.")
    kinds = {str(glob): _kind(f"{place}: {glob!r}", value) for glob, value in given.items()}
    new = rules.get("names", {}) if tables else {}
    if not isinstance(new, Mapping) or not all(isinstance(name, str) for name in new.values()):
        raise ConvertError(f"{place}: [names] should map layers to layers, got {shown(new)}.")
    return Rules(kinds, {str(old): str(name) for old, name in new.items()})


def _kind(place: str, value: Any) -> Kind:
    """A kind out of a rule: a word, or a table with ``kind`` and options."""
    options = {"kind": value} if isinstance(value, str) else value
    bare = isinstance(options, Mapping) and bool(options) and set(options) <= set(OPTIONS[""])
    if not isinstance(options, Mapping) or not (bare or isinstance(options.get("kind"), str)):
        raise ConvertError(
            f"{place} is {shown(value)}; expected a kind, or a table as in "
            f'{{ kind = "conv", groups = 2 }}.'
        )
    word = "" if bare else options["kind"].lower()
    name = ALIASES.get(word, word)
    if name not in KINDS and not bare:
        raise ConvertError(f"{place} is {shown(value)}; kinds are {', '.join(KINDS)}.")
    known = OPTIONS.get(name, ())
    for option in options:
        if option != "kind" and option not in known:
            have = f"has {', '.join(known)}" if known else "has no options"
            raise ConvertError(f"{place} has the option {option!r}, but the kind {name!r} {have}.")
    arguments = {
        key: _tupled(value) for key, value in options.items() if key in SPEC and name in KERNELS
    }
    rank = options.get("rank")
    if rank is not None and (type(rank) is not int or not 0 <= rank <= 8):
        raise ConvertError(f"{place} has rank {shown(rank)}; it is a number of spatial axes.")
    flatten, unflatten = (
        _flatten(place, key, options[key]) if key in options else None
        for key in ("flatten", "unflatten")
    )
    axes = options.get("axes", "")
    if not isinstance(axes, str) or len(set(axes)) != len(axes) or not (axes + "A").isupper():
        raise ConvertError(f"{place} has axes {shown(axes)}; they are letters, as in 'CHW'.")
    first = options.get("inputs_first")
    if first is not None and not isinstance(first, bool):
        raise ConvertError(f"{place} has inputs_first {shown(first)}; it is true or false.")
    parts = options.get("parts", ())
    if not isinstance(parts, (list, tuple)) or not set(parts) <= set(PARTS):
        raise ConvertError(f"{place} has parts {shown(parts)}; parts are {', '.join(PARTS)}.")
    complete = name in KERNELS and len(arguments) > (1 if "groups" in arguments else 0)
    return Kind(
        name,
        "rules",
        arguments,
        flatten,
        unflatten,
        axes,
        rank,
        complete,
        tuple(parts),
        first,
        _order(place, options),
    )


def _order(place: str, options: Mapping[str, Any]) -> Order | None:
    """How a kernel is stored, where a rule says it."""
    if not set(options) & set(STORED):
        return None
    name, flip, axis = (options.get(key) for key in STORED)
    fine = name is None or (isinstance(name, str) and name)
    fine = fine and (flip is None or isinstance(flip, bool)) and axis in (None, "O", "I")
    if not fine:
        raise ConvertError(
            f"{place} has {shown({key: options[key] for key in STORED if key in options})}; "
            f'expected order = "HWOI" or a convention, flipped = true or false, group_axis = "O" '
            f'or "I".'
        )
    return Order(name or "", flip, axis)


def _flatten(place: str, option: str, value: Any) -> Flatten | int | bool:
    if value is False or value == 0:
        return False
    if type(value) is int and value > 0:
        return value
    if isinstance(value, Mapping) and set(value) == {"layout", "shape"}:
        layout, shape = value["layout"], value["shape"]
        fine = isinstance(layout, str) and isinstance(shape, (list, tuple))
        fine = fine and len(layout) == len(shape) == len(set(layout)) and "C" in layout
        if fine and layout.isupper() and all(type(n) is int and n > 0 for n in shape):
            return Flatten(layout, tuple(shape))
    raise ConvertError(
        f"{place} has {option} {shown(value)}; expected false, a number of channels, or\n"
        f'  {{ layout = "CHW", shape = [64, 3, 3] }}: the axes in the order they are flattened in.'
    )


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


def to_dict(kind: Kind) -> dict[str, Any]:
    """A kind as JSON-ready values."""
    values: dict[str, Any] = {"kind": kind.name}
    for key in ("flatten", "unflatten"):
        order = getattr(kind, key)
        if isinstance(order, Flatten):
            order = {"layout": order.layout, "shape": list(order.shape)}
        values[key] = order
    values |= {"axes": kind.axes or None, "rank": kind.rank, "complete": kind.complete}
    return {key: value for key, value in values.items() if value is not None}


def from_dict(place: str, values: Mapping[str, Any]) -> Kind:
    """The kind that :func:`to_dict` wrote.

    Raises:
        ConvertError: it is none.
    """
    name = values.get("kind")
    if name not in KINDS:
        raise ConvertError(f"{place} is {shown(name)}, which is no kind.")
    flatten, unflatten = (
        _flatten(place, key, values[key]) if key in values else None
        for key in ("flatten", "unflatten")
    )
    rank, axes = values.get("rank"), values.get("axes", "")
    was = values.get("was", ["", ""])
    if not isinstance(was, list) or [type(word) for word in was] != [str, str]:
        raise ConvertError(f"{place} was {shown(was)}, which is no order.")
    return Kind(
        name,
        "metadata",
        {},
        flatten,
        unflatten,
        axes if isinstance(axes, str) else "",
        rank if type(rank) is int else None,
        values.get("complete") is True,
        was=(was[0], was[1]),
    )
