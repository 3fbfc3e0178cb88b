"""The report as Markdown, for a pull request or a job's summary."""

from __future__ import annotations

from .document import Document, cell_text, failed, headline, ratio_text, surveyed, total


def markdown(report: Document) -> str:
    """The report's text."""
    targets = report["targets"]
    lines = ["# Conformance", ""]
    for target in targets:
        lines += [f"- {text}" for text in headline(target).splitlines()]
    ran = [target for target in targets if target["results"]]
    if ran:
        lines += ["", *_matrix(report, ran)]
    for target in ran:
        bad = [r for r in target["results"] if r["status"] not in ("pass", "unclaimed")]
        if bad:
            lines += ["", f"## {target['name']}: {failed(target)} bad cases", ""]
        for result in bad:
            lines += _failure(report["cases"][result["case"]]["line"], result)
    lines += [
        "",
        f"Level {report['level']}, seed {report['seed']}, convspec {report['convspec']}, Python "
        f"{report['python']}, {report['platform']}, {report['date']}.",
        "",
    ]
    return "\n".join(lines)


def _matrix(report: Document, targets: list[Document]) -> list[str]:
    names = [target["name"] for target in targets]
    head = ["", "cases", *(part for name in names for part in (name, "error/bound"))]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for i, capability in enumerate(report["capabilities"]):
        cells = [target["capabilities"][i] for target in targets]
        if any(map(total, cells)):
            rows.append([f"{capability['group']}: {capability['name']}", *_cells(cells)])
    rows.append(["**all**", *_cells(targets)])
    return ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]


def _cells(cells: list[Document]) -> list[str]:
    texts = [str(surveyed(cells[0]))]
    for cell in cells:
        text = cell_text(cell)
        texts += [f"**{text}**" if failed(cell) else text, ratio_text(cell["worst"])]
    return texts


def _failure(line: str, result: Document) -> list[str]:
    lines = [f"- {result['status']}: {_code(line)}", *_quoted(result["detail"])]
    small = result.get("smallest")
    if small:
        lines += [f"  - smallest: {_code(small['line'])}", *_quoted(small["detail"], 4)]
        if small["snippet"]:
            code = small["snippet"].rstrip().splitlines()
            lines += ["", *(("    " + text).rstrip() for text in ("```python", *code, "```")), ""]
    return lines


def _quoted(text: str, by: int = 2) -> list[str]:
    """Each line of a detail as code, since it may say anything."""
    return [" " * by + _code(line) + "  " for line in text.splitlines() if line.strip()]


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
