"""The fast layers, both backends, against the naive ones and PyTorch; threads, memory, imports, the columns' layout."""

import contextlib
import itertools
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import eval_numerical_gradient_array, rel_error
from common.layers import conv_backward_naive, conv_forward_naive, fast, max_pool_backward_naive, max_pool_forward_naive
from common.layers.fast import numpy_backend
from tests import test_convolution, test_pooling

try:
    from common.layers.fast import cython_backend
except ImportError:
    cython_backend = None
ROOT = Path(__file__).parents[1]
compiled = pytest.mark.skipif(cython_backend is None, reason="the kernels are not compiled here")
both = pytest.mark.parametrize("name", ["numpy", pytest.param("cython", marks=compiled)])
DTYPES = st.sampled_from([np.float32, np.float64])
HALF = test_pooling.HALF


@contextlib.contextmanager
def backend(name):
    """fast, computing with that backend."""
    before = fast._backend
    fast._backend = {"numpy": numpy_backend, "cython": cython_backend}[name]
    try:
        yield fast
    finally:
        fast._backend = before


def convolve(name, x, w, b, param, dout):
    """out, dx, dw, db."""
    with backend(name):
        out, cache = fast.conv_forward_fast(x, w, b, param)
        return [out, *fast.conv_backward_fast(dout, cache)]


def pool(name, x, param, dout):
    """out, dx."""
    with backend(name):
        out, cache = fast.max_pool_forward_fast(x, param)
        return [out, fast.max_pool_backward_fast(dout, cache)]


def close(got, want, dtype=np.float64):
    """Equal up to rounding, measured by the largest number."""
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and g.dtype == dtype
        assert np.abs(g - w).max() <= (2e-5 if dtype == np.float32 else 1e-12) * max(1, np.abs(w).max())


def scattered(array):
    """The same numbers, not contiguous and not to be written to."""
    result = np.repeat(array, 2, axis=-1)[..., ::2]
    result.flags.writeable = False
    return result


# Convolution --------------------------------------------------------------------------------------------------


@both
@settings(max_examples=80, deadline=None)
@given(case=test_convolution.convolutions(largest=4), dtype=DTYPES, scatter=st.booleans())
def test_convolution_against_autograd(name, case, dtype, scatter):
    x, w, b, param, dout = case
    arrays = [a.astype(dtype) for a in (x, w, b, dout)]
    want = test_convolution.by_autograd(*arrays[:3], param, arrays[3])
    x, w, b, dout = [scattered(a) for a in arrays] if scatter else arrays
    before = x.copy()
    close(convolve(name, x, w, b, param, dout), want, dtype)
    assert np.array_equal(x, before)


@both
@settings(max_examples=20, deadline=None)
@given(case=test_convolution.convolutions())
def test_convolution_against_the_naive_loops(name, case):
    x, w, b, param, dout = case
    out, cache = conv_forward_naive(x, w, b, param)
    close(convolve(name, *case), [out, *conv_backward_naive(dout, cache)])


# Shapes that need several blocks, of pictures, of rows, of channels, and a block that is not full.
LARGE = {
    "many small pictures": ((37, 3, 4, 4), (5, 3, 3, 3), 1, 1),
    "one large picture": ((1, 2, 61, 45), (3, 2, 5, 3), 2, 2),
    "rows wider than a block": ((2, 1, 5, 301), (2, 1, 3, 3), 1, 1),
    "many channels": ((2, 67, 12, 12), (9, 67, 7, 7), 1, 3),
    "many filters": ((3, 4, 9, 9), (1030, 4, 1, 1), 1, 0),
    "stride above the filter": ((5, 3, 13, 13), (4, 3, 2, 2), 11, 0),
    "padding wider than the filter": ((2, 2, 3, 3), (2, 2, 2, 2), 1, 3),
}


