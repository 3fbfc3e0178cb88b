"""Published networks, converted and run: MTCNN on a photograph, Silero VAD on speech, C3D.

The weights are those that the packages facenet-pytorch and silero-vad carry; the packages
themselves are not imported.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convspec import ConvSpec
from convspec.bounds import elementwise
from convspec.convert import checkpoint
from convspec.convert.files import open_file

#: Both networks and both engines round in float32: each of at most 4 layers sums at most 1152
#: products, and activations and slopes stay below 16.
TOLERANCE = 4 * 1152 * 2.0**-24 * 16

#: MTCNN flattens (W, H, C): its weights were made for Caffe.
FACE_RULES = {
    "conv*.weight": "conv",
    "dense*": {"flatten": False, "unflatten": False},
    "dense4.weight": {"kind": "dense", "flatten": {"layout": "WHC", "shape": [3, 3, 64]}},
    "dense5.weight": {"kind": "dense", "flatten": {"layout": "WHC", "shape": [3, 3, 128]}},
}


def data(package: str, name: str) -> Path:
    """A file of an installed package, found without importing it."""
    found = importlib.util.find_spec(package)
    assert found is not None, (
        f"{package} is missing: pip install --no-deps -r tests/real-models.txt"
    )
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "data" / name


@pytest.fixture(scope="module")
def photograph() -> Any:
    """A real photograph with a face of about 12 pixels, (1, H, W, 3), as MTCNN scales it."""
    skimage = pytest.importorskip("skimage.data", reason="in the extra demo")
    picture = skimage.astronaut().astype(np.float32)
    small = picture.reshape(64, 8, 64, 8, 3).mean((1, 3))
    return ((small - 127.5) / 128)[None]


def torch_mtcnn(name: str) -> Any:
    """The networks as facenet-pytorch defines them, without their last softmax."""
    import torch
    from torch import nn

    class WHC(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 3, 2, 1).reshape(x.shape[0], -1)

    def pool(size: int) -> Any:
        return nn.MaxPool2d(size, 2, ceil_mode=True)

    plans = {
        "pnet": [(3, 10, 3), "1", pool(2), (10, 16, 3), "2", (16, 32, 3), "3"],
        "rnet": [(3, 28, 3), "1", pool(3), (28, 48, 3), "2", pool(3), (48, 64, 2), "3", WHC(), 4],
        "onet": [
            *((3, 32, 3), "1", pool(3), (32, 64, 3), "2", pool(3), (64, 64, 3), "3", pool(2)),
            *((64, 128, 2), "4", WHC(), 5),
        ],
    }
    state = torch.load(data("facenet_pytorch", f"{name}.pt"), weights_only=True)

    def run(x: Any) -> Any:
        """Face logits, from (N, H, W, 3)."""
        y = torch.tensor(x).permute(0, 3, 1, 2)
        number = 0
        with torch.no_grad():
            for item in plans[name]:
                if isinstance(item, tuple):
                    number += 1
                    y = nn.functional.conv2d(
                        y, state[f"conv{number}.weight"], state[f"conv{number}.bias"]
                    )
                elif isinstance(item, str):
                    y = nn.functional.prelu(y, state[f"prelu{item}.weight"])
                elif isinstance(item, int):
                    y = nn.functional.linear(
                        y, state[f"dense{item}.weight"], state[f"dense{item}.bias"]
                    )
                    y = nn.functional.prelu(y, state[f"prelu{item}.weight"])
                else:
                    y = item(y)
            last = {"pnet": "conv4_1", "rnet": "dense5_1", "onet": "dense6_1"}[name]
            head = nn.functional.conv2d if name == "pnet" else nn.functional.linear
            y = head(y, state[f"{last}.weight"], state[f"{last}.bias"])
        return (y.permute(0, 2, 3, 1) if name == "pnet" else y).numpy()

    return run


def keras_mtcnn(name: str) -> Any:
    """The same networks as a Keras user writes them, layer names left to Keras."""
    import keras
    from keras import layers

    def conv(x: Any, filters: int, size: int) -> Any:
        return layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(filters, size)(x))

    if name == "pnet":
        x = inputs = keras.Input((None, None, 3))
        x = layers.MaxPool2D(2, 2, padding="same")(conv(x, 10, 3))
        x = conv(conv(x, 16, 3), 32, 3)
        outputs = [layers.Conv2D(2, 1)(x), layers.Conv2D(4, 1)(x)]
    elif name == "rnet":
        x = inputs = keras.Input((24, 24, 3))
        x = layers.MaxPool2D(3, 2, padding="same")(conv(x, 28, 3))
        x = layers.MaxPool2D(3, 2)(conv(x, 48, 3))
        x = layers.Flatten()(conv(x, 64, 2))
        x = layers.PReLU()(layers.Dense(128)(x))
        outputs = [layers.Dense(2)(x), layers.Dense(4)(x)]
    else:
        x = inputs = keras.Input((48, 48, 3))
        x = layers.MaxPool2D(3, 2, padding="same")(conv(x, 32, 3))
        x = layers.MaxPool2D(3, 2)(conv(x, 64, 3))
        x = layers.MaxPool2D(2, 2)(conv(x, 64, 3))
        x = layers.Flatten()(conv(x, 128, 2))
        x = layers.PReLU()(layers.Dense(256)(x))
        outputs = [layers.Dense(2)(x), layers.Dense(4)(x), layers.Dense(10)(x)]
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_mtcnn_in_keras(name: str, photograph: Any, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.weights.h5"
    source = data("facenet_pytorch", f"{name}.pt")
    report = checkpoint(source, path, "torch", "keras", rules=FACE_RULES, verify=True)
    assert all(check.error <= 1 for check in report.checks)
    assert sum(bool(check.engines) for check in report.checks) >= 3
    model = keras_mtcnn(name)
    model.load_weights(path)
    x = photograph if name == "pnet" else crop(photograph, 24 if name == "rnet" else 48)
    y = model(x)[0]
    np.testing.assert_allclose(np.asarray(y), torch_mtcnn(name)(x), rtol=0, atol=TOLERANCE)


def crop(photograph: Any, size: int) -> Any:
    """The face, and windows beside it, enlarged to ``size`` by repeating pixels."""
    windows = [photograph[:, top : top + 12, left : left + 12] for top, left in ((8, 22), (30, 5))]
    return np.concatenate([w.repeat(size // 12, 1).repeat(size // 12, 2) for w in windows])


def test_wrong_rows_would_be_seen(photograph: Any, tmp_path: Path) -> None:
    """Without the flatten's true order the dense layer gets other rows, and other faces."""
    path = tmp_path / "rnet.weights.h5"
    rules = {**FACE_RULES, "dense4.weight": {"kind": "dense", "flatten": 64}}
    checkpoint(data("facenet_pytorch", "rnet.pt"), path, "torch", "keras", rules=rules)
    model = keras_mtcnn("rnet")
    model.load_weights(path)
    x = crop(photograph, 24)
    assert np.abs(np.asarray(model(x)[0]) - torch_mtcnn("rnet")(x)).max() > 100 * TOLERANCE


