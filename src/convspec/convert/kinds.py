"""What each tensor is: from rules, metadata, a model, or names and shapes that leave no choice."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..arguments import shown
from .errors import ConvertError
from .names import PARTS

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
#: What a rule may say beside the kind: arguments of ConvSpec, the flatten in front of a dense
#: layer, the number of spatial axes that a PReLU sees.
SPEC = ("stride", "padding", "dilation", "groups", "padding_mode", "output_padding")
OPTIONS = {
    **dict.fromkeys(KERNELS, SPEC),
    "dense": ("flatten", "inputs_first"),
    "prelu": ("rank",),
    **dict.fromkeys(NORMS, ("parts",)),
}


@dataclass(frozen=True)
class Flatten:
    """How the axes in front of a dense layer were flattened.

    Attributes:
        layout: letters, in the order in which they were flattened, as ``"CHW"``; where only the
            number of channels is known, ``X`` stands for all positions.
        shape: sizes, in that order.
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
        flatten: of a dense layer: what was flattened in front of it, False if nothing was, None
            if nobody said; an int is the number of channels.
        rank: of a PReLU: how many spatial axes it sees; None if nobody said.
        complete: whether everything about the convolution is known, not its weight alone.
        parts: of a Keras layer whose variables are numbered: what they are, in order.
        inputs_first: of a dense layer: whether its matrix is (inputs, outputs), where that is not
            the convention's habit.
        place: of a tensor in an ONNX graph, whose name may say nothing: the path of its layer, and
            the part that it is.
    """

    name: str
    origin: str
    arguments: dict[str, Any] = field(default_factory=dict)
    flatten: Flatten | int | bool | None = None
    rank: int | None = None
    complete: bool = False
    parts: tuple[str, ...] = ()
    inputs_first: bool | None = None
    place: tuple[str, str] = ("", "")


class Rules:
    """Globs and the kinds of the tensors whose names they match.

    An exact name comes before a glob; of several globs the first one counts.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._exact = {key: kind for key, kind in kinds.items() if not set(key) & set("*?[")}
        self._globs = {key: kind for key, kind in kinds.items() if key not in self._exact}
        self._used: set[str] = set()

    def find(self, name: str) -> Kind | None:
        """The kind that the rules have for a tensor, or for the layer called ``name``."""
        if name in self._exact:
            self._used.add(name)
            return self._exact[name]
        for glob, kind in self._globs.items():
            if fnmatch.fnmatchcase(name, glob):
                self._used.add(glob)
                return kind
        return None

    @property
    def unused(self) -> list[str]:
        """What matched nothing: a misspelt name, perhaps."""
        return [key for key in (*self._exact, *self._globs) if key not in self._used]


def read_rules(rules: str | Path | Mapping[str, Any] | None) -> Rules:
    """Rules out of a TOML file or a mapping.

    The file maps globs to kinds, under ``[kinds]`` or on top::

        [kinds]
        "conv*.weight" = "conv"
        "up.weight" = { kind = "conv_transpose", groups = 2 }
        "fc1.weight" = { kind = "dense", flatten = { layout = "CHW", shape = [64, 3, 3] } }
        "fc2.weight" = { kind = "dense", flatten = false }
        "lstm.*" = "copy"

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
    given = rules.get("kinds", rules)
    if not isinstance(given, Mapping):
        raise ConvertError(f"{place}: [kinds] should map globs to kinds, got {shown(given)}.")
    return Rules({str(glob): _kind(f"{place}: {glob!r}", value) for glob, value in given.items()})


def _kind(place: str, value: Any) -> Kind:
    """A kind out of a rule: a word, or a table with ``kind`` and options."""
    options = {"kind": value} if isinstance(value, str) else value
    if not isinstance(options, Mapping) or not isinstance(options.get("kind"), str):
        raise ConvertError(
            f"{place} is {shown(value)}; expected a kind, or a table as in "
            f'{{ kind = "conv", groups = 2 }}.'
        )
    word = options["kind"].lower()
    name = ALIASES.get(word, word)
    if name not in KINDS:
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
    flatten = _flatten(place, options["flatten"]) if "flatten" in options else None
    first = options.get("inputs_first")
    if first is not None and not isinstance(first, bool):
        raise ConvertError(f"{place} has inputs_first {shown(first)}; it is true or false.")
    parts = options.get("parts", ())
    if not isinstance(parts, (list, tuple)) or not set(parts) <= set(PARTS):
        raise ConvertError(f"{place} has parts {shown(parts)}; parts are {', '.join(PARTS)}.")
    complete = name in KERNELS and len(arguments) > (1 if "groups" in arguments else 0)
    return Kind(name, "rules", arguments, flatten, rank, complete, tuple(parts), first)


def _flatten(place: str, value: Any) -> Flatten | int | bool:
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
        f"{place} has flatten {shown(value)}; expected false, a number of channels, or\n"
        f'  {{ layout = "CHW", shape = [64, 3, 3] }}: the axes in the order they are flattened in.'
    )


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


def to_dict(kind: Kind) -> dict[str, Any]:
    """A kind as JSON-ready values."""
    flatten: Any = kind.flatten
    if isinstance(flatten, Flatten):
        flatten = {"layout": flatten.layout, "shape": list(flatten.shape)}
    values = {"kind": kind.name, "flatten": flatten, "rank": kind.rank, "complete": kind.complete}
    return {key: value for key, value in values.items() if value is not None}


def from_dict(place: str, values: Mapping[str, Any]) -> Kind:
    """The kind that :func:`to_dict` wrote.

    Raises:
        ConvertError: it is none.
    """
    name = values.get("kind")
    if name not in KINDS:
        raise ConvertError(f"{place} is {shown(name)}, which is no kind.")
    flatten = _flatten(place, values["flatten"]) if "flatten" in values else None
    rank = values.get("rank")
    rank = rank if type(rank) is int else None
    return Kind(name, "metadata", {}, flatten, rank, values.get("complete") is True)
