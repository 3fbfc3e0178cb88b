"""What adapters claim: all that DESIGN section 3 describes, and a report that cannot hide less."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import convspec
import convspec_conformance as conformance
from convspec import ConvSpecError, Support, cli
from convspec_conformance import capabilities, command, floor
from convspec_conformance.cases import Case
from convspec_conformance.faults import FAULTS
from convspec_conformance.judges import Verdict
from convspec_conformance.reports.document import Settings, document
from convspec_conformance.runner import Result, Run

FLOOR = floor.load()
GRADIENTS = {"judged by: gradients", "judged by: second gradients"}
CASES = list(floor.cases(500))
SMOKE = [case for case in conformance.suite("smoke") if case.judge == "exact"]


def test_the_floor_is_for_the_four_adapters() -> None:
    assert set(FLOOR.excused) == {"numpy", "torch", "tensorflow", "jax"}


def test_the_floor_asks_for_everything_that_a_backend_computes() -> None:
    """How results are judged, and where arrays lie, is nothing that a backend claims."""
    other = ("judged by", "memory")
    computed = {c.label for c in capabilities.CAPABILITIES if c.group not in other}
    assert set(FLOOR.asked) == computed | GRADIENTS


def test_the_cases_ask_for_the_whole_floor() -> None:
    counts = dict.fromkeys(FLOOR.asked, 0)
    for case in CASES:
        for label in set(capabilities.labels(case)) & set(counts):
            counts[label] += 1
    assert min(counts.values()) >= 15, counts


def test_every_adapter_claims_the_whole_floor(backend: convspec.Backend) -> None:
    target = conformance.BackendTarget(backend)
    assert [f"{case.line}: {why}" for case, why in floor.below(target, CASES, FLOOR)] == []


def test_what_is_not_claimed_is_found_unless_it_is_excused() -> None:
    target = FAULTS["volumes_unclaimed"]
    volumes = [case for case in CASES if case.spec.rank >= 3]
    strict = floor.Floor((), {"volumes_unclaimed": {}})
    found = floor.below(target, CASES, strict)
    assert [case for case, _ in found] == volumes
    assert {why for _, why in found} == {"no 3-D"}
    # Gradients stand under what judges them alone, whatever their rank.
    labels = ("rank: 3", "rank: 4 and more", "judged by: gradients", "judged by: second gradients")
    excused = floor.Floor((), {"volumes_unclaimed": dict.fromkeys(labels, "none")})
    assert floor.below(target, CASES, excused) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('asked = ["rank: 0"]\n[adapters]', "floor: there is no capability 'rank: 0'."),
        ('asked = []\n[adapters.a]\n"rank: 9" = "x"', "floor: there is no capability 'rank: 9'."),
        ('asked = []\n[adapters.a]\n"rank: 1" = " "', "a is excused from 'rank: 1' for no reason."),
    ],
)
def test_a_floor_that_makes_no_sense(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "floor.toml"
    file.write_text(text)
    with pytest.raises(ConvSpecError, match=re.escape(message)):
        floor.load(file)


def test_only_this_repositorys_adapters_have_a_floor() -> None:
    assert FLOOR.requires("torch", SMOKE[0])
    for name in ("raw-torch", "mlx", "package.module:torch"):
        assert not FLOOR.requires(name, SMOKE[0])


def test_the_command_line_fails_below_the_floor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unclaimed cases are nobody's failure, but for an adapter that has to claim them."""
    case = next(case for case in SMOKE if case.spec.rank == 3)
    missing = Result(case, Verdict("unclaimed", "no 3-D"), claimed=False)

    def run(name: str, cases: Sequence[Case], **options: object) -> Run:
        return Run(name, results=[missing])

    monkeypatch.setattr(command, "run", run)
    arguments = ["conformance", "run", "--case", case.line, "--backend"]
    assert cli.main([*arguments, "numpy"]) == 1
    told = capsys.readouterr().out
    assert "numpy claims less than its floor: 1 cases are missing" in told
    assert case.line in told
    assert cli.main([*arguments, "convspec_numpy:backend"]) == 0


# ---- the report's share ----


def _reported(target: conformance.Target, cases: Sequence[Case]) -> dict[str, object]:
    """What the report says of a target, run in this process."""
    results = [
        Result(case, conformance.judge(case, target), bool(target.claims(case))) for case in cases
    ]
    report = document([Run(target.name, results=results)], cases, Settings())
    return dict(report["targets"][0])


def test_the_share_counts_cases_whatever_the_backend_says_of_itself() -> None:
    """The engine's capabilities promise everything; its claims are asked case by case."""
    flat = [case.spec.rank < 3 for case in SMOKE]
    told = _reported(FAULTS["volumes_unclaimed"], SMOKE)
    assert told["claimed_share"] == round(sum(flat) / len(flat), 6)
    assert told["counts"] == {
        **dict.fromkeys(conformance.judges.STATUSES, 0),
        "pass": sum(flat),
        "unclaimed": len(flat) - sum(flat),
    }


def test_claims_that_are_empty_do_not_look_green() -> None:
    told = _reported(FAULTS["claims_nothing"], SMOKE)
    assert told["claimed_share"] == 0
    assert told["counts"]["unclaimed"] == len(SMOKE)  # type: ignore[index]


def test_claims_that_are_not_kept_are_errors() -> None:
    told = _reported(FAULTS["claims_all_but_has_no_complex"], SMOKE)
    complex_ones = [case for case in SMOKE if case.dtype.startswith("complex")]
    assert told["claimed_share"] == 1
    assert told["counts"]["error"] == len(complex_ones) > 0  # type: ignore[index]


def test_refusing_bad_input_is_no_part_of_the_share() -> None:
    """It is asked of everybody, so it would hide how little is claimed."""
    refusals = [case for case in conformance.suite("smoke") if case.judge == "refusal"]
    assert capabilities.share([(case, True) for case in refusals] + [(SMOKE[0], False)]) == 0


def test_probing_tells_what_could_be_claimed() -> None:
    case = next(case for case in SMOKE if case.spec.rank == 3)
    target = FAULTS["volumes_unclaimed"]
    assert conformance.judge(case, target) == Verdict("unclaimed", "no 3-D")
    verdict = conformance.judge(case, target, probe=True)
    assert Result(case, verdict, claimed=bool(target.claims(case))).unexpected
    assert not Result(case, verdict, claimed=bool(Support(True, "native"))).unexpected