@both
@pytest.mark.parametrize("shapes", LARGE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks(name, shapes, dtype):
    x_shape, w_shape, stride, pad = LARGE[shapes]
    rng = np.random.RandomState(0)
    x, w, b = (rng.randn(*shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    param = {"stride": stride, "pad": pad}
    dout = rng.randn(*fast.conv_forward_fast(x, w, b, param)[0].shape).astype(dtype)
    close(convolve(name, x, w, b, param, dout), test_convolution.by_autograd(x, w, b, param, dout), dtype)


@both
def test_fixed_numbers(name):
    ramp = test_convolution.ramp
    x, w, b = ramp(-0.1, 0.5, (2, 3, 4, 4)), ramp(-0.2, 0.3, (3, 3, 4, 4)), ramp(-0.1, 0.2, 3)
    with backend(name):
        out, _ = fast.conv_forward_fast(x, w, b, {"stride": 2, "pad": 1})
        halved, _ = fast.max_pool_forward_fast(ramp(-0.3, 0.4, (2, 3, 4, 4)), HALF)
    assert rel_error(out.sum(), 10.22358484) < 1e-8 and rel_error(halved.sum(), 1.64210526) < 1e-8


@both
def test_the_courses_comparison(name):
    """100 pictures, 25 filters, stride 2: 1e-9 from the naive loops (a part of the pictures, for time)."""
    rng = np.random.RandomState(231)
    x, w, b, param = rng.randn(4, 3, 31, 31), rng.randn(25, 3, 3, 3), rng.randn(25), {"stride": 2, "pad": 1}
    out, cache = conv_forward_naive(x, w, b, param)
    dout = rng.randn(*out.shape)
    close(convolve(name, x, w, b, param, dout), [out, *conv_backward_naive(dout, cache)])


@both
def test_numerical_gradient(name):
    rng = np.random.RandomState(1)
    x, w, b, dout = rng.randn(2, 2, 5, 7), rng.randn(3, 2, 3, 1), rng.randn(3), rng.randn(2, 3, 3, 5)
    param = {"stride": 2, "pad": 1}
    _, dx, dw, db = convolve(name, x, w, b, param, dout)
    with backend(name):
        numerical = [
            eval_numerical_gradient_array(lambda a: fast.conv_forward_fast(a, w, b, param)[0], x, dout),
            eval_numerical_gradient_array(lambda a: fast.conv_forward_fast(x, a, b, param)[0], w, dout),
            eval_numerical_gradient_array(lambda a: fast.conv_forward_fast(x, w, a, param)[0], b, dout),
        ]
    assert max(map(rel_error, (dx, dw, db), numerical)) < 1e-7


@both
def test_backward_takes_the_naive_cache(name):
    rng = np.random.RandomState(2)
    x, w, b = rng.randn(2, 3, 4, 4), rng.randn(2, 3, 3, 3), rng.randn(2)
    out, cache = conv_forward_naive(x, w, b, {"stride": 1, "pad": 1})
    with backend(name):
        close(fast.conv_backward_fast(out, cache), conv_backward_naive(out, cache))


@both
def test_other_floating_types(name):
    x, w, b = np.ones((1, 2, 3, 3), np.float16), np.ones((1, 2, 3, 3), np.float16), np.ones(1, np.float16)
    for types in itertools.product((np.float16, np.float32, np.float64), repeat=2):
        arrays = x.astype(types[0]), w.astype(types[1]), b
        want, cache = conv_forward_naive(*arrays, {"stride": 1, "pad": 1})
        got = convolve(name, *arrays, {"stride": 1, "pad": 1}, want)
        for g, n in zip(got, [want, *conv_backward_naive(want, cache)], strict=True):
            assert g.dtype == n.dtype and np.array_equal(g, n)


@both
@pytest.mark.parametrize("bad", test_convolution.BAD)
def test_convolution_refuses_what_the_naive_one_refuses(name, bad):
    arguments, message = test_convolution.BAD[bad]
    with backend(name), pytest.raises(ValueError, match=message):
        fast.conv_forward_fast(*arguments)


@both
def test_dout_of_another_shape(name):
    x, w, b = np.ones((2, 3, 4, 4)), np.ones((4, 3, 3, 3)), np.ones(4)
    with backend(name), pytest.raises(ValueError, match=r"\(2, 4, 4, 4\), got \(2, 4, 2, 2\)"):
        fast.conv_backward_fast(np.ones((2, 4, 2, 2)), (x, w, b, {"stride": 1, "pad": 1}))
    with backend(name), pytest.raises(ValueError, match=r"\(2, 3, 2, 2\), got \(2, 3, 1, 1\)"):
        fast.max_pool_backward_fast(np.ones((2, 3, 1, 1)), (x, HALF))
    with backend(name), pytest.raises(TypeError, match="x must hold floating-point numbers"):
        fast.conv_forward_fast(x.astype(int), w, b, {"stride": 1, "pad": 1})


# Max-pooling --------------------------------------------------------------------------------------------------


@both
@settings(max_examples=80, deadline=None)
@given(case=test_pooling.pools(), dtype=DTYPES, scatter=st.booleans())
def test_pooling_against_autograd(name, case, dtype, scatter):
    x, param, dout = case
    x, dout = x.astype(dtype), dout.astype(dtype)
    want = test_pooling.by_autograd(x, param, dout)
    close(pool(name, *((scattered(x), param, scattered(dout)) if scatter else (x, param, dout))), want, dtype)


@both
@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 140),  # the compiled kernel does 64 places at a time
    window=st.sampled_from([(2, 2, 2), (3, 3, 2), (1, 3, 1), (2, 3, 4)]),
    seed=st.integers(0, 99),
)
def test_pooling_with_ties_and_nan_is_the_naive_one(name, width, window, seed):
    param = dict(zip(("pool_height", "pool_width", "stride"), window, strict=True))
    rng = np.random.RandomState(seed)
    height, wide, stride = window
    x = rng.choice([0.0, 1.0, -np.inf, np.inf, np.nan], (2, 1, stride + height, (width - 1) * stride + wide))
    out, cache = max_pool_forward_naive(x, param)
    dout = rng.randn(*out.shape)
    got_out, dx = pool(name, x, param, dout)
    assert np.array_equal(got_out, out, equal_nan=True)
    np.testing.assert_allclose(dx, max_pool_backward_naive(dout, cache), rtol=1e-12, atol=1e-15)


@both
def test_equal_maxima_are_paid_once(name):
    """The courses' reshape trick hands the whole gradient to each of them."""
    dout = np.random.RandomState(0).rand(2, 3, 4, 4)
    _, dx = pool(name, np.ones((2, 3, 8, 8)), HALF, dout)
    assert abs(dx.sum() - dout.sum()) < 1e-12
    assert np.array_equal(dx[:, :, ::2, ::2], dout)


@both
def test_windows_that_do_not_tile(name):
    """The published pooling crashes on overlapping windows and on windows with gaps."""
    rng = np.random.RandomState(0)
    for height, width, stride, H, W in ((3, 3, 2, 7, 9), (2, 3, 3, 8, 9), (1, 1, 2, 5, 5), (5, 4, 1, 5, 6)):
        x, param = rng.randn(2, 3, H, W), {"pool_height": height, "pool_width": width, "stride": stride}
        out, cache = max_pool_forward_naive(x, param)
        dout = rng.randn(*out.shape)
        close(pool(name, x, param, dout), [out, max_pool_backward_naive(dout, cache)])


@both
@pytest.mark.parametrize("bad", test_pooling.BAD)
def test_pooling_refuses_what_the_naive_one_refuses(name, bad):
    arguments, message = test_pooling.BAD[bad]
    with backend(name), pytest.raises(ValueError, match=message):
        fast.max_pool_forward_fast(*arguments)


# The courses' columns -----------------------------------------------------------------------------------------


def columns_by_loops(x, HH, WW, pad, stride):
    N, C, H, W = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    OH, OW = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    columns = np.empty((C * HH * WW, OH * OW * N))
    for c, i, j, y, o, n in np.ndindex(C, HH, WW, OH, OW, N):
        columns[(c * HH + i) * WW + j, (y * OW + o) * N + n] = padded[n, c, y * stride + i, o * stride + j]
    return columns


@both
@settings(max_examples=30, deadline=None)
@given(case=test_convolution.convolutions(), dtype=DTYPES)
def test_columns(name, case, dtype):
    """Windows need not be square: a published version counts rows with the height for both sides."""
    x, w, b, param, _ = case
    x, (HH, WW), pad, stride = x.astype(dtype), w.shape[2:], param["pad"], param["stride"]
    want = columns_by_loops(x, HH, WW, pad, stride)
    with backend(name):
        columns = fast.im2col_cython(x, HH, WW, pad, stride)
        assert columns.dtype == dtype and np.array_equal(columns, want)
        # The adjoint: <columns(x), c> = <x, back(c)> for any c.
        c = np.random.RandomState(0).randn(*columns.shape).astype(dtype)
        back = fast.col2im_cython(c, *x.shape, HH, WW, pad, stride)
        assert back.shape == x.shape and back.dtype == dtype
        assert abs((columns * c).sum() - (x * back).sum()) < (1e-3 if dtype == np.float32 else 1e-10)
        size = 1 + (x.shape[2] + 2 * pad - HH) // stride, 1 + (x.shape[3] + 2 * pad - WW) // stride
        c6 = c.reshape(x.shape[1], HH, WW, *size, len(x)).transpose(0, 1, 2, 5, 3, 4)
        assert np.array_equal(fast.col2im_6d_cython(c6, *x.shape, HH, WW, pad, stride), back)
        product = np.tensordot(w.reshape(len(w), -1), columns, 1) + b[:, None]
    want = conv_forward_naive(x, w, b, param)[0].transpose(1, 2, 3, 0).reshape(len(w), -1)
    np.testing.assert_allclose(product, want, rtol=1e-3, atol=1e-4)


@both
def test_columns_refuse_what_does_not_fit(name):
    with backend(name):
        for call in (
            lambda: fast.im2col_cython(np.ones((1, 1, 4, 4)), 3, 5, 0, 1),
            lambda: fast.col2im_cython(np.ones((9, 2)), 1, 1, 4, 4, 3, 3, 0, 2),
            lambda: fast.col2im_cython(np.ones((9, 7)), 1, 1, 4, 4, 3, 3, 0, 1),
            lambda: fast.col2im_6d_cython(np.ones((1, 3, 3, 2, 2, 2)), 1, 1, 4, 4, 3, 3, 0, 1),
        ):
            with pytest.raises(ValueError):
                call()


@both
@settings(max_examples=25, deadline=None)
@given(case=test_pooling.pools(), halves=st.booleans())
def test_leftover_pixels_get_no_gradient(name, case, halves):
    """The 2x2 kernel writes pair after pair; what remains of odd maps was never written to."""
    x, param, _ = case
    param = HALF if halves and min(x.shape[2:]) > 1 else param
    out, cache = max_pool_forward_naive(x, param)
    dout = np.random.RandomState(0).randn(*out.shape)
    for _ in range(3):  # memory that was used before
        np.full(x.shape, 1e9)
        close(pool(name, x, param, dout), [out, max_pool_backward_naive(dout, cache)])


# Threads and memory -------------------------------------------------------------------------------------------


@compiled
def test_threads_change_nothing_but_rounding_and_runs_repeat():
    rng = np.random.RandomState(0)
    x, w, b = (rng.randn(*s).astype(np.float32) for s in ((7, 5, 9, 9), (6, 5, 3, 3), (6,)))
    dout, pooled = rng.randn(7, 6, 9, 9).astype(np.float32), rng.randn(7, 5, 8, 8).astype(np.float32)
    param, results, before = {"stride": 1, "pad": 1}, {}, cython_backend.get_num_threads()
    try:
        for threads in (1, 2, 3, 16):
            cython_backend.set_num_threads(threads)
            assert cython_backend.get_num_threads() == threads
            runs = [convolve("cython", x, w, b, param, dout) + pool("cython", pooled, HALF, pooled[:, :, ::2, ::2])]
            for _ in range(5):
                runs.append(
                    convolve("cython", x, w, b, param, dout) + pool("cython", pooled, HALF, pooled[:, :, ::2, ::2])
                )
            assert all(np.array_equal(a, c) for run in runs for a, c in zip(run, runs[0], strict=True))
            results[threads] = runs[0]
    finally:
        cython_backend.set_num_threads(before)
    for threads in (2, 3, 16):
        close(results[threads], results[1], np.float32)


def test_number_of_threads():
    before = fast.get_num_threads()
    fast.set_num_threads(1)
    assert fast.get_num_threads() == 1
    fast.set_num_threads(before)
    for bad in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="number must be a whole number of at least 1"):
            fast.set_num_threads(bad)


