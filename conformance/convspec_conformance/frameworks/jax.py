"""JAX: eager, jitted, and its own calls, always with 64-bit types."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convspec import ConvSpec, get_backend
from convspec.dtypes import ALL, COMPLEX

from ..raw import RawTarget, amounts, named
from ..targets import Array, BackendTarget, CompiledTarget

#: Names of padding: lax's own of ours.
WORDS = {"same": "SAME", "same_lower": "SAME_LOWER"}
#: Loops over elements by XLA's plain emitter, which takes half as long to compile. XLA ends the
#: process for a flag that it does not know, so it is set for versions that were seen to know it.
PLAIN_LOOPS = "--xla_cpu_use_fusion_emitters=false"
KNOWN = ((0, 8), (0, 10))


def _precise() -> None:
    """Wide types, and no TF32: float32 is judged as float32."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")


def eager() -> BackendTarget:
    """Compiled fast rather than well: XLA rewrites programs as ever, LLVM does not optimize them.

    Nearly all the time of a level is compilation. The jitted target has everything optimized.
    """
    _precise()
    if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:  # else it is as JAX has read it there
        jax.config.update("jax_disable_most_optimizations", True)
        if KNOWN[0] <= jax.__version_info__[:2] <= KNOWN[1]:  # read with the first computation
            os.environ["XLA_FLAGS"] = f"{PLAIN_LOOPS} {os.environ.get('XLA_FLAGS', '')}".strip()
    return BackendTarget(get_backend("jax"))


def jitted() -> BackendTarget:
    return Jitted()


def raw() -> RawTarget:
    return Raw()


class Jitted(CompiledTarget):
    """Each call under a jax.jit of the caller's."""

    def __init__(self) -> None:
        _precise()
        super().__init__(get_backend("jax"))

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        program: Callable[..., Any] = jax.jit(function)
        return program


class Raw(RawTarget):
    """lax.conv_general_dilated and lax.conv_transpose, as documented."""

    convention = "jax"

    def __init__(self) -> None:
        _precise()
        super().__init__("raw-jax", jax.__version__)

    def widens(self, dtype: str, out: str) -> bool:
        return (dtype in COMPLEX) == (out in COMPLEX)

    def lacks(self, spec: ConvSpec, dtype: str) -> str:
        if dtype not in ALL:
            return f"no {dtype}"
        if spec.padding_mode != "zeros":
            return "modes belong to jnp.pad"
        if spec.transposed and spec.groups > 1:
            return "conv_transpose has no groups"
        words = ("same",) if spec.transposed else tuple(WORDS)
        if named(spec) not in words and not amounts(spec):
            return "one word for all axes, or amounts"
        return ""

    def compute(self, spec: ConvSpec, x: Array, w: Array, b: Array | None, out_dtype: Any) -> Array:
        common: dict[str, Any] = {
            "rhs_dilation": spec.dilation,
            "dimension_numbers": (spec.layout, spec.weight_layout, spec.output_layout),
            "preferred_element_type": None if out_dtype is None else jnp.dtype(out_dtype),
        }
        pads: Any = WORDS.get(named(spec)) or amounts(spec)
        if not spec.transposed:
            y = jax.lax.conv_general_dilated(
                x, w, spec.stride, pads, feature_group_count=spec.groups, **common
            )
        else:
            if not named(spec):  # conv_transpose counts the padding of the dilated input
                pads = [
                    (e - 1 - lo, e - 1 - hi + extra)
                    for e, (lo, hi), extra in zip(
                        spec.receptive_field, amounts(spec), spec.output_padding, strict=True
                    )
                ]
            y = jax.lax.conv_transpose(x, w, spec.stride, pads, **common)
        return np.asarray(y if b is None else y + jnp.asarray(b).astype(y.dtype))
