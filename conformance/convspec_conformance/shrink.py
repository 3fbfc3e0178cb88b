"""The smallest case that still fails, and the lines of code that show it to anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from convspec import ConvSpec, ConvSpecError, dispatch, get_backend, reading, reference
from convspec.dtypes import HALF
from convspec.plan import Node
from convspec.toolkit import PlanBackend

from . import fillings
from .cases import Case
from .fillings import Array
from .judges import fair

#: Arguments of a spec with one entry for each spatial axis.
PER_AXIS = ("kernel_size", "stride", "padding", "dilation", "output_padding")
#: Arrays of up to so many elements stand in a snippet as they are.
LITERAL = 128


def shrink(case: Case, fails: Callable[[Case], bool], tries: int = 1000) -> Case:
    """The smallest case near ``case`` that still fails.

    Greedy: of the simpler cases, the most drastic first, the first that fails too is simplified
    further, until none does. The element type stays, since it decides which kernel runs.

    Args:
        case: one that fails.
        fails: whether a case fails in the same way, as by ``judge(case, target).status``.
        tries: how many cases to try at most.
    """
    tried = {case}
    while True:
        for simpler in _simpler(case):
            if simpler in tried or not fair(simpler):
                continue
            if len(tried) > tries:
                return case
            tried.add(simpler)
            if fails(simpler):
                case = simpler
                break
        else:
            return case


def _simpler(case: Case) -> Iterator[Case]:
    """Cases that are simpler in one way, legal or not; the most drastic ways first."""
    for change in (_axes, _plain, _orders, _channels, _amounts, _sizes, _numbers):
        yield from change(case)


def _changed(case: Case, **changes: Any) -> Iterator[Case]:
    """``case`` with another spec, or nothing where that is illegal."""
    try:
        yield replace(case, spec=case.spec.replace(**changes))
    except ConvSpecError:
        return


def _axes(case: Case) -> Iterator[Case]:
    """One spatial axis less, and no batch axis that could be one."""
    for i in range(case.spec.rank if case.spec.rank > 1 else 0):
        try:
            fewer = without_axis(case, i)
        except ConvSpecError:  # causal padding alone
            continue
        for seed in (case.seed, 0, 1):  # other numbers: a few of them may well be right by chance
            yield replace(fewer, seed=seed)


def without_axis(case: Case, i: int) -> Case:
    """``case`` without its i-th spatial axis, of several.

    Raises:
        ConvSpecError: what is left makes no sense.
    """
    spec, letter = case.spec, case.spec.spatial[i]
    fields = {name: getattr(spec, name) for name in type(spec).__dataclass_fields__}
    for name in PER_AXIS:
        fields[name] = _without(fields[name], i)
    for name in ("layout", "output_layout", "weight_layout"):
        fields[name] = fields[name].replace(letter, "")
    return replace(
        case,
        spec=ConvSpec(**fields),
        input_shape=_without(case.input_shape, spec.layout.index(letter)),
        output_size=case.output_size and _without(case.output_size, i),
    )


def _without(values: tuple[Any, ...], i: int) -> tuple[Any, ...]:
    return values[:i] + values[i + 1 :]


def _plain(case: Case) -> Iterator[Case]:
    """No frills: views, wide numbers and types, modes, flips, bias, transposition."""
    yield replace(case, view="plain")
    yield replace(case, out_dtype=None)
    yield replace(case, output_size=None)
    if case.filling not in ("small", "real"):
        yield replace(case, filling="small")
    spec = case.spec
    value: Any
    for name, value in (("padding_mode", "zeros"), ("flip_kernel", False), ("bias", False)):
        if getattr(spec, name) != value:
            yield from _changed(case, **{name: value})
    if spec.transposed:
        yield from _changed(case, transposed=False, output_padding=0)


def _orders(case: Case) -> Iterator[Case]:
    """Every axis where PyTorch has it, under its usual letter."""
    spec = case.spec
    if spec.output_layout != spec.layout:
        yield from _changed(case, output_layout=spec.layout)
    yield from _changed(case, weight_layout=None, group_axis=None)
    batch = "N" if "N" in spec.layout else ""
    layout = f"{batch}C{spec.spatial}"
    if spec.layout != layout:
        order = [spec.layout.index(letter) for letter in layout]
        shape = tuple(case.input_shape[i] for i in order)
        for changed in _changed(case, layout=layout):
            yield replace(changed, input_shape=shape)
    usual = str.maketrans(spec.spatial, "PQRSTDHW"[-spec.rank :])
    names = ("layout", "output_layout", "weight_layout")
    yield from _changed(case, **{name: getattr(spec, name).translate(usual) for name in names})


def _channels(case: Case) -> Iterator[Case]:
    """Fewer groups, and fewer channels in each of them."""
    spec, g = case.spec, case.spec.groups
    inputs, outputs = spec.in_channels // g, spec.out_channels // g
    tries = [(n, inputs, outputs) for n in _less(g, 1)]
    tries += [(g, n, outputs) for n in _less(inputs, 1)]
    tries += [(g, inputs, n) for n in _less(outputs, 1)]
    at = spec.layout.index("C")
    for groups, i, o in tries:
        shape = (*case.input_shape[:at], groups * i, *case.input_shape[at + 1 :])
        for changed in _changed(
            case, groups=groups, in_channels=groups * i, out_channels=groups * o
        ):
            yield replace(changed, input_shape=shape)


def _amounts(case: Case) -> Iterator[Case]:
    """Kernel, stride, dilation and padding nearer to nothing, on all axes or on one."""
    spec = case.spec
    least = {"kernel_size": 1, "stride": 1, "dilation": 1, "output_padding": 0}
    for name, value in least.items():
        if set(getattr(spec, name)) != {value}:
            yield from _changed(case, **{name: value})
    if set(spec.padding) != {(0, 0)}:
        yield from _changed(case, padding=0)
    for i in range(spec.rank):
        for name, value in least.items():
            amounts = getattr(spec, name)
            for n in _less(amounts[i], value):
                yield from _changed(case, **{name: (*amounts[:i], n, *amounts[i + 1 :])})
        for entry in _less_padding(spec.padding[i]):
            padding = (*spec.padding[:i], entry, *spec.padding[i + 1 :])
            yield from _changed(case, padding=padding)


def _sizes(case: Case) -> Iterator[Case]:
    """A smaller input, the batch included."""
    for axis, letter in enumerate(case.spec.layout):
        if letter != "C":
            for n in _less(case.input_shape[axis], 1):
                shape = (*case.input_shape[:axis], n, *case.input_shape[axis + 1 :])
                yield replace(case, input_shape=shape)
    sizes = case.output_size or ()
    for i, size in enumerate(sizes):
        for n in _less(size, 1):
            yield replace(case, output_size=(*sizes[:i], n, *sizes[i + 1 :]))


def _numbers(case: Case) -> Iterator[Case]:
    for seed in range(min(case.seed, 3)):
        yield replace(case, seed=seed)


def _less(n: int, least: int) -> list[int]:
    """Smaller numbers to try, the smallest first."""
    return sorted({m for m in (least, least + 1, n // 2, n - 1) if least <= m < n})


def _less_padding(entry: Any) -> list[Any]:
    if isinstance(entry, str):
        return [0]
    lo, hi = entry
    nearer = [(0, 0), (0, hi), (lo, 0), (_nearer(lo), hi), (lo, _nearer(hi))]
    return [pair for pair in dict.fromkeys(nearer) if pair != entry]


def _nearer(n: int) -> int:
    return n - 1 if n > 0 else n + 1 if n < 0 else 0


# ---- the lines of code ----


def snippet(case: Case, target: str) -> str:
    """Python source that computes a case and prints what came and what is expected.

    For a forward result on one of the backends that tell their calls (``numpy``, ``torch``,
    ``tensorflow``, ``jax``) it is written in the framework's own words, with the data in it where
    that is small; any other case runs on the target itself.

    Args:
        case: any case.
        target: what :func:`convspec_conformance.load` takes.
    """
    told = case.filling in ("small", "wide", "real") and case.view in (
        "plain",
        "reversed",
        "permuted",
    )
    if target in dispatch.entry_points() and case.judge in ("exact", "bounded") and told:
        engine = get_backend(target)
        if isinstance(engine, PlanBackend) and "literal" in engine.snippets:
            return _native_snippet(case, engine)
    return "\n".join(
        [
            "import convspec_conformance as conformance",
            "",
            f"case = conformance.parse({case.line!r})",
            f"target = conformance.load({target!r})",
            "print(conformance.judge(case, target, probe=True))",
            "",
        ]
    )


def _native_snippet(case: Case, engine: PlanBackend) -> str:
    spec = case.spec
    x, w, b = fillings.arrays(case)
    expected = reference(spec, x, w, b, output_size=case.output_size, out_dtype=case.out_dtype)
    given = {"x": x, "weight": w, "bias": b}
    literal = all(a is None or a.size <= LITERAL for a in (*given.values(), expected))

    def example(name: str, node: Node) -> str:
        array = given[name]
        assert array is not None  # the plan has a bias where the case has one
        return _array(engine, array, f"list_{name}", case.view, literal=literal)

    source = reading.code(
        spec,
        engine,
        case.input_shape,
        case.dtype,
        output_size=case.output_size,
        out_dtype=case.out_dtype,
        example=example,
    )
    if literal:
        preamble, right = [f"# {case.line}"], str(listed(expected))
    else:
        preamble, right = _recreated(case), "expected"
    return "\n".join(
        [*preamble, source + 'print("got     ", y)', f'print("expected", {right})', ""]
    )


def _recreated(case: Case) -> list[str]:
    """Lines that make the lists of numbers that are too long to be written down."""
    lists = ", ".join(["list_x", "list_weight", *["list_bias"][: case.spec.bias]])
    arrays = "arrays" if case.spec.bias else "arrays[:2]"
    return [
        "import convspec",
        "from convspec_conformance import fillings, parse",
        "from convspec_conformance.shrink import listed",
        "",
        f"case = parse({case.line!r})",
        "arrays = fillings.arrays(case)",
        f"{lists} = map(listed, {arrays})",
        "options = {'output_size': case.output_size, 'out_dtype': case.out_dtype}",
        "expected = convspec.reference(case.spec, *arrays, **options)",
        "",
    ]


def _array(engine: PlanBackend, array: Array, name: str, view: str, *, literal: bool) -> str:
    """Source of an array that lies in memory as the case says, where the framework has views."""
    words, dtype = engine.snippets, array.dtype.name
    axes = tuple(range(array.ndim))
    order = tuple(int(i) for i in np.argsort(-np.asarray(array.strides), kind="stable"))
    if name == "list_bias" or not literal or not array.size:
        text = words["literal"](str(listed(array)) if literal else name, dtype=dtype)
        return text if array.size else words["reshape"](text, shape=array.shape)
    if view == "reversed" and "flip" in engine.views:
        text = words["literal"](str(listed(np.flip(array))), dtype=dtype)
        return words["flip"](text, axes=axes)
    if view == "permuted" and "permute" in engine.views and order != axes:
        text = words["literal"](str(listed(array.transpose(order))), dtype=dtype)
        return words["permute"](text, axes=tuple(order.index(axis) for axis in axes))
    return words["literal"](str(listed(array)), dtype=dtype)


def listed(array: Array) -> Any:
    """The numbers as nested lists of Python's own, exactly."""
    wide = array.astype("float64") if array.dtype.name in HALF else array
    return wide.tolist()
