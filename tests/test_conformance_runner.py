"""The runner: whatever a case does to its process is a verdict, and the run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import conformance_targets as fake
import convspec_conformance as conformance
from convspec import ConvSpec, ConvSpecError
from convspec_conformance.journal import Journal
from convspec_conformance.runner import Limits, Result, Run, Worker, run
from convspec_conformance.worker import Loaded

FRAGILE = "conformance_targets:fragile"


def case(width: int, seed: int = 0) -> conformance.Case:
    return conformance.Case("exact", ConvSpec(1, 1, (2,)), (1, 1, width), seed=seed)


GOOD = [case(5, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def fragile() -> Run:
    """Every ending among good cases, on two workers."""
    cases = [GOOD[0], *(case(width) for width in range(fake.SEGFAULT, fake.UNCLAIMED + 1)), GOOD[1]]
    return run(FRAGILE, cases, jobs=2, limits=Limits(seconds=1.0, memory=2**34))


def verdict(run: Run, width: int) -> tuple[str, str]:
    found = next(r.verdict for r in run.results if r.case.input_shape[-1] == width)
    return found.status, found.detail


def test_the_run_goes_on_and_keeps_the_order(fragile: Run) -> None:
    assert (fragile.target, fragile.version, fragile.broken) == (FRAGILE, "7.1", "")
    widths = [result.case.input_shape[-1] for result in fragile.results]
    assert widths == [5, *range(fake.SEGFAULT, fake.UNCLAIMED + 1), 5]
    good = [r.verdict.status for r in fragile.results if r.case.input_shape[-1] == 5]
    assert good == ["pass", "pass"]
    assert len(fragile.failures) == 8


def test_crashes_say_how_the_process_ended(fragile: Run) -> None:
    status, detail = verdict(fragile, fake.SEGFAULT)
    assert status == "crash"
    assert detail.startswith(
        "the process was ended by SIGSEGV: Fatal Python error: Segmentation fault\nFile "
    )
    assert "string_at" in detail
    status, detail = verdict(fragile, fake.ABORT)
    assert status == "crash"
    assert detail.startswith("the process was ended by SIGABRT: Fatal Python error: Aborted\nFile ")
    assert verdict(fragile, fake.EXIT) == ("crash", "the process ended with status 3")
    assert verdict(fragile, fake.KILLED) == (
        "crash",
        "the process was ended by SIGKILL, as the kernel does when memory runs out",
    )


def test_a_hang_says_where(fragile: Run) -> None:
    status, detail = verdict(fragile, fake.HANG)
    assert status == "hang"
    assert detail.startswith("no answer within 1 s. Timeout (0:00:01)!\nFile ")
    assert "_hang" in detail


def test_out_of_memory_is_a_verdict(fragile: Run) -> None:
    status, detail = verdict(fragile, fake.MEMORY)
    assert status == "error"
    assert "MemoryError: Unable to allocate 128. GiB" in detail


def test_errors_wrong_numbers_and_unclaimed(fragile: Run) -> None:
    assert verdict(fragile, fake.RAISES) == (
        "error",
        "RuntimeError: an internal error of the framework",
    )
    assert verdict(fragile, fake.WRONG)[0] == "fail"
    assert verdict(fragile, fake.UNCLAIMED) == ("unclaimed", "width 19 is unlucky")
    assert [r.claimed for r in fragile.results if r.case.input_shape[-1] == 19] == [False]


def test_probing_shows_what_could_be_claimed() -> None:
    found = run(FRAGILE, [GOOD[0], case(fake.UNCLAIMED)], probe=True)
    assert [(r.verdict.status, r.claimed, r.unexpected) for r in found.results] == [
        ("pass", True, False),
        ("pass", False, True),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "conformance_targets:dies_loading",
            "loaded: the process was ended by SIGABRT",
        ),
        ("conformance_targets:refuses_loading", "backend: no licence found."),
        ("nonsense", "backend: 'nonsense' is no"),
    ],
)
def test_a_target_that_cannot_be_loaded(name: str, message: str) -> None:
    found = run(name, GOOD)
    assert found.results == []
    assert message in found.broken


def test_a_worker_says_when_it_cannot_come_back() -> None:
    refused = pytest.raises(ConvSpecError, match=r"backend: no licence found\.")
    with Worker("conformance_targets:refuses_loading") as worker, refused:
        worker.judge(GOOD[0])


# ---- journals ----


def recorded(
    path: Path, cases: list[conformance.Case], *, steered: bool = False
) -> tuple[Run, list[Result]]:
    """A run with a journal, and the results that it had to compute."""
    journal = Journal(path)
    new: list[Result] = []

    def record(result: Result) -> None:
        new.append(result)
        journal.add(FRAGILE, code[0], result)

    def loaded(target: Loaded) -> Mapping[str, Result]:
        code[:] = [target]
        return journal.known(FRAGILE, target)

    code = [Loaded()]
    found = run(FRAGILE, cases, steered=steered, loaded=loaded, record=record)
    journal.close()
    return found, new


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    _, first = recorded(path, [*GOOD[:2], case(fake.WRONG)])
    with path.open("a") as file:
        file.write('{"target": "fragi')  # killed while it wrote
    whole, second = recorded(path, [*GOOD, case(fake.WRONG)])
    assert [result.case for result in second] == GOOD[2:]
    assert [r.verdict.status for r in whole.results] == ["pass"] * 4 + ["fail"]
    assert whole.results[4].verdict == first[2].verdict
    assert len(path.read_text().splitlines()) == 5
    again = Journal(path)
    with Worker(FRAGILE) as worker:
        target = worker.start()
    assert target.version == "7.1"
    assert len(again.known(FRAGILE, target)) == 5
    assert again.known(FRAGILE, replace(target, version="7.2")) == {}
    assert again.known(FRAGILE, replace(target, code="other")) == {}
    assert again.known("numpy", target) == {}


def test_code_that_has_changed_has_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend's package, and a module next to it; but not what has nothing to do with it."""
    package = tmp_path / "edited_backend"
    package.mkdir()
    (tmp_path / "helper_of_it.py").write_text("SCALE = 1\n")
    (package / "__init__.py").write_text("from .engine import made\n")
    (package / "engine.py").write_text(
        "import conformance_targets, helper_of_it\n"
        "class Edited(conformance_targets.Fragile):\n    pass\n"
        "def made():\n    return Edited()\n"
    )
    (package / "later.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def code() -> str:
        with Worker("edited_backend:made") as worker:
            return worker.start().code

    first = code()
    (tmp_path / "unrelated.py").write_text("")
    assert code() == first
    found = {first}
    for file in ("helper_of_it.py", "edited_backend/engine.py", "edited_backend/later.py"):
        with (tmp_path / file).open("a") as source:
            source.write("# changed\n")
        found.add(code())
    assert len(found) == 4


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text(json.dumps({"target": "x"}) + "\n")
    with pytest.raises(ConvSpecError, match=r"resume: .*journal, line 1: is no result of a run"):
        Journal(path)
    with pytest.raises(ConvSpecError, match=r"resume: .* cannot be used"):
        Journal(tmp_path)


# ---- who claims little ----


def test_in_the_place_of_an_unclaimed_case_comes_one_that_is_claimed(tmp_path: Path) -> None:
    """The same at each run, whatever is known; the level's own results stay what they are."""
    cases = [GOOD[0], case(fake.UNCLAIMED), case(fake.UNCLAIMED, seed=5)]
    found, _ = recorded(tmp_path / "journal", cases, steered=True)
    assert [(r.claimed, r.steered) for r in found.results] == [
        (True, False),
        (False, False),
        (False, False),
        (True, True),
        (True, True),
    ]
    assert {r.verdict.status for r in found.results[3:]} == {"pass"}
    assert found.results[3].case != found.results[4].case
    again, new = recorded(tmp_path / "journal", cases, steered=True)
    assert again.results == [replace(r, seconds=round(r.seconds, 4)) for r in found.results]
    assert new == []
    assert run(FRAGILE, cases).results[3:] == []


def test_a_worker_that_finds_no_other_case_is_kept() -> None:
    with Worker(FRAGILE) as worker:
        worker.start()
        process = worker._process
        refusal = next(c for c in conformance.suite("smoke") if c.judge == "refusal")
        assert worker.instead(refusal) is None
        assert worker._process is process
        assert process.is_alive()