def test_the_face_map_in_flax_and_numpy(photograph: Any, tmp_path: Path) -> None:
    import flax.serialization
    import jax.numpy as jnp
    from flax import nnx

    expected = torch_mtcnn("pnet")(photograph)
    probability = 1 / (1 + np.exp(expected[..., 0] - expected[..., 1]))
    row, column = np.unravel_index(probability[0].argmax(), probability.shape[1:])
    assert probability.max() > 0.9
    # Windows of 12 pixels every 2; the face's middle is at about (13, 28) of 64.
    assert abs(2 * row + 6 - 13) < 5
    assert abs(2 * column + 6 - 28) < 5

    source = data("facenet_pytorch", "pnet.pt")
    checkpoint(source, tmp_path / "pnet.msgpack", "torch", "flax")
    tree = flax.serialization.msgpack_restore((tmp_path / "pnet.msgpack").read_bytes())
    x = jnp.asarray(photograph)
    for i, (before, after, size) in enumerate(((3, 10, 3), (10, 16, 3), (16, 32, 3)), 1):
        layer = nnx.Conv(before, after, (size, size), padding="VALID", rngs=nnx.Rngs(0))
        state = nnx.state(layer)
        nnx.replace_by_pure_dict(state, tree[f"conv{i}"])
        nnx.update(layer, state)
        x = layer(x)
        x = jnp.where(x >= 0, x, x * tree[f"prelu{i}"]["negative_slope"])
        if i == 1:
            x = nnx.max_pool(x, (2, 2), (2, 2), "SAME")
    head = nnx.Conv(32, 2, (1, 1), rngs=nnx.Rngs(0))
    state = nnx.state(head)
    nnx.replace_by_pure_dict(state, tree["conv4_1"])
    nnx.update(head, state)
    np.testing.assert_allclose(np.asarray(head(x)), expected, rtol=0, atol=TOLERANCE)

    checkpoint(source, tmp_path / "pnet.npz", "torch", "tensorflow")
    arrays = np.load(tmp_path / "pnet.npz")
    y = photograph
    for i in (1, 2, 3):
        weight = arrays[f"conv{i}/kernel"]
        spec = ConvSpec(weight.shape[2], weight.shape[3], 3, layout="NHWC", weight_layout="HWIO")
        y = spec(y, weight, arrays[f"conv{i}/bias"])
        y = np.where(y >= 0, y, y * arrays[f"prelu{i}/alpha"])
        if i == 1:
            n, h, w, c = y.shape
            y = y.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
    y = y @ arrays["conv4_1/kernel"][0, 0] + arrays["conv4_1/bias"]
    np.testing.assert_allclose(y, expected, rtol=0, atol=TOLERANCE)


