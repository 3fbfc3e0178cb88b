"""The benchmark: its workloads, its baselines' numbers, its statistics, and its command."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest

import convspec
from convspec import ConvSpec
from convspec.cli import main
from convspec_benchmarks import chains, guard, outputs, timing
from convspec_benchmarks.frameworks import RAW, framework
from convspec_benchmarks.frameworks.base import problem_of
from convspec_benchmarks.reports import draw, show_fastest, show_report
from convspec_benchmarks.running import FORMAT, Job, Report, environment
from convspec_benchmarks.worker import measure
from convspec_benchmarks.workloads import LAYOUTS, WORKLOADS, of_spec
from generators import integers

ROW: dict[str, Any] = {
    "framework": "torch",
    "workload": "tiny",
    "layout": "channels_first",
    "passes": "forward",
    "way": "eager",
    "path": "native",
    "seconds": 0.002,
    "gflops": 5.0,
    "samples": 5,
    "baseline": "F.conv, eager",
    "baseline_seconds": 0.003,
    "ratio": 1.5,
    "interval": [1.25, 2.0],
    "alike": "F.conv, eager",
    "alike_ratio": 1.75,
    "alike_interval": [1.5, 2.0],
    "keras": "keras.ops.conv, eager",
    "candidates": {"F.conv, eager": 0.003, "keras.ops.conv, eager": 0.0042},
    "failed": {},
    "matmul_gflops": 50.0,
}
MACHINE = {"framework": "torch", "version": "2", "threads": 2, "matmul_gflops": 50.0}


def test_workloads_are_the_agreed_ones() -> None:
    assert len(WORKLOADS) == 25
    operations = sum(w.spec.flops(tuple(w.sizes.values())) for w in WORKLOADS.values())
    assert operations == FLOPS  # none has been made easier
    spec, shape = WORKLOADS["video-122"].in_layout("channels_last", "tensorflow")
    assert (spec.layout, spec.weight_layout, shape) == ("NDHWC", "DHWIO", (2, 10, 224, 224, 3))


FLOPS = sum(
    2 * outputs * per_output
    for outputs, per_output in (
        (8 * 32 * 5000, 16 * 5),
        (4 * 64 * 16000, 64 * 3),
        (64 * 112**2, 3 * 49),
        (64 * 56**2, 64 * 9),
        (8 * 64 * 56**2, 64 * 9),
        (8 * 256 * 14**2, 256 * 9),
        (64 * 56**2, 256),
        (8 * 128 * 56**2, 9),
        (8 * 128 * 56**2, 4 * 9),
        (2 * 64 * 64**2, 64 * 9),
        (4 * 64 * 33**2, 32 * 16),
        (2 * 32 * 128**2, 32 * 49),
        (4 * 128 * 32**2, 64 * 16),  # transposed: for each input
        (64 * 16 * 112**2, 3 * 27),
        (128 * 16 * 56**2, 64 * 27),
        (512 * 2 * 49, 512 * 27),
        (2 * 64 * 5 * 112**2, 3 * 27),
        (2 * 64 * 9 * 112**2, 3 * 18),
        (16 * 64**3, 125),
        (32 * 48**3, 32 * 27),
        (64 * 16 * 56**2, 27),
        (64 * 16 * 28**2, 16 * 27),
        (32 * 32**3, 32 * 27),
        (64 * 16**3, 32 * 8),
        (4 * 4**3, 2 * 27),
    )
)

#: What is special about the workloads, in small.
SMALL = {
    "causal": (ConvSpec(4, 3, (3,), dilation=2, padding="causal", bias=False), (2, 4, 9)),
    "same, even": (ConvSpec(3, 4, (4, 4), 2, "same", bias=False), (2, 3, 7, 7)),
    "reflect": (ConvSpec(2, 3, (5, 5), 1, 2, padding_mode="reflect", bias=False), (1, 2, 6, 6)),
    "depthwise": (ConvSpec(4, 8, (3, 3), 1, 1, groups=4, bias=False), (2, 4, 6, 6)),
    "up": (ConvSpec(4, 3, (4, 4), 2, 1, transposed=True, bias=False), (2, 4, 5, 5)),
    "volume": (ConvSpec(3, 4, (2, 3, 3), (1, 2, 2), (0, 1, 1), bias=False), (2, 3, 4, 7, 7)),
    "up by blocks": (ConvSpec(4, 3, (2, 2, 2), 2, transposed=True, bias=False), (1, 4, 3, 3, 3)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", RAW)
def test_baselines_compute_the_same(name: str, layout: str) -> None:
    engine = framework(name)
    rng = np.random.default_rng(3)
    right = 0
    for spec, shape in SMALL.values():
        spec, shape = of_spec("", spec, shape).in_layout(layout, name)
        x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
        expected = convspec.reference(spec, x, w)
        calls = engine.raw(spec, problem_of(spec, shape), engine.array(w))
        for call, weight in calls.values():
            try:
                y = call(engine.array(x), weight)
            except (
                Exception
            ):  # TensorFlow on the CPU lacks some; another call of it is the baseline
                continue
            assert np.array_equal(engine.backend.to_numpy(y), expected), (name, spec)
            right += 1
    assert right >= len(SMALL)


def test_a_measurement() -> None:
    work = of_spec("mine", ConvSpec(2, 3, (3, 3)), (1, 2, 5, 5))
    (row,) = measure(framework("numpy"), work, "channels_last", "forward", ["eager"], 5)
    assert (row["baseline"], row["samples"], row["path"]) == (None, 5, "native")
    assert row["gflops"] == pytest.approx(2 * 27 * 2 * 9 / row["seconds"] / 1e9)


def test_lazy_arrays_are_computed() -> None:
    done: list[int] = []
    lazy = dask.array.from_delayed(
        dask.delayed(lambda: done.append(1) or np.ones(2))(), (2,), np.float64
    )
    framework("dask").wait(lazy)
    assert done == [1]


def test_a_call_with_other_numbers_is_no_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = framework("numpy")
    calls = {
        "right": (lambda x, w: ConvSpec(1, 1, 3, layout="NCH", bias=False)(x, w)),
        "wrong": (lambda x, w: ConvSpec(1, 1, 3, layout="NCH", bias=False)(x + 1, w)),
        "absent": (lambda x, w: x.nothing),
    }
    monkeypatch.setattr(
        engine, "raw", lambda spec, problem, w: {n: (call, w) for n, call in calls.items()}
    )
    work = of_spec("mine", ConvSpec(1, 1, 3, layout="NCH"), (1, 1, 9))
    (row,) = measure(engine, work, "channels_first", "forward", ["eager"], 5)
    assert row["baseline"] == "right, eager"
    assert row["failed"] == {
        "wrong, eager": "gives other numbers",
        "absent, eager": "'numpy.ndarray' object has no attribute 'nothing'",
    }


def test_raw_calls_of_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of ours is compared with the fastest of any way, and with one run alike."""
    spec = ConvSpec(1, 1, 3, layout="NCH", bias=False)
    engine = framework("numpy")
    monkeypatch.setattr(engine, "raw", lambda spec, problem, w: {"raw": (spec, w)})
    ways = {"eager": spec, "compiled": spec, "any batch": spec}
    monkeypatch.setattr(engine, "ways", lambda *_, **__: ways)
    monkeypatch.setattr(engine, "raw_ways", lambda *_, **__: {"eager": spec, "XLA": spec})
    work = of_spec("mine", spec, (1, 1, 9))
    rows = measure(engine, work, "channels_first", "forward", list(ways), 5)
    assert {row["way"]: row["alike"] for row in rows} == {
        "eager": "raw, eager",
        "compiled": "raw, XLA",
        "any batch": None,
    }
    assert len({row["baseline"] for row in rows}) == 1
    assert rows[0]["alike_ratio"] > 0
    assert "alike_ratio" not in rows[2]


