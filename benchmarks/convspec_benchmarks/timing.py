"""Interleaved timing: medians, and ratios with their interval."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

Run = Callable[[], None]

#: A sample lasts at least as long, in seconds: short calls are repeated within it.
SAMPLE = 0.005
#: What takes so many times as long as the fastest cannot become it, and is timed no further.
HOPELESS = 4.0
#: Other frameworks' threads wait for more to do in a loop, on the cores that the next one wants:
#: torch took 15 ms instead of 0.12. So a sample of calls that take less than this, in seconds,
#: begins with a rest, and some calls for which its own threads wake up.
DISTURBED = 0.2
REST = 0.05
WAKING = 4
LEAST_REPEATS = 5


def interleaved(
    runs: Mapping[str, Run], repeats: int, keep: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Seconds per call, ``repeats`` times each, in turn, so that a noisy machine hits all alike.

    Args:
        runs: what is timed; each has been called before, so that nothing is compiled here.
        repeats: how many samples each has; an interval wants at least 5.
        keep: names that are timed to the end however slow they are. Others stop after one sample
            if the fastest of them is far faster.
    """
    calls: dict[str, int] = {}
    once: dict[str, float] = {}
    for name, run in runs.items():
        once[name] = _seconds(run, 1)
        if once[name] < DISTURBED:
            time.sleep(REST)
            once[name] = min(_seconds(run, 1) for _ in range(WAKING))
        calls[name] = max(1, math.ceil(SAMPLE / max(once[name], 1e-9)))
        if calls[name] > 1:  # the first of many short calls says little
            once[name] = _seconds(run, calls[name])
            calls[name] = max(1, math.ceil(SAMPLE / max(once[name], 1e-9)))
    others = [seconds for name, seconds in once.items() if name not in keep]
    limit = HOPELESS * min(others, default=math.inf)
    left = [name for name in runs if name in keep or once[name] <= limit]
    samples = {name: [] if name in left else [once[name]] for name in runs}
    for turn in range(repeats):
        for name in left if turn % 2 else left[::-1]:
            if calls[name] > 1:
                time.sleep(REST)
                _seconds(runs[name], WAKING)
            samples[name].append(_seconds(runs[name], calls[name]))
    return samples


def _seconds(run: Run, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def ratio(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """The median of slow/fast, turn by turn, and the interval that holds it."""
    return order_interval([a / b for a, b in zip(slow, fast, strict=True)])


def order_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the interval that holds the true one.

    The interval goes from one order statistic to its mirror image. With n samples, the true median
    lies outside of the k-th ones from both ends with probability 2*P(Binomial(n, 1/2) < k),
    whatever the distribution; k is the largest for which that is at most 1/16, which for n = 5
    gives the extremes.
    """
    values = sorted(samples)
    n = len(values)
    below, k = 0.0, 0
    while 2 * (below + math.comb(n, k) / 2**n) <= 1 / 16:
        below += math.comb(n, k) / 2**n
        k += 1
    k = max(k, 1)
    return median(values), values[k - 1], values[n - k]


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
