"""Chains over volumes on disk: in tiles they are the whole, and a stopped run goes on."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from convspec import ConvSpec, ConvSpecError, DTypeError, LayoutError, ShapeError, UnsupportedError
from convspec.cli import main
from convspec.convert import ConvertError
from convspec.convert.files import open_file
from convspec.layouts import permutation
from convspec.tiles import Tiles
from convspec.volumes import Layer, apply, read_chain, sizing, slabs
from convspec.volumes.activations import FORMULAS, Activation
from convspec.volumes.chain import as_chain, problems
from convspec.volumes.crew import Crew
from convspec.volumes.journal import Journal

Rng = np.random.Generator


def whole(layers: Any, arrays: Any, x: np.ndarray) -> np.ndarray:
    """The chain on all of the volume, layer by layer, by the specs' own calls."""
    before = layers[0].spec.layout
    for layer, (w, b) in zip(layers, arrays, strict=True):
        x = x.transpose(permutation(before, layer.spec.layout))
        x = layer.activation(layer.spec(x, w, b, output_size=layer.output_size))
        before = layer.spec.output_layout
    return x


# ---- slabs, computed in this process ----


def random_chain(rng: Rng) -> tuple[list[Layer], Any, tuple[int, ...]]:
    """Layers of any padding, mode, stride, dilation, direction and order of axes."""
    letters = "DHW"[rng.integers(3) :]
    axes = [*letters, "C", *("N" * int(rng.integers(2)))]
    r, channels = len(letters), int(rng.integers(1, 4))
    layers, arrays = [], []

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(low, high, r).tolist())

    for _ in range(rng.integers(1, 4)):
        transposed = rng.random() < 0.25
        modes = ["zeros"] if transposed else ["zeros", "zeros", "reflect", "replicate", "circular"]
        named = ["same", "same_lower"]
        amounts = [tuple(rng.integers(-1, 4, 2).tolist()) for _ in range(r)]
        spec = ConvSpec(
            channels,
            int(rng.integers(1, 4)),
            each(1, 5),
            each(1, 3),
            tuple(named[i] if (i := rng.integers(5)) < 2 else pair for pair in amounts),
            each(1, 3),
            padding_mode=modes[rng.integers(len(modes))],
            transposed=transposed,
            layout="".join(rng.permutation(axes)),
            output_layout="".join(rng.permutation(axes)),
        )
        layers.append(
            Layer(spec, bias="b", activation=Activation(("relu", "identity")[rng.integers(2)]))
        )
        w, b = rng.integers(-2, 3, spec.weight_shape), rng.integers(-2, 3, spec.out_channels)
        arrays.append((w, b))
        channels = spec.out_channels
    sizes = {c: int(rng.integers(4, 40 // r if r < 3 else 9)) for c in letters}
    sizes |= {"N": int(rng.integers(1, 3)), "C": layers[0].spec.in_channels}
    return layers, arrays, tuple(sizes[c] for c in layers[0].spec.layout)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_tiles_of_a_chain_are_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, arrays, shape = random_chain(rng)
    try:
        steps = problems(layers, shape)
    except ConvSpecError:  # a kernel larger than what is left, or a reflection
        return
    x = rng.integers(-3, 4, shape)
    last = steps[-1]
    tile = [
        n if c == "C" else int(rng.integers(-(-n // 2), n + 1))
        for c, n in zip(last.output_layout, last.output_shape, strict=True)
    ]
    y = np.full(last.output_shape, -999)
    workspace = int(rng.integers(20_000, 400_000))
    activations = [layer.activation for layer in layers]
    for box in Tiles(last, tile):
        needed = slabs.needs(steps, dict(zip(last.output_layout, box.output, strict=True)))
        positions = (
            np.concatenate([np.arange(*ends) for ends in needed[0][c]]) for c in steps[0].layout
        )
        slab = x[np.ix_(*positions)]
        y[box.where] = slabs.compute(steps, arrays, activations, "numpy", slab, needed, workspace)
    np.testing.assert_array_equal(y, whole(layers, arrays, x))


def test_circular_slabs_do_not_multiply() -> None:
    """Each layer's slab wraps; what they read stays two ranges an axis."""
    layer = Layer(ConvSpec(1, 1, 3, padding=1, padding_mode="circular", layout="NCHW"), bias="b")
    steps = problems([layer] * 8, (1, 1, 100, 100))
    needed = slabs.needs(steps, {"N": (0, 1), "C": (0, 1), "H": (0, 10), "W": (95, 100)})
    assert needed[0]["H"] == ((0, 18), (92, 100))
    assert needed[0]["W"] == ((0, 8), (87, 100))


# ---- memory ----

CHAIN = [
    Layer(ConvSpec(1, 8, 3, padding="same", layout="NCDHW"), "w0", "b0"),
    Layer(ConvSpec(8, 1, 5, padding="same", layout="NCDHW"), "w1", "b1"),
]
COSTS = sizing.Costs(4, 2)


@pytest.mark.parametrize("limit", [2**20, 2**24, 2**28, 2**34])
def test_tiles_fit_the_memory(limit: int) -> None:
    steps = problems(CHAIN, (1, 1, 512, 512, 512))
    plan = sizing.choose(steps, COSTS, limit)
    assert plan is not None
    assert plan.bytes <= min(limit, sizing.LARGEST_TILE)
    chunks = sizing.cuts(steps[-1].output_shape, plan.tile, 4, 2**16)
    assert all(t % c == 0 or t >= 512 for t, c in zip(plan.tile, chunks, strict=True))
    more = sizing.choose(steps, COSTS, limit, at_least=4)
    assert more is not None
    assert len(Tiles(steps[-1], more.tile)) >= 4


def test_what_cannot_fit_says_what_could() -> None:
    steps = problems(CHAIN, (1, 1, 64, 64, 64))
    least = sizing.smallest(steps, COSTS)
    assert sizing.choose(steps, COSTS, least.bytes - 1) is None
    found = sizing.choose(steps, COSTS, 4 * least.bytes)
    assert found is not None
    assert found.bytes <= 4 * least.bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 2**30), ("1.5 gb", 3 * 2**29), ("500MB", 500 * 2**20), ("64KiB", 2**16), (12, 12)],
)
def test_sizes_of_memory(text: Any, size: int) -> None:
    assert sizing.bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", 0, True, "1 TBB", None])
def test_no_sizes_of_memory(text: Any) -> None:
    with pytest.raises(ConvSpecError, match="memory: expected bytes, such as 1GB"):
        sizing.bytes_of(text)


# ---- activations and descriptions ----


def test_activations_are_torchs() -> None:
    import torch

    x = np.linspace(-9, 9, 2001)
    given = torch.from_numpy(x)
    functional = torch.nn.functional
    expected = {
        "identity": given,
        "relu": functional.relu(given),
        "leaky_relu": functional.leaky_relu(given),
        "elu": functional.elu(given),
        "sigmoid": functional.sigmoid(given),
        "tanh": functional.tanh(given),
        "silu": functional.silu(given),
        "softplus": functional.softplus(given, threshold=1000),
        "gelu": functional.gelu(given),
        "gelu_tanh": functional.gelu(given, approximate="tanh"),
    }
    assert set(expected) == set(FORMULAS)
    for name, values in expected.items():
        # Both round a few operations of values up to 9.
        np.testing.assert_allclose(Activation(name)(x.copy()), values.numpy(), atol=1e-14, rtol=0)
    sloped = Activation.of({"name": "leaky_relu", "slope": 0.5})
    assert sloped(np.array([-4.0, 4.0])).tolist() == [-2, 4]
    assert Activation.of(sloped.to_value()) == sloped


def test_half_types_are_rounded_once() -> None:
    x = np.linspace(-3, 3, 999).astype("float16")
    expected = Activation("silu")(x.astype("float32")).astype("float16")
    np.testing.assert_array_equal(Activation("silu")(x.copy()), expected)
    read_only = np.ones(3)[:]
    read_only.flags.writeable = False
    assert Activation("relu")(read_only).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("rellu", "'rellu' is none of identity, relu"),
        ({"name": "relu", "slope": 1}, "'relu' has no slope"),
        ({"name": "elu", "alpha": "1"}, "takes a number"),
        ({}, "None is none of"),
    ],
    ids=str,
)
def test_activations_that_are_none(value: Any, message: str) -> None:
    with pytest.raises(ConvSpecError, match=message):
        Activation.of(value)


SPEC = ConvSpec(1, 2, 3, padding="same", layout="NCDHW")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "expected a spec or a list"),
        ("x", "expected a spec or a list"),
        ([{"weight": "w"}], "layer 0: expected a mapping with a 'spec'"),
        ([{"spec": 3}], "layer 0: spec: expected what"),
        ([{"spec": SPEC.to_dict(), "wait": 1}], "layer 0: unknown keys wait"),
        (
            [{"spec": SPEC.to_dict(), "weight": 3, "bias": "b"}],
            "layer 0: weight: expected the name",
        ),
        ([{"spec": SPEC.to_dict()}], "bias=True, but no bias is named"),
        ([SPEC, {"spec": {**SPEC.to_dict(), "in_channels": 0}}], "layer 1: in_channels"),
        ({"layers": [SPEC], "format_version": "2.0"}, "format version 2.0"),
        ({"layers": [SPEC], "more": 1}, "unknown keys more"),
    ],
    ids=str,
)
def test_descriptions_that_make_no_chain(value: Any, message: str) -> None:
    with pytest.raises(ConvSpecError, match=message):
        as_chain(value)


