"""k-nearest neighbours against SciPy, scikit-learn and a stable sort."""

import ast
import inspect
import os
import textwrap
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from common.classifiers import knn
from common.classifiers.knn import K_CHOICES, KNearestNeighbor, k_smallest, knn_cross_validate, knn_get_best_k
from common.data import store

VERSIONS = ("compute_distances_two_loops", "compute_distances_one_loop", "compute_distances_no_loops")
TRAILING = ((1,), (7,), (48,), (4, 3), (4, 4, 3))


def trained(X, y=None):
    model = KNearestNeighbor()
    model.train(X, np.arange(len(X)) % 3 if y is None else y)
    return model


def pixels(rng, shape, dtype):
    values = rng.randint(0, 256, shape)
    return values.astype(dtype) if dtype == np.uint8 else (values + rng.rand(*shape)).astype(dtype)


def strided(X, how):
    """The same values in another memory layout."""
    if how == "fortran":
        return np.asfortranarray(X)
    if how == "every second row":
        return np.repeat(X, 2, axis=0)[::2]
    if how == "reversed":
        return np.ascontiguousarray(X[::-1])[::-1]
    return X


layouts = st.sampled_from(["as it is", "fortran", "every second row", "reversed"])
dtypes = st.sampled_from([np.uint8, np.float32, np.float64])


# Distances ---------------------------------------------------------------------------------------------------


@pytest.mark.learner
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 9), st.sampled_from(TRAILING), dtypes, dtypes, layouts)
@settings(max_examples=60, deadline=None)
def test_three_versions_agree_with_cdist(seed, tests, trains, trailing, dtype, test_dtype, how):
    rng = np.random.RandomState(seed)
    X, T = pixels(rng, (trains, *trailing), dtype), pixels(rng, (tests, *trailing), test_dtype)
    model = trained(strided(X, how))
    want = cdist(T.reshape(tests, -1).astype(float), X.reshape(trains, -1).astype(float))
    for version in VERSIONS:
        got = getattr(model, version)(strided(T, how))
        assert got.shape == (tests, trains)
        # The expansion subtracts numbers of the size of the squares: rounding is 1e-16 of them, then a root.
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-4, err_msg=version)


@pytest.mark.robustness
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("version", VERSIONS)
def test_distances_have_double_precision(version, dtype):
    rng = np.random.RandomState(0)
    model = trained(pixels(rng, (5, 4), dtype))
    for test_dtype in (np.uint8, np.float32, np.float64):
        assert getattr(model, version)(pixels(rng, (3, 4), test_dtype)).dtype == np.float64


@pytest.mark.robustness
def test_squared_norms_of_float32_are_exact_to_the_last_bits():
    """A sum of one by one loses 1e-5 of |b|^2, which moves whole columns of the distance matrix."""
    X = (np.random.RandomState(0).rand(20, 3072) * 40 + 215).astype(np.float32)
    np.testing.assert_allclose(trained(X).sq_train, np.sum(X.astype(float) ** 2, axis=1), rtol=1e-7)


@pytest.mark.learner
@pytest.mark.parametrize("version", VERSIONS)
def test_unsigned_bytes_do_not_wrap_around(version):
    model = trained(np.array([[0, 0], [255, 255]], np.uint8))
    got = getattr(model, version)(np.array([[255, 0]], np.uint8))
    np.testing.assert_allclose(got, [[255.0, 255.0]], rtol=1e-6)


@pytest.mark.learner
def test_versions_differ_by_less_than_the_published_bound():
    rng = np.random.RandomState(0)
    X, T = rng.rand(80, 40), rng.rand(30, 40)
    two, one, none = (getattr(trained(X), version)(T) for version in VERSIONS)
    assert np.linalg.norm(two - one) < 1e-4
    assert np.linalg.norm(two - none) < 1e-4


@pytest.mark.learner
def test_a_picture_meets_itself_without_nan():
    """Rounding makes |a|^2 + |b|^2 - 2ab negative for some of these; its root would be NaN."""
    X = np.random.RandomState(1).rand(300, 3072).astype(np.float32) * 255
    sq = np.sum(X**2, axis=1)
    assert (np.diag(sq[:, None] + sq - 2 * X @ X.T) < 0).any(), "the data no longer provoke the fault"
    dists = trained(X).compute_distances_no_loops(X)
    assert np.isfinite(dists).all()
    assert np.array_equal(np.argmin(dists, axis=1), np.arange(300))


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("call", "arrays"),
    [
        ("compute_distances_no_loops", 12),  # a few matrices (Nte, Ntr), far from Nte * Ntr * D
        ("compute_distances_one_loop", 12),
        ("predict", 12),
    ],
)
def test_no_array_of_all_differences(call, arrays):
    tests, trains, width = 60, 50, 3072
    rng = np.random.RandomState(0)
    model, T = trained(rng.rand(trains, width)), rng.rand(tests, width)
    tracemalloc.start()
    getattr(model, call)(T)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (tests * width + trains * width + arrays * tests * trains) * 8 * 2
    assert peak < tests * trains * width * 8 / 5


