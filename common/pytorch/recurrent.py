"""Recurrent layers in PyTorch: the plain RNN, the LSTM, and an LSTM that looks at the picture anew for each word.

Shapes and the order of the gates (i, f, o, g) are those of `common.layers.recurrent`, and so are the numbers. Here
autograd goes backward; the two gradients of the plain RNN by hand are there to be compared with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The plain RNN ------------------------------------------------------------------------------------------------


def rnn_step_forward(x: Tensor, prev_h: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> tuple[Tensor, tuple]:
    """next_h = tanh(x Wx + prev_h Wh + b).

    Args:
        x: (N, D) inputs of this step.
        prev_h: (N, H) hidden state before it.
        Wx, Wh, b: (D, H), (H, H) and (H,).
    Returns:
        next_h (N, H) and a cache.
    Raises:
        ValueError: shapes that do not fit.
    """
    checked_shapes(x, prev_h, Wx, Wh, b, steps=False, gates=1)
    ### BEGIN SOLUTION attention_captioning, 2
    next_h = torch.tanh(x @ Wx + prev_h @ Wh + b)  # (N, H)
    ### END SOLUTION
    return next_h, (x, prev_h, Wx, Wh, next_h)


def rnn_step_backward(dnext_h: Tensor, cache: tuple) -> tuple[Tensor, ...]:
    """Gradients of one step by hand; tanh' = 1 - tanh^2.

    Args:
        dnext_h: (N, H) gradient with respect to next_h.
        cache: of `rnn_step_forward`.
    Returns:
        dx (N, D), dprev_h (N, H), dWx (D, H), dWh (H, H), db (H,).
    """
    x, prev_h, Wx, Wh, next_h = cache
    dz = dnext_h * (1 - next_h**2)  # (N, H)
    return dz @ Wx.T, dz @ Wh.T, x.T @ dz, prev_h.T @ dz, dz.sum(0)


def rnn_forward(x: Tensor, h0: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> tuple[Tensor, list[tuple]]:
    """T steps of `rnn_step_forward`; each takes the state that the one before it made.

    Args:
        x: (N, T, D) inputs of all steps.
        h0: (N, H) state before the first step.
        Wx, Wh, b: as in `rnn_step_forward`.
    Returns:
        h (N, T, H), and the cache of each step.
    Raises:
        ValueError: shapes that do not fit.
    """
    checked_shapes(x, h0, Wx, Wh, b, steps=True, gates=1)
    ### BEGIN SOLUTION attention_captioning, 2
    h, states, caches = h0, [], []
    for x_t in x.unbind(1):  # (N, D)
        h, cache = rnn_step_forward(x_t, h, Wx, Wh, b)
        states.append(h)
        caches.append(cache)
    ### END SOLUTION
    return torch.stack(states, dim=1), caches


def rnn_backward(dh: Tensor, caches: list[tuple]) -> tuple[Tensor, ...]:
    """Backpropagation through time by hand.

    Args:
        dh: (N, T, H) gradients that reach each state from the loss at its own step only.
        caches: of `rnn_forward`.
    Returns:
        dx (N, T, D), dh0 (N, H), dWx (D, H), dWh (H, H), db (H,).
    """
    dcarried, dx, weights = torch.zeros_like(dh[:, 0]), [], []
    for dh_t, cache in zip(reversed(dh.unbind(1)), reversed(caches), strict=True):
        dx_t, dcarried, *dw = rnn_step_backward(dh_t + dcarried, cache)
        dx.append(dx_t)
        weights.append(dw)
    dWx, dWh, db = (torch.stack(parts).sum(0) for parts in zip(*weights, strict=True))
    return torch.stack(dx[::-1], dim=1), dcarried, dWx, dWh, db


# The LSTM, with and without attention --------------------------------------------------------------------------


def lstm_step_forward(
    x: Tensor,
    prev_h: Tensor,
    prev_c: Tensor,
    Wx: Tensor,
    Wh: Tensor,
    b: Tensor,
    attn: Tensor | None = None,
    Wattn: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The gates i, f, o and the candidate g from x Wx + prev_h Wh + b; c = f prev_c + i g and h = o tanh(c).

    Hochreiter and Schmidhuber, Long short-term memory (1997).

    Args:
        x: (N, D) inputs of this step.
        prev_h, prev_c: (N, H) hidden state and cell state before it.
        Wx, Wh, b: (D, 4H), (H, 4H) and (4H,), in the order i, f, o, g.
        attn, Wattn: (N, H) and (H, 4H); attn Wattn is added before the gates. None = no attention.
    Returns:
        next_h and next_c, (N, H) each.
    Raises:
        ValueError: shapes that do not fit, or one of attn and Wattn without the other.
    """
    checked_shapes(x, prev_h, Wx, Wh, b, steps=False, gates=4)
    if prev_c.shape != prev_h.shape or (attn is None) != (Wattn is None):
        raise ValueError(
            f"prev_c must have the shape of prev_h, and attn and Wattn come together, got {tuple(prev_c.shape)} and "
            f"{tuple(prev_h.shape)}, {'no ' if attn is None else ''}attn and {'no ' if Wattn is None else ''}Wattn"
        )
    ### BEGIN SOLUTION attention_captioning, 3
    a = x @ Wx + prev_h @ Wh + b  # (N, 4H)
    if attn is not None:
        a = a + attn @ Wattn
    i, f, o, g = a.chunk(4, dim=1)  # (N, H) each
    next_c = torch.sigmoid(f) * prev_c + torch.sigmoid(i) * torch.tanh(g)
    next_h = torch.sigmoid(o) * torch.tanh(next_c)
    ### END SOLUTION
    return next_h, next_c


