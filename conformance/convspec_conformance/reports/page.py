"""The report as one HTML page that needs no network: markup, style, script and data in one file."""

from __future__ import annotations

import json
from importlib.resources import files

from ..judges import STATUSES
from .document import INFINITE, Document, headline


def page(report: Document) -> str:
    """The page's text."""
    parts = {name: _part(f"page.{name}") for name in ("html", "css", "js")}
    # In a script element only "</" and "<!--" could end the data early.
    data = json.dumps(_compact(report), separators=(",", ":")).replace("<", "\\u003c")
    html = parts["html"].replace("/*STYLE*/", parts["css"]).replace("/*SCRIPT*/", parts["js"])
    # Last, and once: the data may hold any text.
    return html.replace("/*DATA*/", data, 1)


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _compact(report: Document) -> Document:
    """The report with each result as a row, and each distinct detail once: a fifth of the size."""
    details: dict[str, int] = {"": 0}
    targets = []
    for target in report["targets"]:
        rows = []
        for result in target["results"]:
            detail = details.setdefault(result["detail"], len(details))
            row = [
                result["case"],
                STATUSES.index(result["status"]),
                int(result["claimed"]),
                detail,
                result["ratio"],
                result["seconds"],
            ]
            rows.append([*row, result["smallest"]] if "smallest" in result else row)
        targets.append({**target, "results": rows, "headline": headline(target)})
    return {
        **report,
        "statuses": STATUSES,
        "infinite": INFINITE,
        "targets": targets,
        "details": list(details),
    }
