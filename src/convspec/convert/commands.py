"""``convspec convert`` and ``convspec inspect``: parsers, and what they do with their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..errors import ShapeError
from ..tables import Column, Row, progress, show
from .arrays import Progress, array
from .checkpoints import Report, checkpoint, inspect
from .kinds import KERNELS
from .orders import KNOWN, Order
from .verify import Check
from .weights import weight
from .whole_models import ModelCheck


@contextmanager
def bar(*, remaining: bool = False) -> Iterator[Progress]:
    """A progress callback that draws a bar on a terminal; see :func:`~convspec.tables.progress`."""
    with ExitStack() as stack:
        steps: list[Any] = []

        def report(done: int, total: int, what: str) -> None:
            if not steps:
                steps.append(stack.enter_context(progress(total, remaining=remaining)))
                steps[0](what)  # the bar starts below nothing done
            steps[0](what)

        yield report


def _array(parsed: argparse.Namespace) -> int:
    with bar() as report:
        done = array(
            parsed.input,
            parsed.output,
            parsed.source,
            parsed.target,
            name=parsed.name,
            sizes=_sizes(parsed.size) or None,
            force=parsed.force,
            in_place=parsed.in_place,
            verify=parsed.verify,
            format=parsed.format,
            progress=report,
        )
    print(f"{parsed.output}: {done.dtype} {done.source_shape} -> {done.shape}")
    for letter, (before, after) in done.padding.items():
        print(f"  {letter}: {before} padded with zeros to {after}")
    if done.verified:
        print("  read back: every element is the same")
    return 0


def _weight(parsed: argparse.Namespace) -> int:
    done = weight(
        parsed.input,
        parsed.output,
        Order(parsed.source, parsed.from_flipped or None, parsed.from_group_axis),
        Order(parsed.target, parsed.to_flipped or None, parsed.to_group_axis),
        kind=parsed.kind_of,
        groups=parsed.groups,
        name=parsed.name,
        force=parsed.force,
        in_place=parsed.in_place,
        verify=parsed.verify,
        format=parsed.format,
    )
    before, after = done.source, done.target
    print(
        f"{parsed.output}: {done.dtype} {before.weight_layout} {before.weight_shape} -> "
        f"{after.weight_layout} {after.weight_shape}"
    )
    if done.verified:
        print("  read back and converted back: every element is the same")
    return 0


def _checkpoint(parsed: argparse.Namespace) -> int:
    with bar() as report:
        done = checkpoint(
            parsed.input,
            parsed.output,
            parsed.source,
            parsed.target,
            rules=parsed.rules,
            model=parsed.model,
            like=parsed.like,
            dtype=parsed.dtype,
            dry_run=parsed.dry_run,
            verify=parsed.verify,
            input_shape=_input_shape(parsed.input_shape),
            force=parsed.force,
            in_place=parsed.in_place,
            format=parsed.format,
            ignore_stamp=parsed.ignore_stamp,
            progress=report,
        )
    if parsed.dry_run:
        _show_plan(done)
        done.plan.check()
        return 0
    left = len(done.plan.actions) - len(done.plan.written)
    rest = f", {left} left out" if left else ""
    print(f"{parsed.output}: {len(done.plan.written)} tensors{rest}")
    for action in done.plan.actions:
        if action.note:
            print(f"  {action.name}: left out: {action.note}")
    for name, why in done.plan.skipped.items():
        print(f"  {name}: left out: {why}")
    for note in done.plan.notes:
        print(f"  note: {note}")
    for rule in done.plan.unused:
        print(f"  the rule {rule!r} matched nothing")
    if done.checks:
        _show_checks(done)
    return 0


def _show_plan(done: Report) -> None:
    wrap = {"wrap": True}
    columns = [
        Column("name", **wrap),
        Column("kind"),
        Column("known from"),
        Column("source shape"),
        Column("target name", **wrap),
        Column("target shape"),
        Column("action", **wrap),
    ]
    rows = [
        Row(
            (
                action.name,
                action.kind.name,
                action.kind.origin,
                str(action.source_shape),
                action.target,
                str(action.target_shape) if action.target else "",
                str(action),
            ),
            "dim" if action.note else "",
        )
        for action in done.plan.actions
    ]
    rows += [
        Row((item.name, "?", "", str(item.shape), "", "", item.reason), "bad")
        for item in done.plan.unclear
    ]
    show(columns, rows)


def _show_checks(done: Report) -> None:
    ran = [check for check in done.checks if check.engines]
    print(f"  {len(done.checks)} tensors read back: each leads back to the source bit for bit")
    if ran:
        _show_convolutions(ran)
    if done.model is not None:
        _show_model(done.model)


def _show_convolutions(ran: list[Check]) -> None:
    print(f"  {len(ran)} convolutions run on random input, within the error bound:")
    columns = [
        Column("convolution"),
        Column("source on"),
        Column("target on"),
        Column("error / bound", number=True),
        Column(""),
    ]
    rows = [Row((check.name, *check.engines, f"{check.error:.3f}", check.note)) for check in ran]
    show(columns, rows)


def _show_model(done: ModelCheck) -> None:
    if done.reason:
        print(f"  whole models not run: {done.reason}.")
        print("  So what the tensors mean together is not proven: kinds, and orders of features.")
        return
    shapes = ", ".join(map(str, done.shapes))
    print(
        f"  whole models run on {' and '.join(done.engines)} with random input {shapes}: they "
        f"differ by {done.error:.3f} of the error bound"
    )
    for name in done.unseen:
        print(f"    not proven, no output shows its order: {name}")


def _input_shape(text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = text.replace("x", ",").split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ShapeError(f"--input-shape: expected numbers, as in 1,3,32,32, got {text!r}.")
    return [int(word) for word in words]


def _inspect(parsed: argparse.Namespace) -> int:
    found = inspect(parsed.file)
    total = sum(entry.nbytes for entry in found.entries.values())
    text = f"{parsed.file}: {found.format}, {len(found.entries)} tensors, {total} bytes"
    print(text + (f", in {found.convention}'s convention" if found.convention else ""))
    told = found.kinds | found.layouts
    columns = [Column("name"), Column("shape"), Column("dtype"), Column("bytes", number=True)]
    if told:
        columns.append(Column("kind"))
    rows = []
    for name, entry in found.entries.items():
        cells = (name, str(entry.shape), entry.dtype.name, str(entry.nbytes))
        rows.append(Row((*cells, told.get(name, "")) if told else cells))
    if rows:
        show(columns, rows)
    for name, why in found.skipped.items():
        print(f"  {name}: {why}")
    return 0


def _sizes(words: list[str]) -> dict[str, int]:
    sizes = {}
    for word in words:
        letter, _, number = word.partition("=")
        if not number.isdecimal():
            raise ShapeError(f"--size: expected a letter and a number, as in C=30, got {word!r}.")
        sizes[letter] = int(number)
    return sizes


def add(commands: Any, plain: Any) -> None:
    """The parsers of ``convspec convert``."""
    convert = commands.add_parser(
        "convert",
        help="move arrays, weights and checkpoints from one order to another",
        description="Move arrays, weights and whole checkpoints between files and frameworks.",
        epilog="examples:\n"
        "  convspec convert array scan.npy out.npy --from NCDHW --to NDHWC\n"
        "  convspec convert weight w.npy out.npy --from torch --to keras\n"
        "  convspec convert checkpoint pnet.pt pnet.weights.h5 --from torch --to keras --verify",
        formatter_class=plain,
    )
    kinds = convert.add_subparsers(dest="kind", metavar="WHAT", title="what", required=True)
    _add_array(kinds, plain)
    _add_weight(kinds, plain)
    _add_checkpoint(kinds, plain)
    _add_inspect(commands, plain)


def _common(command: Any) -> None:
    command.add_argument("input", metavar="IN", help="file or folder to read")
    command.add_argument("output", metavar="OUT", help="file or folder to write")
    command.add_argument("--force", action="store_true", help="overwrite OUT")
    command.add_argument("--in-place", action="store_true", help="OUT may be IN")
    command.add_argument("--verify", action="store_true", help="read OUT back and compare")
    command.add_argument("--format", metavar="NAME", help="format of OUT (what its name says)")


def _add_array(kinds: Any, plain: Any) -> None:
    command = kinds.add_parser(
        "array",
        help="an array's axes in another order",
        description="Write an array with its axes in another order. Files may be larger than\n"
        "memory; the formats are .npy, .npz, .safetensors, .h5, .zarr, .nii and .nii.gz.",
        epilog="examples:\n"
        "  convspec convert array scan.npy out.npy --from NCDHW --to NDHWC\n"
        "  convspec convert array x.npy blocked.npy --from NCHW --to NCHW16c\n"
        "  convspec convert array blocked.npy x.npy --from NCHW16c --to NCHW --size C=30\n\n"
        "A number and a small letter is a block of that axis, as in NCHW16c or OIHW16i16o; what\n"
        "does not divide is padded with zeros, and --size tells the size without them.",
        formatter_class=plain,
    )
    _common(command)
    command.add_argument("--from", dest="source", metavar="LETTERS", help="axes of the array in IN")
    command.add_argument("--to", dest="target", metavar="LETTERS", help="axes of the array in OUT")
    command.add_argument("--name", help="which array, where IN holds several")
    command.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="C=30",
        help="size of a blocked axis without its padding; may be given again",
    )
    command.set_defaults(run=_array)


def _add_weight(kinds: Any, plain: Any) -> None:
    command = kinds.add_parser(
        "weight",
        help="a kernel in another convention's order",
        description="Write a kernel in another convention's order.",
        epilog="examples:\n"
        "  convspec convert weight w.npy out.npy --from torch --to keras\n"
        "  convspec convert weight w.npy out.npy --from OIHW --to HWIO --to-flipped\n"
        "  convspec convert weight w.npy out.npy --from keras --to tflite --kind depthwise\n\n"
        f"ORDER is one of {', '.join(KNOWN)},\n"
        "or letters such as OIHW, HWIM (M is a depthwise multiplier), 1HWO.",
        formatter_class=plain,
    )
    _common(command)
    for name, where in (("from", "IN"), ("to", "OUT")):
        dest = "source" if name == "from" else "target"
        command.add_argument(
            f"--{name}", dest=dest, required=True, metavar="ORDER", help=f"order in {where}"
        )
        command.add_argument(
            f"--{name}-flipped", action="store_true", help=f"the kernel is reversed in {where}"
        )
        command.add_argument(
            f"--{name}-group-axis", choices=("O", "I"), help=f"axis of all groups in {where}"
        )
    command.add_argument(
        "--kind", dest="kind_of", choices=KERNELS, default="conv", help="what it is (conv)"
    )
    command.add_argument("--groups", type=int, metavar="COUNT", help="groups (1)")
    command.add_argument("--name", help="which array, where IN holds several")
    command.set_defaults(run=_weight)


def _add_checkpoint(kinds: Any, plain: Any) -> None:
    command = kinds.add_parser(
        "checkpoint",
        help="a whole model's tensors in another framework's orders, names and file",
        description="Write all tensors of a model in another framework's orders, names and file\n"
        "format. What each one is comes from the rules, from metadata in IN, from a model, or\n"
        "from names and shapes where they leave no choice; otherwise nothing is written.",
        epilog="examples:\n"
        "  convspec convert checkpoint pnet.pt pnet.weights.h5 --from torch --to keras\n"
        "  convspec convert checkpoint rnet.pt rnet.msgpack --to flax --rules rnet.toml --verify\n"
        "  convspec convert checkpoint model.safetensors m.npz --from torch --to jax --dry-run\n\n"
        "A rules file maps names or globs to kinds:\n"
        "  [kinds]\n"
        '  "conv*.weight" = "conv"\n'
        '  "fc1.weight" = { kind = "dense", flatten = 64 }  # channels in front of the flatten\n'
        '  "lstm.*" = "copy"\n\n'
        f"CONVENTION is one of {', '.join(KNOWN)}.",
        formatter_class=plain,
    )
    _common(command)
    for name, dest, where in (("from", "source", "IN"), ("to", "target", "OUT")):
        command.add_argument(
            f"--{name}",
            dest=dest,
            metavar="CONVENTION",
            help=f"convention of {where} (as it says, or its format has)",
        )
    command.add_argument("--rules", metavar="FILE", help="TOML file that says what tensors are")
    command.add_argument(
        "--model", metavar="FILE", help=".onnx or .keras file that says what layers are"
    )
    command.add_argument("--like", metavar="FILE", help="a file whose names OUT gets")
    command.add_argument(
        "--input-shape",
        metavar="N,C,H,W",
        help="input that --verify makes for whole models, as in IN (what they tell)",
    )
    command.add_argument("--dtype", metavar="NAME", help="widen floating-point tensors")
    command.add_argument("--dry-run", action="store_true", help="print the plan; write nothing")
    command.add_argument(
        "--ignore-stamp", action="store_true", help="pass over metadata of this program in IN"
    )
    command.set_defaults(run=_checkpoint)


def _add_inspect(commands: Any, plain: Any) -> None:
    command = commands.add_parser(
        "inspect",
        help="list what a file of arrays or weights holds",
        description="List the tensors of a file: names, shapes, types, and what its metadata says.",
        epilog="example:\n  convspec inspect model.safetensors",
        formatter_class=plain,
    )
    command.add_argument("file", metavar="FILE", help="file or folder of any format of convert")
    command.set_defaults(run=_inspect)
