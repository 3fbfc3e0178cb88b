"""A trainable layer that runs any spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from convspec import ConvSpec
from convspec.errors import LayoutError
from convspec.initial import initial_arrays
from convspec.natives import Layer
from convspec.problem import smallest_shape


@keras.saving.register_keras_serializable("convspec")
class Conv(keras.layers.Layer):  # type: ignore[misc]  # Keras's types are not looked at here
    """A convolution whose every case is one spec's, with Keras's weights and initial values.

    It saves, loads and serialises like any layer; its config holds the spec. Its weights are
    ``kernel``, in the spec's order, and ``bias`` if the spec has one.

    Args:
        spec: the convolution, or what its ``to_dict`` gave.
        seed: draw the weights by :func:`convspec.initial_arrays`, the same in every framework; by
            default the kernel is Glorot-uniform and the bias zero, as in Keras.
        options: of every Keras layer: ``name``, ``dtype``, ``trainable``.

    >>> layer = Conv(ConvSpec(3, 8, 3, 2, "same", layout="NHWC"))
    >>> layer.compute_output_shape((None, 5, 5, 3))
    (None, 3, 3, 8)
    """

    def __init__(
        self, spec: ConvSpec | dict[str, Any], *, seed: int | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.spec = spec if isinstance(spec, ConvSpec) else ConvSpec.from_dict(spec)
        self.seed = seed
        self.kernel: Any = None
        self.bias: Any = None

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights; ``input_shape`` is in ``spec.layout``."""
        self.compute_output_shape(input_shape)  # complains of shapes that do not fit
        spec = self.spec
        self.kernel = self.add_weight(
            name="kernel", shape=spec.weight_shape, initializer=self._kernel
        )
        if spec.bias:
            self.bias = self.add_weight(name="bias", shape=spec.bias_shape, initializer="zeros")
            if self.seed is not None:
                self.bias.assign(initial_arrays(spec, self.seed)[1])

    def _kernel(self, shape: Any, dtype: Any = None) -> Any:
        if self.seed is not None:
            return keras.ops.convert_to_tensor(initial_arrays(self.spec, self.seed)[0], dtype=dtype)
        # The rule depends on the order of axes, so it works on a kernel in Keras's.
        native = self.spec.in_convention("keras")
        kernel = keras.initializers.GlorotUniform()(native.weight_shape, dtype)
        return native.convert_weight(kernel, to=self.spec)

    def call(self, inputs: Any) -> Any:
        """``spec(inputs, kernel, bias)``."""
        return self.spec(inputs, self.kernel, self.bias)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """In ``spec.output_layout``; sizes that are not known give sizes that are not known."""
        spec = self.spec
        if len(input_shape) != len(spec.layout):
            raise LayoutError(
                f"input_shape: {tuple(input_shape)} should have one size for each letter of layout "
                f"{spec.layout!r}."
            )
        unknown = {c for c, n in zip(spec.layout, input_shape, strict=True) if n is None}
        # Any size will do in place of an unknown one: no other axis depends on it.
        stand_in = dict(zip(spec.layout, smallest_shape(spec), strict=True))
        given = zip(spec.layout, input_shape, strict=True)
        shape = spec.output_shape([stand_in[c] if n is None else n for c, n in given])
        named = dict(zip(spec.output_layout, shape, strict=True))
        return tuple(None if c in unknown and c != "C" else named[c] for c in spec.output_layout)

    def get_config(self) -> dict[str, Any]:
        """What :meth:`from_config` makes an equal layer of."""
        return {**super().get_config(), "spec": self.spec.to_dict(), "seed": self.seed}

    def read(self) -> Layer:
        """What :meth:`ConvSpec.from_native` makes of it."""
        return Layer(self.spec, self.kernel, self.bias)
