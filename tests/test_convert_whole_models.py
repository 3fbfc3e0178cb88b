"""``verify`` runs the source's model and the target's: it sees what the plan does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convspec import cli
from convspec.convert import ConvertError, checkpoint


def torch_model() -> Any:
    """A flatten with a normalisation behind it, and a reshape with one in front of it."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.Flatten(), nn.BatchNorm1d(4 * 4 * 6)),
        *(nn.PReLU(4 * 4 * 6), nn.Linear(4 * 4 * 6, 6), nn.Linear(6, 2 * 3 * 4)),
        *(nn.BatchNorm1d(24), nn.ReLU(), nn.Unflatten(1, (2, 3, 4)), nn.ConvTranspose2d(2, 3, 2)),
    )
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape).abs() + 0.1 if "var" in name else 0)
            if "var" not in name:
                tensor.copy_(torch.randn(tensor.shape) / 2)
    return model.eval()


def keras_model() -> Any:
    import keras
    from keras import layers

    keras.utils.clear_session()
    return keras.Sequential(
        [
            *(keras.Input((6, 8, 3)), layers.Conv2D(4, 3), layers.PReLU(shared_axes=[1, 2])),
            *(layers.Flatten(), layers.BatchNormalization(epsilon=1e-5), layers.PReLU()),
            *(layers.Dense(6), layers.Dense(24), layers.BatchNormalization(epsilon=1e-5)),
            *(layers.ReLU(), layers.Reshape((3, 4, 2)), layers.Conv2DTranspose(3, 2)),
        ]
    )


def flax_model() -> Any:
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(0)
            self.conv = nnx.Conv(3, 4, (3, 3), padding="VALID", rngs=rngs)
            self.norm = nnx.BatchNorm(96, use_running_average=True, rngs=rngs)
            self.fc = nnx.Linear(96, 5, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = self.conv(x)
            return self.fc(self.norm(x.reshape(x.shape[0], -1)))

    return Model()


def twin_of_flax() -> Any:
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm1d(96)
            self.fc = nn.Linear(96, 5)

        def forward(self, x: Any) -> Any:
            return self.fc(self.norm(self.conv(x).flatten(1)))

    torch.manual_seed(0)
    model = Model().eval()
    model.norm.running_mean[:] = torch.arange(96) / 96
    model.norm.weight.data[:] = torch.arange(96) / 48
    return model


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Any, Path]:
    import torch

    model = torch_model()
    torch.save(model.state_dict(), tmp_path / "m.pt")
    return model, tmp_path / "m.pt"


def test_torch_and_keras(saved: tuple[Any, Path]) -> None:
    """Everything is told by the traced model, and proven by running both; there and back."""
    model, path = saved
    keras, out = keras_model(), path.with_name("m.weights.h5")
    before = [np.array(variable.value) for variable in keras.variables]
    report = checkpoint(path, out, model=model, like=keras, verify=True)
    assert report.model is not None
    assert report.model.engines == ("torch", "keras")
    assert report.model.shapes == [(2, 3, 6, 8)]
    assert report.model.error < 1
    assert report.model.unseen == []
    for kept, variable in zip(
        before, keras.variables, strict=True
    ):  # the user's model is as it was
        np.testing.assert_array_equal(np.array(variable.value), kept)
    # Home without metadata: Keras' model tells what its layers are, the rules what they are called.
    with pytest.raises(ConvertError, match=r"(?s)like: is not filled: .*'0\.weight'.*\[names\]"):
        checkpoint(out, path.with_name("b.pt"), model=keras, like=model, ignore_stamp=True)
    told = iter((0, 1, 3, 4, 5, 6, 7, 10))
    names = {layer.name: str(next(told)) for layer in keras.layers if layer.variables}
    back = checkpoint(
        *(out, path.with_name("b.pt")),
        model=keras,
        like=model,
        ignore_stamp=True,
        verify=True,
        rules={"names": names},
    )
    assert {a.kind.origin for a in back.plan.written} == {"model"}
    assert back.model is not None
    assert back.model.engines == ("keras", "torch")
    assert back.model.unseen == []
    import torch

    state = torch.load(path.with_name("b.pt"), weights_only=True)
    for name, tensor in model.state_dict().items():
        if not name.endswith("tracked"):
            np.testing.assert_array_equal(state[name], tensor)


