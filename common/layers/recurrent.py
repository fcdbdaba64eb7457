"""Recurrent layers: one step and whole sequences of the plain (Elman) network and of the LSTM.

A step function does what the formula says. A sequence function computes the same as a loop over steps, in less time:
the inputs of all steps are multiplied by Wx at once before the loop, and the gradients of the weights, which are sums
over the steps, are one product each after it. Inside, time is the first axis, so that each step is one block of memory.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def rnn_step_forward(x: Array, prev_h: Array, Wx: Array, Wh: Array, b: Array) -> tuple[Array, tuple]:
    """next_h = tanh(x Wx + prev_h Wh + b).

    Elman, Finding structure in time (1990).
    Args:
        x: (N, D) inputs of this step.
        prev_h: (N, H) hidden state before it.
        Wx, Wh, b: (D, H), (H, H) and (H,).
    Returns:
        next_h (N, H) and a cache.
    Raises:
        ValueError: an empty batch, or shapes that do not fit.
    """
    _check_shapes(x, prev_h, Wx, Wh, b, steps=False, gates=1)
    ### BEGIN SOLUTION rnn_captioning, 1
    next_h = np.tanh(x @ Wx + prev_h @ Wh + b)  # (N, H)
    ### END SOLUTION
    return next_h, (x, prev_h, Wx, Wh, next_h)


def rnn_step_backward(dnext_h: Array, cache: tuple) -> tuple[Array, ...]:
    """Gradients of one step; tanh' = 1 - tanh^2.

    Args:
        dnext_h: (N, H) gradient with respect to next_h.
        cache: of `rnn_step_forward`.
    Returns:
        dx (N, D), dprev_h (N, H), dWx (D, H), dWh (H, H), db (H,).
    """
    x, prev_h, Wx, Wh, next_h = cache
    ### BEGIN SOLUTION rnn_captioning, 1
    dz = dnext_h * (1 - next_h**2)  # (N, H), with respect to the argument of tanh
    dx, dprev_h = dz @ Wx.T, dz @ Wh.T
    dWx, dWh, db = x.T @ dz, prev_h.T @ dz, dz.sum(axis=0)
    ### END SOLUTION
    return dx, dprev_h, dWx, dWh, db


def rnn_forward(x: Array, h0: Array, Wx: Array, Wh: Array, b: Array) -> tuple[Array, tuple]:
    """T steps of `rnn_step_forward`; each takes the state that the one before it made.

    Args:
        x: (N, T, D) inputs of all steps.
        h0: (N, H) state before the first step.
        Wx, Wh, b: (D, H), (H, H) and (H,), the same in every step.
    Returns:
        h (N, T, H), the states after each step, and a cache.
    Raises:
        ValueError: an empty batch, no steps, or shapes that do not fit.
    """
    _check_shapes(x, h0, Wx, Wh, b, steps=True, gates=1)
    (N, T, _), H = x.shape, len(Wh)
    x = _time_first(x)  # (T, N, D)
    h = np.empty((T + 1, N, H), np.result_type(x, Wx))
    h[0] = h0
    ### BEGIN SOLUTION rnn_captioning, 2
    as_rows(h[1:])[:] = as_rows(x) @ Wx  # what no state is needed for, of all steps at once
    h[1:] += b
    for t in range(T):
        h[t + 1] += h[t] @ Wh
        np.tanh(h[t + 1], out=h[t + 1])
    ### END SOLUTION
    return h[1:].swapaxes(0, 1), (x, h, Wx, Wh)


def rnn_backward(dh: Array, cache: tuple) -> tuple[Array, ...]:
    """Backpropagation through time: the state of a step is used twice, by the loss there and by the next step.

    Werbos, Backpropagation through time: what it does and how to do it (1990).
    Args:
        dh: (N, T, H) gradients that reach each state from the loss at its own step only.
        cache: of `rnn_forward`.
    Returns:
        dx (N, T, D), dh0 (N, H), dWx (D, H), dWh (H, H), db (H,).
    Raises:
        ValueError: dh has not the shape of h.
    """
    x, h, Wx, Wh = cache  # (T, N, D), (T + 1, N, H)
    dz = _gradient_of_states(dh, h)  # (T, N, H), a copy of dh, time first
    dcarried = np.zeros_like(h[0])  # (N, H), from the steps after this one
    ### BEGIN SOLUTION rnn_captioning, 2
    for t in reversed(range(len(x))):
        dz[t] += dcarried
        dz[t] *= 1 - h[t + 1] ** 2
        dcarried = dz[t] @ Wh.T
    dx = (as_rows(dz) @ Wx.T).reshape(x.shape)  # (T, N, D)
    dWx, dWh, db = as_rows(x).T @ as_rows(dz), as_rows(h[:-1]).T @ as_rows(dz), as_rows(dz).sum(axis=0)
    ### END SOLUTION
    return dx.swapaxes(0, 1), dcarried, dWx, dWh, db


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which no x makes overflow.

    Args:
        x: array of any shape.
    """
    ### BEGIN SOLUTION lstm_captioning, 1
    return 0.5 * (1 + np.tanh(0.5 * x))
    ### END SOLUTION


