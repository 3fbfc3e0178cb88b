"""What a spec will do, told beforehand: support, explanation, differences. Nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import dispatch
from .backend import Backend, Environment, Support
from .dtypes import name_of
from .errors import ConvSpecError, LayoutError, UnsupportedError
from .layouts import sized
from .plan import Call, Node, linear
from .problem import Problem, resolve, smallest_shape
from .toolkit import PlanBackend

if TYPE_CHECKING:
    from .spec import ConvSpec


def supports(
    spec: ConvSpec,
    backend: str | Backend,
    input_shape: Sequence[int] | None,
    dtype: Any,
    output_size: Any,
) -> Support:
    """See :meth:`ConvSpec.supports`."""
    engine = dispatch.chosen(backend)
    shape = smallest_shape(spec) if input_shape is None else input_shape
    try:
        problem = resolve(spec, shape, output_size)
        env = environment(dtype)
    except ConvSpecError as error:
        return Support(False, "none", str(error))
    return engine.supports(problem, env)


def environment(dtype: Any, *, bias: bool = False) -> Environment:
    """The environment of a call on arrays of ``dtype`` (default float32) on the CPU."""
    name = "float32" if dtype is None else name_of(dtype)
    return Environment(dtype=name, out_dtype=name, bias=bias)


def explain(spec: ConvSpec, input_shape: Sequence[int], backend: str | Backend, dtype: Any) -> str:
    """See :meth:`ConvSpec.explain`."""
    engine = dispatch.chosen(backend)
    problem = resolve(spec, input_shape, None)
    env = environment(dtype, bias=spec.bias)
    lines = [
        repr(spec),
        f"  input   {spec.layout}: {sized(spec.layout, problem.input_shape)} ({env.dtype})",
        f"  weight  {spec.weight_layout}: {sized(spec.weight_layout, problem.weight_shape)}",
        f"  output  {spec.output_layout}: {sized(spec.output_layout, problem.output_shape)}",
        *_axes(spec, problem),
    ]
    support = engine.supports(problem, env)
    if not support:
        return "\n".join([*lines, f"{engine.name}: not supported", *_indent(support.reason)])
    lines.append(f"{engine.name}: {support.path} path")
    if support.reason:
        lines += _indent(support.reason.replace("; ", "\n"))
    if isinstance(engine, PlanBackend):
        lines += _steps(engine, problem, env)
        for title, notes in (
            ("repeated", engine.repetition_notes(problem, env)),
            ("with gradients", engine.gradient_notes(problem, env)),
        ):
            lines += [title, *_indent("\n".join(notes))] if notes else []
    return "\n".join(lines)


def _indent(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _axes(spec: ConvSpec, problem: Problem) -> list[str]:
    """One line per spatial axis: sizes and the amounts that names stand for."""
    lines = []
    for i, letter in enumerate(spec.spatial):
        entry, (lo, hi) = spec.padding[i], problem.padding[i]
        what = "crop" if spec.transposed else "pad"
        text = (
            f"  axis {letter}  {problem.input_size[i]} -> {problem.output_size[i]}: kernel "
            f"{spec.kernel_size[i]} spans {spec.receptive_field[i]}, stride {spec.stride[i]}, "
            f"{what} ({lo}, {hi})"
        )
        if isinstance(entry, str):
            text += f" from {entry!r}"
        if problem.output_padding[i]:
            text += f", output_padding {problem.output_padding[i]}"
        if spec.padding_mode != "zeros":
            text += f", {spec.padding_mode}"
        lines.append(text)
    return lines


def _steps(engine: PlanBackend, problem: Problem, env: Environment) -> list[str]:
    """The operations of the plan, one a line, runs of the same kind counted."""
    lowered = engine.plan(problem, env)
    names = {i: node.params["name"] for i, node in enumerate(lowered.inputs)}
    told: list[str] = []
    for line in linear(lowered.plan, lowered.inputs):
        node = line.node
        if node.op == "part":
            names[line.target] = names[line.args[0]]
            continue  # told by what it is a part of
        about = names[line.target] = names[line.args[0]] if node.op != "conv" else "y"
        text = f"  {about}: {node.op}"
        if node.op == "conv":
            text = f"  {native(engine, node.params['call'])}"
        elif node.op == "permute":
            kind = "view" if "permute" in engine.views else "copy"
            text += f" {node.params['axes']} ({kind})"
        elif node.op == "reshape":
            text += f" to {node.params['shape']}"
        elif node.op == "pad":
            text += f" {node.params['mode']} by {node.params['pairs']}"
        elif node.op == "split":
            text += f" into {node.params['count']}"
        elif node.op == "cast":
            text += f" to {node.params['dtype']}"
        told.append(text)
    counted: list[str] = []
    for text in dict.fromkeys(told):
        times = told.count(text)
        counted.append(text if times == 1 else f"{text}  x {times}")
    return counted


def native(engine: PlanBackend, call: Call) -> str:
    """The source of one kernel call, with the arguments' plain names."""
    arguments = ("x", "weight", "bias") if call.bias else ("x", "weight")
    return engine.snippets["conv"](*arguments, call=call)


