"""The command line: parsers, tables, ``convspec backends`` and ``convspec explain``."""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import os
import runpy
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from convspec import Capabilities, ConvSpec, __version__, cli, dispatch, dtypes, tables
from convspec.tables import Column, Row
from convspec_numpy import NumpyBackend

EXPLAIN = [
    *("explain", "--in-channels", "1", "--out-channels", "2"),
    *("--kernel", "3", "--input-shape", "1,1,9"),
]


@pytest.fixture
def numpy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no other framework were installed."""
    monkeypatch.setattr(dispatch, "_present", lambda name: name == "numpy")


# ---- the program ----


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr() == (f"convspec {__version__}\n", "")


@pytest.mark.parametrize("command", [[], ["demo"], ["backends"], ["explain"]])
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"\n  {' '.join(['convspec', *command]).strip()}" in out.partition("\nexample")[2]
    assert err == ""


def test_no_command_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: convspec [-h] [--version] COMMAND ...\n")
    assert err == ""


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["paint"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: convspec [-h] [--version] COMMAND ...\n")
    assert "argument COMMAND: invalid choice: 'paint'" in err
    assert "Traceback" not in err


def test_python_m(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["convspec", "--version"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("convspec", run_name="__main__")
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"convspec {__version__}\n"


def test_console_script() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="convspec")
    assert script.load() is cli.main


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dispatch, "installed", interrupted)
    assert cli.main(["backends"]) == 130
    assert capsys.readouterr() == ("", "convspec backends: interrupted\n")


def test_closed_pipe_is_no_traceback() -> None:
    """As in ``convspec backends | head -1``, where the reader is gone before the writer."""
    program = (
        "import sys; from convspec import cli, dispatch; "
        "dispatch._present = lambda name: name == 'numpy'; sys.exit(cli.main(['backends']))"
    )
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"")


# ---- backends ----


def test_backends(numpy_alone: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["backends"]) == 0
    out, err = capsys.readouterr()
    heading, rule, *rows = out.splitlines()
    assert heading.split() == ["backend", "version", "devices", "ranks", "dtypes"]
    assert set(rule) == {"-", " "}
    table = {row.split()[0]: row.split()[1:] for row in rows}
    assert list(table) == sorted(dispatch.entry_points())
    assert table.pop("numpy") == [np.__version__, "cpu", "any", "14:", *dtypes.ALL]
    for name, words in table.items():
        assert " ".join(words) == f"not installed pip install 'convspec[{name}]'"
    assert err == ""


def test_backend_of_a_third_party(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no extra of ours, so it is installed under its own name."""
    point = importlib.metadata.EntryPoint("thirdparty", "thirdparty:backend", dispatch.GROUP)
    monkeypatch.setattr(dispatch, "entry_points", lambda: {"thirdparty": point})
    assert cli.main(["backends"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "thirdparty  not installed                  pip install thirdparty"
    )


def test_broken_backend_is_told(
    numpy_alone: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(name: str) -> None:
        raise OSError("libfoo.so: cannot open\nmore")

    monkeypatch.setattr(dispatch, "get_backend", broken)
    assert cli.main(["backends"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("numpy"))
    assert line.split("  ")[-1] == "libfoo.so: cannot open"
    assert "could not be loaded" in line


# ---- explain ----


def test_explain_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*EXPLAIN, "--backend", "numpy"]) == 0
    spec = ConvSpec(1, 2, (3,))
    assert capsys.readouterr() == (spec.explain((1, 1, 9), "numpy") + "\n", "")


def test_explain_all_says_what_is_shared_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Other(NumpyBackend):
        name = "other"

    found = {"numpy": NumpyBackend(), "other": Other()}
    monkeypatch.setattr(dispatch, "installed", lambda: tuple(found))
    monkeypatch.setattr(dispatch, "get_backend", found.__getitem__)
    assert cli.main(EXPLAIN) == 0
    out, err = capsys.readouterr()
    head, numpy, other = out.split("\n\n")
    assert head.splitlines()[0] == "ConvSpec(1, 2, (3,), layout='NCW')"
    assert f"{head}\n{numpy}" == ConvSpec(1, 2, (3,)).explain((1, 1, 9), "numpy")
    assert other == numpy.replace("numpy: ", "other: ") + "\n"
    assert err == ""


def test_explain_goes_on_without_a_broken_backend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def get(name: str) -> NumpyBackend:
        if name == "broken":
            raise OSError("no such library")
        return NumpyBackend()

    monkeypatch.setattr(dispatch, "installed", lambda: ("broken", "numpy"))
    monkeypatch.setattr(dispatch, "get_backend", get)
    assert cli.main(EXPLAIN) == 0
    out, err = capsys.readouterr()
    assert out == ConvSpec(1, 2, (3,)).explain((1, 1, 9), "numpy") + "\n"
    assert err == "convspec explain: no such library\n"
    assert cli.main([*EXPLAIN, "--backend", "broken"]) == 1
    assert capsys.readouterr() == ("", "convspec explain: no such library\n")


def test_code_of_what_is_not_supported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error where one backend was asked for; left out where all were."""

    class Small(NumpyBackend):
        name = "small"
        capabilities = Capabilities("1", ("float32",), 1, ("cpu",), gradients=False)

    monkeypatch.setattr(dispatch, "installed", lambda: ("small",))
    monkeypatch.setattr(dispatch, "get_backend", lambda name: Small())
    options = ["--dtype", "float64", "--code"]
    reason = "backend: small has no convolution of float64; it has float32."
    assert cli.main([*EXPLAIN, *options]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-2:] == ["small: not supported", f"  {reason}"]
    assert err == ""
    assert cli.main([*EXPLAIN, *options, "--backend", "small"]) == 2
    assert capsys.readouterr() == ("", f"convspec explain: {reason}\n")


def test_code_of_a_backend_that_tells_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dispatch, "installed", lambda: ("dask", "numpy"))
    assert cli.main([*EXPLAIN, "--code"]) == 0
    out = capsys.readouterr().out
    assert "(no code: backend: dask" in out
    assert "import numpy as np" in out
    assert cli.main([*EXPLAIN, "--code", "--backend", "dask"]) == 2


@pytest.mark.parametrize("options", [["--backend", "numpy"], []])
def test_code_runs(
    options: list[str], numpy_alone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*EXPLAIN, *options, "--code"]) == 0
    explained, _, code = capsys.readouterr().out.partition("\n\n")
    assert explained == ConvSpec(1, 2, (3,)).explain((1, 1, 9), "numpy")
    values: dict[str, np.ndarray] = {}
    exec(code, values)
    assert values["y"].shape == (1, 2, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--kernel 0", "kernel_size[0] (axis W): must be at least 1, got 0."),
        ("--kernel 3.5", "kernel_size[0] (axis W): expected an integer, got '3.5' (str)."),
        ("--kernel 3,,3", "kernel_size[1] (axis H): expected an integer, got '' (str)."),
        (
            "--kernel 3, --layout NCHW",
            "kernel_size: (3,) has 1 entries, but there are 2 spatial axes (HW).\n"
            "  Give one entry per axis, or a scalar for all of them.",
        ),
        (
            "--padding full",
            "padding[0] (axis W): 'full' is none of valid, causal, same, same_lower.",
        ),
        ("--groups 2", "in_channels: 1 channels do not divide into 2 groups."),
        ("--dtype int4", f"dtype: 'int4' is none of {', '.join(dtypes.ALL)}."),
        (
            "--backend caffe",
            f"backend: 'caffe' is not registered; there are: "
            f"{', '.join(sorted(dispatch.entry_points()))}.",
        ),
        (
            "--input-shape 1,1,2",
            "kernel_size: on axis W the kernel spans 3 positions (size 3, dilation 1), but the "
            "padded input has 2.\n  2 + 0 + 0 = 2; pad more, or shrink the kernel.",
        ),
    ],
)
def test_explain_errors(
    options: str, message: str, numpy_alone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*EXPLAIN, *options.split()]) == 2
    assert capsys.readouterr() == ("", f"convspec explain: {message}\n")


def parsed(*options: str) -> argparse.Namespace:
    return cli._parser().parse_args(["explain", *options])


COMMON = ("--in-channels", "4", "--out-channels", "8")


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ("--kernel 3 --input-shape 1,4,9,9", ConvSpec(4, 8, (3, 3))),
        ("--kernel 3 --input-shape 1,9,4 --layout channels_last", ConvSpec(4, 8, 3, layout="NWC")),
        ("--kernel 3, --input-shape 1,4,9", ConvSpec(4, 8, (3,))),
        ("--kernel 3 --stride 1,2 --input-shape 1,4,9,9", ConvSpec(4, 8, 3, stride=(1, 2))),
        ("--kernel 3 --layout CHW --input-shape 4,9,9", ConvSpec(4, 8, 3, layout="CHW")),
        (
            "--kernel 2,3,3 --padding 1:2,-1,same --dilation 1,2,1 --input-shape 1,4,9,9,9",
            ConvSpec(4, 8, (2, 3, 3), padding=((1, 2), -1, "same"), dilation=(1, 2, 1)),
        ),
        ("--kernel 3 --padding=-1:0, --input-shape 1,4,9", ConvSpec(4, 8, 3, padding=((-1, 0),))),
        (
            "--kernel 3 --padding=-1:0 --input-shape 1,4,9,9",
            ConvSpec(4, 8, 3, padding=((-1, 0),) * 2),
        ),
        (
            "--kernel 3 --padding 1:0 --layout HWC --input-shape 9,9,4",
            ConvSpec(4, 8, 3, padding=((1, 0),) * 2, layout="HWC"),
        ),
        ("--kernel 3 --padding -1 --input-shape 1,4,9", ConvSpec(4, 8, (3,), padding=-1)),
        (
            "--kernel 3,3 --groups 2 --padding-mode reflect --padding same --no-bias --flip-kernel"
            " --group-axis I --output-layout NHWC --weight-layout HWIO --input-shape 1,4,9,9",
            ConvSpec(
                4,
                8,
                3,
                groups=2,
                padding_mode="reflect",
                padding="same",
                bias=False,
                flip_kernel=True,
                group_axis="I",
                layout="NCHW",
                output_layout="NHWC",
                weight_layout="HWIO",
            ),
        ),
        (
            "--kernel 3 --transposed --stride 2 --output-padding 1 --input-shape 1,4,9,9",
            ConvSpec(4, 8, (3, 3), stride=2, transposed=True, output_padding=1),
        ),
    ],
)
def test_options_make_the_spec(options: str, spec: ConvSpec) -> None:
    assert cli.spec_of(parsed(*COMMON, *options.split())) == spec


def test_missing_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "--kernel", "3"]) == 2
    assert capsys.readouterr().err.endswith(
        "convspec explain: error: the following arguments are required: "
        "--in-channels, --out-channels, --input-shape\n"
    )


# ---- tables ----

COLUMNS = (Column("name", wrap=True), Column("count", number=True), Column("remark", wrap=True))
ROWS = (
    Row(("a", "1", "x[red]"), first=True),
    Row(("a", "1000000", ""), "bad"),
    Row(("b", "2", "long remark"), "dim", first=True),
)


def test_plain_table(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(COLUMNS, ROWS, "not shown")
    assert capsys.readouterr().out == (
        "name    count  remark\n"
        "----  -------  ------\n"
        "a           1  x[red]\n"
        "a     1000000\n"
        "\n"
        "b           2  long remark\n"
    )


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], io.StringIO]:
    """A terminal of a width; what is written to it."""
    rich_console = pytest.importorskip("rich.console")

    def make(width: int) -> io.StringIO:
        written = io.StringIO()
        monkeypatch.setattr(sys, "stdout", written)
        console = rich_console.Console(
            file=written, force_terminal=True, width=width, color_system=None
        )
        monkeypatch.setattr(tables, "_console", lambda *, stderr: console)
        return written

    return make


def test_boxed_table(terminal: Callable[[int], io.StringIO]) -> None:
    written = terminal(80)
    tables.show(COLUMNS, ROWS, "Title")
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    assert lines == [
        "Title",
        "┏━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━━┓",
        "┃ name ┃   count ┃ remark      ┃",
        "┡━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━━┩",
        "│ a    │       1 │ x[red]      │",
        "│ a    │ 1000000 │             │",
        "├──────┼─────────┼─────────────┤",
        "│ b    │       2 │ long remark │",
        "└──────┴─────────┴─────────────┘",
    ]


def test_narrow_terminal_never_cuts_a_number(terminal: Callable[[int], io.StringIO]) -> None:
    written = terminal(20)
    tables.show(COLUMNS, ROWS)
    assert written.getvalue() == (
        "  count remark\n\na\n      1 x[red]\n1000000\n\nb\n      2 long remark\n"
    )


def test_narrow_terminal_names_every_row(terminal: Callable[[int], io.StringIO]) -> None:
    written = terminal(12)
    tables.show(COLUMNS, [Row(("a", "1", "long remark")), Row(("b", "2", ""))])
    assert [line for line in written.getvalue().splitlines() if line in ("a", "b")] == ["a", "b"]


def test_progress_on_a_terminal(terminal: Callable[[int], io.StringIO]) -> None:
    written = terminal(80)
    with tables.progress(2) as step:
        step("first [red]")
        step("second")
    assert "first [red]" in written.getvalue()
    assert "second" in written.getvalue()


def test_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    tables.show(COLUMNS[:1], [Row(("a",))])
    with tables.progress(1) as step:
        step("unseen")
    assert capsys.readouterr() == ("name\n----\na\n", "")


def test_quiet_drops_what_libraries_write(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with tables.quiet():
        os.write(2, b"noise ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_quiet_ends_with_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"^inside$"), tables.quiet():
        raise ValueError("inside")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