def lstm_step_forward(
    x: Array, prev_h: Array, prev_c: Array, Wx: Array, Wh: Array, b: Array
) -> tuple[Array, Array, tuple]:
    """The gates i, f, o and the candidate g from x Wx + prev_h Wh + b; c = f prev_c + i g and h = o tanh(c).

    Hochreiter and Schmidhuber, Long short-term memory (1997); the gate f is from Gers, Schmidhuber and Cummins,
    Learning to forget (2000). The four blocks of columns are in the order i, f, o, g (PyTorch: i, f, g, o).
    Args:
        x: (N, D) inputs of this step.
        prev_h, prev_c: (N, H) hidden state and cell state before it.
        Wx, Wh, b: (D, 4H), (H, 4H) and (4H,).
    Returns:
        next_h (N, H), next_c (N, H) and a cache.
    Raises:
        ValueError: an empty batch, or shapes that do not fit.
    """
    _check_shapes(x, prev_h, Wx, Wh, b, steps=False, gates=4)
    if prev_c.shape != prev_h.shape:
        raise ValueError(f"prev_c must have the shape of prev_h, {prev_h.shape}, got {prev_c.shape}")
    ### BEGIN SOLUTION lstm_captioning, 1
    a_i, a_f, a_o, a_g = np.split(x @ Wx + prev_h @ Wh + b, 4, axis=1)  # (N, H) each
    i, f, o, g = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o), np.tanh(a_g)
    next_c = f * prev_c + i * g
    tanh_c = np.tanh(next_c)
    next_h = o * tanh_c
    ### END SOLUTION
    return next_h, next_c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, tanh_c)