@pytest.mark.robustness
def test_find_neighbors_holds_one_block(monkeypatch):
    monkeypatch.setattr(knn, "BLOCK_BYTES", 100e3)
    rng = np.random.RandomState(0)
    model, T = trained(rng.rand(500, 400)), rng.rand(2003, 400)
    tracemalloc.start()
    blocked = model.find_neighbors(T, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6  # all distances are 8 MB, the training set 1.6 MB
    assert np.array_equal(blocked, NearestNeighbors(n_neighbors=3).fit(model.X_train).kneighbors(T)[1])


@pytest.mark.robustness
def test_training_floats_are_not_copied():
    X = np.random.RandomState(0).rand(10, 4, 3).astype(np.float32)
    assert np.shares_memory(trained(X).X_train, X)


# Neighbours --------------------------------------------------------------------------------------------------


@pytest.mark.robustness
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_k_smallest_is_a_stable_sort(data):
    shape = data.draw(st.tuples(st.integers(0, 6), st.integers(1, 40)))
    few = st.sampled_from([-1.0, 0.0, 0.5, 2.0])  # many equal values
    values = data.draw(
        st.one_of(
            hnp.arrays(np.float32, shape, elements=few),
            hnp.arrays(np.float64, shape, elements=st.floats(allow_nan=True, allow_infinity=True)),
            hnp.arrays(np.int64, shape, elements=st.integers(-3, 3)),
        )
    )
    k = data.draw(st.integers(1, shape[1]))
    expected = np.argsort(values, axis=1, kind="stable")[:, :k]
    got = k_smallest(values, k)
    assert got.shape == (shape[0], k)
    assert np.array_equal(got, expected)
    assert np.array_equal(k_smallest(np.asfortranarray(values), k), expected)


@pytest.mark.robustness
@pytest.mark.parametrize("levels", [1, 2, 50, 10**6])
@pytest.mark.parametrize("k", [1, 7, 100, 2999, 3000])
def test_k_smallest_of_long_rows(levels, k):
    """Longer than the groups of columns, with a rest, from all equal to hardly any equal."""
    values = np.random.RandomState(k).randint(levels, size=(6, 3000)).astype(np.float32)
    assert np.array_equal(k_smallest(values, k), np.argsort(values, axis=1, kind="stable")[:, :k])


@pytest.mark.robustness
@pytest.mark.parametrize("k", [1, 2, 3, 600])
def test_k_smallest_puts_nan_last(k):
    values = np.full((3, 600), np.nan, np.float32)
    values[0, [400, 7]] = 1, 2
    values[1, 3] = -np.inf
    assert np.array_equal(k_smallest(values, k), np.argsort(values, axis=1, kind="stable")[:, :k])


@pytest.mark.robustness
def test_k_smallest_leaves_its_input_alone():
    values = np.random.RandomState(0).rand(5, 600)
    before = values.copy()
    k_smallest(values, 4)
    assert np.array_equal(values, before)


@pytest.mark.learner
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 700), dtypes, layouts)
@settings(max_examples=40, deadline=None)
def test_neighbors_are_those_of_exact_distances(seed, tests, trains, dtype, how):
    """Whole numbers below 2^24 are exact in float32, so even equal distances must come in the order of index."""
    rng = np.random.RandomState(seed)
    X, T = rng.randint(0, 8, (trains, 6)).astype(dtype), rng.randint(0, 8, (tests, 6)).astype(dtype)
    k = rng.randint(1, trains + 1)
    exact = cdist(T.astype(float), X.astype(float), "sqeuclidean")
    want = np.argsort(exact, axis=1, kind="stable")[:, :k]
    assert np.array_equal(trained(strided(X, how)).find_neighbors(strided(T, how), k), want)


# Labels ------------------------------------------------------------------------------------------------------


