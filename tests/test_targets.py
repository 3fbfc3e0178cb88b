"""Targets by name: what is known of them unloaded, their modes, and frameworks' own calls."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convspec
import convspec_conformance as conformance
from convspec import BackendNotFoundError, ConvSpec, ConvSpecError
from convspec_conformance.cases import GRADIENTS, Case, parse
from convspec_conformance.catalogue import CATALOGUE, describe

SMOKE = conformance.suite("smoke", seed=0)


# ---- names ----


def test_names_without_a_framework() -> None:
    """Whoever starts processes knows every target and its environment, and imports nothing."""
    code = (
        "import sys\n"
        "from convspec_conformance.catalogue import CATALOGUE\n"
        "assert all(d.installed in (True, False) for d in CATALOGUE.values())\n"
        "assert not {'torch', 'tensorflow', 'jax', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_descriptions() -> None:
    assert describe("torch").environment == {}
    assert describe("tensorflow-without-onednn").environment == {"TF_ENABLE_ONEDNN_OPTS": "0"}
    assert describe("raw-keras-torch").environment == {"KERAS_BACKEND": "torch"}
    assert describe("raw-jax").raw
    assert not describe("jax").raw
    assert describe("mypackage.module:backend").source == "mypackage.module:backend"
    assert all(name == description.name for name, description in CATALOGUE.items())
    with pytest.raises(BackendNotFoundError, match="backend: 'pytorch' is no target; there are: "):
        describe("pytorch")


def test_settings_come_before_the_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow  # noqa: F401  (imported with oneDNN, so that it is too late)

    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    message = (
        "backend: 'tensorflow-without-onednn' needs TF_ENABLE_ONEDNN_OPTS=0 in the environment "
        "before tensorflow is imported; start a new process with it."
    )
    with pytest.raises(ConvSpecError, match=re.escape(message)):
        conformance.load("tensorflow-without-onednn")
    assert "TF_ENABLE_ONEDNN_OPTS" not in os.environ


# ---- the level smoke, whole ----

#: What can share the process of the tests, and which judges a mode does not take: what
#: torch.compile and NumPy cannot do at all. MLX and onnxruntime claim less, and say so.
HERE: dict[str, tuple[str, ...]] = {
    "numpy": GRADIENTS,
    "torch": (),
    "torch-channels-last": (),
    "torch-traced": ("gradient2", "threads"),
    "tensorflow": (),
    "tensorflow-graph": (),
    "tensorflow-xla": (),
    "jax-jit": (),
}
NARROW = ("mlx", "mlx-compiled", "onnxruntime", "dask")
#: What needs settings of its own, compiles in processes of its own, or may take its own with it.
APART = [name for name in CATALOGUE if name not in {*HERE, *NARROW}]


@pytest.mark.parametrize("name", HERE)
def test_every_case_is_claimed_and_right(name: str) -> None:
    target = conformance.load(name)
    for case in SMOKE:
        verdict = conformance.judge(case, target)
        right = "unclaimed" if case.judge in HERE[name] else "pass"
        assert verdict.status == right, f"{case.line}\n{verdict.detail}"


@pytest.mark.parametrize("name", NARROW)
def test_no_case_that_is_claimed_is_bad(name: str) -> None:
    target = conformance.load(name)
    counts = {"pass": 0, "unclaimed": 0}
    for case in SMOKE:
        verdict = conformance.judge(case, target)
        assert not verdict.bad, f"{case.line}\n{verdict.detail}"
        counts[verdict.status] += 1
    assert counts["pass"] > 30


@pytest.mark.parametrize("name", APART)
def test_the_command_on_every_other_target(name: str, tmp_path: Path) -> None:
    """Frameworks' own calls may be wrong, even crash; that, too, is found to the end."""
    words = ["--backend", name, "--level", "smoke", "--shrink", "0", "--jobs", "1"]
    options = ["--timeout", "300", "--json", str(tmp_path / "report.json")]
    command = [sys.executable, "-m", "convspec", "conformance", "run", *words, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in ((0, 1) if describe(name).raw else (0,)), done.stdout + done.stderr
    (found,) = json.loads((tmp_path / "report.json").read_text())["targets"]
    assert not found["broken"]
    assert len(found["results"]) >= len(SMOKE)


def test_channels_last_means_strides() -> None:
    target: Any = conformance.load("torch-channels-last")
    assert target.given(np.zeros((2, 3, 4, 5), "float32")).stride() == (60, 1, 15, 3)
    assert target.given(np.zeros((2, 3, 4, 5, 6), "float32")).stride() == (360, 1, 90, 18, 3)
    assert target.given(np.zeros((2, 3, 4), "float32")).stride() == (12, 4, 1)


# ---- a backend of a third party ----


class Box:
    """An array that no registered backend owns."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


class BoxBackend(convspec.Backend):
    """Boxes, computed by the reference; registered nowhere."""

    name = "box"

    @property
    def capabilities(self) -> convspec.Capabilities:
        return convspec.Capabilities("1", ("float32",), None, ("cpu",), gradients=False)

    def owns(self, x: object) -> bool:
        return isinstance(x, Box)

    def describe(self, x: Any) -> tuple[tuple[int, ...], str, str]:
        return x.array.shape, x.array.dtype.name, "cpu"

    def supports(self, problem: Any, env: Any) -> convspec.Support:
        ok = env.dtype == env.out_dtype == "float32" and not problem.transposed
        return convspec.Support(ok, "native" if ok else "none", "" if ok else "float32, forward")

    def prepare(self, problem: Any, env: Any) -> Any:
        if not self.supports(problem, env):
            raise convspec.UnsupportedError("backend: box computes float32, forward.")
        fields = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
        names = (*fields, "groups", "padding_mode", "layout", "output_layout", "weight_layout")
        given = {name: getattr(problem, name) for name in names}
        spec = ConvSpec(
            **given, flip_kernel=problem.flip_kernel, group_axis=problem.group_axis, bias=env.bias
        )
        return lambda *boxes: Box(convspec.reference(spec, *(box.array for box in boxes)))

    def from_foreign(self, x: Any, like: Any = None) -> Box:
        return Box(np.asarray(x))

    def to_numpy(self, x: Box) -> np.ndarray:
        return x.array


box_backend = BoxBackend()


def test_a_backend_that_is_not_registered() -> None:
    """As ``--backend package.module:object``, on arrays that only this object knows."""
    target = conformance.load("test_targets:box_backend")
    counts = {"pass": 0, "unclaimed": 0}
    for case in SMOKE:
        verdict = conformance.judge(case, target)
        assert not verdict.bad, f"{case.line}\n{verdict.detail}"
        counts[verdict.status] += 1
    assert min(counts.values()) > 20
    spec, x, w = ConvSpec(1, 1, 1, layout="NCW"), np.ones((1, 1, 3)), np.ones((1, 1, 1))
    wide = [a.astype("float32") for a in (x, w)]
    assert isinstance(spec(*wide, backend=box_backend), np.ndarray)
    assert isinstance(spec(Box(wide[0]), wide[1], backend=box_backend), Box)
    with pytest.raises(BackendNotFoundError, match=r"^x: no backend owns an array of type .*\.Box"):
        spec(Box(x), Box(w))


# ---- frameworks' own calls ----

RAW = ("raw-torch", "raw-tensorflow", "raw-jax")
#: What each framework documents, and gets right.
RIGHT = {
    "raw-torch": (
        "exact float32 2x4x5x6 seed=1 | ConvSpec(4, 6, (3, 2), padding=(1, 2), groups=2)",
        "exact float32 4x5x6 seed=1 | ConvSpec(4, 6, 3, padding='same', layout='CHW')",
        "exact float32 2x5x6x4 seed=1 view=reversed | ConvSpec(4, 6, 3, 2, 1, layout='NHWC', "
        "transposed=True, output_padding=(1, 0), flip_kernel=True, output_layout='CWHN')",
        "batch complex64 2x3x7 seed=1 | ConvSpec(3, 2, 3, 2, layout='NCW')",
        "adjoint float64 2x3x7x5 seed=1 | ConvSpec(3, 2, 3, 2, 1, layout='NCHW', bias=False)",
        "refusal float32 2x3x7x5 seed=1 wrong=channels | ConvSpec(3, 2, 3, layout='NCHW')",
    ),
    "raw-tensorflow": (
        "exact float32 2x4x5x6 seed=1 | ConvSpec(4, 6, (3, 2), (2, 1), 'same', layout='NCHW')",
        "exact float32 2x3x5x6 seed=1 | ConvSpec(3, 6, (3, 2), padding=((0, 1), 2), groups=3, "
        "layout='NCHW', weight_layout='HWIM')",
        "exact float64 4x5x6 seed=1 | ConvSpec(4, 6, 3, dilation=2, layout='CHW')",
        "exact float32 2x5x6x4 seed=1 | ConvSpec(4, 6, 3, 2, layout='NHWC', "
        "transposed=True, output_padding=(1, 0))",
    ),
    "raw-jax": (
        "exact float32 2x5x4x6 seed=1 | ConvSpec(4, 6, (3, 2), 2, 'same_lower', 2, 2, "
        "layout='NWCH', output_layout='HWCN')",
        "exact int8 2x4x5 seed=1 out=int32 filling=wide | ConvSpec(4, 6, 3, layout='NCW')",
        "exact float32 2x5x6x4 seed=1 | ConvSpec(4, 6, 3, 2, layout='NHWC', "
        "transposed=True, output_padding=(1, 0), padding=((1, 0), -1))",
        "refusal float32 2x3x7x5 seed=1 wrong=kernel_too_large | ConvSpec(3, 2, 2, layout='NCHW')",
    ),
}
#: What each framework does not document, and why it is not claimed.
MISSING = {
    "raw-torch": {
        "exact float32 1x2x5 seed=1 | ConvSpec(2, 2, 3, 2, 'same', layout='NCW')": (
            "same padding at stride 1 only"
        ),
        "exact int8 1x2x5 seed=1 | ConvSpec(2, 2, 3, layout='NCW')": "no int8 is documented",
        "refusal float32 1x2x5 seed=1 wrong=bias_unwanted | ConvSpec(2, 2, 3, layout='NCW')": (
            "a rule of convspec's own"
        ),
    },
    "raw-tensorflow": {
        "exact float32 1x2x5 seed=1 | ConvSpec(2, 2, 3, padding=1, layout='NCW')": (
            "explicit amounts are documented in 2-D alone"
        ),
        "exact float32 1x4x5 seed=1 | ConvSpec(4, 4, 3, groups=2, layout='NCW')": (
            "groups are documented for depthwise_conv2d alone"
        ),
    },
    "raw-jax": {
        "exact float32 1x4x5 seed=1 | ConvSpec(4, 4, 3, groups=2, layout='NCW', transposed=True)": (
            "conv_transpose has no groups"
        ),
        "exact float32 1x4x5 seed=1 out=complex64 | ConvSpec(4, 4, 3, layout='NCW')": (
            "float32 does not give complex64"
        ),
    },
}


@pytest.mark.parametrize("name", RAW)
def test_own_calls(name: str) -> None:
    target = conformance.load(name)
    for line in RIGHT[name]:
        verdict = conformance.judge(parse(line), target)
        assert verdict.status == "pass", f"{line}\n{verdict.detail}"
    for line, reason in MISSING[name].items():
        verdict = conformance.judge(parse(line), target)
        assert (verdict.status, verdict.detail) == ("unclaimed", reason), line


def test_what_a_framework_gets_wrong_shows() -> None:
    """tf.nn takes six channels and a filter of three for two groups."""
    case = parse("refusal float32 2x3x7x5 seed=1 wrong=channels | ConvSpec(3, 2, 2, layout='NCHW')")
    verdict = conformance.judge(case, conformance.load("raw-tensorflow"))
    assert (verdict.status, verdict.detail) == (
        "fail",
        "channels: accepted, and gave numbers of shape (2, 2, 6, 4)",
    )


def test_own_calls_of_keras() -> None:
    """In this process on whatever backend keras was imported with; each has a target."""
    from convspec_conformance.frameworks import keras

    target = keras.raw()
    assert target.name.startswith("raw-keras-")
    for line in (
        "exact float32 2x5x6x4 seed=1 | ConvSpec(4, 6, 3, 2, 'same', layout='NHWC')",
        "exact float32 2x5x6x4 seed=1 | ConvSpec(4, 8, 3, groups=4, layout='NHWC')",
        "exact float32 2x4x5 seed=1 | ConvSpec(4, 6, 3, 2, layout='NCW', transposed=True)",
    ):
        assert conformance.judge(parse(line), target).status == "pass", line


class Stub:
    """A target that promises no error of convspec's: what it does with a wrong call is given."""

    name = "stub"
    typed_refusals = False

    def __init__(self, answer: Callable[[], np.ndarray], claimed: bool = True) -> None:
        self.answer = answer
        self.claimed = claimed

    def run(self, *arguments: object, **options: object) -> np.ndarray:
        return self.answer()

    def claims(self, case: Case) -> Any:
        from convspec import Support

        return Support(self.claimed, "native" if self.claimed else "none")


def test_any_exception_refuses_where_none_is_promised() -> None:
    def raises() -> np.ndarray:
        raise RuntimeError("Given groups=1, expected 4 channels")

    spec = ConvSpec(4, 2, 3, layout="NCW")
    wrong = Case("refusal", spec, (1, 4, 5), wrong="channels")
    assert conformance.judge(wrong, Stub(raises)).status == "pass"
    assert conformance.judge(wrong, Stub(lambda: np.ones((1, 2, 3)))).status == "fail"
    assert conformance.judge(wrong, Stub(lambda: np.ones((1, 2, 0)))).status == "pass"
    assert conformance.judge(wrong, Stub(raises, claimed=False)).status == "unclaimed"
    typed = Stub(raises)
    typed.typed_refusals = True
    assert conformance.judge(wrong, typed).status == "fail"
    assert conformance.judge(replace(wrong, judge="exact"), typed).status == "error"


def test_gradients_of_complex_numbers_go_through_a_compiled_graph() -> None:
    """Whose backward pass fails on a cotangent that is a conjugated view."""
    case = conformance.parse("gradient complex64 2x4x9 seed=1 | ConvSpec(4, 6, (3,), layout='NCW')")
    assert conformance.judge(case, conformance.load("torch-traced")).status == "pass"
