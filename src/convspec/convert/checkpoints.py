"""Whole checkpoints: read, planned, written and proved."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..arguments import shown
from ..copies import contiguous
from ..errors import ConvSpecError
from ..spec import ConvSpec
from . import models, stamp, watch
from .arrays import Progress
from .errors import ConvertError
from .files import CHECKPOINTS, Entry, Reader, chosen_format, create, open_file
from .files.protocol import blocks
from .kinds import Flatten, Kind, from_dict, read_rules, to_dict
from .layers import Known, channels_last
from .orders import KNOWN
from .output import check_target, whole
from .plan import Plan
from .planner import KERAS_FILES, after, make
from .runners import NotRunError, runner_of
from .steps import applied
from .templates import check_orders, fitted
from .verify import Check, verify_checkpoint
from .whole_models import ModelCheck, check_model

#: Conventions that go with a format.
HABITS = {
    "torch": "torch",
    "keras": "keras",
    "keras-weights": "keras",
    "msgpack": "flax",
    "orbax": "flax",
    "tensorflow": "tensorflow",
    "onnx": "onnx",
    "onnx-external": "onnx",
}
#: Bytes written at once.
BLOCK = 2**25


@dataclass(frozen=True)
class Report:
    """What a conversion did, or would do.

    Attributes:
        plan: one action for each tensor.
        out: the file.
        written: whether it was written, or only planned.
        checks: one for each tensor, if the result was verified.
        model: what running the whole models has shown, if the result was verified.
    """

    plan: Plan
    out: Path
    written: bool
    checks: list[Check] = field(default_factory=list)
    model: ModelCheck | None = None


def checkpoint(
    path: str | Path,
    out: str | Path,
    source: str | None = None,
    target: str | None = None,
    *,
    rules: str | Path | Mapping[str, Any] | None = None,
    model: Any = None,
    like: Any = None,
    dtype: str | None = None,
    dry_run: bool = False,
    verify: bool = False,
    input_shape: Sequence[int] | None = None,
    force: bool = False,
    in_place: bool = False,
    format: str | None = None,
    ignore_stamp: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Convert all tensors of a file to another framework's orders, names and file format.

    What each tensor is comes from the rules, else from metadata that this library left in the
    file, else from ``model``, else from names and shapes where they leave no choice. If anything
    is open, nothing is written.

    Args:
        path: file or folder to read.
        out: file or folder to write; appears whole or not at all.
        source: convention of the tensors in ``path``; default: as the file says or its format has.
        target: convention of those in ``out``; default: as its format has.
        rules: a TOML file, or a mapping, from globs to kinds: see :func:`kinds.read_rules`.
        model: a live torch, Keras or Flax NNX model, an ONNX model, or the path of an ``.onnx`` or
            ``.keras`` file, that says what its layers are; default: ``path``, if it is such a file.
            A framework with another order of axes tells no order of flattened features.
        like: a file of the target's format, or a live torch, Keras or Flax NNX model, whose names
            the result gets; a ``.keras`` file has the model that its weights go into, and is needed
            to write one.
        dtype: type of all floating-point tensors in ``out``, as wide as theirs or wider.
        dry_run: only plan; what is open is told in the plan.
        verify: read ``out`` back, compare every tensor bit for bit, and run every convolution on
            random input in both frameworks against the error bound; where ``model`` and ``like``
            can be run (live, ``.onnx``, ``.keras``), run the whole models likewise: see
            :mod:`convspec.convert.whole_models`.
        input_shape: of the input that ``verify`` makes, with the batch, in the source's order of
            axes; default: what the models tell.
        force: overwrite ``out``.
        in_place: allow ``out`` to be ``path``.
        format: format of ``out``; default: what its name says.
        ignore_stamp: pass over the metadata that this library left.
        progress: called after each tensor with (tensors done, all tensors, name).

    Raises:
        ConvertError: a file cannot be read or written, a tensor's kind is open, names collide, a
            type does not fit, or the result is wrong (``verify``).
    """
    path, out = Path(path), Path(out)
    format = chosen_format(out, format)
    if format not in CHECKPOINTS:
        raise ConvertError(f"{out}: {format} files hold no checkpoints; write .safetensors.")
    if not dry_run:
        check_target(out, (path,), force=force, in_place=in_place)
    before = watch.state(path)
    with open_file(path) as reader:
        told = {} if ignore_stamp else stamp.from_text(path, reader.stamp)
        source = _convention("source", source or told.get("convention"), reader.format, path)
        target = _convention("target", target, format, out)
        if model is None and reader.format in ("keras", "onnx", "onnx-external"):
            model = reader.path  # such a file says itself what its layers are
        known = Known(read_rules(rules), _stamped(path, told, target), models.kinds(model, source))
        entries = _ordered(reader, told)
        plan = make(
            entries,
            reader.layers,
            source,
            target,
            known,
            source_format=reader.format if entries is reader.entries else "",
            target_format=format,
            dtype=dtype,
            originals=_originals(told, target, format),
        )
        plan.skipped = dict(reader.skipped)
        options: dict[str, Any] = {}
        if like is not None and not plan.unclear:  # what is open would be missing there
            plan = _like(plan, like)
            check_orders(plan, like)
            if format in ("keras", "onnx", "onnx-external") and isinstance(like, (str, Path)):
                options["model"] = Path(like)
        if dry_run:
            return Report(plan, out, False)
        plan.check()
        if format in KERAS_FILES:
            options["layers"] = {action.target: action.layer for action in plan.written}
        if format == "keras" and not isinstance(like, (str, Path)):
            raise ConvertError(
                f"{out}: a .keras file holds a model, and a checkpoint none; pass like= (--like) a "
                f".keras file of the model, or write .weights.h5."
            )
        with whole(out) as temporary:
            _write(reader, plan, temporary, format, stamp_of(plan, format), options, progress)
            checks, ran = [], None
            if verify:
                with open_file(temporary, format) as written:
                    checks = verify_checkpoint(out, plan, reader, written, progress)
                    ran = check_model(out, plan, reader, written, model, like, input_shape)
            watch.check(path, before)
        return Report(plan, out, True, checks, ran)


