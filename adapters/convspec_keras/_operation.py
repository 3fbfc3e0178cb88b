"""A spec called on symbolic inputs: the node of a functional model."""

from __future__ import annotations

from typing import Any

import keras

from convspec import ConvSpec, DTypeError, UnsupportedError, dtypes
from convspec.problem import wanted_size


@keras.saving.register_keras_serializable("convspec")
class Convolution(keras.Operation):  # type: ignore[misc]  # Keras's types are not looked at here
    """A call of a spec in a functional model; ``spec(keras_tensor, weight, bias)`` makes one.

    As with ``keras.ops.conv``, arrays in the call are constants, which are saved with the model's
    config; what shall be trained belongs to a layer such as :class:`convspec_keras.Conv`.

    Args:
        spec: the convolution, or what its ``to_dict`` gave.
        output_size, out_dtype: as in a call of the spec.
        name: of the node.

    Raises:
        UnsupportedError: an ``output_size`` where a spatial size of the input is not known.
        ConvSpecError: what the spec refuses, as soon as the node is made.

    >>> spec = ConvSpec(3, 8, 3, 2, "same", layout="NHWC")
    >>> Convolution(spec)(keras.Input((None, 5, 3)), np.ones((8, 3, 3, 3), "float32")).shape
    (None, None, 3, 8)
    """

    def __init__(
        self,
        spec: ConvSpec | dict[str, Any],
        *,
        output_size: Any = None,
        out_dtype: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.spec = spec if isinstance(spec, ConvSpec) else ConvSpec.from_dict(spec)
        self.output_size = wanted_size(self.spec, output_size)
        self.out_dtype = None if out_dtype is None else dtypes.name_of(out_dtype, "out_dtype")

    def call(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """The spec on arrays of Keras's backend."""
        x = keras.ops.convert_to_tensor(x)  # a NumPy array, where only the weight is symbolic
        return self.spec(x, weight, bias, output_size=self.output_size, out_dtype=self.out_dtype)

    def compute_output_spec(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """Shape and type of the result; sizes that are not known give sizes that are not known."""
        sizes = zip(self.spec.layout, x.shape, strict=False)  # a wrong number is Keras's to find
        unknown = {letter for letter, size in sizes if size is None and letter != "C"}
        late = "".join(c for c in self.spec.layout if c in unknown - {"N"})
        if late and self.output_size is not None:
            raise UnsupportedError(
                f"output_size: {self.output_size} needs to know the symbolic input's sizes on the "
                f"axes {late}.\n  Make them known, or give output_padding in place of output_size."
            )
        # On JAX, Keras narrows float64 constants to infer with, but not when the model runs.
        expected = keras.backend.standardize_dtype(x.dtype)
        for name, array in (("weight", weight), ("bias", bias)):
            dtype = getattr(array, "dtype", None)
            if dtype is not None and keras.backend.standardize_dtype(dtype) != expected:
                raise DTypeError(
                    f"{name}: is {keras.backend.standardize_dtype(dtype)}, but x is {expected}; "
                    f"convert one of them."
                )
        found = super().compute_output_spec(x, weight, bias)
        # Keras tries two numbers for an unknown size, which a large stride may take to the same.
        named = zip(self.spec.output_layout, found.shape, strict=True)
        shape = tuple(None if letter in unknown else size for letter, size in named)
        return keras.KerasTensor(shape, found.dtype)

    def get_config(self) -> dict[str, Any]:
        """What :meth:`from_config` makes an equal operation of."""
        return {
            "name": self.name,
            "spec": self.spec.to_dict(),
            "output_size": self.output_size,
            "out_dtype": self.out_dtype,
        }
