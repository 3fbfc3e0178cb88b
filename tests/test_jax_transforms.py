"""jit, vmap, derivatives, checkpoint, export with symbolic sizes, and sharded volumes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convspec
from convspec import ConvSpec
from traced_specs import SPECS, integers


def arrays(spec: ConvSpec, size: int = 7, batch: int = 2) -> list[jax.Array]:
    return list(map(jnp.asarray, integers(spec, size, batch)))


def unknown(spec: ConvSpec, least: int) -> tuple[Any, ...]:
    """An input's shape of which only the channels are known, and the least size of space."""
    letters = [str(spec.in_channels) if c == "C" else c.lower() for c in spec.layout]
    scope = jax.export.SymbolicScope([f"{c.lower()} >= {least}" for c in spec.spatial])
    shape: tuple[Any, ...] = jax.export.symbolic_shape(", ".join(letters), scope=scope)
    return shape


@pytest.mark.parametrize("name", SPECS)
def test_export_with_symbolic_sizes(name: str) -> None:
    """One exported program for all batches and sizes; named padding follows them."""
    spec = SPECS[name]
    shape = unknown(spec, least=6)  # reflection needs 2 * hi < size, which JAX has to be told
    weight, bias = arrays(spec)[1:]
    given = jax.ShapeDtypeStruct(shape, np.float32), weight, bias
    exported = jax.export.export(jax.jit(spec))(*given)
    for size, batch in ((7, 2), (8, 1), (9, 3)):
        x = arrays(spec, size, batch)[0]
        y = exported.call(x, weight, bias)
        assert np.array_equal(y, spec(x, weight, bias))


MANY = {
    "picture": ConvSpec(16, 32, (3, 3), padding=1, layout="NHWC"),
    "product": ConvSpec(16, 64, (1, 1), layout="NCHW"),
    "groups": ConvSpec(16, 64, (3, 3), padding="same", groups=2, layout="NHWC"),
    # Their gradients have a rule of their own.
    "groups of two": ConvSpec(32, 32, (3, 3), padding=1, groups=16, layout="NHWC"),
    "depthwise": ConvSpec(4, 8, (3, 3), padding=1, groups=4, layout="NHWC"),
    "transposed": ConvSpec(16, 32, (2, 2), 2, transposed=True, layout="NCHW"),
    "signal": ConvSpec(16, 32, 5, padding="causal", layout="NWC"),
}