def test_the_interval_of_a_ratio() -> None:
    assert timing.ratio([2, 4, 6, 8, 10], [2, 2, 2, 2, 2]) == (3, 1, 5)
    # Of 10 samples the second from each end: 2 * (1 + 10) / 2**10 <= 1/16 < 2 * 56 / 2**10.
    assert timing.ratio(list(range(1, 11)), [1] * 10) == (5.5, 2, 9)


def test_nothing_is_timed_beside_the_threads_of_what_ran_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They hold the cores until there was a rest, and its own threads have to wake up then."""
    now, busy, asleep = [0.0], [""], [2]

    def run(name: str, seconds: float) -> timing.Run:
        def call() -> None:
            quiet = busy[0] in ("", name) and not asleep[0]
            now[0] += seconds if quiet else 0.015
            busy[0], asleep[0] = busy[0] or name, max(asleep[0] - 1, 0)

        return call

    def rest(seconds: float) -> None:
        now[0] += seconds
        busy[0], asleep[0] = "", 2

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing.time, "sleep", rest)
    samples = timing.interleaved({"other": run("other", 0.001), "quick": run("quick", 0.0005)}, 5)
    assert samples["other"] == pytest.approx([0.001] * 5)  # sums of some milliseconds, rounded
    assert samples["quick"] == pytest.approx([0.0005] * 5)


def test_runs_are_interleaved_and_hopeless_ones_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], []

    def run(name: str, seconds: float) -> timing.Run:
        def call() -> None:
            now[0] += seconds
            order.append(name)

        return call

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    runs = {"ours": run("ours", 9), "raw": run("raw", 1), "slow": run("slow", 5)}
    samples = timing.interleaved(runs, 5, ["ours"])
    assert {name: len(values) for name, values in samples.items()} == {
        "ours": 5,
        "raw": 5,
        "slow": 1,
    }
    assert order[:7] == ["ours", "raw", "slow", "raw", "ours", "ours", "raw"]


def test_what_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    slow = {**ROW, "workload": "ecg", "ratio": 0.5, "interval": [0.4, 0.6], "alike": None}
    report = Report({}, [MACHINE], [ROW, slow], ["torch up2d: no"])
    show_report(report)
    text = capsys.readouterr().out
    assert "1.50  1.25 to 2.00      1.75       4.2" in text
    assert "10%" in text
    # The geometric mean of 1.5 and 0.5.
    assert "matrix product 50 GFLOP/s; forward 0.87 times raw in 2 rows" in text
    assert "forward 1.75 times raw of the same way in 1 rows" in text
    assert "not measured: torch up2d: no" in text
    show_fastest(report)
    assert "fastest here: torch, channels_first, eager" in capsys.readouterr().out
    draw(report, tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").read_bytes()[:4] == b"\x89PNG"


def test_blas_chooses_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert "OPENBLAS_CORETYPE" not in environment("torch")
    # Keras is imported in these processes beside the framework that is its backend there.
    assert [environment(name)["KERAS_BACKEND"] for name in RAW] == list(RAW)


def test_a_spec_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    spec, result = tmp_path / "spec.json", tmp_path / "result.json"
    spec.write_text(json.dumps(ConvSpec(2, 3, (3, 3)).to_dict()))
    words = ["bench", "--spec", str(spec), "--input-shape", "1,2,5,5", "--json", str(result)]
    assert main([*words, "--backend", "numpy", "--way", "eager"]) == 0
    assert "fastest here: numpy, channels_" in capsys.readouterr().out
    saved = json.loads(result.read_text())
    assert [row["layout"] for row in saved["rows"]] == list(LAYOUTS)
    assert saved["machines"][0]["matmul_gflops"] > 0


def test_either_side_chooses_the_weights_order() -> None:
    """torch's own call is the faster of two, and so is ours."""
    work = of_spec("mine", ConvSpec(2, 3, (3, 3)), (1, 2, 5, 5))
    (row,) = measure(framework("torch"), work, "channels_first", "gradients", ["eager"], 5)
    assert list(row["candidates"]) == [
        "convspec, eager",
        "convspec, eager, weight channels_last",
        "F.conv, eager",
        "F.conv, weight channels_last, eager",
    ]
    assert row["call"] in row["candidates"]
    assert row["baseline"] in row["candidates"]


