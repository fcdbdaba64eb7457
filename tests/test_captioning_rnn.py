"""CaptioningRNN and CaptioningSolver: known losses, differences, the same net in autograd, learning by heart."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.captions.training import CaptioningSolver
from common.checks import grad_check_sparse
from common.classifiers.rnn import CaptioningRNN

TINY = {"<NULL>": 0, "cat": 2, "dog": 3}
WORDS = {word: i for i, word in enumerate(["<NULL>", "<START>", "<END>", "<UNK>", *"abcdefgh"])}
CELLS = ("rnn", "lstm")


def ramp(low, high, *shape):
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape)


def model(cell, dtype=np.float64, sizes=(4, 5, 6)):
    return CaptioningRNN(WORDS, *sizes, cell, dtype, rng=0)


def examples(N=2, T=3, seed=0, F=4):
    rng = np.random.RandomState(seed)
    return rng.randn(N, F), rng.randint(len(WORDS), size=(N, T + 1))


def toy_data(num=50, F=20, seed=0):
    """Captions of three or four words in the layout of `load_coco_data`; the features say which."""
    rng = np.random.RandomState(seed)
    captions = np.zeros((num, 7), np.int32)
    for row in captions:
        words = rng.randint(4, len(WORDS), size=rng.randint(3, 5))
        row[: len(words) + 2] = [1, *words, 2]
    features = rng.randn(num, F).astype(np.float32)
    part = {"captions": captions, "image_idxs": np.arange(num), "features": features}
    return {f"{name}_{key}": value for name in ("train", "val") for key, value in part.items()}


def torch_loss(net, features, captions):
    """Loss and gradients of the same network in autograd, with formulas of its own."""
    p = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
    h = torch.tensor(features) @ p["W_proj"] + p["b_proj"]
    c, ids, loss = torch.zeros_like(h), torch.tensor(captions), 0
    for t in range(captions.shape[1] - 1):
        a = p["W_embed"][ids[:, t]] @ p["Wx"] + h @ p["Wh"] + p["b"]
        if net.cell_type == "rnn":
            h = torch.tanh(a)
        else:
            i, f, o, g = a.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        log_p = torch.log_softmax(h @ p["W_vocab"] + p["b_vocab"], dim=1)
        right = log_p.gather(1, ids[:, t + 1 : t + 2])[:, 0]
        loss = loss - (right * (ids[:, t + 1] != 0)).sum() / len(captions)
    loss.backward()
    return loss.item(), {name: value.grad.numpy() for name, value in p.items()}


@pytest.mark.learner
@pytest.mark.parametrize(
    ("cell", "low", "high", "want"), [("rnn", -1.5, 0.3, 9.83235591003), ("lstm", -0.5, 1.7, 9.82445935443)]
)
def test_known_loss(cell, low, high, want):
    net = CaptioningRNN(TINY, 20, 30, 40, cell, np.float64)
    net.params = {name: ramp(-1.4, 1.3, *value.shape) for name, value in net.params.items()}
    loss, _ = net.loss(ramp(low, high, 10, 20), (np.arange(130) % 3).reshape(10, 13))
    assert abs(loss - want) < 1e-10


@pytest.mark.learner
@pytest.mark.parametrize("cell", CELLS)
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 1000))
def test_against_autograd(cell, N, T, seed):
    net, (features, captions) = model(cell), examples(N, T, seed)
    loss, grads = net.loss(features, captions)
    want, want_grads = torch_loss(net, features, captions)
    assert abs(loss - want) < 1e-10 * max(1, want)
    assert grads.keys() == net.params.keys()
    for name, value in want_grads.items():
        assert np.abs(grads[name] - value).max() < 1e-10, name


@pytest.mark.learner
@pytest.mark.parametrize("cell", CELLS)
def test_numerical_gradients(cell):
    net, (features, captions) = model(cell), examples()
    _, grads = net.loss(features, captions)
    for name, value in net.params.items():
        errors = grad_check_sparse(
            lambda _: net.loss(features, captions)[0], value, grads[name], num_checks=8, seed=0, verbose=False
        )
        assert np.median(errors) < 1e-6, name


@pytest.mark.learner
@pytest.mark.parametrize("cell", CELLS)
def test_loss_at_the_start_is_that_of_chance(cell):
    features, captions = examples(50, 10)
    words = (captions[:, 1:] != 0).sum() / 50
    net = CaptioningRNN(WORDS, 4, 16, 256, cell, np.float64, rng=0)
    assert net.loss(0.1 * features, captions)[0] == pytest.approx(words * np.log(len(WORDS)), rel=0.03)


@pytest.mark.learner
def test_null_does_not_count():
    net, (features, captions) = model("rnn"), examples()
    captions[:, 2:] = 0
    longer = np.hstack([captions, np.zeros((2, 3), int)])
    assert net.loss(features, captions)[0] == pytest.approx(net.loss(features, longer)[0], rel=1e-12)


@pytest.mark.robustness
@pytest.mark.parametrize("cell", CELLS)
def test_a_seed_gives_the_weights_of_the_course(cell):
    """NumPy's global stream, in the order W_embed, W_proj, Wx, Wh, W_vocab."""
    np.random.seed(3)
    net, k = CaptioningRNN(WORDS, 4, 5, 6, cell), {"rnn": 1, "lstm": 4}[cell]
    rng = np.random.RandomState(3)
    for name, shape, scale in (("W_embed", (12, 5), 100), ("W_proj", (4, 6), 2), ("Wx", (5, k * 6), 5**0.5)):
        np.testing.assert_allclose(net.params[name], rng.randn(*shape) / scale, rtol=1e-6)
    assert {value.dtype for value in net.params.values()} == {np.dtype(np.float32)}
    assert not net.params["b"].any()


