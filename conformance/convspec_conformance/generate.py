"""The cases of a level, from a seed: each is the draw that most new threes of choices meet in.

What the regressions cover, which are the same for every seed and come last, is not drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, count
from math import prod
from typing import Any

import numpy as np

from .cases import GRADIENTS, JUDGES, VIEWS, WRONGS, Case
from .drawing import LONG, MANY, RANKS, WIDE, pick, random_case
from .fillings import Array
from .judges import CALLS, fair
from .properties import PROPERTIES
from .regressions import regressions

#: Cases of each level: exact, bounded, per property, per wrong call, of gradients.
LEVELS = {
    "smoke": (30, 8, 1, 1, 5),
    "standard": (104, 36, 5, 3, 24),
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
#: How gradients are judged; the second ones are judged with the first.
DERIVED = (
    ("gradient", "small"),
    ("gradient", "wide"),
    ("gradient2", "small"),
    ("gradient", "real"),
    ("gradient2", "wide"),
)
#: How often a case may have more than three spatial axes, and how many then.
HIGHER, HIGHEST = 0.12, 5
#: How many draws compete for each place, that in which most new threes of choices meet wins; and of
#: gradients, of which there are few. Among thousands of cases all meet, without minutes of drawing.
DRAWS = {"smoke": (8, 32), "standard": (8, 32), "full": (2, 4)}
#: More than there are choices: see :func:`features`.
CHOICES = 2**8
#: Of a case that is judged by its gradients; their oracle multiplies in extended precision.
MOST_PRODUCTS = 2**19


def suite(level: str = "standard", seed: int = 0) -> list[Case]:
    """All cases of a level; the same for the same seed on every machine."""
    exact, bounded, each, wrongs, derived = LEVELS[level]
    rng = np.random.default_rng([seed, 3])
    known = [] if level == "smoke" else regressions()
    plain, differentiated = DRAWS[level]
    found = list(_covering(exact, lambda _: _draws(rng, plain, "exact"), known))
    found += [_bounded(rng) for _ in range(bounded)]
    for judge, filling, counts in SPECIAL:
        found += [_special(rng, judge, filling) for _ in range(counts[level])]
    for name in PROPERTIES:
        found += [_property(rng, name) for _ in range(each)]
    for wrong in WRONGS:
        found += [wrong_call(rng, wrong) for _ in range(wrongs)]
    kinds = [DERIVED[i % len(DERIVED)] for i in range(derived)]
    found += _covering(derived, lambda i: _draws(rng, differentiated, *kinds[i]), known)
    return found + known


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
    """The choices that a case stands for, of which every three are to meet."""
    spec = case.spec
    size = dict(zip(spec.layout, case.input_shape, strict=True))
    space = [size[letter] for letter in spec.spatial]
    axes = list(zip(spec.kernel_size, spec.stride, spec.dilation, spec.padding, strict=True))
    pairs = [entry for entry in spec.padding if not isinstance(entry, str)]
    dilated = [d if k > 1 else 1 for k, d in zip(spec.kernel_size, spec.dilation, strict=True)]
    depthwise = 1 < spec.groups == spec.in_channels
    return {
        "rank": spec.rank,
        "transposed": spec.transposed,
        "dtype": case.dtype,
        "widened": case.out_dtype is not None,
        "kernel": (min(spec.kernel_size) == 1, max(spec.kernel_size) > 2),
        "wide": max(spec.kernel_size) >= min(WIDE),
        "stride": _evenness(spec.stride),
        "gaps": any(s > k for k, s, *_ in axes),
        "dilation": _evenness(tuple(dilated)),
        "both": any(s > 1 and d > 1 < k for k, s, d, _ in axes),
        "groups": "depthwise" if depthwise else min(spec.groups, 3),
        "multiplier": min(spec.out_channels // spec.groups, 3) if depthwise else 0,
        "M": "M" in spec.weight_layout,
        "group_axis": spec.group_axis if spec.groups > 1 else "",
        "same": "same" in spec.padding,
        "same_lower": "same_lower" in spec.padding,
        "cropped": min(map(min, pairs), default=0) < 0,
        "uneven": any(lo != hi for lo, hi in pairs),
        "causal": any(p == ((k - 1) * d, 0) != (0, 0) for k, _, d, p in axes),
        "mode": spec.padding_mode,
        "output": "size"
        if case.output_size is not None
        else "padding"
        if any(spec.output_padding)
        else "plain",
        "batch": next(n for n in (-1, 0, 1, 4, 2**31) if size.get("N", -1) <= n),
        "channels": spec.layout.replace("N", "").index("C") > 0,
        "turned": spec.output_layout != spec.layout,
        "weight": [c for c in spec.weight_layout if c in spec.spatial] == list(spec.spatial),
        "flip": spec.flip_kernel,
        "bias": spec.bias,
        "inputs": _many(spec.in_channels // spec.groups),
        "outputs": _many(spec.out_channels // spec.groups),
        "thin": 1 in space,
        "long": max(space) >= min(LONG),
        "view": case.view,
        "filling": case.filling,
    }


def _many(channels: int) -> str:
    return "one" if channels == 1 else "few" if channels < min(MANY) else "many"


def _evenness(steps: tuple[int, ...]) -> str:
    return "none" if set(steps) == {1} else "even" if len(set(steps)) == 1 else "mixed"


def _threes(case: Case) -> Array:
    """A number for each three of a case's choices."""
    numbers = np.array([_number(*item) for item in features(case).items()])
    i, j, k = _indices(len(numbers))
    found: Array = (numbers[i] * CHOICES + numbers[j]) * CHOICES + numbers[k]
    return found


