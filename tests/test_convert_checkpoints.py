"""Checkpoints: every format, names, kinds and where they are known from, plans, proofs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convspec import ConvSpec, cli
from convspec.convert import ConvertError, checkpoint, inspect
from convspec.convert.files import CHECKPOINTS, Entry, create, open_file
from convspec.convert.kinds import read_rules

#: Endings by format.
FILES = {
    "npz": "x.npz",
    "safetensors": "x.safetensors",
    "safetensors-sharded": "shards",
    "hdf5": "x.h5",
    "keras-weights": "x.weights.h5",
    "torch": "x.pt",
    "msgpack": "x.msgpack",
    "orbax": "x.orbax",
    "tensorflow": "x.ckpt",
    "onnx": "x.onnx",
    "onnx-external": "model",
}


def save(path: Path, arrays: Mapping[str, Any], format: str = "safetensors") -> Path:
    entries = {name: Entry(array.shape, array.dtype) for name, array in arrays.items()}
    writer = create(path, format, entries)
    for name, array in arrays.items():
        writer.write(name, (slice(None),) * array.ndim, array)
    writer.finish()
    writer.close()
    return path


def counting(*shape: int) -> Any:
    return np.arange(1, 1 + np.prod(shape), dtype="float32").reshape(shape)


def network() -> dict[str, Any]:
    """A torch state dict with every kind of layer; nothing in it can be read two ways.

    Seven features cannot be channels and positions.
    """
    return {
        "stem.conv.weight": counting(4, 3, 3, 3),
        "stem.conv.bias": counting(4),
        "stem.bn.weight": counting(4),
        "stem.bn.bias": counting(4),
        "stem.bn.running_mean": counting(4),
        "stem.bn.running_var": counting(4),
        "stem.bn.num_batches_tracked": np.array(7),
        "prelu.weight": counting(4),
        "up.deconv.weight": counting(4, 7, 2, 2),
        "up.deconv.bias": counting(7),
        "head.0.weight": counting(5, 7),
        "head.0.bias": counting(5),
        "ln.weight": counting(5),
        "ln.bias": counting(5),
        "embed.weight": counting(9, 5),
        "scale": np.array(2.5, "float32"),
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "model.safetensors", network())


# ---- formats ----


@pytest.mark.parametrize("format", [name for name in CHECKPOINTS if name != "keras"])
def test_every_format_there_and_back(format: str, source: Path) -> None:
    there, back = source.with_name(FILES[format]), source.with_name("back.safetensors")
    target = {"keras-weights": "keras", "torch": "torch", "onnx": "onnx"}.get(format, "flax")
    checkpoint(source, there, "torch", target, format=format, verify=True)
    # Where no metadata is kept, the words in the names say what is needed.
    report = checkpoint(there, back, target, "torch", verify=True, rules={"prelu*": "prelu"})
    assert all(check.error <= 1 for check in report.checks)
    with open_file(back) as reader:
        expected = network()
        counter = expected.pop("stem.bn.num_batches_tracked")
        for name, array in expected.items():
            np.testing.assert_array_equal(reader.read(name), array, strict=True)
        if target in ("torch", "onnx"):
            np.testing.assert_array_equal(reader.read("stem.bn.num_batches_tracked"), counter)
        else:
            assert "stem.bn.num_batches_tracked" not in reader.entries


def test_our_files_open_in_their_own_packages(source: Path) -> None:
    import flax.serialization
    import h5py
    import onnx
    import safetensors.numpy
    import tensorflow as tf
    import torch

    expected = network()["stem.conv.weight"]
    folder = source.parent
    checkpoint(source, folder / "a.safetensors", "torch", "torch")
    loaded = safetensors.numpy.load_file(folder / "a.safetensors")
    np.testing.assert_array_equal(loaded["stem.conv.weight"], expected)
    checkpoint(source, folder / "a.pt", "torch", "torch")
    state = torch.load(folder / "a.pt", weights_only=True)
    np.testing.assert_array_equal(state["stem.conv.weight"].numpy(), expected)
    hwio = expected.transpose(2, 3, 1, 0)
    checkpoint(source, folder / "a.msgpack", "torch", "flax")
    tree = flax.serialization.msgpack_restore((folder / "a.msgpack").read_bytes())
    np.testing.assert_array_equal(tree["stem"]["conv"]["kernel"], hwio)
    checkpoint(source, folder / "a.ckpt", "torch", "tensorflow")
    reader = tf.train.load_checkpoint(str(folder / "a.ckpt" / "ckpt"))
    value = reader.get_tensor("stem/conv/kernel/.ATTRIBUTES/VARIABLE_VALUE")
    np.testing.assert_array_equal(value, hwio)
    checkpoint(source, folder / "a.h5", "torch", "keras")
    with h5py.File(folder / "a.h5") as file:
        np.testing.assert_array_equal(file["stem/conv/kernel"][()], hwio)
    checkpoint(source, folder / "a", "torch", "onnx", format="onnx-external")
    model = onnx.load(folder / "a" / "model.onnx")
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(values["stem.conv.weight"], expected)


def test_their_files_open_here(tmp_path: Path) -> None:
    import flax.serialization
    import safetensors.numpy
    import torch
    from flax import nnx

    x = counting(2, 3)
    safetensors.numpy.save_file({"b": x, "a": x.astype("f2")}, tmp_path / "a.safetensors")
    torch.save({"epoch": 3, "state_dict": {"x": torch.tensor(x).T}}, tmp_path / "a.pt")
    half = {"params": {"x": x, "y": {"0": np.int8([1, 2])}}}
    (tmp_path / "a.msgpack").write_bytes(flax.serialization.to_bytes(half))
    with open_file(tmp_path / "a.safetensors") as reader:
        np.testing.assert_array_equal(reader.read("a"), x.astype("f2"), strict=True)
    with open_file(tmp_path / "a.pt") as reader:
        np.testing.assert_array_equal(reader.read("x"), x.T, strict=True)
        assert reader.skipped == {"epoch": "lies beside state_dict"}
    with open_file(tmp_path / "a.msgpack") as reader:
        np.testing.assert_array_equal(reader.read("params/x"), x, strict=True)
        assert reader.read("params/y/0").dtype == np.int8
    import orbax.checkpoint

    layer = nnx.Conv(2, 3, (3,), rngs=nnx.Rngs(0))
    with orbax.checkpoint.StandardCheckpointer() as saver:
        saver.save(tmp_path / "orbax", nnx.state(layer))
    report = checkpoint(
        tmp_path / "orbax", tmp_path / "b.npz", "flax", "torch", rules={"*": "conv"}
    )
    assert {a.target: a.target_shape for a in report.plan.actions} == {
        "weight": (3, 2, 3),
        "bias": (3,),
    }


def test_shards(source: Path) -> None:
    path = source.with_name("shards")
    entries = {name: Entry(a.shape, a.dtype) for name, a in network().items()}
    writer = create(path, "safetensors-sharded", entries, limit=500)
    for name, array in network().items():
        writer.write(name, (slice(None),) * array.ndim, array)
    writer.finish()
    assert len(list(path.glob("*.safetensors"))) == 3
    for named in (path, path / "model.safetensors.index.json"):
        with open_file(named) as reader:
            for name, array in network().items():
                np.testing.assert_array_equal(reader.read(name), array, strict=True)


# ---- names and kinds ----


def test_names_are_the_targets_own(source: Path) -> None:
    def names(target: str, **options: Any) -> dict[str, str]:
        report = checkpoint(source, source.with_name("x.npz"), "torch", target, dry_run=True)
        return {action.name: action.target for action in report.plan.actions}

    keras = names("keras")
    assert keras["stem.conv.weight"] == "stem/conv/kernel"
    assert keras["stem.bn.weight"] == "stem/bn/gamma"
    assert keras["stem.bn.running_var"] == "stem/bn/moving_variance"
    assert keras["stem.bn.num_batches_tracked"] == ""
    assert keras["prelu.weight"] == "prelu/alpha"
    assert keras["embed.weight"] == "embed/embeddings"
    flax = names("flax")
    assert flax["head.0.weight"] == "head/0/kernel"
    assert flax["ln.weight"] == "ln/scale"
    assert flax["stem.bn.running_mean"] == "stem/bn/mean"
    assert names("mlx")["ln.weight"] == "ln.weight"
    assert names("mxnet")["ln.weight"] == "ln.gamma"


def test_shapes_and_actions(source: Path) -> None:
    report = checkpoint(source, source.with_name("x.npz"), "torch", "jax", dry_run=True)
    done = {action.name: (action.target_shape, str(action)) for action in report.plan.actions}
    assert done["stem.conv.weight"] == ((3, 3, 3, 4), "OIHW -> HWIO")
    assert done["up.deconv.weight"] == ((2, 2, 4, 7), "IOHW -> HWIO, flip")
    assert done["head.0.weight"] == ((7, 5), "transpose")
    assert done["embed.weight"] == ((9, 5), "copy")
    assert done["stem.bn.num_batches_tracked"][1] == "left out: jax has no such counter"
    assert not report.written
    assert not source.with_name("x.npz").exists()


def stops(arrays: Mapping[str, Any], folder: Path, *lines: str, **options: Any) -> None:
    path = save(folder / "open.safetensors", arrays)
    with pytest.raises(ConvertError) as caught:
        checkpoint(path, folder / "out.npz", "torch", options.pop("target", "keras"), **options)
    for line in lines:
        assert line in str(caught.value)
    assert not (folder / "out.npz").exists()
    path.unlink()


def test_what_can_be_read_two_ways_stops(tmp_path: Path) -> None:
    square = {"block.weight": counting(8, 8, 3, 3), "block.bias": counting(8)}
    line = '"block.weight" = "conv"  # or "conv_transpose"'
    stops(square, tmp_path, line, "1 of 2 tensors can be read", "block.weight (8, 8, 3, 3)")
    stops({"block.weight": counting(8, 4, 3, 3)}, tmp_path, line, "has no bias to tell them")
    depthwise = {"block.weight": counting(8, 1, 3, 3), "block.bias": counting(8)}
    stops(depthwise, tmp_path, '"block.weight" = "conv"  # or "depthwise"')
    stops({"x.weight": counting(3, 3)}, tmp_path, '"x.weight" = "dense"  # or "embedding", "copy"')
    stops({"x.weight": counting(3)}, tmp_path, '"x.weight" = "norm"  # or "prelu", "copy"')
    stops({"lstm.weight_ih_l0": counting(4, 3)}, tmp_path, '"lstm.weight_ih_l0" = "copy"')


def test_the_line_that_is_printed_is_the_remedy(tmp_path: Path) -> None:
    arrays = {
        "conv.weight": counting(8, 8, 3, 3),
        "fc.weight": counting(2, 72),
        "fc.bias": counting(2),
        "lstm.weight_hh_l0": counting(4, 3),
    }
    path = save(tmp_path / "m.safetensors", arrays)
    with pytest.raises(ConvertError) as caught:
        checkpoint(path, tmp_path / "out.npz", "torch", "keras")
    rules = tmp_path / "rules.toml"
    rules.write_text(str(caught.value).partition("(--model):\n")[2])
    checkpoint(path, tmp_path / "out.npz", "torch", "keras", rules=rules)
    rows = np.load(tmp_path / "out.npz")["fc/kernel"]
    expected = arrays["fc.weight"].reshape(2, 8, 9).transpose(2, 1, 0).reshape(72, 2)
    np.testing.assert_array_equal(rows, expected)


def test_dense_behind_a_flatten_by_hand(tmp_path: Path) -> None:
    """Rows (C, H, W) go to (H, W, C); asked for by letters and sizes, or by channels."""
    arrays = {"conv.weight": counting(2, 3, 1, 1), "conv.bias": counting(2)}
    arrays |= {"fc.weight": counting(1, 2 * 3 * 4)}
    path = save(tmp_path / "m.safetensors", arrays)
    for flatten in (2, {"layout": "CHW", "shape": [2, 3, 4]}):
        rules = {"fc.weight": {"kind": "dense", "flatten": flatten}}
        checkpoint(path, tmp_path / "o.npz", "torch", "keras", rules=rules, force=True, verify=True)
        rows = np.load(tmp_path / "o.npz")["fc/kernel"][:, 0]
        for c, h, w in np.ndindex(2, 3, 4):
            assert rows[h * 8 + w * 2 + c] == arrays["fc.weight"][0, c * 12 + h * 4 + w]
    rules = {"fc.weight": {"kind": "dense", "flatten": {"layout": "WHC", "shape": [4, 3, 2]}}}
    checkpoint(path, tmp_path / "o.npz", "torch", "keras", rules=rules, force=True)
    rows = np.load(tmp_path / "o.npz")["fc/kernel"][:, 0]
    for c, h, w in np.ndindex(2, 3, 4):
        assert rows[h * 8 + w * 2 + c] == arrays["fc.weight"][0, w * 6 + h * 2 + c]


def test_dense_that_needs_no_question(tmp_path: Path) -> None:
    """Features whose number is prime, rules for all layers at once, or nothing that moves."""
    arrays = {"conv.weight": counting(7, 3, 3, 3), "conv.bias": counting(7)}
    pooled = arrays | {"fc1.weight": counting(13, 7), "fc2.weight": counting(3, 13)}
    path = save(tmp_path / "a.safetensors", pooled)
    checkpoint(path, tmp_path / "a.npz", "torch", "keras")
    flat = arrays | {"fc1.weight": counting(13, 28)}
    path = save(tmp_path / "b.safetensors", flat)
    checkpoint(path, tmp_path / "b.onnx", "torch", "onnx")
    with pytest.raises(ConvertError, match="28 inputs, perhaps flattened channels"):
        checkpoint(path, tmp_path / "b.npz", "torch", "keras")
    # The question is put off, not answered, where nothing moves.
    with pytest.raises(ConvertError, match="28 inputs, perhaps flattened channels"):
        checkpoint(tmp_path / "b.onnx", tmp_path / "b.npz", target="keras")
    rules = {"fc*": {"flatten": False, "unflatten": False}}
    checkpoint(path, tmp_path / "b.npz", "torch", "keras", rules=rules)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npz")["fc1/kernel"], flat["fc1.weight"].T)


def test_groups_and_depthwise(tmp_path: Path) -> None:
    grouped, depthwise = counting(6, 2, 3, 3), counting(8, 1, 3, 3)
    path = save(tmp_path / "m.safetensors", {"g.weight": grouped, "d.weight": depthwise})
    rules = {
        "g.weight": {"kind": "conv_transpose", "groups": 3},
        "d.weight": {"kind": "depthwise", "groups": 4},
    }
    report = checkpoint(path, tmp_path / "o.npz", "torch", "keras", rules=rules, verify=True)
    assert [check.error <= 1 for check in report.checks] == [True, True]
    found = np.load(tmp_path / "o.npz")
    assert found["g/kernel"].shape == (3, 3, 2, 6)
    assert found["d/kernel"].shape == (3, 3, 4, 2)
    expected = depthwise.reshape(4, 2, 3, 3).transpose(2, 3, 0, 1)
    np.testing.assert_array_equal(found["d/kernel"], expected)
    checkpoint(path, tmp_path / "j.npz", "torch", "jax", rules=rules, verify=True)
    spec = ConvSpec(6, 6, (3, 3), groups=3, transposed=True)
    np.testing.assert_array_equal(
        np.load(tmp_path / "j.npz")["g/kernel"], spec.convert_weight(grouped, "jax")
    )


# ---- rules ----


def test_rules_precedence_and_report(tmp_path: Path) -> None:
    rules = read_rules({"a*": "conv", "ab.weight": "copy", "*": "skip", "zz": "conv"})
    assert rules.find("ab.weight") is not None
    found = [rules.find(name) for name in ("ab.weight", "ac", "x")]
    assert [kind and kind.name for kind in found] == ["copy", "conv", "skip"]
    assert rules.unused == ["zz"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"a": "convolve"}, "rules: 'a' is 'convolve'; kinds are conv, "),
        ({"a": 3}, "expected a kind, or a table"),
        ({"a": {"kind": "conv", "size": 3}}, "the option 'size', but the kind 'conv' has stride"),
        ({"a": {"kind": "copy", "rank": 3}}, "'rank', but the kind 'copy' has axes"),
        ({"a": {"kind": "embedding", "rank": 3}}, "the kind 'embedding' has no options"),
        ({"a": {"kind": "copy", "axes": "chw"}}, "has axes 'chw'; they are letters, as in 'CHW'"),
        ({"a": {"kind": "conv", "flipped": 1}}, "expected order = "),
        ({"a": {"unflatten": -1}}, "has unflatten -1; expected false, a number of channels"),
        ({"a": {"kind": "prelu", "rank": -1}}, "rank -1; it is a number of spatial axes"),
        ({"a": {"kind": "dense", "flatten": "CHW"}}, "expected false, a number of channels, or"),
        ({"kinds": 3}, r"\[kinds\] should map globs"),
    ],
)
def test_rules_that_make_no_sense(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        read_rules(rules)


def test_rules_against_the_shape(source: Path) -> None:
    out = source.with_name("o.npz")
    with pytest.raises(
        ConvertError, match=r"head\.0\.weight: rules say it is a conv, but its shape"
    ):
        checkpoint(source, out, "torch", "keras", rules={"head.0.weight": "conv"})
    rules = {"stem.conv.weight": {"kind": "conv", "groups": 3}}
    with pytest.raises(ConvertError, match="4 channels do not divide into 3 groups"):
        checkpoint(source, out, "torch", "keras", rules=rules)
    bad = source.with_name("bad.toml")
    bad.write_text('"a" = ')
    with pytest.raises(ConvertError, match="is no readable TOML file"):
        checkpoint(source, out, "torch", "keras", rules=bad)


# ---- metadata ----


def test_stamps_say_everything_on_the_way_back(tmp_path: Path) -> None:
    arrays = {
        "conv.weight": counting(4, 4, 3, 3),
        "fc.weight": counting(2, 16),
        "odd": counting(2, 2),
    }
    rules = {
        "conv.weight": {"kind": "conv", "stride": 2, "padding": "same"},
        "fc.weight": {"kind": "dense", "flatten": 4},
        "odd": "copy",
    }
    path = save(tmp_path / "m.safetensors", arrays)
    for name in ("a.safetensors", "a.h5", "a.weights.h5", "a.onnx"):
        there = tmp_path / name
        checkpoint(path, there, "torch", "keras", rules=rules)
        found = inspect(there)
        assert found.convention == "keras"
        assert sorted(found.kinds.values()) == ["conv", "copy", "dense"]
        back = checkpoint(there, tmp_path / "b.safetensors", target="torch", force=True)
        (spec,) = (action.spec for action in back.plan.actions if action.spec)
        assert spec == ConvSpec(4, 4, 3, 2, "same", bias=False, layout="NCHW")
        with open_file(tmp_path / "b.safetensors") as reader:
            for key, array in arrays.items():
                target = key if key in reader.entries else f"other.{key}"
                np.testing.assert_array_equal(reader.read(target), array, strict=True)
        with pytest.raises(ConvertError, match="can be read"):
            checkpoint(there, tmp_path / "c.npz", "keras", "torch", ignore_stamp=True)


def test_stamps_of_the_future_and_damaged_ones(tmp_path: Path) -> None:
    for text, message in (
        (json.dumps({"format_version": "2.0"}), "version 2.0, newer than 1.0; update convspec"),
        ("{", "is damaged"),
        (json.dumps({"format_version": "1.0", "tensors": {"a": {"kind": "x"}}}), "is no kind"),
        (json.dumps({"format_version": "1.0", "tensors": [1]}), "is damaged"),
    ):
        path = tmp_path / "m.safetensors"
        create(path, "safetensors", {"a": Entry((0,), np.dtype("f4"))}, text).finish()
        with pytest.raises(ConvertError, match=message):
            checkpoint(path, tmp_path / "o.npz", "torch", "torch")
        path.unlink()
    create(path, "safetensors", {"a": Entry((0,), np.dtype("f4"))}, "{").finish()
    checkpoint(path, tmp_path / "o.npz", "torch", "torch", ignore_stamp=True)


# ---- types ----


def test_bfloat16_where_it_fits_and_where_not(tmp_path: Path) -> None:
    import ml_dtypes

    array = counting(2, 3).astype(ml_dtypes.bfloat16)
    path = save(tmp_path / "m.safetensors", {"fc.weight": array})
    for name in ("a.pt", "a.msgpack", "a.onnx", "a.h5", "a.orbax", "a.ckpt"):
        checkpoint(path, tmp_path / name, "torch", "torch", verify=True)
        with open_file(tmp_path / name) as reader:
            (entry,) = reader.entries.values()
            assert entry.dtype == array.dtype
    with pytest.raises(
        ConvertError, match=r"is bfloat16, which \.npz files cannot hold.*\n.*dtype"
    ):
        checkpoint(path, tmp_path / "a.npz", "torch", "torch")
    checkpoint(path, tmp_path / "a.npz", "torch", "torch", dtype="float32", verify=True)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["fc.weight"], counting(2, 3))
    double = save(tmp_path / "d.safetensors", {"fc.weight": counting(2, 3).astype("f8")})
    with pytest.raises(ConvertError, match="float64 values do not all fit into float32"):
        checkpoint(double, tmp_path / "d.npz", "torch", "torch", dtype="float32")


# ---- proof ----


def test_verify_finds_a_wrong_kernel(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step whose way back hides its mistake is found by running the convolution."""
    from convspec.convert.steps import Reorder

    real = Reorder.apply, Reorder.undo
    monkeypatch.setattr(Reorder, "apply", lambda self, x: real[0](self, x)[::-1])
    with pytest.raises(ConvertError, match="does not come back of it"):
        checkpoint(source, source.with_name("a.npz"), "torch", "jax", verify=True)
    monkeypatch.setattr(Reorder, "undo", lambda self, y: real[1](self, y[::-1]))
    with pytest.raises(
        ConvertError, match=r"differs from the exact one by .* its error bound on jax"
    ):
        checkpoint(source, source.with_name("a.npz"), "torch", "jax", verify=True)
    assert not source.with_name("a.npz").exists()


