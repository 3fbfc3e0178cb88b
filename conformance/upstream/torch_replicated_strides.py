"""The gradient of replicated pictures in channels-last memory: two strides.

That of tensors without data is row-major, that of data is channels-last. So code that Inductor
makes (torch.compile) raises: "expected size 2==2, stride 1==12 at dim=1".
"""

import torch

x = torch.zeros(1, 2, 3, 4).to(memory_format=torch.channels_last)
g, amounts = torch.zeros(1, 2, 5, 6), [1, 1, 1, 1]
gradient = torch.ops.aten.replication_pad2d_backward
got = gradient(g, x, amounts).stride()
expected = gradient(g.to("meta"), x.to("meta"), amounts).stride()
broken = got != expected

print(f"torch {torch.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected}, got {got}")
raise SystemExit(broken)
