"""Pictures with one style all over, drawn from formulas: for style transfer where no painting can be shipped."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from common.validate import Stream, checked_sizes, stream

# Red, green and blue of the colours of a picture, dark to light.
NIGHT = ((16, 24, 66), (30, 60, 130), (62, 112, 176), (138, 176, 204), (240, 200, 70), (250, 235, 160))
TILES = ((40, 60, 90), (176, 62, 48), (46, 128, 122), (222, 160, 62), (120, 170, 200), (240, 226, 196))
SEA = ((20, 44, 92), (240, 232, 210), (44, 92, 150), (240, 232, 210), (110, 160, 190), (240, 232, 210))


def strokes(size: int = 256, length: int = 20, width: float = 1.5, rng: Stream = 0) -> np.ndarray:
    """Brush strokes that follow a flow with vortices: coloured noise, smeared along the flow.

    Cabral and Leedom, "Imaging vector fields using line integral convolution" (1993).
    Args:
        size: height and width in pixels.
        length: of a stroke, in pixels.
        width: of a stroke, about half of it in pixels.
        rng: a RandomState or a seed.
    Returns:
        uint8 (size, size, 3).
    """
    checked_sizes(size=size, length=length)
    if not 0 < width < np.inf:
        raise ValueError(f"width must be a finite number above 0, got {width}")
    rng = stream(rng)
    flow = gaussian_filter(rng.standard_normal((2, size, size)), (0, size / 12, size / 12), mode="wrap")
    flow /= np.linalg.norm(flow, axis=0)  # (2, size, size), unit vectors
    tone = _spread(gaussian_filter(rng.standard_normal((size, size)), size / 16, mode="wrap"))
    grain = _spread(gaussian_filter(rng.standard_normal((size, size)), width, mode="wrap"))
    colours = _coloured(0.5 * tone + 0.5 * grain, NIGHT)  # (size, size, 3)
    at, total = np.indices((size, size)).astype(float), np.zeros((size, size, 3))
    for _ in range(length):
        total += _sample(colours, at)
        at = at + np.stack([map_coordinates(part, at, order=1, mode="grid-wrap") for part in flow])
    light = total / length
    light = light.mean() + 1.8 * (light - light.mean())  # the mean along a stroke has lost contrast
    return np.clip(light + 12 * (grain - 0.5)[..., None], 0, 255).astype(np.uint8)


def mosaic(size: int = 256, tile: int = 14, rng: Stream = 0) -> np.ndarray:
    """Tiles with dark joints: each pixel belongs to the nearest of many points (a Voronoi diagram).

    Args:
        size: height and width in pixels.
        tile: mean width of a tile, in pixels.
        rng: a RandomState or a seed.
    Returns:
        uint8 (size, size, 3).
    """
    checked_sizes(size=size, tile=tile)
    rng = stream(rng)
    grid = np.stack(np.meshgrid(*2 * [np.arange(-tile, size + tile, tile)], indexing="ij"), axis=-1).reshape(-1, 2)
    points = grid + rng.uniform(0, 0.7 * tile, grid.shape)  # (K, 2)
    tone = np.sin(points[:, 0] / size * 7) + np.sin(points[:, 1] / size * 9 + 1) + rng.uniform(-1, 1, len(points))
    colours = _coloured(_spread(tone), TILES) + rng.uniform(-14, 14, (len(points), 3))
    pixels = np.indices((size, size)).reshape(2, -1).T
    distance, nearest = cKDTree(points).query(pixels, k=2)  # (size^2, 2) each
    inside = np.clip((distance[:, 1] - distance[:, 0]) / (0.2 * tile), 0.15, 1)
    return np.clip(colours[nearest[:, 0]] * inside[:, None], 0, 255).astype(np.uint8).reshape(size, size, 3)


def waves(size: int = 256, radius: int = 24) -> np.ndarray:
    """Overlapping fans of rings, row before row, as on Japanese prints and cloth (seigaiha).

    Args:
        size: height and width in pixels.
        radius: of a fan, in pixels.
    Returns:
        uint8 (size, size, 3).
    """
    checked_sizes(size=size, radius=radius)
    y, x = np.indices((size, size)) + 0.5
    picture = np.zeros((size, size, 3))
    for row in range(-2, 2 * size // radius + 3):
        middle = row * radius / 2
        beside = (x + (row % 2) * radius) % (2 * radius) - radius  # to the middle of the nearest fan of this row
        distance = np.hypot(beside, y - middle) / radius
        ring = _coloured(np.clip(1 - distance, 0, 0.999), SEA)
        picture = np.where((distance < 1)[..., None], ring, picture)
    return gaussian_filter(picture, (0.6, 0.6, 0)).astype(np.uint8)


def _spread(values: np.ndarray) -> np.ndarray:
    """Ranks of the values, from 0 to 1: every colour gets the same area."""
    return (values.ravel().argsort().argsort() / values.size).reshape(values.shape)


def _coloured(tone: np.ndarray, palette: tuple) -> np.ndarray:
    """(...) from 0 to below 1 -> (..., 3), the palette's colours in equal steps."""
    return np.array(palette, float)[(tone * len(palette)).astype(int).clip(0, len(palette) - 1)]


def _sample(picture: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The colours (H, W, 3) at places (2, H, W), between the pixels too."""
    return np.stack([map_coordinates(picture[..., c], at, order=1, mode="grid-wrap") for c in range(3)], axis=-1)