def lstm_forward(x: Tensor, h0: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> Tensor:
    """T steps of `lstm_step_forward`, from the state h0 and a cell state of zeros.

    Args:
        x: (N, T, D) inputs of all steps.
        h0: (N, H) hidden state before the first step.
        Wx, Wh, b: as in `lstm_step_forward`.
    Returns:
        h (N, T, H).
    Raises:
        ValueError: shapes that do not fit.
    """
    checked_shapes(x, h0, Wx, Wh, b, steps=True, gates=4)
    ### BEGIN SOLUTION attention_captioning, 3
    h, c, states = h0, torch.zeros_like(h0), []
    for x_t in x.unbind(1):  # (N, D)
        h, c = lstm_step_forward(x_t, h, c, Wx, Wh, b)
        states.append(h)
    return torch.stack(states, dim=1)
    ### END SOLUTION


def dot_product_attention(prev_h: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """softmax over the cells of h . A / sqrt(H), and the mean of the columns of A with these weights.

    Luong, Pham and Manning, Effective approaches to attention-based neural machine translation (2015), with the scale
    of Vaswani et al., Attention is all you need (2017).

    Args:
        prev_h: (N, H) hidden state.
        A: (N, H, rows, columns) a feature map; any number of cells.
    Returns:
        attn (N, H), and the weights (N, rows, columns), which sum to 1 for each example.
    Raises:
        ValueError: shapes that do not fit.
    """
    if prev_h.ndim != 2 or A.ndim != 4 or A.shape[:2] != prev_h.shape or not A.numel():
        raise ValueError(
            f"prev_h (N, H) and A (N, H, rows, columns) are needed, got {tuple(prev_h.shape)} and {tuple(A.shape)}"
        )
    ### BEGIN SOLUTION attention_captioning, 4
    cells = A.flatten(2)  # (N, H, cells)
    scores = torch.einsum("nh,nhl->nl", prev_h, cells) / math.sqrt(A.shape[1])
    weights = scores.softmax(dim=1)  # (N, cells)
    attn = torch.einsum("nl,nhl->nh", weights, cells)
    ### END SOLUTION
    return attn, weights.view(len(A), *A.shape[2:])


def attention_forward(x: Tensor, A: Tensor, Wx: Tensor, Wh: Tensor, Wattn: Tensor, b: Tensor) -> Tensor:
    """T steps of an LSTM that attends to A in each; h0 = c0 = the mean of A over its cells.

    After Xu et al., Show, attend and tell (2015).

    Args:
        x: (N, T, D) inputs of all steps.
        A: (N, H, rows, columns).
        Wx, Wh, Wattn, b: (D, 4H), (H, 4H), (H, 4H) and (4H,).
    Returns:
        h (N, T, H).
    Raises:
        ValueError: shapes that do not fit.
    """
    checked_grid(A)
    checked_shapes(x, A.mean(dim=(2, 3)), Wx, Wh, b, steps=True, gates=4)
    ### BEGIN SOLUTION attention_captioning, 5
    h = c = A.mean(dim=(2, 3))  # (N, H)
    states = []
    for x_t in x.unbind(1):  # (N, D)
        attn, _ = dot_product_attention(h, A)
        h, c = lstm_step_forward(x_t, h, c, Wx, Wh, b, attn, Wattn)
        states.append(h)
    return torch.stack(states, dim=1)
    ### END SOLUTION


# Modules -------------------------------------------------------------------------------------------------------


class RNN(nn.Module):
    """`rnn_forward` with parameters: weights of standard deviation 1/sqrt(numbers that go in), a bias of zeros."""

    gates = 1

    def __init__(self, input_dim: int, hidden_dim: int):
        super().__init__()
        self.Wx = nn.Parameter(torch.randn(input_dim, self.gates * hidden_dim) / math.sqrt(input_dim))
        self.Wh = nn.Parameter(torch.randn(hidden_dim, self.gates * hidden_dim) / math.sqrt(hidden_dim))
        self.b = nn.Parameter(torch.zeros(self.gates * hidden_dim))

    def forward(self, x: Tensor, h0: Tensor) -> Tensor:
        """x (N, T, D) and h0 (N, H) -> h (N, T, H)."""
        return rnn_forward(x, h0, self.Wx, self.Wh, self.b)[0]

    def step_forward(self, x: Tensor, prev_h: Tensor) -> Tensor:
        """x (N, D) and prev_h (N, H) -> next_h (N, H)."""
        return rnn_step_forward(x, prev_h, self.Wx, self.Wh, self.b)[0]


class LSTM(RNN):
    """`lstm_forward` with parameters, as in `RNN`."""

    gates = 4

    def forward(self, x: Tensor, h0: Tensor) -> Tensor:
        """x (N, T, D) and h0 (N, H) -> h (N, T, H)."""
        return lstm_forward(x, h0, self.Wx, self.Wh, self.b)

    def step_forward(self, x: Tensor, prev_h: Tensor, prev_c: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, D), prev_h and prev_c (N, H) -> next_h and next_c (N, H)."""
        return lstm_step_forward(x, prev_h, prev_c, self.Wx, self.Wh, self.b)


class AttentionLSTM(LSTM):
    """`attention_forward` with parameters, as in `RNN`."""

    def __init__(self, input_dim: int, hidden_dim: int):
        super().__init__(input_dim, hidden_dim)
        self.Wattn = nn.Parameter(torch.randn(hidden_dim, 4 * hidden_dim) / math.sqrt(hidden_dim))

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        """x (N, T, D) and A (N, H, rows, columns) -> h (N, T, H)."""
        return attention_forward(x, A, self.Wx, self.Wh, self.Wattn, self.b)

    def step_forward(self, x: Tensor, prev_h: Tensor, prev_c: Tensor, attn: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, D), prev_h, prev_c and attn (N, H) -> next_h and next_c (N, H)."""
        return lstm_step_forward(x, prev_h, prev_c, self.Wx, self.Wh, self.b, attn, self.Wattn)


class WordEmbedding(nn.Module):
    """A row W_embed[id] for each word id; the table (V, W) starts with standard deviation 1/100.

    Attributes:
        W_embed: the table.
    """

    def __init__(self, vocab_size: int, embed_size: int):
        super().__init__()
        self.W_embed = nn.Parameter(torch.randn(vocab_size, embed_size) / 100)

    def forward(self, x: Tensor) -> Tensor:
        """Ids (N, T) -> vectors (N, T, W)."""
        ### BEGIN SOLUTION attention_captioning, 2
        return self.W_embed[x]
        ### END SOLUTION


def temporal_softmax_loss(x: Tensor, y: Tensor, ignore_index: int | None = None) -> Tensor:
    """Cross-entropy -log p_y of each word, summed over the steps, as a mean over the N sequences.

    Args:
        x: (N, T, V) scores of all words at every step.
        y: (N, T) ids of the right words.
        ignore_index: an id that does not count; None = all count.
    Returns:
        A scalar: the sum divided by N, not by N T and not by the number of words that count.
    Raises:
        ValueError: shapes that do not fit.
    """
    if x.ndim != 3 or y.shape != x.shape[:2] or not x.numel():
        raise ValueError(f"x (N, T, V) and y (N, T) are needed, got {tuple(x.shape)} and {tuple(y.shape)}")
    none = -100 if ignore_index is None else ignore_index  # no word has that id
    ### BEGIN SOLUTION attention_captioning, 2
    return F.cross_entropy(x.flatten(0, 1), y.flatten(), ignore_index=none, reduction="sum") / len(x)
    ### END SOLUTION


def checked_grid(A: Tensor) -> Tensor:
    """A, if it is (N, H, rows, columns) with at least one number.

    Raises:
        ValueError: it is not.
    """
    if A.ndim != 4 or not A.numel():
        raise ValueError(f"A (N, H, rows, columns), not empty, is needed, got {tuple(A.shape)}")
    return A


def checked_shapes(x: Tensor, h: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, *, steps: bool, gates: int) -> None:
    """Raise ValueError unless the shapes fit: x (N, D) or (N, T, D), h (N, H), Wx (D, kH), Wh (H, kH), b (kH,)."""
    fit = x.ndim == 2 + steps and h.ndim == Wx.ndim == Wh.ndim == 2 and x.numel() > 0
    fit = fit and h.shape == (len(x), len(Wh)) and Wx.shape == (x.shape[-1], gates * len(Wh))
    if not fit or Wh.shape != (len(Wh), gates * len(Wh)) or b.shape != Wx.shape[1:]:
        wide, axes = ("H", "4H")[gates > 1], ("N, D", "N, T, D")[steps]
        raise ValueError(
            f"x ({axes}), a state (N, H), Wx (D, {wide}), Wh (H, {wide}) and b ({wide},), none empty, are needed, "
            f"got {', '.join(str(tuple(t.shape)) for t in (x, h, Wx, Wh, b))}"
        )
