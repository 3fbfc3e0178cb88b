"""Hostile files and bad luck: truncated, flipped and crafted input, kills, full disks."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from convspec.convert import ConvertError, array, checkpoint, inspect, output, stamp
from convspec.convert.files import Entry, create, open_file

SUFFIXES = {
    "npy": ".npy",
    "npz": ".npz",
    "safetensors": ".safetensors",
    "hdf5": ".h5",
    "nifti": ".nii",
    "nifti-gz": ".nii.gz",
    "torch": ".pt",
    "msgpack": ".msgpack",
    "onnx": ".onnx",
    "keras": ".keras",
}


#: What a .keras file says of a model.
KERAS = {
    "class_name": "Sequential",
    "config": {
        "name": "m",
        "layers": [
            {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, 4]}},
            {"class_name": "Dense", "config": {"name": "d", "units": 2}},
        ],
    },
}


def good(folder: Path, format: str) -> Path:
    """A small file of a format."""
    path = folder / f"good{SUFFIXES[format]}"
    x = np.arange(24, dtype="float32").reshape(2, 3, 4)
    if format == "keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(KERAS))
            archive.write(good(folder, "hdf5"), "model.weights.h5")
        return path
    names = ["array"] if format in ("npy", "nifti", "nifti-gz") else ["a/kernel", "b"]
    options = {"compressed": True} if format == "nifti-gz" else {}
    entries = dict.fromkeys(names, Entry(x.shape, x.dtype))
    writer = create(path, format.removesuffix("-gz"), entries, **options)
    for name in names:
        writer.write(name, (slice(None),) * 3, x)
    writer.finish()
    writer.close()
    return path


def read_all(path: Path) -> None:
    with open_file(path) as reader:
        for name in reader.entries:
            np.asarray(reader.read(name)).sum()


@pytest.fixture(scope="module", params=SUFFIXES)
def sample(request: Any, tmp_path_factory: Any) -> Path:
    return good(tmp_path_factory.mktemp("good"), request.param)


def test_files_that_are_cut_short(sample: Path, tmp_path: Path) -> None:
    """Wherever a copy broke off: a typed error that names the file, never wrong numbers."""
    data = sample.read_bytes()
    cuts = {0, 1, 7, 8, len(data) // 3, len(data) // 2, len(data) - 9, len(data) - 1}
    for cut in sorted(cuts):
        path = tmp_path / f"cut{''.join(sample.suffixes)}"
        path.write_bytes(data[:cut])
        with pytest.raises(ConvertError) as caught:
            read_all(path)
        assert str(path) in str(caught.value)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_fuzzed_files(sample: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Flipped, removed and inserted bytes: a result or a ConvertError, and nothing else."""
    content = bytearray(sample.read_bytes())
    header = min(len(content), 400)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header - 1))
        how = data.draw(st.sampled_from(["flip", "byte", "cut", "insert"]))
        if how == "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "byte":
            content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        elif how == "cut":
            del content[at : at + data.draw(st.integers(1, 8))]
        else:
            content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        header = min(len(content), 400)
    path = tmp_path / f"fuzzed{''.join(sample.suffixes)}"
    path.write_bytes(content)
    with contextlib.suppress(ConvertError):
        read_all(path)
        if path.suffix in (".keras", ".onnx"):  # what a model says is read as well
            checkpoint(path, tmp_path / "out.npz", target="torch", dry_run=True)


