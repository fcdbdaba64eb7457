"""The tensor exercises against NumPy, plain Python lists and the courses' published cases."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.pytorch import tensor_basics as tb

MATRIX = torch.arange(48).reshape(6, 8)
seeds = st.integers(0, 2**31)
whole = st.integers(-500, 500)


def storage(x):
    return x.untyped_storage().data_ptr()


def layouts(x):
    """The same values contiguous, as a transpose, and as every second entry of something larger."""
    wide = torch.repeat_interleave(torch.repeat_interleave(x, 2, 0), 2, 1)
    return {"contiguous": x.clone(), "transposed": x.t().contiguous().t(), "strided": wide[::2, ::2]}


def random_matrix(seed, least, most=9, low=-5, high=6):
    rng = np.random.RandomState(seed)
    shape = [rng.randint(n, most + n) for n in least]
    return torch.from_numpy(rng.randint(low, high, shape))


# No function but two writes into its input -------------------------------------------------------------------

PURE = {
    "count_tensor_elements": (MATRIX,),
    "slice_indexing_practice": (MATRIX,),
    "shuffle_cols": (MATRIX,),
    "reverse_rows": (MATRIX,),
    "take_one_elem_per_col": (MATRIX,),
    "count_negative_entries": (MATRIX - 9,),
    "sum_positive_entries": (MATRIX - 9,),
    "reshape_practice": (torch.arange(24),),
    "zero_row_min": (MATRIX,),
    "normalize_columns": (MATRIX.double(),),
    "batched_matrix_multiply_loop": (torch.ones(2, 3, 4), torch.ones(2, 4, 5)),
    "batched_matrix_multiply_noloop": (torch.ones(2, 3, 4), torch.ones(2, 4, 5)),
    "mm_on_gpu": (torch.ones(3, 4), torch.ones(4, 5)),
}
COPIES = ("shuffle_cols", "reverse_rows", "take_one_elem_per_col", "zero_row_min", "normalize_columns")


@pytest.mark.learner
@pytest.mark.filterwarnings("ignore:mm_on_gpu")
@pytest.mark.parametrize("name", PURE)
def test_inputs_are_left_alone(name):
    inputs = [x.clone() for x in PURE[name]]
    versions = [x._version for x in inputs]  # counts in-place writes, through views too
    getattr(tb, name)(*inputs)
    assert [x._version for x in inputs] == versions
    assert all(torch.equal(x, before) for x, before in zip(inputs, PURE[name], strict=True))


@pytest.mark.learner
@pytest.mark.parametrize("name", COPIES)
def test_copies_are_copies(name):
    x = PURE[name][0].clone()
    assert storage(getattr(tb, name)(x)) != storage(x)


@pytest.mark.robustness
def test_label_list_is_left_alone():
    labels = [1, 4, 3, 2]
    tb.make_one_hot(labels)
    assert labels == [1, 4, 3, 2]


# Making ------------------------------------------------------------------------------------------------------


@pytest.mark.learner
def test_create_sample_tensor():
    x = tb.create_sample_tensor()
    assert x.tolist() == [[0, 10], [100, 0], [0, 0]]
    assert x.dtype == torch.float32


@pytest.mark.learner
def test_mutate_tensor_returns_its_argument():
    x = tb.create_sample_tensor()
    assert tb.mutate_tensor(x, [(0, 0), (1, 0), (1, 1)], [4, 5, 6]) is x
    assert x.tolist() == [[4, 10], [5, 6], [0, 0]]


@pytest.mark.learner
@given(st.lists(st.tuples(st.integers(-2, 1), st.integers(-3, 2)), max_size=8))
def test_mutate_tensor_last_write_wins(indices):
    x, want = torch.zeros(2, 3), [[0] * 3 for _ in range(2)]
    for value, (i, j) in enumerate(indices, 1):
        want[i][j] = value
    assert tb.mutate_tensor(x, indices, range(1, len(indices) + 1)).tolist() == want


@pytest.mark.learner
def test_mutate_tensor_other_ranks():
    assert tb.mutate_tensor(torch.tensor(1.0), [()], [7]).item() == 7
    assert tb.mutate_tensor(torch.zeros(3), [(np.int64(-1),)], [7]).tolist() == [0, 0, 7]


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("indices", "values", "error", "words"),
    [
        ([(0, 0), (1, 1)], [1], ValueError, "indices and values .* 2 and 1"),
        ([(0, 0)], [1, 2], ValueError, "indices and values .* 1 and 2"),
        ([(1, 1), (3, 0)], [1, 2], ValueError, r"indices: \(3, 0\)"),
        ([(1, 1), (0, -3)], [1, 2], ValueError, r"indices: \(0, -3\)"),
        ([(1, 1), (1,)], [1, 2], ValueError, r"indices: \(1,\)"),
        ([(1, 1), (1, 1, 1)], [1, 2], ValueError, r"indices: \(1, 1, 1\)"),
        ([(1, 1), [0, 1]], [1, 2], TypeError, r"indices must be tuples, got \[0, 1\]"),
        ([(1, 1), (0, True)], [1, 2], TypeError, "indices"),
        ([(1, 1), (0, 1.0)], [1, 2], TypeError, "indices"),
    ],
)
def test_mutate_tensor_refuses_and_writes_nothing(indices, values, error, words):
    x = tb.create_sample_tensor()
    with pytest.raises(error, match=words):
        tb.mutate_tensor(x, indices, values)
    assert torch.equal(x, tb.create_sample_tensor())


@pytest.mark.learner
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 0, 2), (2, 3, 5), (1, 1, 1, 4)])
def test_count_tensor_elements(shape):
    assert tb.count_tensor_elements(torch.zeros(shape)) == np.zeros(shape).size
    assert type(tb.count_tensor_elements(torch.zeros(shape))) is int


@pytest.mark.learner
@pytest.mark.parametrize(("M", "N"), [(4, 5), (1, 1), (0, 3), (np.int64(2), 0)])
def test_create_tensor_of_pi(M, N):
    x = tb.create_tensor_of_pi(M, N)
    assert x.dtype == torch.float32
    np.testing.assert_array_equal(x, np.full((M, N), 3.14, np.float32))


@pytest.mark.learner
@pytest.mark.parametrize(
    ("start", "stop", "want"),
    [
        (5, 25, [10, 20]),
        (5, 7, []),
        (10, 20, [10, 20]),
        (-15, 5, [-10, 0]),
        (-20, -20, [-20]),
        (0, 0, [0]),
        (25, 5, []),
        (1, 9, []),
    ],
)
def test_multiples_of_ten_published_and_edge_cases(start, stop, want):
    got = tb.multiples_of_ten(start, stop)
    assert got.dtype == torch.float64
    assert got.shape == (len(want),)
    assert got.tolist() == want


@pytest.mark.learner
@given(whole, whole)
def test_multiples_of_ten(start, stop):
    assert tb.multiples_of_ten(start, stop).tolist() == [n for n in range(start, stop + 1) if n % 10 == 0]


# Slices ------------------------------------------------------------------------------------------------------


@pytest.mark.learner
@given(seeds)
@settings(deadline=None)
def test_slices_are_numpys_and_share_memory(seed):
    for x in layouts(random_matrix(seed, (3, 5))).values():
        a = x.numpy().copy()
        got = tb.slice_indexing_practice(x)
        want = (a[-1], a[:, 2:3], a[:2, :3], a[::2, 1::2])
        for view, array in zip(got, want, strict=True):
            np.testing.assert_array_equal(view, array)
            assert storage(view) == storage(x)


PATTERN = [[0, 1, 2, 2, 2, 2]] * 2 + [[3, 4, 3, 4, 5, 5]] * 2


@pytest.mark.learner
@given(seeds)
@settings(deadline=None)
def test_slice_assignment_writes_its_pattern_only(seed):
    for x in layouts(random_matrix(seed, (4, 6), low=50, high=99)).values():
        want = x.numpy().copy()
        want[:4, :6] = PATTERN
        assert tb.slice_assignment_practice(x) is x
        np.testing.assert_array_equal(x, want)


class CountsWrites(torch.Tensor):
    writes = 0

    def __setitem__(self, key, value):
        type(self).writes += 1
        super().__setitem__(key, value)


@pytest.mark.learner
def test_slice_assignment_needs_six_writes_at_most():
    CountsWrites.writes = 0
    tb.slice_assignment_practice(torch.zeros(5, 7).as_subclass(CountsWrites))
    assert 1 <= CountsWrites.writes <= 6


# Integer and boolean indices ---------------------------------------------------------------------------------


@pytest.mark.learner
@given(seeds)
@settings(deadline=None)
def test_integer_indexing_is_numpys(seed):
    for x in layouts(random_matrix(seed, (4, 3))).values():
        a = x.numpy().copy()
        np.testing.assert_array_equal(tb.shuffle_cols(x), a[:, [0, 0, 2, 1]])
        np.testing.assert_array_equal(tb.reverse_rows(x), a[::-1])
        np.testing.assert_array_equal(tb.take_one_elem_per_col(x), [a[1, 0], a[0, 1], a[3, 2]])


@pytest.mark.learner
def test_take_one_elem_per_col_published_case():
    assert tb.take_one_elem_per_col(torch.arange(1, 13).reshape(4, 3)).tolist() == [4, 2, 12]


@pytest.mark.learner
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 0)])
def test_reverse_rows_of_small_matrices(shape):
    assert tb.reverse_rows(torch.zeros(shape)).shape == shape


@pytest.mark.learner
@pytest.mark.parametrize(
    ("values", "negative", "positive"),
    [
        ([[-1, -1, 0], [0, 1, 2], [3, 4, 5]], 2, 15),
        ([0, 1, 2, 3], 0, 6),
        ([[-1, 2, 0], [0, 5, -3], [8, -9, 0]], 3, 15),
        (-3, 1, 0),
        ([[]], 0, 0),
    ],
)
def test_counts_and_sums(values, negative, positive):
    x = torch.tensor(values, dtype=torch.int64)
    for got, want in ((tb.count_negative_entries(x), negative), (tb.sum_positive_entries(x), positive)):
        assert got == want
        assert type(got) is int


@pytest.mark.robustness
def test_counts_of_other_dtypes():
    assert tb.count_negative_entries(torch.tensor([-0.5, -0.0, float("nan"), -float("inf")])) == 2
    assert tb.sum_positive_entries(torch.full((300,), 100, dtype=torch.uint8)) == 30000  # does not wrap at 256


@pytest.mark.learner
@given(st.lists(st.integers(0, 12), min_size=1, max_size=9))
def test_make_one_hot(labels):
    got = tb.make_one_hot(labels)
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(got, np.eye(1 + max(labels))[labels])


# Reshape, reduce, broadcast ----------------------------------------------------------------------------------


@pytest.mark.learner
def test_reshape_practice():
    want = [[*range(4 * i, 4 * i + 4), *range(4 * i + 12, 4 * i + 16)] for i in range(3)]
    assert tb.reshape_practice(torch.arange(24)).tolist() == want
    assert tb.reshape_practice(torch.arange(48)[::2]).tolist() == (2 * np.array(want)).tolist()


@pytest.mark.learner
@pytest.mark.parametrize(
    ("x", "want"),
    [
        ([[10, 20, 30], [2, 5, 1]], [[0, 20, 30], [2, 5, 0]]),
        ([[2, 5, 10, -1], [1, 3, 2, 4], [5, 6, 2, 10]], [[2, 5, 10, 0], [0, 3, 2, 4], [5, 6, 0, 10]]),
        ([[3, 1, 1]], [[3, 0, 1]]),
    ],
)
def test_zero_row_min_cases(x, want):
    assert tb.zero_row_min(torch.tensor(x)).tolist() == want


@pytest.mark.learner
@given(seeds)
@settings(deadline=None)
def test_zero_row_min(seed):
    for x in layouts(random_matrix(seed, (1, 1), low=-2, high=3)).values():  # many ties
        want = x.tolist()
        for row in want:
            row[row.index(min(row))] = 0
        assert tb.zero_row_min(x).tolist() == want


@pytest.mark.learner
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_normalize_columns_published_case(dtype):
    x = torch.tensor([[0, 30, 600], [1, 10, 200], [-1, 20, 400]], dtype=dtype)
    got = tb.normalize_columns(x)
    assert got.dtype == (torch.float32 if dtype == torch.int64 else dtype)
    np.testing.assert_allclose(got, [[0, 1, 1], [1, -1, -1], [-1, 0, 0]], atol=1e-6)


@pytest.mark.learner
@given(seeds)
@settings(deadline=None)
def test_normalize_columns(seed):
    rng = np.random.RandomState(seed)
    x = rng.randn(rng.randint(2, 9), rng.randint(1, 6)) * 5 + 100
    got = tb.normalize_columns(torch.from_numpy(x))
    np.testing.assert_allclose(got, (x - x.mean(axis=0)) / x.std(axis=0, ddof=1), rtol=1e-9, atol=1e-12)


# Products ----------------------------------------------------------------------------------------------------


@pytest.mark.learner
@pytest.mark.parametrize("use_loop", [True, False])
@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (1, 1, 1, 1), (0, 3, 5, 2), (2, 3, 0, 2)])
def test_batched_matrix_multiply(shape, use_loop):
    B, N, M, P = shape
    rng = np.random.RandomState(0)
    x, y = rng.randn(B, N, M), rng.randn(B, M, P)
    got = tb.batched_matrix_multiply(torch.from_numpy(x), torch.from_numpy(y), use_loop)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got, np.einsum("bnm,bmp->bnp", x, y), rtol=1e-12, atol=1e-12)


@pytest.mark.robustness
def test_batched_paths_agree_and_are_two_paths(monkeypatch):
    x, y = torch.rand(6, 4, 5), torch.rand(6, 5, 3)
    assert (tb.batched_matrix_multiply(x, y) - tb.batched_matrix_multiply(x, y, use_loop=False)).abs().max() < 1e-6
    monkeypatch.setattr(tb, "batched_matrix_multiply_loop", lambda x, y: "loop")
    assert tb.batched_matrix_multiply(x, y) == "loop"
    assert tb.batched_matrix_multiply(x, y, use_loop=False) != "loop"


@pytest.mark.learner
def test_batched_gradients_agree():
    x, y = (torch.rand(3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for use_loop in (True, False):
        assert torch.autograd.gradcheck(lambda a, b, way=use_loop: tb.batched_matrix_multiply(a, b, way), (x, y))


@pytest.mark.learner
def test_mm_on_gpu_agrees_with_the_cpu():
    x, w = torch.rand(64, 512), torch.rand(512, 96)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        got = tb.mm_on_gpu(x, w)
    assert got.device.type == "cpu"
    assert (got - x @ w).abs().max() < 5e-2


@pytest.mark.robustness
def test_mm_on_gpu_says_that_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    x = torch.eye(3)
    with pytest.warns(UserWarning, match="no CUDA device"):
        assert torch.equal(tb.mm_on_gpu(x, 2 * x), 2 * x)


class Travels(torch.Tensor):
    log = ()

    def to(self, device):
        Travels.log += (device,)
        return self

    def cpu(self):
        Travels.log += ("back",)
        return self


@pytest.mark.robustness
def test_mm_on_gpu_moves_both_factors_there_and_the_product_back(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    x, w = (torch.eye(3).as_subclass(Travels) for _ in range(2))
    Travels.log = ()
    tb.mm_on_gpu(x, w)
    assert Travels.log == ("cuda", "cuda", "back")


@pytest.mark.robustness
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device")
def test_mm_on_gpu_with_a_gpu():
    x, w = torch.rand(512, 4096), torch.rand(4096, 4096)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = tb.mm_on_gpu(x, w)
    assert got.device.type == "cpu"
    assert (got - x @ w).abs().max() < 5e-2


# Bad input ---------------------------------------------------------------------------------------------------

array = np.ones((6, 8))
cube = torch.ones(2, 3, 4)
BAD = [
    *((name, (array,), TypeError, "x must be a torch tensor, got ndarray") for name in PURE if len(PURE[name]) == 1),
    ("mutate_tensor", (array, [], []), TypeError, "x must be a torch tensor"),
    ("slice_assignment_practice", (array,), TypeError, "x must be a torch tensor"),
    *((name, (cube,), ValueError, r"2 dimensions, got shape \(2, 3, 4\)") for name in COPIES),
    ("slice_indexing_practice", (torch.ones(2, 5),), ValueError, r"at least 3 rows and 5 columns, got shape \(2, 5\)"),
    ("slice_indexing_practice", (torch.ones(3, 4),), ValueError, "at least 3 rows and 5 columns"),
    ("slice_assignment_practice", (torch.ones(3, 6),), ValueError, "at least 4 rows and 6 columns"),
    ("slice_assignment_practice", (torch.ones(4, 5),), ValueError, "at least 4 rows and 6 columns"),
    ("shuffle_cols", (torch.ones(4, 2),), ValueError, "3 columns"),
    ("take_one_elem_per_col", (torch.ones(3, 3),), ValueError, "at least 4 rows and 3 columns"),
    ("zero_row_min", (torch.ones(3, 0),), ValueError, "1 columns"),
    ("normalize_columns", (torch.ones(1, 3),), ValueError, "at least 2 rows"),
    ("normalize_columns", (torch.tensor([[1.0, 0.1], [2.0, 0.1], [3.0, 0.1]]),), ValueError, r"x: columns \[1\]"),
    ("count_negative_entries", (torch.ones(2, dtype=torch.complex64),), TypeError, "x must hold real numbers"),
    ("sum_positive_entries", (torch.ones(2),), TypeError, "x must hold integers, got torch.float32"),
    ("create_tensor_of_pi", (-1, 2), ValueError, "M=-1 and N=2"),
    ("create_tensor_of_pi", (2.0, 2), TypeError, "M must be a whole number, got 2.0"),
    ("create_tensor_of_pi", (2, "2"), TypeError, "N must be a whole number, got '2'"),
    ("multiples_of_ten", (1.5, 20), TypeError, "start must be a whole number"),
    ("multiples_of_ten", (1, None), TypeError, "stop must be a whole number"),
    ("make_one_hot", ([],), ValueError, "x must hold one or more labels"),
    ("make_one_hot", ([1, -1],), ValueError, "0 or more"),
    ("make_one_hot", ([1, 0.5],), TypeError, "every label in x must be a whole number, got 0.5"),
    ("reshape_practice", (torch.arange(25),), ValueError, r"shape \(24,\), got \(25,\)"),
    ("reshape_practice", (torch.ones(4, 6),), ValueError, r"got \(4, 6\)"),
    ("batched_matrix_multiply", (torch.ones(3, 4), cube), ValueError, "x must have 3 dimensions"),
    ("batched_matrix_multiply", (cube, cube), ValueError, r"x and y .* \(2, 3, 4\) and \(2, 3, 4\)"),
    ("batched_matrix_multiply", (cube, torch.ones(1, 4, 3)), ValueError, "x and y have no matrix product"),
    ("batched_matrix_multiply", (cube, torch.ones(2, 4, 3).double()), TypeError, "x and y must have one dtype"),
    ("batched_matrix_multiply", (cube, array), TypeError, "y must be a torch tensor"),
    ("mm_on_gpu", (array, torch.ones(8, 2)), TypeError, "x must be a torch tensor"),
    ("mm_on_gpu", (torch.ones(2, 3), torch.ones(2, 3)), ValueError, "x and w have no matrix product"),
    ("mm_on_gpu", (torch.ones(2, 3), torch.ones(3)), ValueError, "w must have 2 dimensions"),
    ("mm_on_gpu", (torch.ones(2, 3), torch.ones(3, 2).half()), TypeError, "x and w must have one dtype"),
]


@pytest.mark.robustness
@pytest.mark.parametrize(("name", "args", "error", "words"), BAD)
def test_bad_input_is_named(name, args, error, words):
    with pytest.raises(error, match=words):
        getattr(tb, name)(*args)