@compiled
def test_the_weights_gradient_is_kept_once_for_each_thread():
    """The first thread's becomes the result: with many filters the copies are what takes the memory."""
    x, w, dout = (np.ones(s, np.float32) for s in ((2, 256, 4, 4), (512, 256, 3, 3), (2, 512, 4, 4)))
    with backend("cython"), two_threads():
        tracemalloc.start()
        fast.conv_backward_fast(dout, (x, w, np.zeros(512, np.float32), {"stride": 1, "pad": 1}))
        assert tracemalloc.get_traced_memory()[1] < 2 * w.nbytes + 1.5 * 2**20
        tracemalloc.stop()


@compiled
def test_blas_gets_its_threads_back():
    before = [library.get_num_threads() for library in cython_backend._blas]
    ones = np.ones((1, 1, 3, 3))
    convolve("cython", ones, ones, np.ones(1), {"stride": 1, "pad": 1}, ones)
    assert before == [library.get_num_threads() for library in cython_backend._blas]


@contextlib.contextmanager
def two_threads():
    before = fast.get_num_threads()
    fast.set_num_threads(2)
    try:
        yield
    finally:
        fast.set_num_threads(before)


@both
def test_no_whole_column_matrix(name):
    """One workspace of about a megabyte above the results, where all columns would take 9 times the pictures."""
    x, w, b = (np.zeros(s, np.float32) for s in ((32, 16, 32, 32), (16, 16, 3, 3), 16))
    with backend(name), two_threads():
        for call, result in (
            (lambda: fast.conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})[0], x.nbytes),
            (lambda: fast.conv_backward_fast(x, (x, w, b, {"stride": 1, "pad": 1})), x.nbytes),
        ):
            tracemalloc.start()
            call()
            assert tracemalloc.get_traced_memory()[1] < result + 1.5 * 2**20
            tracemalloc.stop()