@pytest.mark.parametrize("layer", ["5.weight", "6.weight", "7.weight"])
def test_a_wrong_order_of_features_is_seen(layer: str, saved: tuple[Any, Path]) -> None:
    """Tensor by tensor, such a file leads back bit for bit; Keras' model has another order."""
    model, path = saved
    kind = "dense" if layer[0] in "56" else "batch_norm"
    option = "unflatten" if layer[0] == "6" else "flatten"
    rules = {layer: {"kind": kind, option: False}}
    out = path.with_name("m.weights.h5")
    with pytest.raises(
        ConvertError, match=r"like: its layer '\w+' has (un)?flatten = \w+ \(.* false"
    ):
        checkpoint(path, out, model=model, like=keras_model(), rules=rules, verify=True)
    assert not out.exists()


def test_models_that_differ_are_seen_by_running_them(saved: tuple[Any, Path]) -> None:
    """In what no checkpoint holds: here the epsilon of a normalisation."""
    model, path = saved
    out, keras = path.with_name("m.weights.h5"), keras_model()
    next(layer for layer in keras.layers if hasattr(layer, "epsilon")).epsilon = 1e-3
    with pytest.raises(ConvertError, match=r"the whole model differs: an output of keras's is .*"):
        checkpoint(path, out, model=model, like=keras, verify=True)
    assert not out.exists()


def test_a_model_that_flattens_in_another_order(tmp_path: Path) -> None:
    """Keras with channels first: its dense layer takes the rows as torch has them."""
    import keras
    import torch
    from keras import layers
    from torch import nn

    keras.utils.clear_session()
    last = [keras.Input((6, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)]
    first = [
        *(keras.Input((3, 6, 8)), layers.Conv2D(4, 3, data_format="channels_first")),
        *(layers.Flatten(data_format="channels_last"), layers.Dense(5)),
    ]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(96, 5))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    out = tmp_path / "m.weights.h5"
    checkpoint(tmp_path / "m.pt", out, model=model, like=keras.Sequential(last))
    keras.utils.clear_session()
    rules = {"names": {"2": "dense"}}
    other = keras.Sequential(first)
    with pytest.raises(ConvertError, match=r"like: its layer 'dense\w*' has flatten = CHW \("):
        checkpoint(tmp_path / "m.pt", out, model=model, like=other, rules=rules, force=True)


def test_tensors_that_no_output_shows(saved: tuple[Any, Path]) -> None:
    import torch

    model, path = saved
    state = torch.load(path, weights_only=True)
    state["10.weight"][:, 1:] = state["10.weight"][:, :1]  # alike output channels
    state["10.bias"][:] = 0
    state["6.weight"][:] = 0  # and nothing comes through
    torch.save(state, path)
    out = path.with_name("m.weights.h5")
    report = checkpoint(path, out, model=model, like=keras_model(), verify=True)
    assert report.model is not None
    assert "layers/conv2d/vars/0" in report.model.unseen
    assert "layers/dense/vars/0" in report.model.unseen
    assert "layers/batch_normalization_1/vars/1" not in report.model.unseen


