"""What a model says its layers are."""

from __future__ import annotations

from typing import Any

from ..spec import ConvSpec
from .kinds import Kind

Known = dict[str, tuple[Kind, ConvSpec | None]]


def kinds(model: Any) -> Known:
    """Kinds and specs by layer or tensor."""
    return {}