# Which backend ------------------------------------------------------------------------------------------------


def python(code, **environment):
    """Run code in a fresh interpreter without torch."""
    code = "import sys; sys.modules['torch'] = None\n" + code
    clean = {k: v for k, v in os.environ.items() if k != "WORKBOOK_FAST"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=clean | environment, check=False
    )


MISSING = "sys.modules['common.layers.fast._convolution'] = None\n"
SHOW = "import common.layers as layers; from common.layers import fast; print(fast.BACKEND, fast.HAVE_CYTHON)"


def test_without_the_kernels_numpy_serves_with_one_notice():
    done = python(MISSING + SHOW)
    assert done.stdout.split() == ["numpy", "False"], done.stderr
    assert done.stderr.count("fast layers: NumPy code serves") == 1
    assert "python setup.py build_ext --inplace" in done.stderr


def test_numpy_by_choice_is_silent():
    done = python(SHOW, WORKBOOK_FAST="numpy")
    assert done.stdout.split() == ["numpy", "False"] and done.stderr == ""


@compiled
def test_the_kernels_serve_where_they_are():
    done = python(SHOW)
    assert done.stdout.split() == ["cython", "True"] and done.stderr == ""
    assert python(SHOW, WORKBOOK_FAST="cython").stdout.split() == ["cython", "True"]


@compiled
def test_number_of_threads_follows_the_environment():
    show = "from common.layers import fast; print(fast.get_num_threads())"
    assert python(show, OMP_NUM_THREADS="1").stdout.split() == ["1"]


def test_the_kernels_by_choice_but_missing():
    done = python(MISSING + SHOW, WORKBOOK_FAST="cython")
    assert done.returncode and "build the kernels with `python setup.py build_ext --inplace`" in done.stderr


def test_an_unknown_backend():
    assert "WORKBOOK_FAST must be cython or numpy, got 'fortran'" in python(SHOW, WORKBOOK_FAST="fortran").stderr
