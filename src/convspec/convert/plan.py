"""The plan of a conversion, decided before anything is written: one action for each tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..spec import ConvSpec
from .deduce import Unclear
from .errors import ConvertError
from .kinds import Kind
from .steps import Step


@dataclass(frozen=True)
class Action:
    """What happens to one tensor.

    Attributes:
        name: in the source.
        kind: of its layer.
        part: of the layer, one of :data:`names.PARTS`, or ``""``.
        source_shape: shape in the source.
        target: name in the target; ``""`` if it is left out.
        target_shape: shape in the target.
        dtype: element type in the target.
        steps: what is done to it.
        spec: the convolution, in the target's convention, of a kernel.
        source_spec: the same in the source's convention.
        layer: the name of its layer.
        note: why it is left out.
    """

    name: str
    kind: Kind
    part: str
    source_shape: tuple[int, ...]
    target: str
    target_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    steps: tuple[Step, ...] = ()
    spec: ConvSpec | None = None
    source_spec: ConvSpec | None = None
    layer: str = ""
    note: str = ""

    def __str__(self) -> str:
        """The action in words."""
        if self.note:
            return f"left out: {self.note}"
        return ", ".join(map(str, self.steps)) or "copy"


@dataclass
class Plan:
    """All actions, and what keeps them from being carried out.

    Attributes:
        source, target: conventions.
        actions: one for each tensor of the source, in its order.
        unclear: tensors of which nobody has said what they are; none may be left.
        skipped: what the file holds beside tensors, and why it is left out.
        unused: rules that matched nothing.
        notes: what the user should know.
        unnumbered: layers that a Keras file numbers, but whose order the source has lost and whose
            shapes would not tell a mistake.
        total: how many tensors the source has.
    """

    source: str
    target: str
    actions: list[Action] = field(default_factory=list)
    unclear: list[Unclear] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unnumbered: list[str] = field(default_factory=list)
    total: int = 0

    @property
    def written(self) -> list[Action]:
        return [action for action in self.actions if action.target]

    def check(self) -> None:
        """Nothing is open.

        Raises:
            ConvertError: a tensor's kind is unknown; the message has the lines to add.
        """
        if not self.unclear:
            self._check_numbers()
            return
        lines = [f"  {item.name} {item.shape}: {item.reason}" for item in self.unclear]
        rules = [f"  {item.line}" for item in self.unclear]
        raise ConvertError(
            f"{len(self.unclear)} of {self.total} tensors can be read in more than one way:\n"
            + "\n".join(lines)
            + "\nSay what they are in a rules file (--rules FILE), or hand over a model (--model):"
            + "\n  [kinds]\n"
            + "\n".join(rules)
        )

    def _check_numbers(self) -> None:
        if self.unnumbered:
            names = ", ".join(self.unnumbered[:6]) + (", ..." if len(self.unnumbered) > 6 else "")
            raise ConvertError(
                f"Keras numbers layers in the order in which a model makes them, but the source "
                f"keeps its names sorted,\n  and shapes would not tell a mistake: {names}.\n"
                f"  Pass like= (--like), a file of the Keras model, or model= (--model)."
            )
