"""Image features against scikit-image, Matplotlib, loops over pixels, and conservation of gradient magnitude."""

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import rgb_to_hsv
from skimage.color import rgb2gray
from skimage.feature import hog

from common import features
from common.features import (
    color_cells,
    color_histogram_hsv,
    extract_features,
    feature_scale,
    fold_orientation,
    forward_differences,
    hog_feature,
    orientation_histograms,
    scale_features,
    to_grey,
    to_hue,
)

seeds = st.integers(0, 2**31)


def picture(seed=0, shape=(32, 32, 3), dtype=np.uint8):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(dtype)


def ramp(degrees, side=32):
    """A grey plane that rises by one level a pixel in the given direction."""
    y, x = np.mgrid[:side, :side]
    return np.cos(np.radians(degrees)) * x + np.sin(np.radians(degrees)) * y


# Grey --------------------------------------------------------------------------------------------------------


@pytest.mark.learner
def test_grey_weights_are_those_of_the_standard():
    primaries = np.eye(3).reshape(1, 3, 3) * 100
    np.testing.assert_allclose(to_grey(primaries), [[29.9, 58.7, 11.4]])


@pytest.mark.learner
def test_grey_of_grey_is_itself():
    grey = np.full((8, 8, 3), 200, np.uint8)  # published weights .299/.587/.144 make 206 of it
    np.testing.assert_allclose(to_grey(grey), 200)
    np.testing.assert_array_equal(to_grey(grey[..., 0]), np.full((8, 8), 200.0))


@pytest.mark.learner
def test_grey_is_close_to_the_later_standard_of_scikit_image():
    im = picture(1)  # BT.709 weighs .2125/.7154/.0721
    assert np.corrcoef(to_grey(im).ravel(), rgb2gray(im).ravel())[0, 1] > 0.97


# HOG ---------------------------------------------------------------------------------------------------------


