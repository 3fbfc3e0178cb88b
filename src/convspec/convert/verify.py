"""Proof of a conversion: every tensor back again, every convolution in both frameworks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import bounds, dispatch, moving
from ..dtypes import FLOAT, HALF
from ..errors import ConvSpecError
from ..spec import ConvSpec
from ..tables import quiet
from .arrays import Progress, same_bits
from .errors import ConvertError
from .files import Reader
from .kinds import KERNELS
from .plan import Action, Plan
from .steps import undone

#: Backends that compute for a convention; for others NumPy does.
ENGINES = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
    "tflite": "tensorflow",
    "jax": "jax",
    "flax": "jax",
}


@dataclass(frozen=True)
class Check:
    """What was found out about one tensor.

    Attributes:
        name: in the target.
        engines: backends that ran the convolution, source's and target's; empty for others.
        error: its largest error, in units of its bound: at most 1.
        note: what the proof leaves out.
    """

    name: str
    engines: tuple[str, ...] = ()
    error: float = 0.0
    note: str = ""


def verify_checkpoint(
    out: Path, plan: Plan, reader: Reader, written: Reader, progress: Progress | None
) -> list[Check]:
    """Read everything back, and run every convolution.

    Raises:
        ConvertError: a tensor is missing, not the same after the way back, or a convolution
            differs by more than its bound.
    """
    checks = []
    actions = plan.written
    biases = {a.layer: a for a in actions if a.part == "bias"}
    if len(written.entries) != len(actions):
        raise ConvertError(
            f"{out}: was written with {len(written.entries)} tensors, not {len(actions)}."
        )
    for i, action in enumerate(actions, 1):
        _same(out, action, reader, written)
        if action.kind.name in KERNELS and action.spec is not None:
            bias = biases.get(action.layer)
            checks.append(_convolution(out, plan, action, bias, reader, written))
        else:
            checks.append(Check(action.target))
        if progress is not None:
            progress(i, len(actions), f"verified {action.target}")
    return checks


def _same(out: Path, action: Action, reader: Reader, written: Reader) -> None:
    if action.target not in written.entries:
        raise ConvertError(f"{out}: {action.target!r} was written, but is not there.")
    back = undone(action.steps, written.read(action.target))
    original = reader.read(action.name)
    if not same_bits(back.astype(original.dtype), original):
        raise ConvertError(
            f"{out}: {action.target!r} was written, but {action.name!r} does not come back of it."
        )


def _convolution(
    out: Path,
    plan: Plan,
    action: Action,
    bias: Action | None,
    reader: Reader,
    written: Reader,
) -> Check:
    before, after = action.source_spec, action.spec
    assert before is not None
    assert after is not None
    dtype = action.dtype.name
    if dtype not in FLOAT + HALF:
        return Check(action.target, note=f"{dtype} is not run")
    # A type that is widened on the way is computed in the wider one on both sides.
    weights = [
        np.asarray(array).astype(action.dtype)
        for array in (reader.read(action.name), written.read(action.target))
    ]
    added = [
        None if bias is None else np.asarray(array).astype(action.dtype)
        for array in (
            (None, None) if bias is None else (reader.read(bias.name), written.read(bias.target))
        )
    ]
    x = _input(before).astype(action.dtype)
    exact = _exact(before, x, weights[0], added[0])
    worst, engines = 0.0, []
    limit = bounds.elementwise(before, x, weights[0], added[0], exact, dtype)
    for spec, convention, weight, extra in (
        (before, plan.source, weights[0], added[0]),
        (after, plan.target, weights[1], added[1]),
    ):
        moved = _moved(x, before.layout, spec.layout)
        engine, y = _run(spec, convention, moved, weight, extra)
        engines.append(engine)
        y = _moved(np.asarray(y, np.float64), spec.output_layout, before.output_layout)
        ratio = float(np.max(np.abs(y - exact) / limit, initial=0.0))
        worst = max(worst, ratio)
        if not ratio <= 1:
            raise ConvertError(
                f"{out}: {action.target!r}: the convolution differs from the exact one by "
                f"{ratio:.3g} times its error bound on {engine}, in {convention}'s orders."
            )
    note = "" if action.kind.complete else "stride 1 and no padding assumed"
    return Check(action.target, tuple(engines), worst, note)


def _input(spec: ConvSpec) -> Any:
    """Random input that is a little larger than the kernel."""
    sizes = {"N": 2, "C": spec.in_channels}
    for letter, e, s in zip(spec.spatial, spec.receptive_field, spec.stride, strict=True):
        sizes[letter] = 3 if spec.transposed else e + 2 * s
    rng = np.random.default_rng(0)
    return rng.standard_normal([sizes[letter] for letter in spec.layout])


def _moved(x: Any, source: str, target: str) -> Any:
    return moving.convert_layout(x, source, target, contiguous=True)


def _exact(spec: ConvSpec, x: Any, weight: Any, bias: Any) -> Any:
    wide = [None if a is None else a.astype(np.float64) for a in (x, weight, bias)]
    return spec.replace(bias=bias is not None)(*wide)


def _run(spec: ConvSpec, convention: str, x: Any, weight: Any, bias: Any) -> tuple[str, Any]:
    """The convolution on the convention's framework, or on NumPy where that is not installed."""
    name = ENGINES.get(convention, "numpy")
    if name not in dispatch.installed():
        name = "numpy"
    spec = spec.replace(bias=bias is not None)
    with quiet():
        engine = dispatch.get_backend(name)
        try:
            y = spec(x, weight, bias, backend=engine)
        except ConvSpecError:
            if name == "numpy":
                raise
            return "numpy", spec(x, weight, bias)
    return name, y