# ---- refusals ----


def test_names_that_collide(tmp_path: Path) -> None:
    arrays = {"a.num": counting(2), "a/num": counting(2)}
    path = save(tmp_path / "m.safetensors", arrays)
    with pytest.raises(ConvertError, match=r"would be called 'a/num', and so would 'a\.num'"):
        checkpoint(path, tmp_path / "o.npz", "torch", "flax")
    arrays = {"a": counting(2), "a.b": counting(2)}
    path = save(tmp_path / "n.safetensors", arrays)
    for out in ("o.msgpack", "o.h5", "o.ckpt", "o.orbax"):
        with pytest.raises(ConvertError, match="'a/b' would be an array and a group of arrays"):
            checkpoint(path, tmp_path / out, "torch", "flax")
        assert not (tmp_path / out).exists()


def test_what_must_be_said(source: Path) -> None:
    out = source.with_name("o.npz")
    with pytest.raises(ConvertError, match=r"source: .* does not say its convention; .*--from"):
        checkpoint(source, out, target="keras")
    with pytest.raises(ConvertError, match=r"target: .* does not say its convention; .*--to"):
        checkpoint(source, out, "torch")
    with pytest.raises(ConvertError, match="target: 'caffe' is none of torch"):
        checkpoint(source, out, "torch", "caffe")
    with pytest.raises(ConvertError, match=r"a \.keras file holds a model.*--like"):
        checkpoint(source, source.with_name("o.keras"), "torch")
    with pytest.raises(ConvertError, match="format: 'pickle' is none of npy, npz"):
        checkpoint(source, out, "torch", "keras", format="pickle")
    with pytest.raises(ConvertError, match="dtype: 'int8' is none of float16, bfloat16"):
        checkpoint(source, out, "torch", "keras", dtype="int8")
    with pytest.raises(ConvertError, match="nifti files hold no checkpoints"):
        checkpoint(source, source.with_name("o.nii"), "torch")
    with pytest.raises(ConvertError, match=r"neither an \.onnx nor a \.keras file"):
        checkpoint(source, out, "torch", "keras", model="graph.pb")
    with pytest.raises(ConvertError, match="model: expected a path or a model of onnx, keras"):
        checkpoint(source, out, "torch", "keras", model=3)


