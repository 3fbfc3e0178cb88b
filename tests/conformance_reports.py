"""A report with one of everything, made without running anything, for the tests of its forms."""

from __future__ import annotations

from convspec import ConvSpec
from convspec_conformance.cases import Case
from convspec_conformance.judges import Verdict
from convspec_conformance.reports.document import Document, Settings, Small, document
from convspec_conformance.runner import Result, Run

SPEC = ConvSpec(3, 4, (3, 3), padding=1)
#: What no form may take for markup of its own.
NASTY = "</script><script>alert(1)</script> | `code` <b>&amp; \x1b[31m\x00 end"
PLAIN = [
    Case("exact", SPEC.replace(groups=1, stride=s), (1, 3, n, 8), seed=seed)
    for seed in range(30)
    for s, n in ((1, 4), (2, 5))
]
REAL = [Case("bounded", SPEC, (1, 3, 6, n), filling="real", seed=n) for n in range(3, 12)]
TURNED = ConvSpec(4, 4, (3,), groups=2, transposed=True, bias=False, layout="NWC")
HALF = [Case("exact", TURNED, (2, n, 4), dtype="float16", seed=n) for n in range(4, 10)]
REFUSED = Case("refusal", SPEC, (1, 3, 5, 5), wrong="channels")
SLOPES = [Case("gradient", SPEC, (1, 3, 5, 5), seed=seed) for seed in range(4)]
CASES = [*PLAIN, *REAL, *HALF, *SLOPES, REFUSED]

GOOD = Verdict("pass")
WRONG = Verdict("fail", "7 of 128 elements differ, first at (0, 0, 1, 7): got 3.0, expected 4.0")
SMALL = Small(
    Case("exact", ConvSpec(1, 1, (2,), bias=False), (1, 1, 2)),
    "1 of 1 elements differ, first at (0, 0, 0): got 1.0, expected 2.0",
    "import torch\n\nx = torch.tensor([[[1.0, 1.0]]])\n" + "y = x * 1  # " + "long " * 60 + "\n",
)


def _right(case: Case) -> Result:
    if case.judge != "bounded":
        return Result(case, GOOD, seconds=0.001)
    return Result(case, Verdict("pass", ratio=10.0 ** -(case.seed % 4)), seconds=0.002)


def _wrong(case: Case) -> Result:
    """Bad in every way there is."""
    verdicts = {
        PLAIN[3]: WRONG,
        PLAIN[7]: Verdict("error", f"RuntimeError: {NASTY}"),
        PLAIN[9]: Verdict("hang", "no answer within 60 s."),
        PLAIN[11]: Verdict("crash", "the process was ended by SIGSEGV"),
        REAL[2]: Verdict("fail", "error is inf times its bound", float("nan")),
        REAL[3]: Verdict("fail", "error is 12.5 times its bound", 12.5),
    }
    if case in HALF[:2]:
        return Result(case, GOOD, claimed=False)
    if case in (*HALF, SLOPES[0]):
        return Result(case, Verdict("unclaimed", "float16: no kernel"), claimed=False)
    return Result(case, verdicts[case]) if case in verdicts else _right(case)


def full() -> Document:
    """Two targets that ran and one that could not be loaded."""
    runs = [
        Run("torch", "2.13.0", [_wrong(case) for case in CASES]),
        Run("a_rather_long_package.and_module:object", "1.0", [_right(case) for case in CASES]),
        Run("third", broken="backend: 'third' could not be loaded: no licence found."),
    ]
    settings = Settings("standard", 3, (), probe=True)
    return document(runs, CASES, settings, {("torch", PLAIN[3].line): SMALL})


#: Drawn for a backend that claims no half types.
STEERED = [Case("exact", TURNED, (2, 6, 4), seed=seed) for seed in range(40, 46)]


def several(count: int = 3) -> Document:
    """Backends side by side that claim a part, and were asked for more in its place."""
    names = ["torch", "a_rather_long_package.and_module:object", "tensorflow-without-onednn", "mlx"]
    steered = [Result(case, GOOD, steered=True) for case in STEERED]
    runs = [
        Run(name, "2.1", [*map(_wrong, CASES), *steered])
        for name in [*names, *(f"another-{i}" for i in range(9))][:count]
    ]
    return document(runs, CASES, Settings("standard", 3))
