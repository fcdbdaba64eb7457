"""Sampling, beam search and likelihoods against enumeration of all captions of a tiny vocabulary."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.captions.sampling import beam_search, log_likelihood, sample_captions
from common.classifiers.rnn import CaptioningRNN

WORDS = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3, "dog": 4}
CELLS = ("rnn", "lstm")


def model(cell="rnn", seed=0, sharp=3.0, words=WORDS):
    net = CaptioningRNN(words, 4, 5, 6, cell, np.float64, rng=seed)
    net.params["W_vocab"] *= sharp
    net.params["W_embed"] *= 100
    return net


def features(N=3, seed=0):
    return np.random.RandomState(seed).randn(N, 4)


def all_captions(length):
    """Every caption of at most `length` words, filled up with NULL: <END> and <NULL> end it."""
    for words in product(range(len(WORDS)), repeat=length):
        over = [i for i, word in enumerate(words) if word in (0, 2)]
        if not over or not any(words[over[0] + 1 :]):
            yield words


def scores_of(net, feature, caption):
    """log p of a caption by the whole forward pass, word after word."""
    read, total = [WORDS["<START>"]], 0.0
    for word in caption:
        if read[-1] in (0, 2):
            break
        scores, _ = net.forward(feature[None], np.array([read]))
        last = scores[0, -1]
        total += last[word] - np.log(np.exp(last).sum())
        read.append(word)
    return total


@pytest.mark.robustness
@pytest.mark.parametrize("cell", CELLS)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_a_wide_beam_finds_the_likeliest_caption(cell, seed):
    net, feature = model(cell, seed), features(2, seed)
    everything = list(all_captions(3))
    for row, got in zip(feature, beam_search(net, feature, width=125, max_length=3), strict=True):
        best = max(everything, key=lambda caption, row=row: scores_of(net, row, caption))
        assert scores_of(net, row, tuple(got)) == pytest.approx(scores_of(net, row, best), abs=1e-9)


@pytest.mark.robustness
@pytest.mark.parametrize("cell", CELLS)
def test_greedy_three_ways(cell):
    net, some = model(cell), features(5)
    greedy = net.sample(some, max_length=7)
    greedy = np.where((np.cumsum(greedy == 0, axis=1) > 0), 0, greedy)  # a beam ends at <NULL>, too
    np.testing.assert_array_equal(beam_search(net, some, width=1, max_length=7), greedy)
    np.testing.assert_array_equal(sample_captions(net, some, 7, temperature=0), net.sample(some, max_length=7))


@pytest.mark.robustness
@pytest.mark.parametrize("cell", CELLS)
def test_log_likelihood_against_the_forward_pass(cell):
    net, some = model(cell), features(4)
    captions = np.array([[3, 4, 2, 0], [3, 3, 3, 3], [2, 0, 0, 0], [4, 2, 0, 0]])
    want = [scores_of(net, row, tuple(caption)) for row, caption in zip(some, captions, strict=True)]
    np.testing.assert_allclose(log_likelihood(net, some, captions), want, rtol=1e-12)


@pytest.mark.robustness
def test_probabilities_of_all_captions_sum_to_one():
    """Of those that end with <END> or run to the last word; <NULL>, which counts as nothing, gets no probability."""
    net, feature = model(), features(1)
    net.params["b_vocab"][0] = -1e9
    captions = np.array([caption for caption in all_captions(4) if 2 in caption or 0 not in caption])
    total = np.exp(log_likelihood(net, np.repeat(feature, len(captions), axis=0), captions)).sum()
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.robustness
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_first_words_are_drawn_from_the_softmax(temperature):
    net, many = model(), np.repeat(features(1), 20_000, axis=0)
    scores, _ = net.step(np.array([1]), net.start(many[:1]))
    p = np.exp(scores[0] / temperature)
    got = np.bincount(sample_captions(net, many, 1, temperature, rng=0)[:, 0], minlength=5) / len(many)
    np.testing.assert_allclose(got, p / p.sum(), atol=0.015)  # four standard errors


@pytest.mark.robustness
def test_shapes_ends_and_seeds():
    net, some = model(sharp=1.0), features(40)
    captions = sample_captions(net, some, 9, rng=3)
    assert captions.shape == (40, 9)
    for row in captions.tolist():
        if 2 in row:
            assert not any(row[row.index(2) + 1 :])
    np.testing.assert_array_equal(captions, sample_captions(net, some, 9, rng=np.random.RandomState(3)))
    assert (captions != sample_captions(net, some, 9, rng=4)).any()
    assert sample_captions(net, some[:1], 9, rng=0).shape == beam_search(net, some[:1], 3, 9).shape == (1, 9)


@pytest.mark.robustness
def test_pictures_do_not_disturb_each_other():
    net, some = model("lstm"), features(6)
    together = beam_search(net, some, 4, 6)
    for row, got in zip(some, together, strict=True):
        np.testing.assert_array_equal(beam_search(net, row[None], 4, 6)[0], got)


class OfTensors:
    """What a PyTorch model offers: scores and states that are tensors."""

    word_to_idx = WORDS

    def __init__(self, net):
        import torch

        self.net, self.tensor = net, torch.as_tensor

    def start(self, features):
        return tuple(self.tensor(part) for part in self.net.start(features))

    def step(self, words, state):
        scores, state = self.net.step(words, tuple(part.numpy() for part in state))
        return self.tensor(scores), tuple(self.tensor(part) for part in state)


@pytest.mark.robustness
def test_a_model_of_tensors_gives_the_same():
    net, some = model("lstm"), features(5)
    np.testing.assert_array_equal(beam_search(OfTensors(net), some, 3, 6), beam_search(net, some, 3, 6))
    np.testing.assert_array_equal(sample_captions(OfTensors(net), some, 6, rng=0), sample_captions(net, some, 6, rng=0))


@pytest.mark.robustness
def test_bad_input():
    net, some = model(), features()
    with pytest.raises(ValueError, match="temperature must be a finite number of at least 0, got -1"):
        sample_captions(net, some, temperature=-1)
    with pytest.raises(ValueError, match="max_length is 0"):
        sample_captions(net, some, max_length=0)
    with pytest.raises(ValueError, match="width is 0"):
        beam_search(net, some, width=0)
    without = CaptioningRNN({"<NULL>": 0, "cat": 1}, 4, 5, 6, rng=0)
    for call in (sample_captions, beam_search, lambda *given: log_likelihood(*given, np.ones((3, 2), int))):
        with pytest.raises(ValueError, match="no <START> and no <END>"):
            call(without, some)
