"""Names of tensors: which layer, which part of it, and what each framework calls that part.

A name is a path of modules and a leaf: ``features.0.weight``, ``features/0/kernel``. Leaves stand
for parts (:data:`PARTS`) that all frameworks have under names of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

#: Parts of a layer: the main array, what is added, running mean and variance, and their counter.
PARTS = ("weight", "bias", "mean", "var", "counter")

#: What a leaf stands for: the part, and the kind of layer that alone has it, if there is one.
LEAVES: dict[str, tuple[str, str]] = {
    "weight": ("weight", ""),
    "kernel": ("weight", "kernel"),
    "depthwise_kernel": ("weight", "depthwise"),
    "gamma": ("weight", "norm"),
    "scale": ("weight", "norm"),
    "alpha": ("weight", "prelu"),
    "negative_slope": ("weight", "prelu"),
    "embeddings": ("weight", "embedding"),
    "embedding": ("weight", "embedding"),
    "bias": ("bias", ""),
    "beta": ("bias", "norm"),
    "running_mean": ("mean", ""),
    "moving_mean": ("mean", ""),
    "mean": ("mean", ""),
    "running_var": ("var", ""),
    "moving_variance": ("var", ""),
    "moving_var": ("var", ""),
    "var": ("var", ""),
    "num_batches_tracked": ("counter", ""),
}

#: Leaves by family of conventions, then by kind of layer and part. ``*`` is any other kind.
_TORCH = {"*": {"weight": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}}
_KERAS = {
    "*": {"weight": "kernel", "bias": "bias", "mean": "moving_mean", "var": "moving_variance"},
    "norm": {"weight": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"},
    "prelu": {"weight": "alpha"},
    "embedding": {"weight": "embeddings"},
}
_FLAX = {
    "*": {"weight": "kernel", "bias": "bias", "mean": "mean", "var": "var"},
    "norm": {"weight": "scale", "bias": "bias", "mean": "mean", "var": "var"},
    "prelu": {"weight": "negative_slope"},
    "embedding": {"weight": "embedding"},
}
_MXNET = {
    "*": _TORCH["*"],
    "norm": {"weight": "gamma", "bias": "beta", "mean": "running_mean", "var": "running_var"},
    "prelu": {"weight": "alpha"},
}
FAMILIES = {
    "torch": _TORCH,
    "onnx": _TORCH,
    "mlx": _TORCH,
    "mxnet": _MXNET,
    "keras": _KERAS,
    "tensorflow": _KERAS,
    "tflite": _KERAS,
    "jax": _FLAX,
    "flax": _FLAX,
    "linen": _FLAX,
    "matconvnet": _TORCH,
}
#: The counter of batches, which torch alone has.
COUNTER = "num_batches_tracked"
#: Leaves that the frameworks have had besides.
OLDER = {COUNTER, "depthwise_kernel", "moving_var"}
DOTTED = ("torch", "onnx", "mlx", "mxnet", "matconvnet")

#: Collections of Flax Linen, which hold the same tree of layers each.
COLLECTIONS = ("params", "batch_stats")

#: Variables of a Keras layer in the order in which its file numbers them, by kind.
KERAS_ORDER = {"norm": ("weight", "bias", "mean", "var"), "*": ("weight", "bias")}
#: Classes of Keras layers as its files name them, and their kinds.
KERAS_CLASSES = {
    **{f"conv{rank}d": "conv" for rank in (1, 2, 3)},
    **{f"conv{rank}d_transpose": "conv_transpose" for rank in (1, 2, 3)},
    **{f"depthwise_conv{rank}d": "depthwise" for rank in (1, 2)},
    "dense": "dense",
    "batch_normalization": "batch_norm",
    "layer_normalization": "layer_norm",
    "group_normalization": "group_norm",
    "rms_normalization": "rms_norm",
    "embedding": "embedding",
    "p_re_lu": "prelu",
}


@dataclass(frozen=True)
class Name:
    """A tensor's name taken apart.

    Attributes:
        full: as it stands in the file.
        path: the modules around it.
        leaf: its own name.
        part: one of :data:`PARTS`, or ``""`` for a leaf that no framework shares.
        hint: the kind of layer that the leaf tells, or ``""``.
        layer: the class of a Keras layer, as its file names it, or ``""``.
    """

    full: str
    path: tuple[str, ...]
    leaf: str
    part: str
    hint: str
    layer: str = ""


@dataclass
class Module:
    """The tensors of one layer.

    Attributes:
        path: its name, by components.
        parts: the tensors that are a part of :data:`PARTS`, by part.
        others: the rest.
        layer: the class of a Keras layer, as its file names it, or ``""``.
    """

    path: tuple[str, ...]
    parts: dict[str, Name] = field(default_factory=dict)
    others: list[Name] = field(default_factory=list)
    layer: str = ""

    @property
    def named_by_class(self) -> bool:
        """Whether a Keras file calls the layer after its class and number, as in ``conv2d_3``."""
        group = self.main.full.split("/")[-3:][0]
        stem, _, number = group.rpartition("_")
        return self.layer in (group, stem if number.isdecimal() else group)

    @property
    def main(self) -> Name:
        """The tensor that stands for the layer: its weight, or else its first."""
        return self.parts.get("weight") or next(iter([*self.parts.values(), *self.others]))


def split(full: str, convention: str) -> tuple[tuple[str, ...], str]:
    """Path and leaf of a name with dots or slashes."""
    text = full.removesuffix(":0")  # TensorFlow 1
    words = text.split("/") if "/" in text else text.split(".")
    if FAMILIES[convention] is _FLAX and words[0] in COLLECTIONS and len(words) > 1:
        words = words[1:]
    if len(words) > 1 and words[-1] == "value":  # a variable of Flax NNX
        words = words[:-1]
    return tuple(words[:-1]), words[-1]


def parse(full: str, convention: str) -> Name:
    """A name taken apart; only the convention's own leaves stand for a part."""
    path, leaf = split(full, convention)
    own = {word for row in FAMILIES[convention].values() for word in row.values()}
    part, hint = LEAVES[leaf] if leaf in own | OLDER and leaf in LEAVES else ("", "")
    return Name(full, path, leaf, part, hint)


