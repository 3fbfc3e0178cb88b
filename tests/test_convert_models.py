"""What live models, ONNX graphs and Keras configurations say, and files made after others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convspec.convert import ConvertError, checkpoint
from convspec.convert.files import open_file


def torch_model() -> Any:
    """Square kernels, a bias that is missing, a PReLU, a flatten: nothing is told by shapes."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, bias=False), nn.ConvTranspose2d(8, 8, 2, stride=2), nn.PReLU(8)),
        *(nn.Flatten(), nn.Linear(8 * 12 * 12, 16), nn.ReLU(), nn.Linear(16, 4)),
    )
    model[1].running_mean[:] = torch.arange(8) / 8
    return model.eval()


def keras_model() -> Any:
    """The same as a Keras user writes it."""
    import keras
    from keras import layers

    keras.utils.clear_session()  # so that layers are counted from the start
    return keras.Sequential(
        [
            *(keras.Input((8, 8, 3)), layers.Conv2D(8, 3, padding="same")),
            *(layers.BatchNormalization(epsilon=1e-5), layers.ReLU()),
            *(layers.Conv2D(8, 3, use_bias=False), layers.Conv2DTranspose(8, 2, strides=2)),
            *(layers.PReLU(shared_axes=[1, 2]), layers.Flatten()),
            *(layers.Dense(16), layers.ReLU(), layers.Dense(4)),
        ]
    )


@pytest.fixture(scope="module")
def picture() -> Any:
    return np.random.default_rng(0).random((2, 8, 8, 3), dtype="float32")


def outputs(model: Any, picture: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.tensor(picture).permute(0, 3, 1, 2)).numpy()


#: Both compute in float32; no layer sums more than 1152 products, of values below 4.
TOLERANCE = 5 * 1152 * 2.0**-24 * 4


@pytest.mark.parametrize("way", ["live", "onnx"])
def test_torch_to_keras_and_back(way: str, picture: Any, tmp_path: Path) -> None:
    import torch

    model, keras = torch_model(), keras_model()
    torch.save(model.state_dict(), source := tmp_path / "m.pt")
    with pytest.raises(ConvertError, match="5 of 15 tensors can be read in more than one way"):
        checkpoint(source, tmp_path / "m.weights.h5")
    known: Any = model
    if way == "onnx":
        known = tmp_path / "m.onnx"
        with pytest.warns(DeprecationWarning, match="legacy TorchScript-based"):
            torch.onnx.export(
                model,
                (torch.zeros(1, 3, 8, 8),),
                known,
                dynamo=False,
                # So that the graph keeps the state dict's tensors, batch normalisation included.
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
            )
    report = checkpoint(source, tmp_path / "m.weights.h5", model=known, verify=True)
    if way == "live":
        assert {a.kind.origin for a in report.plan.written} == {"model"}
    keras.load_weights(tmp_path / "m.weights.h5")
    expected = outputs(model, picture)
    np.testing.assert_allclose(np.asarray(keras(picture)), expected, rtol=0, atol=TOLERANCE)

    # The stamp brings it home without the model.
    checkpoint(tmp_path / "m.weights.h5", tmp_path / "back.pt", target="torch", verify=True)
    again = torch_model()
    for parameter in again.parameters():
        parameter.data.zero_()
    again.load_state_dict(torch.load(tmp_path / "back.pt", weights_only=True))
    np.testing.assert_array_equal(outputs(again, picture), expected)


def test_an_onnx_model_says_what_its_own_tensors_are(picture: Any, tmp_path: Path) -> None:
    """Batch normalisation is folded away, names are made up, the dense layers are Gemm."""
    import torch

    model = torch_model()
    with pytest.warns(DeprecationWarning, match="legacy TorchScript-based"):
        torch.onnx.export(model, (torch.zeros(1, 3, 8, 8),), tmp_path / "m.onnx", dynamo=False)
    path = tmp_path / "m.onnx"
    report = checkpoint(path, tmp_path / "m.weights.h5", model=path, verify=True)
    targets = [action.target for action in report.plan.written if action.spec]
    assert targets == [
        "layers/conv2d/vars/0",
        "layers/conv2d_1/vars/0",
        "layers/conv2d_transpose/vars/0",
    ]
    rows = [str(action) for action in report.plan.actions if action.kind.name == "dense"]
    assert rows == ["rows CHW (8x12x12) -> HWC, transpose", "copy", "transpose", "copy"]


