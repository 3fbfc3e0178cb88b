"""Results on disk as they come, so that a run that was stopped goes on where it was.

JSON, one result a line; the last line may be torn. Results belong to a target, the version of its
framework, the version of convspec and the code of both: those of others are kept, and not used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convspec import ConvSpecError, __version__

from .cases import parse
from .judges import Verdict
from .runner import Result
from .worker import Loaded


class Journal:
    """The results of a file, and new ones appended to it."""

    def __init__(self, path: Path) -> None:
        """Read a journal; a file that is not there is an empty one.

        Raises:
            ConvSpecError: the file is no journal, or cannot be read or written.
        """
        self._known: dict[tuple[str, str], dict[str, Result]] = {}
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            whole, _, torn = text.rpartition("\n")
            for number, line in enumerate(whole.splitlines(), 1):
                self._take(line, f"{path}, line {number}")
            self._file = path.open("a", encoding="utf-8")
            if torn:
                self._file.truncate(len((whole + "\n").encode()) if whole else 0)
        except (OSError, UnicodeDecodeError) as error:
            raise ConvSpecError(f"resume: {path} cannot be used: {error}.") from error

    def known(self, target: str, loaded: Loaded) -> dict[str, Result]:
        """The results of a target of this version and code, by the case's line."""
        return self._known.get((target, _versions(loaded)), {})

    def add(self, target: str, loaded: Loaded, result: Result) -> None:
        """Write a result, so that it survives this process."""
        verdict = result.verdict
        entry = {
            "target": target,
            "versions": _versions(loaded),
            "case": result.case.line,
            "claimed": result.claimed,
            "seconds": round(result.seconds, 4),
            "status": verdict.status,
            "detail": verdict.detail,
            "ratio": verdict.ratio,
        }
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _take(self, line: str, where: str) -> None:
        try:
            entry: dict[str, Any] = json.loads(line)
            verdict = Verdict(entry["status"], entry["detail"], entry["ratio"])
            result = Result(parse(entry["case"]), verdict, entry["claimed"], entry["seconds"])
            of = self._known.setdefault((entry["target"], entry["versions"]), {})
            of[entry["case"]] = result
        except (ValueError, KeyError, TypeError) as error:
            raise ConvSpecError(f"resume: {where}: is no result of a run: {line!r}.") from error


def _versions(loaded: Loaded) -> str:
    framework = loaded.version or "unknown"
    return f"convspec {__version__}, framework {framework}, code {loaded.code}"
