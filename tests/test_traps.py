"""What frameworks are known to get wrong, right through the spec on every backend.

Each case was wrong, refused or aborted in at least one framework's own call on the releases that
``constraints.txt`` names. Numbers are integers; the tolerance is zero.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convspec
from convspec import ConvSpec, ShapeError, reference
from convspec_conformance.cases import GRADIENTS, Case
from convspec_conformance.judges import judge
from convspec_conformance.targets import BackendTarget

LAST3 = {"layout": "NDHWC", "weight_layout": "DHWIO"}
LAST2 = {"layout": "NHWC", "weight_layout": "HWIO"}
FIRST3 = {"layout": "NCDHW"}


def exact(spec: ConvSpec, shape: tuple[int, ...], dtype: str = "float32", **options: Any) -> Case:
    return Case("exact", spec, shape, dtype=dtype, **options)


CASES = {
    "TensorFlow: conv3d on an empty batch gives the input's channel count": exact(
        ConvSpec(3, 5, 2, **LAST3), (0, 4, 4, 4, 3)
    ),
    "TensorFlow: grouped conv3d raises": exact(
        ConvSpec(4, 6, 2, groups=2, **LAST3), (2, 3, 4, 3, 4)
    ),
    "TensorFlow: conv3d takes no explicit padding": exact(
        ConvSpec(2, 3, 3, padding=((2, 0), 1, (0, 1)), **LAST3), (1, 3, 4, 5, 2)
    ),
    "TensorFlow: int32 in 1-D and 2-D only": exact(
        ConvSpec(2, 3, 2, **LAST3), (1, 3, 3, 3, 2), "int32"
    ),
    "TensorFlow: depthwise with stride 2 and dilation 3 has a wrong shape": exact(
        ConvSpec(3, 6, 3, 2, "same", 3, groups=3, layout="NHWC", weight_layout="HWIM"),
        (2, 11, 10, 3),
    ),
    "TensorFlow: float16 accumulates in float16": exact(
        ConvSpec(64, 4, 3, padding=1, **LAST2), (1, 6, 6, 64), "float16", filling="wide"
    ),
    "TensorFlow: bfloat16 accumulates in bfloat16 without oneDNN": exact(
        ConvSpec(64, 4, 3, padding=1, **LAST2), (1, 6, 6, 64), "bfloat16", filling="wide"
    ),
    "TensorFlow: channels first on a CPU without oneDNN": exact(
        ConvSpec(2, 3, 3, 2, 1, **FIRST3), (2, 2, 5, 4, 5)
    ),
    "TensorFlow: dilated 3-D on a CPU without oneDNN": exact(
        ConvSpec(2, 3, 2, dilation=2, **LAST3), (1, 4, 5, 4, 2)
    ),
    "TensorFlow: 3-D dilated unequally": exact(
        ConvSpec(2, 3, 2, dilation=(1, 2, 3), **LAST3), (1, 4, 5, 5, 2)
    ),
    "TensorFlow: one channel, unequal strides, one output column": exact(
        ConvSpec(1, 2, 3, (2, 3), **LAST2), (3, 7, 3, 1)
    ),
    "TensorFlow: stride with dilation": exact(
        ConvSpec(2, 3, 3, 2, 2, 2, layout="NHWC"), (1, 9, 8, 2)
    ),
    "torch: same padding with a stride": exact(
        ConvSpec(2, 3, 3, 2, "same", layout="NCHW"), (1, 2, 6, 7)
    ),
    "torch: asymmetric padding": exact(
        ConvSpec(2, 3, 3, 2, ((0, 1), (2, -1)), layout="NCHW"), (1, 2, 6, 7)
    ),
    "torch: reflection as far as it goes": exact(
        ConvSpec(2, 3, 2, padding=3, padding_mode="reflect", layout="NCW"), (1, 2, 4)
    ),
    "torch: one circular wrap": exact(
        ConvSpec(2, 3, 2, padding=4, padding_mode="circular", layout="NCW"), (1, 2, 4)
    ),
    "torch: int8 wraps": exact(ConvSpec(8, 3, 3, layout="NCHW"), (1, 8, 4, 4), "int8"),
    "torch: int8 widened": exact(
        ConvSpec(8, 3, 3, layout="NCHW"), (1, 8, 4, 4), "int8", out_dtype="int32", filling="wide"
    ),
    "torch: one input channel to each group": exact(
        ConvSpec(3, 3, (3, 1), groups=3, layout="NHWC", weight_layout="HWIO"), (2, 5, 4, 3)
    ),
    "JAX: groups in a transposed convolution": exact(
        ConvSpec(4, 6, 3, 2, 1, groups=2, transposed=True, output_padding=1, layout="NHWC"),
        (2, 3, 4, 4),
    ),
    "JAX: named padding of a transposed convolution": exact(
        ConvSpec(2, 3, 3, 2, "same", transposed=True, layout="NHWC"), (1, 3, 4, 2)
    ),
    "JAX: cropped at the start of an axis and padded at its end": exact(
        ConvSpec(2, 4, 3, (2, 1), ((-1, 1), (-2, 1)), groups=2, layout="NHWC"), (2, 5, 5, 2)
    ),
    "JAX: the same, transposed": exact(
        ConvSpec(2, 2, 2, padding=((2, -1), 0), transposed=True, layout="NHWC"), (2, 4, 3, 2)
    ),
    "JAX: an axis like one of groups, the kernel larger than its input": exact(
        ConvSpec(1, 1, (2, 3), (2, 1), (1, 0), transposed=True, layout="NCHW"),
        (1, 1, 4, 2),
        "float64",
    ),
    "JAX: the same in a gradient": Case(
        "gradient", ConvSpec(2, 3, (2, 3), (2, 1), (1, 0), layout="NCHW"), (1, 2, 4, 4)
    ),
    "JAX: the same in a gradient of a gradient": Case(
        "gradient2", ConvSpec(1, 1, (3, 2), 1, (1, 0), (2, 1), layout="NCHW"), (1, 1, 4, 5)
    ),
    "Keras: the larger half first": exact(
        ConvSpec(2, 3, 2, 1, "same_lower", layout="NHWC"), (1, 5, 4, 2)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_right_on_every_backend(backend: convspec.Backend, name: str) -> None:
    verdict = judge(CASES[name], BackendTarget(backend))
    without = CASES[name].judge in GRADIENTS and type(backend).vjp is convspec.Backend.vjp
    assert verdict.status == ("unclaimed" if without else "pass"), verdict.detail


def test_an_output_of_no_size_is_refused(backend: convspec.Backend) -> None:
    """TensorFlow answers a VALID convolution without any output with uninitialised memory."""
    x, w = (backend.from_foreign(np.ones(s, "float32")) for s in ((1, 2, 5, 3), (3, 3, 3, 4)))
    with pytest.raises(ShapeError, match="H"):
        ConvSpec(3, 4, 3, **LAST2)(x, w)


def test_channels_never_become_groups(backend: convspec.Backend) -> None:
    """Keras and TensorFlow take four channels for two groups of the weight's two."""
    x, w = (backend.from_foreign(np.ones(s, "float32")) for s in ((1, 5, 5, 4), (3, 3, 2, 4)))
    with pytest.raises(ShapeError, match="channels"):
        ConvSpec(2, 4, 3, **LAST2)(x, w)


