"""What a call costs over the framework's own, where the kernel has next to nothing to do.

    python -m convspec_benchmarks.overhead [torch tensorflow jax numpy keras] [--json FILE]

Both are timed in the same turns, in one process with one thread. NumPy has no convolution to call:
its own is the kernel that the spec has been prepared to. A layer is compared with the framework's
own. Keras is run on the backend that ``KERAS_BACKEND`` names.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from convspec import ConvSpec, dispatch
from convspec.backend import Environment
from convspec.tables import Column, Row, show

from .frameworks.base import problem_of
from .running import Report, about_the_machine
from .timing import interleaved, order_interval
from .workloads import WORKLOADS

#: Microseconds that a call may cost over the raw one.
LIMITS = {"torch": 2.0, "tensorflow": 4.0, "jax": 3.0, "numpy": 3.0, "keras": 4.0}
TURNS = 41

#: What is called, the framework's own call, and ours.
Pair = tuple[str, Callable[[], Any], Callable[[], Any]]


def pairs(name: str) -> Iterator[Pair]:
    """The calls that are compared: of the workload ``tiny``, in the framework's own layout.

    Each pair is timed before the next one is made.
    """
    engine = os.environ.get("KERAS_BACKEND", "tensorflow") if name == "keras" else name
    backend = dispatch.get_backend(engine)
    layout = "channels_first" if name in ("torch", "jax") else "channels_last"
    spec, shape = WORKLOADS["tiny"].in_layout(layout, "torch" if name == "numpy" else name)
    x, w = (backend.from_foreign(np.ones(s, "float32")) for s in (shape, spec.weight_shape))
    yield from CALLS[name](spec, shape, x, w)


def _torch(spec: ConvSpec, shape: Any, x: Any, w: Any) -> Iterator[Pair]:
    import torch
    from torch.nn.functional import conv3d

    from convspec_torch import Conv

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    yield "eager", partial(conv3d, x, w, None, 1, 1), partial(spec, x, w)
    b = torch.ones(spec.out_channels)
    biased = spec.replace(bias=True)
    yield "eager, bias", partial(conv3d, x, w, b, 1, 1), partial(biased, x, w, b)
    last = spec.replace(layout="NDHWC", output_layout="NDHWC")
    seen = x.permute(0, 2, 3, 4, 1).contiguous()

    def permuted() -> Any:
        return conv3d(seen.permute(0, 4, 1, 2, 3), w, None, 1, 1).permute(0, 2, 3, 4, 1)

    yield "eager, channels last", permuted, partial(last, seen, w)
    torch.set_grad_enabled(True)
    p = torch.nn.Parameter(w)
    yield "a parameter", partial(conv3d, x, p, None, 1, 1), partial(spec, x, p)
    yield "layer", partial(torch.nn.Conv3d(2, 4, 3, padding=1), x), partial(Conv(biased), x)


def _tensorflow(spec: ConvSpec, shape: Any, x: Any, w: Any) -> Iterator[Pair]:
    import tensorflow as tf

    raw = partial(tf.nn.conv3d, strides=[1] * 5, padding="SAME")
    yield "eager", partial(raw, x, w), partial(spec, x, w)
    graphs = [tf.function(f, autograph=False) for f in (raw, spec)]
    yield "tf.function", partial(graphs[0], x, w), partial(graphs[1], x, w)
    variable = tf.Variable(w)
    yield "eager, a variable", partial(raw, x, variable), partial(spec, x, variable)


def _jax(spec: ConvSpec, shape: Any, x: Any, w: Any) -> Iterator[Pair]:
    import jax
    from flax import nnx

    from convspec_jax import Conv

    numbers = (spec.layout, spec.weight_layout, spec.output_layout)
    raw = jax.jit(
        partial(
            jax.lax.conv_general_dilated,
            window_strides=(1,) * 3,
            padding=[(1, 1)] * 3,
            dimension_numbers=numbers,
        )
    )
    yield "jitted inside", partial(raw, x, w), partial(spec, x, w)
    yield "jax.jit of it", partial(raw, x, w), partial(jax.jit(spec), x, w)
    biased = spec.in_convention("flax").replace(bias=True)
    theirs = nnx.Conv(2, 4, (3, 3, 3), padding=1, rngs=nnx.Rngs(0))
    x = jax.numpy.ones((1, 4, 4, 4, 2))
    ours: Any = Conv(biased, rngs=nnx.Rngs(0))
    yield "layer of Flax NNX", partial(theirs, x), partial(ours, x)


def _numpy(spec: ConvSpec, shape: Any, x: Any, w: Any) -> Iterator[Pair]:
    kernel = dispatch.get_backend("numpy").prepare(
        problem_of(spec, shape), Environment("float32", "float32")
    )
    yield "prepared kernel", partial(kernel, x, w), partial(spec, x, w)


def _keras(spec: ConvSpec, shape: Any, x: Any, w: Any) -> Iterator[Pair]:
    import keras

    from convspec_keras import Conv

    theirs = keras.layers.Conv3D(4, 3, padding="same")
    ours: Any = Conv(spec.replace(bias=True))
    yield f"layer on {keras.backend.backend()}", partial(theirs, x), partial(ours, x)


CALLS = {
    "torch": _torch,
    "tensorflow": _tensorflow,
    "jax": _jax,
    "numpy": _numpy,
    "keras": _keras,
}


def measure(raw: Callable[[], Any], ours: Callable[[], Any]) -> dict[str, float]:
    """Microseconds of both, and of the difference, turn by turn, with the median's interval."""
    for run in (raw, ours, ours):  # compiled, and kept
        run()
    samples = interleaved({"raw": raw, "ours": ours}, TURNS, ["raw", "ours"])
    over = [1e6 * (a - b) for a, b in zip(samples["ours"], samples["raw"], strict=True)]
    middle, low, high = order_interval(over)
    return {
        "raw": 1e6 * median(samples["raw"]),
        "ours": 1e6 * median(samples["ours"]),
        "over": middle,
        "low": low,
        "high": high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="convspec_benchmarks.overhead")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all but keras")
    parser.add_argument("--json", type=Path, help="write what was measured to this file, too")
    parsed = parser.parse_args()
    unknown = set(parsed.names) - set(CALLS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(CALLS)}")
    measured, rows = [], []
    for name in parsed.names or [name for name in CALLS if name != "keras"]:
        for what, raw, ours in pairs(name):
            found = measure(raw, ours)
            measured.append({"framework": name, "call": what, **found})
            cells = [f"{found[key]:.1f}" for key in ("raw", "ours", "over")]
            interval = f"{found['low']:.1f} to {found['high']:.1f}"
            rows.append(Row((name, what, *cells, interval, f"{LIMITS[name]:.0f}")))
    numbers = ("raw us", "ours us", "over us", "interval", "at most")
    show([Column("framework"), Column("call"), *(Column(n, number=True) for n in numbers)], rows)
    if parsed.json:
        Report(about_the_machine(), rows=measured).save(parsed.json)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
