"""The fast layers against PyTorch and the courses' im2col: five convolutions and max-pooling, float32.

    python -m benchmarks.convolution [--backend cython|numpy] [--threads 2] [--rounds 5]

Rivals: torch.nn.functional.conv2d on NCHW; the courses' strided im2col, which keeps the whole column matrix for the
backward pass; sliding_window_view + tensordot (forward). Every rival runs in worker processes of its own, in turns.
Claims (Cython): as fast as PyTorch forward + backward and at least 0.8 forward (geometric means, no shape below 0.6),
2.5 times the courses' im2col, no more memory than PyTorch, and 1.7 times PyTorch's 2x2 pooling.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks._rivals import Measured, compare

# pictures, filters, stride, pad
SHAPES = [
    ((100, 3, 31, 31), (25, 3, 3, 3), 2, 1),
    ((64, 3, 32, 32), (32, 3, 7, 7), 1, 3),
    ((64, 32, 32, 32), (64, 32, 3, 3), 1, 1),
    ((128, 64, 16, 16), (128, 64, 3, 3), 1, 1),
    ((32, 128, 8, 8), (256, 128, 3, 3), 1, 1),
]
POOLED = (64, 32, 32, 32)
Layer = tuple[tuple, tuple, int, int]


def data(layer: Layer) -> tuple[np.ndarray, ...]:
    """x, w, b, dout in float32."""
    (N, _, H, W), (F, _, HH, WW), stride, pad = layer
    out = N, F, 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    rng = np.random.RandomState(0)
    return tuple(rng.randn(*shape).astype(np.float32) for shape in (layer[0], layer[1], (F,), out))


def flops(layer: Layer) -> float:
    """Of the forward pass; the backward pass takes twice as many."""
    w, dout = layer[1], data(layer)[3]
    return 2.0 * dout.size * w[1] * w[2] * w[3]


# Rivals: each prepares and returns the call that is timed; its result is the last gradient's or the output's sum ----


def ours(layer: Layer, backward: bool) -> Callable:
    """conv_forward_fast and conv_backward_fast, of the backend that WORKBOOK_FAST names."""
    from common.layers import fast

    x, w, b, dout = data(layer)
    param = {"stride": layer[2], "pad": layer[3]}

    def call():
        out, cache = fast.conv_forward_fast(x, w, b, param)
        return fingerprint(fast.conv_backward_fast(dout, cache) if backward else [out])

    return warm(call)


def pytorch(layer: Layer, backward: bool) -> Callable:
    """torch.nn.functional.conv2d, NCHW."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x, w, b, dout = (torch.from_numpy(array) for array in data(layer))
    inputs = [tensor.requires_grad_(backward) for tensor in (x, w, b)]

    def call():
        out = torch.nn.functional.conv2d(x, w, b, stride=layer[2], padding=layer[3])
        results = torch.autograd.grad(out, inputs, dout) if backward else [out]
        return fingerprint([result.numpy() for result in results])

    return warm(call)


def strided_im2col(layer: Layer, backward: bool) -> Callable:
    """The published fast layer of the courses: one column matrix for the whole batch, kept for the backward pass."""
    from common.layers import fast

    x, w, b, dout = data(layer)
    (N, C, H, W), (F, _, HH, WW), stride, pad = layer
    OH, OW = dout.shape[2:]

    def call():
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        n, c, h, v = padded.strides
        windows = np.lib.stride_tricks.as_strided(
            padded, (C, HH, WW, N, OH, OW), (c, h, v, n, stride * h, stride * v), writeable=False
        )
        columns = np.ascontiguousarray(windows).reshape(C * HH * WW, N * OH * OW)
        out = (w.reshape(F, -1).dot(columns) + b[:, None]).reshape(F, N, OH, OW)
        out = np.ascontiguousarray(out.transpose(1, 0, 2, 3))
        if not backward:
            return fingerprint([out])
        flat = dout.transpose(1, 0, 2, 3).reshape(F, -1)
        dw = flat.dot(columns.T).reshape(w.shape)
        dcolumns = w.reshape(F, -1).T.dot(flat).reshape(C, HH, WW, N, OH, OW)
        dx = fast.col2im_6d_cython(dcolumns, N, C, H, W, HH, WW, pad, stride)
        return fingerprint([dx, dw, flat.sum(axis=1)])

    return warm(call)


def sliding_windows(layer: Layer, backward: bool) -> Callable:
    """sliding_window_view + tensordot."""
    x, w, b, _ = data(layer)
    _, (_, _, HH, WW), stride, pad = layer

    def call():
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (HH, WW), (2, 3))[:, :, ::stride, ::stride]
        out = np.tensordot(windows, w, axes=((1, 4, 5), (1, 2, 3))) + b
        return fingerprint([np.ascontiguousarray(out.transpose(0, 3, 1, 2))])

    return warm(call)


def our_pool(size: int) -> Callable:
    """Max-pooling of size x size with stride 2, forward and backward."""
    from common.layers import fast

    x, dout = pool_data(size)
    param = {"pool_height": size, "pool_width": size, "stride": 2}
    return warm(lambda: fingerprint([fast.max_pool_backward_fast(dout, fast.max_pool_forward_fast(x, param)[1])]))