def test_descriptions_in_files(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    layers = (Layer(SPEC, "w", "b", Activation("elu", 2)), Layer(SPEC.replace(bias=False), "v"))
    path.write_text(json.dumps({"layers": [layer.to_value() for layer in layers]}))
    assert read_chain(path) == layers
    path.write_text(json.dumps(SPEC.to_dict()))
    assert read_chain(path) == (Layer(SPEC, "weight", "bias"),)
    path.write_text("{")
    with pytest.raises(ConvertError, match="is no JSON"):
        read_chain(path)
    with pytest.raises(ConvertError, match="cannot be read"):
        read_chain(tmp_path / "none.json")


def test_layers_that_do_not_follow_one_another() -> None:
    with pytest.raises(ShapeError, match="layer 1: x: has 2 channels"):
        problems(as_chain([SPEC, SPEC]), (1, 1, 8, 8, 8))
    with pytest.raises(LayoutError, match="layer 1: its layout is 'NCTHW'"):
        problems(as_chain([SPEC, ConvSpec(2, 1, 3, layout="NCTHW")]), (1, 1, 8, 8, 8))


# ---- the journal ----


def test_a_line_that_was_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.part.journal"
    journal = Journal(path)
    journal.begin({"plan": {}})
    for number in (3, 12, 5):
        journal.add(number, 100 * number)
    journal.close()
    text = path.read_bytes()
    for end in range(len(text)):
        path.write_bytes(text[:end])
        journal = Journal(path)
        lines = text[:end].count(b"\n")
        assert journal.done == {n: 100 * n for n in [3, 12, 5][: max(lines - 1, 0)]}
        assert (journal.header is None) == (lines == 0)
        if journal.header is not None:
            journal.add(7, 0)
        journal.close()
        if lines:
            journal = Journal(path)
            assert 7 in journal.done
            journal.close()
        else:
            assert not path.exists()


def test_a_journal_has_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convspec.volumes.journal.PATIENCE", 0.0)
    journal = Journal(tmp_path / "x")
    with pytest.raises(ConvertError, match="another run"):
        Journal(tmp_path / "x")
    journal.close()
    Journal(tmp_path / "x").close()


# ---- files, computed by workers ----

A = ConvSpec(1, 4, 3, padding="same", layout="NCDHW")
B = ConvSpec(4, 2, (3, 5, 3), padding=1, stride=(1, 2, 1), layout="NDHWC", weight_layout="DHWIO")
NET = [Layer(A, "a", "ab", Activation("relu")), Layer(B, "b", "bb")]


def made(folder: Path, *, wide: bool = False) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Weights, a volume of small integers with axes DHW, and the net's result with axes CDHW."""
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (40, 24, 22)).astype("float32" if wide else "int16")
    weights = {
        "a": rng.integers(-2, 3, A.weight_shape).astype("float32"),
        "ab": rng.integers(-2, 3, 4).astype("float32"),
        "b": rng.integers(-2, 3, B.weight_shape).astype("float32"),
        "bb": rng.integers(-2, 3, 2).astype("float32"),
    }
    arrays = [(weights["a"], weights["ab"]), (weights["b"], weights["bb"])]
    y = whole(NET, arrays, x.astype("float32")[None, None])
    np.savez(folder / "w.npz", **weights)
    (folder / "net.json").write_text(json.dumps([layer.to_value() for layer in NET]))
    return weights, x, y[0].transpose(3, 0, 1, 2)


