"""The command line: parsers, and what each subcommand does with its arguments."""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import os
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from . import __version__, dispatch
from .arguments import PADDING_MODES
from .backend import Backend
from .convert import commands as convert_commands
from .errors import ConvSpecError
from .layouts import is_format, spatial_letters
from .spec import ConvSpec
from .tables import Column, Row, one_line, quiet, show
from .volumes import commands as volume_commands

PER_AXIS = ("kernel", "stride", "padding", "dilation", "output_padding")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; default: those of the process.

    Returns:
        The exit status: 0 for success, 1 for a failed check or a missing package, 2 for
        arguments that make no sense.
    """
    # Read by TensorFlow alone, which logs pages while it loads; who has set it keeps it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may not fit the encoding
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser(words)
    try:
        parsed = parser.parse_args(words)
    except SystemExit as exit_:  # --help, --version, or an error that argparse has told
        return int(exit_.code or 0)
    if parsed.command is None:
        parser.print_help()
        return 0
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
    except ConvSpecError as error:
        print(f"convspec {parsed.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"convspec {parsed.command}: interrupted", file=sys.stderr)
        return 130
    return status


# ---- convspec backends ----


def _backends(parsed: argparse.Namespace) -> int:
    columns = [
        *(Column(name) for name in ("backend", "version", "devices", "ranks")),
        Column("dtypes", wrap=True),
    ]
    rows = []
    present = dispatch.installed()
    for name in sorted(dispatch.entry_points()):
        if name not in present:
            rows.append(Row((name, "not installed", "", "", _install(name)), "dim"))
            continue
        try:
            with quiet():
                able = dispatch.get_backend(name).capabilities
        except Exception as error:  # whatever a broken installation raises
            rows.append(Row((name, "could not be loaded", "", "", one_line(error)), "bad"))
            continue
        ranks = "any" if able.max_rank is None else f"1 to {able.max_rank}"
        types = f"{len(able.dtypes)}: {' '.join(able.dtypes)}"
        rows.append(Row((name, able.version, " ".join(able.devices), ranks, types)))
    show(columns, rows)
    return 0


def _install(name: str) -> str:
    """The command that installs the framework of a registered backend."""
    extras = importlib.metadata.metadata("convspec").get_all("Provides-Extra") or []
    return f"pip install 'convspec[{name}]'" if name in extras else f"pip install {name}"


# ---- convspec explain ----


def _explain(parsed: argparse.Namespace) -> int:
    spec, shape = spec_of(parsed), _shape(parsed.input_shape)
    texts: list[list[str]] = []
    for name in [parsed.backend] if parsed.backend else dispatch.installed():
        try:
            with quiet():
                engine = dispatch.get_backend(name)
        except Exception as error:  # whatever a broken installation raises
            if parsed.backend and isinstance(error, ConvSpecError):
                raise
            print(f"convspec explain: {one_line(error)}", file=sys.stderr)
            continue
        texts.append(_explained(spec, shape, engine, parsed))
    if not texts:
        return 1
    # What holds for all of them is said once.
    same = (len(set(lines)) == 1 for lines in zip(*texts, strict=False))
    shared = sum(takewhile(bool, same)) if len(texts) > 1 else 0
    blocks = [texts[0][:shared], *(lines[shared:] for lines in texts)]
    print("\n\n".join("\n".join(block) for block in blocks if block))
    return 0


def _explained(
    spec: ConvSpec, shape: tuple[int, ...], engine: Backend, parsed: argparse.Namespace
) -> list[str]:
    lines = spec.explain(shape, engine, parsed.dtype).splitlines()
    # Where one backend of many cannot compute this, the explanation has said so.
    if not parsed.code or not (parsed.backend or spec.supports(engine, shape, parsed.dtype)):
        return lines
    try:
        code = spec.code(engine, shape, parsed.dtype)
    except ConvSpecError as error:  # a backend that has none to tell
        if parsed.backend:
            raise
        code = f"(no code: {one_line(error)})"
    return [*lines, "", *code.splitlines()]


def spec_of(parsed: argparse.Namespace) -> ConvSpec:
    """The spec that the options describe.

    Where neither a layout nor any per-axis option tells the rank, the input shape does.
    """
    values = {name: _entry(getattr(parsed, name)) for name in PER_AXIS}
    layouts = (parsed.layout, parsed.output_layout, parsed.weight_layout)
    rank = len(_shape(parsed.input_shape)) - 2
    told = [layout for layout in layouts if not is_format(layout)]
    if ":" in parsed.padding and "," not in parsed.padding:  # one pair, for every axis
        values["padding"] *= len(spatial_letters(told[0])) if told else max(rank, 1)
    if not told and not any(isinstance(value, tuple) for value in values.values()) and rank > 0:
        values["kernel"] = (values["kernel"],) * rank
    return ConvSpec(
        parsed.in_channels,
        parsed.out_channels,
        values["kernel"],
        values["stride"],
        values["padding"],
        values["dilation"],
        parsed.groups,
        not parsed.no_bias,
        parsed.padding_mode,
        transposed=parsed.transposed,
        output_padding=values["output_padding"],
        layout=parsed.layout,
        output_layout=parsed.output_layout,
        weight_layout=parsed.weight_layout,
        flip_kernel=parsed.flip_kernel,
        group_axis=parsed.group_axis,
    )


def _entry(text: str) -> Any:
    """``3`` -> 3; ``2,3`` -> (2, 3); ``1:2,0`` -> ((1, 2), 0); words as they are."""
    parts = [_number(part) for part in text.removesuffix(",").split(",")]
    alone = len(parts) == 1 and not text.endswith(",") and not isinstance(parts[0], tuple)
    return parts[0] if alone else tuple(parts)


def _number(text: str) -> Any:
    if ":" in text:
        return tuple(_number(part) for part in text.split(":"))
    try:
        return int(text)
    except ValueError:
        return text.strip()


def _shape(text: str) -> tuple[Any, ...]:
    value = _entry(text)
    return value if isinstance(value, tuple) else (value,)


# ---- convspec demo ----


def _demo(parsed: argparse.Namespace) -> int:
    from . import demo

    names, file = list(parsed.backend), parsed.file
    # In "--backend numpy scan.nii.gz" argparse takes the file for a second name.
    if names and file is None and names[-1].lower().endswith(demo.SUFFIXES):
        file = names.pop()
    return demo.run(None if file is None else Path(file), names, Path(parsed.out))


# ---- parsers ----


def _parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser; the options of other packages' commands are there if ``words`` ask for them."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="convspec",
        description="Portable convolution: one spec, any framework's arrays in, the same numbers"
        " out.",
        epilog="example:\n  convspec demo --out pictures\n\n"
        "'convspec COMMAND --help' tells the options of a command.",
        formatter_class=plain,
    )
    parser.add_argument("--version", action="version", version=f"convspec {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_demo(commands, plain)
    command = commands.add_parser(
        "backends",
        help="list the frameworks that are installed, and those that could be",
        description="List the frameworks that are installed, and those that could be.",
        epilog="example:\n  convspec backends",
        formatter_class=plain,
    )
    command.set_defaults(run=_backends)
    _add_explain(commands, plain)
    convert_commands.add(commands, plain)
    volume_commands.add(commands, plain)
    _add_conformance(commands, plain, words)
    _add_bench(commands, plain, words)
    return parser


def _add_conformance(commands: Any, plain: Any, words: Sequence[str]) -> None:
    command = commands.add_parser(
        "conformance",
        help="hold a backend, yours or ours, to the reference, case by case",
        description="Hold a backend, yours or ours, to the reference, case by case.",
        epilog="example:\n  convspec conformance run --backend torch --level smoke\n\n"
        "'convspec conformance COMMAND --help' tells the options of a command.",
        formatter_class=plain,
    )
    if words[:1] == ["conformance"]:  # the suite is no part of the core: imported when asked for
        from convspec_conformance.command import add_parsers

        add_parsers(command)


def _add_bench(commands: Any, plain: Any, words: Sequence[str]) -> None:
    command = commands.add_parser(
        "bench",
        help="time convspec beside the frameworks' own calls, or a spec of yours on all of them",
        description="Time convspec beside the fastest of the frameworks' own calls, in turns, in\n"
        "both layouts, forward and with gradients, eager and compiled. With --spec, find\n"
        "out which framework and layout is fastest for it on this machine.",
        epilog="examples:\n  convspec bench --backend jax --workload c3d1 ct5 --picture x.png\n"
        "  convspec bench --spec spec.json --input-shape 1,3,16,112,112\n\n"
        "exit status: 0, or 1 if something that was asked for could not be measured.",
        formatter_class=plain,
    )
    if words[:1] == ["bench"]:  # no part of the core either
        from convspec_benchmarks.command import add_options

        add_options(command)


def _add_demo(commands: Any, plain: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="filter a real signal, photograph and volume on every installed framework",
        description="Filter a real ECG, photograph and MRI volume, or a file of your own, on\n"
        "every installed framework, in the axis orders that each one likes; hold the\n"
        "results to the reference, and save a picture of each.",
        epilog="examples:\n  convspec demo\n  convspec demo scan.nii.gz --backend numpy torch\n\n"
        "exit status: 0, or 1 if a difference exceeds its bound, a framework fails or a\n"
        "package is missing, or 2 if the file or an option is of no use.",
        formatter_class=plain,
    )
    command.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="your own input: .npy of shape (W,), (H, W), (H, W, 3) or (D, H, W); .png or .jpg;"
        " .nii or .nii.gz",
    )
    command.add_argument(
        "--out", default="convspec-demo", metavar="DIR", help="where pictures go (%(default)s)"
    )
    command.add_argument(
        "--backend",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="only these frameworks (all that are installed)",
    )
    command.set_defaults(run=_demo)


def _add_explain(commands: Any, plain: Any) -> None:
    command = commands.add_parser(
        "explain",
        help="say what a convolution will do on a framework, without computing it",
        description="Say what a convolution will do on a framework: padding, shapes, permutes,\n"
        "native or decomposed path, the native call. Nothing is computed.",
        epilog="example:\n  convspec explain --in-channels 3 --out-channels 64 --kernel 2,3,3 "
        "--stride 1,2,2 \\\n    --padding 0,1,1 --layout NCDHW --input-shape 32,3,10,224,224 "
        "--backend torch --code\n\n"
        "SIZES are one number for all axes or one per axis, as in 2,3,3. An amount of padding is\n"
        "a number, a pair as in 1:2, or one of valid, same, same_lower, causal. A value that\n"
        "starts with a minus sign is written --padding=-1:0.",
        formatter_class=plain,
    )
    for name in ("in-channels", "out-channels"):
        command.add_argument(f"--{name}", type=int, required=True, metavar="COUNT")
    for name, text in (
        ("kernel", "spatial size of the kernel"),
        ("input-shape", "shape of the input in its layout, as in 1,3,32,32"),
    ):
        command.add_argument(f"--{name}", required=True, metavar="SIZES", help=text)
    for name, default, metavar, text in (
        ("stride", "1", "SIZES", "step between windows"),
        ("padding", "0", "AMOUNTS", "positions added at both ends"),
        ("dilation", "1", "SIZES", "step between kernel elements"),
        ("output-padding", "0", "SIZES", "positions added at the end, transposed only"),
    ):
        text += f" ({default})"
        command.add_argument(f"--{name}", default=default, metavar=metavar, help=text)
    command.add_argument(
        "--padding-mode", default="zeros", choices=PADDING_MODES, help="what padding reads (zeros)"
    )
    command.add_argument("--groups", type=int, default=1, metavar="COUNT", help="groups (1)")
    command.add_argument("--no-bias", action="store_true", help="leave the bias out")
    command.add_argument("--transposed", action="store_true", help="the transposed convolution")
    for name, text in (
        ("layout", "axes of the input, as in NCHW, or channels_first or channels_last"),
        ("output-layout", "axes of the output (those of the input)"),
        ("weight-layout", "axes of the weight, as in HWIO (OI and the spatial ones)"),
    ):
        command.add_argument(f"--{name}", metavar="LETTERS", help=text)
    command.add_argument("--flip-kernel", action="store_true", help="reverse the kernel first")
    command.add_argument("--group-axis", choices=("O", "I"), help="weight axis that has all groups")
    command.add_argument("--dtype", metavar="NAME", help="element type (float32)")
    command.add_argument("--backend", metavar="NAME", help="one framework (all that are installed)")
    command.add_argument(
        "--code", action="store_true", help="print the framework's own snippet too"
    )
    command.set_defaults(run=_explain)
