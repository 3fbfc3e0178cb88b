"""What a type checker in strict mode makes of the public names: arrays in, the same kind out."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Each line's type, as mypy reveals it.
LINES = {
    "spec(x, w)": "torch._tensor.Tensor",
    "spec(x, w, output_size=(8, 8), backend='numpy')": "torch._tensor.Tensor",
    "conv(x, w, padding='same')": "torch._tensor.Tensor",
    "conv_transpose(x, w, stride=(2, 2))": "torch._tensor.Tensor",
    "convert_layout(x, 'NCHW', 'NHWC')": "torch._tensor.Tensor",
    "spec.convert_weight(w, to='jax')": "torch._tensor.Tensor",
    "layer(x)": "torch._tensor.Tensor",
    "layer.weight": "torch.nn.parameter.Parameter",
    "layer.bias": "torch.nn.parameter.Parameter | None",
    "spec(a, a)": "numpy.ndarray[tuple[int, int, int, int], numpy.dtype[numpy.float64]]",
    "spec.output_shape((1, 3, 8, 8))": "tuple[int, ...]",
    "spec.supports('torch').path": "str",
    "spec.diff(told)": "list[str]",
}
HEAD = """
import numpy as np
import torch
from convspec import ConvSpec, conv, conv_transpose, convert_layout
from convspec_torch import Conv
spec = ConvSpec(3, 4, (3, 3), padding=("same", (1, 2)))
x, w = torch.zeros(1, 3, 8, 8), torch.zeros(spec.weight_shape)
a = np.zeros((1, 3, 8, 8))
layer = Conv(spec, seed=0)
told: ConvSpec = ConvSpec.from_native(layer)
"""


def test_arrays_keep_their_type(pytestconfig: pytest.Config) -> None:
    place = pytestconfig.cache.mkdir("mypy")  # where mypy finds what it knows of torch next time
    (place / "snippet.py").write_text(HEAD + "".join(f"reveal_type({line})\n" for line in LINES))
    options = ["--strict", "--config-file=", "--cache-dir=cache", "--no-pretty"]
    # In a process of its own: in this one, full of frameworks, mypy takes twice as long.
    command = [sys.executable, "-m", "mypy", *options, "snippet.py"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    first = HEAD.count("\n") + 1
    expected = [
        f'snippet.py:{first + i}: note: Revealed type is "{kind}"'
        for i, kind in enumerate(LINES.values())
    ]
    assert done.stdout.splitlines() == [*expected, "Success: no issues found in 1 source file"]
    assert done.returncode == 0
