"""PyTorch on the CPU: the gradient by the input, where the stride along W does not divide W.

Each of oneDNN's threads copies the gradient of the output into memory of its own, and behind the
last row it writes zeros into the memory of the next thread, which may be reading there.
"""

import torch

threads = torch.get_num_threads()
torch.set_num_threads(2)
x = torch.zeros(3, 1, 64, 31)
weight = torch.ones(32, 1, 1, 5)
rest = [0], (2, 3), (0, 1), (1, 1), False, (0, 0), 1, (True, False, False)


def gradient(dtype: torch.dtype) -> torch.Tensor:
    g = torch.ones(3, 32, 32, 10, dtype=dtype)
    given = g, x.to(dtype), weight.to(dtype)
    return torch.ops.aten.convolution_backward(*given, *rest)[0].double()


expected = gradient(torch.float64)
wrong = sum(not torch.equal(gradient(torch.float32), expected) for _ in range(500))
torch.set_num_threads(threads)

print(f"torch {torch.__version__}: {'still broken' if wrong else 'fixed'}")
print(f"expected 0 of 500 gradients to be wrong, got {wrong}")
raise SystemExit(wrong > 0)