@pytest.mark.learner
@pytest.mark.parametrize(("cell", "most"), [("rnn", 0.1), ("lstm", 0.5)])
def test_learns_fifty_captions_by_heart(cell, most):
    data, net = toy_data(), CaptioningRNN(WORDS, 20, 32, 128, cell, rng=0)
    options = {"update_rule": "adam", "batch_size": 25, "lr_decay": 0.97, "verbose": False, "seed": 0}
    solver = CaptioningSolver(net, data, num_epochs=100, optim_config={"learning_rate": 1e-2}, **options)
    solver.train()
    assert np.mean(solver.loss_history[-5:]) < most
    written = net.sample(data["train_features"], max_length=6)
    assert (written == data["train_captions"][:, 1:]).all(axis=1).mean() > 0.9


@pytest.mark.robustness
@pytest.mark.parametrize("cell", CELLS)
def test_everything_stays_float32(cell):
    net, (features, captions) = model(cell, np.float32), examples()
    _, grads = net.loss(features, captions)
    state = net.start(features)
    scores, after = net.step(captions[:, 0], state)
    assert {a.dtype for a in (*grads.values(), *state, scores, *after)} == {np.dtype(np.float32)}
    net, options = CaptioningRNN(WORDS, 20, 5, 6, cell), {"update_rule": "adam", "num_epochs": 1, "batch_size": 25}
    CaptioningSolver(net, toy_data(), verbose=False, **options).train()
    assert {value.dtype for value in net.params.values()} == {np.dtype(np.float32)}


@pytest.mark.robustness
@pytest.mark.parametrize("cell", CELLS)
def test_steps_agree_with_the_forward_pass(cell):
    net, (features, captions) = model(cell), examples(3, 5)
    scores, _ = net.forward(features, captions)
    state = net.start(features)
    for t in range(6):
        one, state = net.step(captions[:, t], state)
        np.testing.assert_allclose(one, scores[:, t], rtol=1e-12, atol=1e-14)