def stored(folder: Path, x: np.ndarray, chunk: int = 16) -> Path:
    """The volume as a zarr store of somebody else."""
    store = zarr.create_array(
        folder / "x.zarr", shape=x.shape, dtype=x.dtype, chunks=(chunk,) * x.ndim
    )
    store[...] = x
    return folder / "x.zarr"


def content(path: Path) -> np.ndarray:
    with open_file(path) as reader:
        return np.array(reader.read("array"))


def left(folder: Path) -> set[str]:
    """What runs have left in the folder beside what was there."""
    return {path.name for path in folder.iterdir()} - {"w.npz", "net.json", "x.npy", "x.zarr"}


def command(folder: Path, volume: str, out: str, *more: str) -> list[str]:
    options = ["--spec", str(folder / "net.json"), "--weights", str(folder / "w.npz")]
    return ["apply", *options, str(folder / volume), str(folder / out), *more]


@pytest.mark.parametrize("out", ["y.npy", "y.zarr", "y.nii", "y.nii.gz"])
def test_every_format_of_result(out: str, tmp_path: Path) -> None:
    weights, x, expected = made(tmp_path)
    np.save(tmp_path / "x.npy", x.transpose(2, 0, 1))
    done = apply(
        NET,
        weights,
        tmp_path / "x.npy",
        tmp_path / out,
        tile=(11, 7, 22),
        source_layout="WDH",
        target_layout="HWDC",
    )
    np.testing.assert_array_equal(content(tmp_path / out), expected.transpose(2, 3, 1, 0))
    assert (done.layout, done.tiles, done.resumed) == ("HWDC", 8, 0)
    assert left(tmp_path) == {out}
    if out == "y.zarr":  # no two tiles share a chunk
        chunks = zarr.open(tmp_path / out).chunks
        assert all(
            t % c == 0 or t == n for t, c, n in zip(done.tile, chunks, done.shape, strict=True)
        )


