# needs: avx512f
# crashes
"""PyTorch on the CPU: the gradient by the weight of conv3d with strides, much padding, few planes.

The kernel of tensorflow_volume_ends: it writes beyond its memory, or is wrong, or never ends.
"""

import torch

torch.set_num_threads(1)  # more may wait for each other for ever
x, weight = torch.ones(2, 16, 5, 8, 8), torch.ones(4, 16, 7, 3, 3)
rest = None, [2, 1, 1], [3, 1, 1], [1, 1, 1], False, [0, 0, 0], 1


def gradient(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    g = torch.ones_like(torch.ops.aten.convolution(x, weight, *rest))
    mask = [False, True, False]
    return torch.ops.aten.convolution_backward(g, x, weight, *rest, mask)[1]


for _ in range(1000):
    got = gradient(x, weight)
expected = gradient(x.double(), weight.double())
wrong = not torch.equal(got.double(), expected)
print(f"torch {torch.__version__}: {'still broken' if wrong else 'fixed'}")
print(f"expected {expected.sum():g}, got {got.sum():g}")
raise SystemExit(wrong)
