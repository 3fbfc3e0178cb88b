"""JAX's calls, Flax NNX's and Equinox's layers as specs and back, and our own layer for them."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import convspec
import convspec_jax
from convspec import ConvSpec, ConvSpecError, ShapeError, UnsupportedError, layer_arrays
from generators import integers
from refusals import refused

Rng = np.random.Generator


def array(rng: Rng, shape: Any) -> jax.Array:
    return jnp.asarray(integers(rng, shape, "float32"))


def pairs(rng: Rng, rank: int, least: int = 0) -> list[tuple[int, int]]:
    return [(int(lo), int(hi)) for lo, hi in rng.integers(least, 4, (rank, 2))]


def pick(rng: Rng, *choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


def shuffled(rng: Rng, letters: str) -> str:
    return "".join(rng.permutation(list(letters)))


def check(spec: ConvSpec, *given: Any, expected: Any) -> None:
    """On NumPy, since XLA would compile every spec; it is the specs that are in question here."""
    x, weight, bias = (a if a is None else np.asarray(a) for a in given)
    np.testing.assert_array_equal(spec(x, weight, bias), expected, repr(spec))


# ---- calls ----


def forward_call(rng: Rng, rank: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    letters = "DHW"[-rank:]
    k, s, d = (rng.integers(1, most + 1, rank).tolist() for most in (3, 2, 2))
    groups = int(rng.integers(1, 3))
    cin, cout = (groups * int(n) for n in rng.integers(1, 3, 2))
    padding = pick(rng, "SAME", "VALID", "same_lower", pairs(rng, rank, -1))
    sizes = {"N": 2, "C": cin, "O": cout, "I": cin // groups}
    kind = pick(rng, "general", "general", "padded", "plain")
    if kind == "general":
        numbers = (
            shuffled(rng, "NC" + letters),
            shuffled(rng, "OI" + letters),
            shuffled(rng, "NC" + letters),
        )
        options = {
            "rhs_dilation": d,
            "dimension_numbers": numbers,
            "feature_group_count": groups,
        }
        call: Any = lax.conv_general_dilated
        given: tuple[Any, ...] = (s, padding)
    else:
        numbers, options = ("NC" + letters, "OI" + letters, ""), {}
        sizes["I"], sizes["O"] = cin, cout
        call, given = lax.conv_with_general_padding, (s, padding, None, d)
        if kind == "plain":
            call, given = lax.conv, (s, pick(rng, "SAME", "VALID"))
            d = [1] * rank
    named = dict(zip(letters, rng.integers(6, 9, rank).tolist(), strict=True))
    x = array(rng, [{**sizes, **named}[c] for c in numbers[0]])
    # JAX counts axes in the order of the kernel's letters.
    order = [c for c in numbers[1] if c in letters]
    named = dict(zip(order, k, strict=True))
    w = array(rng, [{**sizes, **named}[c] for c in numbers[1]])
    return call, (x, w, *given), options


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_forward_calls(rank: int) -> None:
    rng = np.random.default_rng(rank)
    for _ in range(8):
        call, given, options = forward_call(rng, rank)
        spec = ConvSpec.from_call(call, *given, **options)
        check(spec, *given[:2], None, expected=call(*given, **options))


def transposed_call(rng: Rng, rank: int) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    letters = "DHW"[-rank:]
    k, s, d = (rng.integers(1, most + 1, rank).tolist() for most in (4, 3, 2))
    cin, cout = rng.integers(1, 4, 2).tolist()
    padding = pick(rng, "SAME", "VALID", "SAME", "VALID", pairs(rng, rank, 2))
    if rng.random() < 0.2:
        padding, s = pick(rng, "valid", "same", "SAME_LOWER"), [1] * rank
    kernel = rng.random() < 0.5
    numbers: Any = None
    shapes = [f"N{letters}C", f"{letters}IO"]
    if rng.random() < 0.5:
        numbers = (shuffled(rng, shapes[0]), shuffled(rng, shapes[1]), shuffled(rng, shapes[0]))
        shapes = list(numbers[:2])
    sizes = {"N": 2, "C": cin, "I": cout if kernel else cin, "O": cin if kernel else cout}
    named = dict(zip(letters, rng.integers(3, 5, rank).tolist(), strict=True))
    x = array(rng, [{**sizes, **named}[c] for c in shapes[0]])
    named = dict(zip([c for c in shapes[1] if c in letters], k, strict=True))
    w = array(rng, [{**sizes, **named}[c] for c in shapes[1]])
    options = {"rhs_dilation": d, "dimension_numbers": numbers, "transpose_kernel": kernel}
    if not isinstance(padding, str) and rng.random() < 0.5:
        options["use_consistent_padding"] = True
    return lax.conv_transpose, (x, w, s, padding), options


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_calls(rank: int) -> None:
    rng = np.random.default_rng(10 + rank)
    done = 0
    while done < 10:
        call, given, options = transposed_call(rng, rank)
        try:
            expected = call(*given, **options)
        except (TypeError, ValueError):  # nothing left of the output
            continue
        if not expected.size:
            continue
        spec = ConvSpec.from_call(call, *given, **options)
        assert spec.transposed
        check(spec, *given[:2], None, expected=expected)
        done += 1


def test_a_dilated_input_is_a_transposed_convolution() -> None:
    rng = np.random.default_rng(0)
    x, w = array(rng, (2, 4, 5, 6)), array(rng, (6, 2, 3, 2))
    given = (x, w, (1, 1), [(2, 1), (0, 3)])
    options = {"lhs_dilation": (2, 3), "rhs_dilation": (1, 2), "feature_group_count": 2}
    spec = ConvSpec.from_call(lax.conv_general_dilated, *given, **options)
    assert spec == ConvSpec(
        *(4, 6, (3, 2), (2, 3), ((0, 1), (2, -1)), (1, 2), 2, False),
        transposed=True,
        weight_layout="OIHW",
        flip_kernel=True,
        group_axis="O",
    )
    check(spec, x, w, None, expected=lax.conv_general_dilated(*given, **options))


def test_calls_that_no_spec_says() -> None:
    x, w = jnp.zeros((2, 2, 8)), jnp.zeros((2, 2, 3))
    with refused(UnsupportedError, "batch_group_count: a spec has no groups of the batch, got 2."):
        ConvSpec.from_call(lax.conv_general_dilated, x, w, (1,), "SAME", batch_group_count=2)
    with pytest.raises(UnsupportedError, match=r"lhs_dilation: \(2,\) is a transposed"):
        ConvSpec.from_call(lax.conv_general_dilated, x, w, (2,), [(1, 1)], lhs_dilation=(2,))
    with refused(UnsupportedError, "padding: 'CAUSAL' is none of VALID, SAME, SAME_LOWER."):
        ConvSpec.from_call(lax.conv, x, w, (1,), "CAUSAL")
    with refused(
        ShapeError, "window_strides: (1, 1) should have one entry for each of the axes W."
    ):
        ConvSpec.from_call(lax.conv, x, w, (1, 1), "SAME")


def test_a_call_is_read_from_shapes_alone() -> None:
    x, w = (jax.ShapeDtypeStruct(s, "float32") for s in ((1, 3, 8, 8), (4, 3, 3, 3)))
    expected = ConvSpec(3, 4, (3, 3), 2, "same", bias=False)
    assert ConvSpec.from_call(lax.conv, x, w, (2, 2), "SAME") == expected
    unknown = jax.export.symbolic_shape("c")
    w = jax.ShapeDtypeStruct((4, *unknown, 3, 3), "float32")
    x = jax.ShapeDtypeStruct((1, *unknown, 8, 8), "float32")
    message = "lhs: axis C has size c, and the spec of the call depends on it."
    with refused(ShapeError, message):
        ConvSpec.from_call(lax.conv, x, w, (2, 2), "SAME")


def test_jax_has_no_layers() -> None:
    with refused(UnsupportedError, "to_native: jax has no layers, only calls."):
        ConvSpec(1, 1, (3,)).to_native("jax", np.ones((1, 1, 3)))


# ---- layers ----


def any_flax(rng: Rng, rank: int) -> tuple[Any, Any]:
    k, s, d = (rng.integers(1, most + 1, rank).tolist() for most in (4, 3, 2))
    groups = int(rng.integers(1, 3))
    cin, cout = (groups * int(n) for n in rng.integers(1, 3, 2))
    options = {"use_bias": bool(rng.integers(2)), "kernel_dilation": d, "rngs": nnx.Rngs(0)}
    if rng.random() < 0.5:
        words = ("SAME", "VALID", "CIRCULAR", "REFLECT", 1, pairs(rng, rank))
        words += ("CAUSAL",) if rank == 1 else ()
        layer = nnx.Conv(
            *(cin, cout, k, s), padding=pick(rng, *words), feature_group_count=groups, **options
        )
    else:
        words = ("SAME", "VALID", 2, pairs(rng, rank, 2))
        kernel = bool(rng.integers(2))
        layer = nnx.ConvTranspose(
            *(cin, cout, k, pick(rng, s, s[0])),
            padding=pick(rng, *words),
            transpose_kernel=kernel,
            **options,
        )
    layer.kernel[...] = array(rng, layer.kernel.shape)
    if layer.use_bias:
        layer.bias[...] = array(rng, layer.bias.shape)
    return layer, array(rng, (2, *rng.integers(7, 9, rank), cin))


def any_equinox(rng: Rng, rank: int) -> tuple[Any, Any]:
    k, s, d = (rng.integers(1, most + 1, rank).tolist() for most in (4, 3, 2))
    groups = int(rng.integers(1, 3))
    cin, cout = (groups * int(n) for n in rng.integers(1, 3, 2))
    options = {
        "dilation": d,
        "groups": groups,
        "use_bias": bool(rng.integers(2)),
        "padding": pick(rng, "SAME", "SAME_LOWER", "VALID", 1, pairs(rng, rank)),
        "key": jax.random.key(0),
    }
    if rng.random() < 0.5:
        mode = pick(rng, "ZEROS", "REFLECT", "REPLICATE", "CIRCULAR")
        layer = eqx.nn.Conv(rank, cin, cout, k, s, padding_mode=mode, **options)
    else:
        extra = [int(rng.integers(n)) for n in s]
        layer = eqx.nn.ConvTranspose(rank, cin, cout, k, s, output_padding=extra, **options)
    layer = eqx.tree_at(lambda layer: layer.weight, layer, array(rng, layer.weight.shape))
    if layer.use_bias:
        layer = eqx.tree_at(lambda layer: layer.bias, layer, array(rng, layer.bias.shape))
    return layer, array(rng, (cin, *rng.integers(7, 9, rank)))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("name", "draw"), [("flax", any_flax), ("equinox", any_equinox)])
def test_layers_there_and_back(name: str, draw: Any, rank: int) -> None:
    rng = np.random.default_rng(rank)
    for _ in range((8, 6, 3)[rank - 1]):  # XLA compiles each of them twice
        layer, x = draw(rng, rank)
        expected = jax.jit(lambda x, layer=layer: layer(x))(x)
        if not expected.size:
            continue
        spec = ConvSpec.from_native(layer)
        weight, bias = layer_arrays(layer)
        check(spec, x, weight, bias, expected=expected)
        # By way of torch's orders: kernels are turned around where the convention wants it.
        torch = spec.in_convention("torch")
        kernel = spec.convert_weight(np.asarray(weight), to=torch)
        again = torch.to_native(name, kernel, bias)
        assert type(again).__name__ == type(layer).__name__
        np.testing.assert_array_equal(jax.jit(lambda x, again=again: again(x))(x), expected)


def test_arrays_are_live() -> None:
    layer = nnx.Conv(2, 3, (3,), rngs=nnx.Rngs(0))
    assert layer_arrays(layer) == (layer.kernel, layer.bias)
    assert layer_arrays(layer)[0] is layer.kernel
    bare = nnx.Conv(2, 3, 3, use_bias=False, rngs=nnx.Rngs(0))
    assert layer_arrays(bare) == (bare.kernel, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nnx.ConvTranspose(1, 1, (3,), padding="CIRCULAR", rngs=nnx.Rngs(0)),
            "layer: a CIRCULAR ConvTranspose wraps its output around, adding up what falls on the "
            "same place; no spec does that, since a transposed one has only zero padding.",
        ),
        (
            lambda: nnx.Conv(1, 1, (3,), input_dilation=2, rngs=nnx.Rngs(0)),
            "layer: has input_dilation=2; a convolution of an input with zeros in between is a "
            "transposed one: use nnx.ConvTranspose.",
        ),
        (
            lambda: nnx.Conv(1, 1, (3,), mask=jnp.ones((3, 1, 1)), rngs=nnx.Rngs(0)),
            "layer: has a mask, which no spec has; multiply it into the kernel and drop it.",
        ),
        (
            lambda: nnx.Conv(1, 1, (3,), conv_general_dilated=len, rngs=nnx.Rngs(0)),
            "layer: has a convolution function of its own, which is not read.",
        ),
        (
            lambda: nnx.Conv(1, 1, (3,), padding="FULL", rngs=nnx.Rngs(0)),
            "layer: padding 'FULL' is none of VALID, SAME, SAME_LOWER, CIRCULAR, REFLECT, CAUSAL.",
        ),
        (
            lambda: eqx.nn.ConvTranspose(
                *(1, 1, 1, 3), padding="SAME", padding_mode="CIRCULAR", key=jax.random.key(0)
            ),
            "layer: a transposed convolution has only zero padding, and this ConvTranspose has "
            "CIRCULAR, which wraps its input around.",
        ),
        (
            lambda: nnx.Linear(1, 1, rngs=nnx.Rngs(0)),
            "layer: flax.nnx.nn.linear.Linear is none that convspec reads.",
        ),
    ],
    ids=["circular", "dilated", "mask", "own function", "word", "equinox circular", "unknown"],
)
def test_layers_that_no_spec_says(make: Any, message: str) -> None:
    with refused(UnsupportedError, message):
        ConvSpec.from_native(make())


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        (
            "flax",
            ConvSpec(2, 2, (3,), groups=2, transposed=True),
            "groups: nnx.ConvTranspose has none, and there are 2.",
        ),
        (
            "flax",
            ConvSpec(1, 1, (3,), padding=1, padding_mode="replicate"),
            "padding[0] (axis W): beside zeros nnx.Conv has CIRCULAR and REFLECT, by e-1 positions "
            "in all, and this is 'replicate' by (1, 1).",
        ),
        (
            "flax",
            ConvSpec(1, 1, (3, 3), 2, padding=("same", 0)),
            "padding[0] (axis H): nnx.Conv has named padding on all axes or none, and 'same' is "
            "not on all.",
        ),
        (
            "equinox",
            ConvSpec(1, 1, (3, 3), 2, padding=("same", 0)),
            "padding[0] (axis H): equinox.nn has named padding on all axes or none, and 'same' is "
            "not on all.",
        ),
    ],
    ids=["groups", "mode", "flax named", "equinox named"],
)
def test_what_they_cannot_express(name: str, spec: ConvSpec, message: str) -> None:
    with refused(UnsupportedError, message):
        spec.to_native(name, np.ones(spec.weight_shape, "float32"))


@pytest.mark.parametrize("name", ["flax", "equinox"])
@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(2, 3, (3, 2), 2, ((1, 2), (0, 1)), padding_mode="replicate"),
        ConvSpec(2, 3, (3, 2), padding=((2, -1), (1, 0)), padding_mode="circular"),
        ConvSpec(2, 3, (3, 2), padding_mode="reflect"),
    ],
    ids=["replicate", "cropped", "nothing"],
)
def test_a_padding_layer_beside_it(name: str, spec: ConvSpec) -> None:
    rng = np.random.default_rng(0)
    x = integers(rng, (1, 2, 7, 6), "float32")
    w, b = integers(rng, spec.weight_shape, "float32"), integers(rng, (3,), "float32")
    layer = spec.to_native(name, w, b, explicit_padding=True)
    expected = spec(x, w, b)
    if name == "equinox":
        np.testing.assert_array_equal(layer(jnp.asarray(x[0])), expected[0])
    else:
        y = layer(jnp.asarray(convspec.convert_layout(x, "NCHW", "NHWC")))
        np.testing.assert_array_equal(convspec.convert_layout(y, "NHWC", "NCHW"), expected)


# ---- our own layer ----

SPEC = ConvSpec(4, 6, 3, 2, "same", groups=2, layout="NCHW", weight_layout="IOHW")


def test_functions_of_parameters() -> None:
    params = convspec_jax.init(SPEC, jax.random.key(1))
    assert {name: p.shape for name, p in params.items()} == {
        "kernel": SPEC.weight_shape,
        "bias": (6,),
    }
    native = nnx.initializers.lecun_normal()(jax.random.key(1), (3, 3, 2, 6))
    np.testing.assert_array_equal(
        params["kernel"], SPEC.in_convention("flax").convert_weight(native, to=SPEC)
    )
    assert not params["bias"].any()
    x = jnp.ones((1, 4, 5, 5))
    y = jax.jit(convspec_jax.apply, static_argnums=0)(SPEC, params, x)
    assert y.shape == (1, 6, 3, 3)
    grads = jax.grad(lambda p: convspec_jax.apply(SPEC, p, x).sum())(params)
    assert grads["kernel"].any()


def test_the_same_numbers_from_the_same_seed() -> None:
    weight, bias = convspec.initial_arrays(SPEC, 7)
    params = convspec_jax.init(SPEC, seed=7)
    module = convspec_jax.Conv(SPEC, seed=7)
    for kernel, shift in ((params["kernel"], params["bias"]), (module.kernel, module.bias)):
        np.testing.assert_array_equal(kernel, weight)
        np.testing.assert_array_equal(shift, bias)


def test_names_that_do_not_match_list_both_sides() -> None:
    with pytest.raises(ConvSpecError) as caught:
        convspec_jax.apply(SPEC, {"weight": 1, "bias": 2}, jnp.ones((1, 4, 5, 5)))
    assert str(caught.value) == (
        "params: the names do not match.\n  expected: bias, kernel\n  given: bias, weight"
    )
    with pytest.raises(ConvSpecError, match="expected: kernel\n  given: bias, kernel"):
        convspec_jax.apply(SPEC.replace(bias=False), {"kernel": 1, "bias": 2}, jnp.ones(1))


def test_a_key_or_a_seed() -> None:
    with refused(ConvSpecError, "key: give either a random key or seed=, not both."):
        convspec_jax.init(SPEC)
    with refused(ConvSpecError, "rngs: give either nnx.Rngs or seed=, not both."):
        convspec_jax.Conv(SPEC, rngs=nnx.Rngs(0), seed=1)


def test_the_nnx_module() -> None:
    spec = SPEC.in_convention("flax")
    module = convspec_jax.Conv(spec, rngs=nnx.Rngs(0))
    native = nnx.Conv(4, 6, (3, 3), 2, feature_group_count=2, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(module.kernel, native.kernel)
    assert nnx.state(module).keys() == nnx.state(native).keys() == {"kernel", "bias"}
    nnx.update(module, nnx.state(native))
    x = jnp.ones((2, 5, 5, 4))
    np.testing.assert_allclose(module(x), native(x), rtol=0, atol=0)

    @nnx.jit
    def loss(module: Any, x: Any) -> Any:
        return nnx.grad(lambda m: m(x).sum())(module)

    assert loss(module, x).kernel[...].any()
    assert ConvSpec.from_native(module) == spec
    assert layer_arrays(module)[0] is module.kernel
    bare = convspec_jax.Conv(spec.replace(bias=False), rngs=nnx.Rngs(0))
    assert bare.bias is None
    assert bare(x).shape == (2, 3, 3, 6)
