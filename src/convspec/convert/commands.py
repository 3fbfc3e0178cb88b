"""``convspec convert`` and ``convspec inspect``: parsers, and what they do with their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..errors import ShapeError
from ..tables import progress
from .arrays import Progress, array


@contextmanager
def bar() -> Iterator[Progress]:
    """A progress callback that draws a bar on a terminal."""
    with ExitStack() as stack:
        steps: list[Any] = []

        def report(done: int, total: int, what: str) -> None:
            if not steps:
                steps.append(stack.enter_context(progress(total)))
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
        epilog="examples:\n  convspec convert array scan.npy out.npy --from NCDHW --to NDHWC\n",
        formatter_class=plain,
    )
    kinds = convert.add_subparsers(dest="kind", metavar="WHAT", title="what", required=True)
    _add_array(kinds, plain)


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
