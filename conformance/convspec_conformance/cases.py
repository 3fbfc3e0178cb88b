"""One case: a convolution, its data, and how the answer is judged. A case is one line of text."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from convspec import ConvSpec, ConvSpecError

#: What a case can be judged by, in the order of trust: see :mod:`convspec_conformance.judges`.
JUDGES = (
    "exact",
    "bounded",
    "again",
    "threads",
    "linearity",
    "shift",
    "groups",
    "dilation",
    "stride",
    "layout",
    "adjoint",
    "batch",
    "gradient",
    "gradient2",
    "refusal",
)
#: The judges of gradients.
GRADIENTS = ("gradient", "gradient2")
#: Where numbers come from: see :mod:`convspec_conformance.fillings`.
FILLINGS = ("small", "wide", "real", "nonfinite", "tiny", "huge")
#: How an array lies in memory: row-major, reversed along all axes or along one, with its axes
#: permuted, or as every second column of a larger one.
VIEWS = ("plain", "reversed", "flipped", "permuted", "sliced")
#: Calls that have to be refused: see :mod:`convspec_conformance.refusals`.
WRONGS = (
    "axes",
    "leading_axis",
    "missing_axis",
    "channels",
    "one_channel",
    "no_channels",
    "weight_axes",
    "weight_order",
    "weight_taps",
    "weight_single",
    "bias_length",
    "bias_single",
    "bias_axes",
    "bias_unwanted",
    "weight_dtype",
    "bias_dtype",
    "empty_axis",
    "kernel_too_large",
    "dilation_too_large",
    "padding_reach",
    "circular_reach",
    "named_reach",
    "overcropped",
    "output_size",
    "output_size_near",
    "output_size_twice",
    "output_size_axes",
    "output_size_float",
    "bool_array",
    "lossy_out_dtype",
    "integer_out_dtype",
)


@dataclass(frozen=True)
class Case:
    """What one test computes.

    Attributes:
        judge: one of :data:`JUDGES`.
        spec: the convolution; ``spec.bias`` says whether the call has a bias.
        input_shape: in ``spec.layout``.
        output_size: transposed only, or None.
        dtype: of the arrays.
        out_dtype: of the result, or None for ``dtype``.
        filling: one of :data:`FILLINGS`.
        view: one of :data:`VIEWS`.
        wrong: what is wrong with the call, judge ``refusal`` only: one of :data:`WRONGS`.
        seed: of the numbers.
    """

    judge: str
    spec: ConvSpec
    input_shape: tuple[int, ...]
    output_size: tuple[int, ...] | None = None
    dtype: str = "float32"
    out_dtype: str | None = None
    filling: str = "small"
    view: str = "plain"
    wrong: str = ""
    seed: int = 0

    @property
    def line(self) -> str:
        """The case as one line, which :func:`parse` reads back."""
        parts = [self.judge, self.dtype, "x".join(map(str, self.input_shape)), f"seed={self.seed}"]
        if self.output_size is not None:
            parts.append("size=" + "x".join(map(str, self.output_size)))
        if self.out_dtype is not None:
            parts.append(f"out={self.out_dtype}")
        if self.filling != "small":
            parts.append(f"filling={self.filling}")
        if self.view != "plain":
            parts.append(f"view={self.view}")
        if self.wrong:
            parts.append(f"wrong={self.wrong}")
        return f"{' '.join(parts)} | {self.spec!r}"


def parse(line: str) -> Case:
    """The case that ``line`` describes.

    Raises:
        ConvSpecError: the line is malformed; the message says where.
    """
    head, bar, text = line.partition("|")
    words = head.split()
    if not bar or len(words) < 4 or words[0] not in JUDGES:
        raise ConvSpecError(
            f"case: {line!r} should be like\n"
            f"  exact float32 2x3x8x8 seed=1 | ConvSpec(3, 4, (3, 3))"
        )
    options = dict(word.partition("=")[::2] for word in words[3:])
    unknown = set(options) - {"seed", "size", "out", "filling", "view", "wrong"}
    if unknown:
        raise ConvSpecError(f"case: unknown options {', '.join(sorted(unknown))} in {line!r}.")
    for name, choices in (("filling", FILLINGS), ("view", VIEWS), ("wrong", ("", *WRONGS))):
        if options.get(name, choices[0]) not in choices:
            raise ConvSpecError(f"case: {name} {options[name]!r} is none of {', '.join(choices)}.")
    return Case(
        judge=words[0],
        spec=_spec(text.strip()),
        input_shape=_sizes(words[2]),
        output_size=_sizes(options["size"]) if "size" in options else None,
        dtype=words[1],
        out_dtype=options.get("out"),
        filling=options.get("filling", "small"),
        view=options.get("view", "plain"),
        wrong=options.get("wrong", ""),
        seed=_number(options.get("seed", "0")),
    )


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_number(size) for size in text.split("x"))


def _number(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise ConvSpecError(f"case: {text!r} should be a number.")
    return int(text)


def _spec(text: str) -> ConvSpec:
    """The spec of a ``ConvSpec(...)`` call, read as literals: nothing is evaluated."""
    try:
        call = ast.parse(text, mode="eval").body
        if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "ConvSpec"):
            raise ValueError("not a ConvSpec(...)")
        arguments = [ast.literal_eval(argument) for argument in call.args]
        options = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        return ConvSpec(*arguments, **options)
    except ConvSpecError:
        raise
    except (SyntaxError, ValueError, TypeError) as error:
        raise ConvSpecError(f"case: {text!r} should be a ConvSpec(...) call: {error}.") from error
