"""Captions with PyTorch: features of a picture, a recurrent network that may attend to them, and its training.

The hand-written twin is `common.classifiers.rnn`. `start` and `step` are those of that class, so that everything in
`common.captions.sampling` (temperature, beam search) works here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.classifiers.rnn import special_words
from common.pytorch.recurrent import LSTM, RNN, AttentionLSTM, WordEmbedding, dot_product_attention
from common.pytorch.recurrent import temporal_softmax_loss as temporal_softmax_loss
from common.pytorch.runs import train
from common.validate import checked_sizes

CELLS = {"rnn": RNN, "lstm": LSTM, "attention": AttentionLSTM}
State = tuple[Tensor, ...]


class FeatureExtractor:
    """Features of pictures by a frozen network: one column for the whole picture, or one for each cell of a grid.

    They never change while a captioner trains, so compute them once and keep them: `load_coco_data(...,
    pca_features=False, extract=extractor.rows)` does that, and `as_grid` gives its rows their cells back.
    """

    def __init__(
        self,
        backbone: Any,
        pooling: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        grid: int = 4,
        layer: str | None = None,
        batch_size: int = 50,
    ):
        """
        Args:
            backbone: a Backbone of `common.vision.backbone`.
            pooling: average over the whole picture.
            device, dtype: of the features.
            grid: cells along each side, without pooling.
            layer: of which feature map; None = that which the backbone uses for captions.
            batch_size: pictures at a time.
        Raises:
            ValueError: grid or batch_size below 1.
        """
        checked_sizes(grid=grid, batch_size=batch_size)
        self.backbone, self.device, self.dtype = backbone, device, dtype
        self.pooling, self.options = pooling, {"layer": layer, "batch_size": batch_size}
        self.grid = 1 if pooling else grid

    def rows(self, images: Any) -> np.ndarray:
        """Features as rows (N, C grid grid) float32, for files; images as in `Backbone.preprocess`."""
        return self.backbone.extract(images, grid=self.grid, **self.options)

    def __call__(self, images: Any) -> Tensor:
        """Features (N, C), or (N, C, grid, grid) without pooling.

        Args:
            images: as in `Backbone.preprocess`, or a uint8 tensor (N, 3, H, W).
        Raises:
            TypeError, ValueError: as `Backbone.preprocess`.
        """
        if torch.is_tensor(images):
            images = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        features = torch.from_numpy(self.rows(images)).to(self.device, self.dtype)
        return features if self.pooling else as_grid(features, self.grid)


def as_grid(features: Any, grid: int) -> Tensor:
    """Rows (N, C grid grid), as `FeatureExtractor.rows` makes them, as maps (N, C, grid, grid).

    Raises:
        ValueError: a row does not hold a multiple of grid * grid numbers.
    """
    features = torch.as_tensor(features)
    checked_sizes(grid=grid)
    if features.ndim != 2 or features.shape[1] % grid**2:
        raise ValueError(f"features have shape {tuple(features.shape)}; (N, C * {grid} * {grid}) is needed")
    return features.view(len(features), -1, grid, grid)


class CaptioningRNN(nn.Module):
    """Features make the first state, each word the next; from every state come scores of the word to follow.

    Vinyals et al., Show and tell (2015); with attention, Xu et al., Show, attend and tell (2015).

    Attributes:
        cell_type: "rnn", "lstm" or "attention".
        word_to_idx, idx_to_word: the vocabulary, in both directions.
        project, embed, cell, output: the layers.
    """

    def __init__(
        self,
        word_to_idx: dict[str, int],
        input_dim: int = 1280,
        wordvec_dim: int = 128,
        hidden_dim: int = 128,
        cell_type: str = "rnn",
        ignore_index: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        extractor: FeatureExtractor | None = None,
        seed: int | None = None,
    ):
        """
        Args:
            word_to_idx: {word: id}, of V words; "<START>", "<END>" and "<NULL>" are needed to sample.
            input_dim, wordvec_dim, hidden_dim: F, W and H, each at least 1.
            cell_type: "rnn", "lstm" or "attention".
            ignore_index: the id that does not count in the loss; None = that of "<NULL>", if there is one.
            device, dtype: of the parameters and of all computing.
            extractor: makes features of pictures; None = features are what `forward` and `sample` get.
            seed: of the parameters; None = PyTorch's global stream.
        Raises:
            ValueError: another cell_type, an empty vocabulary, or a size below 1.
        """
        super().__init__()
        if cell_type not in CELLS:
            raise ValueError(f"cell_type must be one of {', '.join(CELLS)}, got {cell_type!r}")
        checked_sizes(input_dim=input_dim, wordvec_dim=wordvec_dim, hidden_dim=hidden_dim, words=len(word_to_idx))
        self.cell_type, self.word_to_idx, self.extractor = cell_type, dict(word_to_idx), extractor
        self.idx_to_word = {i: word for word, i in word_to_idx.items()}
        self.ignore_index = word_to_idx.get("<NULL>") if ignore_index is None else ignore_index
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.project = nn.Linear(input_dim, hidden_dim)
            self.embed = WordEmbedding(len(word_to_idx), wordvec_dim)
            self.cell = CELLS[cell_type](wordvec_dim, hidden_dim)
            self.output = nn.Linear(hidden_dim, len(word_to_idx))
        self.to(device, dtype)

    def forward(self, images: Any, captions: Any) -> Tensor:
        """Minus the log-likelihood of a caption, as a mean over the captions.

        Args:
            images: features (N, F), or (N, F, rows, columns); the latter are needed for attention and averaged over
                the cells without it. Pictures, if there is an extractor.
            captions: (N, T + 1) word ids; the network reads all but the last and is to predict all but the first.
        Returns:
            A scalar.
        Raises:
            ValueError: shapes that do not fit, ids out of range, tensors on another device.
            TypeError: ids that are not integers.
        """
        features = self.features(images)
        captions = self.checked_ids(captions, (len(features), None))
        ### BEGIN SOLUTION attention_captioning, 6
        words_in, words_out = captions[:, :-1], captions[:, 1:]  # (N, T) both
        return temporal_softmax_loss(self.scores(features, words_in), words_out, self.ignore_index)
        ### END SOLUTION

    def scores(self, features: Tensor, words: Tensor) -> Tensor:
        """Scores (N, T, V) of the word that follows each of the words (N, T) of a picture with these features."""
        ### BEGIN SOLUTION attention_captioning, 6
        h = self.cell(self.embed(words), self.first_state(features))  # (N, T, H)
        return self.output(h)
        ### END SOLUTION

    def first_state(self, features: Tensor) -> Tensor:
        """What the cell starts from: A (N, H, rows, columns) with attention, otherwise h0 (N, H)."""
        ### BEGIN SOLUTION attention_captioning, 6
        if self.cell_type == "attention":
            return self.project(features.movedim(1, -1)).movedim(-1, 1)  # each cell by itself
        return self.project(features)
        ### END SOLUTION

    @torch.no_grad()
    def start(self, images: Any) -> State:
        """The state before the first word, a row for each picture: (h,), (h, c), or (h, c, A) with attention."""
        first = self.first_state(self.features(images))
        if self.cell_type == "rnn":
            return (first,)
        if self.cell_type == "lstm":
            return first, torch.zeros_like(first)
        h = first.mean(dim=(2, 3))
        return h, h, first

    @torch.no_grad()
    def step(self, words: Any, state: State) -> tuple[Tensor, State]:
        """Read one word for each picture.

        Args:
            words: (N,) word ids.
            state: of `start`, or of the last `step`.
        Returns:
            scores (N, V) of the word to follow, on the CPU, and the state after this word.
        Raises:
            ValueError: ids out of range.
        """
        x = self.embed(self.checked_ids(words, (len(state[0]),)))  # (N, W)
        if self.cell_type == "rnn":
            state = (self.cell.step_forward(x, *state),)
        elif self.cell_type == "lstm":
            state = self.cell.step_forward(x, *state)
        else:
            h, c, A = state
            attn, _ = dot_product_attention(h, A)
            state = (*self.cell.step_forward(x, h, c, attn), A)
        return self.output(state[0]).cpu(), state

    @torch.no_grad()
    def sample(self, images: Any, max_length: int = 15) -> Any:
        """Write captions greedily: at each step the word with the highest score, which is read in the next.

        Args:
            images: as in `forward`.
            max_length: words in a caption, the end included; at least 1.
        Returns:
            (N, max_length) word ids, without <START>. <END> is kept, and <NULL> follows it. With attention also where
            the network looked for each word, (N, max_length, rows, columns), zero after <END>.
        Raises:
            ValueError: features that do not fit, max_length below 1, a vocabulary without <START>, <END> or <NULL>.
        """
        start, end, null = special_words(self.word_to_idx)
        checked_sizes(max_length=max_length)
        state, attends = self.start(images), self.cell_type == "attention"
        words = torch.full((len(state[0]),), start)
        captions, looks = words.new_full((len(words), max_length), null), []
        running = torch.ones(len(words), dtype=torch.bool)
        for t in range(max_length):
            if attends:
                looks.append(dot_product_attention(state[0], state[2])[1].cpu() * running[:, None, None])
            ### BEGIN SOLUTION attention_captioning, 7
            scores, state = self.step(words, state)
            words = scores.argmax(dim=1)  # (N,)
            captions[running, t] = words[running]
            running = running & (words != end)
            ### END SOLUTION
        return (captions, torch.stack(looks, dim=1)) if attends else captions

    def features(self, images: Any) -> Tensor:
        """Features as the network wants them: (N, F, rows, columns) with attention, otherwise (N, F).

        Raises:
            ValueError: another shape, no pictures, or a tensor on another device.
        """
        if self.extractor is not None and not (torch.is_tensor(images) and images.is_floating_point()):
            images = self.extractor(images)
        weight = self.project.weight
        images = torch.as_tensor(images)
        if images.device != weight.device and images.device.type != "cpu":
            raise ValueError(f"features are on {images.device}, but the network is on {weight.device}")
        images = images.to(weight)
        if self.cell_type != "attention" and images.ndim == 4:
            images = images.mean(dim=(2, 3))
        cells = self.cell_type == "attention"
        if images.ndim != 2 + 2 * cells or images.shape[1] != weight.shape[1] or not images.numel():
            wanted = f"(N, {weight.shape[1]}{', rows, columns' if cells else ''})"
            raise ValueError(f"features have shape {tuple(images.shape)}; this network needs {wanted}, N at least 1")
        return images

    def checked_ids(self, ids: Any, shape: tuple[int | None, ...]) -> Tensor:
        """Word ids as a tensor beside the parameters.

        Args:
            ids: integers, as a tensor or an array.
            shape: (N,) for words, (N, None) for captions of two words or more.
        Raises:
            ValueError: another shape, ids out of range, or a tensor on another device.
            TypeError: they are not integers.
        """
        ids, device, V = torch.as_tensor(ids), self.project.weight.device, len(self.word_to_idx)
        if ids.device != device and ids.device.type != "cpu":
            raise ValueError(f"captions are on {ids.device}, but the network is on {device}")
        if ids.ndim != len(shape) or len(ids) != shape[0] or (len(shape) == 2 and ids.shape[1] < 2):
            wanted = f"({shape[0]},)" if len(shape) == 1 else f"({shape[0]}, T + 1), T at least 1"
            raise ValueError(f"captions have shape {tuple(ids.shape)}; {shape[0]} pictures need {wanted}")
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise TypeError(f"captions must hold integer word ids, got {ids.dtype}")
        if not 0 <= ids.min() <= ids.max() < V:
            raise ValueError(f"captions hold ids from {ids.min()} to {ids.max()}; allowed are 0 to {V - 1}")
        return ids.to(device, torch.int64)


class TeacherForced(nn.Module):
    """A captioner as `common.pytorch.training.fit` wants a network: row numbers in, scores of the words to follow out.

    At every step the network reads the true word, whatever it would have written itself.
    """

    def __init__(self, model: CaptioningRNN, features: Tensor, image_idxs: Tensor, captions: Tensor):
        """
        Args:
            model: the captioner.
            features: of the pictures, on any device.
            image_idxs: (M,) row of `features` for each caption.
            captions: (M, T + 1) word ids.
        """
        super().__init__()
        self.model = model
        self.data = features, image_idxs, captions  # no buffers: processes need not send them to each other

    def forward(self, rows: Tensor) -> Tensor:
        """Scores (N, V, T) of the words that follow in these captions, rows (N,)."""
        features, image_idxs, captions = self.data
        rows = rows.to(captions.device)
        ### BEGIN SOLUTION attention_captioning, 8
        maps = self.model.features(features[image_idxs[rows]])
        scores = self.model.scores(maps, captions[rows, :-1].to(maps.device))  # (N, T, V)
        return scores.transpose(1, 2)
        ### END SOLUTION


def train_captioner(
    model: CaptioningRNN,
    features: Tensor,
    image_idxs: Any,
    captions: Any,
    *,
    num_epochs: int,
    batch_size: int = 250,
    learning_rate: float = 1e-3,
    lr_decay: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> list[float]:
    """Train with Adam; every caption is read once an epoch, in an order of its own, the last smaller batch included.

    Args:
        model: trained in place, and moved to the device of the accelerator.
        features: of the pictures, computed once.
        image_idxs: (M,) row of `features` for each caption.
        captions: (M, T + 1) word ids.
        num_epochs, batch_size: passes over the captions, and captions a step.
        learning_rate, lr_decay: of Adam, and by what it is multiplied after each epoch.
        seed: of the order.
        options: of `common.pytorch.runs.train`: accelerator, clip, checkpoint, time_limit, on_step ...
    Returns:
        The loss of each step.
    Raises:
        ValueError: sizes below 1, or no caption, or another number of indices.
    """
    checked_sizes(num_epochs=num_epochs, batch_size=batch_size, captions=len(captions))
    image_idxs, captions = (torch.as_tensor(np.asarray(part), dtype=torch.int64) for part in (image_idxs, captions))
    if image_idxs.shape != (len(captions),):
        raise ValueError(f"{len(captions)} captions need as many image_idxs, got shape {tuple(image_idxs.shape)}")
    model.checked_ids(captions, (len(captions), None))

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of captions, and the words to predict, in the order of an epoch, which depends on nothing else."""
        order = torch.from_numpy(np.random.RandomState([seed, epoch]).permutation(len(captions)))
        ### BEGIN SOLUTION attention_captioning, 8
        for rows in order.split(batch_size):
            yield rows, captions[rows, 1:]
        ### END SOLUTION

    def loss_fn(scores: Tensor, words: Tensor) -> Tensor:
        return temporal_softmax_loss(scores.transpose(1, 2), words, model.ignore_index)

    history = train(
        TeacherForced(model, features, image_idxs, captions),
        batches,
        loss_fn,
        [torch.optim.Adam(model.parameters(), lr=learning_rate)],
        epochs=num_epochs,
        steps_per_epoch=-(-len(captions) // batch_size),
        schedule=lambda fraction: lr_decay ** int(fraction * num_epochs + 1e-6),
        seed=seed,
        **options,
    )
    return history["loss"]