@pytest.mark.parametrize("name", RAW)
def test_gradients_come_with_the_output(name: str) -> None:
    """A compiler would leave the forward call out otherwise, and an eager run cannot."""
    engine, spec = framework(name), ConvSpec(2, 3, (3, 3), layout="NHWC")
    shapes = ((1, 5, 5, 2), spec.weight_shape, (1, 3, 3, 3))
    x, w, c = (engine.array(np.full(shape, 2, "float32")) for shape in shapes)
    run = engine.ways(spec, gradients=True)["eager" if name == "torch" else "compiled"]
    found = [
        np.asarray(engine.backend.to_numpy(part.detach() if name == "torch" else part))
        for part in run(x, w, c)
    ]
    assert [part.shape for part in found] == list(shapes)
    assert (found[2] == 2 * 2 * 18).all()


@pytest.mark.parametrize("name", ["torch", "tensorflow"])
def test_programs_of_any_batch(name: str) -> None:
    engine, spec = framework(name), ConvSpec(2, 3, (3, 3), layout="NHWC")
    run = engine.ways(spec, gradients=True)["any batch"]
    for batch in (4, 5):
        shapes = ((batch, 5, 5, 2), spec.weight_shape, (batch, 3, 3, 3))
        dx, dw, y = run(*(engine.array(np.full(shape, 2, "float32")) for shape in shapes))
        assert tuple(dx.shape) == shapes[0]
        assert (engine.backend.to_numpy(y.detach() if name == "torch" else y) == 2 * 2 * 18).all()
        assert (engine.backend.to_numpy(dw) == batch * 9 * 4).all()


