"""torch.compile, torch.export, autocast, memory formats, and tensors without data."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import convspec
from convspec import ConvSpec, problem
from convspec.backend import Environment
from convspec.dispatch import get_backend

#: What a compiled call may consist of, beside arithmetic on sizes: the kernel, and moving data.
KERNELS = {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
MOVES = {"permute", "reshape", "view", "pad", "cat", "flip", "getitem", "to", "add"}
ENV = Environment("float32", "float32", bias=True, traced=True)

SPECS = {
    "plain": ConvSpec(4, 6, 3, padding=1, layout="NCHW"),
    "channels last": ConvSpec(
        4, 6, (3, 2), 2, "same", groups=2, layout="NHWC", weight_layout="HWIO"
    ),
    "pairs": ConvSpec(4, 6, (2, 3), padding=((0, 1), (2, -1)), layout="NCHW"),
    "circular": ConvSpec(4, 6, 3, padding=1, padding_mode="circular", layout="NCHW"),
    "reflect same": ConvSpec(4, 6, 3, 2, "same", padding_mode="reflect", layout="NCHW"),
    "replicate": ConvSpec(4, 6, 3, 3, "same", padding_mode="replicate", layout="NCHW"),
    "transposed": ConvSpec(4, 6, 3, 2, 1, transposed=True, output_padding=1, layout="NHWC"),
    "transposed same": ConvSpec(4, 6, 4, 3, "same_lower", transposed=True, layout="NCHW"),
    "flipped": ConvSpec(
        4, 6, 3, 2, groups=2, transposed=True, flip_kernel=True, group_axis="O", layout="NCHW"
    ),
    "depthwise": ConvSpec(4, 8, 3, groups=4, layout="NHWC", weight_layout="HWIM"),
    "unbatched": ConvSpec(4, 6, 3, 2, "same", layout="HWC"),
    "causal": ConvSpec(4, 6, 3, padding="causal", dilation=2, layout="NWC"),
    "volume": ConvSpec(4, 6, 3, (1, 2, 2), "same", layout="NDHWC"),
    "rank 4": ConvSpec(2, 3, (2, 3, 2, 1), padding="same", layout="NTDHWC"),
}


def arrays(spec: ConvSpec, size: int = 7, batch: int = 2) -> list[torch.Tensor]:
    """Small integers, so that results are compared with tolerance zero."""
    rng = np.random.default_rng(size * 10 + batch)
    sizes = {"N": batch, "C": spec.in_channels}
    sizes.update({letter: size + i for i, letter in enumerate(spec.spatial)})
    shapes = [[sizes[c] for c in spec.layout], spec.weight_shape, spec.bias_shape]
    return [torch.from_numpy(rng.integers(-3, 4, shape).astype("float32")) for shape in shapes]


class Recorder:
    """A compiler that keeps the graphs that it is given, and runs them as they are."""

    def __init__(self) -> None:
        self.graphs: list[torch.fx.Graph] = []

    def __call__(self, module: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.graphs.append(module.graph)
        return module.forward

    def names(self) -> list[str]:
        """What the last graph does with tensors, in order."""
        found = []
        for node in self.graphs[-1].nodes:
            if isinstance(node.meta.get("example_value"), torch.Tensor) and node.op.startswith("c"):
                found.append(node.target if node.op == "call_method" else node.target.__name__)
        return found

    def kernels(self) -> list[str]:
        """Those of them that convolve."""
        return [name for name in self.names() if name in KERNELS]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No graph of another test; and a compiler's warning is a failure."""
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("name", SPECS)
def test_one_graph_of_the_kernel_and_what_moves_data(name: str) -> None:
    spec, recorder = SPECS[name], Recorder()
    run = torch.compile(spec, fullgraph=True, backend=recorder, dynamic=False)
    given = arrays(spec)
    for _ in range(3):
        assert torch.equal(run(*given), spec(*given))
    assert len(recorder.graphs) == 1
    names = recorder.names()
    lowered = get_backend("torch").plan(problem.resolve(spec, tuple(given[0].shape), None), ENV)
    assert len(recorder.kernels()) == len(lowered.calls)
    assert set(names) - KERNELS <= MOVES, names