# ---- Silero VAD ----

VAD_RULES = {
    "stft_conv.weight": {"kind": "conv", "stride": 128},
    "conv1.weight": {"kind": "conv", "padding": 1},
    "conv2.weight": {"kind": "conv", "padding": 1, "stride": 2},
    "conv3.weight": {"kind": "conv", "padding": 1, "stride": 2},
    "conv4.weight": {"kind": "conv", "padding": 1},
    "final_conv.weight": "conv",
    "lstm_cell.weight_*": "copy",
}
#: The nodes of the layers in the ONNX twin, and the names of their weights there.
TWINS = {
    "stft_conv": ("/model/stft/Conv", "model.stft.forward_basis_buffer"),
    **{
        f"conv{i + 1}": (
            f"/model/encoder/{i}/reparam_conv/Conv",
            f"model.encoder.{i}.reparam_conv.weight",
        )
        for i in range(4)
    },
    "final_conv": ("/model/decoder/decoder/2/Conv", "model.decoder.decoder.2.weight"),
}


def speech() -> Any:
    """A vowel at 16 kHz: pulses at 120 Hz through the resonances of "a" (700, 1220, 2600 Hz)."""
    time = np.arange(576) / 16000
    sound = np.zeros(576)
    for k in range(1, 60):
        gain = sum(1 / (1 + ((120 * k - f) / 80) ** 2) for f in (700, 1220, 2600))
        sound += gain * np.sin(2 * np.pi * 120 * k * time)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)[None]


