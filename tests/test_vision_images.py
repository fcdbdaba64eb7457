"""Pictures in and out of the networks: values, shapes, shifts, blur, files, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from common.vision import images

torch.manual_seed(0)


def picture(height=40, width=30, seed=0):
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8))


@settings(max_examples=30, deadline=None)
@given(st.integers(-40, 40), st.integers(-40, 40), st.integers(1, 9), st.integers(1, 9))
def test_jitter_is_undone(ox, oy, height, width):
    X = torch.randn(2, 3, height, width)
    assert torch.equal(images.jitter(images.jitter(X, ox, oy), -ox, -oy), X)


def test_jitter_goes_right_and_down():
    X = torch.zeros(1, 1, 4, 5)
    X[0, 0, 1, 2] = 1
    moved = images.jitter(X, 1, 2)  # one to the right, two down
    assert moved[0, 0, 3, 3] == 1
    assert X[0, 0, 1, 2] == 1  # X itself stays


def test_deprocess_undoes_preprocess():
    img = picture()
    back = np.array(images.deprocess(images.preprocess(img, 30), should_rescale=False))
    assert np.abs(back.astype(int) - np.array(img)).max() <= 1


def test_preprocess_follows_the_formula():
    img = picture(30, 30)
    want = (np.array(img) / 255 - images.SQUEEZENET_MEAN) / images.SQUEEZENET_STD
    got = images.preprocess(img, 30)
    assert got.shape == (1, 3, 30, 30)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got[0].permute(1, 2, 0), want, atol=1e-5)


def test_preprocess_scales_the_shorter_side():
    assert images.preprocess(picture(40, 30), 15).shape == (1, 3, 20, 15)
    assert images.preprocess(picture(40, 30).convert("L"), 30).shape == (1, 3, 40, 30)
    assert images.preprocess(picture(40, 30).convert("RGBA"), 30).shape == (1, 3, 40, 30)


def test_rescale():
    x = torch.tensor([-2.0, 0.0, 6.0])
    np.testing.assert_allclose(images.rescale(x), [0, 0.25, 1])
    assert torch.equal(images.rescale(torch.ones(2, 2)), torch.full((2, 2), 0.5))  # not NaN
    assert np.array(images.deprocess(torch.zeros(1, 3, 4, 4))).dtype == np.uint8


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.3, 4))
def test_blur_is_a_gaussian_in_place(height, width, sigma):
    X = torch.randn(2, 3, height, width, dtype=torch.float64)
    want = gaussian_filter(X.numpy(), sigma, axes=(2, 3))
    assert images.blur_image(X, sigma) is X
    np.testing.assert_allclose(X, want, atol=1e-12)


def test_blur_of_zero_does_nothing():
    X = torch.randn(1, 3, 5, 5)
    assert torch.equal(images.blur_image(X.clone(), 0), X)


def test_blur_works_on_a_leaf_that_needs_a_gradient():
    X = torch.randn(1, 3, 5, 5, requires_grad=True)
    images.blur_image(X, 1)
    assert X.is_leaf
    assert X.grad is None


def test_octaves_grow_to_the_size():
    assert images.octave_sizes((200, 100), 3, 2) == [(50, 25), (100, 50), (200, 100)][1:]  # 25 is below 32
    assert images.octave_sizes((224, 224), 3, 1.4) == [(114, 114), (160, 160), (224, 224)]
    assert images.octave_sizes((8, 8)) == [(8, 8)]


def test_resize():
    X = torch.randn(1, 3, 8, 8)
    assert images.resize(X, (8, 8)) is X
    flat = images.resize(torch.full((1, 3, 8, 8), 0.3), (5, 11))
    assert flat.shape == (1, 3, 5, 11)
    np.testing.assert_allclose(flat, 0.3, atol=1e-6)


def test_files(tmp_path):
    img = picture(40, 30)
    img.save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.load_image(tmp_path / "a.png"), np.array(img))
    assert images.load_image(tmp_path / "a.png", size=15).shape == (20, 15, 3)
    np.testing.assert_array_equal(images.image_from_url(tmp_path / "a.png"), np.array(img))
    img.convert("L").save(tmp_path / "grey.png")
    assert images.load_image(tmp_path / "grey.png").shape == (40, 30, 3)


@pytest.mark.robustness
def test_no_network_gives_a_placeholder(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>gone</html>")
    for place in ("http://127.0.0.1:9/a.jpg", tmp_path / "none.png", tmp_path / "page.jpg"):
        assert images.image_from_url(place).shape == (224, 224, 3)


@pytest.mark.robustness
def test_bad_input_is_named(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>gone</html>")
    with pytest.raises(FileNotFoundError):
        images.load_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"page\.jpg is not a picture"):
        images.load_image(tmp_path / "page.jpg")
    with pytest.raises(TypeError, match="PIL picture"):
        images.preprocess(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="size"):
        images.preprocess(picture(), 0)
    with pytest.raises(ValueError, match=r"\(1, 3, H, W\)"):
        images.deprocess(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="sigma"):
        images.blur_image(torch.zeros(1, 3, 4, 4), -1)
    with pytest.raises(ValueError, match=r"\(N, C, H, W\).*\(3, 4, 4\)"):
        images.jitter(torch.zeros(3, 4, 4), 1, 1)
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch\.uint8"):
        images.checked_picture(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "X")
    with pytest.raises(ValueError, match="scale"):
        images.octave_sizes((64, 64), 2, 1.0)
    with pytest.raises(ValueError, match="octaves"):
        images.octave_sizes((64, 64), 0)
