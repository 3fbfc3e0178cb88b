"""Questions for a backend that claims little: another case in the place of each unclaimed one.

The cases of a level are drawn from everything, and the share that a backend claims is counted over
them. What it does not claim it is not asked; so that it is asked as much as any other backend, each
place that stays empty goes to a case of the same kind that it does claim, drawn at random and made
plainer as far as it takes. That is decided by the unclaimed case and the claims alone: the same
backend gets the same cases in every run.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from convspec import ConvSpec, ConvSpecError, dtypes
from convspec.conventions import CONVENTIONS

from .cases import Case
from .drawing import STANDARD
from .generate import another
from .judges import fair
from .properties import PROPERTIES
from .shrink import without_axis

Claimed = Callable[[Case], bool]
Move = Callable[[Case], Case]

#: Draws for each place before the last is made plainer, and how often that before it is given up.
DRAWS = 3
TRIES = 6
#: How often before a judge is given up for all places: most who claim nothing of it never do.
#: Drawing in vain for each took several times as long as judging what was found.
HOPE = 8


class Steering:
    """The cases that a backend is asked in the place of those that it does not claim.

    Args:
        claimed: whether it claims a case.
    """

    def __init__(self, claimed: Claimed) -> None:
        self._claimed = claimed
        self._hopes: dict[tuple[str, str], bool] = {}

    def instead(self, case: Case) -> Case | None:
        """A case that is claimed, for the place of one that is not.

        Of the same kind if there is any such, else one that asks for exact numbers: who has no
        second gradients is asked for more first ones, who has none for more results. None if
        nothing is found that is claimed, and for refusals, which are asked of everybody that
        promises any.
        """
        if case.judge == "refusal":
            return None
        rng = np.random.default_rng([zlib.crc32(case.line.encode()), 5])
        plainer = ("gradient", "exact") if case.judge == "gradient2" else ("exact",)
        kinds = dict.fromkeys(
            (case, *(replace(case, judge=judge, filling="small") for judge in plainer))
        )
        for kind in kinds:
            if self._hope(kind):
                found = self._drawn(rng, kind, TRIES)
                if found is not None:
                    return found
        return None

    def _hope(self, kind: Case) -> bool:
        """Whether anything that is judged as ``kind`` is claimed; the same whoever asks first."""
        key = (kind.judge, kind.filling)
        if key not in self._hopes:
            rng = np.random.default_rng([*map(ord, "".join(key)), 5])
            self._hopes[key] = self._drawn(rng, kind, HOPE) is not None
        return self._hopes[key]

    def _drawn(self, rng: np.random.Generator, kind: Case, tries: int) -> Case | None:
        """A claimed case of a kind, if so many tries find one."""
        for _ in range(tries):
            for _ in range(DRAWS):
                case = another(rng, kind)
                if self._claimed(case):
                    return case
            found = _plainer(rng, case, self._claimed)
            if found is not None:
                return found
        return None


def _plainer(rng: np.random.Generator, case: Case, claimed: Claimed) -> Case | None:
    """``case`` with as few of its choices given up as make it one that is claimed."""

    def good(case: Case) -> bool:
        return claimed(case) and fair(case)

    steps = [case]
    for move in MOVES:
        steps.append(_moved(steps[-1], [move]))
    plainest = [(order, _moved(steps[-1], [order])) for order in ORDERS]
    ends = ((typed, order) for typed in TYPES for order, case in plainest if good(typed(case)))
    found = next(ends, None)
    if found is None:
        return None
    # What did nothing is no choice given up; of the rest, leave out what is not needed.
    needed = [move for move, (a, b) in zip(MOVES, pairwise(steps), strict=True) if a != b]
    needed.extend(found)
    for move in [needed[i] for i in rng.permutation(len(needed))]:
        fewer = [other for other in needed if other is not move]
        if good(_moved(case, fewer)):
            needed = fewer
    return _moved(case, needed)


def _moved(case: Case, moves: Sequence[Move]) -> Case:
    """``case`` after ``moves``, but for those that make no sense, or take what its judge is for."""
    for move in moves:
        try:
            moved = move(case)
        except ConvSpecError:
            continue
        if case.judge not in PROPERTIES or fair(moved):
            case = moved
    return case


def _typed(dtype: str) -> Move:
    return lambda case: replace(case, dtype=dtype, out_dtype=None)


def _with(**changes: Any) -> Move:
    """A move to these fields of the spec."""
    return lambda case: replace(case, spec=case.spec.replace(**changes))


def _one_group(case: Case) -> Case:
    spec = case.spec
    channels = spec.in_channels // spec.groups
    one = _multiplied(case).spec.replace(
        groups=1, in_channels=channels, out_channels=spec.out_channels // spec.groups
    )
    shape = [
        channels if c == "C" else n for c, n in zip(spec.layout, case.input_shape, strict=True)
    ]
    return replace(case, spec=one, input_shape=tuple(shape))


def _multiplied(case: Case) -> Case:
    """O in the place of M."""
    spec = case.spec
    order = spec.weight_layout.replace("M", "O")
    return (
        replace(case, spec=spec.replace(weight_layout=order, group_axis="O"))
        if (order != spec.weight_layout)
        else case
    )


def _forward(case: Case) -> Case:
    spec = case.spec.replace(transposed=False, output_padding=0, group_axis="O")
    return replace(case, spec=spec, output_size=None)


def _default_size(case: Case) -> Case:
    return replace(case, spec=case.spec.replace(output_padding=0), output_size=None)


def _batched(case: Case) -> Case:
    """With a batch, and not an empty one."""
    spec, shape = case.spec, case.input_shape
    if "N" in spec.layout:
        sizes = zip(spec.layout, shape, strict=True)
        return replace(case, input_shape=tuple(n or 1 if c == "N" else n for c, n in sizes))
    layouts = {"layout": f"N{spec.layout}", "output_layout": f"N{spec.output_layout}"}
    return replace(case, spec=spec.replace(**layouts), input_shape=(2, *shape))


def _ordered(convention: str) -> Move:
    """A move to the orders of a framework, its axes under their usual letters."""

    def move(case: Case) -> Case:
        return _renamed(case, case.spec.in_convention(convention))

    return move


def _renamed(case: Case, spec: ConvSpec) -> Case:
    sizes = dict(zip(case.spec.layout, case.input_shape, strict=True))
    shape = tuple(sizes[letter] for letter in spec.layout)
    usual = str.maketrans(spec.spatial, STANDARD[-spec.rank :])
    names = ("layout", "output_layout", "weight_layout")
    orders = {name: getattr(spec, name).translate(usual) for name in names}
    return replace(case, spec=spec.replace(**orders), input_shape=shape)


def _one_axis_less(case: Case) -> Case:
    return without_axis(case, case.spec.rank - 1) if case.spec.rank > 1 else case


#: How a case is made plainer: each gives up one choice; type and order of the axes are the last.
MOVES: tuple[Move, ...] = (
    lambda case: replace(case, out_dtype=None),
    lambda case: replace(case, view="plain"),
    _with(kernel_size=1),
    _with(padding_mode="zeros"),
    _with(padding=0),
    _with(stride=1),
    _with(dilation=1),
    _with(flip_kernel=False),
    _with(bias=False),
    _one_group,
    _multiplied,
    _forward,
    _default_size,
    _batched,
    _one_axis_less,
)
#: One for each type, of which a backend may know one alone; float32 is the likeliest.
TYPES = tuple(_typed(name) for name in ("float32", *(n for n in dtypes.ALL if n != "float32")))
#: One for each order that frameworks have.
ORDERS = tuple(
    _ordered(names[0])
    for names in {
        (c.data, c.weight, c.transposed_weight): (name,) for name, c in CONVENTIONS.items()
    }.values()
)
