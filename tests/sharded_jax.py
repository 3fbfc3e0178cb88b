"""What tests/test_jax_sharded.py runs in a process with eight devices: a report as JSON."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from convspec import ConvSpec, ConvSpecError
from convspec_jax import sharded
from generators import integers, random_case

MADE = ConvSpec(8, 16, 3, padding="same", layout="NHWC", weight_layout="HWIO")
UP = ConvSpec(8, 16, 3, 2, "same", transposed=True, layout="NHWC")
SPECS = {
    "volume": ConvSpec(8, 16, 3, padding="same", layout="NCHDW"),
    "strided": MADE.replace(stride=2, dilation=2),
    "few groups": MADE.replace(groups=2),
    "many groups": ConvSpec(20, 20, (3, 1), padding="same", groups=10, layout="NCHW"),
    "depthwise": ConvSpec(8, 8, 3, 1, 1, groups=8, layout="NHWC", weight_layout="HWIM"),
    "depthwise, torch's weight": ConvSpec(8, 8, (1, 3), 1, "same", groups=8, layout="NHWC"),
    "replicate": MADE.replace(padding_mode="replicate"),
    "reflect": MADE.replace(padding_mode="reflect"),
    "circular": MADE.replace(padding_mode="circular", groups=2),
    "wide": MADE.replace(kernel_size=(7, 1), dilation=(2, 1)),
    "transposed": UP,
    "transposed groups": UP.replace(groups=8, kernel_size=2, padding=0),
    "transposed, JAX's": UP.replace(groups=2, group_axis="O", flip_kernel=True),
}
#: Compiling takes longest, so these alone are split along other axes and in other ways as well.
OFTEN = ("volume", "few groups", "transposed")
#: Of these the partitioner sums the output where automatic axes split the input's channels.
SUMMED = ("volume", "strided", "wide", "reflect", "transposed")
COLLECTIVES = ("all-gather", "all-to-all", "all-reduce", "reduce-scatter", "collective-permute")


def counted(text: str) -> dict[str, list[int]]:
    """The sizes of what each kind of collective gives, in elements; the largest of a tuple."""
    found: dict[str, list[int]] = {kind: [] for kind in COLLECTIVES}
    for line in text.splitlines():
        match = re.match(rf".*? = (.*?) ({'|'.join(COLLECTIVES)})(-start)?\(", line)
        if match:
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            sizes = [math.prod(map(int, filter(None, shape.split(",")))) for shape in shapes]
            found[match[2]].append(max(sizes))
    return found


def arrays(spec: ConvSpec, shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [integers(rng, s, "float32") for s in (shape, spec.weight_shape, spec.bias_shape)]


def shape_of(spec: ConvSpec) -> tuple[int, ...]:
    sizes = {"N": 8, "C": spec.in_channels, "D": 3, "H": 16, "W": 8}
    return tuple(sizes[c] for c in spec.layout)


def both(convolve: Any) -> Any:
    """The output, and the gradients of a loss of it; integers small enough to be exact."""

    def run(x: Any, w: Any, b: Any) -> Any:
        y, back = jax.vjp(convolve, x, w, b)
        return y, *back(jnp.sign(y))

    return jax.jit(run)


def table() -> dict[str, Any]:
    """Specs split along an axis: with explicit axes, automatic ones, and by :func:`sharded`."""
    cases = [(name, "H", 8, "Explicit") for name in SPECS]
    cases += [(name, "H", 8, "Auto") for name in (*OFTEN, "many groups", "transposed groups")]
    cases += [(name, axis, 4, "Explicit") for name in OFTEN for axis in "NWC"]
    cases += [("few groups", "N", 4, "Auto"), ("transposed groups", "C", 4, "Explicit")]
    cases += [("depthwise, torch's weight", "C", 4, "Auto")]
    cases += [(name, "C", 4, "Auto") for name in SUMMED]
    cases += [("few groups", "N", 4, "sharded"), ("transposed", "H", 4, "sharded")]
    report = {}
    for name, axis, devices, way in cases:
        spec = SPECS[name]
        if axis == "C" and spec.groups > 1 and spec.groups % devices != 0:
            continue
        kind = AxisType.Explicit if way == "Explicit" else AxisType.Auto
        mesh = jax.make_mesh((devices,), ("d",), axis_types=(kind,))
        partition = P(*("d" if c == axis else None for c in spec.layout))
        plain = arrays(spec, shape_of(spec))
        given = [
            jax.device_put(a, NamedSharding(mesh, p))
            for a, p in zip(plain, (partition, P(), P()), strict=True)
        ]
        run = both(sharded(spec, mesh, partition) if way == "sharded" else spec)
        text = run.lower(*given).compile().as_text()
        pairs = zip(run(*given), expected(name), strict=True)
        report[f"{name} {axis} {devices} {way}"] = {
            **counted(text),
            "equal": [bool((np.asarray(a) == e).all()) for a, e in pairs],
            "weight": math.prod(spec.weight_shape),
            "output": expected(name)[0].size,
        }
    return report


@cache
def expected(name: str) -> list[np.ndarray]:
    """Of the whole, on one device."""
    spec = SPECS[name]
    plain = arrays(spec, shape_of(spec))
    y, *gradients = map(np.asarray, both(spec)(*plain))
    assert (y == spec(*plain)).all()  # NumPy's
    return [y, *gradients]


def random_shards() -> list[str]:
    """Random convolutions, each along one or two random axes."""
    square = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    wrong = []
    done = 0
    seed = 0
    while done < 5:
        seed += 1
        rng = np.random.default_rng(seed)
        case = random_case(rng)
        if case.spec.rank > 2:  # compiling them takes longest
            continue
        spec, shape = case.spec.replace(bias=True), list(case.input_shape)
        letters = rng.permutation([c for c in spec.layout if c != "C"])[:2]
        split = dict(zip(letters, rng.permutation(["a", "b"]), strict=False))
        for letter in letters:
            shape[spec.layout.index(letter)] = 8 * int(rng.integers(1, 3))
        partition = P(*(split.get(c) for c in spec.layout))
        x, w, b = arrays(spec, tuple(shape))
        try:
            run = both(sharded(spec, square, partition))
            found = run(x, w, b)
        except ConvSpecError:
            continue
        done += 1
        expected = both(spec)(x, w, b)
        for name, a, e in zip("yxwb", found, expected, strict=True):
            if not (np.asarray(a) == np.asarray(e)).all():
                wrong.append(f"{name} seed {seed} {spec!r} {shape} {partition}")
    return wrong


def inside() -> dict[str, list[int]]:
    """What is sent for a loss of an output that the devices do not divide: 14 rows, 8 devices."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    spec = MADE.replace(padding=0)
    x, w, b = arrays(spec, (8, 16, 8, 8))
    given = jax.device_put(x, NamedSharding(mesh, P(None, "d")))
    text = jax.jit(lambda x: (spec(x, w, b) ** 2).sum()).lower(given).compile().as_text()
    return counted(text)


