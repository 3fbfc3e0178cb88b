"""Random convolutions: whatever DESIGN section 3 allows, crossed at random.

``rng`` is a ``numpy.random.Generator``; the same seed gives the same cases on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeVar

import numpy as np

from convspec import ConvSpec, ConvSpecError
from convspec.dtypes import ALL, COMPLEX, FLOAT, HALF, INTEGER

from .cases import Case

Rng = np.random.Generator
T = TypeVar("T")

#: Spatial letters by default; the last r of them for rank r.
STANDARD = "PQRSTDHW"
#: Letters for axes that no framework has a name for.
CUSTOM = "ABDEFGHKTVZ"
#: Most are 2 and 3, since that is where kernels differ most.
RANKS = (1, 2, 2, 3, 3)
PADDING_MODES = ("reflect", "replicate", "circular")
#: Channels of a group, and sizes of an axis, that reach past the vectors and blocks of kernels.
MANY = (16, 17, 32, 33, 64)
LONG = (33, 64, 65, 130, 257, 515)
#: Samples and steps that seldom occur, and are more than kernels are unrolled by.
CROWD = (5, 8, 17, 33, 66)
FAR = (4, 5, 8, 9)
#: Taps of an axis that seldom occur: past an unrolled loop, even and odd.
WIDE = (5, 6, 7)
#: Multiplications and additions of a case: a long axis, many channels and a wide kernel together
#: would take an honest backend longer than a case may. So would many large strides transposed, on a
#: backend that computes zeros between the input's elements, as XLA does.
MOST_OPERATIONS = 2**26
#: float32 is what convolutions are mostly made in, then half types; the rest have equal shares.
DTYPES = ("float32",) * 5 + HALF + ALL


def random_case(rng: Rng, ranks: Sequence[int] = RANKS) -> Case:
    """A legal case of one of these ranks."""
    while True:
        try:
            case = _any_case(rng, ranks)
        except ConvSpecError:  # a kernel larger than its input, a reflection beyond it: again
            continue
        if operations(case) <= MOST_OPERATIONS:
            return case


def operations(case: Case) -> int:
    """Those of a dense kernel: 2*k*I for each output element, transposed or not.

    Groups are not counted: XLA multiplies with zeros for the channels of the others, where its
    type has no other kernel.
    """
    spec = case.spec
    outputs = prod(spec.output_shape(case.input_shape, case.output_size))
    return 2 * prod(spec.kernel_size) * spec.in_channels * outputs


# ---- one draw, legal or not ----


def _any_case(rng: Rng, ranks: Sequence[int]) -> Case:
    spec = _any_spec(rng, ranks)
    most = {1: 9, 2: 8, 3: 5}.get(spec.rank, 3)
    sizes = {letter: int(rng.integers(1, most + 1)) for letter in spec.spatial}
    if rng.random() < 0.08:
        sizes[pick(rng, spec.spatial)] = pick(rng, LONG)
    batch = pick(rng, CROWD if rng.random() < 0.06 else (1, 1, 1, 2, 2, 2, 3, 3, 0))
    sizes.update(N=batch, C=spec.in_channels)
    shape = tuple(sizes[letter] for letter in spec.layout)
    dtype = pick(rng, DTYPES)
    out_dtype = pick(rng, _wider(dtype)) if rng.random() < 0.2 else None
    output_size = None
    if spec.transposed and not any(spec.output_padding) and rng.random() < 0.4:
        output_size = _any_output_size(rng, spec, shape)
    spec.output_shape(shape, output_size)
    return Case("exact", spec, shape, output_size, dtype, out_dtype)


def _any_spec(rng: Rng, ranks: Sequence[int]) -> ConvSpec:
    rank = pick(rng, ranks)
    letters = STANDARD[-rank:]
    if rng.random() < 0.1:
        letters = _shuffled(rng, CUSTOM)[:rank]
    transposed = bool(rng.random() < 0.4)
    cin, cout, groups, depthwise = _any_channels(rng)
    layout = _any_layout(rng, letters)
    spatial = "".join(letter for letter in layout if letter not in "NC")
    weight_layout = None if rng.random() < 0.3 else _shuffled(rng, "OI" + letters)
    group_axis = pick(rng, (None, "O", "I"))
    if weight_layout and depthwise and not transposed and rng.random() < 0.7:
        weight_layout, group_axis = weight_layout.replace("O", "M"), None
    kernel = _any_kernel(rng, rank)
    stride = _per_axis(rng, rank, FAR if rng.random() < 0.04 else (1, 1, 2, 3))
    if rng.random() < 0.06:
        stride = kernel  # windows that neither overlap nor leave anything out
    dilation = _per_axis(rng, rank, FAR[:2] if rng.random() < 0.04 else (1, 1, 2, 3))
    padding = _any_padding(rng, rank, transposed)
    extra: Any = 0
    if transposed and rng.random() < 0.5:
        named = [entry in ("same", "same_lower") for entry in _each(padding, rank)]
        extra = tuple(
            0 if fixed else int(rng.integers(0, max(s, d)))
            for fixed, s, d in zip(named, stride, dilation, strict=True)
        )
    return ConvSpec(
        cin,
        cout,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bool(rng.random() < 0.5),
        "zeros" if transposed or rng.random() < 0.4 else pick(rng, PADDING_MODES),
        transposed=transposed,
        output_padding=extra,
        layout=layout,
        output_layout=layout if rng.random() < 0.6 else _any_order(rng, layout, spatial),
        weight_layout=weight_layout,
        flip_kernel=bool(rng.random() < 0.2),
        group_axis=group_axis,
    )


def _any_kernel(rng: Rng, rank: int) -> tuple[int, ...]:
    kind = rng.random()
    if kind < 0.05:
        return (1,) * rank
    if kind < 0.11:
        return _per_axis(rng, rank, (1, *WIDE))
    return _per_axis(rng, rank, (1, 2, 3, 3, 4) if rank < 3 else (1, 2, 3))


def _any_channels(rng: Rng) -> tuple[int, int, int, bool]:
    """in_channels, out_channels, groups, and whether that is depthwise."""
    few = (1, 2, 3)
    if rng.random() < 0.2:
        groups = pick(rng, (1, 2, 3, 5) if rng.random() < 0.8 else MANY)
        return groups, groups * pick(rng, (1, 1, 2, 2, 3, 4)), groups, True
    groups = pick(rng, (1, 1, 1, 2, 3))
    inputs, outputs = (pick(rng, few if rng.random() < 0.8 else MANY) for _ in "IO")
    return groups * inputs, groups * outputs, groups, False


def _any_layout(rng: Rng, letters: str) -> str:
    batch = "N" if rng.random() < 0.85 else ""
    if rng.random() < 0.3:
        letters = _shuffled(rng, letters)
    return pick(
        rng, (f"{batch}C{letters}", f"{batch}{letters}C", _shuffled(rng, f"{batch}C{letters}"))
    )


def _any_order(rng: Rng, layout: str, spatial: str) -> str:
    """An output layout: the other framework's order, or any."""
    batch = "N" if "N" in layout else ""
    return pick(rng, (f"{batch}C{spatial}", f"{batch}{spatial}C", _shuffled(rng, layout)))


