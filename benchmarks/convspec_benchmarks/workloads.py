"""The convolutions that are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convspec import ConvSpec
from convspec.layouts import default_spatial

#: The two data layouts of every workload.
LAYOUTS = ("channels_first", "channels_last")


@dataclass(frozen=True)
class Workload:
    """A convolution and the size of its input.

    Attributes:
        name: what reports call it.
        spec: in any layout; without a bias.
        sizes: of each letter of the spec's layout.
    """

    name: str
    spec: ConvSpec
    sizes: dict[str, int]

    def in_layout(self, layout: str, convention: str) -> tuple[ConvSpec, tuple[int, ...]]:
        """The spec with data in ``layout`` and weights in a framework's order; and the shape."""
        batch = "N" if "N" in self.spec.layout else ""
        space = self.spec.spatial
        letters = f"{batch}C{space}" if layout == "channels_first" else f"{batch}{space}C"
        spec = self.spec.in_convention(convention).replace(layout=letters, output_layout=letters)
        return spec, tuple(self.sizes[letter] for letter in letters)


def of_spec(name: str, spec: ConvSpec, shape: tuple[int, ...]) -> Workload:
    """A workload of a user's own."""
    spec.output_shape(shape)  # says what does not fit
    return Workload(name, spec.replace(bias=False), dict(zip(spec.layout, shape, strict=True)))


def _workload(
    name: str, shape: tuple[int, ...], out_channels: int, kernel: Any, **rest: Any
) -> Workload:
    layout = "NC" + default_spatial(len(shape) - 2)
    spec = ConvSpec(shape[1], out_channels, kernel, bias=False, layout=layout, **rest)
    return Workload(name, spec, dict(zip(layout, shape, strict=True)))


WORKLOADS: dict[str, Workload] = {
    work.name: work
    for work in (
        _workload("ecg", (8, 16, 5000), 32, 5, padding=2),
        _workload("audio", (4, 64, 16000), 64, 3, dilation=8, padding="causal"),
        _workload("stem", (1, 3, 224, 224), 64, 7, stride=2, padding=3),
        _workload("res56-b1", (1, 64, 56, 56), 64, 3, padding=1),
        _workload("res56-b8", (8, 64, 56, 56), 64, 3, padding=1),
        _workload("res14", (8, 256, 14, 14), 256, 3, padding=1),
        _workload("point", (1, 256, 56, 56), 64, 1),
        _workload("depthwise", (8, 128, 56, 56), 128, 3, padding=1, groups=128),
        _workload("resnext", (8, 128, 56, 56), 128, 3, padding=1, groups=32),
        _workload("atrous", (2, 64, 64, 64), 64, 3, dilation=4, padding="same"),
        _workload("same-even", (4, 32, 65, 65), 64, 4, stride=2, padding="same"),
        _workload("reflect", (2, 32, 128, 128), 32, 7, padding=3, padding_mode="reflect"),
        _workload("up2d", (4, 128, 32, 32), 64, 4, stride=2, padding=1, transposed=True),
        _workload("c3d1", (1, 3, 16, 112, 112), 64, 3, padding=1),
        _workload("c3d2", (1, 64, 16, 56, 56), 128, 3, padding=1),
        _workload("c3d5", (1, 512, 2, 7, 7), 512, 3, padding=1),
        _workload("video-s2", (2, 3, 10, 224, 224), 64, 3, stride=2, padding=1),
        _workload(
            "video-122",
            (2, 3, 10, 224, 224),
            64,
            (2, 3, 3),
            stride=(1, 2, 2),
            padding=(0, 1, 1),
        ),
        _workload("ct5", (1, 1, 64, 64, 64), 16, 5, padding=2),
        _workload("unet3d", (1, 32, 48, 48, 48), 32, 3, padding=1),
        _workload("depthwise3d", (1, 64, 16, 56, 56), 64, 3, padding=1, groups=64),
        _workload("grouped3d", (1, 64, 16, 28, 28), 64, 3, padding=1, groups=4),
        _workload("atrous3d", (1, 32, 32, 32, 32), 32, 3, dilation=2, padding="same"),
        _workload("up3d", (1, 64, 16, 16, 16), 32, 2, stride=2, transposed=True),
        _workload("tiny", (1, 2, 4, 4, 4), 4, 3, padding=1),
    )
}
