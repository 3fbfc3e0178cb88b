"""The training example: three frameworks learn the same, and a difference would be noticed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from test_examples import example

training = example("training")


@cache
def result(name):
    return training.run(training.TASKS[name](), list(training.STEP))


@pytest.mark.parametrize("framework", list(training.STEP))
@pytest.mark.parametrize("name", list(training.TASKS))
def test_the_loss_curve_is_the_exact_one_within_the_limit(name, framework):
    found = result(name)
    assert found.curves[framework].shape == (50,)
    assert found.share(framework) <= 1


@pytest.mark.parametrize("name", list(training.TASKS))
def test_the_model_learns(name):
    curve = result(name).exact
    assert (np.diff(curve) < 0).all()
    assert curve[-1] < training.NOISE**2


@pytest.mark.parametrize("name", list(training.TASKS))
def test_the_limit_is_narrow_enough_to_mean_something(name):
    found = result(name)
    assert (found.limit < 1e-4 * found.exact).all()


@pytest.mark.parametrize("framework", list(training.STEP))
def test_a_rate_off_by_a_thousandth_is_noticed(framework, monkeypatch):
    found = result("ecg")
    own = training.STEP[framework]
    monkeypatch.setitem(training.STEP, framework, lambda loss, rate: own(loss, rate * 1.001))
    curve = training.train(framework, found.task, steps=10)
    off = abs(curve - found.exact[:10])
    assert off[0] <= found.limit[0]  # the same weights
    assert (off[1:] > found.limit[1:10]).any()


def test_a_nan_is_out_of_limit():
    found = result("ecg")
    broken = training.Result(
        found.task, found.exact, found.limit, {"torch": np.full_like(found.exact, np.nan)}
    )
    assert not broken.share("torch") <= 1


def test_without_rounding_the_perturbed_training_is_the_exact_one():
    work = training.TASKS["digits"]()
    with training.one_thread():
        curve = training.exact(work, steps=5)
        wide = training.limit(work, curve, samples=2)
        assert np.array_equal(training.limit(work, curve, samples=1, unit=0.0), np.zeros(5))
        # To first order the errors are proportional to the unit; what is left is of second order.
        narrow = training.limit(work, curve, samples=2, unit=training.U / 2**10)
    assert narrow * 2**10 == pytest.approx(wide, rel=1e-2)


def test_blocks_are_cut_side_by_side():
    volume = np.arange(5 * 4).reshape(5, 4)
    assert np.array_equal(
        training.blocks(volume, (2, 2)),
        [[[0, 1], [4, 5]], [[2, 3], [6, 7]], [[8, 9], [12, 13]], [[10, 11], [14, 15]]],
    )


def test_the_command_draws_the_curves(tmp_path, capsys):
    path = tmp_path / "curves.png"
    arguments = ["--frameworks", "torch", "jax", "--tasks", "ecg", "--steps", "3"]
    assert training.main([*arguments, "--picture", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "ECG, 1-D      jax" in printed
    assert "All curves are within the limit." in printed


def test_the_exit_status_says_that_a_curve_is_out_of_limit(tmp_path, capsys, monkeypatch):
    own = training.torch_step
    monkeypatch.setitem(training.STEP, "torch", lambda loss, rate: own(loss, rate * 1.1))
    arguments = ["--frameworks", "torch", "--tasks", "ecg", "--steps", "3"]
    assert training.main([*arguments, "--picture", str(tmp_path / "curves.png")]) == 1
    assert "Out of limit: torch on ECG, 1-D" in capsys.readouterr().out
