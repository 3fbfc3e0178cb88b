"""Names after those of another file, as of a model that the result is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .errors import ConvertError
from .files import Reader, open_file
from .kinds import Flatten
from .layers import channels_last
from .models import kinds
from .names import FAMILIES, split
from .plan import Action, Plan
from .planner import after


def fitted(plan: Plan, like: Path, label: str = "") -> Plan:
    """The plan with the names of another file, which it has to fill with the same shapes.

    Layers of a Keras file are found by their name, or, where it has no such name, by their class
    and number; tensors of other files by theirs.

    Args:
        plan: what is to be done.
        like: the other file.
        label: what it is called in messages; default: its path.

    Raises:
        ConvertError: a tensor is left over on either side, or has another shape.
    """
    label = label or str(like)
    with open_file(like) as reader:
        layers = _layers(reader)
        names = {name: layer for name, (layer, _) in reader.layers.items()}
        wrapped = {
            "/".join((*split(n, "linen")[0], split(n, "linen")[1])): n for n in reader.entries
        }
        actions = [_renamed(action, layers) for action in plan.actions]
        if FAMILIES[plan.target] is FAMILIES["linen"]:
            actions = [replace(a, target=wrapped.get(a.target, a.target)) for a in actions]
        placed = {a.layer for a in plan.actions if set(_keys(a)) & set(layers)}
        actions = [replace(a, layer=names.get(a.target, a.layer)) for a in actions]
        given = {action.target: action for action in actions if action.target}
        if len(given) != sum(bool(action.target) for action in actions):
            raise ConvertError(f"{label}: two tensors would go to the same place there.")
        missing = [name for name in reader.entries if name not in given]
        extra = [name for name in given if name not in reader.entries]
        if missing or extra:
            raise ConvertError(
                f"{label}: is not filled: no tensor goes to {missing[:5]}, and there is no place "
                f"for {extra[:5]}.\n  Say in a rules file what layers are called there, as in:\n"
                f'  [names]\n  "conv2d_1" = "features.3"'
            )
        for name, action in given.items():
            expected = reader.entries[name].shape
            if action.target_shape != expected:
                raise ConvertError(
                    f"{label}: {name!r} has shape {expected}, but {action.name!r} becomes "
                    f"{action.target_shape}."
                )
    left = [layer for layer in plan.unnumbered if layer not in placed]
    return replace(plan, actions=actions, unnumbered=left)


def check_orders(plan: Plan, model: Any) -> None:
    """The model that the result is for has its features in the order that they get.

    Where it says nothing of a layer, nothing is checked.

    Raises:
        ConvertError: it flattens, or reshapes, in another order, as a Keras model does whose
            ``data_format`` is channels first.
    """
    try:
        told = kinds(model, plan.target)
    except ConvertError:  # a file of tensors alone, or a model without a graph
        return
    moved = channels_last(plan.source) != channels_last(plan.target)
    for action in plan.written:
        if action.part != "weight" or action.layer not in told:
            continue
        here, there = after(action.kind, plan.target, moved), told[action.layer][0]
        spec, order = action.spec, there.order
        if spec is not None and order is not None and order.name != spec.weight_layout:
            raise ConvertError(
                f"like: its layer {action.layer!r} keeps its kernel as {order.name}, as Flax does "
                f"with transpose_kernel=True, but it would be written as {spec.weight_layout}."
            )
        for option in ("flatten", "unflatten"):
            ours, theirs = getattr(here, option), getattr(there, option)
            if _contradict(ours, theirs):
                raise ConvertError(
                    f"like: its layer {action.layer!r} has {option} = {_words(theirs)}, but "
                    f"{action.name!r} would get {_words(ours)}.\n  Say in the rules what the "
                    f"source has there, or use a model in {plan.target}'s usual order of axes."
                )


def _contradict(ours: Any, theirs: Any) -> bool:
    """Whether two orders of the same features cannot both be right."""
    if isinstance(ours, Flatten) and isinstance(theirs, Flatten):
        words = (ours.layout, theirs.layout)
        if any("X" in word for word in words):  # only the channels' place is known
            return len({(word[0] == "C", word[-1] == "C") for word in words}) > 1
        return words[0] != words[1] or ours.shape != theirs.shape
    orders = (ours, theirs)
    told = next((order for order in orders if isinstance(order, Flatten)), None)
    several = told is not None and sum(n != 1 for n in told.shape) > 1
    return several and any(order is False for order in orders)


def _words(order: Any) -> str:
    return f"{order.layout} {order.shape}" if isinstance(order, Flatten) else "false"


def _layers(reader: Reader) -> dict[str, str]:
    """Groups of a Keras file by the names of their layers, and by their own."""
    found: dict[str, str] = {}
    for name, (layer, _) in reader.layers.items():
        group = name.rpartition("/vars/")[0]
        plain = "/".join(word for word in group.split("/") if word != "layers")
        found.setdefault(layer.replace("/", "."), group)
        found.setdefault(plain.replace("/", "."), group)
    return found


def _renamed(action: Action, layers: Mapping[str, str]) -> Action:
    _, found, index = action.target.rpartition("/vars/")
    for name in _keys(action):
        if found and name in layers:
            return replace(action, target=f"{layers[name]}/vars/{index}")
    return action


def _keys(action: Action) -> tuple[str, str]:
    """What a Keras layer of the same name may be called."""
    return action.layer, action.layer.replace(".", "_")
