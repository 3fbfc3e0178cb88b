"""Replicated and reflected volumes in channels-last memory: two strides.

A padded tensor without data is row-major, one with data is channels-last, so that a program which
torch.compile records with one calls what the other does not have, such as a view.
"""

import torch
from torch.nn.functional import pad

x = torch.zeros(1, 2, 3, 4, 5).to(memory_format=torch.channels_last_3d)
modes = "replicate", "reflect"
got = [pad(x, [1] * 6, mode).stride() for mode in modes]
expected = [pad(x.to("meta"), [1] * 6, mode).stride() for mode in modes]
broken = got != expected

print(f"torch {torch.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected}, got {got}")
raise SystemExit(broken)
