"""Drawn styles: the same bytes for the same seed, the sizes asked for, and what each one promises."""

import numpy as np
import pytest

from common.vision.style_pictures import SEA, TILES, mosaic, strokes, waves


@pytest.mark.parametrize("draw", [strokes, mosaic, waves])
@pytest.mark.parametrize("size", [1, 37, 64])
def test_bytes_and_sizes(draw, size):
    picture = draw(size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(draw(size), picture)


@pytest.mark.parametrize("draw", [strokes, mosaic])
def test_seeds_differ(draw):
    assert (draw(32, rng=1) != draw(32, rng=2)).any()


def test_strokes_are_longer_along_the_flow():
    """Smearing takes away differences of neighbours."""
    changes = [np.abs(np.diff(strokes(64, length=length).astype(float), axis=0)).mean() for length in (1, 20)]
    assert changes[1] < changes[0] / 2


def test_larger_tiles_have_fewer_joints():
    edges = [np.abs(np.diff(mosaic(96, tile).astype(float), axis=0)).mean() for tile in (8, 24)]
    assert edges[0] > 1.5 * edges[1]
    assert mosaic(96, 24).std(axis=(0, 1)).min() > np.std(TILES, axis=0).min() / 4


def test_waves_repeat():
    """A fan is twice its radius wide, and the rows two after one another are a radius apart."""
    picture = waves(96, radius=12).astype(int)
    inner = picture[24:72, 24:72]
    np.testing.assert_array_equal(inner, picture[24:72, 48:96])
    np.testing.assert_array_equal(inner[:, :24], picture[36:84, 24:48])
    assert picture.max() <= np.max(SEA)


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("draw", "options", "message"),
    [
        (strokes, {"size": 0}, "size"),
        (strokes, {"length": 0}, "length"),
        (strokes, {"width": 0}, "width"),
        (mosaic, {"tile": 0}, "tile"),
        (mosaic, {"size": 0}, "size"),
        (waves, {"radius": 0}, "radius"),
        (waves, {"size": -1}, "size"),
    ],
)
def test_bad_input_is_named(draw, options, message):
    with pytest.raises(ValueError, match=message):
        draw(**options)
