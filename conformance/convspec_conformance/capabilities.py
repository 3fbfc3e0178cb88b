"""What a case asks of a backend, in the words of a table: rank 3, groups, causal padding.

A case stands under every capability that it needs, so the rows of a table overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from convspec import ConvSpec
from convspec.dtypes import COMPLEX, HALF, INTEGER

from .cases import GRADIENTS, Case
from .properties import PROPERTIES


@dataclass(frozen=True)
class Capability:
    """One thing that a backend can do.

    Attributes:
        group: what it is one kind of.
        name: unique within the group.
        asked: whether a case asks for it.
    """

    group: str
    name: str
    asked: Callable[[Case], bool]

    @property
    def label(self) -> str:
        """Group and name."""
        return f"{self.group}: {self.name}"


def _size(case: Case, letter: str) -> int | None:
    at = case.spec.layout.find(letter)
    return None if at < 0 else case.input_shape[at]


def _pads(case: Case, test: Callable[[int, int], bool]) -> bool:
    pairs = [entry for entry in case.spec.padding if not isinstance(entry, str)]
    return any(test(lo, hi) for lo, hi in pairs)


def _many(values: tuple[int, ...]) -> bool:
    return max(values) > 1


def _plain_order(spec: ConvSpec) -> str:
    rest = spec.layout.replace("N", "")
    if spec.layout not in (f"N{rest}", rest) or rest[1:-1] not in spec.spatial:
        return "other"
    return {0: "first", len(rest) - 1: "last"}.get(rest.index("C"), "other")


def _rank(rank: int) -> Capability:
    return Capability("rank", str(rank), lambda case: case.spec.rank == rank)


def _dtype(name: str, members: Iterable[str]) -> Capability:
    names = frozenset(members)
    return Capability("type", name, lambda case: case.dtype in names)


def _mode(mode: str) -> Capability:
    return Capability("padding mode", mode, lambda case: case.spec.padding_mode == mode)


def _named(name: str) -> Capability:
    return Capability("padding", name, lambda case: name in case.spec.padding)


def _judged(name: str, judges: Iterable[str]) -> Capability:
    names = frozenset(judges)
    return Capability("judged by", name, lambda case: case.judge in names)


def _filled(name: str, filling: str) -> Capability:
    return Capability("judged by", name, lambda case: case.filling == filling)


#: All capabilities, in the order of a table.
CAPABILITIES = (
    *(_rank(rank) for rank in (1, 2, 3)),
    Capability("rank", "4 and more", lambda case: case.spec.rank > 3),
    Capability("direction", "forward", lambda case: not case.spec.transposed),
    Capability("direction", "transposed", lambda case: case.spec.transposed),
    Capability("direction", "output_padding", lambda case: any(case.spec.output_padding)),
    Capability("direction", "output_size", lambda case: case.output_size is not None),
    Capability("kernel", "of size 1", lambda case: set(case.spec.kernel_size) == {1}),
    Capability("kernel", "strided", lambda case: _many(case.spec.stride)),
    Capability("kernel", "dilated", lambda case: _many(case.spec.dilation)),
    Capability(
        "kernel",
        "strided and dilated",
        lambda case: _many(case.spec.stride) and _many(case.spec.dilation),
    ),
    Capability("kernel", "flipped", lambda case: case.spec.flip_kernel),
    Capability("channels", "groups", lambda case: 1 < case.spec.groups < case.spec.in_channels),
    Capability("channels", "depthwise", lambda case: 1 < case.spec.groups == case.spec.in_channels),
    Capability("channels", "multiplier (M)", lambda case: "M" in case.spec.weight_layout),
    Capability("channels", "bias", lambda case: case.spec.bias),
    Capability("padding", "none", lambda case: set(case.spec.padding) == {(0, 0)}),
    Capability("padding", "symmetric", lambda case: _pads(case, lambda lo, hi: lo == hi > 0)),
    Capability("padding", "asymmetric", lambda case: _pads(case, lambda lo, hi: lo != hi)),
    Capability("padding", "cropping", lambda case: _pads(case, lambda lo, hi: min(lo, hi) < 0)),
    _named("same"),
    _named("same_lower"),
    *(_mode(mode) for mode in ("reflect", "replicate", "circular")),
    _dtype("float32", ["float32"]),
    _dtype("float64", ["float64"]),
    *(_dtype(name, [name]) for name in HALF),
    _dtype("complex", COMPLEX),
    _dtype("integer", INTEGER),
    Capability("type", "out_dtype", lambda case: case.out_dtype is not None),
    Capability("layout", "channels first", lambda case: _plain_order(case.spec) == "first"),
    Capability("layout", "channels last", lambda case: _plain_order(case.spec) == "last"),
    Capability("layout", "other orders", lambda case: _plain_order(case.spec) == "other"),
    Capability(
        "layout", "other output order", lambda case: case.spec.output_layout != case.spec.layout
    ),
    Capability("layout", "unbatched", lambda case: "N" not in case.spec.layout),
    Capability("sizes", "empty batch", lambda case: _size(case, "N") == 0),
    Capability(
        "sizes",
        "spatial axis of size 1",
        lambda case: any(_size(case, letter) == 1 for letter in case.spec.spatial),
    ),
    Capability("memory", "reversed axes", lambda case: case.view == "reversed"),
    Capability("memory", "one axis reversed", lambda case: case.view == "flipped"),
    Capability("memory", "permuted axes", lambda case: case.view == "permuted"),
    Capability("memory", "part of a larger array", lambda case: case.view == "sliced"),
    _judged("exact numbers", ["exact"]),
    _judged("error bounds", ["bounded"]),
    _filled("NaN and infinities", "nonfinite"),
    _filled("subnormal numbers", "tiny"),
    _filled("overflow of float16", "huge"),
    _judged("changes in place", ["again"]),
    _judged("calls from two threads", ["threads"]),
    _judged("gradients", ["gradient"]),
    _judged("second gradients", ["gradient2"]),
    _judged("properties", PROPERTIES),
    _judged("refusing bad input", ["refusal"]),
)


def of(case: Case) -> tuple[int, ...]:
    """Places in :data:`CAPABILITIES` of what a case asks for.

    Refusals and gradients stand under what judges them alone: a backend that has no gradients
    shall not look as if it lacked a part of each convolution.
    """
    alone = case.judge == "refusal" or case.judge in GRADIENTS
    return tuple(
        i
        for i, capability in enumerate(CAPABILITIES)
        if capability.asked(case) and (capability.group == "judged by" or not alone)
    )


def labels(case: Case) -> tuple[str, ...]:
    """The same in words."""
    return tuple(CAPABILITIES[i].label for i in of(case))


def share(claims: Iterable[tuple[Case, bool]]) -> float:
    """The part of the convolutions that is claimed.

    Refusals are asked of everybody and not counted, nor are gradients, which a backend may not
    have at all: see :func:`gradient_share`.
    """
    part = _part(claims, lambda judge: judge != "refusal" and judge not in GRADIENTS)
    return 1.0 if part is None else part


def gradient_share(claims: Iterable[tuple[Case, bool]]) -> float | None:
    """The part of the gradients that is claimed; None where no case asks for any."""
    return _part(claims, GRADIENTS.__contains__)


def _part(claims: Iterable[tuple[Case, bool]], counts: Callable[[str], bool]) -> float | None:
    counted = [claimed for case, claimed in claims if counts(case.judge)]
    return sum(counted) / len(counted) if counted else None
