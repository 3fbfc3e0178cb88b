"""MLX on the CPU: the gradient by the weight of a convolution of an empty batch is an error.

It is zero. With more channels the process ends by SIGFPE instead.
"""

from importlib.metadata import version

import mlx.core as mx

x, weight = mx.zeros((0, 4, 1)), mx.ones((1, 2, 1))
expected = [[[0.0], [0.0]]]
try:
    got: object = mx.grad(lambda w: mx.conv1d(x, w).sum())(weight).tolist()
except ValueError as error:
    got = f"{type(error).__name__}: {error}"
broken = got != expected

print(f"mlx {version('mlx')}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected}, got {got}")
raise SystemExit(broken)
