"""Augmentation on whole batches against NumPy, torchvision and a loop over single pictures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as vision

from common.data.cifar10 import MEAN, STD
from common.pytorch import augment
from tests.random_pictures import pictures


@pytest.mark.learner
def test_normalise_against_torchvision():
    x = pictures(3)
    want = vision.normalize(x.double() / 255, MEAN, STD)
    torch.testing.assert_close(augment.normalise(x, torch.float64), want)
    assert augment.normalise(x).dtype == torch.float32


@pytest.mark.robustness
@given(st.integers(3, 8), st.integers(3, 8), st.integers(0, 2))
@settings(deadline=None, max_examples=20)
def test_padding_is_that_of_numpy(height, width, margin):
    x = np.random.RandomState(0).randint(0, 256, (2, 3, height, width)).astype(np.uint8)
    want = np.pad(x, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="reflect")
    np.testing.assert_array_equal(augment.pad_reflect(torch.from_numpy(x), margin), want)


@pytest.mark.learner
@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_crop_and_mirror_against_a_loop(seed):
    rng = np.random.RandomState(seed)
    x, (top, left), flip = torch.from_numpy(rng.rand(5, 3, 9, 10)), rng.randint(0, 4, (2, 5)), rng.rand(5) < 0.5
    got = augment.mirror(augment.crop(x, torch.from_numpy(top), torch.from_numpy(left), 6), torch.from_numpy(flip))
    for i in range(5):
        want = x[i, :, top[i] : top[i] + 6, left[i] : left[i] + 6].numpy()
        np.testing.assert_array_equal(got[i], want[:, :, ::-1] if flip[i] else want)


@pytest.mark.learner
def test_alternating_flips_show_both_sides_in_two_epochs():
    coin = torch.rand(50, generator=torch.Generator().manual_seed(0)) < 0.5
    first, second, third = (augment.flips(coin, epoch) for epoch in range(3))
    assert (first ^ second).all()
    assert torch.equal(first, third)
    assert not augment.flips(coin, 1, "none").any()


@pytest.mark.learner
def test_random_flips_are_a_new_fair_coin_each_epoch():
    coin, draw = torch.zeros(10_000, dtype=torch.bool), torch.Generator().manual_seed(3)
    first, second = (augment.flips(coin, epoch, "random", draw) for epoch in range(2))
    for share in (first.double().mean(), second.double().mean(), (first ^ second).double().mean()):
        assert abs(share - 0.5) < 0.02  # four standard deviations
    assert torch.equal(first, augment.flips(coin, 5, "random", torch.Generator().manual_seed(3)))


@pytest.mark.learner
@pytest.mark.parametrize("mirrored", [False, True])
def test_views_against_numpy_padding(mirrored):
    x, shifts = pictures(2), ((0, 0), (1, 0), (-2, 1))
    got = augment.views(x, shifts, mirrored)
    assert len(got) == len(shifts) * (2 if mirrored else 1)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    for view, (down, right) in zip(got, shifts, strict=False):
        moved = np.roll(padded, (down, right), (2, 3))[:, :, 2:-2, 2:-2]
        np.testing.assert_array_equal(view, moved)
    for plain, flipped in zip(got, got[len(shifts) :], strict=False):
        assert torch.equal(vision.hflip(plain), flipped)


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: augment.normalise(torch.zeros(1, 3, 4, 4)), TypeError, "uint8"),
        (lambda: augment.normalise(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)), ValueError, "images"),
        (lambda: augment.pad_reflect(pictures(1), 32), ValueError, "margin"),
        (lambda: augment.pad_reflect(pictures(1), -1), ValueError, "margin"),
        (lambda: augment.crop(torch.zeros(1, 3, 4, 4), torch.zeros(1), torch.zeros(1)), ValueError, "padded"),
        (lambda: augment.crop(torch.zeros(2, 3, 4, 4), torch.zeros(1), torch.zeros(2), 3), ValueError, "top and left"),
        (lambda: augment.flips(torch.ones(2) > 0, 0, "sometimes"), ValueError, "how"),
        (lambda: augment.views(pictures(1), ()), ValueError, "shifts"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
