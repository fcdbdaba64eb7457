"""The sequence functions of the RNN and the LSTM against torch.nn.RNN and torch.nn.LSTM: forward + backward, float32.

    python -m benchmarks.recurrent [--threads 2] [--rounds 5]

T = 16 steps, N = 100 sequences, H = 512 units, inputs of W = 256 numbers. Rivals: PyTorch with as many threads, and
the loop over step functions, as the courses publish it. Every rival runs in worker processes of its own, in turns.
Claim: at most 1.5 times the time of PyTorch.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks._rivals import compare

T, N, H, W = 16, 100, 512, 256
GATES = {"rnn": 1, "lstm": 4}
MOST = 1.5  # times the time of PyTorch


def data(cell: str) -> list[np.ndarray]:
    """x, h0, Wx, Wh, b, dh in float32."""
    rng, k = np.random.RandomState(0), GATES[cell]
    shapes = (N, T, W), (N, H), (W, k * H), (H, k * H), (k * H,), (N, T, H)
    scales = 1, 1, W**-0.5, H**-0.5, 0.1, 1
    return [(scale * rng.randn(*shape)).astype(np.float32) for shape, scale in zip(shapes, scales, strict=True)]


# Rivals: each prepares and returns the call that is timed; its result is a few numbers of h and of all gradients -----


def ours(cell: str) -> Callable:
    """rnn_forward and rnn_backward, or those of the LSTM."""
    from common.layers import recurrent

    *inputs, dh = data(cell)
    forward, backward = (getattr(recurrent, f"{cell}_{way}") for way in ("forward", "backward"))

    def call():
        h, cache = forward(*inputs)
        return fingerprint([h, *backward(dh, cache)])

    return warm(call)


def loop_of_steps(cell: str) -> Callable:
    """One call of the step function a step, with the weights' gradients added up on the way back."""
    from common.layers import recurrent

    x, h0, Wx, Wh, b, dh = data(cell)
    forward, backward = (getattr(recurrent, f"{cell}_step_{way}") for way in ("forward", "backward"))
    states = 1 if cell == "rnn" else 2

    def call():
        state, h, caches = [h0, np.zeros_like(h0)][:states], np.empty((N, T, H), np.float32), []
        for t in range(T):
            *state, cache = forward(x[:, t], *state, Wx, Wh, b)
            h[:, t] = state[0]
            caches.append(cache)
        dx, totals = np.empty_like(x), [np.zeros_like(w) for w in (Wx, Wh, b)]
        dstate = [np.zeros_like(h0)] * states
        for t in reversed(range(T)):
            dx[:, t], *rest = backward(dh[:, t] + dstate[0], *dstate[1:], caches[t])
            dstate = rest[:states]
            for total, part in zip(totals, rest[states:], strict=True):
                total += part
        return fingerprint([h, dx, dstate[0], *totals])

    return warm(call)


def pytorch(cell: str) -> Callable:
    """torch.nn.RNN or torch.nn.LSTM, with the same weights."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x, h0, Wx, Wh, b, dh = data(cell)
    order = np.arange(GATES[cell] * H)
    if cell == "lstm":
        order = order.reshape(4, H)[[0, 1, 3, 2]].ravel()  # PyTorch has the gates in the order i, f, g, o
    layer = (torch.nn.RNN if cell == "rnn" else torch.nn.LSTM)(W, H, batch_first=True)
    values = Wx.T[order], Wh.T[order], b[order], np.zeros_like(b)
    for parameter, value in zip(layer.parameters(), values, strict=True):
        parameter.data = torch.from_numpy(np.ascontiguousarray(value))
    tx, th, dout = (torch.from_numpy(value) for value in (x, h0[None], dh))
    wanted = [tx.requires_grad_(), th.requires_grad_(), *list(layer.parameters())]
    back = np.argsort(order)

    def call():
        out, _ = layer(tx, th if cell == "rnn" else (th, torch.zeros_like(th)))
        dx, dh0, dWx, dWh, db, _ = (g.numpy() for g in torch.autograd.grad(out, wanted, dout))
        return fingerprint([out.detach().numpy(), dx, dh0, dWx[back].T, dWh[back].T, db[back]])

    return warm(call)


def fingerprint(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """A few numbers of each array: enough to see that rivals compute the same, too few to cost time."""
    return [array[tuple(slice(None, None, max(1, size // 5)) for size in array.shape)].copy() for array in arrays]


def warm(call: Callable) -> Callable:
    """The call, after two that are not timed: libraries load and start their threads."""
    call(), call()
    return call


def agree(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    """Equal up to float32's rounding."""
    return all(np.abs(p - q).max() < 1e-3 * max(1, np.abs(q).max()) for p, q in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recurrent", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    os.environ.update(
        dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads))
    )
    print(f"{options.threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for cell in GATES:
        rivals = {"ours": ours, "pytorch": pytorch, "loop of steps": loop_of_steps}
        measured = compare({name: partial(f, cell) for name, f in rivals.items()}, options.rounds, options.repeats)
        mine = measured["ours"]
        assert all(agree(it.result, mine.result) for it in measured.values()), "the rivals' results differ"
        for name, it in measured.items():
            print(f"{cell:5}{name:14}{1e3 * it.seconds:8.1f} ms {it.seconds / mine.seconds:6.2f} times ours")
        ratio = mine.seconds / measured["pytorch"].seconds
        print(f"{'held  ' if ratio <= MOST else 'MISSED'} {cell}: {ratio:.2f} times PyTorch's time, at most {MOST}")


if __name__ == "__main__":
    main()
