"""The cases of a level, from a seed: every pair of choices at least once, then more at random.

The regressions, which are the same for every seed, come last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from math import prod
from typing import Any

import numpy as np

from convspec.dtypes import COMPLEX, FLOAT, HALF, INTEGER

from .cases import GRADIENTS, VIEWS, WRONGS, Case
from .drawing import LONG, MANY, random_case
from .judges import CALLS, fair
from .properties import PROPERTIES
from .regressions import regressions

#: Cases of each level: exact, bounded, per property, per wrong call, of gradients.
LEVELS = {
    "smoke": (30, 8, 1, 1, 5),
    "standard": (130, 36, 5, 3, 24),
    "full": (8000, 2000, 250, 40, 1000),
}
#: Numbers and calls of their own kinds: judge, filling, and cases of each level.
SPECIAL = (
    ("exact", "nonfinite", {"smoke": 2, "standard": 16, "full": 600}),
    ("exact", "tiny", {"smoke": 1, "standard": 5, "full": 150}),
    ("exact", "huge", {"smoke": 1, "standard": 5, "full": 150}),
    ("again", "small", {"smoke": 1, "standard": 7, "full": 200}),
    ("threads", "small", {"smoke": 1, "standard": 4, "full": 100}),
)
#: Types for fillings that are of few: mostly float16, for which nothing is excused.
NARROW = (
    ("float16", None),
    ("float16", None),
    ("float32", None),
    ("bfloat16", None),
    ("float64", None),
)
OVERFLOWING = (
    ("float16", None),
    ("float16", None),
    ("bfloat16", "float16"),
    ("float32", "float16"),
)
#: How gradients are judged; the second ones are fewer, since most of them is the same again.
DERIVED = (
    ("gradient", "small"),
    ("gradient", "wide"),
    ("gradient", "real"),
    ("gradient2", "small"),
    ("gradient", "wide"),
)
#: How often a case may have more than three spatial axes, and how many then.
HIGHER, HIGHEST = 0.1, 5
#: How many draws compete for each place: the one that covers most new pairs wins.
DRAWS = 8
#: Of gradients, of which there are few.
DERIVED_DRAWS = 16
#: Of a case that is judged by its gradients; their oracle multiplies in extended precision.
MOST_PRODUCTS = 2**21


def suite(level: str = "standard", seed: int = 0) -> list[Case]:
    """All cases of a level; the same for the same seed on every machine."""
    exact, bounded, each, wrongs, derived = LEVELS[level]
    rng = np.random.default_rng([seed, 3])
    found = list(_covering(exact, DRAWS, lambda _: _exact(rng)))
    found += [_bounded(rng) for _ in range(bounded)]
    for judge, filling, counts in SPECIAL:
        found += [_special(rng, judge, filling) for _ in range(counts[level])]
    for name in PROPERTIES:
        found += [_property(rng, name) for _ in range(each)]
    for wrong in WRONGS:
        found += [wrong_call(rng, wrong) for _ in range(wrongs)]
    kinds = [DERIVED[i % len(DERIVED)] for i in range(derived)]
    found += _covering(derived, DERIVED_DRAWS, lambda i: _derived(rng, *kinds[i]))
    return found if level == "smoke" else found + regressions()


def another(rng: np.random.Generator, kind: Case) -> Case:
    """A new draw, judged as ``kind`` is, on numbers of its filling."""
    if kind.judge in CALLS and (kind.judge, kind.filling) in {row[:2] for row in SPECIAL}:
        return _special(rng, kind.judge, kind.filling)
    if kind.judge in CALLS:
        return _exact(rng)
    if kind.judge == "bounded":
        return _bounded(rng)
    if kind.judge in GRADIENTS:
        return _derived(rng, kind.judge, kind.filling)
    return _property(rng, kind.judge)


def features(case: Case) -> dict[str, object]:
    """The choices that a case stands for, of which every pair is to be covered."""
    spec = case.spec
    entries = {entry if isinstance(entry, str) else _kind(entry) for entry in spec.padding}
    size = dict(zip(spec.layout, case.input_shape, strict=True))
    return {
        "rank": spec.rank,
        "transposed": spec.transposed,
        "dtype": case.dtype if case.dtype in HALF else _family(case.dtype),
        "widened": case.out_dtype is not None,
        "kernel": (min(spec.kernel_size) == 1, max(spec.kernel_size) > 2),
        "stride": _evenness(spec.stride),
        "dilation": _evenness(spec.dilation),
        "groups": "depthwise"
        if 1 < spec.groups == spec.in_channels
        else "grouped"
        if spec.groups > 1
        else "one",
        "multiplier": "M" in spec.weight_layout,
        "group_axis": spec.group_axis,
        "padding": min(entries),
        "mixed": len(entries) > 1,
        "mode": spec.padding_mode,
        "output": "size"
        if case.output_size is not None
        else "padding"
        if any(spec.output_padding)
        else "plain",
        "batch": min(size.get("N", -1), 2),
        "channels": spec.layout.replace("N", "").index("C") > 0,
        "turned": spec.output_layout != spec.layout,
        "flip": spec.flip_kernel,
        "bias": spec.bias,
        "inputs": _many(spec.in_channels // spec.groups),
        "outputs": _many(spec.out_channels // spec.groups),
        "thin": 1 in (size[letter] for letter in spec.spatial),
        "long": max(size[letter] for letter in spec.spatial) >= min(LONG),
        "view": case.view,
        "filling": case.filling,
    }


def _kind(pair: tuple[int, int]) -> str:
    lo, hi = pair
    return "crop" if min(lo, hi) < 0 else "none" if lo == hi == 0 else "even" if lo == hi else "odd"


def _many(channels: int) -> str:
    return "one" if channels == 1 else "few" if channels < min(MANY) else "many"


def _evenness(steps: tuple[int, ...]) -> str:
    return "none" if set(steps) == {1} else "even" if len(set(steps)) == 1 else "mixed"


def _family(dtype: str) -> str:
    families = {"float": FLOAT, "complex": COMPLEX, "integer": INTEGER}
    return next(name for name, members in families.items() if dtype in members)


def _pairs(case: Case) -> set[tuple[object, ...]]:
    return set(combinations(features(case).items(), 2))


def _covering(count: int, draws: int, draw: Callable[[int], Case]) -> Iterator[Case]:
    """For each place, the one of several draws that covers most new pairs."""
    covered: set[tuple[object, ...]] = set()
    for i in range(count):
        drawn = [draw(i) for _ in range(draws)]
        best = max(drawn, key=lambda case: len(_pairs(case) - covered))
        covered |= _pairs(best)
        yield best


def _exact(rng: np.random.Generator) -> Case:
    case = random_case(rng, HIGHEST if rng.random() < HIGHER else 3)
    # A sum that is exact in the accumulator only is no fair question of a narrower result.
    wide = bool(rng.random() < 0.5)
    return replace(
        case,
        filling="wide" if wide else "small",
        view=_view(rng),
        seed=int(rng.integers(2**31)),
    )


def _view(rng: np.random.Generator) -> str:
    return VIEWS[int(rng.integers(len(VIEWS)))] if rng.random() < 0.45 else "plain"


def _special(rng: np.random.Generator, judge: str, filling: str) -> Case:
    options: dict[str, Any] = {}
    if filling in ("tiny", "huge"):
        types = NARROW if filling == "tiny" else OVERFLOWING
        options["dtype"], options["out_dtype"] = types[int(rng.integers(len(types)))]
    return _drawn(rng, judge=judge, filling=filling, view=_view(rng), **options)


def _bounded(rng: np.random.Generator) -> Case:
    return _drawn(rng, judge="bounded", filling="real")


def _property(rng: np.random.Generator, name: str) -> Case:
    return _drawn(rng, judge=name, out_dtype=None)


def wrong_call(rng: np.random.Generator, wrong: str) -> Case:
    options = {"dtype": "float32", "out_dtype": None, "output_size": None}
    return _drawn(rng, judge="refusal", wrong=wrong, **options)


def _derived(rng: np.random.Generator, judge: str, filling: str) -> Case:
    view = _view(rng)
    while True:
        case = _drawn(rng, judge=judge, filling=filling, view=view)
        if _products(case) <= MOST_PRODUCTS:
            return case


def _products(case: Case) -> int:
    """Multiplications of the oracle: every window with every filter of its group."""
    spec = case.spec
    outputs = prod(spec.output_shape(case.input_shape, case.output_size))
    return outputs * prod(spec.kernel_size) * spec.in_channels // spec.groups


def _drawn(rng: np.random.Generator, **fields: Any) -> Case:
    """A random case with some fields given, of which it makes sense."""
    while True:
        case = replace(random_case(rng), **fields)
        if fair(case):
            return replace(case, seed=int(rng.integers(2**31)))
