"""The fast layers' doors: no argument ends the process, and a forked process computes. All run in child processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.layers import conv_forward_naive, fast

pytestmark = pytest.mark.robustness
ROOT = Path(__file__).parents[1]
compiled = pytest.mark.skipif(not fast.HAVE_CYTHON, reason="the kernels are not compiled here")


def child(code, backend="cython"):
    """Run code in a fresh interpreter; the result, or a failure after a minute."""
    environment = os.environ | {"WORKBOOK_FAST": backend, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # and the processes that it has made
        process.communicate()
        pytest.fail("it hangs")
    return process.returncode, out, err.strip()


PRELUDE = """
import numpy as np
from common.layers import fast
x, w, b = np.ones((2, 3, 4, 4)), np.ones((4, 3, 2, 2)), np.ones(4)
"""

# Arguments ----------------------------------------------------------------------------------------------------

REFUSED = {
    "no pictures": ("fast.im2col_cython(x[:0], 2, 2, 0, 1)", "N must be a whole number of at least 1, got 0"),
    "no channels": ("fast.im2col_cython(x[:, :0], 2, 2, 0, 1)", "C must be a whole number of at least 1, got 0"),
    "no width": ("fast.im2col_cython(x, 2, 0, 0, 1)", "WW must be a whole number of at least 1, got 0"),
    "no height": ("fast.im2col_cython(x, 0, 2, 0, 1)", "HH must be a whole number of at least 1, got 0"),
    "stride -1": ("fast.im2col_cython(x, 2, 2, 0, -1)", "stride must be a whole number of at least 1, got -1"),
    "stride 0": ("fast.im2col_cython(x, 2, 2, 0, 0)", "stride must be a whole number of at least 1, got 0"),
    "pad -1": ("fast.im2col_cython(x, 2, 2, -1, 1)", "pad must be a whole number of at least 0, got -1"),
    "three axes": ("fast.im2col_cython(x[0], 2, 2, 0, 1)", "pictures (N, C, H, W) are needed"),
    "huge pad": ("fast.im2col_cython(x, 2, 2, 2**31 - 1, 1)", "pad 2147483647 around an input of 4"),
    "huge pad of a convolution": ("fast.conv_forward_fast(x, w, b, {'pad': 2**31 - 1})", "pad 2147483647 around"),
    "columns of no pictures": (
        "fast.col2im_6d_cython(x.reshape(2, 3, 4, 4)[None, None], 0, 3, 4, 4, 2, 2, 0, 1)",
        "N ",
    ),
    "columns of no width": ("fast.col2im_cython(np.ones((0, 40)), 2, 3, 4, 4, 2, 0, 0, 1)", "WW must be"),
    "columns of text": ("fast.im2col_cython(x.astype(str), 2, 2, 0, 1)", "x must hold real numbers, got <U"),
}


def errors(calls, backend="cython"):
    """{name: "ValueError: ..."} of the calls, in one child after the other: where one ends the process, the next begins
    with the call behind it.
    """
    found, left = {}, dict(calls)
    while left:
        code, out, _ = child(
            f"""
from common.layers.fast import _convolution as c, _pooling as p
for name, call in {left!r}.items():
    print(name, end="\\t", flush=True)
    try:
        exec(call)
        print("nothing was refused", flush=True)
    except Exception as error:
        print(type(error).__name__ + ": " + str(error).replace("\\n", " "), flush=True)
