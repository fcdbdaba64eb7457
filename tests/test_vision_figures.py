"""Grids of pictures, and animations that can be read back."""

import io

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np
import pytest

from common.vision.figures import gif, grid


def frames(count=3):
    rng = np.random.RandomState(0)
    return [rng.randint(0, 256, (20 + i, 20 + i, 3), np.uint8) for i in range(count)]


def test_gif():
    content = gif(frames(), size=16)
    assert imageio.imread(io.BytesIO(content), index=None, extension=".gif").shape == (3, 16, 16, 3)
    assert content == gif(frames(), size=16)  # the outputs of a notebook are the same bytes twice
    assert imageio.imread(io.BytesIO(gif(frames(1))), extension=".gif").shape[-3:] == (112, 112, 3)
    with pytest.raises(ValueError, match="no picture"):
        gif([])


def test_grid():
    map_ = np.random.RandomState(0).rand(8, 8)
    fig = grid([[*frames(2), map_], [np.zeros((8, 8))]], ["a", "b", "c"], ["first", "second"])
    assert [ax.get_title() for ax in fig.axes] == ["a", "b", "c", "", "", ""]
    assert len(fig.axes[2].images) == 1
    assert not fig.axes[5].images
    fig = grid([frames(2)], titles=[["x", "y"]])
    assert [ax.get_title() for ax in fig.axes] == ["x", "y"]
    plt.close("all")