def code(
    spec: ConvSpec,
    backend: str | Backend,
    input_shape: Sequence[int] | None,
    dtype: Any,
    *,
    output_size: Any = None,
    out_dtype: Any = None,
    example: Callable[[str, Node], str] | None = None,
) -> str:
    """See :meth:`ConvSpec.code`.

    ``output_size`` and ``out_dtype`` are those of the call; ``example`` gives the source of an
    input by its name and node, in place of :meth:`PlanBackend.example`.
    """
    engine = dispatch.chosen(backend)
    if not isinstance(engine, PlanBackend):
        raise UnsupportedError(f"backend: {engine.name} does not tell its calls as source code.")
    shape = smallest_shape(spec) if input_shape is None else input_shape
    problem = resolve(spec, shape, output_size)
    env = environment(dtype, bias=spec.bias)
    if out_dtype is not None:
        env = replace(env, out_dtype=name_of(out_dtype, "out_dtype"))
    lowered = engine.plan(problem, env)
    example = example or engine.example
    letters = {"x": spec.layout, "weight": spec.weight_layout, "bias": "O"}
    source = [engine.prologue(lowered), ""]
    names: list[str] = []
    for node in lowered.inputs:
        names.append(node.params["name"])
        source.append(f"{names[-1]} = {example(names[-1], node)}  # {letters[names[-1]]}")
    source.append("")
    steps = linear(lowered.plan, lowered.inputs)
    live = set(range(len(names)))
    for line in steps:
        words = engine.snippets[line.node.op]
        expression = words(*(names[i] for i in line.args), **line.node.params)
        live -= set(line.done)
        result = line is steps[-1] or line.node.op in ("conv", "multiply", "add")
        stem = "y" if result else names[line.args[0]]
        names.append(_free_name(stem.rstrip("0123456789"), {names[i] for i in live}))
        live.add(line.target)
        source.append(f"{names[-1]} = {expression}")
    source.append(f"# y: {spec.output_layout}, shape {problem.output_shape}")
    return "\n".join(source) + "\n"


def _free_name(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}{number}"
    return name


def differences(
    spec: ConvSpec, other: ConvSpec, input_shape: Sequence[int] | None = None
) -> list[str]:
    """See :meth:`ConvSpec.diff`."""
    found = []
    if spec.transposed != other.transposed:
        found.append(f"{_direction(spec)} became {_direction(other)}")
    for name in ("in_channels", "out_channels", "groups", "padding_mode"):
        found += _change(name, getattr(spec, name), getattr(other, name))
    if spec.bias != other.bias:
        found.append("bias added" if other.bias else "bias dropped")
    if spec.flip_kernel != other.flip_kernel:
        found.append("kernel flipped")
    if spec.group_axis != other.group_axis:
        found.append(f"groups on {other.group_axis} instead of {spec.group_axis}")
    partners = other.spatial  # of our axes; those of other letters are compared in their order
    if set(spec.spatial) != set(other.spatial):
        found.append(f"spatial axes: {spec.spatial} became {other.spatial}")
        if spec.rank != other.rank:
            return found
    else:
        partners = spec.spatial
    sizes = None
    if input_shape is not None:
        if len(input_shape) != len(spec.layout):
            raise LayoutError(
                f"input_shape: {tuple(input_shape)} should have one size for each letter of layout "
                f"{spec.layout!r}."
            )
        sizes = dict(zip(spec.layout, input_shape, strict=True))
    ours, theirs = _amounts(spec, sizes), _amounts(other, sizes)
    for i, (letter, partner) in enumerate(zip(spec.spatial, partners, strict=True)):
        j = other.spatial.index(partner)
        for name in ("kernel_size", "stride", "dilation", "output_padding"):
            found += _change(f"{name} on {letter}", getattr(spec, name)[i], getattr(other, name)[j])
        found += _padding_difference(letter, ours[letter], theirs[partner])
    for name in ("layout", "output_layout", "weight_layout"):
        found += _change(name, getattr(spec, name), getattr(other, name))
    return found


def _change(what: str, ours: Any, theirs: Any) -> list[str]:
    return [] if ours == theirs else [f"{what}: {ours} became {theirs}"]


def _direction(spec: ConvSpec) -> str:
    return "transposed" if spec.transposed else "forward"


def _amounts(spec: ConvSpec, sizes: dict[str, int] | None) -> dict[str, tuple[Any, Any]]:
    """For each spatial letter the padding, and the size of the output if those of the input are
    known: named padding is then what it stands for."""
    if sizes is None:
        return {c: (entry, None) for c, entry in zip(spec.spatial, spec.padding, strict=True)}
    known = {**sizes, "C": spec.in_channels, "N": sizes.get("N", 1)}
    problem = resolve(spec, [known[letter] for letter in spec.layout], None)
    amounts = zip(problem.padding, problem.output_size, strict=True)
    return dict(zip(spec.spatial, amounts, strict=True))


def _padding_difference(letter: str, ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> list[str]:
    """A shift, where as many output positions see the input from another place."""
    (a, size), (b, other_size) = ours, theirs
    if a == b:
        return []
    if not isinstance(a, str) and not isinstance(b, str) and a[0] != b[0]:
        moved = abs(b[0] - a[0])
        if sum(a) == sum(b) or (size is not None and size == other_size):
            by = "one pixel" if moved == 1 else f"{moved} pixels"
            return [f"{letter} shifted by {by}: padding {a} became {b}"]
    return [f"padding on {letter}: {a} became {b}"]
