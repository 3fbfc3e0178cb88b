"""PyTorch on the CPU: a grouped conv2d is wrong where the weight's strides are ambiguous.

The weight has one row, so the stride of that axis is arbitrary: it counts as channels-last, and
its strides are handed to oneDNN as they are. Every element of the result is wrong; the same
numbers in row-major memory give the right ones. Compare pytorch/pytorch#82060 (closed) and
pytorch/pytorch#195394 (open: such strides of the input crash).
"""

import torch
import torch.nn.functional as F  # noqa: N812

x = (torch.arange(160.0) % 7 - 3).reshape(2, 5, 4, 4).permute(0, 3, 1, 2)
plain = (torch.arange(16.0) % 5 - 2).reshape(4, 2, 1, 2)
weight = torch.empty_strided((4, 2, 1, 2), (4, 1, 16, 2)).copy_(plain)
assert torch.equal(weight, plain)

expected = F.conv2d(x.double(), plain.double(), groups=2)
got = F.conv2d(x, weight, groups=2)
broken = not torch.equal(got.double(), expected)

print(f"torch {torch.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected.flatten()[:4].tolist()}, got {got.flatten()[:4].tolist()}")
raise SystemExit(broken)
