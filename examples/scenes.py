"""Inputs for the examples: a photograph, a clip panned over it, and a cube of many bands."""

from __future__ import annotations

import numpy as np

import convspec


def photograph() -> tuple[np.ndarray, str]:
    """A colour picture (512, 512, 3) in [0, 1], and what it is."""
    try:
        from skimage import data
    except ImportError:
        return waves(512), "waves (install scikit-image for a photograph)"
    return data.astronaut().astype(np.float32) / 255, "photograph (scikit-image: astronaut)"


def waves(size: int, seed: int = 0) -> np.ndarray:
    """A smooth picture (size, size, 3) in [0, 1]: random plane waves of 16 to 128 pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    picture = np.zeros((size, size, 3))
    for _ in range(24):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        pitch = 2 * np.pi / rng.uniform(16, 128)
        wave = np.sin(pitch * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        picture += wave[..., None] * rng.uniform(0, 1, 3)
    low, high = picture.min(), picture.max()
    return ((picture - low) / (high - low)).astype(np.float32)


def shrunk(picture: np.ndarray, factor: int) -> np.ndarray:
    """A picture (H, W, C) with means over factor x factor pixels."""
    h, w = (n // factor for n in picture.shape[:2])
    blocks = picture[: h * factor, : w * factor].reshape(h, factor, w, factor, -1)
    return blocks.mean((1, 3), dtype=np.float32)


def clip(
    picture: np.ndarray, frames: int, size: tuple[int, int], step: tuple[int, int]
) -> np.ndarray:
    """A window that moves over a picture (H, W, C), as a batch of one clip (N, C, D, H, W).

    Args:
        picture: what the camera pans over.
        frames: number of frames.
        size: height and width of the window.
        step: rows and columns it moves down and right from one frame to the next; the contents
            move the other way.
    """
    corner = [
        (n - m - (frames - 1) * s) // 2
        for n, m, s in zip(picture.shape[:2], size, step, strict=True)
    ]
    windows = []
    for i in range(frames):
        top, left = (c + i * s for c, s in zip(corner, step, strict=True))
        windows.append(picture[top : top + size[0], left : left + size[1]])
    return np.ascontiguousarray(convspec.convert_layout(np.stack(windows)[None], "NDHWC", "NCDHW"))


def cube(picture: np.ndarray, bands: int) -> np.ndarray:
    """A picture (H, W, 3) spread over bands from 400 to 700 nm, as (N, C, D, H, W), D the bands.

    Each pixel's spectrum is the straight line between its blue, green and red at 465, 545 and
    610 nm. It has a hyperspectral image's shape and smoothness, and no more information than
    three colours.
    """
    wavelengths = np.linspace(400, 700, bands)
    shares = [np.interp(wavelengths, (465, 545, 610), one) for one in np.eye(3)[::-1]]
    spectra = picture @ np.array(shares, np.float32)
    return np.ascontiguousarray(convspec.convert_layout(spectra[None, ..., None], "NHWDC", "NCDHW"))
