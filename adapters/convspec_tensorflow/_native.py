"""``tf.nn``'s calls, read as specs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convspec import ConvSpec, ShapeError, UnsupportedError
from convspec.arguments import shown
from convspec.geometry import extent, same_padding, transposed_size
from convspec.layouts import default_spatial
from convspec.natives import Native, groups_of, known, pointwise, sizes_of


class _Call:
    """What all of the calls have: data in one order or the other, filters always ``...IO``."""

    def __init__(self, x: Any, filters: Any, data_format: str | None, rank: int | None) -> None:
        shape, sizes = sizes_of("input", x), sizes_of("filters", filters)
        self.rank = rank or len(sizes) - 2
        if len(sizes) != self.rank + 2 or len(shape) != self.rank + 2 or self.rank < 1:
            raise ShapeError(
                f"input: a {self.rank}-D call takes {self.rank + 2} axes (of one batch axis) and "
                f"as many of filters, got shapes {shape} and {sizes}."
            )
        self.letters = default_spatial(self.rank)
        first = data_format is not None and data_format.startswith("NC")
        self.layout = f"NC{self.letters}" if first else f"N{self.letters}C"
        self.shape = dict(zip(self.layout, shape, strict=True))
        self.channels = known("input", "C", self.shape["C"])
        *kernel, self.last_but_one, self.last = (
            known("filters", letter, n)
            for letter, n in zip(f"{self.letters}IO", sizes, strict=True)
        )
        self.kernel = tuple(kernel)

    def spatial(self, name: str, value: Any) -> tuple[int, ...]:
        """One entry per axis, from one for all, one for each, or one for every axis of the data."""
        if value is None:
            return (1,) * self.rank
        values = [value] if isinstance(value, int) else [int(v) for v in value]
        if len(values) == 1:
            return tuple(values) * self.rank
        if len(values) == self.rank + 2:
            named = dict(zip(self.layout, values, strict=True))
            if named["N"] != 1 or named["C"] != 1:
                raise UnsupportedError(
                    f"{name}: {shown(values)} steps over the batch or the channels, which no spec "
                    f"does."
                )
            return tuple(named[letter] for letter in self.letters)
        if len(values) != self.rank:
            raise ShapeError(
                f"{name}: {shown(values)} should have 1, {self.rank} or {self.rank + 2} entries."
            )
        return tuple(values)

    def padding(self, value: Any) -> Any:
        """A word, or pairs, which TensorFlow wants for every axis of the data."""
        if isinstance(value, str):
            if value not in ("SAME", "VALID"):
                raise UnsupportedError(f"padding: {value!r} is none of SAME, VALID.")
            return value.lower()
        pairs = dict(zip(self.layout, (tuple(map(int, pair)) for pair in value), strict=False))
        if len(pairs) != self.rank + 2 or any(pairs["N"]) or any(pairs["C"]):
            raise UnsupportedError(
                f"padding: {shown(value)} should have a pair for each axis of {self.layout}, and "
                f"zeros for N and C."
            )
        return tuple(pairs[letter] for letter in self.letters)

    def forward(
        self, strides: Any, padding: Any, dilations: Any, *, depthwise: bool = False
    ) -> ConvSpec:
        groups = self.channels
        if not depthwise:
            groups = groups_of(self.channels, self.last_but_one, "input")
        return ConvSpec(
            self.channels,
            self.last * self.last_but_one if depthwise else self.last,
            self.kernel,
            self.spatial("strides", strides),
            self.padding(padding),
            self.spatial("dilations", dilations),
            groups,
            False,
            layout=self.layout,
            weight_layout=self.letters + ("IM" if depthwise else "IO"),
        )

    def transposed(self, output_shape: Any, strides: Any, padding: Any, dilations: Any) -> ConvSpec:
        """The spec that gives just ``output_shape``; filters are ``...OI``."""
        out = dict(zip(self.layout, (int(n) for n in output_shape), strict=True))
        stride = self.spatial("strides", strides)
        dilation = self.spatial("dilations", dilations)
        word = self.padding(padding)
        entries: list[Any] = []
        extra: list[int] = []
        for i, letter in enumerate(self.letters):
            n, s = self.shape[letter], stride[i]
            e = extent(self.kernel[i], dilation[i])
            if word == "same" and n is not None and out[letter] == n * s:
                entries.append("same")
                extra.append(0)
                continue
            n = known("input", letter, n)
            entry = (0, 0) if word == "valid" else word if word == "same" else word[i]
            if entry == "same":
                entry = same_padding(out[letter], e, s)
            entries.append(entry)
            extra.append(out[letter] - transposed_size(n, e, s, entry, 0))
            if not 0 <= extra[-1] < s:
                raise ShapeError(
                    f"output_shape: axis {letter} has {out[letter]}, which a stride of {s} does "
                    f"not map to the input's {n}."
                )
        return ConvSpec(
            self.channels,
            out["C"],
            self.kernel,
            stride,
            tuple(entries),
            dilation,
            groups_of(out["C"], self.last_but_one, "output_shape"),
            False,
            transposed=True,
            output_padding=tuple(extra),
            layout=self.layout,
            weight_layout=f"{self.letters}OI",
        )


def _forward(rank: int | None, strides: str = "strides") -> Any:
    """A reader of ``conv1d`` to ``conv3d``, and of ``convolution``."""
    if strides == "stride":

        def read_1d(
            input: Any,
            filters: Any,
            stride: Any,
            padding: Any,
            data_format: str | None = "NWC",
            dilations: Any = None,
            name: Any = None,
        ) -> ConvSpec:
            return _Call(input, filters, data_format, rank).forward(stride, padding, dilations)

        return read_1d

    def read(
        input: Any,
        filters: Any,
        strides: Any = None,
        padding: Any = "VALID",
        data_format: str | None = None,
        dilations: Any = None,
        name: Any = None,
    ) -> ConvSpec:
        return _Call(input, filters, data_format, rank).forward(strides, padding, dilations)

    return read


def _transposed(rank: int | None) -> Any:
    def read(
        input: Any,
        filters: Any,
        output_shape: Any,
        strides: Any,
        padding: Any = "SAME",
        data_format: str | None = None,
        dilations: Any = None,
        name: Any = None,
    ) -> ConvSpec:
        call = _Call(input, filters, data_format, rank)
        return call.transposed(output_shape, strides, padding, dilations)

    return read


def atrous_conv2d(value: Any, filters: Any, rate: Any, padding: Any, name: Any = None) -> ConvSpec:
    return _Call(value, filters, None, 2).forward(1, padding, rate)


def atrous_conv2d_transpose(
    value: Any, filters: Any, output_shape: Any, rate: Any, padding: Any, name: Any = None
) -> ConvSpec:
    return _Call(value, filters, None, 2).transposed(output_shape, 1, padding, rate)


def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: Any = None,
) -> ConvSpec:
    call = _Call(input, filter, data_format, 2)
    if call.last_but_one != call.channels:
        raise ShapeError(
            f"filter: has {call.last_but_one} on axis I, but the input {call.channels} channels."
        )
    return call.forward(strides, padding, dilations, depthwise=True)


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: Any = None,
) -> tuple[ConvSpec, ConvSpec]:
    first = depthwise_conv2d(input, depthwise_filter, strides, padding, data_format, dilations)
    return first, pointwise(first, "pointwise_filter", pointwise_filter)


class TensorflowNative(Native):
    """``tf.nn``'s calls. TensorFlow's layers are Keras's."""

    name = "tensorflow"
    calls = {
        tf.nn.conv1d: _forward(1, "stride"),
        tf.nn.conv2d: _forward(2),
        tf.nn.conv3d: _forward(3),
        tf.nn.convolution: _forward(None),
        tf.nn.conv1d_transpose: _transposed(1),
        tf.nn.conv2d_transpose: _transposed(2),
        tf.nn.conv3d_transpose: _transposed(3),
        tf.nn.conv_transpose: _transposed(None),
        tf.nn.atrous_conv2d: atrous_conv2d,
        tf.nn.atrous_conv2d_transpose: atrous_conv2d_transpose,
        tf.nn.depthwise_conv2d: depthwise_conv2d,
        tf.nn.separable_conv2d: separable_conv2d,
    }


native = TensorflowNative()
