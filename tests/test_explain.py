"""What ``explain`` says, and that what ``code`` writes runs and gives the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convspec
from convspec import ConvSpec
from generators import random_case


def test_explain_in_full() -> None:
    spec = ConvSpec(
        3, 8, (3, 3), stride=(2, 1), padding="same", layout="NHWC", weight_layout="HWIO"
    )
    assert spec.explain((1, 8, 8, 3), backend="torch") == (
        "ConvSpec(3, 8, (3, 3), stride=(2, 1), padding=('same', 'same'), layout='NHWC', "
        "weight_layout='HWIO')\n"
        "  input   NHWC: N=1, H=8, W=8, C=3 (float32)\n"
        "  weight  HWIO: H=3, W=3, I=3, O=8\n"
        "  output  NHWC: N=1, H=4, W=8, C=8\n"
        "  axis H  8 -> 4: kernel 3 spans 3, stride 2, pad (0, 1) from 'same'\n"
        "  axis W  8 -> 8: kernel 3 spans 3, stride 1, pad (1, 1) from 'same'\n"
        "torch: native path\n"
        "  x: permute (0, 3, 1, 2) (view)\n"
        "  x: pad zeros by ((0, 0), (0, 0), (0, 1), (1, 1))\n"
        "  weight: permute (3, 2, 0, 1) (view)\n"
        "  F.conv2d(x, weight, bias, stride=(2, 1))\n"
        "  y: permute (0, 2, 3, 1) (view)"
    )


def test_explain_tells_decompositions() -> None:
    text = ConvSpec(2, 4, (2, 2, 2, 2)).explain((1, 2, 3, 3, 3, 3), backend="torch")
    assert "torch: decomposed path" in text
    assert "  rank: one kernel call for each of the 2 taps of axis T" in text
    assert "  F.conv3d(x, weight)  x 2" in text


def test_explain_tells_what_is_not_supported() -> None:
    text = ConvSpec(2, 4, (2, 2)).explain(
        (1, 2, 3, 3), backend=NumpyWithoutIntegers(), dtype="int8"
    )
    assert text.endswith("numpy: not supported\n  no integers here")


class NumpyWithoutIntegers(type(convspec.get_backend("numpy"))):  # type: ignore[misc]
    def compute_dtype(self, dtype: str, out_dtype: str, device: str) -> str:
        raise convspec.UnsupportedError("no integers here")


SNIPPETS = {
    "forward": ConvSpec(3, 8, (3, 3), stride=2, padding=1, layout="NHWC", weight_layout="HWIO"),
    "volume": ConvSpec(2, 4, (2, 3, 3), padding="same", layout="NDCHW", weight_layout="ODIHW"),
    "grouped": ConvSpec(4, 6, (3, 2, 2), groups=2, padding=((1, 0), 0, "same")),
    "depthwise": ConvSpec(3, 6, (3, 3), groups=3, weight_layout="HWIM", layout="HWC"),
    "transposed": ConvSpec(4, 6, (3, 3), stride=2, padding=1, groups=2, transposed=True),
    "reflect": ConvSpec(2, 3, 3, padding=(2, 1), padding_mode="reflect", layout="NHWC"),
    "rank 4": ConvSpec(1, 2, (2, 2, 2, 2), bias=False),
    "rank 9": ConvSpec(1, 1, (1,) * 8 + (2,), bias=False),
    "flipped signal": ConvSpec(1, 2, (4,), padding="causal", flip_kernel=True, dilation=2),
}


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_run(name: str, backend: convspec.Backend) -> None:
    run_snippet(SNIPPETS[name], backend, "float32")


def test_snippets_of_an_empty_batch_run(backend: convspec.Backend) -> None:
    for spec in (SNIPPETS["grouped"], SNIPPETS["transposed"]):
        shape = tuple({"N": 0, "C": spec.in_channels}.get(letter, 5) for letter in spec.layout)
        space: dict[str, Any] = {}
        exec(spec.code(backend.name, shape), space)
        assert backend.to_numpy(space["y"]).shape == spec.output_shape(shape)


def test_bfloat16_snippet_brings_its_type() -> None:
    assert "import ml_dtypes" in ConvSpec(1, 1, (3,)).code("numpy", dtype="bfloat16")
    assert "ml_dtypes" not in ConvSpec(1, 1, (3,)).code("numpy")


def test_random_snippets_run(backend: convspec.Backend) -> None:
    rng = np.random.default_rng(9)
    for _ in range(8 if backend.name == "jax" else 60):
        case = random_case(rng)
        if not case.dtype.startswith("uint"):  # snippets make small integers of either sign
            run_snippet(case.spec, backend, case.dtype)


def run_snippet(spec: ConvSpec, backend: convspec.Backend, dtype: str) -> None:
    """The snippet's ``y`` against the reference on the snippet's own arrays."""
    source = spec.code(backend.name, dtype=dtype)
    # The prologue, the arrays and the steps are apart by blank lines; prologues may have some too.
    before, _, after = source.partition("\n\nx = ")
    arrays = "\n\nx = " + after.partition("\n\n")[0]
    space: dict[str, Any] = {}
    exec(before + arrays, space)
    x, w, b = (space.get(name) for name in ("x", "weight", "bias"))
    given = [None if a is None else backend.to_numpy(a) for a in (x, w, b)]
    exec(source, space)
    y = backend.to_numpy(space["y"])
    expected = convspec.reference(spec, *given)
    assert y.shape == expected.shape, source
    assert y.dtype == expected.dtype, source
    assert np.array_equal(y, expected), source
    assert source.rstrip().endswith(f"# y: {spec.output_layout}, shape {expected.shape}")
