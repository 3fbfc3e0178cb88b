"""PyTorch's functional calls."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from convspec import ConvSpec
from convspec.problem import Problem

from .base import ANY_BATCH, Framework, Function

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


class Torch(Framework):
    differentiates = True

    def wait(self, result: Any) -> None:
        """On the CPU it has been computed already."""

    def threads(self) -> int:
        return int(torch.get_num_threads())

    def raw(self, spec: ConvSpec, problem: Problem, weight: Any) -> dict[str, tuple[Function, Any]]:
        call = _call(spec, problem)
        weights = self.weights(spec, weight)
        return {f"F.conv{', ' * bool(name)}{name}": (call, w) for name, w in weights.items()}

    def weights(self, spec: ConvSpec, weight: Any) -> dict[str, Any]:
        found = {"": weight}
        if spec.rank in FORMATS:
            last = weight.contiguous(memory_format=FORMATS[spec.rank])
            found["weight channels_last"] = last
        return found

    def ways(self, function: Function, *, gradients: bool) -> dict[str, Function]:
        # A compiled function is compiled anew for each workload: its cache is of no use here.
        compiled = torch.compile(function, dynamic=False)
        return {
            "eager": _differentiated(function) if gradients else _inferred(function),
            "compiled": _differentiated(compiled) if gradients else _inferred(compiled),
            ANY_BATCH: _of_any_batch(function, gradients=gradients),
        }


def _of_any_batch(function: Function, *, gradients: bool) -> Function:
    """Compiled for any number of samples above one, which torch knows by the second one it sees."""
    compiled = torch.compile(function)
    whole = _differentiated(compiled) if gradients else _inferred(compiled)
    seen = False

    def run(x: Any, w: Any, *cotangents: Any) -> Any:
        nonlocal seen
        if not seen:
            for count in (2, 3):
                repeats = (count, *[1] * (x.dim() - 1))
                whole(x[:1].repeat(repeats), w, *(c[:1].repeat(repeats) for c in cotangents))
            seen = True
        return whole(x, w, *cotangents)

    return run


def _inferred(function: Function) -> Function:
    def run(x: Any, w: Any) -> Any:
        with torch.inference_mode():
            return function(x, w)

    return run


def _differentiated(function: Function) -> Function:
    def run(x: Any, w: Any, cotangent: Any) -> Any:
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        y = function(x, w)
        return *torch.autograd.grad(y, (x, w), cotangent), y

    return run


def _call(spec: ConvSpec, problem: Problem) -> Function:
    """The call on x in the spec's layout; channels last in memory is what a permuted view has."""
    last = spec.layout.endswith("C")
    to = (0, spec.rank + 1, *range(1, spec.rank + 1))
    back = (0, *range(2, spec.rank + 2), 1)
    conv = getattr(F, f"conv{'_transpose' * spec.transposed}{spec.rank}d")
    options: dict[str, Any] = {
        "stride": spec.stride,
        "dilation": spec.dilation,
        "groups": spec.groups,
    }
    pairs = problem.padding
    if spec.transposed:
        options["output_padding"] = spec.output_padding
    before: list[int] = []
    if spec.padding_mode == "zeros" and all(lo == hi for lo, hi in pairs):
        options["padding"] = tuple(lo for lo, _ in pairs)
    else:
        before = [amount for pair in reversed(pairs) for amount in pair]
    mode = {"zeros": "constant"}.get(spec.padding_mode, spec.padding_mode)

    def run(x: Any, w: Any) -> Any:
        if last:
            x = x.permute(to)
        if before:
            x = F.pad(x, before, mode)
        y = conv(x, w, **options)
        return y.permute(back) if last else y

    return run