@pytest.mark.robustness
@pytest.mark.parametrize("cell", CELLS)
def test_save_and_load(cell, tmp_path):
    net, (features, captions) = model(cell), examples()
    net.save(tmp_path / "net.pkl")
    other = CaptioningRNN(TINY, 7, 8, 9, "rnn", rng=1)
    other.load(tmp_path / "net.pkl")
    assert other.word_to_idx == WORDS
    assert other.cell_type == cell
    assert other.loss(features, captions)[0] == net.loss(features, captions)[0]
    other.load(tmp_path / "net.pkl", dtype=np.float32)
    assert other.params["Wh"].dtype == np.float32


@pytest.mark.learner
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("N", [1, 4])
def test_greedy_samples(cell, N):
    """Each word is the likeliest after the words before it; END is kept, NULL follows."""
    net, (features, _) = model(cell), examples(N)
    net.params["W_vocab"] *= 20  # decided scores, so that captions differ and some of them end
    words = net.sample(features, max_length=8)
    assert words.shape == (N, 8)
    assert words.dtype.kind == "i"
    for row, feature in zip(words, features, strict=True):
        read = [WORDS["<START>"]]
        while len(read) < 9 and read[-1] != WORDS["<END>"]:
            scores, _ = net.forward(feature[None], np.array([read]))
            read.append(int(scores[0, -1].argmax()))
        assert row.tolist() == (read[1:] + [0] * 8)[:8]


@pytest.mark.robustness
def test_samples_that_end_at_once():
    net, (features, _) = model("rnn"), examples(3)
    net.params["b_vocab"][WORDS["<END>"]] = 1e3
    assert net.sample(features, max_length=3).tolist() == [[2, 0, 0]] * 3


class TestBadInput:
    pytestmark = pytest.mark.robustness

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"cell_type": "attention"}, "cell_type must be one of rnn, lstm, got 'attention'"),
            ({"word_to_idx": {"a": 0}}, "not <NULL>"),
            ({"hidden_dim": 0}, "hidden_dim is 0"),
            ({"dtype": int}, "dtype must be floating"),
        ],
    )
    def test_of_the_constructor(self, change, says):
        with pytest.raises(ValueError, match=says):
            CaptioningRNN(**{"word_to_idx": WORDS} | change)

    @pytest.mark.parametrize(
        ("features", "captions", "says"),
        [
            (np.ones((2, 4)), [[1, 12], [1, 2]], "ids from 1 to 12; allowed are 0 to 11"),
            (np.ones((2, 4)), [[1, -1], [1, 2]], "ids from -1"),
            (np.ones((2, 5)), [[1, 2], [1, 2]], r"this network needs \(N, 4\)"),
            (np.ones(4), [[1, 2]], r"features have shape \(4,\)"),
            (np.ones((0, 4)), np.zeros((0, 3), int), "N at least 1"),
            (np.ones((2, 4)), [[1, 2]], r"2 pictures need \(2, T \+ 1\)"),
            (np.ones((2, 4)), [1, 2], r"captions have shape \(2,\)"),
            (np.ones((2, 4)), [[1], [1]], "T at least 1"),
        ],
    )
    def test_of_the_loss(self, features, captions, says):
        with pytest.raises(ValueError, match=says):
            model("rnn").loss(features, np.array(captions))

    def test_captions_that_are_no_integers(self):
        with pytest.raises(TypeError, match="integer word ids, got float64"):
            model("rnn").loss(np.ones((1, 4)), np.ones((1, 3)))

    def test_of_sample(self):
        with pytest.raises(ValueError, match="no <START> and no <END>"):
            CaptioningRNN(TINY, 4, 5, 6, rng=0).sample(np.ones((1, 4)))
        with pytest.raises(ValueError, match="max_length is 0"):
            model("rnn").sample(np.ones((1, 4)), max_length=0)
        with pytest.raises(ValueError, match=r"needs \(N, 4\)"):
            model("rnn").sample(np.ones((1, 3)))


