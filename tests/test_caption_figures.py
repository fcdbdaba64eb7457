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


def test_bad_input():
    with pytest.raises(ValueError, match="1 pictures with 2 captions each are needed"):
        figures.captioned([np.zeros((2, 2, 3))], [["a"]], ["written", "true"])
    with pytest.raises(ValueError, match="at least one picture"):
        figures.captioned([], [], ["written"])
