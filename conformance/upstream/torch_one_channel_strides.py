"""PyTorch on the CPU: conv2d of one channel with unequal strides and one output column is wrong.

An input of one channel counts as channels-last whenever its channel stride is 1. oneDNN's kernel
for that format is then wrong as it is under TensorFlow: see tensorflow_one_channel.py.
"""

import torch
import torch.nn.functional as F  # noqa: N812

plain = (torch.arange(40.0) % 7 - 3).reshape(2, 1, 5, 4)
x = torch.empty_strided(plain.shape, (20, 1, 4, 1)).copy_(plain)
weight = (torch.arange(6.0) % 5 - 2).reshape(1, 1, 2, 3)
assert torch.equal(x, plain)

expected = F.conv2d(plain.double(), weight.double(), stride=(1, 3))
got = F.conv2d(x, weight, stride=(1, 3))
broken = not torch.equal(got.double(), expected)

print(f"torch {torch.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected.flatten().tolist()}, got {got.flatten().tolist()}")
raise SystemExit(broken)
