"""The frameworks' own calls, written by hand from their documentation: nothing of the adapters.

Each takes a spec in the call's convention, an input and a weight in that convention's orders as
NumPy arrays, and the size of the output or None; what it gives converts to NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.nnx
import jax
import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)
from onnx.reference import ReferenceEvaluator

from convspec import ConvSpec

Array = np.ndarray


def torch_conv(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    x, w = torch.from_numpy(x.copy()), torch.from_numpy(w.copy())
    padding = [lo for lo, _ in spec.padding]
    if not spec.transposed:
        call = (F.conv1d, F.conv2d, F.conv3d)[spec.rank - 1]
        return call(x, w, None, spec.stride, padding, spec.dilation, spec.groups)
    call = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spec.rank - 1]
    return call(x, w, None, spec.stride, padding, spec.output_padding, spec.groups, spec.dilation)


def tf_conv(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    words = {"strides": [1, *spec.stride, 1], "dilations": [1, *spec.dilation, 1]}
    words["padding"] = "SAME" if spec.padding[0] == "same" else "VALID"
    if not spec.transposed:
        return (tf.nn.conv1d, tf.nn.conv2d, tf.nn.conv3d)[spec.rank - 1](
            x, w, words["strides"], words["padding"], dilations=words["dilations"]
        )
    shape = spec.output_shape(x.shape, size)
    call = (tf.nn.conv1d_transpose, tf.nn.conv2d_transpose, tf.nn.conv3d_transpose)[spec.rank - 1]
    return call(x, w, shape, **words)


def tf_depthwise(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    padding = "SAME" if spec.padding[0] == "same" else "VALID"
    return tf.nn.depthwise_conv2d(x, w, [1, *spec.stride, 1], padding, dilations=spec.dilation)


def dilated_pads(spec: ConvSpec) -> list[tuple[int, int]]:
    """Padding of the dilated input, which is how JAX and Flax count it when transposed."""
    return [
        (e - 1 - lo, e - 1 - hi + extra)
        for e, (lo, hi), extra in zip(
            spec.receptive_field, spec.padding, spec.output_padding, strict=True
        )
    ]


def jax_pads(spec: ConvSpec) -> Any:
    if spec.padding[0] == "same":
        return "SAME"
    return dilated_pads(spec) if spec.transposed else spec.padding


def jax_numbers(spec: ConvSpec) -> tuple[str, str, str]:
    return spec.layout, spec.weight_layout, spec.output_layout


def jax_conv(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    return jax.lax.conv_general_dilated(
        x,
        w,
        spec.stride,
        jax_pads(spec),
        rhs_dilation=spec.dilation,
        dimension_numbers=jax_numbers(spec),
        feature_group_count=spec.groups,
    )


def jax_transposed(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    return jax.lax.conv_transpose(
        x,
        w,
        spec.stride,
        jax_pads(spec),
        rhs_dilation=spec.dilation,
        dimension_numbers=jax_numbers(spec),
    )


def jax_grouped_transposed(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    # conv_transpose has no groups; this is what it calls.
    return jax.lax.conv_general_dilated(
        x,
        w,
        (1,) * spec.rank,
        dilated_pads(spec),
        lhs_dilation=spec.stride,
        rhs_dilation=spec.dilation,
        dimension_numbers=jax_numbers(spec),
        feature_group_count=spec.groups,
    )


def jax_transpose_kernel(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    # The kernel of the forward convolution: its I axis, third from the end in HWIO, is our O.
    numbers = (spec.layout, spec.weight_layout.translate(str.maketrans("OI", "IO")), spec.layout)
    return jax.lax.conv_transpose(
        x,
        w,
        spec.stride,
        jax_pads(spec),
        rhs_dilation=spec.dilation,
        dimension_numbers=numbers,
        transpose_kernel=True,
    )


def flax_conv(spec: ConvSpec, x: Array, w: Array, size: Any, **options: Any) -> Any:
    if spec.transposed:
        make: Any = flax.nnx.ConvTranspose
    else:
        make, options = flax.nnx.Conv, {"feature_group_count": spec.groups}
    layer = make(
        spec.in_channels,
        spec.out_channels,
        spec.kernel_size,
        spec.stride,
        padding=jax_pads(spec),
        kernel_dilation=spec.dilation,
        use_bias=False,
        kernel_init=jax.nn.initializers.zeros,
        rngs=flax.nnx.Rngs(0),
        **options,
    )
    assert layer.kernel.shape == w.shape
    layer.kernel[...] = w
    return layer(x)


def flax_transpose_kernel(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    return flax_conv(spec, x, w, size, transpose_kernel=True)


def keras_words(spec: ConvSpec) -> dict[str, Any]:
    return {
        "strides": spec.stride,
        "padding": "same" if spec.padding[0] == "same" else "valid",
        "data_format": "channels_last",
        "dilation_rate": spec.dilation,
    }


def keras_conv(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    if not spec.transposed:
        return keras.ops.conv(x, w, **keras_words(spec))
    # Left out, it makes "valid" mean n*s + max(e-s, 0), and "same" n*s.
    extra = None if spec.padding[0] == "same" else spec.output_padding
    return keras.ops.conv_transpose(x, w, output_padding=extra, **keras_words(spec))


def keras_depthwise(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    return keras.ops.depthwise_conv(x, w, **keras_words(spec))


def keras_layer(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    layers = keras.layers
    makers = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
    layer = makers[spec.rank - 1](
        spec.out_channels, spec.kernel_size, use_bias=False, **keras_words(spec)
    )
    layer.build(x.shape)
    layer.kernel.assign(w)
    return layer(x)


def onnx_model(spec: ConvSpec, x: Array, w: Array) -> Any:
    attributes: dict[str, Any] = {
        "strides": spec.stride,
        "dilations": spec.dilation,
        "group": spec.groups,
        "pads": [lo for lo, _ in spec.padding] + [hi for _, hi in spec.padding],
    }
    if spec.transposed:
        attributes["output_padding"] = spec.output_padding
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    name = "ConvTranspose" if spec.transposed else "Conv"
    graph = make.make_graph(
        [make.make_node(name, ["x", "w"], ["y"], **attributes)],
        "one_node",
        [
            make.make_tensor_value_info("x", kind, x.shape),
            make.make_tensor_value_info("w", kind, w.shape),
        ],
        [make.make_tensor_value_info("y", kind, None)],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 22)], ir_version=10)


def onnx_conv(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    model = onnx_model(spec, x, w).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ascontiguousarray(x), "w": np.ascontiguousarray(w)})[0]


def onnx_reference(spec: ConvSpec, x: Array, w: Array, size: Any) -> Any:
    return ReferenceEvaluator(onnx_model(spec, x, w)).run(None, {"x": x, "w": w})[0]


# ---- what each of them has ----


@dataclass(frozen=True)
class Native:
    """A native call and what it has.

    Attributes:
        convention: whose weights it takes.
        call: one of the functions above.
        backend: where convspec computes the same.
        padding: kinds of it: ``none``; ``even`` on both sides; ``pairs``; ``signed`` ones, which
            also crop; ``same``; ``framework's valid``, which is never below n*s when transposed.
        extra: whether it has output padding; ``"stride"``: below the stride only.
        groups: ``""``, ``"any"`` or ``"depthwise"``.
        dilated: whether it has dilation; ``"unstrided"``: only beside a stride of 1.
        ranks: the ranks it has.
        weight_layout: in place of the convention's.
        even_stride: whether all axes have the same stride.
        sized: whether it is told the size of a transposed output.
    """

    convention: str
    call: Callable[[ConvSpec, Array, Array, Any], Any]
    backend: str
    padding: tuple[str, ...] = ("none",)
    extra: str = ""
    groups: str = ""
    dilated: str = "any"
    ranks: tuple[int, ...] = (1, 2, 3)
    weight_layout: str | None = None
    even_stride: bool = False
    sized: bool = False


LAX = {"padding": ("signed", "same", "framework's valid"), "extra": "any", "backend": "jax"}
TRANSPOSED = {
    "torch": Native("torch", torch_conv, "torch", ("even",), "any", "any"),
    "tf.nn": Native("tensorflow", tf_conv, "tensorflow", ("none", "same"), "stride", dilated=""),
    "jax.lax": Native("jax", jax_transposed, **LAX),
    "jax.lax, grouped": Native(
        "jax", jax_grouped_transposed, "jax", ("signed",), "any", "any", ranks=(2, 3)
    ),
    "jax.lax, transpose_kernel": Native("tensorflow", jax_transpose_kernel, **LAX),
    "flax": Native("flax", flax_conv, ranks=(1, 2), **LAX),
    "flax, transpose_kernel": Native("tensorflow", flax_transpose_kernel, ranks=(2, 3), **LAX),
    "keras.ops": Native("keras", keras_conv, "tensorflow", ("none", "same"), "stride", dilated=""),
    "keras layer": Native(
        "keras", keras_layer, "tensorflow", ("framework's valid", "same"), dilated=""
    ),
    # Both refuse output padding from the stride on; the reference cannot compute groups.
    "onnxruntime": Native("onnx", onnx_conv, "numpy", ("pairs",), "stride", "any"),
    "onnx.reference": Native("onnx", onnx_reference, "numpy", ("pairs",), "stride"),
}
FORWARD = {
    "torch": Native("torch", torch_conv, "torch", ("even",), groups="any"),
    "tf.nn": Native("tensorflow", tf_conv, "tensorflow", ("none", "same"), dilated="unstrided"),
    "tf.nn, grouped": Native(
        "tensorflow", tf_conv, "tensorflow", ("none", "same"), "", "any", "unstrided", (1, 2)
    ),
    "tf.nn.depthwise_conv2d": Native(
        *("tensorflow", tf_depthwise, "tensorflow", ("none", "same"), "", "depthwise"),
        *("unstrided", (2,), "HWIM"),
    ),
    "jax.lax": Native("jax", jax_conv, "jax", ("signed", "same"), groups="any"),
    "flax": Native("flax", flax_conv, "jax", ("pairs", "same"), groups="any", ranks=(1, 2)),
    "keras.ops": Native("keras", keras_conv, "tensorflow", ("none", "same"), dilated="unstrided"),
    "keras.ops.depthwise_conv": Native(
        *("keras", keras_depthwise, "tensorflow", ("none", "same"), "", "depthwise"),
        *("unstrided", (2,), "HWIM"),
    ),
    "onnxruntime": Native("onnx", onnx_conv, "numpy", ("pairs",), groups="any"),
    "onnx.reference": Native("onnx", onnx_reference, "numpy", ("pairs",), groups="any"),
}
