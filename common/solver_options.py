"""What the Solver accepts: its data, its update rules and its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from common import optim

DATA = ("X_train", "y_train", "X_val", "y_val")
SAMPLING = ("replacement", "permutation")
COUNTS = ("batch_size", "num_epochs", "print_every", "print_acc_every", "num_train_samples", "num_val_samples")


def rule_of(update_rule: str | Callable) -> Callable:
    """The function of an update rule, given by name or itself.

    Raises:
        ValueError: no such rule.
    """
    if callable(update_rule):
        return update_rule
    if update_rule not in optim.RULES:
        raise ValueError(f"update_rule must be a function or one of {', '.join(optim.RULES)}, got {update_rule!r}")
    return getattr(optim, update_rule)


def checked_data(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The four parts of data that training needs.

    Raises:
        ValueError: a part is missing or empty, or pictures and labels differ in number.
    """
    missing = [name for name in DATA if name not in data]
    if missing:
        raise ValueError(f"data lacks {', '.join(missing)}; it needs {', '.join(DATA)}")
    parts = {name: data[name] for name in DATA}
    for part in ("train", "val"):
        pictures, labels = len(parts[f"X_{part}"]), len(parts[f"y_{part}"])
        if pictures != labels or pictures == 0:
            found = f"X_{part} has {pictures} pictures and y_{part} {labels} labels"
            raise ValueError(f"{found}; as many of both are needed, and at least one")
    return parts


def check_options(solver: Any, device: str) -> None:
    """Refuse options that make no sense.

    Args:
        solver: with its options as attributes.
        device: where to compute.
    Raises:
        ValueError: names the option, what was given and what is allowed.
    """
    if solver.sampling not in SAMPLING:
        raise ValueError(f"sampling must be one of {', '.join(SAMPLING)}, got {solver.sampling!r}")
    if str(device) != "cpu":
        raise ValueError(f'device must be "cpu", where NumPy computes, got {device!r}')
    for name in COUNTS:
        value = getattr(solver, name)
        if value is None and name.endswith("samples"):
            continue
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if not 0 < solver.lr_decay < np.inf:
        raise ValueError(f"lr_decay must be a positive number, got {solver.lr_decay!r}")
    if solver.lr_schedule is not None and "learning_rate" not in solver.optim_config:
        raise ValueError("lr_schedule multiplies optim_config['learning_rate'], which is missing")
