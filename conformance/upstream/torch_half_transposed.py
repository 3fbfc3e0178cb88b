"""PyTorch on the CPU: conv_transpose1d of float16 rounds partial sums to float16.

Forward convolutions accumulate in float32 and round once. Here every partial sum is an integer
that float32 has, so the only right answer is the exact sum, rounded to float16 once. The same
holds in 2-D and 3-D, and for bfloat16.
"""

import torch
import torch.nn.functional as F  # noqa: N812

x = (torch.arange(128.0) * 37 % 121 - 60).reshape(1, 16, 8)
weight = (torch.arange(48.0) * 29 % 61 - 30).reshape(16, 1, 3)

expected = F.conv_transpose1d(x, weight).half().flatten()
got = F.conv_transpose1d(x.half(), weight.half()).flatten()
broken = not torch.equal(got, expected)

print(f"torch {torch.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected.tolist()}, got {got.tolist()}")
raise SystemExit(broken)
