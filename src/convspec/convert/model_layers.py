"""Layers of live models: their classes, and their kinds with what a model's graph adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import ConvSpecError
from ..spec import ConvSpec
from .flow import Flow
from .kinds import KERNELS, NORMS, Kind

HERE = "model"

#: Classes of layers of all frameworks, and their kinds. Names, not types: nothing is imported.
CLASSES = {
    **{f"Conv{rank}d": "conv" for rank in (1, 2, 3)},
    **{f"ConvTranspose{rank}d": "conv_transpose" for rank in (1, 2, 3)},
    **{f"Conv{rank}D": "conv" for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": "conv_transpose" for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": "depthwise" for rank in (1, 2)},
    "Conv": "conv",
    "ConvTranspose": "conv_transpose",
    **dict.fromkeys(("Linear", "Dense"), "dense"),
    **{f"BatchNorm{rank}d": "batch_norm" for rank in (1, 2, 3)},
    **dict.fromkeys(("BatchNorm", "BatchNormalization", "SyncBatchNorm"), "batch_norm"),
    **dict.fromkeys(("LayerNorm", "LayerNormalization"), "layer_norm"),
    **dict.fromkeys(("GroupNorm", "GroupNormalization"), "group_norm"),
    **{f"InstanceNorm{rank}d": "instance_norm" for rank in (1, 2, 3)},
    **dict.fromkeys(("RMSNorm", "RMSNormalization"), "rms_norm"),
    "InstanceNorm": "instance_norm",
    "PReLU": "prelu",
    **dict.fromkeys(("Embedding", "Embed"), "embedding"),
}


def class_of(layer: Any) -> str:
    """The first class of a layer, or of its bases, that is known."""
    names = [base.__name__ for base in type(layer).__mro__]
    return next((name for name in names if name in CLASSES), names[0])


def live(layer: Any, class_: str) -> tuple[Kind, ConvSpec | None]:
    """Kind and spec of a live layer."""
    name = CLASSES[class_]
    if name not in KERNELS:
        return Kind(name, HERE), None
    try:
        spec = ConvSpec.from_native(layer)
    except ConvSpecError:  # known by its class alone
        return Kind(name, HERE), None
    if not isinstance(spec, ConvSpec):
        return Kind(name, HERE), None
    return Kind(name, HERE, complete=True), spec


def with_told(
    found: Mapping[str, tuple[Kind, ConvSpec | None]], flow: Flow
) -> dict[str, tuple[Kind, ConvSpec | None]]:
    """Kinds with what a walk through the graph has told of their features."""
    result = dict(found)
    for path, told in flow.told.items():
        if path not in result:
            continue
        kind, spec = result[path]
        if kind.name == "dense":
            kind = replace(kind, flatten=told.flatten, unflatten=told.unflatten)
        elif kind.name in (*NORMS, "prelu"):
            rank = told.rank if kind.name == "prelu" else None
            kind = replace(kind, flatten=told.flatten, axes=told.axes, rank=rank)
        result[path] = kind, spec
    return result
