"""Recurrent, embedding and temporal layers against known numbers, loops over steps, autograd and PyTorch's layers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import eval_numerical_gradient, eval_numerical_gradient_array, rel_error
from common.layers import embedding, recurrent, temporal

SIZES = st.integers(1, 5)
SEEDS = st.integers(0, 2**31 - 1)
GATES = {"rnn": 1, "lstm": 4}
FORWARD = {"rnn": recurrent.rnn_forward, "lstm": recurrent.lstm_forward}
BACKWARD = {"rnn": recurrent.rnn_backward, "lstm": recurrent.lstm_backward}
STEP = {"rnn": recurrent.rnn_step_forward, "lstm": recurrent.lstm_step_forward}


def ramp(low, high, *shape):
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)


def leaf(x):
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


def sequence(cell, N, T, D, H, seed=0, dtype=np.float64):
    """x, h0, Wx, Wh, b, dh."""
    rng, k = np.random.RandomState(seed), GATES[cell]
    shapes = (N, T, D), (N, H), (D, k * H), (H, k * H), (k * H,), (N, T, H)
    return [rng.randn(*shape).astype(dtype) for shape in shapes]


def torch_steps(cell, x, h, Wx, Wh, b, c=None):
    """The states after each step, (N, T, H), by formulas of their own."""
    states, c = [], torch.zeros_like(h) if c is None else c
    for t in range(x.shape[1]):
        a = x[:, t] @ Wx + h @ Wh + b
        if cell == "rnn":
            h = torch.tanh(a)
        else:
            i, f, o, g = a.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return torch.stack(states, dim=1), c


def close(got, want, tolerance=1e-10):
    for mine, theirs in zip(got, want, strict=True):
        theirs = theirs.detach().numpy() if torch.is_tensor(theirs) else theirs
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() < tolerance * max(1, np.abs(theirs).max())


class TestKnownNumbers:
    """The recipes of CS231n."""

    @pytest.mark.learner
    def test_rnn_step(self):
        N, D, H = 3, 10, 4
        x, prev_h, Wx = ramp(-0.4, 0.7, N, D), ramp(-0.2, 0.5, N, H), ramp(-0.1, 0.9, D, H)
        h, _ = recurrent.rnn_step_forward(x, prev_h, Wx, ramp(-0.3, 0.7, H, H), ramp(-0.2, 0.4, H))
        np.testing.assert_allclose([h.sum(), h[0, 0], h[-1, -1]], [5.42551357, -0.58172089, 0.99854353], atol=1e-8)

    @pytest.mark.learner
    def test_rnn_sequence(self):
        N, T, D, H = 2, 3, 4, 5
        x, h0, Wx = ramp(-0.1, 0.3, N, T, D), ramp(-0.3, 0.1, N, H), ramp(-0.2, 0.4, D, H)
        h, _ = recurrent.rnn_forward(x, h0, Wx, ramp(-0.4, 0.1, H, H), ramp(-0.7, 0.1, H))
        want = [-1.46960863, -0.42070749, 0.40333043]
        np.testing.assert_allclose([h.sum(), h[0, 0, 0], h[-1, -1, -1]], want, atol=1e-7)

    @pytest.mark.learner
    def test_lstm_step(self):
        N, D, H = 3, 4, 5
        x, prev_h, prev_c = ramp(-0.4, 1.2, N, D), ramp(-0.3, 0.7, N, H), ramp(-0.4, 0.9, N, H)
        weights = ramp(-2.1, 1.3, D, 4 * H), ramp(-0.7, 2.2, H, 4 * H), ramp(0.3, 0.7, 4 * H)
        h, c, _ = recurrent.lstm_step_forward(x, prev_h, prev_c, *weights)
        np.testing.assert_allclose([h.sum(), h[0, 0], h[-1, -1]], [8.28450343, 0.24635157, 0.858299], atol=1e-8)
        np.testing.assert_allclose([c.sum(), c[0, 0], c[-1, -1]], [12.01941823, 0.32986176, 1.42395676], atol=1e-8)

    @pytest.mark.learner
    def test_lstm_sequence(self):
        N, T, D, H = 2, 3, 5, 4
        x, h0, Wx = ramp(-0.4, 0.6, N, T, D), ramp(-0.4, 0.8, N, H), ramp(-0.2, 0.9, D, 4 * H)
        h, _ = recurrent.lstm_forward(x, h0, Wx, ramp(-0.3, 0.6, H, 4 * H), ramp(0.2, 0.7, 4 * H))
        want = [10.07909268, 0.01764008, 0.86935314]
        np.testing.assert_allclose([h.sum(), h[0, 0, 0], h[-1, -1, -1]], want, atol=1e-7)

    @pytest.mark.learner
    def test_embedding(self):
        out, _ = embedding.word_embedding_forward(np.array([[0, 3, 1, 2], [2, 1, 0, 3]]), ramp(0, 1, 5, 3))
        np.testing.assert_allclose(out[0, 0], [0, 0.07142857, 0.14285714], atol=1e-8)
        np.testing.assert_allclose(out[1, 3], [0.64285714, 0.71428571, 0.78571429], atol=1e-8)

    @pytest.mark.learner
    @pytest.mark.parametrize(("N", "T", "share", "want"), [(100, 1, 1, 2.3), (100, 10, 1, 23), (5000, 10, 0.1, 2.3)])
    def test_loss_of_small_scores(self, N, T, share, want):
        rng = np.random.RandomState(0)
        mask = rng.rand(N, T) <= share
        loss, _ = temporal.temporal_softmax_loss(0.001 * rng.randn(N, T, 10), rng.randint(10, size=(N, T)), mask)
        assert abs(loss - want) < 0.05 * want


class TestSteps:
    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, SIZES, SIZES, SEEDS)
    def test_rnn_against_autograd(self, N, D, H, seed):
        x, h, Wx, Wh, b, dh = sequence("rnn", N, 1, D, H, seed)
        x, dh = x[:, 0], dh[:, 0]
        out, cache = recurrent.rnn_step_forward(x, h, Wx, Wh, b)
        leaves = [leaf(value) for value in (x, h, Wx, Wh, b)]
        want, _ = torch_steps("rnn", leaves[0][:, None], *leaves[1:])
        want[:, 0].backward(torch.tensor(dh))
        close([out], [want[:, 0]])
        close(recurrent.rnn_step_backward(dh, cache), [value.grad for value in leaves])

    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, SIZES, SIZES, SEEDS)
    def test_lstm_against_autograd(self, N, D, H, seed):
        x, h, Wx, Wh, b, dh = sequence("lstm", N, 1, D, H, seed)
        x, dh, (c, dc) = x[:, 0], dh[:, 0], np.random.RandomState(seed).randn(2, N, H)
        next_h, next_c, cache = recurrent.lstm_step_forward(x, h, c, Wx, Wh, b)
        tx, th, tc, *weights = leaves = [leaf(value) for value in (x, h, c, Wx, Wh, b)]
        want_h, want_c = torch_steps("lstm", tx[:, None], th, *weights, c=tc)
        torch.autograd.backward([want_h[:, 0], want_c], [torch.tensor(dh), torch.tensor(dc)])
        close([next_h, next_c], [want_h[:, 0], want_c])
        close(recurrent.lstm_step_backward(dh, dc, cache), [value.grad for value in leaves])

    @pytest.mark.learner
    def test_numerical_gradient_of_the_rnn(self):
        x, h, Wx, Wh, b, dh = sequence("rnn", 4, 1, 5, 6)
        x, dh = x[:, 0], dh[:, 0]
        got = recurrent.rnn_step_backward(dh, recurrent.rnn_step_forward(x, h, Wx, Wh, b)[1])
        inputs = [x, h, Wx, Wh, b]
        for i, gradient in enumerate(got):
            change = lambda v, i=i: recurrent.rnn_step_forward(*inputs[:i], v, *inputs[i + 1 :])[0]  # noqa: E731
            assert rel_error(gradient, eval_numerical_gradient_array(change, inputs[i], dh)) < 1e-7

    @pytest.mark.learner
    def test_numerical_gradient_of_the_lstm(self):
        x, h, Wx, Wh, b, dh = sequence("lstm", 4, 1, 5, 6)
        x, dh, (c, dc) = x[:, 0], dh[:, 0], np.random.RandomState(1).randn(2, 4, 6)
        inputs = [x, h, c, Wx, Wh, b]
        got = recurrent.lstm_step_backward(dh, dc, recurrent.lstm_step_forward(*inputs)[2])
        for i, gradient in enumerate(got):
            change = lambda v, i=i: np.stack(recurrent.lstm_step_forward(*inputs[:i], v, *inputs[i + 1 :])[:2])  # noqa: E731
            assert rel_error(gradient, eval_numerical_gradient_array(change, inputs[i], np.stack([dh, dc]))) < 1e-6


@pytest.mark.parametrize("cell", GATES)
class TestSequences:
    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, SIZES, SIZES, SIZES, SEEDS)
    def test_against_autograd(self, cell, N, T, D, H, seed):
        *inputs, dh = sequence(cell, N, T, D, H, seed)
        h, cache = FORWARD[cell](*inputs)
        leaves = [leaf(value) for value in inputs]
        want, _ = torch_steps(cell, *leaves)
        want.backward(torch.tensor(dh))
        close([h], [want])
        close(BACKWARD[cell](dh, cache), [value.grad for value in leaves])

    @pytest.mark.learner
    def test_against_the_steps(self, cell):
        x, h0, Wx, Wh, b, _ = sequence(cell, 3, 6, 4, 5)
        state = [h0, np.zeros_like(h0)][: 1 if cell == "rnn" else 2]
        h, _ = FORWARD[cell](x, h0, Wx, Wh, b)
        for t in range(6):
            *state, _ = STEP[cell](x[:, t], *state, Wx, Wh, b)
            np.testing.assert_allclose(h[:, t], state[0], rtol=1e-12, atol=1e-14)

    @pytest.mark.learner
    def test_against_the_layer_of_pytorch(self, cell):
        """PyTorch has two biases and transposed weights, and its LSTM the gates in the order i, f, g, o."""
        x, h0, Wx, Wh, b, dh = sequence(cell, 3, 7, 4, 5)
        theirs = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM}[cell](4, 5, batch_first=True, dtype=torch.float64)
        order = np.r_[0:5, 5:10, 15:20, 10:15] if cell == "lstm" else np.r_[0:5]
        values = Wx.T[order], Wh.T[order], b[order], np.zeros_like(b)
        for parameter, value in zip(theirs.parameters(), values, strict=True):
            parameter.data = torch.tensor(value)
        start = leaf(h0[None])
        want, _ = theirs(torch.tensor(x), start if cell == "rnn" else (start, torch.zeros_like(start)))
        want.backward(torch.tensor(dh))
        h, cache = FORWARD[cell](x, h0, Wx, Wh, b)
        _, dh0, dWx, dWh, db = BACKWARD[cell](dh, cache)
        close([h, dh0], [want, start.grad[0]])
        close([dWx.T[order], dWh.T[order], db[order]], [p.grad for p in list(theirs.parameters())[:3]])

    @pytest.mark.robustness
    def test_keeps_float32_and_its_arguments(self, cell):
        arrays = sequence(cell, 3, 4, 2, 5, dtype=np.float32)
        before = [value.copy() for value in arrays]
        h, cache = FORWARD[cell](*arrays[:-1])
        assert {a.dtype for a in (h, *BACKWARD[cell](arrays[-1], cache))} == {np.dtype(np.float32)}
        assert all((a == b).all() for a, b in zip(arrays, before, strict=True))

    @pytest.mark.robustness
    def test_backward_twice_gives_the_same(self, cell):
        *inputs, dh = sequence(cell, 3, 4, 2, 5)
        _, cache = FORWARD[cell](*inputs)
        for a, b in zip(BACKWARD[cell](dh, cache), BACKWARD[cell](dh, cache), strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.robustness
    def test_arrays_that_are_not_contiguous(self, cell):
        *inputs, dh = sequence(cell, 3, 4, 2, 5)
        strided = [np.repeat(value, 2, axis=-1)[..., ::2] for value in inputs]
        np.testing.assert_array_equal(FORWARD[cell](*strided)[0], FORWARD[cell](*inputs)[0])
        _, cache = FORWARD[cell](*inputs)
        for a, b in zip(BACKWARD[cell](np.asfortranarray(dh), cache), BACKWARD[cell](dh, cache), strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.robustness
    @pytest.mark.parametrize("place", range(5))
    def test_shapes_that_do_not_fit(self, cell, place):
        arrays = sequence(cell, 3, 4, 2, 5)[:-1]
        for spoilt in (arrays[place][..., :-1], arrays[place][None], arrays[place][:0]):
            with pytest.raises(ValueError, match="are needed, got"):
                FORWARD[cell](*arrays[:place], spoilt, *arrays[place + 1 :])

    @pytest.mark.robustness
    def test_a_gradient_of_another_shape(self, cell):
        *inputs, dh = sequence(cell, 3, 4, 2, 5)
        _, cache = FORWARD[cell](*inputs)
        with pytest.raises(ValueError, match=r"dh must have the shape of h, \(3, 4, 5\), got \(3, 3, 5\)"):
            BACKWARD[cell](dh[:, 1:], cache)


@pytest.mark.robustness
def test_steps_refuse_sequences_and_states_that_do_not_fit():
    x, h, Wx, Wh, b, _ = sequence("lstm", 3, 4, 2, 5)
    with pytest.raises(ValueError, match=r"x \(N, D\)"):
        recurrent.lstm_step_forward(x, h, h, Wx, Wh, b)
    with pytest.raises(ValueError, match="prev_c must have the shape of prev_h"):
        recurrent.lstm_step_forward(x[:, 0], h, h[:1], Wx, Wh, b)
    with pytest.raises(ValueError, match="are needed, got"):  # the weights of an LSTM in an RNN
        recurrent.rnn_step_forward(x[:, 0], h, Wx, Wh, b)


@pytest.mark.learner
def test_sigmoid():
    with np.errstate(all="raise"):
        got = recurrent.sigmoid(np.array([-1e4, -2.0, 0.0, 2.0, 1e4]))
    np.testing.assert_allclose(got, [0, 0.1192029, 0.5, 0.8807971, 1], atol=1e-7)
    assert recurrent.sigmoid(np.float32([1])).dtype == np.float32


class TestEmbedding:
    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, SIZES, SIZES, SIZES, SEEDS)
    def test_against_autograd(self, N, T, D, V, seed):
        rng = np.random.RandomState(seed)
        x, W, dout = rng.randint(V, size=(N, T)), rng.randn(V, D), rng.randn(N, T, D)
        out, cache = embedding.word_embedding_forward(x, W)
        tW = leaf(W)
        want = torch.nn.functional.embedding(torch.tensor(x), tW)
        want.backward(torch.tensor(dout))
        close([out, embedding.word_embedding_backward(dout, cache)], [want, tW.grad])

    @pytest.mark.learner
    def test_repeated_ids_add_up(self):
        _, cache = embedding.word_embedding_forward(np.array([[1, 1, 0]]), np.zeros((3, 2)))
        dW = embedding.word_embedding_backward(np.array([[[1.0, 2.0], [10.0, 20.0], [5.0, 6.0]]]), cache)
        assert dW.tolist() == [[5, 6], [11, 22], [0, 0]]

    @pytest.mark.robustness
    def test_keeps_float32(self):
        out, cache = embedding.word_embedding_forward(np.array([[1, 0]]), np.ones((3, 2), np.float32))
        assert out.dtype == embedding.word_embedding_backward(out, cache).dtype == np.float32

    @pytest.mark.robustness
    @pytest.mark.parametrize(
        ("x", "says"),
        [
            ([[0, 3]], "ids from 0 to 3; W has rows for 0 to 2"),
            ([[-1]], "from -1"),
            ([0], r"\(N, T\)"),
            ([[]], r"\(N, T\)"),
        ],
    )
    def test_bad_ids(self, x, says):
        with pytest.raises(ValueError, match=says):
            embedding.word_embedding_forward(np.array(x, dtype=int), np.ones((3, 2)))

    @pytest.mark.robustness
    def test_ids_that_are_no_integers_and_a_bad_gradient(self):
        with pytest.raises(TypeError, match="integer word ids, got float64"):
            embedding.word_embedding_forward(np.zeros((1, 1)), np.ones((3, 2)))
        _, cache = embedding.word_embedding_forward(np.zeros((1, 4), int), np.ones((3, 2)))
        with pytest.raises(ValueError, match="dout must have the shape"):
            embedding.word_embedding_backward(np.ones((1, 4, 3)), cache)


class TestTemporal:
    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, SIZES, SIZES, SIZES, SEEDS)
    def test_affine_against_autograd(self, N, T, D, M, seed):
        rng = np.random.RandomState(seed)
        x, w, b, dout = rng.randn(N, T, D), rng.randn(D, M), rng.randn(M), rng.randn(N, T, M)
        out, cache = temporal.temporal_affine_forward(x, w, b)
        leaves = [leaf(value) for value in (x, w, b)]
        want = leaves[0] @ leaves[1] + leaves[2]
        want.backward(torch.tensor(dout))
        close([out], [want])
        close(temporal.temporal_affine_backward(dout, cache), [value.grad for value in leaves])

    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, SIZES, st.integers(2, 6), SEEDS)
    def test_loss_against_autograd(self, N, T, V, seed):
        rng = np.random.RandomState(seed)
        x, y, mask = 3 * rng.randn(N, T, V), rng.randint(V, size=(N, T)), rng.rand(N, T) < 0.6
        loss, dx = temporal.temporal_softmax_loss(x, y, mask)
        tx = leaf(x)
        each = torch.nn.functional.cross_entropy(tx.flatten(0, 1), torch.tensor(y).flatten(), reduction="none")
        want = (each * torch.tensor(mask).flatten()).sum() / N
        want.backward()
        assert abs(loss - want.item()) < 1e-10 * max(1, loss)
        close([dx], [tx.grad])

    @pytest.mark.learner
    def test_numerical_gradient_of_the_loss(self):
        rng = np.random.RandomState(0)
        x, y, mask = rng.randn(7, 8, 9), rng.randint(9, size=(7, 8)), rng.rand(7, 8) > 0.5
        numeric = eval_numerical_gradient(lambda x: temporal.temporal_softmax_loss(x, y, mask)[0], x)
        assert rel_error(temporal.temporal_softmax_loss(x, y, mask)[1], numeric) < 1e-6

    @pytest.mark.robustness
    def test_keep_float32_and_their_arguments(self):
        x, w, b = (np.ones(shape, np.float32) for shape in ((2, 3, 4), (4, 5), 5))
        out, cache = temporal.temporal_affine_forward(x, w, b)
        _, dout = temporal.temporal_softmax_loss(out, np.zeros((2, 3), int), np.ones((2, 3), bool))
        assert {a.dtype for a in (out, dout, *temporal.temporal_affine_backward(dout, cache))} == {np.dtype(np.float32)}
        assert (x == 1).all()
        assert (out == 5).all()

    @pytest.mark.robustness
    def test_nothing_counts_and_huge_scores(self):
        y, none = np.zeros((1, 2), int), np.zeros((1, 2), bool)
        loss, dx = temporal.temporal_softmax_loss(np.ones((1, 2, 3)), y, none)
        assert loss == 0
        assert not dx.any()
        assert temporal.temporal_softmax_loss(np.array([[[0.0, 1e4]] * 2]), y, ~none)[0] == pytest.approx(2e4)

    @pytest.mark.robustness
    def test_bad_input(self):
        x, y, mask = np.ones((2, 3, 4)), np.zeros((2, 3), int), np.ones((2, 3), bool)
        for spoilt in ((x[0], y, mask), (x, y[:, 1:], mask), (x, y, mask[1:]), (x[:0], y[:0], mask[:0])):
            with pytest.raises(ValueError, match="are needed, got"):
                temporal.temporal_softmax_loss(*spoilt)
        with pytest.raises(ValueError, match="labels from 4 to 4; allowed are 0 to 3"):
            temporal.temporal_softmax_loss(x, y + 4, mask)
        with pytest.raises(TypeError, match="mask must hold booleans, got int64"):
            temporal.temporal_softmax_loss(x, y, mask.astype(np.int64))
        with pytest.raises(ValueError, match=r"x \(N, T, D\)"):
            temporal.temporal_affine_forward(x[0], np.ones((4, 2)), np.ones(2))
        _, cache = temporal.temporal_affine_forward(x, np.ones((4, 2)), np.ones(2))
        with pytest.raises(ValueError, match="dout must have the shape"):
            temporal.temporal_affine_backward(np.ones((2, 2, 2)), cache)
