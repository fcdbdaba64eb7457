"""Pictures with captions: what is written under them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from common.captions import figures

pytestmark = pytest.mark.robustness


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_captions_stand_under_their_picture():
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in (0, 100, 200)]
    told = [["<START> a cat <END>", "a white cat"], ["a dog <NULL>", "a dog " * 12], ["", "a bird"]]
    fig = figures.captioned(pictures, told, ["written", "true"], columns=2)
    assert len(fig.axes) == 4
    assert [ax.get_visible() for ax in fig.axes] == [True, True, True, False]
    assert fig.axes[0].get_xlabel() == "written: a cat\ntrue: a white cat"
    assert max(len(line) for line in fig.axes[1].get_xlabel().splitlines()) <= 30
    assert fig.axes[1].images[0].get_array()[0, 0, 0] == 100


def test_maps_lie_over_the_whole_picture_and_boxes_where_their_word_is():
    words, looks = ["<START>", "a", "cat", "<END>"], np.full((4, 2, 3), 1 / 6)
    fig = figures.attended(np.zeros((8, 12, 3)), words, looks, {"cat": (2, 1, 5, 4), "dog": (0, 0, 1, 1)})
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == ["the picture", "a (0.17)", "cat (0.17)"]
    assert list(shown[1].images[1].get_extent()) == [0, 12, 8, 0] and not shown[1].patches
    assert shown[2].patches[0].get_bbox().bounds == (2, 1, 3, 3)


def test_bad_input():
    with pytest.raises(ValueError, match="2 words, 1 maps"):
        figures.attended(np.zeros((2, 2, 3)), ["a", "cat"], np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="at least one word"):
        figures.attended(np.zeros((2, 2, 3)), ["<END>"], np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match="1 pictures with 2 captions each are needed"):
        figures.captioned([np.zeros((2, 2, 3))], [["a"]], ["written", "true"])
    with pytest.raises(ValueError, match="at least one picture"):
        figures.captioned([], [], ["written"])