# ---- command line ----


@pytest.mark.parametrize(
    "command",
    [
        ["convert"],
        ["convert", "array"],
        ["convert", "weight"],
        ["convert", "checkpoint"],
        ["inspect"],
    ],
)
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--help"]) == 0
    assert f"\n  convspec {' '.join(command)}" in capsys.readouterr().out.partition("\nexample")[2]


def test_commands(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(source.with_name("o.weights.h5"))
    run = ["convert", "checkpoint", str(source), out, "--from", "torch"]
    assert cli.main([*run, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "layers/conv2d/vars/0" in text
    assert "(3, 3, 3, 4)" in text
    assert "OIHW -> HWIO" in text
    assert not Path(out).exists()
    assert cli.main([*run, "--verify"]) == 0
    text = capsys.readouterr().out
    assert "15 tensors, 1 left out" in text
    assert "15 tensors read back: each leads back to the source bit for bit" in text
    assert "2 convolutions run on random input, within the error bound" in text
    assert cli.main(["inspect", out]) == 0
    text = capsys.readouterr().out
    assert "keras-weights, 15 tensors" in text
    assert "in keras's convention" in text
    assert cli.main(run) == 2
    assert "exists already" in capsys.readouterr().err
    weight = source.with_name("w.npy")
    np.save(weight, counting(2, 3, 3))
    run = ["convert", "weight", str(weight), str(weight.with_name("v.npy"))]
    assert cli.main([*run, "--from", "torch", "--to", "keras", "--verify"]) == 0
    assert "float32 OIW (2, 3, 3) -> WIO (3, 3, 2)" in capsys.readouterr().out


def test_dry_run_lists_what_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "m.safetensors", {"a.weight": counting(4, 4, 3)})
    run = ["convert", "checkpoint", str(path), str(tmp_path / "o.npz"), "--from", "torch"]
    assert cli.main([*run, "--to", "keras", "--dry-run"]) == 2
    out, err = capsys.readouterr()
    assert "a.weight  ?" in out
    assert '"a.weight" = "conv"  # or "conv_transpose"' in err
