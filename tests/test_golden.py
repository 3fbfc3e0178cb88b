"""The worked examples, exact on every backend."""

from __future__ import annotations

import numpy as np
import pytest

import convspec
from convspec import ConvSpec

FILTER = """
1 0 0 0 1 0 1 0 0   0 1 0 0 0 1 0 0 0   1 1 0 0 0 0 0 1 0   0 1 1 0 1 0 0 0 0
"""


def run(backend: convspec.Backend, spec: ConvSpec, *arrays: np.ndarray) -> np.ndarray:
    return backend.to_numpy(spec(*map(backend.from_foreign, arrays)))


def test_hand_made_layouts(backend: convspec.Backend) -> None:
    x = np.linspace(1, 96, 96).reshape(1, 3, 2, 4, 4)
    w = np.array(FILTER.split(), float).reshape(1, 2, 2, 3, 3)
    expected = np.array([[[321, 332], [365, 376]], [[673, 684], [717, 728]]])
    spec = ConvSpec(2, 1, (2, 3, 3), layout="NDCHW", weight_layout="ODIHW")
    y = run(backend, spec, x, w)
    assert y.shape == (1, 2, 1, 2, 2)
    assert np.array_equal(y[0, :, 0], expected)

    last = spec.in_convention("tensorflow")
    x_last = convspec.convert_layout(x, "NDCHW", last.layout)
    w_last = spec.convert_weight(w, last)
    assert np.array_equal(x_last, x.transpose(0, 1, 3, 4, 2))
    assert np.array_equal(w_last, w.transpose(1, 3, 4, 2, 0))
    y = run(backend, last, x_last, w_last)
    assert y.shape == (1, 2, 2, 2, 1)
    assert np.array_equal(y[0, ..., 0], expected)


@pytest.mark.parametrize(
    ("input_shape", "kernel", "filters", "output_shape"),
    [
        ((14, 14, 3), (5, 5), 16, (10, 10, 16)),
        ((10, 10, 16), (5, 5), 32, (6, 6, 32)),
        ((14, 1), (5,), 16, (10, 16)),
        ((10, 16), (5,), 32, (6, 32)),
        ((14, 14, 14, 1), (5, 5, 5), 16, (10, 10, 10, 16)),
        ((10, 10, 10, 16), (5, 5, 5), 32, (6, 6, 6, 32)),
        ((6, 6, 3), (3, 3), 1, (4, 4, 1)),
        ((6, 6, 3), (3, 3), 2, (4, 4, 2)),
        ((224, 224, 3), (5, 5), 32, (220, 220, 32)),
    ],
)
def test_table_of_shapes(
    input_shape: tuple, kernel: tuple, filters: int, output_shape: tuple, backend: convspec.Backend
) -> None:
    layout = "DHW"[-len(kernel) :] + "C"
    spec = ConvSpec(input_shape[-1], filters, kernel, layout=layout)
    assert spec.output_shape(input_shape) == output_shape
    y = run(backend, spec, np.ones(input_shape, "float32"), np.ones(spec.weight_shape, "float32"))
    assert y.shape == output_shape
    assert (y == np.prod(kernel) * input_shape[-1]).all()


def test_edge_detectors(backend: convspec.Backend) -> None:
    """Left half bright in one plane: an R-only filter sees R alone, a filter in all planes any."""
    vertical = np.array([[1, 0, -1]] * 3, "float32")
    spec = ConvSpec(3, 1, (3, 3), layout="HWC", weight_layout="HWIO")
    red_only = np.zeros((3, 3, 3, 1), "float32")
    red_only[:, :, 0, 0] = vertical
    everywhere = np.repeat(vertical[:, :, None, None], 3, axis=2)
    for plane in range(3):
        image = np.zeros((6, 6, 3), "float32")
        image[:, :3, plane] = 10
        seen = run(backend, spec, image, red_only)[..., 0]
        edge = np.array([[0, 30, 30, 0]] * 4)
        assert np.array_equal(seen, edge if plane == 0 else 0 * edge)
        assert np.array_equal(run(backend, spec, image, everywhere)[..., 0], edge)
    both = np.concatenate([everywhere, everywhere.transpose(1, 0, 2, 3)], axis=3)
    assert run(backend, spec.replace(out_channels=2), image, both).shape == (4, 4, 2)


def test_one_window_by_hand(backend: convspec.Backend) -> None:
    windows = ["000001001", "000011002", "000020000"]
    weights = [[1, 1, -1, -1, 0, 1, -1, -1, 0], [-1, 0, -1, 0, 0, -1, 1, -1, 0]]
    weights += [[0, 1, 0, 1, 0, 1, 0, -1, 1]]
    x = np.zeros((1, 3, 5, 5), "float32")
    for plane, text in enumerate(windows):  # the window reaches one position into the padding
        x[0, plane, :2, :2] = np.array(list(text), "float32").reshape(3, 3)[1:, 1:]
    w = np.zeros((2, 3, 3, 3), "float32")
    w[0] = np.array(weights, "float32").reshape(3, 3, 3)
    spec = ConvSpec(3, 2, (3, 3), stride=2, padding=1)
    y = run(backend, spec, x, w, np.ones(2, "float32"))
    assert y.shape == (1, 2, 3, 3)
    assert y[0, 0, 0, 0] == 1
