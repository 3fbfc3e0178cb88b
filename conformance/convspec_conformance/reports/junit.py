"""The report as JUnit XML, which CI servers show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from .document import Document, failed, total
from .terminal import failure_text

#: What XML 1.0 has no way to write.
_UNWRITABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Document) -> str:
    """The report's text: one suite a target, one test a case; an unclaimed one is skipped."""
    root = ElementTree.Element("testsuites", name="convspec conformance")
    for target in report["targets"]:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=target["name"],
            timestamp=report["date"].removesuffix("+00:00"),
            tests=str(total(target) + bool(target["broken"])),
            failures=str(failed(target) - target["counts"]["error"]),
            errors=str(target["counts"]["error"] + bool(target["broken"])),
            skipped=str(target["counts"]["unclaimed"]),
            time=f"{sum(result['seconds'] for result in target['results']):.3f}",
        )
        properties = ElementTree.SubElement(suite, "properties")
        for name in ("version", "claimed_share"):
            ElementTree.SubElement(properties, "property", name=name, value=str(target[name]))
        if target["broken"]:
            test = ElementTree.SubElement(suite, "testcase", classname=target["name"], name="load")
            _tell(test, "error", "broken", target["broken"], target["broken"])
        for result in target["results"]:
            line = report["cases"][result["case"]]["line"]
            test = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"{target['name']}.{line.split()[0]}",
                name=line,
                time=f"{result['seconds']:.4f}",
            )
            status, detail = result["status"], result["detail"]
            if status == "unclaimed":
                ElementTree.SubElement(test, "skipped", message=_written(detail))
            elif status != "pass":
                kind = "error" if status == "error" else "failure"
                _tell(test, kind, status, detail, failure_text(target["name"], line, result))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _tell(test: ElementTree.Element, kind: str, status: str, message: str, text: str) -> None:
    element = ElementTree.SubElement(test, kind, type=status, message=_written(message))
    element.text = _written(text)


def _written(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)