def test_keras_archives(picture: Any, tmp_path: Path) -> None:
    """Read with its own configuration, written into another's place."""
    import keras
    import torch

    model = torch_model()
    torch.save(model.state_dict(), source := tmp_path / "m.pt")
    keras_model().save(like := tmp_path / "empty.keras")
    checkpoint(source, out := tmp_path / "m.keras", model=model, like=like, verify=True)
    loaded = keras.saving.load_model(out)
    expected = outputs(model, picture)
    np.testing.assert_allclose(np.asarray(loaded(picture)), expected, rtol=0, atol=TOLERANCE)

    back = tmp_path / "back.safetensors"
    checkpoint(out, back, target="torch", model=out, ignore_stamp=True, verify=True)
    state = {name: array.numpy() for name, array in model.state_dict().items()}
    with open_file(back) as reader:
        np.testing.assert_array_equal(reader.read("dense.weight"), state["7.weight"])
        np.testing.assert_array_equal(reader.read("conv2d_1.weight"), state["3.weight"])
        np.testing.assert_array_equal(reader.read("p_re_lu.weight"), state["5.weight"])

    wrong = {"0.weight": "skip", "0.bias": "skip"}
    with pytest.raises(ConvertError, match=r"empty\.keras: .*has shape|is not filled"):
        checkpoint(source, out, model=model, like=like, rules=wrong, force=True)


def test_batch_normalisation_without_a_scale(tmp_path: Path) -> None:
    """Three numbered variables: the file does not say which, the configuration does."""
    import keras

    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.BatchNormalization(scale=False)])
    model.save(path := tmp_path / "m.keras")
    out = tmp_path / "m.safetensors"
    model.save_weights(weights := tmp_path / "m.weights.h5")
    with pytest.raises(ConvertError, match="variable 0 of a Keras batch_normalization"):
        checkpoint(weights, out, target="torch")
    report = checkpoint(weights, out, target="torch", model=path)
    assert [a.target for a in report.plan.actions] == [
        action.target for action in checkpoint(path, out, target="torch", force=True).plan.actions
    ]
    parts = [action.target.rpartition(".")[2] for action in report.plan.actions]
    assert parts == ["bias", "running_mean", "running_var"]


def test_keras_models_that_are_classes(tmp_path: Path) -> None:
    """Keras calls some groups after attributes, some after classes; layers may share a name."""
    import keras

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = keras.layers.Conv2D(2, 3, name="same")
            self.second = keras.layers.Conv2D(2, 3, name="same")
            self.third = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.third(self.second(self.first(x)))

    keras.utils.clear_session()
    model = Model()
    model(np.zeros((1, 8, 8, 2), "float32"))
    model.save_weights(path := tmp_path / "m.weights.h5")
    rules = {"first/*": "conv", "layers/dense/*": {"kind": "dense", "flatten": False}}
    checkpoint(path, tmp_path / "m.safetensors", target="torch", rules=rules, verify=True)
    with open_file(tmp_path / "m.safetensors") as reader:
        for layer, name in ((model.first, "first"), (model.second, "conv2d_1")):
            kernel = np.asarray(layer.kernel).transpose(3, 2, 0, 1)
            np.testing.assert_array_equal(reader.read(f"{name}.weight"), kernel)
        found = [name for name in reader.entries if name.startswith("dense")]
        assert sorted(found) == ["dense.bias", "dense.weight"]


def test_what_is_behind_something_unknown_is_asked(tmp_path: Path) -> None:
    """A Keras layer that nobody knows, a reshape that mixes channels and positions."""
    import json

    import keras
    import torch
    from torch import nn

    from convspec.convert.keras_models import kinds_of_config
    from convspec.convert.torch_models import kinds_of_torch

    keras.utils.clear_session()
    layers = [keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(5, name="d")]
    config = json.loads(keras.Sequential([keras.Input((6, 6, 3)), *layers]).to_json())
    assert kinds_of_config(config)["d"][0].flatten is not None
    config["config"]["layers"][2]["class_name"] = "TheirOwnFlatten"
    assert kinds_of_config(config)["d"][0].flatten is None

    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.fc = nn.Linear(32, 5)

        def forward(self, x: Any) -> Any:
            return self.fc(self.conv(x).view(x.size(0), 2, -1))

    model = Mixing()
    assert model(torch.zeros(1, 3, 6, 6)).shape == (1, 2, 5)
    assert kinds_of_torch(model)["fc"][0].flatten is None


def test_keras_attributes_that_are_called_like_other_classes(tmp_path: Path) -> None:
    """A transposed convolution in an attribute called conv2d: its square kernel is no conv."""
    import keras

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.conv2d = keras.layers.Conv2DTranspose(2, 3)

        def call(self, x: Any) -> Any:
            return self.conv2d(x)

    keras.utils.clear_session()
    model = Model()
    model(np.zeros((1, 4, 4, 2), "float32"))
    model.save_weights(path := tmp_path / "m.weights.h5")
    with pytest.raises(ConvertError, match="variable 0 of a Keras conv2d or conv2d_transpose"):
        checkpoint(path, tmp_path / "m.safetensors", target="torch")
    rules = {"conv2d/*": "conv_transpose"}
    report = checkpoint(path, tmp_path / "m.safetensors", target="torch", rules=rules, verify=True)
    assert [str(action) for action in report.plan.actions] == ["HWOI -> IOHW", "copy"]


