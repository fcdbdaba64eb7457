"""The Solver: minibatches, an update rule, accuracies along the way, the best parameters, and checkpoints.

It knows nothing of layers. A model is anything with a dict `params` and a method `loss(X, y=None)` that returns scores
without labels and (loss, gradients) with them; `common.checkpoint` says what a model with more state offers. Where data
are not pictures with labels, two functions of yours say how to draw a minibatch and how to measure the model.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common import checkpoint, optim
from common.progress import progress
from common.resume import Resumable
from common.validate import Stream, checked_count, checked_pairs, stream

SAMPLING = ("replacement", "permutation")
DIVERGED = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}  # shows as NaN in the history, with one warning


class Solver(Resumable):
    """Trains a model on minibatches and keeps the parameters with the best validation accuracy.

        solver = Solver(model, data, update_rule="adam", optim_config={"learning_rate": 1e-3}, num_epochs=5)
        solver.train()

    Attributes:
        loss_history: of the minibatches, one value an iteration.
        train_acc_history, val_acc_history: after the first iteration, after every epoch, and where training stops.
            With a metric of yours, its values are in val_acc_history and train_acc_history stays empty.
        X_train, y_train, X_val, y_val: as in data, where they are there.
        best_val_acc, best_params: the highest validation accuracy (or metric) so far, -1 (or minus infinity) before
            the first, and copies of the parameters that had it, {} before.
        epoch, iteration: how many are done.
        optim_configs: {parameter: the rule's dict}.
        last: a snapshot of the last parameters, while the model has the best ones; else None.
    """

    def __init__(
        self,
        model: Any,
        data: dict[str, np.ndarray],
        *,
        update_rule: str | Callable = "sgd",
        optim_config: dict[str, Any] | None = None,
        lr_decay: float = 1.0,
        batch_size: int = 100,
        num_epochs: int = 10,
        num_train_samples: int | None = 1000,
        num_val_samples: int | None = None,
        checkpoint_name: str | Path | None = None,
        print_every: int = 10,
        verbose: bool = True,
        print_acc_every: int = 1,
        device: str = "cpu",
        seed: Stream = None,
        augment: Callable | None = None,
        lr_schedule: Callable[[float], float] | None = None,
        sampling: str = "replacement",
        metric: Callable[[Any, dict], float] | None = None,
        batch: Callable[[dict, int, Any], tuple] | None = None,
        num_train: int | None = None,
    ):
        """Nothing given is changed but the model's parameters, and those only by `train`.

        Args:
            model: see above.
            data: X_train, y_train, X_val, y_val, pictures in any shape that the model takes; with `metric` and `batch`
                anything that these two understand.
            update_rule: the name of a rule in `common.optim`, also of one that you have put there, or a function
                (w, dw, config) -> next_w, config.
            optim_config: settings of the rule, such as learning_rate; every parameter gets a copy.
            lr_decay: factor on the learning rate at the end of each epoch.
            batch_size: pictures in a minibatch.
            num_epochs: an epoch has max(N // batch_size, 1) iterations; 0 = `train` does nothing.
            num_train_samples, num_val_samples: how many pictures to measure the accuracies on; None = all.
            checkpoint_name: None, or the start of the names of the files `<name>_epoch_<e>.pkl`, a file an epoch.
            print_every: with verbose, print the loss every so many iterations ...
            verbose: print lines of progress; the progress bar is there anyway, where somebody watches.
            print_acc_every: ... and the accuracies every so many epochs.
            device: "cpu"; here for the sake of code written for EECS 498.
            seed: seed or RandomState of the minibatches, the accuracies' samples and augment; None = NumPy's global
                stream.
            augment: (X_batch, rng) -> X_batch, applied to training minibatches only.
            lr_schedule: the share of training that is done, 0 to 1, -> factor on the learning rate.
            sampling: "replacement", as in CS231n: every minibatch is drawn from all pictures; or "permutation": an
                epoch is a pass over the shuffled pictures (less a last, smaller minibatch).
            metric: (model, data) -> a number, the higher the better, in place of the accuracies.
            batch: (data, batch_size, rng) -> the arguments of `model.loss` for one minibatch, in place of rows of
                X_train and y_train drawn as `sampling` says.
            num_train: N, examples in an epoch: needed with `batch`, otherwise the length of y_train.
        Raises:
            ValueError: an unknown rule or sampling, a number out of range, data that are missing, empty or of
                different lengths.
            TypeError: an unknown option, a count that is not an integer.
        """
        self.model, self.data, self.metric, self.batch = model, data, metric, batch
        self.update_rule, self.optim_config = optim.rule(update_rule), copy.deepcopy(optim_config or {})
        self.lr_decay, self.lr_schedule, self.augment = lr_decay, lr_schedule, augment
        self.batch_size, self.num_epochs, self.sampling = batch_size, num_epochs, sampling
        self.num_train_samples, self.num_val_samples = num_train_samples, num_val_samples
        self.checkpoint_name, self.verbose = checkpoint_name, verbose
        self.print_every, self.print_acc_every = print_every, print_acc_every
        for name in {"X_train", "y_train", "X_val", "y_val"}.intersection(data if isinstance(data, dict) else ()):
            setattr(self, name, data[name])  # as in the source course
        self._check_options(device)
        self.num_train = self._checked_data(num_train)
        self.rng, self.seed = stream(seed), int(seed) if isinstance(seed, int | np.integer) else None
        self.iterations_per_epoch = max(self.num_train // batch_size, 1)
        self._reset()

    def _check_options(self, device: str) -> None:
        """Refuse options that make no sense; the error names the option, what was given and what is allowed."""
        if self.sampling not in SAMPLING:
            raise ValueError(f"sampling must be one of {', '.join(SAMPLING)}, got {self.sampling!r}")
        if str(device) != "cpu":
            raise ValueError(f'device must be "cpu", where NumPy computes, got {device!r}')
        for name in ("batch_size", "print_every", "print_acc_every"):
            checked_count(name, getattr(self, name))
        checked_count("num_epochs", self.num_epochs, 0)
        for name in ("num_train_samples", "num_val_samples"):
            if getattr(self, name) is not None:
                checked_count(name, getattr(self, name))
        if not 0 < self.lr_decay < np.inf:
            raise ValueError(f"lr_decay must be a positive number, got {self.lr_decay!r}")
        if self.lr_schedule is not None and "learning_rate" not in self.optim_config:
            raise ValueError("lr_schedule multiplies optim_config['learning_rate'], which is missing")
        if self.batch is not None and self.augment is not None:
            raise ValueError("augment changes pictures of X_train; with a batch function, augment there")

    def _checked_data(self, num_train: int | None) -> int:
        """N, the examples in an epoch, after a look at the parts of data that no function of the caller's replaces."""
        if self.batch is not None and num_train is None:
            raise ValueError("with a batch function num_train, the number of examples in an epoch, is needed")
        own = ("train", "val") if self.metric is None else ("train",) if self.batch is None else ()
        checked_pairs(self.data, own)
        for part in own if self.metric is None else ():
            if np.ndim(self.data[f"y_{part}"]) != 1:  # (N, 1) == (N,) is a table of N x N comparisons
                raise ValueError(f"y_{part} must have the shape (N,), got {np.shape(self.data[f'y_{part}'])}")
        if self.batch is not None:
            return checked_count("num_train", num_train)
        return len(self.data["y_train"])

    def train(self, time_limit: float | None = None, return_best_params: bool = True) -> None:
        """Train for num_epochs; after `load_checkpoint`, for what is left of them; when done, for as many again.

        A loss that is not finite is reported once, as a warning, and training goes on. However training ends - an
        interrupt by the keyboard included - the model has the best parameters afterwards. The last ones are kept: if
        training was interrupted or ran out of time, the next call goes on from these, unless the parameters have been
        changed in between. Where a checkpoint of a finished run was loaded there is nothing left to do; more epochs
        are asked for by a larger num_epochs of the Solver.

        Args:
            time_limit: seconds; training stops early rather than exceed them (one iteration is always done).
            return_best_params: False leaves the model with its last parameters.
        Raises:
            ValueError: a time_limit that is not positive.
        """
        if time_limit is not None and not time_limit > 0:
            raise ValueError(f"time_limit must be a positive number of seconds or None, got {time_limit}")
        if self._has_best():
            checkpoint.restore(self.model, self.last)
        self.last = None
        if self.iteration >= self.num_iterations and self.iteration != self.loaded:
            self.num_iterations += self.num_epochs * self.iterations_per_epoch
        try:
            self._loop(np.inf if time_limit is None else time_limit)
        finally:
            if return_best_params and self.best_params:
                self.last = checkpoint.snapshot(self.model)
                checkpoint.restore(self.model, self.best)

    def step(self) -> None:
        """One minibatch: loss, gradients, and an update of every parameter."""
        batch = self._next_batch() if self.batch is None else self.batch(self.data, self.batch_size, self.rng)
        if self.lr_schedule is not None:
            self._schedule(float(self.lr_schedule(self.iteration / self.num_iterations)))
        with np.errstate(**DIVERGED):
            loss, grads = self.model.loss(*batch)
            for name, w in self.model.params.items():
                config = self.optim_configs[name]
                self.model.params[name], self.optim_configs[name] = self.update_rule(w, grads[name], config)
        self.iteration += 1
        self.loss_history.append(float(loss))

    def _step(self) -> None:
        """`step`, by the name of the source course."""
        self.step()

    def check_accuracy(
        self, X: np.ndarray, y: np.ndarray, num_samples: int | None = None, batch_size: int = 100
    ) -> float:
        """Share of the pictures whose highest score is that of their label.

        Args:
            X, y: pictures and labels (N,).
            num_samples: measure on so many, drawn with replacement; None or more than N = on all.
            batch_size: pictures that go through the model at once.
        Returns:
            A number from 0 to 1.
        Raises:
            ValueError: y has not the shape (N,).
        """
        if np.shape(y) != (len(X),):
            raise ValueError(f"y must have the shape {(len(X),)} for {len(X)} pictures, got {np.shape(y)}")
        if num_samples is not None and len(X) > num_samples:
            chosen = self.rng.choice(len(X), num_samples)
            X, y = X[chosen], y[chosen]
        with np.errstate(**DIVERGED):
            scores = (self.model.loss(X[i : i + batch_size]) for i in range(0, len(X), batch_size))
            predicted = np.concatenate([np.argmax(part, axis=1) for part in scores])
        return float(np.mean(predicted == y))

    @property
    def best_params(self) -> dict[str, np.ndarray]:
        """The parameters with the best validation accuracy so far."""
        return self.best["params"]

    # Inside ---------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        """State before the first iteration."""
        self.epoch, self.iteration, self.order = 0, 0, None
        self.last, self.loaded = None, -1  # last parameters, while the model has the best; iterations of a loaded file
        self.num_iterations = self.num_epochs * self.iterations_per_epoch
        self.best, self.best_val_acc = {"params": {}, "state": []}, -1.0 if self.metric is None else -np.inf
        self.loss_history, self.train_acc_history, self.val_acc_history = [], [], []
        self.optim_configs = {name: copy.deepcopy(self.optim_config) for name in self.model.params}

    def _loop(self, time_limit: float) -> None:
        """Iterations until num_iterations, or until two more of the longest would exceed the time limit."""
        started, longest, recorded = time.perf_counter(), 0.0, True
        with progress(total=self.num_iterations, initial=self.iteration, desc="training") as bar:
            while self.iteration < self.num_iterations:
                begun = time.perf_counter()
                self.step()
                self._report_loss(bar)
                epoch_ends = self.iteration % self.iterations_per_epoch == 0
                if epoch_ends:
                    self._end_epoch()
                recorded = epoch_ends or self.iteration == 1
                if recorded:
                    self._record(bar)
                bar.update()
                now = time.perf_counter()
                longest = max(longest, now - begun)
                if now - started + 2 * longest > time_limit:
                    break
            if not recorded:
                self._record(bar)

    def _next_batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Pictures and labels of the next minibatch."""
        chosen = self._next_indices()
        X, y = self.data["X_train"][chosen], self.data["y_train"][chosen]
        return (X if self.augment is None else self.augment(X, self.rng)), y

    def _next_indices(self) -> np.ndarray:
        if self.sampling == "replacement":
            return self.rng.choice(self.num_train, self.batch_size)
        start = self.iteration % self.iterations_per_epoch * self.batch_size
        if start == 0:
            self.order = self.rng.permutation(self.num_train)
        return self.order[start : start + self.batch_size]

    def _schedule(self, factor: float) -> None:
        """Set every learning rate to its first value times lr_decay^epoch times the schedule's factor."""
        rate = self.optim_config["learning_rate"] * self.lr_decay**self.epoch * factor
        for config in self.optim_configs.values():
            config["learning_rate"] = rate

    def _end_epoch(self) -> None:
        self.epoch += 1
        for config in self.optim_configs.values():
            if "learning_rate" in config:  # a rule of one's own may have none
                config["learning_rate"] *= self.lr_decay

    def _record(self, bar: Any) -> None:
        """Measure the model, keep the parameters if they are the best so far, and write a checkpoint."""
        measured = self._measure()
        val_acc = self.val_acc_history[-1]
        if val_acc > self.best_val_acc and self._finite():
            self.best, self.best_val_acc = checkpoint.snapshot(self.model), val_acc
        if self.checkpoint_name is not None:
            self.save_checkpoint(f"{self.checkpoint_name}_epoch_{self.epoch}.pkl")
        if self.verbose and self.epoch % self.print_acc_every == 0:
            bar.write(f"epoch {self.epoch} / {self.num_epochs}: {measured}")
        bar.set_postfix(val=f"{val_acc:.3f}")

    def _measure(self) -> str:
        """Append to the histories; the values as text."""
        data = self.data
        if self.metric is not None:
            self.val_acc_history.append(float(self.metric(self.model, data)))
            return f"metric {self.val_acc_history[-1]:.3f}"
        self.train_acc_history.append(self.check_accuracy(data["X_train"], data["y_train"], self.num_train_samples))
        self.val_acc_history.append(self.check_accuracy(data["X_val"], data["y_val"], self.num_val_samples))
        return f"train acc {self.train_acc_history[-1]:.3f}, val acc {self.val_acc_history[-1]:.3f}"

    def _finite(self) -> bool:
        """Whether the last loss and all parameters are numbers; a model of NaNs may guess right by accident."""
        return bool(np.isfinite(self.loss_history[-1])) and all(
            np.isfinite(w).all() for w in self.model.params.values()
        )

    def _report_loss(self, bar: Any) -> None:
        loss = self.loss_history[-1]
        if not np.isfinite(loss) and np.isfinite(self.loss_history[:-1]).all():
            message = (
                f"the loss became {loss} at iteration {self.iteration} (epoch {self.epoch + 1}): training diverges; "
            )
            warnings.warn(message + "try a smaller learning rate or other initial weights", UserWarning, stacklevel=4)
        if self.verbose and (self.iteration - 1) % self.print_every == 0:
            bar.write(f"iteration {self.iteration} / {self.num_iterations}: loss {loss:.6f}")