def parse_keras(full: str, layer: str, class_: str) -> Name:
    """A variable of a Keras layer, whose number is its leaf."""
    path = tuple(layer.replace("/", ".").split("."))
    return Name(full, path, full.rpartition("/")[2], "", "", class_)


def modules(names: Iterable[Name]) -> list[Module]:
    """Tensors gathered by layer, in the order of the first of each."""
    found: dict[tuple[str, ...], Module] = {}
    for name in names:
        module = found.setdefault(name.path, Module(name.path))
        module.layer = module.layer or name.layer
        if name.part and name.part not in module.parts:
            module.parts[name.part] = name
        else:
            module.others.append(name)
    return list(found.values())


def number(module: Module, told: str = "", parts: tuple[str, ...] = ()) -> None:
    """Give the numbered variables of a Keras layer their parts, where the numbers tell.

    Args:
        module: the layer; those that are left open stay among its ``others``.
        told: the kind of the layer, where somebody said so.
        parts: what the variables are, where somebody said so.
    """
    kind = told if told not in ("", "copy", "skip") else KERAS_CLASSES.get(module.layer)
    numbered = sorted(
        (name for name in module.others if name.leaf.isdecimal()), key=lambda name: int(name.leaf)
    )
    if not numbered or (kind is None and not parts):
        return
    order = KERAS_ORDER["norm" if kind == "batch_norm" else "*"]
    if parts:
        order = parts
    elif kind == "batch_norm" and len(numbered) == 2:  # neither scale nor center
        order = ("mean", "var")
    elif kind == "batch_norm" and len(numbered) == 3:
        return  # scale or center is missing: the file does not say which
    elif kind is not None and kind.endswith("norm") and kind != "rms_norm" and len(numbered) == 1:
        return
    for name, part in zip(numbered, order, strict=False):
        module.parts[part] = name
        module.others.remove(name)


def keras_class(kind: str, rank: int) -> str:
    """The class of Keras layer of a kind; ``""`` if there is none."""
    if kind in ("conv", "conv_transpose", "depthwise"):
        class_ = {"conv": "conv{}d", "conv_transpose": "conv{}d_transpose"}.get(
            kind, "depthwise_conv{}d"
        )
        return class_.format(rank)
    others = {known: class_ for class_, known in KERAS_CLASSES.items()}
    others |= {"norm": "layer_normalization", "instance_norm": "group_normalization"}
    return others.get(kind, "")


def family_kind(kind: str) -> str:
    """The row of a family's table that a kind of layer has."""
    return "norm" if kind.endswith("norm") else kind


def leaf_for(convention: str, kind: str, part: str) -> str:
    """What a convention calls a part of a layer; ``""`` if it has no such thing."""
    family = FAMILIES[convention]
    if part == "counter":
        return COUNTER if family is _TORCH else ""
    row = family.get(family_kind(kind), family["*"])
    return row.get(part, family["*"].get(part, ""))


def joined(convention: str, path: tuple[str, ...], leaf: str) -> str:
    """A full name, with the convention's separator."""
    if convention == "linen":
        path = (COLLECTIONS[leaf in ("mean", "var")], *path)
    return ("." if convention in DOTTED else "/").join((*path, leaf))


def same_names(a: str, b: str) -> bool:
    """Whether two conventions have the same names for everything."""
    return FAMILIES[a] is FAMILIES[b] and (a == "linen") == (b == "linen")
