"""``backend="fastest"``: measured once, remembered, and never a failure of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import convspec
import convspec_benchmarks.timing as timing
from convspec import ConvSpec, ShapeError, calls, dispatch, tuning

SPEC = ConvSpec(2, 3, (3, 3), padding=1, layout="NHWC")
X = np.arange(2 * 4 * 5 * 2, dtype="float32").reshape(2, 4, 5, 2) % 7 - 3
W = np.arange(np.prod(SPEC.weight_shape), dtype="float32").reshape(SPEC.weight_shape) % 5 - 2
EXPECTED = convspec.reference(SPEC, X, W)


def forget() -> None:
    """What another process would start with."""
    tuning._winners = None
    tuning._warned.clear()


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An own cache directory, and two candidates."""
    monkeypatch.setenv("CONVSPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dispatch, "installed", lambda: ("numpy", "torch"))
    forget()
    yield tmp_path / "cache" / "fastest.jsonl"
    forget()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The candidates of each measurement, of which the last wins."""
    found: list[list[str]] = []

    def interleaved(runs: dict[str, Any], repeats: int) -> dict[str, list[float]]:
        found.append(list(runs))
        return {name: [1.0 / (i + 1)] * repeats for i, name in enumerate(runs)}

    monkeypatch.setattr(timing, "interleaved", interleaved)
    return found


def call_twice() -> None:
    for _ in range(2):
        assert np.array_equal(SPEC(X, W, backend="fastest"), EXPECTED)


def engines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the backends that prepare or run a call from now on."""
    found: list[str] = []
    original = calls._elsewhere

    def elsewhere(own: Any, engine: Any, *rest: Any) -> Any:
        found.append(engine.name)
        return original(own, engine, *rest)

    monkeypatch.setattr(calls, "_elsewhere", elsewhere)
    return found


def test_the_winner_is_measured_once_and_used(
    measured: list[list[str]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert np.array_equal(SPEC(X, W, backend="fastest"), EXPECTED)
    assert measured == [["numpy", "torch"]]
    used = engines(monkeypatch)
    for _ in range(2):
        y = SPEC(X, W, np.ones(3, "float32"), backend="fastest")
        assert isinstance(y, np.ndarray)
        assert np.array_equal(y, EXPECTED + 1)
    forget()  # another process
    assert np.array_equal(SPEC(X, W, backend="fastest"), EXPECTED)
    assert used == ["torch"] * 3
    assert len(measured) == 1
    assert SPEC(X[:1], W, backend="fastest").shape == (1, 4, 5, 3)
    assert len(measured) == 2, "another shape is another problem"
    assert len(file.read_text().split()) > 2


def test_tune_tells_and_remembers(measured: list[list[str]], monkeypatch: pytest.MonkeyPatch):
    assert convspec.tune(SPEC, X.shape) == {"torch": 0.5, "numpy": 1.0}
    assert convspec.tune(SPEC, X.shape, framework="torch") == {"numpy": 0.5, "torch": 1.0}
    used = engines(monkeypatch)
    SPEC(X, W, backend="fastest")
    y = SPEC(torch.from_numpy(X), torch.from_numpy(W), backend="fastest")
    assert isinstance(y, torch.Tensor)
    assert torch.equal(y, torch.from_numpy(EXPECTED))
    assert used == ["torch", "numpy"]
    assert len(measured) == 2
    assert convspec.tune(SPEC, X.shape, backends=["torch"], dtype="float64")
    with pytest.raises(ShapeError, match=re.escape("x: has 3 channels on axis 3 (C)")):
        convspec.tune(SPEC, (2, 4, 5, 3))


def test_a_real_measurement() -> None:
    seconds = convspec.tune(SPEC, X.shape)
    assert set(seconds) == {"numpy", "torch"}
    assert list(seconds.values()) == sorted(seconds.values())
    assert np.array_equal(SPEC(X, W, backend="fastest"), EXPECTED)


def test_gradients_and_traces_stay(
    measured: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    convspec.tune(SPEC, X.shape, framework="torch")
    used = engines(monkeypatch)
    x, w = torch.from_numpy(X), torch.from_numpy(W).requires_grad_()
    y = SPEC(x, w, backend="fastest")
    y.sum().backward()
    assert w.grad is not None
    run = torch.compile(lambda x, w: SPEC(x, w, backend="fastest"), backend="eager", fullgraph=True)
    assert torch.equal(run(x, w.detach()), torch.from_numpy(EXPECTED))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert SPEC(x, w.detach(), backend="fastest").dtype == torch.bfloat16
    assert used == []
    with torch.no_grad():
        SPEC(x, w, backend="fastest")
    assert used == ["numpy"]


def test_never_unasked(measured: list[list[str]], file: Path) -> None:
    SPEC(X, W)
    assert not measured
    assert not file.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\xff\x1f garbage",
        b'{"format": 1',
        b"[1, 2]\n{}\n" + b"[" * 5000,
        b'{"a": 1}\n"x"\n7\n',
    ],
    ids=["binary", "cut short", "nested", "foreign"],
)
def test_a_corrupt_file_is_ignored_and_rewritten(
    measured: list[list[str]], file: Path, content: bytes
) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="no record of convspec's; that is ignored") as told:
        call_twice()
    assert len(told) == 1
    assert len(measured) == 1
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(SPEC(X, W, backend="fastest"), EXPECTED)
    assert len(measured) == 1
    assert [json.loads(line)["backend"] for line in file.read_text().split("\n") if line]


def test_good_lines_outlive_bad_ones(measured: list[list[str]], file: Path) -> None:
    SPEC(X, W, backend="fastest")
    with file.open("ab") as out:
        out.write(b"half a li")
    forget()
    with pytest.warns(RuntimeWarning, match="is ignored"):
        SPEC(X[:1], W, backend="fastest")
    forget()
    SPEC(X, W, backend="fastest")
    assert len(measured) == 2


def entry(file: Path, **changes: Any) -> None:
    """The only line of the file, changed."""
    (line,) = (line for line in file.read_text().split("\n") if line)
    file.write_text(json.dumps({**json.loads(line), **changes}) + "\n")
    forget()


def test_other_machines_and_formats_are_not_this_one(measured: list[list[str]], file: Path) -> None:
    for n, changes in enumerate(({"machine": "another"}, {"format": 2})):
        file.unlink(missing_ok=True)
        forget()
        SPEC(X, W, backend="fastest")
        entry(file, **changes)
        SPEC(X, W, backend="fastest")
        assert len(measured) == 2 * (n + 1)


def test_a_missing_engine_is_a_warning(measured: list[list[str]], file: Path) -> None:
    SPEC(X, W, backend="fastest")
    entry(file, backend="caffe")
    with pytest.warns(RuntimeWarning, match="caffe was the fastest, but is not there") as told:
        call_twice()
    assert len(told) == 1


def test_an_engine_that_refuses_is_a_warning(
    measured: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    SPEC(X, W, backend="fastest")

    def refuse(*_: Any) -> Any:
        raise convspec.UnsupportedError("backend: not today")

    monkeypatch.setattr(calls, "_elsewhere", refuse)
    with pytest.warns(RuntimeWarning, match="torch was the fastest, but refuses: backend: not tod"):
        call_twice()


def test_candidates_that_fail_are_none(
    measured: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "installed", lambda: ("numpy", "caffe"))
    assert np.array_equal(SPEC(X, W, backend="fastest"), EXPECTED)
    assert measured == [["numpy"]]


def test_a_directory_that_cannot_be_written(measured: list[list[str]], file: Path) -> None:
    file.parent.write_text("a file where the directory would be")
    with pytest.warns(RuntimeWarning, match="cannot be written, so that it is measured again"):
        SPEC(X, W, backend="fastest")
    SPEC(X, W, backend="fastest")
    assert len(measured) == 1, "remembered for this process"


def test_wrong_calls_have_their_own_errors(measured: list[list[str]]) -> None:
    for _ in range(2):
        with pytest.raises(ShapeError, match="x: has 1 channels on axis 3"):
            SPEC(X[..., :1], W, backend="fastest")
        SPEC(X, W, backend="fastest")
        with pytest.raises(ShapeError, match="weight: "):
            SPEC(X, W[:2], backend="fastest")


def remember(folder: str, first: int) -> None:
    os.environ["CONVSPEC_CACHE"] = folder
    for n in range(first, first + 50):
        tuning._remember(f"call {n}", "numpy")


def test_concurrent_writers_lose_nothing(file: Path) -> None:
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    workers = [context.Process(target=remember, args=(str(file.parent), 50 * i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert tuning._reread() == {f"call {n}": "numpy" for n in range(200)}


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONVSPEC_CACHE")
    monkeypatch.setattr(tuning.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert tuning.path() == Path("/caches/convspec/fastest.jsonl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert tuning.path() == Path("/home/me/.cache/convspec/fastest.jsonl")
    monkeypatch.setattr(tuning.sys, "platform", "darwin")
    assert tuning.path() == Path("/home/me/Library/Caches/convspec/fastest.jsonl")