@pytest.mark.learner
@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from(["bytes", "negative", "wide"]))
@settings(max_examples=40, deadline=None)
def test_labels_are_those_of_scikit_learn(seed, trains, kind):
    rng = np.random.RandomState(seed)
    X, T = rng.rand(trains, 5), rng.rand(9, 5)
    labels = {"bytes": np.arange(4, dtype=np.uint8), "negative": np.array([-7, 0, 3]), "wide": np.array([5, 10**12])}
    y = rng.choice(labels[kind], trains)
    k = rng.randint(1, trains + 1)
    want = KNeighborsClassifier(k, algorithm="brute").fit(X, y).predict(T)  # a draw: the smallest label
    model = trained(X, y)
    for num_loops in (0, 1, 2):
        got = model.predict(T, k, num_loops)
        assert got.dtype.kind in "iu"
        assert np.array_equal(got, want), num_loops
    assert np.array_equal(model.predict_labels(cdist(T, X), k), want)


@pytest.mark.learner
def test_a_draw_goes_to_the_smallest_label():
    dists = np.array([[0.3, 0.4, 0.1], [0.1, 0.5, 0.5], [0.4, 0.1, 0.2], [0.2, 0.2, 0.4], [0.5, 0.3, 0.3]]).T
    model = trained(np.zeros((5, 2)), np.array([0, 1, 0, 1, 2]))
    assert model.predict_labels(dists, k=3).tolist() == [1, 0, 0]


@pytest.mark.learner
def test_pictures_and_rows_are_the_same():
    rng = np.random.RandomState(0)
    X, T = rng.rand(20, 4, 4, 3), rng.rand(6, 4, 4, 3)
    y = rng.randint(0, 3, 20)
    rows = trained(X.reshape(20, -1), y).predict(T.reshape(6, -1), 3)
    assert np.array_equal(trained(X, y).predict(T, 3), rows)


@pytest.mark.robustness
def test_training_again_forgets():
    model = trained(np.zeros((4, 2)), np.array([0, 0, 1, 1]))
    model.train(np.ones((2, 3)), np.array([7, 7]))
    assert model.predict(np.zeros((1, 3))).tolist() == [7]


@pytest.mark.learner
def test_one_neighbour_makes_no_training_error():
    rng = np.random.RandomState(0)
    X, y = rng.rand(50, 6), rng.randint(0, 4, 50)
    assert np.array_equal(trained(X, y).predict(X, 1), y)


# Cross-validation --------------------------------------------------------------------------------------------


def reference_folds(X, y, num_folds, k):
    """Accuracy of each fold from scikit-learn, as a share of the fold's own pictures."""
    shares = []
    for fold in np.array_split(np.arange(len(X)), num_folds):
        rest = np.setdiff1d(np.arange(len(X)), fold)
        model = KNeighborsClassifier(k, algorithm="brute").fit(X[rest], y[rest])
        shares.append(model.score(X[fold], y[fold]))
    return shares


@pytest.mark.learner
@pytest.mark.parametrize(("count", "num_folds"), [(40, 5), (41, 5), (13, 2), (9, 9)])
def test_cross_validation_is_scikit_learns(count, num_folds):
    rng = np.random.RandomState(count)
    y = rng.randint(0, 3, count)
    X = rng.rand(count, 4) + y[:, None] * 0.3
    got = knn_cross_validate(X, y, num_folds, [1, 3, 4])
    assert list(got) == [1, 3, 4]
    for k, accuracies in got.items():
        np.testing.assert_allclose(accuracies, reference_folds(X, y, num_folds, k), atol=1e-12)


@pytest.mark.learner
def test_accuracies_are_shares_of_their_own_fold():
    """Two far clusters: every prediction is right, so a fold divided by another size would not show 1."""
    y = np.arange(25) % 2
    X = 100.0 * y[:, None] + np.random.RandomState(0).rand(25, 3)
    assert knn_cross_validate(X, y, 4, [1, 3]) == {1: [1.0] * 4, 3: [1.0] * 4}


@pytest.mark.robustness
def test_neighbours_are_searched_once_per_fold(monkeypatch):
    calls = []
    search = KNearestNeighbor.find_neighbors
    monkeypatch.setattr(KNearestNeighbor, "find_neighbors", lambda *a: calls.append(1) or search(*a))
    knn_cross_validate(np.random.RandomState(0).rand(20, 3), np.arange(20) % 2, 4, [1, 2, 3, 5])
    assert len(calls) == 4


@pytest.mark.robustness
def test_default_ks_and_folds():
    rng = np.random.RandomState(0)
    got = knn_cross_validate(rng.rand(130, 3), rng.randint(0, 2, 130))
    assert tuple(got) == K_CHOICES
    assert all(len(accuracies) == 5 for accuracies in got.values())