@cache
def _number(name: str, choice: object) -> int:
    return next(_COUNT)


_COUNT = count()


@cache
def _indices(length: int) -> Array:
    return np.array(list(combinations(range(length), 3))).T


def _covering(
    places: int, draw: Callable[[int], Iterable[Case]], known: Iterable[Case]
) -> Iterator[Case]:
    """For each place, the one of several draws in which most new threes of choices meet.

    Those of a place have one rank, since fewer choices can meet on fewer axes. Each judge has to
    see them all: what gradients cover says nothing of second ones.
    """
    covered = {judge: np.zeros(CHOICES**3, bool) for judge in JUDGES}
    for case in known:
        covered[case.judge][_threes(case)] = True
    for i in range(places):
        drawn = [(case, _threes(case)) for case in draw(i)]
        best, threes = min(drawn, key=lambda pair: int(covered[pair[0].judge][pair[1]].sum()))
        covered[best.judge][threes] = True
        yield best


def _draws(rng: np.random.Generator, count: int, judge: str, filling: str = "") -> Iterator[Case]:
    """Those that compete for a place."""
    rank = (_rank(rng),)
    for _ in range(count):
        yield _derived(rng, judge, filling, rank) if judge in GRADIENTS else _exact(rng, rank)


def _rank(rng: np.random.Generator) -> int:
    return pick(rng, range(1, HIGHEST + 1) if rng.random() < HIGHER else RANKS)


def _exact(rng: np.random.Generator, ranks: Sequence[int] = RANKS) -> Case:
    case = random_case(rng, ranks)
    # A sum that is exact in the accumulator only is no fair question of a narrower result.
    wide = bool(rng.random() < 0.5)
    return replace(
        case,
        filling="wide" if wide else "small",
        view=_view(rng),
        seed=int(rng.integers(2**31)),
    )


def _view(rng: np.random.Generator) -> str:
    return pick(rng, VIEWS) if rng.random() < 0.45 else "plain"


def _special(rng: np.random.Generator, judge: str, filling: str) -> Case:
    options: dict[str, Any] = {}
    if filling in ("tiny", "huge"):
        types = NARROW if filling == "tiny" else OVERFLOWING
        options["dtype"], options["out_dtype"] = pick(rng, types)
    return _drawn(rng, judge=judge, filling=filling, view=_view(rng), **options)


def _bounded(rng: np.random.Generator) -> Case:
    return _drawn(rng, judge="bounded", filling="real")


def _property(rng: np.random.Generator, name: str) -> Case:
    return _drawn(rng, judge=name, out_dtype=None)


def wrong_call(rng: np.random.Generator, wrong: str) -> Case:
    options: dict[str, Any] = {"dtype": "float32", "out_dtype": None, "output_size": None}
    return _drawn(rng, judge="refusal", wrong=wrong, **options)


def _derived(
    rng: np.random.Generator, judge: str, filling: str, ranks: Sequence[int] = RANKS
) -> Case:
    view = _view(rng)
    while True:
        case = _drawn(rng, ranks, judge=judge, filling=filling, view=view)
        if _products(case) <= MOST_PRODUCTS:
            return case


def _products(case: Case) -> int:
    """Multiplications of the oracle: every window with every filter of its group."""
    spec = case.spec
    outputs = prod(spec.output_shape(case.input_shape, case.output_size))
    return outputs * prod(spec.kernel_size) * spec.in_channels // spec.groups


def _drawn(rng: np.random.Generator, ranks: Sequence[int] = RANKS, **fields: Any) -> Case:
    """A random case with some fields given, of which it makes sense."""
    while True:
        case = replace(random_case(rng, ranks), **fields)
        if fair(case):
            return replace(case, seed=int(rng.integers(2**31)))
