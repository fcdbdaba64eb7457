"""Captioning in PyTorch: the course's numbers, twins by hand, attention on any grid, sampling, learning by heart."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.captions.sampling import beam_search, log_likelihood, sample_captions
from common.classifiers.rnn import CaptioningRNN as ByHand
from common.layers import recurrent as by_hand
from common.pytorch import recurrent
from common.pytorch.captioning import CaptioningRNN, FeatureExtractor, as_grid, train_captioner
from common.vision.backbone import Backbone
from tests.test_captioning_rnn import TINY, WORDS, toy_data

CELLS = ("rnn", "lstm", "attention")
SIZES = st.integers(1, 4)
SEEDS = st.integers(0, 1000)


def ramp(low, high, *shape):
    return torch.linspace(low, high, int(np.prod(shape)), dtype=torch.float64).reshape(shape)


def draws(seed, *shapes):
    rng = np.random.RandomState(seed)
    return [torch.from_numpy(rng.randn(*shape)) for shape in shapes]


def ends(x):
    return [x.sum().item(), x.flatten()[0].item(), x.flatten()[-1].item()]


def model(cell, dtype=torch.float64, words=WORDS, **options):
    return CaptioningRNN(words, 6, 5, 4, cell, dtype=dtype, seed=0, **options)


def features_for(cell, N=3, seed=0, dtype=torch.float64):
    shape = (N, 6, 2, 3) if cell == "attention" else (N, 6)
    return draws(seed, shape)[0].to(dtype)


class TestKnownNumbers:
    """The recipes of EECS 498."""

    @pytest.mark.learner
    def test_rnn(self):
        N, D, H = 3, 10, 4
        x, prev_h, Wx = ramp(-0.4, 0.7, N, D), ramp(-0.2, 0.5, N, H), ramp(-0.1, 0.9, D, H)
        h, _ = recurrent.rnn_step_forward(x, prev_h, Wx, ramp(-0.3, 0.7, H, H), ramp(-0.2, 0.4, H))
        np.testing.assert_allclose(ends(h), [5.42551357, -0.58172089, 0.99854353], atol=1e-8)
        N, T, D, H = 2, 3, 4, 5
        x, h0, Wx = ramp(-0.1, 0.3, N, T, D), ramp(-0.3, 0.1, N, H), ramp(-0.2, 0.4, D, H)
        h, _ = recurrent.rnn_forward(x, h0, Wx, ramp(-0.4, 0.1, H, H), ramp(-0.7, 0.1, H))
        np.testing.assert_allclose(ends(h), [-1.46960863, -0.42070749, 0.40333043], atol=1e-7)

    def step(self, **attention):
        N, D, H = 3, 4, 5
        x, prev_h, prev_c = ramp(-0.4, 1.2, N, D), ramp(-0.3, 0.7, N, H), ramp(-0.4, 0.9, N, H)
        weights = ramp(-2.1, 1.3, D, 4 * H), ramp(-0.7, 2.2, H, 4 * H), ramp(0.3, 0.7, 4 * H)
        return recurrent.lstm_step_forward(x, prev_h, prev_c, *weights, **attention)

    @pytest.mark.learner
    def test_lstm(self):
        h, c = self.step()
        np.testing.assert_allclose(ends(h), [8.28450343, 0.24635157, 0.858299], atol=1e-8)
        np.testing.assert_allclose(ends(c), [12.01941823, 0.32986176, 1.42395676], atol=1e-8)
        N, D, H, T = 2, 5, 4, 3
        x, h0 = ramp(-0.4, 0.6, N, T, D), ramp(-0.4, 0.8, N, H)
        h = recurrent.lstm_forward(x, h0, ramp(-0.2, 0.9, D, 4 * H), ramp(-0.3, 0.6, H, 4 * H), ramp(0.2, 0.7, 4 * H))
        np.testing.assert_allclose(ends(h), [10.07909268, 0.01764008, 0.86935314], atol=1e-7)

    @pytest.mark.learner
    def test_attention(self):
        attn, weights = recurrent.dot_product_attention(ramp(-0.4, 0.6, 2, 5), ramp(-0.4, 1.8, 2, 5, 4, 4))
        np.testing.assert_allclose(ends(attn), [7.00908794, -0.29784344, 1.69966103], atol=1e-7)
        np.testing.assert_allclose(ends(weights), [2, 0.06511126, 0.06812722], atol=1e-7)
        torch.testing.assert_close(weights.sum(dim=(1, 2)), torch.ones(2).double())

    @pytest.mark.learner
    def test_attention_step_and_sequence(self):
        h, c = self.step(attn=ramp(0.6, 1.8, 3, 5), Wattn=ramp(1.3, 4.2, 5, 20))
        np.testing.assert_allclose(ends(h), [12.14467967, 0.53704256, 0.95623746], atol=1e-8)
        np.testing.assert_allclose(ends(c), [18.74996624, 0.59999328, 1.9], atol=1e-8)
        N, D, H, T = 2, 5, 4, 3
        x, A, Wx = ramp(-0.4, 0.6, N, T, D), ramp(-0.4, 1.8, N, H, 4, 4), ramp(-0.2, 0.9, D, 4 * H)
        Wh, Wattn = ramp(-0.3, 0.6, H, 4 * H), ramp(1.3, 4.2, H, 4 * H)
        h = recurrent.attention_forward(x, A, Wx, Wh, Wattn, ramp(0.2, 0.7, 4 * H))
        np.testing.assert_allclose(ends(h), [22.45138315, 0.56141729, 0.99982435], atol=1e-8)

    @pytest.mark.learner
    @pytest.mark.parametrize(
        ("N", "T", "kept", "want"), [(1000, 1, 1, 2.07), (1000, 10, 1, 20.7), (5000, 10, 0.1, 2.07)]
    )
    def test_loss_of_equal_scores(self, N, T, kept, want):
        """Of ten words, id 0 does not count."""
        rng = np.random.RandomState(0)
        y = torch.from_numpy(rng.randint(10, size=(N, T)) * (rng.rand(N, T) < kept))
        x = 0.001 * torch.from_numpy(rng.rand(N, T, 10))
        assert recurrent.temporal_softmax_loss(x, y, 0).item() == pytest.approx(want, rel=0.05)

    @pytest.mark.learner
    @pytest.mark.parametrize(
        ("cell", "low", "high", "want"), [("rnn", -1.5, 0.3, 9.83235591003), ("lstm", -0.5, 1.7, 9.82445935443)]
    )
    def test_whole_models_of_cs231n(self, cell, low, high, want):
        net = CaptioningRNN(TINY, 20, 30, 40, cell, dtype=torch.float64)
        for name, p in net.named_parameters():
            values = ramp(-1.4, 1.3, *(p.shape[::-1] if name in ("project.weight", "output.weight") else p.shape))
            p.data.copy_(values.T if values.shape != p.shape or name.endswith("t.weight") else values)
        loss = net(ramp(low, high, 10, 20), (torch.arange(130) % 3).view(10, 13))
        assert abs(loss.item() - want) < 1e-10


class TestLayers:
    @pytest.mark.learner
    @settings(max_examples=20, deadline=None)
    @given(SIZES, SIZES, SIZES, SIZES, SEEDS)
    def test_twins_by_hand(self, N, T, D, H, seed):
        x, h0, Wx, Wh, b, dh = leaves = draws(seed, (N, T, D), (N, H), (D, H), (H, H), (H,), (N, T, H))
        for leaf in leaves[:5]:
            leaf.requires_grad_()
        h, caches = recurrent.rnn_forward(x, h0, Wx, Wh, b)
        h.backward(dh)
        with torch.no_grad():
            want, of_numpy = by_hand.rnn_forward(*(leaf.numpy() for leaf in leaves[:5]))
            mine = recurrent.rnn_backward(dh, caches)
        np.testing.assert_allclose(h.detach(), want, atol=1e-12)
        for got, numpy, leaf in zip(mine, by_hand.rnn_backward(dh.numpy(), of_numpy), leaves[:5], strict=True):
            assert (got - leaf.grad).abs().max() < 1e-12 * max(1, leaf.grad.abs().max())
            np.testing.assert_allclose(got, numpy, atol=1e-11)

    @pytest.mark.learner
    @settings(max_examples=20, deadline=None)
    @given(SIZES, SIZES, SIZES, SIZES, SEEDS)
    def test_lstm_against_the_numpy_layer(self, N, T, D, H, seed):
        args = draws(seed, (N, T, D), (N, H), (D, 4 * H), (H, 4 * H), (4 * H,))
        want, _ = by_hand.lstm_forward(*(a.numpy() for a in args))
        np.testing.assert_allclose(recurrent.lstm_forward(*args), want, atol=1e-12)

    @pytest.mark.learner
    @settings(max_examples=30, deadline=None)
    @given(SIZES, SIZES, SIZES, SIZES, SEEDS)
    def test_attention_against_loops(self, N, H, rows, columns, seed):
        """Also one example, one cell, and grids that are not square."""
        h, A = draws(seed, (N, H), (N, H, rows, columns))
        attn, weights = recurrent.dot_product_attention(h, A)
        assert attn.shape == (N, H)
        assert weights.shape == (N, rows, columns)
        for n in range(N):
            cells = list(np.ndindex(rows, columns))
            e = np.exp([float(h[n] @ A[n, :, i, j]) / np.sqrt(H) for i, j in cells])
            for (i, j), p in zip(cells, e / e.sum(), strict=True):
                np.testing.assert_allclose(weights[n, i, j], p)
            want = sum(p * A[n, :, i, j] for (i, j), p in zip(cells, e / e.sum(), strict=True))
            np.testing.assert_allclose(attn[n], want)

    @pytest.mark.learner
    def test_attention_of_one_cell_is_an_lstm_with_one_more_input(self):
        x, A, Wx, Wh, Wattn, b = draws(0, (2, 3, 4), (2, 5, 1, 1), (4, 20), (5, 20), (5, 20), (20,))
        got = recurrent.attention_forward(x, A, Wx, Wh, Wattn, b)
        column = A[:, :, 0, 0]
        h, c = column, column
        for t in range(3):
            wide = torch.cat([x[:, t], column], dim=1), torch.cat([Wx, Wattn])
            h, c = recurrent.lstm_step_forward(wide[0], h, c, wide[1], Wh, b)
            torch.testing.assert_close(got[:, t], h)

    @pytest.mark.learner
    @pytest.mark.parametrize("layer", [recurrent.RNN, recurrent.LSTM, recurrent.AttentionLSTM])
    def test_modules_run_their_functions_step_by_step(self, layer):
        torch.manual_seed(0)
        cell, (x, h0, A) = layer(4, 5).double(), draws(0, (2, 3, 4), (2, 5), (2, 5, 2, 3))
        assert not cell.b.any()
        whole = cell(x, A if layer is recurrent.AttentionLSTM else h0)
        h, c = h0, torch.zeros_like(h0)
        if layer is recurrent.AttentionLSTM:
            h = c = A.mean(dim=(2, 3))
        for t in range(3):
            if layer is recurrent.RNN:
                h = cell.step_forward(x[:, t], h)
            elif layer is recurrent.LSTM:
                h, c = cell.step_forward(x[:, t], h, c)
            else:
                h, c = cell.step_forward(x[:, t], h, c, recurrent.dot_product_attention(h, A)[0])
            torch.testing.assert_close(whole[:, t], h)

    @pytest.mark.learner
    def test_where_weights_start(self):
        torch.manual_seed(0)
        cell = recurrent.AttentionLSTM(100, 400)
        for name, fan_in in (("Wx", 100), ("Wh", 400), ("Wattn", 400)):
            assert getattr(cell, name).std().item() == pytest.approx(fan_in**-0.5, rel=0.02)
        assert recurrent.WordEmbedding(100, 200).W_embed.std().item() == pytest.approx(0.01, rel=0.05)

    @pytest.mark.learner
    def test_embedding_gradients_of_repeated_words_add_up(self):
        embed = recurrent.WordEmbedding(5, 3).double()
        embed(torch.tensor([[0, 3, 1, 0], [0, 1, 1, 2]])).sum().backward()
        assert embed.W_embed.grad[:, 0].tolist() == [3, 3, 1, 1, 0]

    @pytest.mark.learner
    @settings(max_examples=20, deadline=None)
    @given(SIZES, SIZES, SIZES, SEEDS)
    def test_loss_against_loops(self, N, T, V, seed):
        (x,), y = draws(seed, (N, T, V)), torch.from_numpy(np.random.RandomState(seed).randint(V, size=(N, T)))
        p = np.exp(x.numpy()) / np.exp(x.numpy()).sum(2, keepdims=True)
        for ignored in (None, 0):
            places = [(n, t) for n, t in np.ndindex(N, T) if y[n, t] != ignored]
            want = -sum(np.log(p[n, t, y[n, t]]) for n, t in places) / N
            np.testing.assert_allclose(recurrent.temporal_softmax_loss(x, y, ignored).item(), want, atol=1e-12)

    @pytest.mark.robustness
    def test_bad_shapes_are_named(self):
        x, h, A, Wx, Wh, b = draws(0, (2, 3, 4), (2, 5), (2, 5, 2, 2), (4, 20), (5, 20), (20,))
        for call in (
            lambda: recurrent.rnn_step_forward(x[:, 0], h, Wx, Wh, b),
            lambda: recurrent.rnn_forward(x[:, 0], h, Wx, Wh, b),
            lambda: recurrent.lstm_step_forward(x[:, 0], h[:, :4], h, Wx, Wh, b),
            lambda: recurrent.lstm_step_forward(x[:, 0], h, h[:1], Wx, Wh, b),
            lambda: recurrent.lstm_step_forward(x[:, 0], h, h, Wx, Wh, b, attn=h),
            lambda: recurrent.lstm_forward(x, h, Wx, Wh, b[:5]),
            lambda: recurrent.dot_product_attention(h, A[:1]),
            lambda: recurrent.dot_product_attention(h, A[0]),
            lambda: recurrent.attention_forward(x, h, Wx, Wh, Wh, b),
            lambda: recurrent.temporal_softmax_loss(x, torch.zeros(2, 4, dtype=torch.int64)),
        ):
            with pytest.raises(ValueError, match=r"needed|must have the shape"):
                call()


class TestCaptioningRNN:
    @pytest.mark.learner
    @pytest.mark.parametrize("cell", ["rnn", "lstm"])
    def test_against_the_network_by_hand(self, cell):
        """Loss, gradients, greedy captions and steps of `common.classifiers.rnn` with the same parameters."""
        net, other = model(cell), ByHand(WORDS, 6, 5, 4, cell, np.float64, rng=0)
        places = {
            "W_proj": net.project.weight, "b_proj": net.project.bias, "W_embed": net.embed.W_embed, "Wx": net.cell.Wx,
            "Wh": net.cell.Wh, "b": net.cell.b, "W_vocab": net.output.weight, "b_vocab": net.output.bias,
        }  # fmt: skip
        turned = ("W_proj", "W_vocab")
        for name, p in places.items():
            value = torch.from_numpy(other.params[name])
            p.data.copy_(value.T if name in turned else value)
        features, captions = features_for(cell), np.random.RandomState(0).randint(len(WORDS), size=(3, 5))
        want, grads = other.loss(features.numpy(), captions)
        loss = net(features, captions)
        loss.backward()
        assert abs(loss.item() - want) < 1e-12
        for name, p in places.items():
            np.testing.assert_allclose(p.grad.T if name in turned else p.grad, grads[name], atol=1e-12)
        np.testing.assert_array_equal(net.sample(features, 8), other.sample(features.numpy(), 8))
        scores, _ = net.step(captions[:, 0], net.start(features))
        np.testing.assert_allclose(scores, other.step(captions[:, 0], other.start(features.numpy()))[0], atol=1e-12)

    @pytest.mark.learner
    @pytest.mark.parametrize("cell", CELLS)
    def test_steps_give_the_scores_of_the_sequence(self, cell):
        net, features = model(cell), features_for(cell)
        words = torch.from_numpy(np.random.RandomState(0).randint(len(WORDS), size=(3, 4)))
        whole, state = net.scores(features, words), net.start(features)
        for t in range(4):
            scores, state = net.step(words[:, t], state)
            torch.testing.assert_close(scores, whole[:, t].detach())

    @pytest.mark.learner
    @pytest.mark.parametrize("cell", CELLS)
    @pytest.mark.parametrize("N", [1, 3])
    def test_gradients_reach_every_parameter(self, cell, N):
        net = model(cell)
        net(features_for(cell, N), np.random.RandomState(0).randint(1, len(WORDS), size=(N, 6))).backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())

    @pytest.mark.learner
    @pytest.mark.parametrize("cell", CELLS)
    @pytest.mark.parametrize("N", [1, 4])
    def test_samples(self, cell, N):
        net, features = model(cell), features_for(cell, N)
        got = net.sample(features, 9)
        captions, looks = got if cell == "attention" else (got, None)
        assert captions.shape == (N, 9)
        for row in captions.tolist():
            after = row[row.index(WORDS["<END>"]) + 1 :] if WORDS["<END>"] in row else []
            assert set(after) <= {WORDS["<NULL>"]}
        if looks is not None:
            assert looks.shape == (N, 9, 2, 3)
            sums, written = looks.sum(dim=(2, 3)), captions != WORDS["<NULL>"]
            torch.testing.assert_close(sums[written], torch.ones_like(sums[written]))
        greedy = sample_captions(net, features, 9, temperature=0)
        np.testing.assert_array_equal(captions, greedy)

    @pytest.mark.learner
    def test_attention_maps_stop_with_the_caption(self):
        net = model("attention")
        with torch.no_grad():
            net.output.bias[WORDS["<END>"]] = 100
        captions, looks = net.sample(features_for("attention"), 3)
        assert captions.tolist() == [[WORDS["<END>"], 0, 0]] * 3
        torch.testing.assert_close(looks.sum(dim=(2, 3)), torch.tensor([[1.0, 0, 0]] * 3).double())

    @pytest.mark.robustness
    @pytest.mark.parametrize("cell", CELLS)
    def test_beam_search_runs_on_it(self, cell):
        net, features = model(cell), features_for(cell, 4)
        for p in net.parameters():
            p.data.mul_(3)  # scores that differ clearly
        net.output.bias.data[WORDS["<NULL>"]] = -100  # an untrained net may write it, after which a beam has ended
        one, many = (beam_search(net, features, width, 6) for width in (1, 40))
        np.testing.assert_array_equal(one, sample_captions(net, features, 6, temperature=0))
        assert (log_likelihood(net, features, many) >= log_likelihood(net, features, one) - 1e-9).all()

    @pytest.mark.learner
    @pytest.mark.parametrize("cell", CELLS)
    def test_learns_fifty_captions_by_heart(self, cell):
        data = toy_data(50)
        features = torch.from_numpy(data["train_features"])
        if cell == "attention":
            features = as_grid(features, 2)  # (50, 5, 2, 2)
        net = CaptioningRNN(WORDS, features.shape[1], 32, 128, cell, seed=0)
        losses = train_captioner(
            net, features, data["train_image_idxs"], data["train_captions"], num_epochs=60, batch_size=20,
            learning_rate=1e-2, lr_decay=0.98,
        )  # fmt: skip
        assert len(losses) == 60 * 3, "the last, smaller batch is not dropped"
        assert losses[0] == pytest.approx(4.5 * np.log(len(WORDS)), rel=0.2)
        assert np.mean(losses[-3:]) < 0.3
        got = net.sample(features, 6)
        got = got[0] if cell == "attention" else got
        assert (got.numpy() == data["train_captions"][:, 1:]).all(axis=1).mean() > 0.9

    @pytest.mark.learner
    def test_a_step_of_training_is_adam_on_the_loss_of_forward(self):
        """One epoch of three batches against a loop that calls the model itself; the last batch is smaller."""
        data, losses = toy_data(11), []
        features, captions = torch.from_numpy(data["train_features"]), torch.from_numpy(data["train_captions"])
        options = {"num_epochs": 2, "batch_size": 4, "learning_rate": 1e-2, "lr_decay": 0.5, "seed": 3}
        one, two = (CaptioningRNN(WORDS, features.shape[1], 5, 4, "lstm", seed=0) for _ in range(2))
        got = train_captioner(one, features, data["train_image_idxs"], captions, **options)
        adam = torch.optim.Adam(two.parameters(), lr=1e-2)
        for epoch in range(2):
            order = torch.from_numpy(np.random.RandomState([3, epoch]).permutation(11))
            for rows in order.split(4):
                loss = two(features[data["train_image_idxs"][rows]], captions[rows])
                adam.zero_grad()
                loss.backward()
                adam.step()
                losses.append(loss.item())
            adam.param_groups[0]["lr"] *= 0.5
        np.testing.assert_allclose(got, losses, rtol=1e-5)
        for name, p in one.state_dict().items():
            torch.testing.assert_close(p, two.state_dict()[name])

    @pytest.mark.robustness
    def test_training_goes_on_from_a_checkpoint(self, tmp_path):
        """Stopped after an epoch and started again: the weights of a run that was not."""
        data, nets, kept = toy_data(11), [], tmp_path / "net.pt"
        inputs = torch.from_numpy(data["train_features"]), data["train_image_idxs"], data["train_captions"]
        options = {"num_epochs": 3, "batch_size": 4, "learning_rate": 1e-2, "lr_decay": 0.5}

        def stop(step, steps):
            if step == 7:
                raise KeyboardInterrupt

        for checkpoint, on_step in ((None, None), (kept, stop), (kept, None)):
            net = CaptioningRNN(WORDS, inputs[0].shape[1], 5, 4, "lstm", seed=0)
            hooks = {"on_step": on_step} if on_step else {}
            try:
                losses = train_captioner(net, *inputs, **options, **hooks, checkpoint=checkpoint)
            except KeyboardInterrupt:
                continue
            nets.append(net)
            assert len(losses) == 9
        for name, p in nets[0].state_dict().items():
            assert torch.equal(p, nets[1].state_dict()[name]), name

    @pytest.mark.robustness
    def test_features_with_cells_are_averaged_without_attention(self):
        net, maps = model("lstm"), features_for("attention")
        captions = np.random.RandomState(0).randint(len(WORDS), size=(3, 5))
        torch.testing.assert_close(net(maps, captions), net(maps.mean(dim=(2, 3)), captions))

    @pytest.mark.robustness
    def test_the_seed_is_that_of_the_parameters_only(self):
        torch.manual_seed(3)
        want = torch.rand(2)
        torch.manual_seed(3)
        one, two = (model("attention").state_dict() for _ in range(2))
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert torch.equal(torch.rand(2), want)

    @pytest.mark.robustness
    def test_bad_input_is_named(self):
        net, looking, captions = model("rnn"), model("attention"), np.ones((3, 5), np.int64)
        with pytest.raises(ValueError, match="cell_type must be one of rnn, lstm, attention, got 'gru'"):
            model("gru")
        for sizes in ({"input_dim": 0}, {"wordvec_dim": 0}, {"hidden_dim": 0}, {"word_to_idx": {}}):
            with pytest.raises(ValueError, match=r"_dim|words"):
                CaptioningRNN(**({"word_to_idx": WORDS} | sizes))
        for bad in (torch.zeros(3, 7), torch.zeros(0, 6), torch.zeros(3)):
            with pytest.raises(ValueError, match=r"this network needs \(N, 6\)"):
                net(bad, captions)
        with pytest.raises(ValueError, match=r"this network needs \(N, 6, rows, columns\)"):
            looking(torch.zeros(3, 6), captions)
        features = features_for("rnn")
        for bad in (captions[:2], captions[:, :1], captions[0]):
            with pytest.raises(ValueError, match="captions have shape"):
                net(features, bad)
        for bad in (captions * len(WORDS), -captions):
            with pytest.raises(ValueError, match="captions hold ids"):
                net(features, bad)
        with pytest.raises(TypeError, match="integer word ids"):
            net(features, captions.astype(float))
        with pytest.raises(ValueError, match="captions are on meta, but the network is on cpu"):
            net(features, torch.zeros(3, 5, dtype=torch.int64, device="meta"))
        with pytest.raises(ValueError, match="features are on meta"):
            net(torch.zeros(3, 6, device="meta"), captions)
        with pytest.raises(ValueError, match="max_length"):
            net.sample(features, 0)
        with pytest.raises(ValueError, match=r"no <START> and no <END>"):
            model("rnn", words={"<NULL>": 0, "a": 1}).sample(features)
        with pytest.raises(ValueError, match="3 captions need as many image_idxs"):
            train_captioner(net, features, [0, 1], captions, num_epochs=1)
        with pytest.raises(ValueError, match="num_epochs"):
            train_captioner(net, features, [0, 1, 2], captions, num_epochs=0)


class TestFeatures:
    def backbone(self):
        torch.manual_seed(0)
        parts = {"a": nn.Conv2d(3, 6, 8, 8), "b": nn.Tanh()}
        return Backbone(parts, nn.Flatten(), [0.5] * 3, [0.25] * 3, "b")

    @pytest.mark.robustness
    @pytest.mark.parametrize("N", [1, 5])
    def test_pooled_and_on_a_grid(self, N):
        pictures = np.random.RandomState(0).randint(0, 256, (N, 224, 224, 3)).astype(np.uint8)
        net = self.backbone()
        maps = net.features(net.preprocess(pictures), "b")  # (N, 6, 28, 28)
        pooled = FeatureExtractor(net, pooling=True, batch_size=2)(pictures)
        torch.testing.assert_close(pooled, maps.mean(dim=(2, 3)))
        grid = FeatureExtractor(net, grid=4, batch_size=2, dtype=torch.float64)
        cells = grid(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        assert cells.dtype == torch.float64
        torch.testing.assert_close(cells.float(), maps.unflatten(2, (4, 7)).unflatten(4, (4, 7)).mean(dim=(3, 5)))
        torch.testing.assert_close(as_grid(grid.rows(pictures), 4), cells.float())

    @pytest.mark.robustness
    def test_a_captioner_with_an_extractor_takes_pictures(self):
        extractor = FeatureExtractor(self.backbone(), grid=2, dtype=torch.float64)
        net = model("attention", extractor=extractor)
        pictures = np.random.RandomState(0).randint(0, 256, (2, 224, 224, 3)).astype(np.uint8)
        captions = np.ones((2, 4), np.int64)
        torch.testing.assert_close(net(pictures, captions), net(extractor(pictures), captions))
        assert net.sample(pictures, 3)[1].shape == (2, 3, 2, 2)

    @pytest.mark.robustness
    def test_bad_grids_are_named(self):
        with pytest.raises(ValueError, match=r"\(N, C \* 3 \* 3\) is needed"):
            as_grid(np.zeros((2, 20)), 3)
        with pytest.raises(ValueError, match="grid"):
            FeatureExtractor(self.backbone(), grid=0)