""",
            backend,
        )
        lines = [line.split("\t") for line in out.splitlines()]
        found |= {name: text or f"the process ended with {code}" for name, text in lines}
        if code == 0:
            break
        left = {name: call for name, call in left.items() if name not in found}
    return found


@compiled
@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_arguments_are_refused_by_an_exception(backend):
    found = errors({name: call for name, (call, _) in REFUSED.items()}, backend)
    wrong = {
        name: found[name]
        for name, (_, message) in REFUSED.items()
        if not found[name].startswith(("ValueError", "TypeError")) or message not in found[name]
    }
    assert not wrong


THREADS = "x = np.ones((9999, 1, 2, 2)); fast.max_pool_forward_fast(x, dict(pool_height=2, pool_width=2, stride=2))"


@compiled
def test_a_hundred_thousand_threads():
    code, _, err = child("fast.set_num_threads(100000)\n" + THREADS)
    assert code == 1 and "ValueError: number is 100000; this process may use at most" in err


DIRECT = {
    "stride 0": "c.conv_forward(x, w, b, 0, 0, 1)",
    "pad -1": "c.conv_forward(x, w, b, 1, -1, 1)",
    "huge pad": "c.conv_forward(x, w, b, 1, 2**31 - 1, 1)",
    "no filters": "c.conv_forward(x, w[:0], b[:0], 1, 0, 1)",
    "no pictures": "c.conv_forward(x[:0], w, b, 1, 0, 1)",
    "other channels": "c.conv_forward(x[:, :2].copy(), w, b, 1, 0, 1)",
    "few biases": "c.conv_forward(x, w, b[:1], 1, 0, 1)",
    "large filters": "c.conv_forward(x, np.ones((4, 3, 9, 9)), b, 1, 0, 1)",
    "no threads": "c.conv_forward(x, w, b, 1, 0, 0)",
    "many threads": "c.conv_forward(x, w, b, 1, 0, 10**5)",
    "None": "c.conv_forward(None, w, b, 1, 0, 1)",
    "dout of another shape": "c.conv_backward(np.ones((1, 1, 1, 1)), x, w, 1, 0, 1)",
    "columns without windows": "c.im2col_6d(x, 0, 0, 0, 1)",
    "columns of None": "c.im2col_6d(None, 1, 1, 0, 1)",
    "pictures larger than their columns": "c.col2im_6d(np.ones((1, 1, 1, 1, 1, 1)), 50000, 5, 0, 1)",
    "pooling with stride 0": "p.pool_forward(x, 2, 2, 0, 1)",
    "pooling with no threads": "p.pool_forward(x, 2, 2, 2, 0)",
    "pooling with many threads": "p.pool_forward(np.ones((9999, 1, 2, 2)), 2, 2, 2, 10**5)",
    "pooling without width": "p.pool_forward(x, 2, 0, 2, 1)",
    "large pooling": "p.pool_forward(x, 200, 200, 1, 1)",
    "pooled gradient of another shape": "p.pool_backward(np.ones((200, 3, 9, 9)), x, 2, 2, 1, 1)",
}


@compiled
def test_the_compiled_functions_refuse_them_too():
    found = errors(DIRECT)
    assert found.keys() == DIRECT.keys()
    assert not {name: text for name, text in found.items() if not text.startswith(("ValueError", "TypeError"))}


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16])
def test_numpy_integers_are_numbers_like_others(kind):
    """2 * uint8(200) is 144: the naive layer and the fast one gave outputs of different sizes."""
    x, w, b = np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3)), np.ones(1)
    pad = 100 if kind is np.int8 else 200
    want, _ = fast.conv_forward_fast(x, w, b, {"stride": 1, "pad": pad})
    assert want.shape == (1, 1, 3 + 2 * pad, 3 + 2 * pad)
    for convolve in (fast.conv_forward_fast, conv_forward_naive):
        assert np.array_equal(convolve(x, w, b, {"stride": kind(1), "pad": kind(pad)})[0], want)
    assert fast.im2col_cython(x, kind(3), kind(3), kind(pad), kind(1)).shape == (9, want.size)


# Fork ---------------------------------------------------------------------------------------------------------

TWO_THREADS = """
import multiprocessing, os, sys
rng = np.random.RandomState(0)
x, w, b, param = rng.randn(40, 3, 16, 16), rng.randn(4, 3, 3, 3), rng.randn(4), {"stride": 1, "pad": 1}
half = {"pool_height": 2, "pool_width": 2, "stride": 2}

def sums(_=None):
    out, cache = fast.conv_forward_fast(x, w, b, param)
    pooled, _ = fast.max_pool_forward_fast(out, half)
    return [float(a.sum()) for a in (out, pooled, *fast.conv_backward_fast(out, cache))]

fast.set_num_threads(2)
want = sums()

def right(got):
    return np.allclose(got, want, rtol=1e-12)
"""

FORKS = {
    "os.fork": """
child = os.fork()
if child == 0:
    os._exit(0 if right(sums()) and fast.get_num_threads() == 1 else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
    "multiprocessing": """
with multiprocessing.get_context("fork").Pool(2) as pool:
    sys.exit(0 if all(map(right, pool.map(sums, range(4)))) else 3)
""",
    "DataLoader": """
import torch
loader = torch.utils.data.DataLoader(range(4), collate_fn=sums, num_workers=2, multiprocessing_context="fork")
sys.exit(0 if all(map(right, loader)) else 3)
""",
    "joblib": """
from joblib import Parallel, delayed
results = Parallel(n_jobs=2, backend="multiprocessing")(delayed(sums)(i) for i in range(4))
sys.exit(0 if all(map(right, results)) else 3)
""",
}


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("way", FORKS)
def test_a_forked_process_convolves(way):
    """After a convolution with two threads the second thread is missing in the child, which waited for it for ever."""
    code, _, err = child(TWO_THREADS + FORKS[way])
    assert code == 0, err


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_stays_at_one_thread_and_its_parent_at_two():
    code, out, err = child(
        TWO_THREADS
        + """
if (child := os.fork()) == 0:
    try:
        fast.set_num_threads(2)
    except ValueError as error:
        print(error, flush=True)
    os._exit(0 if right(sums()) else 3)
assert os.waitpid(child, 0)[1] == 0
print(fast.get_num_threads(), right(sums()))
"""
    )
    assert code == 0, err
    assert "at most 1, since it was made by a fork" in out and out.split()[-2:] == ["2", "True"]