def test_keras_layers_that_are_two_convolutions(tmp_path: Path) -> None:
    """The lines that are printed make two kernels of the numbered variables."""
    import tomllib

    import keras

    keras.utils.clear_session()
    layer = keras.layers.SeparableConv2D(5, 3, depth_multiplier=2, name="s")
    model = keras.Sequential([keras.Input((6, 6, 3)), layer])
    model.save_weights(path := tmp_path / "m.weights.h5")
    with pytest.raises(ConvertError, match='vars/0" = "depthwise"') as caught:
        checkpoint(path, tmp_path / "m.safetensors", target="torch")
    rules = tomllib.loads(str(caught.value).partition("(--model):\n")[2])
    checkpoint(path, tmp_path / "m.safetensors", target="torch", rules=rules, verify=True)
    first, second, _ = (np.asarray(keras.ops.convert_to_numpy(v)) for v in layer.variables)
    with open_file(tmp_path / "m.safetensors") as reader:
        name = "s"
        grouped = first.transpose(2, 3, 0, 1).reshape(6, 1, 3, 3)
        np.testing.assert_array_equal(reader.read(f"{name}.0.weight"), grouped)
        np.testing.assert_array_equal(reader.read(f"{name}.1.weight"), second.transpose(3, 2, 0, 1))


def test_flax_models(tmp_path: Path) -> None:
    from flax import nnx, serialization

    class Model(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(0)
            self.first = nnx.Conv(4, 4, (3, 3), rngs=rngs)
            self.second = nnx.ConvTranspose(4, 4, (2, 2), strides=(2, 2), rngs=rngs)

    model = Model()
    path = tmp_path / "m.msgpack"
    path.write_bytes(serialization.to_bytes(nnx.to_pure_dict(nnx.state(model, nnx.Param))))
    with pytest.raises(ConvertError, match='"first/kernel" = "conv"  # or "conv_transpose"'):
        checkpoint(path, tmp_path / "m.pt")
    report = checkpoint(path, tmp_path / "m.pt", model=model, verify=True)
    done = {action.target: str(action) for action in report.plan.actions if action.spec}
    assert done == {"first.weight": "HWIO -> OIHW", "second.weight": "HWIO -> IOHW, flip"}
    specs = [action.spec for action in report.plan.actions if action.spec]
    assert [spec.stride for spec in specs] == [(1, 1), (2, 2)]


def test_checkpoints_of_keras_layers_there_and_back(picture: Any, tmp_path: Path) -> None:
    """Restored by TensorFlow itself, saved by it, and told by the PyTorch model on the way back.

    That model knows the kinds, depthwise kernels too, but not in which order Keras flattens.
    """
    import keras
    import tensorflow as tf
    import torch
    from keras import layers
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1)),
        *(nn.Flatten(), nn.Linear(64, 4), nn.LayerNorm(4)),
    )
    made = [
        *(layers.Conv2D(6, 3, use_bias=False), layers.DepthwiseConv2D(3), layers.Conv2D(4, 1)),
        *(layers.Flatten(), layers.Dense(4), layers.LayerNormalization(epsilon=1e-5)),
    ]
    theirs = keras.Sequential([keras.Input((8, 8, 3)), *made])
    torch.save(model.state_dict(), tmp_path / "m.pt")
    for _ in range(2):  # a folder that we wrote may be replaced
        checkpoint(tmp_path / "m.pt", tmp_path / "tf", "torch", "tensorflow", model=model,
                   format="tensorflow", force=True)  # fmt: skip
    root = tf.train.Checkpoint()
    for i, layer in enumerate(made):
        setattr(root, str(i), layer)
    found = tf.train.latest_checkpoint(str(tmp_path / "tf"))
    root.restore(found).assert_existing_objects_matched()
    expected = model(torch.tensor(picture.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(theirs(picture), expected, atol=1e-5)  # 64 terms, behind a norm

    root.save(str(tmp_path / "native" / "ckpt"))
    line = r'"4/kernel" = \{ kind = "dense", flatten = 4, unflatten = false \}'
    back = (tmp_path / "native", tmp_path / "back.pt", "tensorflow", "torch")
    with pytest.raises(ConvertError, match=line):
        checkpoint(*back, model=model)
    rules = {"kinds": {"4/kernel": {"kind": "dense", "flatten": 4, "unflatten": False}}}
    checkpoint(*back, model=model, rules=rules)
    state = torch.load(tmp_path / "back.pt")
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(state[name], tensor)
