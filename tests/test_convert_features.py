"""What names and shapes must not decide, and orders of features: each is asked, and then right."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convspec import ConvSpec
from convspec.convert import ConvertError, checkpoint
from convspec.convert.files import Entry, create, open_file


def save(path: Path, arrays: Mapping[str, Any], format: str = "npz") -> Path:
    """A file that keeps the order of its names."""
    entries = {name: Entry(array.shape, array.dtype) for name, array in arrays.items()}
    writer = create(path, format, entries)
    for name, array in arrays.items():
        writer.write(name, (slice(None),) * array.ndim, array)
    writer.finish()
    writer.close()
    return path


def counting(*shape: int) -> Any:
    return np.arange(1, 1 + np.prod(shape), dtype="float32").reshape(shape)


def layer(name: str, weight: Any, *, bias: int = 0) -> dict[str, Any]:
    return {f"{name}.weight": weight} | ({f"{name}.bias": counting(bias)} if bias else {})


def asked(arrays: Mapping[str, Any], folder: Path, target: str = "keras", **options: Any) -> str:
    """What a conversion asks, that is, the message that it stops with."""
    source = options.pop("source", "torch")
    path = save(folder / "m.npz", arrays)
    with pytest.raises(ConvertError) as caught:
        checkpoint(path, folder / "never.npz", source, target, **options)
    assert not (folder / "never.npz").exists()
    path.unlink()
    return str(caught.value)


def converted(
    arrays: Mapping[str, Any], folder: Path, target: str = "keras", **options: Any
) -> dict[str, Any]:
    """All arrays after a conversion and its proof."""
    source = options.pop("source", "torch")
    path = save(folder / "m.npz", arrays)
    checkpoint(path, folder / "o.npz", source, target, verify=True, force=True, **options)
    path.unlink()
    with open_file(folder / "o.npz") as reader:
        return {name: np.array(reader.read(name)) for name in reader.entries}


def rules_of(message: str) -> dict[str, Any]:
    """The lines that a message says to add."""
    kinds: dict[str, Any] = tomllib.loads(message.partition("(--model):\n")[2])["kinds"]
    return kinds


def hwc(vector: Any, channels: int, height: int, width: int) -> Any:
    """A vector of (C, H, W) features as (H, W, C), element by element."""
    out = np.empty_like(vector)
    for c, h, w in np.ndindex(channels, height, width):
        out[(h * width + w) * channels + c] = vector[(c * height + h) * width + w]
    return out


# ---- orders of features ----


def test_vectors_behind_a_flatten(tmp_path: Path) -> None:
    """Normalisation and slopes between a flatten and its dense layer move as its rows do."""
    arrays = layer("conv", counting(4, 3, 3, 3), bias=4) | layer("bn", counting(24), bias=24)
    arrays |= {"bn.running_mean": counting(24) * 2, "bn.running_var": counting(24) * 3}
    arrays |= {"act.weight": counting(24) * 5} | layer("fc", counting(5, 24), bias=5)
    message = asked(arrays, tmp_path, rules={"act.weight": "prelu"})
    for line in (
        '"fc.weight" = { kind = "dense", flatten = 4 }',
        '"bn.weight" = { kind = "batch_norm", flatten = 4 }  # or flatten = false',
        '"act.weight" = { kind = "prelu", flatten = 4 }',
    ):
        assert line in message
    order = {"layout": "CHW", "shape": [4, 2, 3]}
    rules = {key: {**kind, "flatten": order} for key, kind in rules_of(message).items()}
    found = converted(arrays, tmp_path, rules=rules)
    for name, source in (
        ("bn/gamma", "bn.weight"),
        ("bn/beta", "bn.bias"),
        ("bn/moving_mean", "bn.running_mean"),
        ("bn/moving_variance", "bn.running_var"),
        ("act/alpha", "act.weight"),
    ):
        np.testing.assert_array_equal(found[name], hwc(arrays[source], 4, 2, 3))
    np.testing.assert_array_equal(found["fc/kernel"][:, 1], hwc(arrays["fc.weight"][1], 4, 2, 3))


def test_dense_in_front_of_a_reshape(tmp_path: Path) -> None:
    """Its outputs move, its bias and the normalisation behind it too."""
    arrays = layer("fc", counting(24, 5), bias=24) | layer("bn", counting(24), bias=24)
    arrays |= layer("up", counting(4, 3, 2, 2), bias=3)
    message = asked(arrays, tmp_path)
    assert '"fc.weight" = { kind = "dense", unflatten = 4 }' in message
    assert '"bn.weight" = { kind = "norm", flatten = 4 }' in message
    order = {"layout": "CHW", "shape": [4, 2, 3]}
    rules = {
        "fc.weight": {"kind": "dense", "unflatten": order},
        "bn.weight": {"kind": "layer_norm", "flatten": order},
    }
    found = converted(arrays, tmp_path, rules=rules)
    expected = np.stack([hwc(column, 4, 2, 3) for column in arrays["fc.weight"].T])
    np.testing.assert_array_equal(found["fc/kernel"], expected)
    np.testing.assert_array_equal(found["fc/bias"], hwc(arrays["fc.bias"], 4, 2, 3))
    np.testing.assert_array_equal(found["bn/beta"], hwc(arrays["bn.bias"], 4, 2, 3))


def test_as_many_outputs_by_coincidence(tmp_path: Path) -> None:
    """Value and policy heads: 32 features flattened, and 32 outputs of another dense layer."""
    arrays = layer("body", counting(8, 3, 3, 3), bias=8) | layer("v1", counting(32, 7), bias=32)
    arrays |= layer("v2", counting(1, 32), bias=1) | layer("p1", counting(7, 32), bias=7)
    arrays |= layer("conv", counting(32, 7, 1, 1), bias=32)
    lines = rules_of(asked(arrays, tmp_path, rules={"body.weight": "conv"}))
    assert set(lines) == {"v1.weight", "v2.weight", "p1.weight"}


def test_weights_for_each_position(tmp_path: Path) -> None:
    arrays = layer("norm", counting(4, 2, 3)) | {"norm.bias": counting(4, 2, 3) * 2}
    message = asked(arrays, tmp_path)
    assert '"norm.weight" = { kind = "norm", axes = "CHW" }  # by letters' in message
    found = converted(arrays, tmp_path, rules=rules_of(message))
    np.testing.assert_array_equal(found["norm/gamma"], arrays["norm.weight"].transpose(1, 2, 0))
    np.testing.assert_array_equal(found["norm/beta"], arrays["norm.bias"].transpose(1, 2, 0))
    with pytest.raises(ConvertError, match=r"norm\.weight: rules say its axes are CH, but its sha"):
        converted(arrays, tmp_path, rules={"norm*": {"kind": "layer_norm", "axes": "CH"}})


def test_any_array_by_its_axes(tmp_path: Path) -> None:
    arrays = {"gamma": counting(1, 4, 1, 2), "table": counting(2, 3)}
    rules = {"gamma": {"kind": "copy", "axes": "NCHW"}, "table": "copy"}
    found = converted(arrays, tmp_path, rules=rules)
    np.testing.assert_array_equal(found["gamma"], arrays["gamma"].transpose(0, 2, 3, 1))
    with pytest.raises(ConvertError, match="say its axes are CHW, but its shape is"):
        converted(arrays, tmp_path, rules={**rules, "gamma": {"kind": "copy", "axes": "CHW"}})


def test_an_unusual_order_comes_back(tmp_path: Path) -> None:
    """Rows that were (W, H, C) in torch are so again after the way through Keras."""
    arrays = layer("conv", counting(2, 3, 1, 1), bias=2) | layer("fc", counting(3, 24))
    flatten = {"layout": "WHC", "shape": [4, 3, 2]}
    rules = {"fc.weight": {"kind": "dense", "flatten": flatten}}
    path = save(tmp_path / "m.npz", arrays)
    checkpoint(path, tmp_path / "k.h5", "torch", "keras", rules=rules)
    with open_file(tmp_path / "k.h5") as reader:
        assert not np.array_equal(reader.read("fc/kernel"), arrays["fc.weight"].T)
    checkpoint(tmp_path / "k.h5", tmp_path / "t.npz", target="torch")
    np.testing.assert_array_equal(np.load(tmp_path / "t.npz")["fc.weight"], arrays["fc.weight"])


# ---- kernels ----


def test_grouped_transposed_kernels(tmp_path: Path) -> None:
    """A bias tells their groups; without one, or if a forward kernel fits too, they are asked."""
    grouped = layer("up.deconv", counting(6, 2, 3, 3), bias=4)  # 6 to 4 channels, 2 groups
    found = converted(grouped, tmp_path, "jax")
    spec = ConvSpec(6, 4, (3, 3), groups=2, transposed=True)
    expected = spec.convert_weight(grouped["up.deconv.weight"], "jax")
    np.testing.assert_array_equal(found["up/deconv/kernel"], expected)
    bare = layer("up.deconv", counting(6, 2, 3, 3))
    assert '{ kind = "conv_transpose", groups = 1 }' in asked(bare, tmp_path, "jax")
    # 8 inputs and 8 outputs in 2 groups, or 4 inputs and 8 outputs: the same shape for JAX.
    either = layer("up", counting(8, 4, 3, 3), bias=8)
    message = asked(either, tmp_path, "jax")
    assert '"up.weight" = { kind = "conv_transpose", groups = 2 }  # or "conv"' in message
    depthwise = layer("up", counting(8, 1, 3, 3), bias=8)
    assert '{ kind = "conv_transpose", groups = 8 }' in asked(depthwise, tmp_path, "jax")


def test_square_kernels_whose_names_say_it(tmp_path: Path) -> None:
    square = layer("deconv", counting(4, 4, 3, 3), bias=4)
    assert '"deconv.weight" = "conv_transpose"  # or "conv"' in asked(square, tmp_path, "flax")
    made_by_flax = {"ConvTranspose_0/kernel": counting(3, 3, 4, 4)}
    message = asked(made_by_flax, tmp_path, "torch", source="flax")
    assert "stored in one order or the other" in message
    assert 'order = "HWOI", flipped = false }, with transpose_kernel=True' in message


def test_flax_kernels_stored_as_the_forward_ones(tmp_path: Path) -> None:
    """With transpose_kernel=True: (H, W, O, I), not flipped."""
    kernel = counting(3, 3, 5, 4)
    rules = {
        "up/kernel": {"kind": "conv_transpose", "order": "HWOI", "flipped": False},
    }
    found = converted({"up/kernel": kernel}, tmp_path, "torch", source="flax", rules=rules)
    np.testing.assert_array_equal(found["up.weight"], kernel.transpose(3, 2, 0, 1))


def test_bilinear_layers_are_no_convolutions(tmp_path: Path) -> None:
    bilinear = layer("mix", counting(6, 4, 5), bias=6)
    message = asked(bilinear, tmp_path)
    assert '"mix.weight" = "conv"  # or "copy"' in message
    found = converted(bilinear, tmp_path, rules={"mix.weight": "copy"})
    np.testing.assert_array_equal(found["mix/weight"], bilinear["mix.weight"])


# ---- matrices ----


def test_dense_layers_of_gpt2(tmp_path: Path) -> None:
    """Conv1D keeps (inputs, outputs) in torch, too: the bias tells, a square one is asked."""
    arrays = layer("c_attn", counting(4, 12), bias=12) | layer("c_proj", counting(4, 4), bias=4)
    message = asked(arrays, tmp_path)
    assert '"c_proj.weight" = { kind = "dense", inputs_first = true }' in message
    assert "c_attn" not in message
    found = converted(arrays, tmp_path, rules=rules_of(message))
    np.testing.assert_array_equal(found["c_attn/kernel"], arrays["c_attn.weight"])
    np.testing.assert_array_equal(found["c_proj/kernel"], arrays["c_proj.weight"])
    others = layer("a", counting(4, 12), bias=12) | layer("b", counting(4, 4), bias=4)
    assert '"b.weight" = { kind = "dense", inputs_first = true }  # or' in asked(others, tmp_path)


def test_square_matrices_that_sound_like_embeddings(tmp_path: Path) -> None:
    line = '"embed.weight" = "dense"  # or "embedding", "copy"'
    assert line in asked(layer("embed", counting(4, 4)), tmp_path)
    found = converted(layer("embed", counting(9, 4)), tmp_path)
    assert found["embed/embeddings"].shape == (9, 4)


# ---- names and orders of files ----


def test_keys_that_flax_sorted_as_text(tmp_path: Path) -> None:
    """layers/10 comes before layers/2 in the file, and behind it in the model."""
    arrays = {f"layers/{i}/kernel": np.full((1, 1, 2, 3), i, "f4") for i in range(12)}
    path = save(tmp_path / "m.msgpack", dict(sorted(arrays.items())), "msgpack")
    report = checkpoint(path, tmp_path / "o.npz", "flax", "torch", rules={"*": "conv"})
    order = [action.name for action in report.plan.actions]
    assert order == [f"layers/{i}/kernel" for i in range(12)]
    # Alike layers could trade places unseen in a Keras file, which numbers them.
    with pytest.raises(ConvertError, match=r"(?s)not tell a mistake: layers\.0, .*--like"):
        checkpoint(path, tmp_path / "o.weights.h5", "flax", rules={"*": "conv"})


def test_linen_has_collections(tmp_path: Path) -> None:
    arrays = {
        "params/Conv_0/kernel": counting(3, 3, 2, 5),
        "params/BatchNorm_0/scale": counting(5),
        "params/BatchNorm_0/bias": counting(5),
        "batch_stats/BatchNorm_0/mean": counting(5),
        "batch_stats/BatchNorm_0/var": counting(5),
    }
    path = save(tmp_path / "m.msgpack", arrays, "msgpack")
    checkpoint(path, tmp_path / "o.pt", target="torch")
    checkpoint(tmp_path / "o.pt", tmp_path / "back.msgpack", target="linen", verify=True)
    with open_file(tmp_path / "back.msgpack") as reader:
        assert set(reader.entries) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(reader.read(name), array, strict=True)
    checkpoint(tmp_path / "o.pt", tmp_path / "like.msgpack", like=path, verify=True)
    with open_file(tmp_path / "like.msgpack") as reader:
        assert set(reader.entries) == set(arrays)
    # In other conventions the word is a name like any other.
    torch = layer("params.fc", counting(3, 2), bias=3)
    assert set(converted(torch, tmp_path)) == {"params/fc/kernel", "params/fc/bias"}


def test_normalisations_in_a_keras_file(tmp_path: Path) -> None:
    """Keras sorts them by class, which their tensors do not tell."""
    path = save(tmp_path / "m.npz", layer("norm1", counting(5), bias=5))
    out = tmp_path / "o.weights.h5"
    with pytest.raises(ConvertError, match=r'"norm1\.weight" = "layer_norm"  # or "group_norm"'):
        checkpoint(path, out, "torch")
    report = checkpoint(path, out, "torch", rules={"norm1.*": "group_norm"})
    assert report.plan.actions[0].target == "layers/group_normalization/vars/0"


def test_layers_that_could_trade_places_are_told(tmp_path: Path) -> None:
    """PyTorch's order is that of the module; nobody knows in which a Keras model makes its own."""
    kernel, out = np.zeros((4, 4, 3, 3), "float32"), tmp_path / "m.weights.h5"
    np.savez(tmp_path / "m.npz", **{"b.weight": kernel, "a.weight": kernel})
    rules = {"*": "conv"}
    found = checkpoint(tmp_path / "m.npz", out, "torch", "keras", rules=rules, dry_run=True)
    (note,) = found.plan.notes
    assert note.startswith("2 layers have another of their class and shapes beside them (b, a)")
    np.savez(tmp_path / "n.npz", **{"b.weight": kernel, "a.weight": kernel[:3]})
    found = checkpoint(tmp_path / "n.npz", out, "torch", "keras", rules=rules, dry_run=True)
    assert found.plan.notes == []


def test_what_is_open_is_asked_before_like_is_filled(tmp_path: Path) -> None:
    """A tensor that nobody knows has no place yet: that is the error, not the place left empty."""
    source = save(tmp_path / "m.npz", {"a.weight": counting(4, 4, 3, 3), "a.bias": counting(4)})
    like = save(
        tmp_path / "like.safetensors", {"a/kernel": counting(3, 3, 4, 4)}, format="safetensors"
    )
    with pytest.raises(ConvertError, match=r"^1 of 2 tensors can be read in more than one way"):
        checkpoint(source, tmp_path / "o.safetensors", "torch", "flax", like=like)