def torch_pool(size: int) -> Callable:
    """torch.nn.functional.max_pool2d, NCHW, forward and backward."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x, dout = (torch.from_numpy(array) for array in pool_data(size))
    x.requires_grad_()

    def call():
        (dx,) = torch.autograd.grad(torch.nn.functional.max_pool2d(x, size, stride=2), x, dout)
        return fingerprint([dx.numpy()])

    return warm(call)


def pool_data(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and dout; x is larger where windows overlap, so that as many of them fit."""
    N, C, H, W = POOLED
    rng = np.random.RandomState(0)
    x = rng.randn(N, C, H + size - 2, W + size - 2)
    return x.astype(np.float32), rng.randn(N, C, H // 2, W // 2).astype(np.float32)


def fingerprint(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """A few numbers of each array: enough to see that rivals compute the same, too few to cost time."""
    return [array.ravel()[:: max(1, array.size // 100)].copy() for array in arrays]


def warm(call: Callable) -> Callable:
    """The call, after two that are not timed: libraries load and start their threads."""
    call(), call()
    return call


# The tables ---------------------------------------------------------------------------------------------------


def agree(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    """Equal up to float32's rounding."""
    return all(np.abs(p - q).max() < 1e-3 * max(1, np.abs(q).max()) for p, q in zip(a, b, strict=True))


def convolutions(backward: bool, rounds: int, repeats: int) -> list[dict[str, Measured]]:
    """Measure and print all shapes."""
    print("forward + backward" if backward else "forward", "- how many times as fast ours is as ...")
    rivals = {"ours": ours, "pytorch": pytorch, "strided im2col": strided_im2col}
    rivals |= {} if backward else {"sliding windows": sliding_windows}
    print(
        f"{'':42}" + "".join(f"{name:>17}" for name in list(rivals)[1:]) + "   GFLOP/s (MB): ours, then in that order"
    )
    results = []
    for layer in SHAPES:
        measured = compare({n: partial(f, layer, backward) for n, f in rivals.items()}, rounds, repeats)
        mine = measured["ours"]
        assert all(agree(it.result, mine.result) for it in measured.values()), "the rivals' results differ"
        speeds = "".join(f"{it.seconds / mine.seconds:17.2f}" for it in list(measured.values())[1:])
        work = flops(layer) * (3 if backward else 1) / 1e9
        rates = ", ".join(f"{work / it.seconds:.0f} ({it.extra / 1e6:.0f})" for it in measured.values())
        print(f"{layer[0]!s:>18} * {layer[1]!s:16} s{layer[2]} p{layer[3]}{speeds}   {rates}", flush=True)
        results.append(measured)
    means = "".join(f"{geometric_mean(ratios(results, name)):17.2f}" for name in list(rivals)[1:])
    print(f"{'geometric mean':42}{means}\n", flush=True)
    return results


def pooling(size: int, rounds: int, repeats: int) -> float:
    """Measure and print how many times as fast as PyTorch we pool."""
    rivals = {"ours": partial(our_pool, size), "pytorch": partial(torch_pool, size)}
    ours, theirs = compare(rivals, rounds, repeats).values()
    assert agree(theirs.result, ours.result), "the pooling results differ"
    speed = theirs.seconds / ours.seconds
    print(f"max-pooling {size}x{size}, stride 2, of {POOLED}, forward + backward: {speed:.2f} times PyTorch's speed")
    return speed


def ratios(results: list[dict[str, Measured]], rival: str) -> list[float]:
    """How many times as fast ours is, shape by shape."""
    return [measured[rival].seconds / measured["ours"].seconds for measured in results]


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def verdict(claim: str, value: float, least: float) -> None:
    print(f"{'held  ' if value >= least else 'MISSED'} {claim}: {value:.2f}, at least {least:g}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolution", description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("cython", "numpy"), default="cython")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    os.environ["WORKBOOK_FAST"] = options.backend  # the workers inherit these
    os.environ.update(
        dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads))
    )

    print(
        f"{options.backend} backend, {options.threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    forward = convolutions(False, options.rounds, options.repeats)
    both = convolutions(True, options.rounds, options.repeats)
    pool = pooling(2, options.rounds, options.repeats)
    pooling(3, options.rounds, options.repeats)
    print()
    if options.backend == "numpy":
        return
    memory = min(
        (m["pytorch"].extra + 2**20) / (m["ours"].extra + 2**20) for m in both
    )  # a megabyte: the sampling's grain
    verdict("PyTorch, forward, geometric mean", geometric_mean(ratios(forward, "pytorch")), 0.8)
    verdict("PyTorch, forward + backward, geometric mean", geometric_mean(ratios(both, "pytorch")), 1.0)
    verdict("PyTorch, forward + backward, worst shape", min(ratios(both, "pytorch")), 0.6)
    verdict("strided im2col, forward + backward, geometric mean", geometric_mean(ratios(both, "strided im2col")), 2.5)
    verdict("PyTorch's extra memory / ours, worst shape", memory, 1.0)
    verdict("PyTorch's 2x2 pooling", pool, 1.7)


if __name__ == "__main__":
    main()
