"""A trainable layer that runs any spec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from convspec import ConvSpec
from convspec.initial import initial_arrays
from convspec.natives import Layer


class Conv(nn.Module):  # type: ignore[misc]  # torch's types are not looked at here
    """A convolution whose every case is one spec's, with torch's parameters and initial values.

    Attributes:
        spec: the convolution.
        weight: of shape ``spec.weight_shape``, in the spec's order.
        bias: of shape ``(out_channels,)``, or None where ``spec.bias`` is false.

    Args:
        spec: the convolution.
        seed: draw the parameters by :func:`convspec.initial_arrays`, the same in every framework;
            by default torch draws them, the same as for ``torch.nn``'s own layer.
        device, dtype: of the parameters, as for ``torch.nn``'s layers.

    >>> layer = Conv(ConvSpec(3, 8, 3, 2, "same", layout="NHWC"))
    >>> layer(torch.zeros(1, 5, 5, 3)).shape
    torch.Size([1, 3, 3, 8])
    """

    spec: ConvSpec
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        spec: ConvSpec,
        *,
        seed: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.weight_shape, device=device, dtype=dtype))
        if spec.bias:
            self.bias = nn.Parameter(torch.empty(spec.bias_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw the parameters anew: see the class."""
        weight, bias = self._torchs() if seed is None else initial_arrays(self.spec, seed)
        with torch.no_grad():
            self.weight.copy_(torch.as_tensor(weight))
            if self.bias is not None:
                self.bias.copy_(torch.as_tensor(bias))

    def _torchs(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What ``torch.nn``'s layer starts from; its rule needs a weight in torch's order."""
        spec = self.spec.in_convention("torch")
        weight = self.weight.detach().new_empty(spec.weight_shape)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        if self.bias is None:
            return spec.convert_weight(weight, to=self.spec), None
        bound = 1 / math.sqrt(math.prod(spec.weight_shape[1:]))
        bias = nn.init.uniform_(torch.empty_like(self.bias), -bound, bound)
        return spec.convert_weight(weight, to=self.spec), bias.detach()

    def forward(
        self, x: torch.Tensor, output_size: int | Sequence[int] | None = None
    ) -> torch.Tensor:
        """``spec(x, weight, bias)``; ``output_size`` is for transposed specs."""
        return self.spec(x, self.weight, self.bias, output_size=output_size)

    if TYPE_CHECKING:  # of a module, type checkers know nothing but that it can be called

        def __call__(
            self, x: torch.Tensor, output_size: int | Sequence[int] | None = None
        ) -> torch.Tensor: ...

    def extra_repr(self) -> str:
        return repr(self.spec)

    def read(self) -> Layer:
        """What :meth:`ConvSpec.from_native` makes of it."""
        return Layer(self.spec, self.weight, self.bias)