def _like(plan: Plan, like: Any) -> Plan:
    """The plan with the names of a file or of a live model."""
    if isinstance(like, (str, Path)):
        return fitted(plan, Path(like))
    try:
        with tempfile.TemporaryDirectory(prefix="convspec-") as folder:
            return fitted(plan, runner_of(like).skeleton(Path(folder)), "like")
    except NotRunError as error:
        raise ConvertError(f"like: {error}.") from error


def _ordered(reader: Reader, told: Mapping[str, Any]) -> dict[str, Entry]:
    """The tensors of a file, in the order that its metadata has, if it has all of them."""
    order = list(told.get("tensors", {}))
    if set(order) != set(reader.entries):
        return reader.entries
    return {name: reader.entries[name] for name in order}


def _convention(name: str, given: str | None, format: str, path: Path) -> str:
    given = given or HABITS.get(format)
    if given is None:
        raise ConvertError(
            f"{name}: {path} does not say its convention; pass it (--"
            f"{'from' if name == 'source' else 'to'}), one of {', '.join(KNOWN)}."
        )
    if given not in KNOWN:
        raise ConvertError(f"{name}: {shown(given)} is none of {', '.join(KNOWN)}.")
    return given


def _write(
    reader: Reader,
    plan: Plan,
    path: Path,
    format: str,
    text: str,
    options: dict[str, Any],
    progress: Progress | None,
) -> None:
    """Tensor by tensor, block by block."""
    actions = plan.written
    entries = {action.target: Entry(action.target_shape, action.dtype) for action in actions}
    writer = create(path, format, entries, text, **options)
    try:
        for i, action in enumerate(actions, 1):
            array = applied(action.steps, reader.read(action.name))
            if array.shape != action.target_shape:
                raise ConvertError(
                    f"{action.name}: has shape {array.shape} after {action}, not the planned "
                    f"{action.target_shape}."
                )
            for index in blocks(action.target_shape, action.dtype.itemsize, BLOCK):
                writer.write(action.target, index, contiguous(array[index], action.dtype))
            if progress is not None:
                progress(i, len(actions), action.target)
        writer.finish()
    finally:
        writer.close()


