# needs: avx512f
# crashes
"""PyTorch on the CPU: the gradient by the weight of a 1x1 kernel with strides, few channels, last.

The kernel of tensorflow_strided_point, which writes beyond its memory: the process ends sooner or
later.
"""

import torch

torch.set_num_threads(1)  # more may wait for each other for ever
for width in range(33, 97):
    for channels in (1, 2, 3, 5, 8):
        x = torch.ones(1, channels, width, width).to(memory_format=torch.channels_last)
        weight = torch.ones(1, channels, 1, 1, requires_grad=True)
        y = torch.nn.functional.conv2d(x, weight, stride=2)
        (got,) = torch.autograd.grad(y.sum(), weight)

print(f"torch {torch.__version__}: fixed")
print(f"expected {y.numel()}, got {float(got[0, 0, 0, 0]):g}")
