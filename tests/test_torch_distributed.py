"""Convolutions in shards on two and four processes: the whole's numbers, bit for bit."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from convspec import ConvSpec, ConvSpecError
from convspec_torch import Conv, _worker
from convspec_torch._exchange import Exchange
from convspec_torch.distributed import ShardedConv
from generators import integers, random_case
from processes import together
from test_shards import parts_of


def cut(array: torch.Tensor, layout: str, axes: str, sizes: Any, at: Any) -> torch.Tensor:
    """The shard of an array at a coordinate."""
    for letter, lengths, i in zip(axes, sizes, at, strict=True):
        start = sum(lengths[:i])
        array = array.narrow(layout.index(letter), start, lengths[i])
    return array.detach().clone()


def whole_of(spec: ConvSpec, arrays: list[Any], output_size: Any, seed: int) -> Any:
    """The output of the whole, a cotangent for it, and the gradients of all arrays."""
    given = [a if a is None else a.clone().requires_grad_() for a in arrays]
    y = spec(*given, output_size=output_size)
    g = torch.from_numpy(integers(np.random.default_rng(seed), tuple(y.shape), "float64"))
    y.backward(g)
    return y.detach(), g, [a if a is None else a.grad for a in given]


def check(mesh: Any, seed: int) -> str:
    """One random convolution in random shards; what is wrong with it."""
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    spec, shape = case.spec, case.input_shape
    letters = [c for c in spec.layout if c != "C"]
    if len(letters) < mesh.ndim:
        return ""
    axes = "".join(rng.choice(letters, mesh.ndim, replace=False))
    inputs = [
        parts_of(rng, shape[spec.layout.index(c)], n) for c, n in zip(axes, mesh.shape, strict=True)
    ]
    out = spec.output_shape(shape, case.output_size)
    outputs = None
    if rng.random() < 0.4:
        outputs = [
            parts_of(rng, out[spec.output_layout.index(c)], n)
            for c, n in zip(axes, mesh.shape, strict=True)
        ]
    drawn = [integers(rng, s, "float64") for s in (shape, spec.weight_shape, spec.bias_shape)]
    x, w, b = map(torch.from_numpy, drawn)
    arrays = [x, w, b if spec.bias else None]
    expected, g, gradients = whole_of(spec, arrays, case.output_size, seed)
    at = mesh.get_coordinate()
    local = [cut(x, spec.layout, axes, inputs, at).requires_grad_()]
    local += [a if a is None else a.clone().requires_grad_() for a in arrays[1:]]
    conv = ShardedConv(
        spec,
        local[0].shape,
        mesh,
        axes,
        dtype=torch.float64,
        output_sizes=outputs,
        output_size=case.output_size,
    )
    y = conv(*local)
    y.backward(cut(g, spec.output_layout, axes, conv.output_sizes, at))
    wrong = []
    if not torch.equal(y, cut(expected, spec.output_layout, axes, conv.output_sizes, at)):
        wrong.append("y")
    gradients[0] = cut(gradients[0], spec.layout, axes, inputs, at)
    for name, a, found in zip("xwb", local, gradients, strict=True):
        if a is not None and not (a.grad is not None and torch.equal(a.grad, found)):
            wrong.append(name)
    return f"{wrong} seed {seed}: {spec!r} {shape} {axes} {inputs} {outputs}" if wrong else ""


def random_shards(meshes: list[Any]) -> list[str]:
    """Of four processes along one axis, of four along two, and of two."""
    found = [check(mesh, 1000 * i + n) for n in range(30) for i, mesh in enumerate(meshes)]
    return [line for line in found if line]


def random_dtensors(meshes: list[Any]) -> list[str]:
    """The same of DTensors, each dimension of whose mesh splits an axis or holds copies."""
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    wrong = []
    for n in range(36):
        rng = np.random.default_rng(5000 + n)
        mesh = meshes[n % 2]
        case = random_case(rng)
        spec = case.spec
        free = [i for i, c in enumerate(spec.layout) if c != "C"]
        dims = [None if rng.random() < 0.2 else int(d) for d in rng.permutation(free)]
        if len(dims) < mesh.ndim:
            continue
        split = [Replicate() if d is None else Shard(d) for d in dims[: mesh.ndim]]
        shapes = (case.input_shape, spec.weight_shape, spec.bias_shape)
        arrays = [torch.from_numpy(integers(rng, shape, "float64")) for shape in shapes]
        arrays = arrays if spec.bias else [*arrays[:2], None]
        expected, g, gradients = whole_of(spec, arrays, case.output_size, n)
        x = distribute_tensor(arrays[0], mesh, split).requires_grad_()
        copies = [Replicate()] * mesh.ndim
        plain = n % 3 == 0
        rest = [
            a
            if a is None
            else (a.clone() if plain else distribute_tensor(a, mesh, copies)).requires_grad_()
            for a in arrays[1:]
        ]
        y = spec(x, *rest, output_size=case.output_size)
        named = [spec.layout[d] if d is not None else None for d in dims[: mesh.ndim]]
        placements = [
            Replicate() if c is None else Shard(spec.output_layout.index(c)) for c in named
        ]
        same = isinstance(y, DTensor) and list(y.placements) == placements
        same = same and torch.equal(y.full_tensor(), expected)
        y.backward(distribute_tensor(g, mesh, placements))
        for array, gradient in zip([x, *rest], gradients, strict=True):
            if array is not None:
                found = array.grad if plain and array is not x else array.grad.full_tensor()
                same = same and torch.equal(found, gradient)
        if not same:
            wrong.append(f"{n}: {spec!r} {case.input_shape} {split}")
    return wrong


PLAIN = ConvSpec(2, 4, 3, padding="same", layout="NDHWC", weight_layout="DHWIO")


def whole(spec: ConvSpec, *shape: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    shapes = (shape, spec.weight_shape, spec.bias_shape)
    return [torch.from_numpy(integers(rng, s, "float64")) for s in shapes]


def second_derivatives(meshes: list[Any]) -> bool:
    """A loss of gradients has the gradients of the whole's."""
    mesh, at = meshes[0], meshes[0].get_coordinate()
    x, w, b = whole(PLAIN, 1, 9, 4, 3, 2)

    def derived(convolve: Any, x: Any) -> list[Any]:
        given = [x.clone().requires_grad_(), w.clone().requires_grad_()]
        y = convolve(*given, b)
        gx, gw = torch.autograd.grad((y**3).sum(), given, create_graph=True)
        # What every process has of gw it counts once, what it has of gx is a part.
        return [gx.detach(), gw.detach(), *torch.autograd.grad((gx**2).sum(), given)]

    sizes = ((2, 3, 0, 4),)
    expected = derived(PLAIN, x)
    local = cut(x, PLAIN.layout, "D", sizes, at)
    conv = ShardedConv(PLAIN, local.shape, mesh, "D", dtype=torch.float64)
    found = derived(conv, local)
    for i in (0, 2):
        expected[i] = cut(expected[i], PLAIN.layout, "D", sizes, at)
    assert max(float(a.abs().max()) for a in expected if a.numel()) < 2**53
    return all(torch.equal(a, e) for a, e in zip(found, expected, strict=True))