@pytest.mark.parametrize("whose", ["safetensors", "twin"])
def test_silero_against_its_onnx_twin(whose: str, tmp_path: Path) -> None:
    """In silero-vad 6.2.3 the two files have the same layers but not the same numbers.

    So the safetensors' convolutions go into the twin's graph, by way of an ONNX file of ours; and
    the twin's own are converted too.
    """
    import onnx
    import onnxruntime

    model = onnx.load(data("silero_vad", "silero_vad_16k_op15.onnx"))
    source, out = data("silero_vad", "silero_vad_16k.safetensors"), tmp_path / "vad.h5"
    if whose == "safetensors":
        rules: dict[str, Any] = VAD_RULES
        convention, names = "torch", {layer: f"{layer}.weight" for layer in TWINS}
        checkpoint(source, tmp_path / "vad.onnx", "torch", "onnx", rules=rules)
        ours = {t.name: t for t in onnx.load(tmp_path / "vad.onnx").graph.initializer}
        for tensor in model.graph.initializer:
            for layer, (_, name) in TWINS.items():
                if tensor.name == name:
                    tensor.raw_data = ours[f"{layer}.weight"].raw_data
                elif tensor.name == name.removesuffix("weight") + "bias":
                    tensor.raw_data = ours[f"{layer}.bias"].raw_data
    else:
        rules = {
            TWINS[key.split(".")[0]][1]: kind for key, kind in VAD_RULES.items() if key[0] != "l"
        }
        source, convention = data("silero_vad", "silero_vad_16k_op15.onnx"), "onnx"
        names = {layer: name for layer, (_, name) in TWINS.items()}
        rules |= {"*reparam_conv.bias": "conv", "*decoder.2.bias": "conv", "*": "skip"}
    report = checkpoint(source, out, convention, "tensorflow", rules=rules, verify=True)

    nodes = {node.name: node for node in model.graph.node}
    ends = {
        layer: (nodes[node].input[0], nodes[node].output[0]) for layer, (node, _) in TWINS.items()
    }
    wanted = [name for pair in ends.values() for name in pair]
    for name in wanted:
        model.graph.output.add().name = name
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {"input": speech(), "state": np.zeros((2, 1, 128), "f4"), "sr": np.array(16000)}
    values = dict(zip(wanted, session.run(wanted, feed), strict=True))

    kernels = {action.name: action for action in report.plan.actions if action.spec}
    biases = {a.layer: a.target for a in report.plan.actions if a.part == "bias"}
    with open_file(out) as reader:
        for layer, name in names.items():
            x, y = (values[end] for end in ends[layer])
            spec = kernels[name].spec
            assert spec is not None
            assert spec.weight_layout == "WIO"
            weight = reader.read(kernels[name].target)
            bias = reader.read(biases[kernels[name].layer]) if spec.bias else None
            z = spec(x.transpose(0, 2, 1).copy(), weight, bias).transpose(0, 2, 1)
            # Of both results, by the library's own analysis of rounding errors.
            wide = spec.replace(bias=False).in_convention("onnx")
            exact = wide(x.astype("f8"), weight.transpose(2, 1, 0).astype("f8"))
            limit = elementwise(wide, x, weight.transpose(2, 1, 0), None, exact, "float32")
            limit += 0 if bias is None else 2.0**-22 * np.abs(bias)[:, None]
            assert (np.abs(z - y) <= 2 * limit).all(), layer


# ---- C3D ----


def test_c3d_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through Keras', JAX' and ONNX' files and back, bit for bit, with its dense layer's rows."""
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), "..", "examples"))
    from c3d import layers
    from convspec.convert.files import Entry, create

    arrays = {}
    for name, layer in layers(width=4, classes=10).items():
        weight = layer.weight if layer.spec else layer.weight.T.copy()
        arrays |= {f"{name}.weight": weight, f"{name}.bias": layer.bias}
    first = tmp_path / "c3d.pt"
    writer = create(first, "torch", {k: Entry(v.shape, v.dtype) for k, v in arrays.items()})
    for name, array in arrays.items():
        writer.write(name, (slice(None),) * array.ndim, array)
    writer.finish()
    rules = {"conv*": "conv", "fc6.weight": {"kind": "dense", "flatten": 32}}
    rules |= {"fc*": {"flatten": False}}
    way = [
        ("a.weights.h5", "keras"),
        ("b.safetensors", "jax"),
        ("c.onnx", "onnx"),
        ("d.h5", "mlx"),
        ("e.safetensors", "torch"),
    ]
    path = first
    for file, target in way:
        checkpoint(path, tmp_path / file, "torch" if path is first else None, target, rules=rules)
        path, rules = tmp_path / file, {}
    with open_file(path) as reader:
        assert set(reader.entries) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(reader.read(name), array, strict=True)
    with open_file(tmp_path / "b.safetensors") as reader:
        rows = reader.read("fc6/kernel").reshape(1, 4, 4, 32, -1)  # D H W C
        plain = arrays["fc6.weight"].T.reshape(32, 1, 4, 4, -1)  # C D H W
        np.testing.assert_array_equal(rows, plain.transpose(1, 2, 3, 0, 4))
