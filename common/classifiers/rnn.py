"""CaptioningRNN: from the features of a picture, word by word, to a sentence; with a plain RNN or an LSTM."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from common.classifiers.model import Model
from common.layers.affine import affine_backward, affine_forward
from common.layers.embedding import word_embedding_backward, word_embedding_forward
from common.layers.recurrent import (
    lstm_backward,
    lstm_forward,
    lstm_step_forward,
    rnn_backward,
    rnn_forward,
    rnn_step_forward,
)
from common.layers.temporal import temporal_affine_backward, temporal_affine_forward, temporal_softmax_loss
from common.validate import Stream, checked_count, checked_sizes, stream

Array = np.ndarray
State = tuple[Array, ...]

CELLS = {"rnn": (rnn_forward, rnn_backward), "lstm": (lstm_forward, lstm_backward)}
GATES = {"rnn": 1, "lstm": 4}


class CaptioningRNN(Model):
    """Features make the first hidden state, each word the next; from every state come scores of the word to follow.

    Vinyals, Toshev, Bengio and Erhan, Show and tell (2015), with the features in the state as in CS231n. There is no
    L2 term.

    Attributes:
        params: W_proj (F, H), b_proj (features to state), W_embed (V, W), Wx (W, kH), Wh (H, kH), b (kH,) with k = 1
            for the RNN and 4 for the LSTM, W_vocab (H, V), b_vocab (state to scores).
        cell_type: "rnn" or "lstm".
        word_to_idx, idx_to_word: the vocabulary, in both directions.
    """

    UNTRAINED: ClassVar[dict[str, Any]] = {"rng": 0}  # not weight_scale: every weight has a scale of its own

    def __init__(
        self,
        word_to_idx: dict[str, int],
        input_dim: int = 512,
        wordvec_dim: int = 128,
        hidden_dim: int = 128,
        cell_type: str = "rnn",
        dtype: type = np.float32,
        *,
        rng: Stream = None,
    ):
        """Word vectors with standard deviation 1/100, other weights 1/sqrt(numbers that go in), biases zero.

        Args:
            word_to_idx: {word: id}, of V words; "<NULL>" fills captions up, "<START>" and "<END>" are needed to sample.
            input_dim, wordvec_dim, hidden_dim: F, W and H, each at least 1.
            cell_type: "rnn" or "lstm".
            dtype: of the parameters and of all computing.
            rng: RandomState or seed of the weights; None = NumPy's global stream.
        Raises:
            ValueError: another cell_type, no "<NULL>" in the vocabulary, a size below 1, a dtype that is not floating.
        """
        if cell_type not in CELLS:
            raise ValueError(f"cell_type must be one of {', '.join(CELLS)}, got {cell_type!r}")
        if "<NULL>" not in word_to_idx:
            raise ValueError(f"word_to_idx has {len(word_to_idx)} words, but not <NULL>, which fills captions up")
        super().__init__(0.0, dtype)
        checked_sizes(input_dim=input_dim, wordvec_dim=wordvec_dim, hidden_dim=hidden_dim)
        self.cell_type, self.word_to_idx = cell_type, dict(word_to_idx)
        self.idx_to_word = {i: word for word, i in word_to_idx.items()}
        self.sizes = F, W, H = input_dim, wordvec_dim, hidden_dim
        V, k, draw = len(word_to_idx), GATES[cell_type], stream(rng)
        self.set_params(
            {  # in the order of CS231n: a seed gives the numbers that it gives there
                "W_embed": draw.randn(V, W) / 100,
                "W_proj": draw.randn(F, H) / np.sqrt(F),
                "b_proj": np.zeros(H),
                "Wx": draw.randn(W, k * H) / np.sqrt(W),
                "Wh": draw.randn(H, k * H) / np.sqrt(H),
                "b": np.zeros(k * H),
                "W_vocab": draw.randn(H, V) / np.sqrt(H),
                "b_vocab": np.zeros(V),
            }
        )

    def loss(self, features: Array, captions: Array) -> tuple[float, dict[str, Array]]:
        """Minus the log-likelihood of a caption, as a mean over the captions, and its gradients.

        The network reads all words but the last and is to predict all but the first; <NULL> does not count.
        Args:
            features: (N, F) of the pictures.
            captions: (N, T + 1) word ids, integers from 0 to V - 1.
        Returns:
            The loss and {name: gradient} of the shapes of params.
        Raises:
            ValueError: no captions, shapes that do not fit, ids out of range.
            TypeError: ids that are not integers.
        """
        features, captions = self.inputs(features), self.checked_captions(captions, len(features))
        ### BEGIN SOLUTION rnn_captioning, 5
        words_in, words_out = captions[:, :-1], captions[:, 1:]  # (N, T) both
        mask = words_out != self.word_to_idx["<NULL>"]
        scores, caches = self.forward(features, words_in)
        loss, dscores = temporal_softmax_loss(scores, words_out, mask)
        return loss, self.backward(dscores, caches)
        ### END SOLUTION

    def forward(self, features: Array, words: Array) -> tuple[Array, tuple]:
        """Scores of the word to follow at every step.

        Args:
            features: (N, F) of the pictures.
            words: (N, T) ids of the words that the network reads.
        Returns:
            scores (N, T, V) and one cache a layer.
        """
        p, (cell_forward, _) = self.params, CELLS[self.cell_type]
        ### BEGIN SOLUTION rnn_captioning, 5
        h0, of_proj = affine_forward(features, p["W_proj"], p["b_proj"])  # (N, H)
        x, of_embed = word_embedding_forward(words, p["W_embed"])  # (N, T, W)
        h, of_cell = cell_forward(x, h0, p["Wx"], p["Wh"], p["b"])  # (N, T, H)
        scores, of_vocab = temporal_affine_forward(h, p["W_vocab"], p["b_vocab"])  # (N, T, V)
        ### END SOLUTION
        return scores, (of_proj, of_embed, of_cell, of_vocab)

    def backward(self, dscores: Array, caches: tuple) -> dict[str, Array]:
        """{name: gradient}, from the gradient dscores (N, T, V) of the loss with respect to the scores."""
        grads, (of_proj, of_embed, of_cell, of_vocab) = {}, caches
        _, cell_backward = CELLS[self.cell_type]
        ### BEGIN SOLUTION rnn_captioning, 5
        dh, grads["W_vocab"], grads["b_vocab"] = temporal_affine_backward(dscores, of_vocab)
        dx, dh0, grads["Wx"], grads["Wh"], grads["b"] = cell_backward(dh, of_cell)
        grads["W_embed"] = word_embedding_backward(dx, of_embed)
        _, grads["W_proj"], grads["b_proj"] = affine_backward(dh0, of_proj)
        ### END SOLUTION
        return grads

    def start(self, features: Array) -> State:
        """The state before the first word: what `step` needs and returns.

        Args:
            features: (N, F) of the pictures.
        Returns:
            A tuple of arrays with one row for each picture: (h,), or (h, c) for the LSTM, each (N, H).
        Raises:
            ValueError: features that do not fit.
        """
        h, _ = affine_forward(self.inputs(features), self.params["W_proj"], self.params["b_proj"])
        return (h,) if self.cell_type == "rnn" else (h, np.zeros_like(h))

    def step(self, words: Array, state: State) -> tuple[Array, State]:
        """Read one word for each picture.

        Args:
            words: (N,) word ids.
            state: of `start`, or of the last `step`.
        Returns:
            scores (N, V) of the word to follow, and the state after this word.
        Raises:
            ValueError: ids out of range, or a state that does not fit.
        """
        p = self.params
        x = word_embedding_forward(np.asarray(words)[:, None], p["W_embed"])[0][:, 0]  # (N, W)
        step_forward = rnn_step_forward if self.cell_type == "rnn" else lstm_step_forward
        *state, _ = step_forward(x, *state, p["Wx"], p["Wh"], p["b"])
        scores, _ = affine_forward(state[0], p["W_vocab"], p["b_vocab"])
        return scores, tuple(state)

    def sample(self, features: Array, max_length: int = 30) -> Array:
        """Write captions greedily: at each step the word with the highest score, which is read in the next.

        Args:
            features: (N, F) of the pictures.
            max_length: words in a caption, the end included; at least 1.
        Returns:
            (N, max_length) word ids, without <START>. <END> is kept, and <NULL> follows it.
        Raises:
            ValueError: features that do not fit, a max_length below 1, or a vocabulary without <START> or <END>.
        """
        start, end, null = special_words(self.word_to_idx)
        captions = np.full((len(features), checked_count("max_length", max_length)), null)
        state, words = self.start(features), np.full(len(features), start)
        ### BEGIN SOLUTION rnn_captioning, 7
        running = np.ones(len(features), dtype=bool)
        for t in range(max_length):
            scores, state = self.step(words, state)
            words = scores.argmax(axis=1)  # (N,)
            captions[running, t] = words[running]
            running &= words != end
        ### END SOLUTION
        return captions

    def inputs(self, X: Array) -> Array:
        """Features in the model's dtype.

        Raises:
            ValueError: not (N, F), or no pictures.
        """
        X = np.asarray(X)
        if X.ndim != 2 or not len(X) or X.shape[1] != self.sizes[0]:
            raise ValueError(f"features have shape {X.shape}; this network needs (N, {self.sizes[0]}), N at least 1")
        return X.astype(self.dtype, copy=False)

    def checked_captions(self, captions: Array, N: int) -> Array:
        """The captions as an array, if they are (N, T + 1) ids of the vocabulary.

        Raises:
            ValueError: another shape, or ids out of range.
            TypeError: they are not integers.
        """
        captions, V = np.asarray(captions), len(self.word_to_idx)
        if captions.ndim != 2 or len(captions) != N or captions.shape[1] < 2:
            raise ValueError(f"captions have shape {captions.shape}; {N} pictures need ({N}, T + 1), T at least 1")
        if captions.dtype.kind not in "iu":
            raise TypeError(f"captions must hold integer word ids, got {captions.dtype}")
        if not 0 <= captions.min() <= captions.max() < V:
            raise ValueError(f"captions hold ids from {captions.min()} to {captions.max()}; allowed are 0 to {V - 1}")
        return captions

    def settings(self) -> dict[str, Any]:
        """The arguments that make a network of these sizes with this vocabulary."""
        sizes = dict(zip(("input_dim", "wordvec_dim", "hidden_dim"), self.sizes, strict=True))
        own = {"word_to_idx": self.word_to_idx, "cell_type": self.cell_type, "dtype": np.dtype(self.dtype).name}
        return own | sizes


def special_words(word_to_idx: dict[str, int]) -> tuple[int, int, int]:
    """Ids of <START>, <END> and <NULL>.

    Raises:
        ValueError: the vocabulary lacks one; without them nothing can be sampled.
    """
    missing = [word for word in ("<START>", "<END>", "<NULL>") if word not in word_to_idx]
    if missing:
        raise ValueError(f"the vocabulary has no {' and no '.join(missing)}, needed to sample captions")
    return word_to_idx["<START>"], word_to_idx["<END>"], word_to_idx["<NULL>"]
