"""The floor: what an adapter of this repository must claim, so that nothing is hidden as missing.

The table is ``floor.toml``. A third party may keep one of its own and test it in the same way.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from convspec import ConvSpecError

from . import capabilities
from .cases import GRADIENTS, Case
from .drawing import RANKS, random_case
from .judges import fair
from .targets import Target

#: One case in so many has more than three spatial axes.
HIGHER = 5
MAX_RANK = 5


@dataclass(frozen=True)
class Floor:
    """What adapters have to claim.

    Attributes:
        asked: labels of the capabilities that the cases have to ask for.
        excused: by adapter, the labels of what it need not claim, with the reason.
    """

    asked: tuple[str, ...]
    excused: dict[str, dict[str, str]]

    def requires(self, name: str, case: Case) -> bool:
        """Whether a target has to claim a case; one that the floor does not name has not."""
        if name not in self.excused:
            return False
        return not set(self.excused[name]) & set(capabilities.labels(case))


@cache
def own() -> Floor:
    """This repository's own floor."""
    return load()


def load(path: Path | None = None) -> Floor:
    """The table of a file, by default this repository's own.

    Raises:
        ConvSpecError: it names a capability that there is not, or excuses one without a reason.
    """
    source: Any = files(__package__) / "floor.toml" if path is None else path
    table = tomllib.loads(source.read_text(encoding="utf-8"))
    floor = Floor(tuple(table["asked"]), table["adapters"])
    known = {capability.label for capability in capabilities.CAPABILITIES}
    for label in (*floor.asked, *(label for held in floor.excused.values() for label in held)):
        if label not in known:
            raise ConvSpecError(f"floor: there is no capability {label!r}.")
    for adapter, held in floor.excused.items():
        for label, reason in held.items():
            if not (isinstance(reason, str) and reason.strip()):
                raise ConvSpecError(f"floor: {adapter} is excused from {label!r} for no reason.")
    return floor


def cases(count: int, seed: int = 0) -> Iterator[Case]:
    """Legal cases of all that DESIGN section 3 allows, some with four axes and more.

    Where there are gradients, those of the case follow it.
    """
    rng = np.random.default_rng([seed, 11])
    for i in range(count):
        case = random_case(rng, RANKS if i % HIGHER else range(1, MAX_RANK + 1))
        yield case
        yield from filter(fair, (replace(case, judge=name) for name in GRADIENTS))


def below(target: Target, drawn: Iterable[Case], floor: Floor) -> list[tuple[Case, str]]:
    """The cases that a target should claim and does not, each with the reason that it gives."""
    found = []
    for case in drawn:
        claim = target.claims(case)
        if not claim and floor.requires(target.name, case):
            found.append((case, claim.reason))
    return found
