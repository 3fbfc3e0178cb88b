"""``convspec demo``: the built-in inputs, the user's files, the check, and the pictures."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convspec import Backend, ConvSpec, cli, dispatch, reference
from convspec.demo import errors, files, filters, pictures, runner, signals

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
COMPUTE, SAVE = ConvSpec.__call__, pictures.save


@pytest.fixture(autouse=True)
def numpy_alone(monkeypatch: Patch, tmp_path: Path) -> None:
    """As if no other framework were installed, in a folder of its own; pictures take seconds."""

    def undrawn(signal: signals.Signal | None, outcomes: Any, folder: Path) -> Path:
        return folder / f"{signal.stem if signal else 'worked-by-hand'}.png"

    monkeypatch.setattr(dispatch, "_present", lambda name: name == "numpy")
    monkeypatch.setattr(pictures, "save", undrawn)
    monkeypatch.setattr(runner, "REPEATS", 1)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def drawn(monkeypatch: Patch) -> None:
    """Pictures after all."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(pictures, "save", SAVE)
    monkeypatch.setattr(pictures, "DPI", 80)


def save(name: str, values: Any) -> str:
    np.save(name, np.asarray(values))
    return name


def verdicts(out: str) -> list[str]:
    """The last cell of each row of the table."""
    rows = [line for line in out.splitlines()[2:] if line and not line.startswith("saved ")]
    return [row.split("  ")[-1].strip() for row in rows]


def check_picture(path: Path) -> None:
    """A picture of a sensible size, with enough in it not to be blank."""
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB"), int)
    assert 300 < pixels.shape[0] < 1500
    assert 600 < pixels.shape[1] < 1500
    inked = np.abs(pixels - 255).sum(axis=-1) > 60
    assert inked.mean() > 0.01
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    # Titles and footer leave the outermost pixels white: nothing is cut off.
    assert not inked[0].any()
    assert not inked[-1].any()
    assert not inked[:, 0].any()
    assert not inked[:, -1].any()


# ---- the built-in inputs ----