@pytest.mark.learner
@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ({1: [0.2, 0.4], 3: [0.5, 0.5], 5: [0.4, 0.4]}, 3),
        ({10: [0.5], 5: [0.5], 1: [0.4]}, 5),  # a draw goes to the smallest k, whatever the order
        ({8: [0.0, 0.0]}, 8),
    ],
)
def test_best_k(accuracies, best):
    assert knn_get_best_k(accuracies) == best


# Bad input ---------------------------------------------------------------------------------------------------

X0, Y0 = np.zeros((6, 4)), np.array([0, 0, 1, 1, 2, 2])


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("X", "y", "error", "says"),
    [
        (np.zeros((0, 4)), np.zeros(0, int), ValueError, r"X must hold at least one picture.*\(0, 4\)"),
        (np.zeros((4, 0)), np.zeros(4, int), ValueError, r"X must hold.*\(4, 0\)"),
        (np.zeros(4), np.zeros(4, int), ValueError, r"X must hold.*\(4,\)"),
        (X0, Y0[:5], ValueError, r"y has shape \(5,\).*labels of shape \(6,\)"),
        (X0, Y0[:, None], ValueError, r"y has shape \(6, 1\)"),
        (X0, Y0.astype(float), TypeError, "y must hold integer labels, got float64"),
        (X0, np.array(list("aabbcc")), TypeError, "y must hold integer labels"),
        (X0.astype(complex), Y0, TypeError, "X must hold real numbers, got complex128"),
        (X0.astype(str), Y0, TypeError, "X must hold real numbers"),
        (np.where(np.eye(6, 4), np.nan, 0), Y0, ValueError, "X holds values that are not finite"),
        (np.where(np.eye(6, 4), np.inf, 0), Y0, ValueError, "X holds values that are not finite"),
        (np.full((6, 4), 1e30, np.float32), Y0, ValueError, "X holds values that are not finite"),  # their squares
    ],
)
def test_bad_training_sets(X, y, error, says):
    with pytest.raises(error, match=says):
        KNearestNeighbor().train(X, y)


@pytest.mark.robustness
def test_a_refused_training_set_leaves_the_old_one():
    model = trained(X0, Y0)
    for X, y in ((np.full((3, 4), np.nan), Y0[:3]), (np.ones((3, 4)), Y0)):
        with pytest.raises(ValueError):
            model.train(X, y)
    assert np.array_equal(model.X_train, X0)
    assert model.predict(X0[:1]).tolist() == [0]


@pytest.mark.robustness
@pytest.mark.parametrize("k", [0, -1, 7])
@pytest.mark.parametrize("num_loops", [0, 1, 2])
def test_k_out_of_range(k, num_loops):
    with pytest.raises(ValueError, match=f"k must be between 1 and the 6 training pictures, got {k}"):
        trained(X0, Y0).predict(X0, k, num_loops)
    with pytest.raises(ValueError, match="k must be between"):
        trained(X0, Y0).predict_labels(np.zeros((2, 6)), k)
    with pytest.raises(ValueError, match="k must be between"):
        trained(X0, Y0).find_neighbors(X0, k)


@pytest.mark.robustness
def test_k_is_a_whole_number():
    with pytest.raises(TypeError):
        trained(X0, Y0).predict(X0, 1.5)
    assert trained(X0, Y0).predict(X0[:1], np.int64(1)).tolist() == [0]


@pytest.mark.robustness
@pytest.mark.parametrize("num_loops", [-1, 3, None])
def test_unknown_number_of_loops(num_loops):
    with pytest.raises(ValueError, match=f"num_loops must be 0, 1 or 2, got {num_loops}"):
        trained(X0, Y0).predict(X0, 1, num_loops)


@pytest.mark.robustness
@pytest.mark.parametrize("version", [*VERSIONS, "find_neighbors", "predict"])
def test_test_pictures_that_do_not_fit(version):
    with pytest.raises(ValueError, match="X has 5 values a row, the training set has 4"):
        getattr(trained(X0, Y0), version)(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="X must hold at least one picture"):
        getattr(trained(X0, Y0), version)(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="no training set"):
        getattr(KNearestNeighbor(), version)(X0)


@pytest.mark.robustness
def test_labels_without_a_training_set():
    with pytest.raises(ValueError, match="no training set"):
        KNearestNeighbor().predict_labels(np.zeros((2, 6)))


