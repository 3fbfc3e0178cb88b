"""The axis orders and habits of each framework, under one name.

Sources: torch.nn.Conv3d and ConvTranspose3d; tf.nn.conv3d and conv3d_transpose; keras.ops.conv
and conv_transpose; jax.lax.conv_transpose (its default order; lax.conv_general_dilated has to be
told one) and flax.nnx.ConvTranspose with ``transpose_kernel=False``; ONNX Conv-22 and
ConvTranspose-22; mlx.core.conv_general; MXNet Convolution and Deconvolution; MatConvNet vl_nnconv
and vl_nnconvt.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConvSpecError


@dataclass(frozen=True)
class Convention:
    """How one framework orders its arrays; ``*`` stands for the spatial letters.

    Attributes:
        data: data layout.
        weight: weight layout of a forward convolution (groups always on O).
        transposed_weight: weight layout of a transposed convolution.
        transposed_flip: whether that kernel is the reversed one (``flip_kernel``).
        transposed_group_axis: the axis of that kernel which spans all groups.
    """

    name: str
    data: str
    weight: str
    transposed_weight: str
    transposed_flip: bool = False
    transposed_group_axis: str = "I"


_TABLE = [
    #          name          data    weight  transposed
    Convention("torch", "NC*", "OI*", "IO*"),
    Convention("tensorflow", "N*C", "*IO", "*OI"),
    Convention("keras", "N*C", "*IO", "*OI"),
    Convention("jax", "N*C", "*IO", "*IO", transposed_flip=True, transposed_group_axis="O"),
    Convention("flax", "N*C", "*IO", "*IO", transposed_flip=True, transposed_group_axis="O"),
    Convention("onnx", "NC*", "OI*", "IO*"),
    Convention("mlx", "N*C", "O*I", "O*I", transposed_group_axis="O"),
    Convention("mxnet", "NC*", "OI*", "IO*"),
    Convention("matconvnet", "*CN", "*IO", "*OI"),
]
CONVENTIONS = {convention.name: convention for convention in _TABLE}


def get_convention(name: str) -> Convention:
    """The convention called ``name``.

    Raises:
        ConvSpecError: there is none; the message lists those there are.
    """
    try:
        return CONVENTIONS[name]
    except (KeyError, TypeError):
        known = ", ".join(CONVENTIONS)
        raise ConvSpecError(f"convention: {name!r} is none of {known}.") from None
