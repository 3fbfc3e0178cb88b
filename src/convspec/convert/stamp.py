"""What written files say of themselves: JSON under one key, with a format version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..arguments import shown
from .errors import ConvertError

#: A newer minor version adds keys, which older readers pass over; a newer major one is refused.
FORMAT_VERSION = "1.0"


def to_text(values: Mapping[str, Any]) -> str:
    """A stamp as text."""
    return json.dumps({"format_version": FORMAT_VERSION, **values}, separators=(",", ":"))


def from_text(path: Path, text: str) -> dict[str, Any]:
    """The values of a stamp; empty for an empty text.

    Raises:
        ConvertError: it is damaged, or of a newer major version.
    """
    if not text:
        return {}
    try:
        values = json.loads(text)
        version = str(values["format_version"])
        major = int(version.split(".")[0])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConvertError(
            f"{path}: the metadata that convspec left is damaged: {shown(error)}.\n"
            f"  Pass ignore_stamp=True (--ignore-stamp) to go by names and rules alone."
        ) from error
    if major > int(FORMAT_VERSION.split(".")[0]):
        raise ConvertError(
            f"{path}: its metadata has version {version}, newer than {FORMAT_VERSION}; update "
            f"convspec."
        )
    return dict(values)
