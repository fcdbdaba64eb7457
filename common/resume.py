"""How a Solver writes down what it has reached, and goes on from there: the state, and which run it belongs to."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common import checkpoint

HISTORIES = ("loss_history", "train_acc_history", "val_acc_history")
NUMBERS = ("batch_size", "sampling", "lr_decay", "num_train", "num_train_samples", "num_val_samples")  # of a run
CHUNK = 2**24  # bytes that are made contiguous at a time


class Resumable:
    """`save_checkpoint` and `load_checkpoint` of the Solver, whose attributes these methods read and set."""

    def save_checkpoint(self, path: str | Path) -> None:
        """Write everything that `load_checkpoint` needs to go on as if nothing had happened.

        Raises:
            TypeError: a rule of your own keeps something other than numbers and arrays.
            OSError: the file cannot be written; one that was there is still there.
        """
        checkpoint.write(path, {"kind": "solver", "settings": self._settings(), **self._state()})

    def load_checkpoint(self, path: str | Path) -> None:
        """Put Solver and model back where they were; `train` then continues bit for bit.

        Build the Solver with the same options, data and kind of model first; only num_epochs may differ. NumPy's
        global stream is put back too, because dropout may draw from it.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged, or belongs to another model, to other data or to other options. Nothing has
                changed then.
        """
        saved = checkpoint.read(path, "solver")
        before = self._state() | {"model": checkpoint.snapshot(self.model)}
        try:
            self._compare(path, saved["settings"])
            self._restore(saved)
        except Exception as error:
            self._restore(before)
            if isinstance(error, ValueError):
                raise
            raise ValueError(f"{path} is no complete checkpoint: {error!r}") from error
        self.last, self.loaded = None, self.iteration

    def _has_best(self) -> bool:
        """Whether the model still has the best parameters, which the end of `train` has given it."""
        best = self.best["params"].items()
        return self.last is not None and all(np.array_equal(self.model.params.get(name), w) for name, w in best)

    def _state(self) -> dict[str, Any]:
        """All that training changes."""
        own = None if self.rng is np.random else self.rng.get_state()
        return {
            "model": self.last if self._has_best() else checkpoint.snapshot(self.model),
            "best": self.best,
            "best_val_acc": self.best_val_acc,
            "optim_configs": self.optim_configs,
            "histories": {name: getattr(self, name) for name in HISTORIES},
            "progress": {"epoch": self.epoch, "iteration": self.iteration, "order": self.order},
            "random": {"global": np.random.get_state(), "own": own},
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        """Take over what `_state` returned."""
        checkpoint.restore(self.model, saved["model"])
        shapes = {name: np.shape(w) for name, w in self.model.params.items()}
        best = {name: np.shape(w) for name, w in saved["best"]["params"].items()}
        if saved["optim_configs"].keys() != shapes.keys() or best not in ({}, shapes):
            raise ValueError("the saved optim_configs or best parameters are those of another model")
        self.best, self.best_val_acc, self.optim_configs = saved["best"], saved["best_val_acc"], saved["optim_configs"]
        for name, value in (saved["histories"] | saved["progress"]).items():
            setattr(self, name, value)
        np.random.set_state(saved["random"]["global"])
        if saved["random"]["own"] is not None:
            self.rng.set_state(saved["random"]["own"])

    def _compare(self, path: str | Path, there: dict[str, Any]) -> None:
        """Refuse the settings of another run. Older files have fewer; seeds are compared where both are numbers."""
        here = self._settings()
        unknown = {name for name in here if name not in there or (name == "seed" and None in (here[name], there[name]))}
        different = [
            f"{name} {there[name]} (here {here[name]})" for name in here.keys() - unknown if there[name] != here[name]
        ]
        if different:
            raise ValueError(f"{path} was written with {', '.join(sorted(different))}")

    def _settings(self) -> dict[str, Any]:
        """What has to be the same where a checkpoint is read; with another setting it would be another run."""
        functions = {name: getattr(self, name) for name in ("metric", "batch", "augment", "lr_schedule")}
        functions["rule"] = self.update_rule
        names = {key: f and getattr(f, "__name__", type(f).__name__) for key, f in functions.items()}
        numbers = {name: getattr(self, name) for name in NUMBERS}
        rates = {name: value for name, value in self.optim_config.items() if np.ndim(value) == 0}
        seeds = {"seeded": self.rng is not np.random, "seed": self.seed}
        return names | numbers | seeds | {"optim_config": rates, "data": self._data_checksum()}

    def _data_checksum(self) -> str | None:
        """Of the data as they are when it is first asked for; it takes a second for a gigabyte."""
        if not hasattr(self, "_checksum"):
            self._checksum = fingerprint(self.data)
        return self._checksum


def fingerprint(data: Any) -> str | None:
    """A checksum of names, shapes, types and numbers, at about a gigabyte a second.

    Args:
        data: {name: array}. Of values that are no arrays of numbers only the type and the length count.
    Returns:
        Eight hexadecimal digits; None if data is no mapping.
    """
    if not isinstance(data, Mapping):
        return None
    total = 0
    for name in sorted(data, key=str):
        value = data[name]
        known = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        about = (value.shape, value.dtype.str) if known else (type(value).__name__, _length(value))
        total = zlib.crc32(repr((name, about)).encode(), total)
        if known:
            total = _of_array(np.atleast_1d(value), total)
    return f"{total:08x}"


def _of_array(array: np.ndarray, total: int) -> int:
    rows = max(1, CHUNK // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        total = zlib.crc32(np.ascontiguousarray(array[start : start + rows]).reshape(-1).view(np.uint8), total)
    return total


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 1
