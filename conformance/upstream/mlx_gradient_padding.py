"""MLX: the gradient by a dilated input has a wrong shape where padding reaches beyond the kernel.

The gradient's own convolution then has negative padding, see mlx_negative_padding.py.
"""

from importlib.metadata import version

import mlx.core as mx

x, weight = mx.ones((1, 3, 1)), mx.ones((1, 1, 1))
expected = (1, 3, 1)


def total(a: mx.array) -> mx.array:
    return mx.conv_general(a, weight, padding=1, input_dilation=2).sum()


try:
    got: object = tuple(mx.grad(total)(x).shape)
except ValueError as error:
    got = f"refused: {error}"
broken = got != expected

print(f"mlx {version('mlx')}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected}, got {got}")
raise SystemExit(broken)
