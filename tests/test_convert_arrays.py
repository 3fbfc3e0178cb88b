"""Arrays from file to file: every format, any permutation, blocks, tiles, and bad input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from convspec import LayoutError, ShapeError, cli
from convspec.convert import ConvertError, array, blocked
from convspec.convert.files import ARRAYS, open_file, stored

SUFFIXES = (".npy", ".npz", ".safetensors", ".h5", ".zarr", ".nii", ".nii.gz")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.npy"
    np.save(path, np.arange(2 * 3 * 4 * 5 * 6, dtype="float32").reshape(2, 3, 4, 5, 6))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_there_and_back(suffix: str, scan: Path) -> None:
    there, back = scan.with_name(f"there{suffix}"), scan.with_name("back.npy")
    done = array(scan, there, "NCDHW", "HWDCN", verify=True, tile=200)
    assert done.shape == (5, 6, 4, 3, 2)
    assert done.verified
    array(there, back, "HWDCN", "NCDHW", tile=500)
    np.testing.assert_array_equal(np.load(back), np.load(scan), strict=True)
    assert {open_file(there).format, "npy"} <= set(ARRAYS)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_tiles_cover_everything_once(data: st.DataObject, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    letters = "NCDHW"[: data.draw(st.integers(1, 5))]
    shape = tuple(data.draw(st.integers(0 if n > 3 else 1, 5)) for n in range(len(letters)))
    x = np.arange(np.prod(shape), dtype="int16").reshape(shape)
    target = "".join(data.draw(st.permutations(letters)))
    block = data.draw(st.sampled_from(["", "2", "3"]))
    blocks = f"{block}{target[0].lower()}" if block else ""
    np.save(folder / "x.npy", x)
    tile = data.draw(st.integers(1, 300))
    suffix = data.draw(st.sampled_from([".npy", ".npz"]))
    there = folder / f"there{suffix}"
    array(folder / "x.npy", there, letters, target + blocks, tile=tile, force=True, verify=True)
    sizes = dict(zip(letters, shape, strict=True))
    back = folder / "back.npy"
    array(there, back, target + blocks, letters, sizes=sizes, tile=tile, force=True)
    np.testing.assert_array_equal(np.load(back), x, strict=True)
    if not block:
        expected = x.transpose([letters.index(letter) for letter in target])
        with open_file(there) as reader:
            np.testing.assert_array_equal(reader.read("array"), expected)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint16", "int64", "float16", "float64", "complex64", ">f4", "bfloat16"],
)
def test_types_stay(dtype: str, tmp_path: Path) -> None:
    x = np.arange(6).reshape(2, 3)
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="in the extra convert")
        x = x.astype(ml_dtypes.bfloat16)
        from convspec.convert.files import Entry, create

        with pytest.raises(ConvertError, match=r"is bfloat16, which \.npy files cannot hold"):
            create(tmp_path / "x.npy", "npy", {"array": Entry(x.shape, x.dtype)})
        writer = create(tmp_path / "x.h5", "hdf5", {"x": Entry(x.shape, x.dtype)})
        writer.write("x", (slice(None), slice(None)), x)
        writer.finish()
        array(tmp_path / "x.h5", tmp_path / "y.safetensors", "NC", "CN", verify=True)
        with open_file(tmp_path / "y.safetensors") as reader:
            np.testing.assert_array_equal(reader.read("x"), x.T, strict=True)
        return
    np.save(tmp_path / "x.npy", x.astype(dtype))
    array(tmp_path / "x.npy", tmp_path / "y.npy", "NC", "CN")
    expected = x.astype(np.dtype(dtype).newbyteorder("=")).T
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected, strict=True)


def test_affine_follows_the_axes(tmp_path: Path) -> None:
    nibabel = __import__("nibabel")
    affine = np.array([[2.0, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    x = np.arange(24, dtype="int16").reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(x, affine), tmp_path / "x.nii.gz")
    array(tmp_path / "x.nii.gz", tmp_path / "y.nii", "WHD", "DHW")
    y = nibabel.load(tmp_path / "y.nii")
    np.testing.assert_array_equal(np.asarray(y.dataobj), x.transpose())
    for i, j, k in np.ndindex(2, 3, 4):
        place = y.affine @ [k, j, i, 1]
        np.testing.assert_array_equal(place, affine @ [i, j, k, 1])
    with pytest.raises(ConvertError, match="first three axes are the spatial ones, 'WHD'"):
        array(tmp_path / "x.nii.gz", tmp_path / "z.nii", "WHD", "DHW4w")


# ---- blocked layouts ----


def test_blocks_by_hand() -> None:
    """NCHW16c and OIHW16i16o by their definition, element by element."""
    x = np.arange(1, 1 + 2 * 18 * 2 * 3).reshape(2, 18, 2, 3)
    y = blocked.pack(x, blocked.parse("NCHW16c"))
    assert y.shape == (2, 2, 2, 3, 16)
    for n, c, h, w in np.ndindex(x.shape):
        assert y[n, c // 16, h, w, c % 16] == x[n, c, h, w]
    assert y.sum() == x.sum()
    w_ = np.arange(32 * 16 * 2).reshape(32, 16, 2)
    packed = blocked.pack(w_, blocked.parse("OIW16i16o"))
    assert packed.shape == (2, 1, 2, 16, 16)
    for o, i, k in np.ndindex(w_.shape):
        assert packed[o // 16, i // 16, k, i % 16, o % 16] == w_[o, i, k]
    twice = blocked.pack(w_, blocked.parse("OIw4i16o4i"))
    for o, i, k in np.ndindex(w_.shape):
        assert twice[o // 16, i // 16, k, i % 16 // 4, o % 16, i % 4] == w_[o, i, k]


def test_onednn_names_of_plain_axes() -> None:
    assert blocked.parse("nChw16c").order == blocked.parse("NCHW16c").order == "NCHWC"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected letters such as 'NCHW'"),
        ("NC HW", "expected letters such as 'NCHW'"),
        ("NCHC", "'C' stands twice"),
        ("NHW16c", "blocks 'c', but has no axis 'C'"),
        ("NC16cHW", "'H' stands behind a block"),
        ("NCHW1c", "'1c' in 'NCHW1c' is no block"),
        ("NCHW16C", "'16C' in 'NCHW16C' is no block"),
        ("NCHW99999999c", "is no block"),
    ],
)
def test_malformed_layouts(text: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        blocked.parse(text)


def test_padding_is_stated_and_undone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).standard_normal((1, 30, 2, 2))
    np.save(tmp_path / "x.npy", x)
    names = [str(tmp_path / name) for name in ("x.npy", "b.npy", "y.npy", "b.h5", "z.npy")]
    run = ["convert", "array"]
    assert cli.main([*run, names[0], names[1], "--from", "NCHW", "--to", "NCHW16c"]) == 0
    assert "  C: 30 padded with zeros to 32\n" in capsys.readouterr().out
    size = ["--size", "C=30"]
    assert cli.main([*run, names[1], names[2], "--from", "NCHW16c", "--to", "NCHW", *size]) == 0
    np.testing.assert_array_equal(np.load(names[2]), x)
    # HDF5 says its layout and size itself.
    assert cli.main([*run, names[0], names[3], "--from", "NCHW", "--to", "NCHW16c"]) == 0
    assert cli.main([*run, names[3], names[4], "--to", "NCHW"]) == 0
    np.testing.assert_array_equal(np.load(names[4]), x)
    with pytest.raises(ShapeError, match="C=12 is not what 'NCHW16c' pads to 32; it is between 17"):
        array(names[1], tmp_path / "w.npy", "NCHW16c", "NCHW", sizes={"C": 12})


# ---- bad input ----


def test_refusals(scan: Path) -> None:
    out = scan.with_name("out.npy")
    with pytest.raises(LayoutError, match="'NCHW' names 4 axes, but the array has 5"):
        array(scan, out, "NCHW", "NHWC")
    with pytest.raises(LayoutError, match="do not name the same axes"):
        array(scan, out, "NCDHW", "NDHW")
    with pytest.raises(LayoutError, match="does not say its layout"):
        array(scan, out)
    with pytest.raises(ConvertError, match="no such file"):
        array(scan.with_name("none.npy"), out, "NCDHW")
    with pytest.raises(ConvertError, match="cannot tell the format"):
        array(scan, scan.with_name("out.xyz"), "NCDHW")
    with pytest.raises(ConvertError, match="there is no folder"):
        array(scan, scan.parent / "missing" / "out.npy", "NCDHW")
    with pytest.raises(ConvertError, match="torch files hold no single arrays"):
        array(scan, scan.with_name("out.pt"), "NCDHW")
    np.savez(scan.with_name("two.npz"), a=np.zeros((1, 2)), b=np.zeros((1, 2)))
    with pytest.raises(ConvertError, match=r"holds several arrays; pass name= \(--name\)"):
        array(scan.with_name("two.npz"), out, "NC", "CN")
    array(scan.with_name("two.npz"), out, "NC", "CN", name="b")
    assert np.load(out).shape == (2, 1)


def test_overwriting_is_asked_for(scan: Path) -> None:
    out = scan.with_name("out.npy")
    out.write_bytes(b"precious")
    with pytest.raises(ConvertError, match=r"exists already; .*--force"):
        array(scan, out, "NCDHW", "NDHWC")
    assert out.read_bytes() == b"precious"
    array(scan, out, "NCDHW", "NDHWC", force=True)
    os.link(scan, scan.with_name("link.npy"))
    for same in (scan, scan.with_name("link.npy")):
        with pytest.raises(ConvertError, match=r"is the input as well; .*--in-place"):
            array(scan, same, "NCDHW", "NDHWC", force=True)
    before = np.load(scan)
    array(scan, scan, "NCDHW", "NDHWC", in_place=True)
    np.testing.assert_array_equal(np.load(scan), before.transpose(0, 2, 3, 4, 1))


def test_progress_counts_tiles(scan: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    out = scan.with_name("o.npy")
    array(scan, out, "NCDHW", "NDHWC", tile=400, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total, _ in seen} == {len(seen)}
    assert len(seen) > 3


def test_verify_can_fail(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convspec.convert.files.npy import NpyWriter

    real = NpyWriter.write

    def wrong(self: Any, name: str, index: Any, block: Any) -> None:
        real(self, name, index, block + (block == 7))

    monkeypatch.setattr(NpyWriter, "write", wrong)
    out = scan.with_name("out.npy")
    with pytest.raises(ConvertError, match="was written, but reads back differently"):
        array(scan, out, "NCDHW", "NDHWC", verify=True)
    assert os.listdir(scan.parent) == ["scan.npy"]


def test_source_that_changes(scan: Path) -> None:
    out = scan.with_name("out.npy")

    def touch(done: int, total: int, what: str) -> None:
        os.utime(scan, (done, done))

    with pytest.raises(ConvertError, match=r"changed while it was read\. Nothing was written"):
        array(scan, out, "NCDHW", "NDHWC", progress=touch)
    assert os.listdir(scan.parent) == ["scan.npy"]


def test_memory_is_a_few_blocks(tmp_path: Path) -> None:
    """A checkpoint ten times larger than its largest tensor adds less than one of them.

    The bound of the project is 1.3 times the largest tensor plus 100 MB of anonymous memory.
    """
    from convspec.convert import checkpoint
    from convspec.convert.files import Entry, create

    shape, names = (1024, 1024, 5), [f"conv{i}.weight" for i in range(10)]
    entries = dict.fromkeys(names, Entry((*shape, 1), np.dtype("float32")))
    writer = create(tmp_path / "m.safetensors", "safetensors", entries)
    for name in names:
        writer.write(name, (slice(None),) * 4, np.ones((*shape, 1), "float32"))
    writer.finish()

    def anonymous() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("RssAnon:")[2].split()[0])

    before, peak = anonymous(), 0

    def watch(done: int, total: int, what: str) -> None:
        nonlocal peak
        peak = max(peak, anonymous())

    rules = {"*": "conv"}
    out = tmp_path / "o.safetensors"
    checkpoint(tmp_path / "m.safetensors", out, "torch", "jax", rules=rules, progress=watch)
    assert peak - before < entries[names[0]].nbytes + 10**8


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_parts_of_a_stored_array(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Any part in any order of memory, whether its runs are read one by one or together."""
    shape = data.draw(st.lists(st.integers(1, 7), max_size=4))
    x = np.arange(np.prod(shape, dtype=int)).astype(data.draw(st.sampled_from(["u1", "f8"])))
    x = x.reshape(shape)
    order = data.draw(st.sampled_from(["C", "F"]))
    path = tmp_path_factory.getbasetemp() / "stored"
    path.write_bytes(b"12345" + x.tobytes(order))
    ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
    index = tuple(slice(*end) for end in ends)[: data.draw(st.integers(0, len(shape)))]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stored, "SHORT", data.draw(st.integers(1, 400)))
        patched.setattr(stored, "TOGETHER", data.draw(st.integers(1, 2000)))
        part = stored.Stored(path, "x", x.dtype, shape, 5, order)[index]
    np.testing.assert_array_equal(part, x[index] if index else x, strict=True)