def test_channels_last_3d_is_a_stride_order() -> None:
    """Not NDHWC: the axes of such a tensor are still named NCDHW."""
    import torch

    spec = ConvSpec(3, 4, 3, padding=1, layout="NCDHW")
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (2, 3, 4, 5, 6)).astype("float32")
    w = rng.integers(-3, 4, spec.weight_shape).astype("float32")
    given = torch.from_numpy(x).to(memory_format=torch.channels_last_3d)
    y = spec(given, torch.from_numpy(w))
    assert y.shape == (2, 4, 4, 5, 6)
    np.testing.assert_array_equal(y.numpy(), reference(spec, x, w))


OTHER_KERNELS = """
import os
import sys
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import test_util
sys.path.insert(0, sys.argv[1])
import convspec
from test_exact import check
from test_traps import CASES, judge, BackendTarget
from generators import random_case
assert test_util.IsMklEnabled() == (os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1")
backend = convspec.get_backend("tensorflow")
for name, case in CASES.items():
    verdict = judge(case, BackendTarget(backend))
    assert verdict.status == "pass", (name, verdict)
rng = np.random.default_rng(5)
for _ in range(150):
    check(backend, random_case(rng), rng)
"""


def test_tensorflow_with_and_without_onednn() -> None:
    """As on other CPUs: without it, many kernels are missing and half types accumulate in half."""
    from convspec_tensorflow._slow import onednn

    done = subprocess.run(
        [sys.executable, "-c", OTHER_KERNELS, str(Path(__file__).parent)],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0" if onednn() else "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
