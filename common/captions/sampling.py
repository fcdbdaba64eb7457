"""Writing captions with a trained model: words drawn at random, beam search, and how likely a caption is.

A model is anything with a dict `word_to_idx` and two methods. `start(features)` returns the state before the first
word, a tuple of arrays with one row for each picture. `step(words (N,), state)` reads one word for each picture and
returns the scores (N, V) of the word to follow, and the new state. Scores may be NumPy arrays or tensors on the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.classifiers.rnn import special_words
from common.validate import Stream, checked_count, stream

Array = np.ndarray


def sample_captions(
    model: Any, features: Array, max_length: int = 30, temperature: float = 1.0, rng: Stream = None
) -> Array:
    """Draw each word from softmax(scores / temperature).

    Args:
        model: see above.
        features: of N pictures.
        max_length: words in a caption, the end included; at least 1.
        temperature: 1 draws from the model's own probabilities, less prefers the likely words, more evens them out; 0
            takes the word with the highest score.
        rng: RandomState or seed of the draws; None = NumPy's global stream.
    Returns:
        (N, max_length) word ids, without <START>. <END> is kept, and <NULL> follows it.
    Raises:
        ValueError: a negative temperature, a max_length below 1, a vocabulary without <START> or <END>.
    """
    if not 0 <= temperature < np.inf:
        raise ValueError(f"temperature must be a finite number of at least 0, got {temperature}")
    start, end, null = special_words(model.word_to_idx)
    captions = np.full((len(features), checked_count("max_length", max_length)), null)
    state, words, draw = model.start(features), np.full(len(features), start), stream(rng)
    running = np.ones(len(features), dtype=bool)
    for t in range(max_length):
        scores, state = model.step(words, state)
        scores = np.asarray(scores, np.float64)
        if temperature > 0:  # the largest of scores with Gumbel noise is a draw from their softmax
            scores = scores / temperature + draw.gumbel(size=scores.shape)
        words = scores.argmax(axis=1)
        captions[running, t] = words[running]
        running &= words != end
        if not running.any():
            break
    return captions


def beam_search(model: Any, features: Array, width: int = 3, max_length: int = 30) -> Array:
    """Keep the `width` likeliest beginnings of a caption at each step; return the likeliest caption in the end.

    Args:
        model: see above.
        features: of N pictures.
        width: beginnings that are kept for each picture; 1 is greedy.
        max_length: words in a caption, the end included; at least 1.
    Returns:
        (N, max_length) word ids, without <START>. <END> is kept, and <NULL> follows it.
    Raises:
        ValueError: a width or max_length below 1, a vocabulary without <START> or <END>.
    """
    start, end, null = special_words(model.word_to_idx)
    N, K = len(features), checked_count("width", width)
    captions = np.full((N, K, checked_count("max_length", max_length)), null)
    log_p = np.full((N, K), -np.inf)  # of the beginnings; at first there is one, which is empty
    log_p[:, 0] = 0
    state, words = _rows(model.start(features), np.repeat(np.arange(N), K)), np.full((N, K), start)
    for t in range(max_length):
        scores, state = model.step(words.ravel(), state)
        follow = _log_softmax(scores).reshape(N, K, -1)  # (N, K, V)
        ended = (words == end) | (words == null) if t else np.zeros((N, K), dtype=bool)
        follow[ended] = -np.inf  # a caption that has ended is followed by <NULL> only, for nothing
        follow[ended, null] = 0
        total = (log_p[:, :, None] + follow).reshape(N, -1)  # (N, K V)
        best = np.argsort(-total, axis=1, kind="stable")[:, :K]
        log_p, (parents, words) = np.take_along_axis(total, best, 1), np.divmod(best, follow.shape[2])
        captions = np.take_along_axis(captions, parents[:, :, None], 1)
        captions[:, :, t] = words
        state = _rows(state, (parents + K * np.arange(N)[:, None]).ravel())
        if ((words == end) | (words == null)).all():
            break
    return captions[:, 0]  # they are sorted


def log_likelihood(model: Any, features: Array, captions: Array) -> Array:
    """Logarithm of the probability that the model gives each caption, up to its <END>.

    Args:
        model: see above.
        features: of N pictures.
        captions: (N, T) word ids, without <START>, as a sampler returns them; <NULL> does not count.
    Returns:
        (N,) sums of log p(word | picture, the words before it).
    Raises:
        ValueError: a vocabulary without <START> or <END>.
    """
    start, _, null = special_words(model.word_to_idx)
    state, words, total = model.start(features), np.full(len(features), start), np.zeros(len(features))
    for column in np.asarray(captions).T:
        scores, state = model.step(words, state)
        total += np.where(column == null, 0, _log_softmax(scores)[np.arange(len(column)), column])
        words = column
    return total


def _log_softmax(scores: Any) -> Array:
    """(N, V), in double precision."""
    scores = np.asarray(scores, np.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _rows(state: tuple, chosen: Array) -> tuple:
    """These rows of every array of the state."""
    return tuple(part[chosen] for part in state)
