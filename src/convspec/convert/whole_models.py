"""Proof by running: the source's model and the target's on the same input, before and after.

The bound is measured: the source's model is run again with every weight and input moved by one
unit in the last place, and the two models may differ by :data:`MARGIN` times what that changes.
Then each tensor is rolled by one element: one to which no output reacts is told, for nothing is
proven of its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ConvertError
from .files import Reader
from .layers import channels_last
from .plan import Plan
from .runners import NotRunError, Runner, Shape, runner_of

Array = np.ndarray[Any, Any]
#: How many times what one unit in the last place of everything changes: kernels add up in another
#: order, in blocks, fused or not; each is off by a few units, and deep models pass that on.
MARGIN = 64
#: Most tensors that are rolled, one run each.
MOST = 500


@dataclass(frozen=True)
class ModelCheck:
    """What running the whole models has shown.

    Attributes:
        engines: frameworks of the source's and of the target's model; empty if they were not run.
        shapes: of the inputs, in the source's order.
        error: largest difference of an output, in units of its bound: at most 1.
        unseen: tensors, by their names in the target, to whose order no output reacts.
        reason: why they were not run.
    """

    engines: tuple[str, ...] = ()
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    error: float = 0.0
    unseen: list[str] = field(default_factory=list)
    reason: str = ""


def check_model(
    out: Path,
    plan: Plan,
    reader: Reader,
    written: Reader,
    source: Any,
    target: Any,
    input_shape: Sequence[int] | None = None,
) -> ModelCheck:
    """Run both models on random input.

    Args:
        out: the file that is checked, for messages.
        plan: what was done.
        reader, written: the files before and after.
        source, target: live models or paths; None where there is none.
        input_shape: of the input, in the source's order of axes, with the batch.

    Raises:
        ConvertError: they differ by more than their bound.
    """
    for model, word in ((source, "model= (--model)"), (target, "like= (--like)")):
        if model is None:
            return ModelCheck(reason=f"there is no model to run; pass {word}")
    runners: list[Runner] = []
    try:
        runners = [runner_of(source), runner_of(target)]
        return _compared(out, plan, reader, written, runners[0], runners[1], input_shape)
    except NotRunError as error:
        return ModelCheck(reason=str(error))
    finally:
        for runner in runners:
            restore = getattr(runner, "restore", None)
            if restore is not None:
                restore()


def _compared(
    out: Path,
    plan: Plan,
    reader: Reader,
    written: Reader,
    source: Runner,
    target: Runner,
    input_shape: Sequence[int] | None,
) -> ModelCheck:
    before = {a.name: np.asarray(reader.read(a.name)) for a in plan.written}
    after = {a.target: np.asarray(written.read(a.target)) for a in plan.written}
    _check_names("model", source, before)
    _check_names("like", target, after)
    pairs = _inputs(plan, source, target, input_shape)
    limit = min((a.source_shape[0] for a in plan.written if a.kind.name == "embedding"), default=2)
    xs, kinds = _drawn(source, pairs, limit, before)
    y = source.run(xs)
    bounds = _bounds(source, before, xs, y)
    target.load(after)
    moved = [
        np.ascontiguousarray(_turned(plan, x) if turn else x).astype(kind)
        for x, (_, turn), kind in zip(xs, pairs, kinds, strict=True)
    ]
    z = target.run(moved)
    error = _worst(plan, y, z, bounds)
    if not error <= 1:
        raise ConvertError(
            f"{out}: the whole model differs: an output of {target.engine}'s is {error:.3g} times "
            f"the error bound away from {source.engine}'s.\n"
            f"  Nothing was written. Look for layers that are set up differently (padding, "
            f"epsilon, order), and for wrong rules."
        )
    source.load(before)
    unseen = [
        action.target
        for action in plan.written[:MOST]
        if not _seen(source, action.name, before[action.name], xs, y, bounds)
    ]
    unseen += [action.target for action in plan.written[MOST:]]
    shapes = [x.shape for x in xs]
    return ModelCheck((source.engine, target.engine), shapes, error, unseen)


def _check_names(word: str, runner: Runner, arrays: Mapping[str, Array]) -> None:
    """All tensors have a place in the model, and no others are needed.

    Raises:
        NotRunError: they have not.
    """
    extra = [name for name in arrays if name not in runner.names]
    missing = [
        name
        for name in runner.names
        if name not in arrays and not name.endswith(("num_batches_tracked", "seed_generator_state"))
    ]
    if extra:
        raise NotRunError(f"{word}'s model has no place for {extra[0]!r}")
    if missing:
        raise NotRunError(f"{word}'s model has {missing[0]!r} as well, which the file has not")


def _inputs(
    plan: Plan, source: Runner, target: Runner, given: Sequence[int] | None
) -> list[tuple[tuple[int, ...], bool]]:
    """Shapes of the inputs in the source's order, and whether the target has them turned."""
    turns = channels_last(plan.source) != channels_last(plan.target)
    if given is not None:
        shapes: list[Shape] = [tuple(given)]
    elif source.inputs is not None:
        shapes = [shape for shape, _ in source.inputs]
    elif target.inputs is not None:
        shapes = [
            _turned_shape(plan, shape, back=True) if turns and len(shape) > 2 else shape
            for shape, _ in target.inputs
        ]
    else:
        raise NotRunError("neither model tells the shape of its input; pass input_shape=")
    found = []
    for i, shape in enumerate(shapes):
        sizes = (shape[0] or 2, *shape[1:])
        if None in sizes:
            raise NotRunError(f"the model's input is {shape}, of any size; pass input_shape=")
        known = tuple(n for n in sizes if n is not None)
        turn = turns and len(known) > 2
        if target.inputs is not None and i < len(target.inputs):
            wanted = target.inputs[i][0]
            if turn and not _fits(_turned_shape(plan, known), wanted) and _fits(known, wanted):
                turn = False
        found.append((known, turn))
    return found