def test_kerass_call_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.environ.get("KERAS_BACKEND", "tensorflow")
    engine = framework(name)
    assert framework("numpy").beside(ConvSpec(1, 1, 3, layout="NCH"), None, None) == {}
    monkeypatch.setenv("KERAS_BACKEND", name)
    rng = np.random.default_rng(4)
    right = 0
    for spec, shape in SMALL.values():
        spec, shape = of_spec("", spec, shape).in_layout("channels_last", name)
        x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
        calls = engine.beside(spec, problem_of(spec, shape), engine.array(w))
        for call, kernel in calls.values():
            y = call(engine.array(x), kernel)
            expected = convspec.reference(spec, x, w)
            assert np.array_equal(engine.backend.to_numpy(y), expected), spec
            right += 1
    assert right >= 6


def test_a_run_is_gone_on_with(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One framework is enough; and what has been measured is not measured again."""
    path = tmp_path / "result.json"
    words = ["bench", "--backend", "jax", "--workload", "tiny", "point", "--way", "eager"]
    words += ["--layout", "channels_last", "--passes", "forward", "--json", str(path)]
    assert main([*words, "--seconds", "0"]) == 0
    assert "2 measurements were not begun; --resume goes on" in capsys.readouterr().out
    first = Report({}, [MACHINE], [{**ROW, "framework": "jax", "layout": "channels_last"}])
    replace(first, about={"format": FORMAT}).save(path)
    assert main([*words, "--resume"]) == 0
    saved = Report.load(path)
    assert saved.rows[0] == first.rows[0]
    assert [row["workload"] for row in saved.rows] == ["tiny", "point"]
    assert [machine["framework"] for machine in saved.machines] == ["torch", "jax"]
    row = saved.rows[1]
    assert row["keras"].startswith("keras.ops.conv, ")  # whichever is the faster, jitted or not
    assert row["call"] == "convspec, eager"
    path.write_text('{"about": {"format": 1}}')
    assert main([*words, "--resume"]) == 2
    assert "has format 1, expected 2." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repeats", "4"], "--repeats: at least 5, got 4."),
        (["--resume"], "--resume: goes together with --json, the file to go on with."),
        (["--spec", "x.json"], "--spec: goes together with --input-shape; give both or neither."),
        (["--spec", "no.json", "--input-shape", "1"], "--spec: no.json is no JSON file: "),
        (["--backend", "nothing"], "backend: 'nothing' is not registered; there are: "),
    ],
)
def test_bad_options(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert f"convspec bench: {message}" in capsys.readouterr().err


def test_the_guard_fails_on_what_repeats_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once slow is noise; slow each time is a regression, and so is what cannot be measured."""
    job = Job(("torch",), ("tiny", "c3d1"), ("channels_first",), ("forward",), ("eager",))
    monkeypatch.setattr(guard, "WATCHED", (job,))
    intervals: dict[str, list[list[float]]] = {}
    measured: list[tuple[str, ...]] = []

    def run(job: Job) -> Report:
        measured.append(job.workloads)
        rows = []
        for name in job.workloads:
            low, high = intervals[name].pop(0)
            rows.append(
                {**ROW, "workload": name, "ratio": (low + high) / 2, "interval": [low, high]}
            )
        return Report({}, rows=rows, errors=["torch c3d1: no"] if not rows else [])

    monkeypatch.setattr(guard, "run", run)
    words = ["--history", str(tmp_path / "history.json")]
    intervals.update(tiny=[[0.9, 1.1]], c3d1=[[1.9, 2.1]])
    assert guard.main([*words, "--record"]) == 0
    share = guard.SHARE
    intervals.update(
        tiny=[[0.1, share * 1.01]], c3d1=[[0.1, 1.9 * share], [0.1, 1.9 * share], [2, 3]]
    )
    assert guard.main(words) == 0
    assert measured == [("tiny", "c3d1"), ("tiny", "c3d1"), ("c3d1",), ("c3d1",)]
    capsys.readouterr()
    intervals.update(tiny=[[0.9, 1.1]], c3d1=[[0.1, 1.9 * share]] * guard.TIMES)
    assert guard.main(words) == 1
    told = capsys.readouterr().out
    assert "slower 3 times in turn: torch c3d1 channels_first forward eager" in told
    monkeypatch.setattr(guard, "WATCHED", (replace(job, workloads=()),))
    assert guard.main(words) == 1
    (tmp_path / "history.json").write_text("[{}]")
    with pytest.raises(convspec.ConvSpecError, match="is no history"):
        guard.main(words)


def test_the_guard_knows_all_that_it_watches() -> None:
    known = guard.ratios(guard.read(guard.HISTORY))
    for job in guard.WATCHED:
        for name in job.workloads:
            assert (job.frameworks[0], name, job.layouts[0], job.passes[0], job.ways[0]) in known


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_kept_memory_has_no_page_faults() -> None:
    """Of an output of 51 MB each page is new, unless the allocator keeps what was freed."""
    rows = {row["setting"]: row for row in outputs.measure("numpy", "point", repeats=5)}
    assert list(rows) == list(outputs.SETTINGS)
    assert rows["memory is kept"]["faults"] < rows["as it is"]["faults"] / 10


def test_a_chain_gives_the_same_numbers_in_either_order() -> None:
    rows = chains.measure(framework("tensorflow"), repeats=5)
    assert {(row["chain"], row["way"]) for row in rows} == {
        (chain, way) for chain in ("each", "once") for way in ("eager", "compiled", "compiled, XLA")
    }