def data_parallel(meshes: list[Any]) -> list[bool]:
    """DistributedDataParallel around our layer: batches alone, and beside a split depth."""
    from torch.distributed.tensor import DTensor, Shard
    from torch.nn.parallel import DistributedDataParallel

    square = meshes[1]
    x = whole(PLAIN, 4, 6, 4, 3, 2)[0]
    alone = Conv(PLAIN, seed=1, dtype=torch.float64)
    integral(alone)
    (alone(x) ** 2).sum().backward()
    same = []
    for mesh, rows in ((None, 1), (square, 2)):
        group = mesh and mesh.get_group(0)
        # The parameters of each group's first process go to the others.
        layer = Conv(PLAIN, seed=1 + dist.get_rank(group), dtype=torch.float64)
        integral(layer)
        model = DistributedDataParallel(layer, process_group=group)
        count = dist.get_world_size(group)
        part = x.chunk(count)[dist.get_rank(group)]
        if mesh is not None:
            line = mesh[mesh.mesh_dim_names[1]]
            depth = part.chunk(rows, 1)[line.get_local_rank()]
            part = DTensor.from_local(depth, line, [Shard(1)])
        y = model(part)
        y = y.to_local() if mesh is not None else y
        # What it averages over the batches is then their sum.
        (count * (y**2).sum()).backward()
        torch.optim.SGD(model.parameters(), lr=0.5).step()
        for ours, theirs in zip(layer.parameters(), alone.parameters(), strict=True):
            same.append(torch.equal(ours.grad, theirs.grad))
            same.append(torch.equal(ours, theirs - 0.5 * theirs.grad))
    return same