@pytest.mark.parametrize("name", MANY)
def test_export_with_gradients_of_many_channels(name: str) -> None:
    """Rules that depend on the sizes ask nothing of sizes that JAX does not know."""
    spec = MANY[name]
    shape = unknown(spec, least=5)

    def run(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        y = spec(x, w)
        return y, jax.grad(lambda x, w: spec(x, w).sum(), (0, 1))(x, w)

    for n, size in ((1, 6), (3, 9)):
        x, w, _ = arrays(spec, size, n)
        exported = jax.export.export(jax.jit(run))(jax.ShapeDtypeStruct(shape, np.float32), w)
        ours, theirs = exported.call(x, w), run(x, w)
        for got, exact in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert np.array_equal(got, exact)


VOLUMES = {
    "without padding": ConvSpec(2, 4, 3, layout="NCDHW"),
    "groups": ConvSpec(32, 4, (2, 3, 1), groups=2, layout="NDHWC"),
    "spread on every axis": ConvSpec(
        2, 4, (2, 2, 3), (3, 2, 2), 1, transposed=True, layout="NCDHW"
    ),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_export_asks_of_no_product_of_sizes(name: str) -> None:
    """Of n * (d - 2) JAX cannot tell that it is not below 0, whatever it is told of n and d."""
    spec = VOLUMES[name]
    shape = unknown(spec, least=3)
    x, weight, bias = arrays(spec, 3)
    exported = jax.export.export(jax.jit(spec))(
        jax.ShapeDtypeStruct(shape, np.float32), weight, bias
    )
    assert np.array_equal(exported.call(x, weight, bias), spec(x, weight, bias))


def test_exports_do_not_share_symbols() -> None:
    """Two programs with the same names for other sizes, and one that is traced twice."""
    spec = SPECS["channels last"]
    weight, bias = arrays(spec)[1:]
    for names in ("n, h, w, 4", "n, h, w, 4", "n, 8, w, 4"):
        given = jax.ShapeDtypeStruct(jax.export.symbolic_shape(names), np.float32), weight, bias
        exported = jax.export.export(jax.jit(spec))(*given)
        x = arrays(spec, 8, 3)[0]
        assert np.array_equal(exported.call(x, weight, bias), spec(x, weight, bias))


@pytest.mark.parametrize("name", ["channels last", "replicate", "transposed same", "rank 4"])
def test_vmap_over_any_axis(name: str) -> None:
    spec = SPECS[name]
    x, w, b = arrays(spec, 5)
    expected = np.stack([spec(k * x, w, b) for k in (1, -1, 2)])
    for axis in range(x.ndim + 1):
        stacked = jnp.stack([k * x for k in (1, -1, 2)], axis)
        y = jax.vmap(spec, (axis, None, None), out_axes=1)(stacked, w, b)
        assert np.array_equal(np.moveaxis(y, 1, 0), expected)
    filters = jnp.stack([w, 2 * w], -1)
    y = jax.vmap(spec, (None, -1, None))(x, filters, b)
    assert np.array_equal(y, np.stack([spec(x, w, b), spec(x, 2 * w, b)]))


@pytest.mark.parametrize("name", ["channels last", "circular", "flipped", "transposed same"])
def test_derivatives(name: str) -> None:
    """Small integers throughout, so every identity is exact."""
    spec = SPECS[name]
    x, w, b = arrays(spec, 4)
    # y is linear in x and in w: derivatives along them are the map itself, without its bias.
    assert np.array_equal(jax.jvp(lambda x: spec(x, w, b), (x,), (2 * x,))[1], spec(2 * x, w))
    assert np.array_equal(jax.linearize(lambda w: spec(x, w, b), w)[1](-w), spec(x, -w))

    def loss(w: jax.Array) -> jax.Array:
        return (spec(x, w, b) ** 2).sum() / 2

    gradient = jax.grad(loss)(w)
    hessian = jax.jit(jax.hessian(loss))(w)
    # The loss is quadratic: its gradient at w is the Hessian times w, and what it is at zero.
    straight = jnp.tensordot(hessian, w, w.ndim) + jax.grad(loss)(0 * w)
    assert np.abs(hessian).max() < 2**20
    assert np.array_equal(gradient, straight)
    assert np.array_equal(jax.jit(jax.grad(jax.checkpoint(loss)))(w), gradient)


def test_checkpoint_computes_again() -> None:
    """What the second convolution reads is not kept, but convolved once more."""
    spec = SPECS["plain"]
    x, w, b = arrays(spec)

    def kernels(wrapped: Callable[..., Callable[..., jax.Array]]) -> int:
        twice = wrapped(lambda w: spec(spec(x, w, b)[:, :4], w, b))
        text = str(jax.make_jaxpr(jax.grad(lambda w: (twice(w) ** 2).sum()))(w))
        return text.count("conv_general_dilated[")

    assert kernels(jax.checkpoint) > kernels(lambda function: function)


def test_a_spec_is_static() -> None:
    run = jax.jit(lambda spec, *given: spec(*given), static_argnums=0)
    for k in (1, 2, 2, 1):
        spec = ConvSpec(4, 6, k, padding="same", layout="NHWC")
        given = arrays(spec)
        assert np.array_equal(run(spec, *given), spec(*given))
    assert run._cache_size() == 2


def test_one_native_call_and_nothing_else() -> None:
    """Orders, padding, stride, dilation and groups go to XLA as they are.

    Of larger ones the same holds where XLA is not slow, as in a process with several devices.
    """
    layouts = {"layout": "HNWC", "output_layout": "NCHW", "weight_layout": "WIHO"}
    spec = ConvSpec(32, 32, 3, 2, ((1, 0), 2), 2, 2, False, **layouts)
    x, w = jnp.ones((5, 2, 6, 32)), jnp.ones(spec.weight_shape)
    equations = jax.make_jaxpr(spec)(x, w).eqns
    assert [equation.primitive.name for equation in equations] == ["conv_general_dilated"]


def test_what_is_transformed_and_not_compiled_is_one_program() -> None:
    """Not one for each operation, of which groups take many, with their gradients."""
    spec = ConvSpec(16, 16, 3, padding=1, groups=4, layout="NWC")
    x, w, b = jnp.ones((2, 20, 16)), jnp.ones(spec.weight_shape), jnp.ones(16)
    y, gradients = jax.vjp(spec, x, w, b)
    equations = jax.make_jaxpr(gradients)(y).eqns
    assert [equation.primitive.name for equation in equations] == ["jit"]
    inside = jax.make_jaxpr(spec)(x, w, b).eqns  # of another
    assert "jit" not in {equation.primitive.name for equation in inside}


def test_functional_form_under_jit() -> None:
    spec = SPECS["dilated"]
    x, w, _ = arrays(spec)
    run = jax.jit(partial(convspec.conv, stride=2, padding="same", dilation=2, layout="NHWC"))
    assert np.array_equal(run(x, w), spec(x, w))


#: All tests of four devices, in one process: how many there are is set before JAX starts.
SHARDED = """
import json, re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from convspec import ConvSpec

made = ConvSpec(2, 4, 3, padding="same", layout="NDHWC", weight_layout="DHWIO")
SPECS = {
    "plain": made,
    "channels first": ConvSpec(2, 4, 3, padding="same", layout="NCDHW"),
    "stride": made.replace(stride=2),
    "dilation": made.replace(dilation=2),
    "groups": made.replace(groups=2),
    "replicate": made.replace(padding_mode="replicate"),
    "circular": made.replace(padding_mode="circular"),
    "transposed": ConvSpec(2, 4, 3, 2, "same", transposed=True, layout="NDHWC"),
}
COLLECTIVES = ("all-gather", "all-to-all", "all-reduce", "collective-permute", "convolution")

def counted(text):
    return {k: len(re.findall(rf" {k}(?:-start)?\\(", text)) for k in COLLECTIVES}

def integers(*shape):
    return np.random.default_rng(0).integers(-3, 4, shape).astype("float32")

def placed(mesh, depth, x, *others):
    parts = [(x, depth), *((array, P()) for array in others)]
    return [jax.device_put(array, NamedSharding(mesh, part)) for array, part in parts]

report = {}
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
    for name, spec in SPECS.items():
        if kind is AxisType.Explicit and name not in ("plain", "stride"):
            continue
        sizes = {"N": 2, "C": 2, "D": 16, "H": 6, "W": 7}
        x = integers(*(sizes[c] for c in spec.layout))
        w, b = integers(*spec.weight_shape), integers(4)
        expected = np.asarray(spec(*map(jnp.asarray, (x, w, b))))
        depth = P(*("d" if c == "D" else None for c in spec.layout))
        given = placed(mesh, depth, x, w, b)
        run = jax.jit(spec)
        eager = spec(*given)
        report[f"{name} {kind.name}"] = {
            **counted(run.lower(*given).compile().as_text()),
            "equal": bool((run(*given) == expected).all() and (eager == expected).all()),
            "sharded": [y.sharding.spec == depth for y in (run(*given), eager)],
        }
    if kind is AxisType.Auto:
        loss = jax.jit(jax.grad(lambda x, w, b: (made(x, w, b) ** 2).sum(), argnums=(0, 1)))
        x, w, b = integers(2, 16, 6, 7, 2), integers(*made.weight_shape), integers(4)
        given = placed(mesh, P(None, "d"), x, w, b)
        same = [bool((a == e).all()) for a, e in zip(loss(*given), loss(x, w, b))]
        text = loss.lower(*given).compile().as_text()
        report["gradient"] = {**counted(text), "equal": all(same)}

        # The same exchange by hand: a border of one plane from either neighbour, then no padding.
        bare = made.replace(padding=((0, 0), (1, 1), (1, 1)))
        def local(x, w):
            before = jax.lax.ppermute(x[:, -1:], "d", [(i, i + 1) for i in range(3)])
            after = jax.lax.ppermute(x[:, :1], "d", [(i + 1, i) for i in range(3)])
            return bare(jnp.concatenate([before, x, after], 1), w)
        run = jax.shard_map(local, mesh=mesh, in_specs=(P(None, "d"), P()), out_specs=P(None, "d"))
        y = jax.jit(run)(x, w)
        report["shard_map"] = {"equal": bool((y == made(jnp.asarray(x), jnp.asarray(w))).all())}
print(json.dumps(report))
"""


def test_a_volume_in_four_parts_exchanges_borders() -> None:
    """A volume partitioned along its depth is not gathered: neighbours send each other planes."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert len(report) == 12
    for name, found in report.items():
        assert found["equal"], name
        if name == "shard_map":
            continue
        assert found["all-gather"] == found["all-to-all"] == 0, (name, found)
        assert found["collective-permute"] > 0, (name, found)
        if name != "gradient":
            # XLA would gather these if they were one: see convspec_jax._slow.
            several = "groups" in name or "transposed" in name
            assert (found["convolution"] > 1) == several, (name, found)
            assert found["all-reduce"] == 0, (name, found)
            assert all(found["sharded"]), (name, found)


def test_symbolic_sizes_that_have_to_be_known_are_named() -> None:
    """With the constraint that the error asks for, the export goes through."""
    spec = ConvSpec(1, 1, (3, 3), padding=(2, 0), padding_mode="reflect", bias=False)
    weight = jax.ShapeDtypeStruct(spec.weight_shape, np.float32)

    def exported(constraints: tuple[str, ...]) -> Any:
        shape = jax.export.symbolic_shape("n, 1, h, w", constraints=constraints)
        return jax.export.export(jax.jit(spec))(jax.ShapeDtypeStruct(shape, np.float32), weight)

    with pytest.raises(convspec.ConvSpecError, match=r"tell whether h - 3 >= 0") as caught:
        exported(())
    asked = re.search(r"constraints=\['(.*?)'\]", str(caught.value))
    assert asked is not None
    x = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)
    w = np.ones(spec.weight_shape, np.float32)
    found = exported((asked[1], "w >= 3")).call(x, w)
    np.testing.assert_array_equal(found, convspec.reference(spec, x, w))
