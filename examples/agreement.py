"""Runs a network on every framework, and holds each layer to the bound of bounds.py."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds import Analysis, Bounded
from convspec import ConvSpec
from portable import Framework, Layer, available

#: A network: from a framework with its layers and an input there, to each layer's name and output.
Network = Callable[[Framework, Any], Iterator[tuple[str, Any]]]


@dataclass(frozen=True)
class Measured:
    """One layer on one framework: shape (channels first), largest difference from float64, its
    largest share of the limit, and seconds (of a second run, after compilation)."""

    layer: str
    shape: tuple[int, ...]
    difference: float
    share: float
    seconds: float


def expected(
    network: Network,
    layers: dict[str, Layer],
    x: Any,
    compute: Callable[..., Any] = ConvSpec.__call__,
) -> dict[str, Bounded]:
    """Every layer's output in float64 and its bound; the arguments of :class:`Analysis`."""
    analysis = Analysis(layers, compute)
    return dict(network(analysis, analysis.enter(x)))


def measure(
    name: str, network: Network, layers: dict[str, Layer], x: Any, exact: dict[str, Bounded]
) -> list[Measured]:
    """Run a network on one framework and compare each layer with ``exact``."""
    framework = Framework(name, layers)
    entered = framework.enter(x)
    found = []
    for layer, y in network(framework, entered):
        result = framework.leave(y)
        difference, share = _compare(result, exact[layer])
        found.append((layer, result.shape, difference, share))
    seconds = []
    start = time.perf_counter()
    for _, y in network(framework, entered):
        framework.finish(y)
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return [Measured(*row, took) for row, took in zip(found, seconds, strict=True)]


def _compare(result: Any, exact: Bounded) -> tuple[float, float]:
    """Largest difference, and largest share of the limit; NaN if there is a NaN."""
    if result.shape != exact.shape:
        raise ValueError(f"shape {result.shape}, expected {exact.shape}")
    difference = abs(result - exact.value)
    share = np.where(difference == 0, 0.0, np.inf)
    np.divide(difference, exact.limit, out=share, where=exact.limit > 0)
    return float(difference.max()), float(share.max())


# ---- the command line ---------------------------------------------------------------------------


def main(
    title: str, network: Network, layers: dict[str, Layer], x: Any, frameworks: list[str]
) -> int:
    """Run a network everywhere, print the table, and say by the exit status whether all agree."""
    print(f"{title}\ninput {x.shape}, {_parameters(layers):,} parameters\n")
    exact = expected(network, layers, x)
    runs = {name: measure(name, network, layers, x, exact) for name in frameworks}

    heads = "".join(f"{name + ' ms':>15}" for name in frameworks)
    print(f"{'layer':12}{'shape':24}{heads}{'difference':>13}{'of limit':>10}")
    for rows in zip(*runs.values(), strict=True):
        times = "".join(f"{row.seconds * 1e3:15.1f}" for row in rows)
        difference, share = (np.max([(r.difference, r.share) for r in rows], axis=0)).tolist()
        shape = " x ".join(map(str, rows[0].shape[1:]))
        print(f"{rows[0].layer:12}{shape:24}{times}{difference:13.2e}{share:10.1%}")
    totals = "".join(f"{sum(row.seconds for row in run) * 1e3:15.1f}" for run in runs.values())
    print(f"{'all':36}{totals}\n")

    wrong = [
        f"{name}: {row.layer}" for name, run in runs.items() for row in run if not row.share <= 1
    ]
    print("Out of bound: " + ", ".join(wrong) if wrong else "All layers are within the bound.")
    return 1 if wrong else 0


def _parameters(layers: dict[str, Layer]) -> int:
    arrays = (array for layer in layers.values() for array in (layer.weight, layer.bias))
    return sum(array.size for array in arrays if array is not None)


def arguments(description: str) -> argparse.ArgumentParser:
    """A command line with the choice of frameworks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--frameworks",
        nargs="+",
        choices=available(),
        default=list(available()),
        metavar="NAME",
        help=f"which to run on; installed: {', '.join(available())}",
    )
    return parser