def test_the_command_and_its_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, x, expected = made(tmp_path)
    stored(tmp_path, x)
    assert main(command(tmp_path, "x.zarr", "y.zarr", "--engine", "torch")) == 0
    np.testing.assert_array_equal(content(tmp_path / "y.zarr"), expected.transpose(1, 2, 3, 0))
    out, err = capsys.readouterr()
    assert "float32 DHWC (40, 11, 22, 2), by torch" in out
    assert err == ""
    assert main(command(tmp_path, "x.zarr", "y.zarr")) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(command(tmp_path, "x.zarr", "z.npy", "--memory", "400MB", "--jobs", "2")) == 0
    np.testing.assert_array_equal(content(tmp_path / "z.npy"), content(tmp_path / "y.zarr"))


def test_a_killed_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, x, _ = made(tmp_path)
    np.save(tmp_path / "x.npy", np.random.default_rng(1).standard_normal(x.shape, "float32"))
    apply(NET, weights, tmp_path / "x.npy", tmp_path / "whole.npy", tile=8)
    words = command(tmp_path, "x.npy", "y.npy", "--tile", "8", "--jobs", "2")
    run = subprocess.Popen([sys.executable, "-m", "convspec", *words], stderr=subprocess.PIPE)
    journal = tmp_path / "y.npy.part.journal"
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 5)
    run.kill()
    assert run.communicate()[1] == b""
    assert run.returncode == -signal.SIGKILL
    assert left(tmp_path) == {"whole.npy", "y.npy.part", "y.npy.part.journal"}
    assert main(words) == 0  # the very same command
    found = re.search(r"(\d+) of them by an earlier run", capsys.readouterr().out)
    assert found is not None
    assert int(found[1]) >= 5
    assert (tmp_path / "y.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert left(tmp_path) == {"whole.npy", "y.npy"}


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_killed_worker_is_told_with_its_tile(tmp_path: Path) -> None:
    weights, x, expected = made(tmp_path)
    np.save(tmp_path / "x.npy", x)

    def kill(done: int, total: int, what: str) -> None:
        me = os.getpid()
        if done == 3:
            for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split():
                arguments = Path(f"/proc/{pid}/cmdline")
                if arguments.exists() and b"convspec.volumes.worker" in arguments.read_bytes():
                    os.kill(int(pid), signal.SIGKILL)

    out = tmp_path / "y.zarr"
    with pytest.raises(ConvertError, match=r"tile \d+ of 24 \(N 0:1, D .*SIGKILL") as caught:
        apply(NET, weights, tmp_path / "x.npy", out, tile=(10, 6, 8), progress=kill)
    count = re.search(r"(\d+) of 24 tiles are done; the same command goes on", str(caught.value))
    assert count is not None
    assert left(tmp_path) == {"y.zarr.part", "y.zarr.part.journal"}
    # A chunk of what was done gets lost: it is computed again.
    next(path for path in (tmp_path / "y.zarr.part").rglob("c/0/0/0/0")).unlink()
    done = apply(NET, weights, tmp_path / "x.npy", out)
    assert done.resumed == int(count[1]) - 1
    np.testing.assert_array_equal(content(out), expected.transpose(1, 2, 3, 0))


def test_something_else_does_not_go_on(tmp_path: Path) -> None:
    weights, x, expected = made(tmp_path)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "y.npy"

    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(NET, weights, tmp_path / "x.npy", out, tile=20, progress=stop)
    other = weights | {"bb": weights["bb"] + 1}
    with pytest.raises(ConvertError, match="something else; since then the weights changed"):
        apply(NET, other, tmp_path / "x.npy", out)
    with pytest.raises(ConvertError, match="since then the tiles changed"):
        apply(NET, weights, tmp_path / "x.npy", out, tile=19)
    os.utime(tmp_path / "x.npy")
    with pytest.raises(ConvertError, match="since then the volume changed"):
        apply(NET, weights, tmp_path / "x.npy", out)
    apply(NET, weights, tmp_path / "x.npy", out, restart=True)
    np.testing.assert_array_equal(content(out), expected.transpose(1, 2, 3, 0))


def test_damaged_and_missing_chunks(tmp_path: Path) -> None:
    weights, x, expected = made(tmp_path)
    store, out = stored(tmp_path, x), tmp_path / "y.npy"
    chunk = store / "c/2/1/0"
    kept = chunk.read_bytes()
    chunk.write_bytes(kept[:-9])
    with pytest.raises(ConvertError, match=r"tile 2 of 6 \(.*damaged in chunk c/2/1/0") as caught:
        apply(NET, weights, store, out, tile=(16, 12, 11), format="npy")
    assert "2 of 6 tiles are done" in str(caught.value)
    chunk.unlink()
    with pytest.raises(
        ConvertError, match=r"tile 2 of 6 \(.*chunk c/2/1/0 is not there.*\n.*--fill"
    ):
        apply(NET, weights, store, out, tile=(16, 12, 11), restart=True)
    chunk.write_bytes(kept)
    apply(NET, weights, store, out, tile=(16, 12, 11), restart=True)
    np.testing.assert_array_equal(content(out), expected.transpose(1, 2, 3, 0))
    chunk.unlink()
    apply(NET, weights, store, out, fill=True, force=True)
    x[32:, 16:, :16] = 0
    arrays = [(weights["a"], weights["ab"]), (weights["b"], weights["bb"])]
    filled = whole(NET, arrays, x.astype("float32")[None, None])
    np.testing.assert_array_equal(content(out), filled[0])


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Sets the size that files may have, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(tmp_path: Path, small_files: Callable[[int], None]) -> None:
    weights, x, expected = made(tmp_path)
    np.save(tmp_path / "x.npy", x)
    small_files(4096)
    with pytest.raises(
        ConvertError, match=r"y.npy.part: cannot be written: File too large; it needs"
    ):
        apply(NET, weights, tmp_path / "x.npy", tmp_path / "y.npy", tile=20)
    assert left(tmp_path) == set()
    with pytest.raises(ConvertError, match=r"tile 0 of \d+ \(N 0:1, D 0:20.*File too large"):
        apply(NET, weights, tmp_path / "x.npy", tmp_path / "y.zarr", tile=20)
    small_files(2**30)
    apply(NET, weights, tmp_path / "x.npy", tmp_path / "y.zarr")
    np.testing.assert_array_equal(content(tmp_path / "y.zarr"), expected.transpose(1, 2, 3, 0))


def test_what_a_worker_frees_is_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a setting of glibc's, which a process reads at its start; JAX took 1.1 times the limit."""
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0")
    with (tmp_path / "lock").open("w") as lock, Crew(1, lock.fileno()) as crew:
        (worker,) = crew._workers
        environment = Path(f"/proc/{worker.process.pid}/environ")
        while not (text := environment.read_bytes()):  # it has not begun its program yet
            assert worker.process.poll() is None
            time.sleep(0.01)
        settings = text.split(b"\0")
    assert b"MALLOC_MMAP_THRESHOLD_=1048576" in settings
    assert not any(setting.startswith(b"GLIBC_TUNABLES") for setting in settings)


def test_too_little_memory(tmp_path: Path) -> None:
    weights, x, _ = made(tmp_path)
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(
        ConvSpecError, match="the smallest possible tile, one position, needs"
    ) as told:
        apply(NET, weights, tmp_path / "x.npy", tmp_path / "y.npy", memory="100MB")
    assert "memory: 100 MB is too little" in str(told.value)
    least = str(told.value).split("engine ")[1].split(" in all")[0]
    assert left(tmp_path) == set()
    enough = sizing.bytes_of(least) + 2**20  # it is told in three digits
    apply(NET, weights, tmp_path / "x.npy", tmp_path / "y.npy", memory=enough)


def test_voxels_keep_their_place(tmp_path: Path) -> None:
    """A blob's centre of mass in millimetres is the same before and after."""
    nibabel = pytest.importorskip("nibabel")
    x = np.zeros((40, 30, 20), "float32")
    x[20:23, 13:16, 9:12] = 1
    place = np.array([[0, -2, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 1], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(x, place), tmp_path / "x.nii")
    down = ConvSpec(1, 1, 5, stride=(2, 1, 3), padding=((2, 1), (0, 4), "same"), layout="NCXYZ")
    up = ConvSpec(1, 1, 4, stride=2, padding=1, transposed=True, layout="NCXYZ")
    chain = [Layer(down.replace(bias=False), "d"), Layer(up.replace(bias=False), "u")]
    ones = {"d": np.ones(down.weight_shape, "float32"), "u": np.ones(up.weight_shape, "float32")}
    apply(chain, ones, tmp_path / "x.nii", tmp_path / "y.nii")
    centres = []
    for name in ("x.nii", "y.nii"):
        image = nibabel.load(tmp_path / name)
        values = np.asarray(image.dataobj)
        at = [
            np.average(np.arange(n), weights=values.sum(tuple({0, 1, 2} - {i})))
            for i, n in enumerate(values.shape)
        ]
        centres.append(image.affine @ [*at, 1])
    np.testing.assert_allclose(centres[0], centres[1], atol=1e-6)  # float32 in the header


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"engine": "nothing"}, ConvSpecError, "'nothing' is not registered"),
        ({"out": "y.h5"}, ConvertError, "cannot be written in parts"),
        ({"weights": {"a": 1}}, ConvertError, "layer 0: weights hold no array 'ab'"),
        ({"source_layout": "DHX"}, LayoutError, "source_layout: expected the axes of 'NCDHW'"),
        ({"source_layout": "NDHW"}, LayoutError, "names 4 axes, but the volume has 3"),
        ({"target_layout": "DHW"}, LayoutError, "target_layout: expected the axes of 'NDHWC'"),
        ({"tile": (3, 3)}, ShapeError, "tile: expected a size for each spatial axis"),
        ({"tile": 0}, ConvSpecError, "tile"),
        ({"jobs": 0}, ConvSpecError, "jobs"),
        ({"dtype": "int8"}, DTypeError, "float32"),
        ({"volume": "wide.npy"}, DTypeError, "is float64, the weights are float32"),
        ({"volume": "flat.npy"}, LayoutError, "shape .24, 22., the first spec the layout"),
        ({"volume": "w.npz"}, ConvertError, "cannot be read in parts"),
        ({"volume": "none.npy"}, ConvertError, "there is no such file"),
        ({"out": "x.npy", "force": True}, ConvertError, "is read as well"),
    ],
    ids=str,
)
def test_bad_input(change: Any, error: Any, message: str, tmp_path: Path) -> None:
    weights, x, _ = made(tmp_path)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "wide.npy", x.astype("float64"))
    np.save(tmp_path / "flat.npy", x[0])
    before = left(tmp_path)
    options = {"weights": weights, "volume": "x.npy", "out": "y.npy"} | change
    volume, out = tmp_path / options.pop("volume"), tmp_path / options.pop("out")
    if "int8" in options.values():
        x = x.astype("float32")
        np.save(tmp_path / "x.npy", x)
    with pytest.raises(error, match=message):
        apply(NET, options.pop("weights"), volume, out, **options)
    assert left(tmp_path) == before


