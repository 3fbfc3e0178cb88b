"""torch: what compilers record of a call that has ways of its own, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo import compiled_autograd
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from convspec import ConvSpec
from convspec_torch import _depthwise, _operators
from test_torch_ways import CASES, KINDS, MEMORY, arrays, laid, plain, watched

OPERATOR = "convspec.convolution.default"
#: What Inductor would copy into another order before it computes gradients.
COPIED = {
    "3x3": ConvSpec(64, 64, (3, 3), padding=1, groups=64),
    "strided": ConvSpec(64, 64, (3, 3), stride=2, padding=1, groups=64),
    "twice as many": ConvSpec(32, 64, (3, 3), padding=1, groups=32),
    "transposed": ConvSpec(
        64, 64, (4, 4), stride=3, padding=1, groups=64, transposed=True, output_padding=2
    ),
    "planes": ConvSpec(32, 32, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), groups=32),
}


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


def recorded(
    function: Callable[..., Any], *given: Any, dynamic: bool | None = None
) -> tuple[Any, list[str]]:
    """What a compiled function gives, and the operators of its graph."""
    names: list[str] = []

    def keep(module: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        for part in module.modules():  # a checkpoint's body is a module of its own
            if isinstance(part, torch.fx.GraphModule):
                names.extend(str(node.target) for node in part.graph.nodes)
        return module.forward

    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend=keep)
    return compiled(*given), names


def of_spec(spec: ConvSpec, memory: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    space = (60, 61) if len(spec.kernel_size) == 2 else (12, 60, 31)
    x_shape = (4, spec.in_channels, *space)
    sizes = x_shape, spec.weight_shape, spec.bias_shape, spec.output_shape(x_shape)
    given = [torch.randint(-3, 4, size).float() for size in sizes]
    if memory == "last":
        given[0], given[3] = _depthwise.last(given[0]), _depthwise.last(given[3])
    return given[:3], given[3]


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers_and_gradients(name: str) -> None:
    compiled = torch.compile(lambda spec, *a: spec(*a), fullgraph=True, backend="aot_eager")
    spec, given, g = arrays(name, MEMORY[len(name) % 2])
    leaves = watched(given)
    y = spec(*leaves)
    wanted = torch.autograd.grad(y, leaves, g)
    whole, no_x, no_weight = leaves, [given[0], *leaves[1:]], [leaves[0], *given[1:]]
    for some in (whole, no_x, no_weight) if name in KINDS else (whole,):
        found = compiled(spec, *some)
        assert torch.equal(found, y)
        own = [leaf for leaf in some if leaf.requires_grad]
        gradients = iter(torch.autograd.grad(found, own, g))
        for leaf, want in zip(some, wanted, strict=True):
            assert not leaf.requires_grad or torch.equal(next(gradients), want)
    with torch.no_grad():
        assert torch.equal(compiled(spec, *given), y)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", COPIED)
def test_depthwise_gradients_are_computed_as_data_lie(name: str, memory: str) -> None:
    spec = COPIED[name]
    given, g = of_spec(spec, memory)
    leaves = watched(given)
    y, names = recorded(lambda *a: spec(*a), *leaves)
    assert OPERATOR in names
    assert torch.equal(y, spec(*given))
    exact = watched([array.double() for array in given])
    wanted = torch.autograd.grad(spec(*exact), exact, g.double())
    torch._dynamo.reset()
    generated = torch.compile(lambda *a: spec(*a), fullgraph=True)(*leaves)
    for result in (y, generated):
        for one, want in zip(torch.autograd.grad(result, leaves, g), wanted, strict=True):
            assert torch.equal(one.double(), want)


def test_nothing_but_the_kernel_without_gradients() -> None:
    spec = COPIED["3x3"]
    given, _ = of_spec(spec, "rows")
    _, names = recorded(lambda *a: spec(*a), *given)
    assert OPERATOR not in names
    with torch.no_grad():
        _, names = recorded(lambda *a: spec(*a), *watched(given))
    assert OPERATOR not in names
    small = given[0][:, :, :8, :8]
    _, names = recorded(lambda *a: spec(*a), *watched([small, *given[1:]]))
    assert OPERATOR not in names


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", KINDS)
def test_the_operators_themselves(name: str, memory: str) -> None:
    spec, given, g = arrays(name, memory)
    numbers = (
        [*spec.stride],
        [lo for lo, _ in spec.padding],
        [*spec.dilation],
        False,
        [0] * len(spec.kernel_size),
        spec.groups,
    )
    torch.library.opcheck(_operators.convolution, (*watched(given), *numbers))
    torch.library.opcheck(
        _operators.convolution_backward,
        (g, *given[:2], [True] * 3, *numbers),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )


@pytest.mark.parametrize("name", KINDS)
def test_second_derivatives(name: str) -> None:
    spec, given, g = arrays(name, "rows")
    given = [torch.sign(array) for array in given]  # sums stay below 2**24
    g = torch.sign(g) * (torch.arange(g.numel()).reshape(g.shape) % 97 == 0)

    def second(call: Callable[..., Any], given: list[torch.Tensor], g: torch.Tensor) -> Any:
        leaves = watched(given)
        first = torch.autograd.grad(call(*leaves), leaves[:2], g, create_graph=True)
        return torch.autograd.grad(sum((f * f).sum() for f in first), leaves[:2])

    compiled = torch.compile(lambda *a: spec(*a), fullgraph=True, backend="eager")
    exact = second(lambda *a: plain(spec, [*a]), [a.double() for a in given], g.double())
    for one, want in zip(second(compiled, given, g), exact, strict=True):
        assert torch.equal(one.double(), want)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_gradients_in_batches(backend: str) -> None:
    spec, given, g = arrays("depthwise", "rows")
    leaves = watched(given)
    y = torch.compile(lambda *a: spec(*a), fullgraph=True, backend=backend)(*leaves)
    several = torch.stack([g, g.flip(-1)])
    found = torch.autograd.grad(y, leaves, several, is_grads_batched=True)
    for i in range(2):
        again = torch.autograd.grad(spec(*leaves), leaves, several[i])
        for one, want in zip(found, again, strict=True):
            assert torch.equal(one[i], want)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_backward_pass_that_is_compiled(backend: str) -> None:
    spec, given, g = arrays("depthwise", "rows")
    leaves = watched(given)
    wanted = torch.autograd.grad(spec(*leaves), leaves, g)
    y = torch.compile(lambda *a: spec(*a), fullgraph=True, backend=backend)(*leaves)
    with compiled_autograd._enable(torch.compile(backend="eager", fullgraph=True)):
        y.backward(g)
    for leaf, want in zip(leaves, wanted, strict=True):
        assert torch.equal(leaf.grad, want)


@pytest.mark.parametrize("name", ["to two", "transposed to one"])
def test_forward_mode_gradients(name: str) -> None:
    """What was compiled outside of a dual level is compiled anew within one."""
    spec, given, _ = arrays(name, "rows")
    compiled = torch.compile(lambda *a: spec(*a), fullgraph=True, backend="aot_eager")
    y = compiled(*given)
    with forward_ad.dual_level():
        dual = compiled(forward_ad.make_dual(given[0], given[0]), *given[1:])
        tangent = forward_ad.unpack_dual(dual).tangent
    assert torch.equal(tangent, y - given[2].reshape(-1, 1, 1))


@pytest.mark.parametrize("name", KINDS)
def test_transforms_record_the_kernel(name: str) -> None:
    spec, given, g = arrays(name, "rows")

    def gradients(*given: Any) -> Any:
        return torch.func.grad(lambda *a: (spec(*a) * g).sum(), (0, 1, 2))(*given)

    found, names = recorded(gradients, *given)
    assert OPERATOR not in names
    leaves = watched(given)
    for one, want in zip(
        found, torch.autograd.grad((spec(*leaves) * g).sum(), leaves), strict=True
    ):
        assert torch.equal(one, want)
    several = torch.stack([given[0], given[0].flip(0)])
    y, names = recorded(torch.vmap(lambda x: spec(x, *given[1:])), several)
    assert OPERATOR not in names
    assert torch.equal(y[1], spec(several[1], *given[1:]))
    _, tangent = torch.compile(
        lambda x: torch.func.jvp(lambda x: spec(x, *given[1:]), (x,), (x,)), backend="eager"
    )(given[0])
    assert torch.equal(tangent, spec(*given[:2]))


@pytest.mark.parametrize("name", [*KINDS, "large depthwise"])
def test_exported_programs_are_of_atens_calls(name: str) -> None:
    spec, given, _ = arrays(name, "rows")

    class Layer(torch.nn.Module):
        def forward(self, *given: Any) -> Any:
            return spec(*given)

    program = torch.export.export(Layer(), tuple(given))
    assert "convspec" not in str(program.graph)


@pytest.mark.parametrize("name", ["depthwise", "dilated depthwise", "from two"])
def test_checkpoints_and_autocast(name: str) -> None:
    spec, given, g = arrays(name, "rows")
    g = g + 2.0**-10  # bfloat16 has not so many bits
    leaves = watched(given)
    wanted = torch.autograd.grad(spec(*leaves), leaves, g)

    def twice(*given: Any) -> Any:
        return checkpoint(lambda *a: spec(*a), *given, use_reentrant=False)

    y = torch.compile(twice, fullgraph=True, backend="aot_eager")(*leaves)
    with torch.autocast("cpu"):  # around the backward pass alone
        found = torch.autograd.grad(y, leaves, g)
    for one, want in zip(found, wanted, strict=True):
        assert torch.equal(one, want)

    def automatic(*given: Any) -> Any:
        with torch.autocast("cpu"):
            return spec(*given)

    y, names = recorded(automatic, *leaves)
    assert OPERATOR not in names
    assert y.dtype == torch.bfloat16


#: Programs for any number of samples and any size: what is padded beforehand, too.
ANY_SIZE = {
    **{name: CASES[name][0] for name in KINDS if name != "depthwise volume"},
    **COPIED,
    "wide": ConvSpec(32, 32, (3, 17), padding=(1, 8), groups=32),
    "wide, dilated": ConvSpec(32, 32, (3, 9), padding=(1, 8), dilation=(1, 2), groups=32),
}


def of_any_size(
    spec: ConvSpec, memory: str, mark: Callable[..., None], axes: int, backend: str = "aot_eager"
) -> list[str]:
    """Check one program, of some first axes marked, at three sizes; the operators of its graph."""
    names: list[str] = []
    compilations = []

    def keep(module: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        compilations.append(module)
        names.extend(str(node.target) for node in module.graph.nodes)
        return torch._dynamo.lookup_backend(backend)(module, inputs)

    compiled = torch.compile(lambda *a: spec(*a), fullgraph=True, backend=keep)
    for batch, *more in ((4, 0, 0, 0), (2, 13, 5, 2), (5, 3, 0, 6))[: 3 if axes > 1 else 2]:
        space = [n + m * (axes > 1) for n, m in zip((20, 34, 36), more, strict=True)]
        x_shape = (batch, spec.in_channels, *space[-len(spec.kernel_size) :])
        sizes = x_shape, spec.weight_shape, spec.bias_shape, spec.output_shape(x_shape)
        x, w, b, g = (torch.randint(-3, 4, size).float() for size in sizes)
        given = [laid(x, memory), w, b]
        leaves, exact = watched(given), watched([array.double() for array in given])
        for axis in [0, *range(2, x.dim())][:axes]:
            mark(leaves[0], axis)
        y, wanted = compiled(*leaves), spec(*exact)
        assert torch.equal(y.double(), wanted)
        found = torch.autograd.grad(y, leaves, laid(g, memory))
        for one, want in zip(found, torch.autograd.grad(wanted, exact, g.double()), strict=True):
            assert torch.equal(one.double(), want)
    assert len(compilations) == 1
    return names


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", ANY_SIZE)
def test_one_program_for_any_size(name: str, memory: str) -> None:
    assert OPERATOR in of_any_size(ANY_SIZE[name], memory, torch._dynamo.mark_dynamic, 4)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", ["3x3", "wide", "wide, dilated"])
def test_one_program_for_batches_that_not_even_the_compiler_knows(name: str, memory: str) -> None:
    mark = torch._dynamo.decorators.mark_unbacked
    assert OPERATOR in of_any_size(ANY_SIZE[name], memory, mark, 1)


@pytest.mark.parametrize("name", ["3x3", "wide"])
def test_generated_code_for_any_size(name: str) -> None:
    mark = torch._dynamo.mark_dynamic
    assert OPERATOR in of_any_size(ANY_SIZE[name], "last", mark, 4, "inductor")


def test_any_size_without_gradients_is_atens() -> None:
    spec, given, _ = arrays("depthwise", "rows")
    _, names = recorded(lambda *a: spec(*a), *given, dynamic=True)
    assert OPERATOR not in names
    dense = ConvSpec(16, 24, (3, 3), padding=1)
    given, _ = of_spec(dense, "rows")
    _, names = recorded(lambda *a: dense(*a), *watched(given), dynamic=True)
    assert OPERATOR not in names