@pytest.mark.parametrize("name", SPECS)
def test_dynamic_sizes_compile_once(name: str) -> None:
    """Batch and space may be any: one graph, and its named padding follows the size."""
    spec, recorder = SPECS[name], Recorder()
    run = torch.compile(spec, fullgraph=True, backend=recorder, dynamic=True)
    weight, bias = arrays(spec)[1:]
    # First sizes that no weight has; no batch, with taps or without, crosses torch's guard at 16.
    for size, batch in ((11, 5), (10, 2), (9, 3), (12, 4)):
        x = arrays(spec, size, batch)[0]
        assert torch.equal(run(x, weight, bias), spec(x, weight, bias))
    assert len(recorder.graphs) == 1


def test_marked_sizes() -> None:
    """torch._dynamo.mark_dynamic: no guard of ours makes a marked size a number."""
    spec, recorder = SPECS["channels last"], Recorder()
    run = torch.compile(spec, fullgraph=True, backend=recorder)
    weight, bias = arrays(spec)[1:]
    for size, batch in ((11, 5), (8, 3), (13, 2)):
        x = arrays(spec, size, batch)[0]
        for axis in (0, 1, 2):
            torch._dynamo.mark_dynamic(x, axis)
        assert torch.equal(run(x, weight, bias), spec(x, weight, bias))
    assert len(recorder.graphs) == 1


def test_a_spec_is_static() -> None:
    """As an argument, an attribute and a closure; an equal spec does not compile anew."""
    recorder = Recorder()
    run = torch.compile(lambda spec, *given: spec(*given), fullgraph=True, backend=recorder)
    for k in (1, 2, 2, 1):
        spec = ConvSpec(4, 6, k, padding="same", layout="NHWC")
        given = arrays(spec)
        assert torch.equal(run(spec, *given), spec(*given))
    assert len(recorder.graphs) == 2

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spec = SPECS["channels last"]
            _, self.weight, self.bias = map(torch.nn.Parameter, arrays(self.spec))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.spec(x, self.weight, self.bias)

    layer = Layer()
    x = arrays(layer.spec)[0]
    run = torch.compile(layer, fullgraph=True, backend=recorder)
    assert torch.equal(run(x), layer(x))
    assert recorder.names() == ["permute", "permute", "conv2d", "permute"]


def test_specs_and_functional_forms_inside() -> None:
    recorder = Recorder()

    @torch.compile(fullgraph=True, backend=recorder)
    def run(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = ConvSpec(4, 6, (3, 2), stride=2, padding="same", layout="NHWC")
        return made(x, w), convspec.conv(x, w, stride=2, padding="same", layout="NHWC")

    spec = ConvSpec(4, 6, (3, 2), stride=2, padding="same", layout="NHWC")
    x, w, _ = arrays(spec)
    for _ in range(2):
        made, functional = run(x, w)
        assert torch.equal(made, spec(x, w))
        assert torch.equal(functional, spec(x, w))
    assert len(recorder.graphs) == 1


def test_the_first_call_may_be_compiled() -> None:
    """No adapter is loaded and no type of array known: still one graph, and it stays."""
    code = """
import torch, convspec
count = 0
def backend(module, inputs):
    global count
    count += 1
    return module.forward
spec = convspec.ConvSpec(2, 3, 3, layout="NHWC", padding="same")
x, w = torch.ones(1, 5, 5, 2), torch.nn.Parameter(torch.ones(3, 2, 3, 3))
run = torch.compile(spec, fullgraph=True, backend=backend)
y = run(x, w)
assert torch.equal(y, spec(x, w)) and torch.equal(run(x, w), y)
assert count == 1, count
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_what_a_spec_refuses_is_told() -> None:
    spec = SPECS["plain"]
    x, w, _ = arrays(spec)
    run = torch.compile(spec, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=re.escape("x: has 3 channels on axis 1 (C), but the spec")):
        run(x[:, :3], w)