def hog_by_loops(im, orientations=9, cell=8):
    """Pixel by pixel with colour weights and angles written out; no NumPy arithmetic."""
    H, W = im.shape[:2]
    grey = [[0.299 * float(r) + 0.587 * float(g) + 0.114 * float(b) for r, g, b in row] for row in im]
    histogram = np.zeros((H // cell, W // cell, orientations))
    for i in range(H):
        for j in range(W):
            gx = grey[i][j + 1] - grey[i][j] if j + 1 < W else 0.0
            gy = grey[i + 1][j] - grey[i][j] if i + 1 < H else 0.0
            angle = np.degrees(np.arctan2(gy, gx))
            angle = angle + 180 if angle < 0 else angle
            k = int(angle // (180 / orientations)) % orientations
            histogram[i // cell, j // cell, k] += (gx * gx + gy * gy) ** 0.5 / cell**2
    return histogram.ravel()


@pytest.mark.learner
@given(
    seeds,
    st.sampled_from([(32, 32), (16, 24), (8, 40)]),
    st.sampled_from([1, 4, 9, 12]),
    st.sampled_from([4, 8]),
    st.sampled_from([np.uint8, np.int16, np.float32, np.float64]),
)
@settings(max_examples=20, deadline=None)
def test_hog_is_what_loops_over_pixels_give(seed, size, orientations, cell, dtype):
    # Whole numbers make exact ties of angles with interval borders: add fractions to avoid them.
    im = picture(seed, (*size, 3), dtype)
    if dtype not in (np.uint8, np.int16):
        im = im + np.random.RandomState(seed).rand(*im.shape).astype(dtype)
    got = hog_feature(im, orientations, cell)
    assert got.shape == (size[0] // cell * (size[1] // cell) * orientations,)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, hog_by_loops(im.astype(np.float64), orientations, cell), atol=1e-4)


@pytest.mark.learner
@given(seeds, st.sampled_from([4, 8, 16]), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_no_gradient_is_dropped(seed, cell, orientations):
    """The published code adds 90 to a signed angle and then ignores what lies outside 0..180: half of it."""
    im = picture(seed)
    magnitude, _ = fold_orientation(*forward_differences(to_grey(im)))
    mass = hog_feature(im, orientations, cell).reshape(32 // cell, 32 // cell, orientations).sum(axis=2)
    want = magnitude.reshape(32 // cell, cell, 32 // cell, cell).mean(axis=(1, 3))
    np.testing.assert_allclose(mass, want, rtol=1e-12)


@pytest.mark.learner
@pytest.mark.parametrize("degrees", range(-170, 190, 10))
def test_a_ramp_votes_for_its_own_direction(degrees):
    magnitude, angle = fold_orientation(*forward_differences(ramp(degrees + 3)))  # off the borders of the intervals
    inner = orientation_histograms(magnitude, angle).reshape(4, 4, 9)[:3, :3]
    np.testing.assert_allclose(inner.sum(axis=2), 1)
    assert np.all(inner.argmax(axis=2) == int((degrees + 3) % 180 // 20))


@pytest.mark.learner
def test_opposite_gradients_fall_into_one_interval():
    im = picture(3)
    np.testing.assert_allclose(hog_feature(im), hog_feature(255 - im.astype(float)), atol=1e-9)


@pytest.mark.robustness
def test_tiny_negative_angles_keep_their_vote():
    _, angle = fold_orientation(np.array([1.0, 1.0, -1.0, -1.0]), np.array([-1e-20, 0.0, 1e-20, -0.0]))
    np.testing.assert_array_equal(angle, 0)  # -1e-20 % 180 is 180.0, an interval that does not exist


@pytest.mark.learner
@given(st.floats(-1, 1), st.floats(-1, 1))
def test_folded_angles_are_below_180(gx, gy):
    magnitude, angle = fold_orientation(np.array([gx]), np.array([gy]))
    assert 0 <= angle[0] < 180
    assert magnitude[0] >= 0


@pytest.mark.robustness
@pytest.mark.parametrize("orientations", range(1, 64))
def test_the_last_angle_below_180_has_an_interval(orientations):
    histogram = orientation_histograms(np.ones((8, 8)), np.full((8, 8), np.nextafter(180, 0)), orientations)
    np.testing.assert_array_equal(histogram[0, 0], np.eye(orientations)[-1])


@pytest.mark.learner
def test_unsigned_bytes_do_not_wrap_around():
    stripes = np.tile(np.array([200, 10], np.uint8), (8, 4))  # 10 - 200 is 66 in uint8
    gx, _ = forward_differences(to_grey(stripes))
    assert set(np.unique(gx)) == {-190.0, 0.0, 190.0}
    im = picture(4)
    np.testing.assert_array_equal(hog_feature(im), hog_feature(im.astype(np.float64)))


@pytest.mark.learner
def test_flat_pictures_and_shifts_of_brightness():
    np.testing.assert_array_equal(hog_feature(np.full((32, 32), 77, np.uint8)), np.zeros(144))
    im = picture(5).astype(float)
    np.testing.assert_allclose(hog_feature(im + 30), hog_feature(im), atol=1e-9)
    np.testing.assert_allclose(hog_feature(3 * im), 3 * hog_feature(im), rtol=1e-9)  # contrast is not divided out


@pytest.mark.learner
def test_cells_are_in_reading_order():
    im = np.zeros((32, 32))
    im[2, 13] = 9  # first row of cells, second column
    assert set(np.flatnonzero(hog_feature(im)) // 9) == {1}


@pytest.mark.robustness
def test_the_picture_is_left_alone_and_may_be_a_view():
    im = picture(6)
    before = im.copy()
    hog_feature(im), color_histogram_hsv(im)
    np.testing.assert_array_equal(im, before)
    np.testing.assert_array_equal(hog_feature(im[:, ::-1]), hog_feature(im[:, ::-1].copy()))
    np.testing.assert_array_equal(to_hue(im.transpose(1, 0, 2)), to_hue(im).T)


# HOG beside scikit-image ---------------------------------------------------------------------------------------


def central_differences(grey):
    """scikit-image's gradient: next minus previous, not halved, 0 along the border."""
    gx, gy = np.zeros_like(grey), np.zeros_like(grey)
    gx[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    gy[1:-1, :] = grey[2:, :] - grey[:-2, :]
    return gx, gy


@pytest.mark.learner
@given(seeds, st.sampled_from([6, 9, 12]), st.sampled_from([4, 8]))
@settings(max_examples=30, deadline=None)
def test_agrees_with_scikit_image_up_to_stated_conventions(seed, orientations, cell):
    """scikit-image differs in the differences (central) and in normalising blocks. With its differences in our
    pipeline, blocks of one cell and our cells divided by their sum, everything else has to be equal."""
    grey = np.random.RandomState(seed).rand(32, 32) * 255
    cells = orientation_histograms(*fold_orientation(*central_differences(grey)), orientations, cell)
    ours = cells / (cells.sum(axis=2, keepdims=True) + 1e-5)  # their epsilon
    theirs = hog(
        grey, orientations, (cell, cell), cells_per_block=(1, 1), block_norm="L1", feature_vector=False
    )  # (rows, columns, 1, 1, orientations)
    np.testing.assert_allclose(ours, theirs[:, :, 0, 0], rtol=1e-5, atol=1e-7)  # theirs adds in float32


@pytest.mark.learner
def test_on_a_ramp_the_differences_agree_too():
    """Where brightness rises evenly, central differences are forward differences doubled; L1 divides the 2 out."""
    grey = ramp(33)
    ours = hog_feature(grey).reshape(4, 4, 9)[1:3, 1:3]
    theirs = hog(grey, 9, (8, 8), (1, 1), "L1", feature_vector=False)[1:3, 1:3, 0, 0]
    np.testing.assert_allclose(ours / ours.sum(axis=2, keepdims=True), theirs, atol=1e-4)


# Hue ---------------------------------------------------------------------------------------------------------


@pytest.mark.learner
@given(seeds)
@settings(max_examples=20, deadline=None)
def test_hue_is_that_of_matplotlib_and_of_the_standard_library(seed):
    im = picture(seed)
    want = rgb_to_hsv(im / 255)[..., 0]
    turn = np.abs(to_hue(im) - want)
    assert np.max(np.minimum(turn, 1 - turn)) < 1e-12
    r, g, b = im[3, 4] / 255
    assert to_hue(im)[3, 4] == pytest.approx(colorsys.rgb_to_hsv(r, g, b)[0])


@pytest.mark.learner
def test_hue_of_known_colours():
    colours = np.array([[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255], [9, 9, 9]])
    np.testing.assert_allclose(to_hue(colours.astype(np.uint8)[None])[0], [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 0])


@pytest.mark.robustness
def test_hue_stays_below_one():
    almost_red = np.array([[[1.0, 0.0, 1e-20]]])
    assert 0 <= to_hue(almost_red)[0, 0] < 1
    assert color_histogram_hsv(almost_red, xmax=1).sum() == 1


@pytest.mark.learner
@given(seeds, st.integers(1, 30), st.sampled_from([np.uint8, np.int64, np.float32, np.float64]))
@settings(max_examples=30, deadline=None)
def test_hue_histogram_sums_to_one_and_counts_pixels(seed, nbin, dtype):
    im = picture(seed, (16, 8, 3), dtype)
    got = color_histogram_hsv(im, nbin)
    assert got.shape == (nbin,)
    assert got.sum() == pytest.approx(1)
    counts = color_histogram_hsv(im, nbin, normalized=False)
    assert counts.sum() == 16 * 8  # a published version multiplies the counts by the width of an interval
    np.testing.assert_allclose(counts / 128, got)


@pytest.mark.learner
@given(seeds)
@settings(max_examples=20, deadline=None)
def test_hue_histogram_is_that_of_numpy(seed):
    im = np.random.RandomState(seed).rand(16, 16, 3)  # no hue lies on a border
    want = np.histogram(rgb_to_hsv(im)[..., 0], bins=10, range=(0, 1))[0]
    np.testing.assert_array_equal(color_histogram_hsv(im, 10, 0, 1, normalized=False), want)


@pytest.mark.learner
def test_pixel_range_does_not_matter_when_it_is_named():
    im = picture(8)
    np.testing.assert_array_equal(color_histogram_hsv(im.astype(float) - 100, 7, -100, 155), color_histogram_hsv(im, 7))


@pytest.mark.learner
@given(seeds, st.sampled_from([(32, 32), (16, 24)]), st.sampled_from([4, 8]))
@settings(max_examples=10, deadline=None)
def test_colour_cells_are_means_and_deviations(seed, size, cell):
    im = picture(seed, (*size, 3))
    got = color_cells(im, cell).reshape(size[0] // cell, size[1] // cell, 2, 3)
    for row, column in np.ndindex(got.shape[:2]):
        part = im[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell].reshape(-1, 3)
        np.testing.assert_allclose(got[row, column], [part.mean(axis=0), part.std(axis=0)], atol=1e-9)
    with pytest.raises(ValueError, match="not whole cells"):
        color_cells(im, 5)


# Many pictures -----------------------------------------------------------------------------------------------


def mean_colour(im):
    return im.mean(axis=(0, 1))


@pytest.mark.robustness
def test_features_of_one_picture_stand_in_its_row():
    imgs = picture(0, (7, 32, 32, 3))
    got = extract_features(imgs, [hog_feature, mean_colour, lambda im: color_histogram_hsv(im, nbin=4)])
    assert got.shape == (7, 144 + 3 + 4)
    np.testing.assert_array_equal(got[5, :144], hog_feature(imgs[5]))
    np.testing.assert_array_equal(got[5, 144:147], mean_colour(imgs[5]))
    np.testing.assert_array_equal(got[5, 147:], color_histogram_hsv(imgs[5], 4))


@pytest.mark.robustness
def test_parallel_is_sequential(monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 3)
    imgs = picture(1, (11, 16, 16, 3))
    fns = [hog_feature, lambda im: color_histogram_hsv(im, nbin=6)]  # a lambda has to reach the workers
    np.testing.assert_array_equal(extract_features(imgs, fns, n_jobs=2), extract_features(imgs, fns, n_jobs=1))


@pytest.mark.robustness
def test_many_pictures_use_every_core(monkeypatch):
    wanted = []
    parallel = features.joblib.Parallel
    monkeypatch.setattr(features.joblib, "Parallel", lambda n_jobs, **kw: wanted.append(n_jobs) or parallel(1, **kw))
    monkeypatch.setattr(features, "PARALLEL_FROM", 5)
    for count in (4, 5):
        extract_features(np.zeros((count, 8, 8, 3)), [mean_colour])
    assert wanted == [1, -1]


@pytest.mark.robustness
def test_pictures_may_come_as_a_list_of_different_sizes():
    imgs = [picture(0), picture(1, (8, 48, 3)), picture(2, (5, 7, 3))]
    got = extract_features(imgs, [color_histogram_hsv], verbose=True)
    np.testing.assert_array_equal(got, [color_histogram_hsv(im) for im in imgs])


@pytest.mark.robustness
@pytest.mark.parametrize("nothing", [[], np.zeros((0, 32, 32, 3), np.uint8)])
def test_no_pictures_give_an_empty_array(nothing):
    got = extract_features(nothing, [hog_feature])
    assert isinstance(got, np.ndarray)
    assert got.shape == (0, 0)


@pytest.mark.robustness
def test_feature_functions_must_return_1d_of_one_length():
    imgs = [picture(0), picture(1, (8, 16, 3))]
    with pytest.raises(ValueError, match=r"to_grey must return a 1-D array, got shape \(32, 32\)"):
        extract_features(imgs, [to_grey])
    with pytest.raises(ValueError, match=r"must return a 1-D array, got shape \(\)"):
        extract_features(imgs, [lambda im: im.mean()])
    with pytest.raises(ValueError, match="hog_feature must keep its length, got 144 values and then 18"):
        extract_features(imgs, [hog_feature])
    with pytest.raises(ValueError, match="feature_fns is empty"):
        extract_features(imgs, [])


# Preparing for a classifier ------------------------------------------------------------------------------------


@pytest.mark.learner
def test_scaling_uses_the_training_set_and_appends_ones():
    rng = np.random.RandomState(0)
    train, val = rng.rand(50, 4) * 9 + 3, rng.rand(20, 4)
    mean, std = feature_scale(train)
    scaled = scale_features(train, mean, std)
    assert scaled.shape == (50, 5)
    np.testing.assert_allclose(scaled[:, :4].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled[:, :4].std(axis=0), 1)
    np.testing.assert_array_equal(scaled[:, 4], 1)
    np.testing.assert_allclose(scale_features(val, mean, std, bias=False) * std + mean, val)


@pytest.mark.robustness
@pytest.mark.parametrize("value", [0.0, 0.1, -1e-9, 12345.678])
def test_a_constant_column_becomes_zero_not_nan(value):
    train = np.column_stack([np.full(1001, value), np.arange(1001.0)])  # 0.1 summed 1001 times is not 100.1
    mean, std = feature_scale(train)
    assert np.all(std > 0)
    np.testing.assert_allclose(scale_features(train, mean, std)[:, 0], 0, atol=1e-9)
    unseen = train + np.array([0.5, 0])
    assert np.abs(scale_features(unseen, mean, std)[:, 0]).max() < 1  # not divided by rounding


@pytest.mark.robustness
def test_a_small_column_is_not_taken_for_a_constant():
    _, std = feature_scale(1e-12 * np.arange(10.0)[:, None])
    np.testing.assert_allclose(std, 1e-12 * np.arange(10.0).std())


# Bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.robustness
@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros((4, 4, 4)), np.zeros((2, 8, 8, 3)), np.zeros((0, 8, 3))])
def test_what_is_no_picture(bad):
    for fn in (to_grey, to_hue, hog_feature, color_histogram_hsv, color_cells):
        with pytest.raises(ValueError, match="im must be one picture"):
            fn(bad)


@pytest.mark.learner
def test_grey_pictures_have_no_hue():
    with pytest.raises(ValueError, match=r"\(H, W, 3\), got shape \(8, 8\)"):
        color_histogram_hsv(np.zeros((8, 8)))


@pytest.mark.robustness
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite(value):
    im = np.zeros((8, 8, 3))
    im[1, 2, 0] = value
    for fn in (to_grey, to_hue, hog_feature, color_histogram_hsv, color_cells):
        with pytest.raises(ValueError, match="not finite"):
            fn(im)


@pytest.mark.robustness
def test_pixels_that_are_not_numbers():
    with pytest.raises(TypeError, match="real numbers"):
        hog_feature(np.full((8, 8, 3), "a"))
    with pytest.raises(TypeError, match="real numbers"):
        to_hue(np.zeros((8, 8, 3), complex))


@pytest.mark.robustness
def test_cells_that_do_not_fit():
    with pytest.raises(ValueError, match="30 x 32 pixels, not whole cells of 8 x 8"):
        hog_feature(np.zeros((30, 32, 3)))
    for orientations, cell in ((0, 8), (9, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            hog_feature(np.zeros((32, 32)), orientations, cell)


@pytest.mark.robustness
def test_hue_histogram_arguments():
    im = picture(0)
    with pytest.raises(ValueError, match="nbin >= 1"):
        color_histogram_hsv(im, nbin=0)
    with pytest.raises(ValueError, match="xmin < xmax"):
        color_histogram_hsv(im, xmin=5, xmax=5)
    with pytest.raises(ValueError, match=r"outside xmin=0 .. xmax=1"):
        color_histogram_hsv(im, xmax=1)


@pytest.mark.robustness
def test_feature_matrices():
    with pytest.raises(ValueError, match=r"X_train must be \(N, F\)"):
        feature_scale(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"X_train must be \(N, F\)"):
        feature_scale(np.zeros(3))
    with pytest.raises(ValueError, match="X_train holds values that are not finite"):
        feature_scale(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="X holds values that are not finite"):
        scale_features(np.array([[np.inf]]), np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match=r"X has 4 features a row, mean \(3,\)"):
        scale_features(np.zeros((2, 4)), np.zeros(3), np.ones(3))
