"""Training a captioner: minibatches of captions with the features of their pictures, for the Solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from common.solver import Solver
from common.validate import checked_count, stream

Data = dict[str, Any]


class CaptioningSolver(Solver):
    """A Solver for data of `common.data.captions.load_coco_data`; code written for CS231n's class of this name runs.

        solver = CaptioningSolver(model, data, update_rule="adam", optim_config={"learning_rate": 5e-3})
        solver.train()

    `val_acc_history` holds minus the loss on some captions of pictures that are not trained on, the higher the better.
    After training the model has its last parameters, as in CS231n: where fifty captions are to be known by heart, those
    with the best validation loss would be among the first. `train(return_best_params=True)` restores the best.
    """

    def __init__(self, model: Any, data: Data, *, num_val_samples: int | None = 200, **options: Any):
        """
        Args:
            model: with `params` and `loss(features, captions)`.
            data: train_captions, train_image_idxs, train_features, and the same of val; without val the metric is
                minus the loss on training captions.
            num_val_samples: captions for the metric, drawn once, always the same ones; None = all.
            options: of the Solver, such as update_rule, optim_config, lr_decay, batch_size, num_epochs, print_every,
                verbose, seed, metric.
        Raises:
            ValueError: parts that are missing, empty or do not fit together; bad options.
            TypeError: an unknown option.
        """
        _checked_part(data, "train")
        options = {"batch": draw_captions, "num_train": len(data["train_captions"])} | options
        if options.get("metric") is None:
            part = "val" if "val_captions" in data else "train"
            options["metric"] = minus_loss(_checked_part(data, part), part, num_val_samples)
        super().__init__(model, data, num_val_samples=num_val_samples, **options)

    def train(self, time_limit: float | None = None, return_best_params: bool = False) -> None:
        """As `Solver.train`, but the model is left with its last parameters unless the best are asked for."""
        super().train(time_limit, return_best_params)


def draw_captions(data: Data, batch_size: int, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, F) and captions (N, T + 1) of a minibatch, drawn with replacement from the training captions."""
    chosen = rng.choice(len(data["train_captions"]), batch_size)
    return data["train_features"][data["train_image_idxs"][chosen]], data["train_captions"][chosen]


def minus_loss(data: Data, part: str, num_samples: int | None = 200, seed: int = 0) -> Callable[[Any, Data], float]:
    """A metric for the Solver: minus the loss on captions that are drawn once.

    Args:
        data: as of `CaptioningSolver`.
        part: "train" or "val".
        num_samples: captions; None or more than there are = all.
        seed: of the draw.
    Returns:
        (model, data) -> a number; which captions it measures is settled here.
    """
    captions, image_idxs = data[f"{part}_captions"], data[f"{part}_image_idxs"]
    chosen = np.arange(len(captions))
    if num_samples is not None and checked_count("num_val_samples", num_samples) < len(captions):
        chosen = stream(seed).permutation(len(captions))[:num_samples]
    features, captions = data[f"{part}_features"][image_idxs[chosen]], captions[chosen]

    def metric(model: Any, data: Data) -> float:
        parts = [slice(i, i + 100) for i in range(0, len(captions), 100)]
        losses = [model.loss(features[rows], captions[rows])[0] for rows in parts]
        return -float(np.average(losses, weights=[len(captions[rows]) for rows in parts]))

    return metric


def _checked_part(data: Data, part: str) -> Data:
    """The data, if captions, indices and features of one part fit together.

    Raises:
        ValueError: one is missing or empty, or an index has no features.
    """
    names = [f"{part}_{kind}" for kind in ("captions", "image_idxs", "features")]
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(f"data lacks {', '.join(missing)}; it holds {', '.join(map(str, data)) or 'nothing'}")
    captions, image_idxs, features = (data[name] for name in names)
    if len(captions) != len(image_idxs) or not len(captions):
        found = f"{names[0]} has {len(captions)} captions and {names[1]} {len(image_idxs)} indices"
        raise ValueError(f"{found}; as many of both are needed, and at least one")
    if not 0 <= np.min(image_idxs) <= np.max(image_idxs) < len(features):
        found = f"{names[1]} holds indices from {np.min(image_idxs)} to {np.max(image_idxs)}"
        raise ValueError(f"{found}; {names[2]} has rows 0 to {len(features) - 1}")
    return data