def integral(layer: Any) -> None:
    """Integers for the parameters."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((8 * parameter).round())


def overlap(meshes: list[Any]) -> list[str]:
    """The order in which a call with gradients does things."""
    log: list[str] = []
    x, w, b = whole(PLAIN, 1, 16, 4, 3, 2)
    local = x[:, :4].requires_grad_()
    conv = ShardedConv(PLAIN, local.shape, meshes[0], "D", dtype=torch.float64)
    start, finish, run = Exchange.start, Exchange.finish, _worker._run

    def noted(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            log.append(name)
            y = function(*args)
            if name == "convolve":
                y.register_hook(lambda g: log.append("differentiate"))
            return y

        return call

    Exchange.start, Exchange.finish = noted("start", start), noted("finish", finish)
    _worker._run = noted("convolve", run)
    try:
        conv(local, w, b).sum().backward()
    finally:
        Exchange.start, Exchange.finish, _worker._run = start, finish, run
    return log


def many_calls(meshes: list[Any]) -> bool:
    """Several layers under way, twice, with the messages of each for itself."""
    mesh, at = meshes[0], meshes[0].get_coordinate()
    x, w, b = whole(ConvSpec(4, 4, 3, padding="same", layout="NWC"), 2, 12, 4)
    spec = ConvSpec(4, 4, 3, padding="same", layout="NWC")
    w = w.sign()

    def deep(convolve: Any, x: Any) -> Any:
        y = x
        for _ in range(3):
            y = torch.relu_(convolve(y, w, b)) + convolve(y, w)
        y.sum().backward(retain_graph=True)
        y.sum().backward()
        return y.detach(), x.grad

    sizes = ((1, 4, 5, 2),)
    expected = deep(spec, x.clone().requires_grad_())
    local = cut(x, "NWC", "W", sizes, at).requires_grad_()
    conv = ShardedConv(spec, local.shape, mesh, "W", dtype=torch.float64)
    found = deep(conv, local)
    return all(
        torch.equal(a, cut(e, "NWC", "W", sizes, at)) for a, e in zip(found, expected, strict=True)
    )


def types(meshes: list[Any]) -> list[bool]:
    """Half types, integers and complex numbers travel too."""
    at = meshes[0].get_coordinate()
    same = []
    for dtype, out in (("bfloat16", None), ("int8", "int32"), ("complex64", None)):
        x, w, b = (a.to(getattr(torch, dtype)) for a in whole(PLAIN, 1, 8, 4, 3, 2))
        local = cut(x, PLAIN.layout, "D", ((2, 2, 2, 2),), at)
        conv = ShardedConv(PLAIN, local.shape, meshes[0], "D", dtype=x.dtype)
        y = PLAIN(x, w, b, out_dtype=out)
        expected = cut(y, PLAIN.layout, "D", conv.output_sizes, at)
        same.append(torch.equal(conv(local, w, b, out_dtype=out), expected))
    return same


# ---- refusals ----


def refusals(meshes: list[Any]) -> dict[str, str]:
    """What each process is told when something does not fit; they go on together after it."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    rank, (line, square, pair) = dist.get_rank(), meshes
    x, w, b = whole(PLAIN, 1, 4, 4, 3, 2)
    shape = tuple(x.shape)

    def made(
        spec: ConvSpec = PLAIN, shape: Any = shape, mesh: Any = line, axes: str = "D", **rest: Any
    ) -> ShardedConv:
        return ShardedConv(spec, shape, mesh, axes, dtype=torch.float64, **rest)

    def sharded(placement: Any, weight: Any = w, x: Any = x) -> Any:
        return PLAIN(DTensor.from_local(x, pair, [placement], run_check=False), weight, b)

    split = DTensor.from_local(w[..., :2], pair, [Shard(4)], run_check=False)
    twice = DTensor.from_local(x, square, [Shard(1), Shard(1)], run_check=False)
    conv = made()
    calls = {
        "spec": lambda: made(PLAIN.replace(dilation=1 + rank // 3)),
        "axes": lambda: made(axes="DH"[rank // 3]),
        "dtype": lambda: ShardedConv(
            PLAIN, shape, line, "D", dtype=(torch.float64, torch.half)[rank // 3]
        ),
        "beside": lambda: made(shape=(1, 4, 4 + rank // 3, 3, 2)),
        "output sizes": lambda: made(output_sizes=[(4, 4, 4, 5)]),
        "too few output sizes": lambda: made(output_sizes=[(16, 0, 0)]),
        "other output sizes": lambda: made(output_sizes=[(16, 0, 0, 0) if rank else (4, 4, 4, 4)]),
        "channels": lambda: made(axes="C"),
        "two axes": lambda: made(axes="DH"),
        "no mesh": lambda: made(mesh=3),
        "layout": lambda: made(shape=(4, 4, 3, 2)),
        "kernel": lambda: made(PLAIN.replace(kernel_size=(30, 1, 1), padding=0)),
        "x shape": lambda: conv(x[:, :3], w, b),
        "x dtype": lambda: conv(x.float(), w.float(), b.float()),
        "w dtype": lambda: conv(x, w.float(), b),
        "w shape": lambda: conv(x, w[..., :2], b),
        "bias": lambda: made(PLAIN.replace(bias=False))(x, w, b),
        "partial": lambda: sharded(Partial()),
        "channels of a DTensor": lambda: sharded(Shard(4), x=x[..., :1]),
        "weight of a DTensor": lambda: sharded(Replicate(), split),
        "twice": lambda: PLAIN(twice, w, b),
        "DTensors": lambda: PLAIN.replace(dilation=1 + rank % 2)(
            DTensor.from_local(x, pair, [Shard(1)], run_check=False), w, b
        ),
    }
    told = {}
    for name, call in calls.items():
        try:
            call()
        except ConvSpecError as error:
            told[name] = f"{type(error).__name__}: {error}"
        assert torch.equal(conv(x, w, b), conv(x, w, b))
    return told


def everything(rank: int) -> dict[str, Any]:
    line, square = (
        init_device_mesh("cpu", (4,)),
        init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b")),
    )
    meshes = [line, square, square["b"]]
    tests = (random_shards, random_dtensors, second_derivatives, data_parallel, overlap)
    tests += (many_calls, types, refusals)
    return {test.__name__: test(meshes) for test in tests}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of all of these, from each of four processes."""
    return together(everything, 4, tmp_path_factory.mktemp("store"))


def test_random_shards_give_the_whole(results: Any) -> None:
    """Outputs and all gradients, of two and four processes, along one axis and two."""
    assert [found["random_shards"] for found in results] == [[]] * 4


def test_random_dtensors_give_the_whole(results: Any) -> None:
    assert [found["random_dtensors"] for found in results] == [[]] * 4


def test_gradients_are_differentiated(results: Any) -> None:
    assert all(found["second_derivatives"] for found in results)


def test_data_parallel_around_our_layer(results: Any) -> None:
    for found in results:
        assert found["data_parallel"] == [True] * 8


def test_messages_travel_while_the_interior_is_computed(results: Any) -> None:
    """Forward and backward."""
    forward = ["start", "convolve", "finish"]
    backward = ["start", "differentiate", "finish"]
    for found, borders in zip(results, (1, 2, 2, 1), strict=True):
        assert found["overlap"] == (
            forward + ["convolve"] * borders + ["differentiate"] * borders + backward
        )


def test_many_calls_at_once(results: Any) -> None:
    assert all(found["many_calls"] for found in results)


def test_other_types(results: Any) -> None:
    assert all(found["types"] == [True] * 3 for found in results)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "spec",
            "ConvSpecError: spec: that of rank [03] differs from .* rank [0-3]: dilation on D",
        ),
        ("axes", "ConvSpecError: axes: rank [03] has '[DH]', rank [0-3] has '[DH]'; give all"),
        ("dtype", "ConvSpecError: dtype: rank [03] has 'float"),
        (
            "beside",
            "ShapeError: input_shape: on axis H rank . has 4 positions, but rank 3 beside",
        ),
        (
            "output sizes",
            r"ShapeError: output_sizes \(axis D\): \(4, 4, 4, 5\) makes 17, the axis has 16",
        ),
        ("too few output sizes", r"ShapeError: output_sizes \(axis D\): expected 4 shards"),
        ("other output sizes", "ConvSpecError: output_sizes: rank [01] has"),
        ("channels", "LayoutError: axes: expected different letters of 'DHWN', got 'C'"),
        (
            "two axes",
            r"LayoutError: mesh: expected one dimension for each of the axes 'DH'.*\(4,\)",
        ),
        ("no mesh", "LayoutError: mesh: expected a DeviceMesh or a process group, got"),
        ("layout", "LayoutError: input_shape: has 4 axes, but layout 'NDHWC' names 5"),
        ("kernel", "ShapeError: kernel_size: on axis D the kernel spans 30 positions"),
        ("x shape", r"ShapeError: x: has shape \(1, 3, 4, 3, 2\), but on this process"),
        ("x dtype", "DTypeError: x: is float32, but the ShardedConv was made for float64"),
        ("w dtype", "DTypeError: weight: is float32, but x is float64"),
        ("w shape", "ShapeError: weight: has another size than expected"),
        ("bias", "ShapeError: bias: the spec says bias=False"),
        ("partial", r"UnsupportedError: x: is P.* on dimension 0 of its mesh; .*\n.*redistribute"),
        ("channels of a DTensor", r"UnsupportedError: x: is S.* one of the axes NDHW"),
        (
            "weight of a DTensor",
            r"UnsupportedError: weight: has the placements .*expected Replicate",
        ),
        ("twice", "UnsupportedError: x: more than one dimension of its mesh splits the same axis"),
        ("DTensors", "ConvSpecError: problem: rank [0-3] has"),
    ],
)
def test_all_processes_are_told_what_does_not_fit(results: Any, name: str, message: str) -> None:
    for found in results:
        told = found["refusals"].get(name, "nothing")
        assert re.match(message, told), told


def faults(rank: int) -> str:
    """Rank 1 dies between two calls, rank 3 does not come; their neighbours are told."""
    pair = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))["b"]
    x, w, b = whole(PLAIN, 1, 4, 4, 3, 2)
    if rank == 3:
        time.sleep(3)
        os._exit(1)
    try:
        conv = ShardedConv(PLAIN, x.shape, pair, "D", dtype=torch.float64, timeout=1)
        conv(x, w, b)
        if rank == 1:
            os._exit(1)
        conv(x, w, b)
    except ConvSpecError as error:
        return str(error)
    return "nothing"


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    told = together(faults, 4, tmp_path)
    assert told[1] is told[3] is None
    assert told[0].startswith("mesh: rank 1 did not answer within 1 s; it has died, hangs")
    assert told[2].startswith("mesh: rank 3 did not answer within 1 s; it has died, hangs")
