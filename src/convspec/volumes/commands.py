"""``convspec apply``: its parser, and what it does with its arguments."""

from __future__ import annotations

import argparse
from typing import Any

from ..convert.commands import bar
from .apply import MEMORY, apply
from .sizing import in_words


def _apply(parsed: argparse.Namespace) -> int:
    tile = parsed.tile and [int(n) if n.isdecimal() else n for n in parsed.tile.split(",")]
    with bar(remaining=True) as report:
        done = apply(
            parsed.spec,
            parsed.weights,
            parsed.input,
            parsed.output,
            engine=parsed.engine,
            memory=parsed.memory,
            jobs=parsed.jobs,
            tile=tile[0] if tile and len(tile) == 1 else tile,
            dtype=parsed.dtype,
            source_layout=parsed.source,
            target_layout=parsed.target,
            name=parsed.name,
            fill=parsed.fill,
            force=parsed.force,
            restart=parsed.restart,
            format=parsed.format,
            progress=report,
        )
    print(f"{parsed.output}: {done.dtype} {done.layout} {done.shape}, by {done.engine}")
    resumed = f", {done.resumed} of them by an earlier run" if done.resumed else ""
    print(f"  {done.tiles} tiles of {done.tile}{resumed}")
    print(f"  {in_words(done.read)} read, at most {in_words(done.memory)} in a worker's memory")
    return 0


def add(commands: Any, plain: Any) -> None:
    """The parser of ``convspec apply``."""
    command = commands.add_parser(
        "apply",
        help="run convolutions over a volume on disk that does not fit into memory",
        description="Run a convolution, or a chain of them with activations in between, over a\n"
        "volume on disk, tile by tile in one pass, in as much memory as you say. A run that was\n"
        "stopped goes on where it was when the same command is given again, and gives the same\n"
        "result bit for bit.",
        epilog="examples:\n"
        "  convspec apply --spec spec.json --weights w.safetensors volume.zarr out.zarr\n"
        "  convspec apply --spec net.json --weights net.pt --engine torch --memory 4GB \\\n"
        "      --jobs 2 scan.nii segmented.nii\n\n"
        "spec.json holds one spec, as ConvSpec.to_dict() gives it, whose arrays are called weight\n"
        "and bias; or a list of layers:\n"
        '  [{"spec": {...}, "weight": "c1.weight", "bias": "c1.bias", "activation": "relu"},\n'
        '   {"spec": {...}, "weight": "c2.weight",\n'
        '    "activation": {"name": "leaky_relu", "slope": 0.1}}]\n\n'
        "Unfinished output is kept in OUT.part, and what is done of it in OUT.part.journal.",
        formatter_class=plain,
    )
    command.add_argument("input", metavar="VOLUME", help=".npy, .zarr, .nii, .h5 or .safetensors")
    command.add_argument("output", metavar="OUT", help=".npy, .zarr, .nii or .nii.gz")
    command.add_argument("--spec", required=True, metavar="FILE", help="JSON: a spec, or layers")
    command.add_argument(
        "--weights", required=True, metavar="FILE", help="file of the arrays that the layers name"
    )
    for name, default, metavar, text in (
        ("engine", "numpy", "NAME", "backend that computes"),
        ("memory", MEMORY, "SIZE", "most memory of all processes together, as in 500MB"),
        ("tile", None, "SIZES", "size of a tile, as in 128 or 64,128,128 (what --memory allows)"),
        ("dtype", None, "NAME", "type to compute in and write (that of the weights)"),
    ):
        text += f" ({default})" if default else ""
        command.add_argument(f"--{name}", default=default, metavar=metavar, help=text)
    command.add_argument(
        "--jobs", type=int, default=1, metavar="COUNT", help="processes that compute (1)"
    )
    command.add_argument(
        "--from", dest="source", metavar="LETTERS", help="axes of VOLUME, as in DHW (the spec's)"
    )
    command.add_argument(
        "--to", dest="target", metavar="LETTERS", help="axes of OUT (as VOLUME has them)"
    )
    command.add_argument("--name", help="which array, where VOLUME holds several")
    command.add_argument(
        "--fill", action="store_true", help="chunks that VOLUME lacks are its fill value, no damage"
    )
    command.add_argument("--force", action="store_true", help="overwrite OUT")
    command.add_argument(
        "--restart", action="store_true", help="begin anew where something else was begun"
    )
    command.add_argument("--format", metavar="NAME", help="format of OUT (what its name says)")
    command.set_defaults(run=_apply)