def test_an_engine_that_cannot(tmp_path: Path) -> None:
    spec = ConvSpec(1, 1, (1, 1), layout="NCHW", bias=False)
    np.save(tmp_path / "x.npy", np.ones((8, 4), "float32"))
    weights = {"any": np.ones(spec.weight_shape, "complex64")}
    with pytest.raises(UnsupportedError, match="layer 0: "):
        apply(spec, weights, tmp_path / "x.npy", tmp_path / "y.npy", engine="onnxruntime")
    apply(spec, weights, tmp_path / "x.npy", tmp_path / "y.npy")
    assert content(tmp_path / "y.npy").sum() == 32


@pytest.mark.parametrize("kind", ["mask", "scaled", "hdf5"])
def test_other_volumes(kind: str, tmp_path: Path) -> None:
    """A mask is 0 and 1; a NIfTI's scale and offset are applied; HDF5 is read by name."""
    spec = SPEC.replace(bias=False, out_channels=1, padding_mode="circular", padding=1)
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (12, 9, 8))
    options: dict[str, Any] = {"tile": 8}
    path = tmp_path / "x.npy"
    if kind == "mask":
        np.save(path, x > 0)
        x = x > 0
    elif kind == "scaled":
        import nibabel

        image = nibabel.Nifti1Image(x.astype("int16"), np.eye(4))
        image.header.set_slope_inter(2, 1)
        path = tmp_path / "x.nii"
        nibabel.save(image, path)
        x = 2 * x + 1
        options["dtype"] = "float32"
    else:
        import h5py

        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            file["a/b"], file["c"] = x.astype("int8"), np.ones(3)
        options["name"] = "a/b"
    weight = rng.integers(-2, 3, spec.weight_shape).astype("float32")
    apply(spec, {"any": weight}, path, tmp_path / "y.npy", **options)
    expected = spec(x.astype("float32")[None, None], weight)[0, 0]
    np.testing.assert_array_equal(content(tmp_path / "y.npy"), expected)