def activate_gates(a: Array) -> list[Array]:
    """Change a = (a_i, a_f, a_o, a_g) in place into i, f, o = sigmoid and g = tanh; one tanh does all four.

    Args:
        a: (N, 4H).
    Returns:
        i, f, o, g (N, H) each: views of a.
    """
    sigmoids = a[:, : 3 * a.shape[1] // 4]  # (N, 3H)
    sigmoids *= 0.5  # sigmoid(x) = (1 + tanh(x / 2)) / 2
    np.tanh(a, out=a)
    sigmoids += 1
    sigmoids *= 0.5
    return np.split(a, 4, axis=1)


def lstm_step_backward(dnext_h: Array, dnext_c: Array, cache: tuple) -> tuple[Array, ...]:
    """Gradients of one step; next_c reaches the loss along two ways, by itself and through next_h.

    Args:
        dnext_h, dnext_c: (N, H) gradients with respect to next_h and next_c.
        cache: of `lstm_step_forward`.
    Returns:
        dx (N, D), dprev_h (N, H), dprev_c (N, H), dWx (D, 4H), dWh (H, 4H), db (4H,).
    """
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, tanh_c = cache
    ### BEGIN SOLUTION lstm_captioning, 1
    dc = dnext_c + dnext_h * o * (1 - tanh_c**2)  # (N, H), both ways together
    da_i = dc * g * i * (1 - i)
    da_f = dc * prev_c * f * (1 - f)
    da_o = dnext_h * tanh_c * o * (1 - o)
    da_g = dc * i * (1 - g**2)
    da = np.hstack([da_i, da_f, da_o, da_g])  # (N, 4H)
    dx, dprev_h, dprev_c = da @ Wx.T, da @ Wh.T, dc * f
    dWx, dWh, db = x.T @ da, prev_h.T @ da, da.sum(axis=0)
    ### END SOLUTION
    return dx, dprev_h, dprev_c, dWx, dWh, db


def lstm_forward(x: Array, h0: Array, Wx: Array, Wh: Array, b: Array) -> tuple[Array, tuple]:
    """T steps of `lstm_step_forward`, from the state h0 and a cell state of zeros.

    Args:
        x: (N, T, D) inputs of all steps.
        h0: (N, H) hidden state before the first step.
        Wx, Wh, b: (D, 4H), (H, 4H) and (4H,), the same in every step.
    Returns:
        h (N, T, H), the hidden states after each step, and a cache.
    Raises:
        ValueError: an empty batch, no steps, or shapes that do not fit.
    """
    _check_shapes(x, h0, Wx, Wh, b, steps=True, gates=4)
    (N, T, _), H = x.shape, len(Wh)
    x = _time_first(x)  # (T, N, D)
    h, c, tanh_c = (np.zeros((steps, N, H), np.result_type(x, Wx)) for steps in (T + 1, T + 1, T))
    h[0] = h0
    ### BEGIN SOLUTION lstm_captioning, 2
    gates = (as_rows(x) @ Wx).reshape(T, N, 4 * H)  # what no state is needed for, of all steps at once
    gates += b
    for t in range(T):
        gates[t] += h[t] @ Wh
        i, f, o, g = activate_gates(gates[t])
        c[t + 1] = f * c[t] + i * g
        np.tanh(c[t + 1], out=tanh_c[t])
        np.multiply(o, tanh_c[t], out=h[t + 1])
    ### END SOLUTION
    return h[1:].swapaxes(0, 1), (x, h, c, Wx, Wh, gates, tanh_c)


def lstm_backward(dh: Array, cache: tuple) -> tuple[Array, ...]:
    """Backpropagation through time for the LSTM; the loss sees the hidden states only, so dc starts as zeros.

    Args:
        dh: (N, T, H) gradients that reach each hidden state from the loss at its own step only.
        cache: of `lstm_forward`.
    Returns:
        dx (N, T, D), dh0 (N, H), dWx (D, 4H), dWh (H, 4H), db (4H,).
    Raises:
        ValueError: dh has not the shape of h.
    """
    x, h, c, Wx, Wh, gates, tanh_c = cache
    dh = _gradient_of_states(dh, h)  # (T, N, H), a copy, time first
    da, dc, dcarried = np.empty_like(gates), np.zeros_like(h[0]), np.zeros_like(h[0])
    ### BEGIN SOLUTION lstm_captioning, 2
    for t in reversed(range(len(x))):
        (i, f, o, g), (da_i, da_f, da_o, da_g) = np.split(gates[t], 4, axis=1), np.split(da[t], 4, axis=1)  # views
        dh[t] += dcarried
        dc += dh[t] * o * (1 - tanh_c[t] ** 2)
        da_i[:] = dc * g * i * (1 - i)
        da_f[:] = dc * c[t] * f * (1 - f)
        da_o[:] = dh[t] * tanh_c[t] * o * (1 - o)
        da_g[:] = dc * i * (1 - g**2)
        dc *= f  # what the step before gets
        dcarried = da[t] @ Wh.T
    dx = (as_rows(da) @ Wx.T).reshape(x.shape)  # (T, N, D)
    dWx, dWh, db = as_rows(x).T @ as_rows(da), as_rows(h[:-1]).T @ as_rows(da), as_rows(da).sum(axis=0)
    ### END SOLUTION
    return dx.swapaxes(0, 1), dcarried, dWx, dWh, db


# Inside -----------------------------------------------------------------------------------------------------------


def _check_shapes(x: Array, h: Array, Wx: Array, Wh: Array, b: Array, *, steps: bool, gates: int) -> None:
    """Raise ValueError unless the shapes fit: x (N, D) or (N, T, D), h (N, H), Wx (D, kH), Wh (H, kH), b (kH,)."""
    fit = x.ndim == 2 + steps and h.ndim == Wx.ndim == Wh.ndim == 2 and min(x.shape) > 0
    fit = fit and h.shape == (len(x), len(Wh)) and Wx.shape == (x.shape[-1], gates * len(Wh))
    if not fit or Wh.shape != (len(Wh), gates * len(Wh)) or b.shape != Wx.shape[1:]:
        wide, axes = ("H", "4H")[gates > 1], ("N, D", "N, T, D")[steps]
        raise ValueError(
            f"x ({axes}), a state (N, H), Wx (D, {wide}), Wh (H, {wide}) and b ({wide},), none empty, are needed, "
            f"got {x.shape}, {h.shape}, {Wx.shape}, {Wh.shape}, {b.shape}"
        )


def _time_first(x: Array) -> Array:
    """(N, T, D) as (T, N, D), every step a block of memory."""
    return np.ascontiguousarray(x.swapaxes(0, 1))


def _gradient_of_states(dh: Array, h: Array) -> Array:
    """A copy of dh (N, T, H), time first, in the dtype of the states h (T + 1, N, H)."""
    wanted = (h.shape[1], len(h) - 1, h.shape[2])
    if dh.shape != wanted:
        raise ValueError(f"dh must have the shape of h, {wanted}, got {dh.shape}")
    return dh.swapaxes(0, 1).astype(h.dtype, order="C")


def as_rows(x: Array) -> Array:
    """(T, N, D) as (T N, D)."""
    return x.reshape(-1, x.shape[-1])