def test_demo_of_real_data(drawn: None, capsys: Capture) -> None:
    for module in ("nibabel", "pywt", "skimage"):
        pytest.importorskip(module)
    assert cli.main(["demo", "--out", "pictures"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    table = [line.split() for line in out.splitlines()]
    assert table[0] == [
        *("example", "backend", "layout", "weight", "input", "output"),
        *("max", "diff", "bound", "ms"),
    ]
    rows = {" ".join(row[:-9]): row[-9:] for row in table[2:] if row and row[-1] == "ok"}
    assert {name: row[:5] for name, row in rows.items()} == {
        "ECG": ["numpy", "NWC", "OIW", "1x1024x1", "1x1024x2"],
        "Photograph, R only": ["numpy", "NHWC", "OIHW", "1x512x512x3", "1x510x510x1"],
        "Photograph, all channels": ["numpy", "NHWC", "OIHW", "1x512x512x3", "1x510x510x1"],
        "Photograph, stacked": ["numpy", "NHWC", "OIHW", "1x512x512x3", "1x510x510x2"],
        "MRI volume": ["numpy", "NDHWC", "OIDHW", "1x24x96x128x1", "1x24x96x128x3"],
        "worked by hand": ["numpy", "NDCHW", "ODIHW", "1x3x2x4x4", "1x2x1x2x2"],
    }
    for name, (*_, difference, bound, milliseconds, verdict) in rows.items():
        exact = name == "worked by hand"
        assert (difference == "0") if exact else (0 < float(difference) < float(bound))
        assert (bound == "exact") == exact
        assert float(milliseconds) > 0
        assert verdict == "ok"
    names = ["ecg", "photograph", "mri", "worked-by-hand"]
    saved = [Path("pictures") / f"{name}.png" for name in names]
    assert out.splitlines()[-4:] == [f"saved {path}" for path in saved]
    for path in saved:
        check_picture(path)


def test_real_inputs_are_what_they_are_called() -> None:
    pytest.importorskip("pywt")
    ecg = signals.ecg()
    assert (ecg.values.shape, ecg.values.dtype, ecg.unit) == ((1024,), np.float32, "s")
    # Three heart beats in 2.8 seconds.
    beats = np.flatnonzero(np.diff((ecg.values > 150).astype(int)) > 0) * ecg.spacing[0]
    assert len(beats) == 3
    assert np.all((np.diff(beats) > 0.8) & (np.diff(beats) < 1.0))


def test_photograph_is_in_colour_and_volume_stands_upright() -> None:
    pytest.importorskip("nibabel")
    pytest.importorskip("skimage")
    photograph, volume = signals.photograph(), signals.volume()
    assert photograph.colour
    assert photograph.values.shape == (512, 512, 3)
    assert (photograph.values.min(), photograph.values.max()) == (0, 1)
    assert not volume.colour
    assert volume.values.shape == (24, 96, 128)
    assert volume.spacing == pytest.approx((2.2, 2.0, 2.0), abs=1e-5)
    assert volume.unit == "mm"
    # The head is alike left and right of the middle, and beside it is air.
    assert np.corrcoef(volume.values[12].ravel(), volume.values[12, :, ::-1].ravel())[0, 1] > 0.9
    assert volume.values[..., :20].max() < 0.1 * volume.values.max()


def test_example_worked_by_hand() -> None:
    example = filters.by_hand()
    assert example.expected is not None
    y = reference(example.spec, example.x, example.weight)
    assert y[0, :, 0].tolist() == [[[321, 332], [365, 376]], [[673, 684], [717, 728]]]
    assert np.array_equal(example.expected, y)


def test_every_framework_is_exact_by_hand(backend: Backend) -> None:
    outcome = runner.run(filters.by_hand(), [backend], lambda text: None)
    (result,) = outcome.results
    assert (result.trouble, result.difference, result.bad) == ("", 0, False)
    if backend.name != "numpy":
        assert result.spec == outcome.example.spec.in_convention(backend.name)


def test_every_framework_filters_alike(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    for shape, space in (((40,), 1), ((12, 14, 3), 2), ((6, 8, 7), 3)):
        values = rng.random(shape, np.float32)
        signal = signals.Signal("noise", "noise", values, (1.0,) * space)
        for example in filters.examples(signal):
            outcome = runner.run(example, [backend], lambda text: None)
            (result,) = outcome.results
            assert (result.trouble, result.bad) == ("", False)
            assert result.output.shape == outcome.wanted.shape


# ---- the filters ----


def only(values: Any) -> filters.Example:
    values = np.asarray(values, np.float32)
    rank = 2 if values.ndim == 3 and values.shape[2] == 3 else values.ndim
    examples = filters.examples(signals.Signal("x", "x", values, (0.5,) * rank))
    return examples[-1]


def test_slope_of_a_line_is_its_slope() -> None:
    example = only(3 * 0.5 * np.arange(40))  # 3 per unit, 0.5 apart
    smooth, slope = reference(example.spec, example.x, example.weight)[0, 4:-4].T
    assert slope == pytest.approx(3, rel=1e-5)
    assert smooth == pytest.approx(example.x[0, 4:-4, 0], rel=1e-5)


def test_gradient_of_a_plane() -> None:
    d, h, w = np.meshgrid(*[0.5 * np.arange(11)] * 3, indexing="ij")
    example = only(2 * d - 3 * h + 5 * w)
    gradient = reference(example.spec, example.x, example.weight)[0, 5, 5, 5]
    assert gradient.tolist() == pytest.approx([2, -3, 5], rel=1e-4)


def test_edge_detectors() -> None:
    """A red edge is seen in R alone and in all channels; a green one in all channels alone."""
    red, green = np.zeros((6, 6, 3)), np.zeros((6, 6, 3))
    red[:, :3, 0] = green[:, :3, 1] = 1
    seen = {}
    for name, image in (("red", red), ("green", green)):
        signal = signals.Signal(name, name, image.astype(np.float32), (1.0, 1.0))
        r_only, every, stacked = (
            reference(example.spec, example.x, example.weight)[0]
            for example in filters.examples(signal)
        )
        assert (r_only.shape, every.shape, stacked.shape) == ((4, 4, 1), (4, 4, 1), (4, 4, 2))
        seen[name] = [r_only[0, :, 0].tolist(), every[0, :, 0].tolist()]
        assert not stacked[..., 1].any()  # no horizontal edge
    edge = [0, 3, 3, 0]
    assert seen == {"red": [edge, edge], "green": [[0, 0, 0, 0], edge]}


# ---- the check ----


def broken(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """A call of a spec whose result is changed."""

    def call(spec: ConvSpec, *arrays: Any) -> Any:
        return change(COMPUTE(spec, *arrays))

    return call


def shifted(y: Any) -> Any:
    return np.roll(y, 1, axis=1)


def one_ulp(y: Any) -> Any:
    y.flat[0] = np.nextafter(y.flat[0], np.float32(np.inf))
    return y


def not_a_number(y: Any) -> Any:
    y.flat[-1] = np.nan
    return y


@pytest.mark.parametrize("change", [shifted, one_ulp, not_a_number])
def test_wrong_results_are_caught(
    change: Callable[[Any], Any], monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setattr(signals, "BUILT_IN", ())
    assert cli.main(["demo"]) == 0
    assert verdicts(capsys.readouterr().out) == ["ok"]
    monkeypatch.setattr(ConvSpec, "__call__", broken(change))
    assert cli.main(["demo"]) == 1
    assert verdicts(capsys.readouterr().out) == ["ABOVE ITS BOUND"]


@pytest.mark.parametrize(("factor", "status"), [(0.4, 0), (2.6, 1)])
def test_bound_is_what_decides(
    factor: float, status: int, monkeypatch: Patch, capsys: Capture
) -> None:
    """An error well below the bound passes, one above it does not: at one element of many."""
    save("x.npy", 1 + np.random.default_rng(0).random(50))
    bound = runner.error_bound(filters.examples(files.read(Path("x.npy")))[0])

    def change(y: Any) -> Any:
        y[0, 20, 0] += np.float32(factor * bound[0, 20, 0])
        return y

    monkeypatch.setattr(ConvSpec, "__call__", broken(change))
    assert cli.main(["demo", "x.npy"]) == status
    assert verdicts(capsys.readouterr().out) == ["ABOVE ITS BOUND" if status else "ok"]


def test_bound_is_the_analysis() -> None:
    """(n + 2) * 2**-24 * (|x| conv |w|), and next to nothing for underflow."""
    example = only(np.arange(9.0) - 4)
    bound = runner.error_bound(example)
    x, w = np.pad(np.abs(example.x[0, :, 0]), 4, "edge"), np.abs(example.weight[:, 0])
    exact = [[w[o] @ x[i : i + 9] * 11 * 2.0**-24 for o in (0, 1)] for i in range(9)]
    assert bound[0] == pytest.approx(np.array(exact), rel=1e-6)


def test_wrong_shape_and_error_are_told(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(signals, "BUILT_IN", ())
    monkeypatch.setattr(ConvSpec, "__call__", broken(lambda y: y[:, :1]))
    assert cli.main(["demo"]) == 1
    assert verdicts(capsys.readouterr().out) == [
        "FAILED: shape (1, 1, 1, 2, 2) instead of (1, 2, 1, 2, 2)"
    ]

    def fails(spec: ConvSpec, *arrays: Any) -> None:
        raise RuntimeError("no kernel\nmore")

    monkeypatch.setattr(ConvSpec, "__call__", fails)
    assert cli.main(["demo"]) == 1
    assert verdicts(capsys.readouterr().out) == ["FAILED: no kernel"]


def test_accelerators_are_asked_about_tf32() -> None:
    result = runner.Result("numpy", filters.by_hand().spec, bad=True, device="cuda")
    assert runner._verdict(result) == "ABOVE ITS BOUND (does cuda compute in TF32?)"


def test_framework_that_does_not_load(monkeypatch: Patch, capsys: Capture) -> None:
    """The others go on; only where it was asked for by name is that a failure."""
    right = dispatch.get_backend

    def get(name: str) -> Backend:
        if name == "torch":
            raise OSError("libfoo.so: cannot open\nmore")
        return right(name)

    monkeypatch.setattr(signals, "BUILT_IN", ())
    monkeypatch.setattr(dispatch, "_present", lambda name: name in ("numpy", "torch"))
    monkeypatch.setattr(dispatch, "get_backend", get)
    for options, status in (([], 0), (["--backend", "torch", "numpy", "numpy"], 1)):
        assert cli.main(["demo", *options]) == status
        out, err = capsys.readouterr()
        assert verdicts(out) == ["ok", "NOT LOADED: libfoo.so: cannot open"]
        assert err == ""
    assert cli.main(["demo", "--backend", "torch"]) == 1


def test_unknown_backend(capsys: Capture) -> None:
    assert cli.main(["demo", "--backend", "caffe"]) == 2
    known = ", ".join(sorted(dispatch.entry_points()))
    assert capsys.readouterr() == (
        "",
        f"convspec demo: backend: 'caffe' is not registered; there are: {known}.\n",
    )


# ---- what may be missing ----


def test_without_the_extra(monkeypatch: Patch, capsys: Capture) -> None:
    """With NumPy alone the example worked by hand runs, and one line says what is missing."""
    monkeypatch.setattr(pictures, "save", SAVE)
    for name in ("matplotlib", "nibabel", "pywt", "skimage", "rich.console"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["demo"]) == 1
    out, err = capsys.readouterr()
    assert verdicts(out) == ["ok"]
    assert err == (
        "convspec demo: not installed: pywt, skimage, nibabel, matplotlib. "
        "Get what the demo needs with: pip install 'convspec[demo]'\n"
    )
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("name", "module"), [("x.npy", "matplotlib"), ("x.png", "PIL.Image"), ("x.nii.gz", "nibabel")]
)
def test_file_without_its_package(
    name: str, module: str, monkeypatch: Patch, capsys: Capture
) -> None:
    with open(name, "wb") as stream:
        np.save(stream, np.zeros(20))
    monkeypatch.setattr(pictures, "save", SAVE)
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["demo", name]) == 1
    assert capsys.readouterr().err == (
        f"convspec demo: not installed: {module.partition('.')[0]}. "
        f"Get what the demo needs with: pip install 'convspec[demo]'\n"
    )


def test_package_without_its_data(monkeypatch: Patch) -> None:
    """Some distributions strip a package's tests."""
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    pytest.importorskip("nibabel")
    message = (
        r"^this nibabel came without tests/data/example4d\.nii\.gz; the wheel on PyPI has it\.$"
    )
    with pytest.raises(errors.DemoError, match=message):
        signals.volume()


def test_pictures_have_nowhere_to_go(drawn: None, capsys: Capture) -> None:
    Path("taken").touch()
    assert cli.main(["demo", save("x.npy", np.zeros(20)), "--out", "taken"]) == 1
    out, err = capsys.readouterr()
    assert verdicts(out) == ["ok"]
    assert err == "convspec demo: taken: no pictures can be saved there: File exists.\n"


# ---- the user's files ----


def write(name: str) -> None:
    """A small file of each kind that can be read."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (12, 15), np.uint8)
    if name.endswith((".nii", ".nii.gz")):
        nibabel = pytest.importorskip("nibabel")
        data = rng.random((6, 7, 8, 2) if name.startswith("series") else (6, 7, 8))
        image = nibabel.Nifti1Image(data, np.diag([-1.0, 2, 3, 1]))
        image.header.set_xyzt_units("mm")
        nibabel.save(image, name)
    elif not name.endswith(".npy"):
        pillow = pytest.importorskip("PIL.Image")
        if name.startswith("deep"):
            pillow.fromarray(grey.astype(np.uint16) * 257).save(name)
        else:
            mode = name.partition(".")[0]
            pillow.fromarray(grey).convert(mode).save(name)
    else:
        values = {
            "bool.npy": grey > 99,
            "colour.npy": rng.integers(-9, 9, (9, 8, 3)),
            "fortran.npy": np.asfortranarray(rng.random((9, 8))),
            "half.npy": rng.random((5, 6, 7)).astype(np.float16),
            "$x^{.npy": rng.random(20).astype(">f8"),
            "子.npy": np.arange(20, dtype=np.uint64) * 2**58,
        }
        save(name, values[name])


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("bool.npy", ["1x10x13x2"]),
        ("colour.npy", ["1x7x6x1", "1x7x6x1", "1x7x6x2"]),
        ("fortran.npy", ["1x7x6x2"]),
        ("half.npy", ["1x5x6x7x3"]),
        ("$x^{.npy", ["1x20x2"]),
        ("子.npy", ["1x20x2"]),
        ("L.png", ["1x10x13x2"]),
        ("1.PNG", ["1x10x13x2"]),
        ("deep.png", ["1x10x13x2"]),
        ("RGB.jpg", ["1x10x13x1", "1x10x13x1", "1x10x13x2"]),
        ("RGBA.png", ["1x10x13x1", "1x10x13x1", "1x10x13x2"]),
        ("P.png", ["1x10x13x1", "1x10x13x1", "1x10x13x2"]),
        ("volume.nii", ["1x8x7x6x3"]),
        ("series.nii.gz", ["1x8x7x6x3"]),
    ],
)
def test_files_of_each_kind(name: str, shapes: list[str], capsys: Capture) -> None:
    write(name)
    # The file comes last: --backend, which takes several names, leaves it alone.
    assert cli.main(["demo", "--out", ".", "--backend", "numpy", name]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert verdicts(out) == ["ok"] * len(shapes)
    assert [line.split()[-5] for line in out.splitlines() if line.endswith("ok")] == shapes
    assert out.splitlines()[-1] == f"saved {name.partition('.')[0]}-filtered.png"


def test_values_are_kept() -> None:
    """Integers and bools as numbers, images from 0 to 1, NIfTI axes as up, front and right."""
    write("colour.npy")
    assert np.array_equal(files.read(Path("colour.npy")).values, np.load("colour.npy"))
    save("bool.npy", [True, False] * 5)
    assert files.read(Path("bool.npy")).values.tolist() == [1, 0] * 5
    write("L.png")
    write("deep.png")
    flat, deep = files.read(Path("L.png")), files.read(Path("deep.png"))
    assert flat.values.max() <= 1
    assert flat.values / flat.values.max() == pytest.approx(deep.values)
    write("volume.nii")
    volume = files.read(Path("volume.nii"))
    nibabel = pytest.importorskip("nibabel")
    stored = nibabel.load("volume.nii").get_fdata(dtype=np.float32)
    assert np.array_equal(volume.values, stored[::-1].transpose(2, 1, 0))
    assert (volume.spacing, volume.unit, volume.anatomical) == ((3, 2, 1), "mm", True)


def test_large_input_is_cut_to_its_middle(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(files, "LARGEST", 100)
    values = np.arange(400.0).reshape(20, 20)
    assert np.array_equal(files.read(Path(save("x.npy", values))).values, values[5:15, 5:15])
    assert cli.main(["demo", "x.npy"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("x.npy, middle 10x10, vertical and")


@pytest.mark.parametrize("name", ["$x^{.npy", "half.npy", "zero.npy", "wide.npy", "RGBA.png"])
def test_pictures_of_files(name: str, drawn: None, capsys: Capture) -> None:
    """A signal, a volume without anatomy, a constant, a strip, and a file that is itself a PNG."""
    if name == "zero.npy":
        save(name, np.zeros((6, 6)))
    elif name == "wide.npy":
        save(name, np.random.default_rng(0).random((9, 99)))
    else:
        write(name)
    before = Path(name).read_bytes()
    assert cli.main(["demo", name, "--out", "."]) == 0
    assert capsys.readouterr().err == ""
    assert Path(name).read_bytes() == before
    check_picture(Path(f"{name.partition('.')[0]}-filtered.png"))


NAN = "values are NaN, infinite or too large for float32."


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.nan] * 5, f"5 of 10 {NAN}"),
        ([1.0, -np.inf] * 5, f"5 of 10 {NAN}"),
        ([1e300] * 10, f"10 of 10 {NAN}"),
        (np.zeros(10, complex), "holds complex128, the demo filters real numbers."),
        (["a"] * 10, "holds <U1, the demo filters real numbers."),
        (np.zeros(10, "M8[s]"), "holds datetime64[s], the demo filters real numbers."),
        (np.array([None] * 10), "holds Python objects, the demo filters numbers."),
        (np.zeros((0, 9)), "has shape (0, 9), which holds no values."),
        (
            np.float32(1),
            "has shape (); the demo takes (W,), (H, W), (H, W, 3) or (D, H, W).",
        ),
        (
            np.zeros((5, 5, 5, 5)),
            "has shape (5, 5, 5, 5); the demo takes (W,), (H, W), (H, W, 3) or (D, H, W).",
        ),
        (np.zeros(8), "has shape (8,), too small for filters of size 9."),
        (np.zeros((9, 2)), "has shape (9, 2), too small for filters of size 3."),
        (np.zeros((4, 9, 9)), "has shape (4, 9, 9), too small for filters of size 5. {}"),
        (np.zeros((3, 9, 9)), "has shape (3, 9, 9), too small for filters of size 5. {}"),
        (np.zeros((9, 9, 4)), "has shape (9, 9, 4), too small for filters of size 5. {}"),
        (np.zeros((2, 9, 9)), "has shape (2, 9, 9), too small for filters of size 5."),
    ],
)
def test_arrays_that_cannot_be_filtered(values: Any, message: str, capsys: Capture) -> None:
    name = save("x.npy", values)
    message = message.format("An image is (H, W) or (H, W, 3).")
    assert cli.main(["demo", name]) == 2
    assert capsys.readouterr() == ("", f"convspec demo: x.npy: {message}\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", None, "No such file or directory."),
        ("x.npy", b"", "the file is empty."),
        ("x.npy", b"hello", "is no .npy file; numpy.save writes one."),
        ("x.npy", b"PK\x03\x04 a zip", "is no .npy file; numpy.save writes one."),
        (
            "x.txt",
            b"1 2 3",
            "cannot tell what this is; known are .npy .png .jpg .jpeg .nii .nii.gz.",
        ),
        ("x", b"1 2 3", "cannot tell what this is; known are .npy .png .jpg .jpeg .nii .nii.gz."),
        ("x.png", b"hello", "cannot identify image file 'x.png'."),
        ("x.nii", b"hello", 'is no readable .nii file: Cannot work out file type of "x.nii".'),
    ],
)
def test_files_that_cannot_be_read(
    name: str, content: bytes | None, message: str, capsys: Capture
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    if name.endswith(".png"):
        pytest.importorskip("PIL")
    if name.endswith(".nii"):
        pytest.importorskip("nibabel")
    assert cli.main(["demo", name]) == 2
    assert capsys.readouterr() == ("", f"convspec demo: {name}: {message}\n")


@pytest.mark.parametrize("name", ["x.npy", "RGB.png", "x.nii.gz"])
def test_truncated_files(name: str, capsys: Capture) -> None:
    if name == "x.npy":
        save(name, np.zeros((20, 20)))
    else:
        write(name)
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) * 2 // 3])
    assert cli.main(["demo", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"convspec demo: {name}: ")
    assert err.count("\n") == 1


def test_flat_and_complex_nifti(capsys: Capture) -> None:
    nibabel = pytest.importorskip("nibabel")
    for name, data, message in (
        ("flat.nii", np.zeros((9, 9)), "has shape (9, 9), which is no volume."),
        (
            "complex.nii",
            np.zeros((9, 9, 9), np.complex64),
            "holds complex64, the demo filters real numbers.",
        ),
    ):
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), name)
        assert cli.main(["demo", name]) == 2
        assert capsys.readouterr() == ("", f"convspec demo: {name}: {message}\n")


def test_folder_is_no_file(capsys: Capture) -> None:
    Path("x.npy").mkdir()
    assert cli.main(["demo", "x.npy"]) == 2
    assert capsys.readouterr() == ("", "convspec demo: x.npy: Is a directory.\n")


def test_pickles_are_never_loaded(capsys: Capture) -> None:
    """An object array whose loading would run code."""

    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (Path("loaded"),))

    values = np.empty(10, object)
    values[:] = [Payload()] * 10
    with contextlib.redirect_stdout(io.StringIO()):
        np.save("x.npy", values, allow_pickle=True)
    assert cli.main(["demo", "x.npy"]) == 2
    assert not Path("loaded").exists()
