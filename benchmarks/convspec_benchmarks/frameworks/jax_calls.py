"""JAX's own calls, jitted or not: in the layout that is given, or permuted around it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from convspec import ConvSpec
from convspec.layouts import permutation
from convspec.problem import Problem

from .base import Framework, Function, amounts

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Jax(Framework):
    differentiates = True

    def wait(self, result: Any) -> None:
        jax.block_until_ready(result)

    def raw(self, spec: ConvSpec, problem: Problem, weight: Any) -> dict[str, tuple[Function, Any]]:
        found = {f"lax, {spec.layout}": (_call(spec, problem, spec.layout), weight)}
        for layout in (f"N{spec.spatial}C", f"NC{spec.spatial}"):
            if layout != spec.layout:
                found[f"lax, permuted to {layout}"] = (_call(spec, problem, layout), weight)
        return found

    def ways(self, function: Function, *, gradients: bool) -> dict[str, Function]:
        if gradients:
            function = _differentiated(function)
        return {"eager": function, "compiled": jax.jit(function)}

    def raw_ways(self, function: Function, *, gradients: bool) -> dict[str, Function]:
        ways = self.ways(function, gradients=gradients)
        return {"eager": ways["eager"], "jit": ways["compiled"]}


def _differentiated(function: Function) -> Function:
    def run(x: Any, w: Any, cotangent: Any) -> Any:
        y, back = jax.vjp(function, x, w)
        return *back(cotangent), y

    return run


def _call(spec: ConvSpec, problem: Problem, layout: str) -> Function:
    to, back = permutation(spec.layout, layout), permutation(layout, spec.layout)
    numbers = (layout, spec.weight_layout, layout)
    pairs, mode = problem.padding, spec.padding_mode

    def run(x: Any, w: Any) -> Any:
        if mode != "zeros":
            x = jnp.pad(x, amounts(spec, problem), mode=MODES[mode])
        x = x.transpose(to)
        if spec.transposed:
            padding = [
                (e - 1 - lo, e - 1 - hi + extra)
                for e, (lo, hi), extra in zip(
                    spec.receptive_field, pairs, spec.output_padding, strict=True
                )
            ]
            y = jax.lax.conv_general_dilated(
                x,
                w,
                (1,) * spec.rank,
                padding,
                lhs_dilation=spec.stride,
                rhs_dilation=spec.dilation,
                dimension_numbers=numbers,
                feature_group_count=spec.groups,
            )
        else:
            y = jax.lax.conv_general_dilated(
                x,
                w,
                spec.stride,
                pairs if mode == "zeros" else [(0, 0)] * spec.rank,
                rhs_dilation=spec.dilation,
                dimension_numbers=numbers,
                feature_group_count=spec.groups,
            )
        return y.transpose(back)

    return run
