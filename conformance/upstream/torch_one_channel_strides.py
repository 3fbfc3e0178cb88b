# needs: avx512f
"""PyTorch on the CPU: conv2d of one channel with unequal strides and one output column is wrong.

An input of one channel counts as channels-last whenever its channel stride is 1. oneDNN's kernel
for that format and AVX-512 is then wrong as under TensorFlow: see tensorflow_one_channel.py.
"""

import torch
import torch.nn.functional as F  # noqa: N812

weight = (torch.arange(6.0) % 5 - 2).reshape(1, 1, 2, 3)


def results(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    plain = (torch.arange(20.0 * samples) % 7 - 3).reshape(samples, 1, 5, 4)
    x = torch.empty_strided(plain.shape, (20, 1, 4, 1)).copy_(plain)
    assert torch.equal(x, plain)
    return F.conv2d(x, weight, stride=(1, 3)), F.conv2d(
        plain.double(), weight.double(), stride=(1, 3)
    )


# How many samples it takes differs with the number of threads.
wrong = [
    (got, right) for got, right in map(results, range(2, 9)) if not torch.equal(got.double(), right)
]
got, expected = wrong[0] if wrong else results(2)

print(f"torch {torch.__version__}: {'still broken' if wrong else 'fixed'}")
print(f"expected {expected.flatten().tolist()}, got {got.flatten().tolist()}")
raise SystemExit(bool(wrong))