def test_torch_and_flax(tmp_path: Path) -> None:
    import torch

    model = twin_of_flax()
    torch.save(model.state_dict(), tmp_path / "m.pt")
    options: dict[str, Any] = {"model": model, "like": flax_model(), "verify": True}
    report = checkpoint(tmp_path / "m.pt", tmp_path / "m.msgpack", **options)
    assert report.model is not None
    assert report.model.reason.startswith("neither model tells the shape of its input")
    shape = (2, 3, 6, 8)
    report = checkpoint(
        tmp_path / "m.pt", tmp_path / "m.msgpack", input_shape=shape, force=True, **options
    )
    assert report.model is not None
    assert report.model.engines == ("torch", "flax")
    assert report.model.unseen == []
    order = {"kind": "dense", "flatten": 4}
    rules = {"fc/kernel": order, "norm/scale": {"kind": "batch_norm", "flatten": 4}}
    back = {"model": flax_model(), "like": model, "input_shape": (2, 6, 8, 3), "verify": True}
    checkpoint(tmp_path / "m.msgpack", tmp_path / "b.pt", rules=rules, **back)
    wrong = {"*": {"flatten": False}}
    with pytest.raises(ConvertError, match="like: its layer 'fc' has flatten = CX"):
        checkpoint(tmp_path / "m.msgpack", tmp_path / "c.pt", rules=wrong, **back)
    # A Flax module has no graph to read: running it is what tells.
    forth = {**options, "force": True, "input_shape": shape}
    wrong = {"fc.weight": {"kind": "dense", "flatten": False}}
    with pytest.raises(ConvertError, match="the whole model differs"):
        checkpoint(tmp_path / "m.pt", tmp_path / "m.msgpack", rules=wrong, **forth)


def test_kernels_that_flax_keeps_as_the_forward_ones(tmp_path: Path) -> None:
    """Read as they are, by what the live module says; not written so."""
    import torch
    from flax import nnx, serialization
    from torch import nn

    def up(**options: Any) -> Any:
        made = nnx.ConvTranspose(4, 4, (3, 3), padding="VALID", rngs=nnx.Rngs(0), **options)
        return nnx.Dict(up=made)

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 4, 3)

        def forward(self, x: Any) -> Any:
            return self.up(x)

    model, twin = up(transpose_kernel=True), Twin()
    path = tmp_path / "m.msgpack"
    path.write_bytes(serialization.to_bytes(nnx.to_pure_dict(nnx.state(model, nnx.Param))))
    checkpoint(path, tmp_path / "m.pt", model=model)
    twin.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    x = np.random.default_rng(0).random((2, 5, 6, 4), dtype="float32")
    with torch.no_grad():
        y = twin(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    # 36 products of numbers below 1 a sum, on either side.
    np.testing.assert_allclose(np.asarray(model["up"](x)), y, rtol=0, atol=2 * 36 * 2.0**-23)
    checkpoint(tmp_path / "m.pt", tmp_path / "b.msgpack", model=twin, like=up())
    with pytest.raises(
        ConvertError, match="like: its layer 'up' keeps its kernel as HWOI, as Flax"
    ):
        checkpoint(tmp_path / "m.pt", tmp_path / "c.msgpack", model=twin, like=model)


def test_at_the_command_line(saved: tuple[Any, Path], capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    model, path = saved
    with pytest.warns(DeprecationWarning, match="legacy TorchScript-based"):
        torch.onnx.export(
            *(model, (torch.zeros(2, 3, 6, 8),), path.with_name("m.onnx")),
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    keras_model().save(path.with_name("k.keras"))
    rules = path.with_name("r.toml")
    rules.write_text(
        '[kinds]\n"6.weight" = { kind = "dense", unflatten = 2 }\n'
        '"7.weight" = { kind = "batch_norm", flatten = 2 }\n'
    )
    run = ["convert", "checkpoint", str(path), str(path.with_name("o.keras")), "--verify"]
    run += ["--model", str(path.with_name("m.onnx")), "--like", str(path.with_name("k.keras"))]
    assert cli.main([*run, "--rules", str(rules)]) == 0
    text = capsys.readouterr().out
    assert (
        "whole models run on onnx and keras with random input (2, 3, 6, 8): they differ by" in text
    )
    assert "not proven" not in text
    plain = ["convert", "checkpoint", str(path.with_name("o.keras")), "--from", "keras", "--verify"]
    assert cli.main([*plain, str(path.with_name("p.npz")), "--to", "torch"]) == 0
    text = capsys.readouterr().out
    assert "whole models not run: there is no model to run; pass like= (--like)" in text
    assert "what the tensors mean together is not proven: kinds, and orders of features" in text
    wrong = [*plain, str(path.with_name("q.npz")), "--to", "torch", "--input-shape", "1,x"]
    assert cli.main(wrong) == 2
    assert "--input-shape: expected numbers" in capsys.readouterr().err