def _any_padding(rng: Rng, rank: int, transposed: bool) -> Any:
    words = ["same", "same_lower", "valid"]
    if rng.random() < 0.15:
        return pick(rng, [*words, 0, 1, 2])

    def entry() -> Any:
        kind = rng.random()
        if kind < 0.3:
            return int(rng.integers(0, 4))
        if kind < 0.65:
            return (int(rng.integers(-2, 5)), int(rng.integers(-2, 5)))
        return pick(rng, words if transposed else [*words, "causal"])

    return tuple(entry() for _ in range(rank))


def _any_output_size(rng: Rng, spec: ConvSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Any of the sizes that the forward convolution maps onto the input's."""
    plain = dict(zip(spec.output_layout, spec.output_shape(shape), strict=True))
    sizes = []
    for letter, s, entry in zip(spec.spatial, spec.stride, spec.padding, strict=True):
        # A named padding's own size is the largest of them, an explicit one's the smallest.
        least = plain[letter] - s + 1 if isinstance(entry, str) else plain[letter]
        sizes.append(least + int(rng.integers(0, s)))
    return tuple(sizes)


def _wider(dtype: str) -> tuple[str, ...]:
    """Result types that lose no part: integers, then floats, then complex numbers."""
    if dtype in COMPLEX:
        return COMPLEX
    rest = HALF + FLOAT + COMPLEX
    return INTEGER + rest if dtype in INTEGER else rest


def _each(padding: Any, rank: int) -> tuple[Any, ...]:
    return padding if isinstance(padding, tuple) else (padding,) * rank


def _per_axis(rng: Rng, rank: int, choices: Sequence[int]) -> tuple[int, ...]:
    return tuple(pick(rng, choices) for _ in range(rank))


def pick(rng: Rng, choices: Sequence[T]) -> T:
    """One of ``choices``, as it is: ``rng.choice`` would make NumPy scalars of them."""
    return choices[int(rng.integers(len(choices)))]


def _shuffled(rng: Rng, letters: str) -> str:
    return "".join(letters[i] for i in rng.permutation(len(letters)))