def refusals() -> dict[str, str]:
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    x, w, b = arrays(MADE, (8, 16, 8, 8))
    calls = {
        "axis": lambda: sharded(MADE, mesh, P("e")),
        "entries": lambda: sharded(MADE, mesh, P(*"abcdef")),
        "uneven": lambda: sharded(MADE, mesh, P(None, "d"))(x[:, :12], w, b),
        "uneven output": lambda: sharded(MADE.replace(padding=0), mesh, P(None, "d"))(x, w, b),
        "groups": lambda: sharded(MADE.replace(groups=2), mesh, P(None, None, None, "d"))(
            x, w[..., :4, :], b
        ),
        "channels": lambda: sharded(MADE.replace(out_channels=12), mesh, P(None, None, None, "d"))(
            x, w[..., :12], b[:12]
        ),
        "reflect": lambda: sharded(
            MADE.replace(padding_mode="reflect", kernel_size=(5, 3)), mesh, P(None, "d")
        )(x, np.ones((5, 3, 8, 16), "float32"), b),
        "weight": lambda: sharded(MADE, mesh, P(None, "d"))(x, w[:2], b),
    }
    told = {}
    for name, call in calls.items():
        try:
            call()
        except ConvSpecError as error:
            told[name] = f"{type(error).__name__}: {error}"
    return told


def types() -> list[bool]:
    """Half types are rounded once, after the sum over the devices; integers wrap."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    same = []
    for dtype, out in (("bfloat16", None), ("int8", "int32")):
        x, w, b = (jnp.asarray(a).astype(dtype) for a in arrays(MADE, (1, 3, 4, 8)))
        run = sharded(MADE, mesh, P(None, None, None, "d"))
        y = run(x, w, b, out_dtype=out)
        expected = MADE(x, w, b, out_dtype=out)
        same.append(y.dtype == expected.dtype and bool((y == expected).all()))
    return same


if __name__ == "__main__":
    tests = (table, random_shards, inside, refusals, types)
    print(json.dumps({test.__name__: test() for test in tests}))