class TestCaptioningSolver:
    pytestmark = pytest.mark.robustness

    def solver(self, data, **options):
        settings = {"num_epochs": 2, "batch_size": 25, "verbose": False, "seed": 0}
        return CaptioningSolver(CaptioningRNN(WORDS, 20, 5, 6, rng=0), data, **settings | options)

    def test_histories(self):
        solver = self.solver(toy_data(), lr_decay=0.5, optim_config={"learning_rate": 0.1})
        solver.train()
        assert len(solver.loss_history) == 4  # two epochs of 50 // 25
        assert len(solver.val_acc_history) == 3
        assert solver.optim_configs["Wx"]["learning_rate"] == pytest.approx(0.025)

    def test_the_metric_is_minus_the_loss_on_the_same_captions_each_time(self):
        data = toy_data(250)
        solver = self.solver(data, num_val_samples=None)
        want = -solver.model.loss(data["val_features"], data["val_captions"])[0]
        assert solver.metric(solver.model, data) == pytest.approx(want, rel=1e-5)
        solver = self.solver(data, num_val_samples=30)
        assert solver.metric(solver.model, data) == solver.metric(solver.model, data)
        assert solver.metric(solver.model, data) != pytest.approx(want, rel=1e-5)

    def test_captions_go_with_the_features_of_their_picture(self):
        data = toy_data()
        data["train_image_idxs"] = np.arange(50)[::-1].copy()
        features, captions = self.solver(data).batch(data, 40, np.random.RandomState(0))
        for feature, caption in zip(features, captions, strict=True):
            picture = int((data["train_features"] == feature).all(axis=1).argmax())
            assert (data["train_captions"][49 - picture] == caption).all()

    def test_without_val_and_with_a_metric_of_ones_own(self):
        data = {name: value for name, value in toy_data().items() if name.startswith("train")}
        solver = self.solver(data)
        want = -solver.model.loss(data["train_features"], data["train_captions"])[0]
        assert solver.metric(solver.model, data) == pytest.approx(want, rel=1e-5)
        assert self.solver(data, metric=lambda model, data: 1.5).metric(None, None) == 1.5

    def test_last_or_best_parameters(self):
        values = iter([3.0, 1.0, 2.0] * 2)
        solver = self.solver(toy_data(), metric=lambda model, data: next(values))
        solver.train()
        assert (solver.model.params["Wx"] != solver.best_params["Wx"]).any()
        solver = self.solver(toy_data(), metric=lambda model, data: next(values))
        solver.train(return_best_params=True)
        assert (solver.model.params["Wx"] == solver.best_params["Wx"]).all()

    def test_resumes(self, tmp_path):
        whole, resumed = (self.solver(toy_data(), num_epochs=4, update_rule="adam") for _ in range(2))
        whole.checkpoint_name = str(tmp_path / "run")
        whole.train()
        resumed.load_checkpoint(tmp_path / "run_epoch_2.pkl")
        resumed.train()
        assert resumed.loss_history == whole.loss_history

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"train_captions": None}, "data lacks train_captions"),
            ({"val_features": None}, "data lacks val_features"),
            ({"train_image_idxs": np.arange(3)}, "50 captions and train_image_idxs 3 indices"),
            ({"train_captions": np.zeros((0, 7), int), "train_image_idxs": np.zeros(0, int)}, "0 captions"),
            ({"train_image_idxs": np.arange(1, 51)}, "indices from 1 to 50; train_features has rows 0 to 49"),
        ],
    )
    def test_bad_data(self, change, says):
        data = {name: value for name, value in (toy_data() | change).items() if value is not None}
        with pytest.raises(ValueError, match=says):
            self.solver(data)

    def test_bad_options(self):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            self.solver(toy_data(), epochs=3)
        with pytest.raises(ValueError, match="num_val_samples is 0"):
            self.solver(toy_data(), num_val_samples=0)