def _fits(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(
        None in (a, b) or a == b for a, b in zip(shape[1:], wanted[1:], strict=True)
    )


def _turned_shape(plan: Plan, shape: Shape, *, back: bool = False) -> Shape:
    if channels_last(plan.target) != back:
        return (shape[0], *shape[2:], shape[1])
    return (shape[0], shape[-1], *shape[1:-1])


def _turned(plan: Plan, x: Array) -> Array:
    return np.moveaxis(x, 1, -1) if channels_last(plan.target) else np.moveaxis(x, -1, 1)


def _drawn(
    source: Runner,
    pairs: Sequence[tuple[tuple[int, ...], bool]],
    limit: int,
    before: Mapping[str, Array],
) -> tuple[list[Array], list[str]]:
    """Random inputs that the source's model takes: real numbers, or whole ones for embeddings."""
    source.load(before)
    rng = np.random.default_rng(0)
    told = [kind for _, kind in source.inputs or []]
    real = [rng.standard_normal(shape).astype(np.float32) for shape, _ in pairs]
    whole = [rng.integers(0, max(limit, 1), shape) for shape, _ in pairs]
    kinds = told or ["float32"] * len(pairs)
    xs: list[Array] = [
        w.astype(kind) if kind.startswith("int") else r
        for r, w, kind in zip(real, whole, kinds, strict=True)
    ]
    try:
        source.run(xs)
    except NotRunError:
        if told:
            raise
        xs = [w.astype(np.int64) for w in whole]
        source.run(xs)
    return xs, [x.dtype.name for x in xs]


def _bounds(
    source: Runner, before: Mapping[str, Array], xs: Sequence[Array], y: Sequence[Array]
) -> list[float]:
    """How far each output may be off; see the head of this file."""
    rng = np.random.default_rng(1)
    unit = float(np.finfo(np.float32).eps)

    def shaken(array: Array) -> Array:
        if array.dtype.kind not in "fV":
            return array
        wide = np.asarray(array, np.float32)
        sign = rng.choice(np.array([-1.0, 1.0], np.float32), size=wide.shape)
        return wide * (1 + unit * sign)

    largest = [unit * float(np.max(np.abs(value), initial=0.0)) for value in y]
    for _ in range(3):
        source.load({name: shaken(array) for name, array in before.items()})
        for i, value in enumerate(source.run([shaken(x) for x in xs])):
            largest[i] = max(largest[i], float(np.max(np.abs(value - y[i]), initial=0.0)))
    source.load(before)
    return [MARGIN * value + float(np.finfo(np.float32).tiny) for value in largest]


def _worst(plan: Plan, y: Sequence[Array], z: Sequence[Array], bounds: Sequence[float]) -> float:
    """The largest difference in units of its bound."""
    if len(y) != len(z):
        raise NotRunError(f"the models have {len(y)} and {len(z)} outputs")
    worst = 0.0
    for before, after, bound in zip(y, z, bounds, strict=True):
        turned = [before]
        if before.ndim > 2 and channels_last(plan.source) != channels_last(plan.target):
            turned.insert(0, _turned(plan, before))
        fitting = [value for value in turned if value.shape == after.shape]
        if not fitting:
            raise NotRunError(f"outputs have shapes {before.shape} and {after.shape}")
        ratios = [float(np.max(np.abs(value - after), initial=0.0)) / bound for value in fitting]
        best = min(ratio if np.isfinite(ratio) else np.inf for ratio in ratios)
        worst = max(worst, best)
    return worst


def _seen(
    source: Runner,
    name: str,
    array: Array,
    xs: Sequence[Array],
    y: Sequence[Array],
    bounds: Sequence[float],
) -> bool:
    """Whether an output would show that a tensor's elements are in another order."""
    rolled = np.roll(array.reshape(-1), 1).reshape(array.shape)
    if np.array_equal(rolled, array):
        return True  # all alike: there is no other order
    source.load({name: rolled})
    try:
        found = source.run(xs)
    except NotRunError:
        return False
    finally:
        source.load({name: array})
    changes = zip(found, y, bounds, strict=True)
    return any(not np.max(np.abs(a - b), initial=0.0) <= bound for a, b, bound in changes)