@pytest.mark.robustness
@pytest.mark.parametrize("shape", [(2, 5), (6,), (2, 3, 6)])
def test_distances_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"dists must be \(num_test, 6\), got shape"):
        trained(X0, Y0).predict_labels(np.zeros(shape))


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((X0, Y0[:5]), "X has 6 pictures, y has 5 labels"),
        ((X0, Y0[:, None]), r"y has 6 labels in the shape \(6, 1\)"),
        ((X0, Y0, 1), "num_folds must be between 2 and the 6 pictures, got 1"),
        ((X0, Y0, 7), "num_folds must be between 2 and the 6 pictures, got 7"),
        ((X0, Y0, 3, []), "k_choices is empty"),
        ((X0, Y0, 3, [0]), "k must be between 1 and the 4 training pictures, got 0"),
        ((X0, Y0, 3, [1, 0]), "k must be between 1 and the 4 training pictures, got 0"),
        ((X0, Y0, 3, [1, 5]), "k must be between 1 and the 4 training pictures, got 5"),
    ],
)
def test_cross_validation_that_cannot_be(arguments, says):
    with pytest.raises(ValueError, match=says):
        knn_cross_validate(*arguments)


@pytest.mark.robustness
def test_best_of_nothing():
    with pytest.raises(ValueError, match="accuracies is empty"):
        knn_get_best_k({})


@pytest.mark.robustness
def test_no_ready_made_distance():
    """The point is to write the distance: no norm or cdist helper inside."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(knn)))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not used & {"norm", "cdist", "pairwise_distances"}


# CIFAR-10 itself ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subset():
    """First 5000 training and first 500 test pictures of the published files."""
    if not store.is_there("cifar10"):
        pytest.skip(f"the published CIFAR-10 is not under {store.data_root()} (make data brings it)")
    from common.data.cifar10 import load_CIFAR10

    old = os.environ.get("WORKBOOK_EDITION", "auto")
    os.environ["WORKBOOK_EDITION"] = "full"
    try:
        X, y, T, t = load_CIFAR10(store.dataset_dir("cifar10"))
    finally:
        os.environ["WORKBOOK_EDITION"] = old
    return X[:5000].astype(np.float32), y[:5000], T[:500].astype(np.float32), t[:500]


@pytest.mark.robustness
def test_published_counts(subset):
    X, y, T, t = subset
    model = trained(X, y)
    one, none = model.compute_distances_one_loop(T[:40]), model.compute_distances_no_loops(T)
    assert np.abs(one - none[:40]).max() < 0.1  # of some thousands, in float32
    correct = {k: int(np.sum(model.predict(T, k) == t)) for k in (1, 5, 10)}
    assert correct == {1: 137, 5: 139, 10: 141}
    assert {k: int(np.sum(model.predict_labels(none, k) == t)) for k in correct} == correct


@pytest.mark.robustness
def test_published_cross_validation(subset):
    X, y, _, _ = subset
    accuracies = knn_cross_validate(X, y)
    assert knn_get_best_k(accuracies) == 10
    assert all(0.26 <= share <= 0.30 for share in accuracies[10])


@pytest.mark.robustness
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pictures_that_are_not_finite_are_not_given_a_label(bad):
    model = KNearestNeighbor()
    model.train(np.eye(3), np.arange(3))
    with pytest.raises(ValueError, match="X holds values that are not finite"):
        model.predict(np.array([[0.0, bad, 0.0]]))


@pytest.mark.robustness
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_the_three_versions_agree_on_pictures_of_any_type(dtype):
    """The course's check: a Frobenius norm below 1e-3. One product in float32 was off by 1.5 on 500 x 5000 pictures."""
    rng = np.random.RandomState(0)
    background = rng.randint(0, 200, (1, 3072))
    train, test = (np.clip(background + rng.randint(0, 56, (n, 3072)), 0, 255).astype(dtype) for n in (400, 60))
    model = KNearestNeighbor()
    model.train(train, np.arange(400) % 10)
    two, one, none = (
        getattr(model, f"compute_distances_{name}")(test) for name in ("two_loops", "one_loop", "no_loops")
    )
    assert {d.dtype for d in (two, one, none)} == {np.dtype(np.float64)}
    assert max(np.linalg.norm(two - one), np.linalg.norm(two - none)) < 1e-3
    exact = ((test.astype(np.int64)[:, None] - train.astype(np.int64)[None, :40]) ** 2).sum(axis=2)
    assert np.abs(two[:, :40] ** 2 - exact).max() < 1e-3