# ---- metadata ----


def stamp_of(plan: Plan, format: str) -> str:
    """What a written checkpoint says of itself."""
    tensors = {}
    moved = channels_last(plan.source) != channels_last(plan.target)
    for action in plan.written:
        kind = action.kind
        values = {**to_dict(after(kind, plan.target, moved)), "original": action.name}
        was = [o.layout if isinstance(o, Flatten) else "" for o in (kind.flatten, kind.unflatten)]
        if any(was):
            values["was"] = was
        if action.spec is not None:
            values["spec"] = action.spec.to_dict()
        tensors[action.target] = values
    return stamp.to_text(
        {
            "convention": plan.target,
            "format": format,
            "converted_from": plan.source,
            "tensors": tensors,
        }
    )


def _stamped(
    path: Path, told: Mapping[str, Any], target: str = ""
) -> dict[str, tuple[Kind, ConvSpec | None]]:
    """Kinds and specs by tensor, out of a stamp.

    Orders that features had before count only on the way back to where they came from.

    Raises:
        ConvertError: it is damaged.
    """
    found: dict[str, tuple[Kind, ConvSpec | None]] = {}
    try:
        for name, values in dict(told.get("tensors", {})).items():
            spec = ConvSpec.from_dict(values["spec"]) if "spec" in values else None
            kind = from_dict(f"{path}: metadata of {name!r}", values)
            if told.get("converted_from") != target:
                kind = replace(kind, was=("", ""))
            found[name] = kind, spec
    except ConvertError:
        raise
    except (ConvSpecError, TypeError, ValueError, AttributeError) as error:
        raise ConvertError(f"{path}: its metadata is damaged: {error}") from error
    return found


def _originals(told: Mapping[str, Any], target: str, format: str) -> dict[str, str]:
    """Names that tensors had before, if they go back to where they came from."""
    if told.get("converted_from") != target or format in KERAS_FILES:
        return {}
    tensors = dict(told.get("tensors", {}))
    names = {name: str(values.get("original", "")) for name, values in tensors.items()}
    numbered = any("/vars/" in name for name in names.values())
    return {} if numbered or "" in names.values() else names


# ---- looking ----


@dataclass(frozen=True)
class Inspected:
    """What a file holds.

    Attributes:
        path: the file.
        format: its format.
        convention: as its metadata says, or ``""``.
        entries: shape and type of each tensor.
        kinds: kind of each tensor, as its metadata says.
        skipped: what else it holds, and why that would be left out.
        layouts: layouts of arrays, as its metadata says.
    """

    path: Path
    format: str
    convention: str
    entries: dict[str, Entry]
    kinds: dict[str, str]
    skipped: dict[str, str]
    layouts: dict[str, str]


def inspect(path: str | Path) -> Inspected:
    """What a file holds: names, shapes and types, and what its metadata says of them.

    Raises:
        ConvertError: it cannot be read.
    """
    path = Path(path)
    with open_file(path) as reader:
        told = stamp.from_text(path, reader.stamp)
        kinds = {name: kind.name for name, (kind, _) in _stamped(path, told).items()}
        arrays = dict(told.get("arrays", {}))
        return Inspected(
            path,
            reader.format,
            str(told.get("convention", "")),
            dict(reader.entries),
            kinds,
            dict(reader.skipped),
            {name: str(values.get("layout", "")) for name, values in arrays.items()},
        )