@pytest.mark.parametrize("format", ["zarr", "orbax", "tensorflow", "safetensors-sharded"])
def test_damaged_folders(format: str, tmp_path: Path) -> None:
    """Each file of a folder cut in half, emptied or removed: the same numbers, or a typed error."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    path = tmp_path / "good"
    writer = create(path, format, {"a": Entry(x.shape, x.dtype)}, stamp.to_text({}))
    writer.write("a", (slice(None),) * 3, x)
    writer.finish()
    writer.close()
    refused = 0
    for file in sorted(path.rglob("*")):
        if not file.is_file():
            continue
        content = file.read_bytes()
        for damaged in (content[: len(content) // 2], b"", None):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            try:
                with open_file(path, format) as reader:
                    for name in reader.entries:
                        np.testing.assert_array_equal(reader.read(name), x)
            except ConvertError:
                refused += 1
            file.write_bytes(content)
    assert refused >= 3


# ---- crafted files ----


class Payload:
    """A pickle that would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_pickles_are_never_executed(tmp_path: Path) -> None:
    import torch

    mark = tmp_path / "mark"
    np.save(tmp_path / "a.npy", np.array([Payload(mark)], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", a=np.array([Payload(mark)], dtype=object))
    torch.save({"a": Payload(mark)}, tmp_path / "c.pt")
    (tmp_path / "d.pt").write_bytes(pickle.dumps({"a": Payload(mark)}))
    for name, message in (
        ("a.npy", "holds object; only numbers are read"),
        ("b.npz", "holds object; only numbers are read"),
        ("c.pt", "cannot be read without running what it holds"),
        ("d.pt", "cannot be read without running what it holds"),
    ):
        with pytest.raises(ConvertError, match=message):
            read_all(tmp_path / name)
    assert not mark.exists()


def safetensors_file(path: Path, header: Any, data: bytes = bytes(8)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def field(begin: int = 0, end: int = 8, shape: Any = (2,), dtype: str = "F32") -> Any:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": field(), "b": field(4, 12)}, "'b' should lie at bytes"),
        ({"a": field(0, 4, (1,)), "b": field(0, 8)}, "tensors overlap or leave holes"),
        ({"a": field(0, 4, (1,))}, "the tensors end at byte"),
        ({"a": field(-4, 4)}, "'a' starts at byte -4 of the data instead of 0"),
        ({"a": field(shape=(3,))}, "12 bytes, but 8 are set aside"),
        ({"a": field(shape=(2**40, 2**40))}, "impossible shape"),
        ({"a": field(shape=(-2, -1))}, "impossible shape"),
        ({"a": field(dtype="X9")}, "which is unknown"),
        ({"a": [1]}, "which is unknown"),
        ([1], "is no JSON object"),
        (b'{"a":{},"a":{}}', "a name stands twice"),
        (b"[" * 100_000, "is no JSON object"),
        (b"\xff\xfe", "is no JSON object"),
    ],
)
def test_crafted_safetensors(header: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=message):
        read_all(safetensors_file(tmp_path / "x.safetensors", header))


def test_headers_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(ConvertError, match=f"the header should have {2**62} bytes, but the file"):
        read_all(path)


def test_shards_stay_beside_their_index(tmp_path: Path) -> None:
    safetensors_file(tmp_path / "secret.safetensors", {"a": field()})
    folder = tmp_path / "model"
    folder.mkdir()
    index = folder / "model.safetensors.index.json"
    for file in ("../secret.safetensors", str(tmp_path / "secret.safetensors"), "..", ""):
        index.write_text(json.dumps({"weight_map": {"a": file}}))
        with pytest.raises(ConvertError, match="shards lie beside their index"):
            read_all(folder)


def test_zip_bombs(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros(2**26, "float32"))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", stream.getvalue())
    with pytest.raises(ConvertError, match=r"member 'a\.npy' would grow from \d+ to 2684"):
        read_all(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("../../escape.npy", b"\x93NUMPY\x01\x00v\x00{'descr'")
    with pytest.raises(ConvertError, match="is no array of NumPy's format"):
        read_all(tmp_path / "y.npz")
    assert sorted(os.listdir(tmp_path)) == ["x.npz", "y.npz"]


def test_few_bytes_that_are_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that two names lead to, lists that hold one list ten times, a zip of small members."""
    import h5py
    import torch

    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("g")
        for _ in range(40):
            inner = group.create_group("a")
            group["b"] = inner
            group = inner
        group["x"] = np.zeros(3)
    with pytest.raises(ConvertError, match="has another name as well, or is too deep"):
        read_all(tmp_path / "a.h5")
    inner_list: list[Any] = [torch.zeros(1)]
    for _ in range(9):
        inner_list = [inner_list] * 10
    torch.save({"a": inner_list}, tmp_path / "a.pt")
    monkeypatch.setattr("convspec.convert.files.nested.MOST", 1000)
    with pytest.raises(ConvertError, match="holds more than 1000 entries; no checkpoint does"):
        read_all(tmp_path / "a.pt")
    stream = io.BytesIO()
    np.save(stream, np.zeros(1))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for i in range(1500):
            archive.writestr(f"{i}.npy", stream.getvalue())
    with open_file(tmp_path / "a.npz") as reader:
        assert len(reader.entries) == 1500


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A zip whose local header has bytes that are no UTF-8."""
    np.savez(tmp_path / "a.npz", abc=np.zeros(3))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    at = content.index(b"abc.npy")
    content[at] = 0xC9
    content[6:8] = (0x800).to_bytes(2, "little")  # the flag for UTF-8
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(ConvertError, match=r"b\.npz: 'abc\.npy': "):
        read_all(tmp_path / "b.npz")


def test_onnx_names_that_are_no_text(tmp_path: Path) -> None:
    import onnx

    for field in ("name", "location"):
        tensor = onnx.TensorProto(name="abcdef", data_type=1, dims=[4], data_location=1)
        tensor.external_data.add(key="location", value="uvwxyz")
        graph = onnx.helper.make_graph([], "g", [], [], [tensor])
        content = onnx.helper.make_model(graph).SerializeToString()
        old = b"abcdef" if field == "name" else b"uvwxyz"
        (tmp_path / "a.onnx").write_bytes(content.replace(old, b"\xc9\xff" + old[2:]))
        with pytest.raises(ConvertError, match=r"a\.onnx: .* no (text|name)\."):
            read_all(tmp_path / "a.onnx")


def test_errors_name_the_archive_that_was_given(tmp_path: Path) -> None:
    """Not the temporary file that its weights were unpacked to."""
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"nothing")
    with pytest.raises(ConvertError, match=r"/a\.keras: model\.weights\.h5: is no readable HDF5"):
        read_all(tmp_path / "a.keras")


def test_msgpack_that_is_deep_or_large(tmp_path: Path) -> None:
    for content in (b"\x91" * 200_000, b"\x81\xa1a" * 200_000 + b"\xc0", b"\xdd\xff\xff\xff\xff"):
        (tmp_path / "a.msgpack").write_bytes(content)
        with pytest.raises(ConvertError, match=r"is no readable msgpack file of Flax: \S"):
            read_all(tmp_path / "a.msgpack")


def test_zarr_chunks_that_are_links(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    writer = create(path, "zarr", {"array": Entry((4,), np.dtype("f4"))}, stamp.to_text({}))
    writer.write("array", (slice(None),), np.ones(4, "f4"))
    (chunk,) = (p for p in path.rglob("*") if p.is_file() and p.name != "zarr.json")
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConvertError, match=r"is a link, which is not followed"):
        read_all(path)


def test_hdf5_links_are_not_followed(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.zeros(3)
    crafts: dict[str, Callable[[Any], Any]] = {
        "external": lambda f: f.__setitem__("a", h5py.ExternalLink("other.h5", "/secret")),
        "soft": lambda f: f.__setitem__("a", h5py.SoftLink("/b")),
        "raw": lambda f: f.create_dataset("a", (3,), "f8", external=[("other.h5", 0, 24)]),
        "cycle": lambda f: f.create_group("a").__setitem__("b", f["/"]),
    }
    for name, craft in crafts.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            craft(file)
        with pytest.raises(ConvertError, match=r"not followed|are not opened|has another name"):
            read_all(tmp_path / f"{name}.h5")
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", (3,))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
    with pytest.raises(ConvertError, match="lies in other files, which are not opened"):
        read_all(tmp_path / "virtual.h5")
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("a", (2**20, 2**20), "f8", chunks=True, compression="gzip")
    with pytest.raises(ConvertError, match="would grow from 0 to"):
        read_all(tmp_path / "bomb.h5")


def test_onnx_data_stays_beside_its_model(tmp_path: Path) -> None:
    import onnx

    (tmp_path / "secret").write_bytes(bytes(64))
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    for location in ("../secret", str(tmp_path / "secret"), "link", ""):
        tensor = onnx.TensorProto(name="a", data_type=1, dims=[4], data_location=1)
        tensor.external_data.add(key="location", value=location)
        model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor]))
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ConvertError, match="external data lies beside its model"):
            read_all(folder / "m.onnx")


def test_objects_that_are_no_plain_tensors(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    torch.save({"a": torch.zeros(1).expand(2**30)}, tmp_path / "b.pt")
    with pytest.raises(ConvertError, match="'a' is sparse, quantized or without data"):
        read_all(tmp_path / "a.pt")
    with pytest.raises(ConvertError, match="'a' would grow to 4294967296 bytes out of a storage"):
        read_all(tmp_path / "b.pt")
    with pytest.raises(ConvertError, match="there is no such file"):
        inspect(tmp_path / "none.pt")


def test_torch_storages_in_every_form(tmp_path: Path) -> None:
    """Views, conjugates and types that NumPy lacks; zips that others have compressed."""
    import torch

    base = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        "whole": base,
        "part": base[1:],
        "steps": base[:, 1:, ::2],
        "turned": base.permute(2, 1, 0),
        "last": torch.arange(72.0).reshape(1, 2, 6, 6).to(memory_format=torch.channels_last),
        "expanded": torch.ones(1).expand(5),
        "scalar": torch.tensor(3.0),
        "none": torch.zeros(3, 0, 2),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "negative": torch.tensor([1 + 2j]).conj().imag,
        "bfloat16": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    }
    torch.save(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as plain,
        zipfile.ZipFile(tmp_path / "c.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    for file in ("a.pt", "b.pt", "c.pt"):
        with open_file(tmp_path / file) as reader:
            found = {name: reader.read(name) for name in reader.entries}
        assert list(found) == list(state)
        for name, tensor in state.items():
            expected = tensor.resolve_conj().resolve_neg()
            wide = expected.float() if name == "bfloat16" else expected
            np.testing.assert_array_equal(found[name].astype(wide.numpy().dtype), wide.numpy())


def test_torch_storages_lie_where_the_zip_says(tmp_path: Path) -> None:
    """torch computes places from sizes: a smaller member would give its neighbour's numbers."""
    import torch

    torch.save({"a": torch.arange(64.0), "b": torch.arange(64.0)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as whole,
        zipfile.ZipFile(tmp_path / "b.pt", "w") as cut,
    ):
        for member in whole.infolist():
            data = whole.read(member)
            cut.writestr(member.filename, data[:8] if member.filename.endswith("/1") else data)
    with pytest.raises(ConvertError, match="'b' wants a storage of 256 bytes at byte"):
        read_all(tmp_path / "b.pt")


# ---- bad luck ----


def test_full_disk(tmp_path: Path) -> None:
    """As a limit on the size of files, which the system enforces like a full disk."""
    source = tmp_path / "x.npy"
    np.save(source, np.zeros((64, 1024), "float64"))
    np.savez(model := tmp_path / "m.npz", w=np.zeros((64, 1024)))
    kept = tmp_path / "y.npy"
    kept.write_bytes(b"precious")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        for name in ("y.npy", "y.npz", "y.safetensors", "y.h5"):
            with pytest.raises(ConvertError, match="cannot be written"):
                array(source, tmp_path / name, "NC", "CN", force=True)
        for name in ("y.pt", "y.onnx", "y.msgpack"):
            with pytest.raises(ConvertError, match="cannot be written"):
                checkpoint(model, tmp_path / name, "torch", "torch")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert kept.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["m.npz", "x.npy", "y.npy"]


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A file system of 1 MB in memory, where this process may mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:  # not root: the system's answer to a device that is always full
        with pytest.raises(ConvertError, match="cannot be written"), output.whole(small / "x"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    try:
        np.save(tmp_path / "x.npy", np.random.default_rng(0).random((1024, 1024)))
        for name in ("y.npy", "y.npz", "y.h5", "y.zarr", "y.safetensors"):
            with pytest.raises(ConvertError, match=r"cannot be written: .*"):
                array(tmp_path / "x.npy", small / name, "NC", "CN")
            assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """SIGKILL while a file is replaced: it is the old one or the new one, and the rest is swept."""
    source, out = tmp_path / "x.npy", tmp_path / "y.npy"
    x = np.arange(2**21, dtype="float64").reshape(2, 1024, 1024)
    np.save(source, x)
    old = x[:1] + 0.5
    np.savez(model := tmp_path / "m.npz", **{"fc.weight": x[0]})
    code = (
        "import sys\n"
        "from convspec.convert import array, checkpoint\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    array(sys.argv[1], sys.argv[2], 'NCW', 'WCN', force=True, tile=2**18)\n"
        "    checkpoint(sys.argv[3], sys.argv[4], 'torch', 'flax', force=True)\n"
    )
    weights = tmp_path / "m.safetensors"
    for delay in (0.0, 0.02, 0.05, 0.1):
        np.save(out, old)
        child = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, (source, out, model, weights))],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.kill()
        child.wait()
        child.stdout.close()
        found = np.load(out)
        expected = old if found.shape == old.shape else x.transpose(2, 1, 0)
        np.testing.assert_array_equal(found, expected)
        if weights.exists():  # whole, or not there yet
            with open_file(weights) as reader:
                np.testing.assert_array_equal(reader.read("fc/kernel"), x[0].T)
    array(source, out, "NCW", "WCN", force=True)
    checkpoint(model, weights, "torch", "flax", force=True)
    assert sorted(os.listdir(tmp_path)) == ["m.npz", "m.safetensors", "x.npy", "y.npy"]


@pytest.mark.parametrize("format", ["npy", "npz", "safetensors"])
def test_a_source_that_is_cut_short_while_it_is_read(format: str, tmp_path: Path) -> None:
    """Under a memory map this would be a bus error, which nobody can catch."""
    x = np.arange(2**16, dtype="float32").reshape(4, 2**14)
    source, out = tmp_path / f"x.{format}", tmp_path / "out.npy"
    writer = create(source, format, {"array": Entry(x.shape, x.dtype)})
    writer.write("array", (slice(None),) * 2, x)
    writer.finish()
    out.write_bytes(b"old")

    def cut(done: int, steps: int, what: str) -> None:
        os.truncate(source, 2**14)

    with pytest.raises(ConvertError, match=r"was cut short while it was read: .* at byte \d+"):
        array(source, out, "CW", "WC", tile=2**16, force=True, progress=cut)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", source.name]


def test_a_torch_file_that_is_cut_short_while_it_is_read(tmp_path: Path) -> None:
    import torch

    torch.save({f"{i}.weight": torch.full((2**10,), i) for i in range(4)}, tmp_path / "m.pt")
    (tmp_path / "out.npz").write_bytes(b"old")

    def cut(done: int, steps: int, what: str) -> None:
        os.truncate(tmp_path / "m.pt", 2**12)

    with pytest.raises(ConvertError, match=r"'[123].weight' was cut short while it was read"):
        checkpoint(tmp_path / "m.pt", tmp_path / "out.npz", "torch", "torch", force=True,
                   progress=cut)  # fmt: skip
    assert (tmp_path / "out.npz").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["m.pt", "out.npz"]


def test_folders_are_replaced_in_one_step(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(2, 3))
    out = tmp_path / "y.zarr"
    array(tmp_path / "x.npy", out, "NC", "CN")
    (out / "foreign").write_text("kept until the end")
    with pytest.raises(ConvertError, match="exists already"):
        array(tmp_path / "x.npy", out, "NC", "NC")
    array(tmp_path / "x.npy", out, "NC", "NC", force=True)
    assert not (out / "foreign").exists()
    with open_file(out) as reader:
        assert reader.entries["array"].shape == (2, 3)
    assert sorted(os.listdir(tmp_path)) == ["x.npy", "y.zarr"]


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))

    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # As root nothing is denied, so the system's answer is played.
    monkeypatch.setattr(output, "allocate", refused)
    monkeypatch.setattr("convspec.convert.files.npy.allocate", refused)
    with pytest.raises(ConvertError, match=r"cannot be written: Permission denied\. Nothing was"):
        array(tmp_path / "x.npy", tmp_path / "y.npy", "NC", "CN")
    assert os.listdir(tmp_path) == ["x.npy"]


def test_force_replaces_files_and_stores_alone(tmp_path: Path) -> None:
    """Not devices, and not folders that hold something else."""
    source, folder, pipe = tmp_path / "x.npy", tmp_path / "notes", tmp_path / "pipe.npy"
    np.save(source, np.zeros((1, 2, 3, 4), np.float32))
    folder.mkdir()
    (folder / "precious.txt").write_text("kept")
    os.mkfifo(pipe)
    for target in (folder, pipe):
        with pytest.raises(ConvertError, match="is neither a file nor a folder that a converter"):
            array(source, target, "NCHW", "NHWC", format="npy", force=True)
    assert (folder / "precious.txt").read_text() == "kept"
    assert pipe.is_fifo()
    with pytest.raises(ConvertError, match="is a device or a pipe"):
        inspect(pipe)
