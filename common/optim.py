"""First-order update rules: SGD, momentum, RMSProp and Adam, in NumPy.

Each rule takes a parameter, its gradient and a dict, and returns the next value and the dict:

    next_w, config = rule(w, dw, config)

The dict holds the settings (a missing one gets its default) and whatever the rule has to remember until the next
step. It is changed in place and returned; every parameter needs a dict of its own. The arrays in it are replaced,
never written to.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

Config = dict[str, Any]

RULES = ("sgd", "sgd_momentum", "rmsprop", "adam")
SETTINGS = ("learning_rate", "momentum", "decay_rate", "beta1", "beta2", "epsilon")
MEMORY = ("velocity", "cache", "m", "v", "t")
BELOW_ONE = ("momentum", "decay_rate", "beta1", "beta2")  # shares of the past that are kept


def sgd(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """Stochastic gradient descent: w -= learning_rate dw, in place (Robbins, Monro, 1951).

    Args:
        w: parameter of any shape; changed.
        dw: gradient of the loss, of the same shape.
        config: learning_rate (1e-2).
    Returns:
        w itself and config.
    Raises:
        ValueError: the shapes differ, or a setting is out of range.
    """
    config = with_defaults(w, dw, config, learning_rate=1e-2)
    ### BEGIN SOLUTION fully_connected_nets, 6
    w -= config["learning_rate"] * dw
    return w, config
    ### END SOLUTION


def sgd_momentum(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """SGD with momentum: v = momentum v - learning_rate dw, w + v (Polyak, 1964).

    Args:
        w: parameter of any shape; not changed.
        dw: gradient of the loss, of the same shape.
        config: learning_rate (1e-2), momentum (0.9); velocity, like w (zeros).
    Returns:
        The next value, of w's shape and dtype, and config with the new velocity.
    Raises:
        ValueError: the shapes differ, or a setting is out of range.
    """
    config = with_defaults(w, dw, config, learning_rate=1e-2, momentum=0.9, velocity=None)
    ### BEGIN SOLUTION fully_connected_nets, 9
    config["velocity"] = config["momentum"] * config["velocity"] - config["learning_rate"] * dw
    return w + config["velocity"], config
    ### END SOLUTION


def rmsprop(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """RMSProp: steps divided by a running root mean square of the gradient (Tieleman, Hinton, 2012).

    Args:
        w: parameter of any shape; not changed.
        dw: gradient of the loss, of the same shape.
        config: learning_rate (1e-2), decay_rate (0.99), epsilon (1e-8); cache, the mean of dw^2, like w (zeros).
    Returns:
        The next value, of w's shape and dtype, and config with the new cache.
    Raises:
        ValueError: the shapes differ, or a setting is out of range.
    """
    config = with_defaults(w, dw, config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8, cache=None)
    ### BEGIN SOLUTION fully_connected_nets, 9
    decay_rate = config["decay_rate"]
    config["cache"] = decay_rate * config["cache"] + (1 - decay_rate) * dw**2
    return w - config["learning_rate"] * dw / (np.sqrt(config["cache"]) + config["epsilon"]), config
    ### END SOLUTION


def adam(w: np.ndarray, dw: np.ndarray, config: Config | None = None) -> tuple[np.ndarray, Config]:
    """Adam: running means of the gradient and of its square, both corrected for their start at zero (Kingma, Ba, 2015).

    Args:
        w: parameter of any shape; not changed.
        dw: gradient of the loss, of the same shape.
        config: learning_rate (1e-3), beta1 (0.9), beta2 (0.999), epsilon (1e-8); m and v, like w (zeros); t, the
            number of steps done (0).
    Returns:
        The next value, of w's shape and dtype, and config with the new m, v and t.
    Raises:
        ValueError: the shapes differ, or a setting is out of range.
    """
    config = with_defaults(w, dw, config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, m=None, v=None, t=0)
    ### BEGIN SOLUTION fully_connected_nets, 9
    beta1, beta2 = config["beta1"], config["beta2"]
    config["t"] += 1  # before its use: at t = 0 the corrections would divide by zero
    config["m"] = beta1 * config["m"] + (1 - beta1) * dw
    config["v"] = beta2 * config["v"] + (1 - beta2) * dw**2
    m_hat = config["m"] / (1 - beta1 ** config["t"])
    v_hat = config["v"] / (1 - beta2 ** config["t"])
    return w - config["learning_rate"] * m_hat / (np.sqrt(v_hat) + config["epsilon"]), config
    ### END SOLUTION


def rule(update_rule: str | Callable) -> Callable:
    """The function of an update rule: itself, or the function of that name in this module.

    A rule that you add to the module, as in `optim.nesterov = nesterov`, is found too.

    Args:
        update_rule: a function (w, dw, config) -> next_w, config, or its name.
    Raises:
        ValueError: no such rule.
    """
    if callable(update_rule):
        return update_rule
    found = globals().get(update_rule) if isinstance(update_rule, str) else None
    if not inspect.isfunction(found) or list(inspect.signature(found).parameters) != ["w", "dw", "config"]:
        raise ValueError(f"update_rule must be a function or one of {', '.join(RULES)}, got {update_rule!r}")
    return found


def with_defaults(w: np.ndarray, dw: np.ndarray, config: Config | None, **defaults: float | None) -> Config:
    """config with its defaults filled in, in place, and checked, so that the rules above are only their formulas.

    Args:
        w, dw: parameter and gradient; their shapes have to agree, or NumPy would broadcast a bug away.
        config: settings and memory, or None.
        defaults: values for what is missing; None stands for zeros like w.
    Returns:
        The same dict, with Python numbers for NumPy's scalars: those would turn float32 into float64.
    Raises:
        ValueError: shapes that differ; a setting that no rule knows; a rate or epsilon that is negative or not
            finite; a share outside [0, 1).
    """
    if np.shape(w) != np.shape(dw):
        raise ValueError(f"w and dw differ in shape: {np.shape(w)} and {np.shape(dw)}")
    config = {} if config is None else config
    if unknown := [str(name) for name in config if name not in SETTINGS + MEMORY]:  # others' are no slips
        raise ValueError(f"config holds {', '.join(unknown)}; this rule knows {', '.join(defaults)}")
    for name, default in defaults.items():
        if config.get(name) is None:
            config[name] = np.zeros_like(w) if default is None else default
        if default is None and np.shape(config[name]) != np.shape(w):
            raise ValueError(f"{name} has shape {np.shape(config[name])}, but w has shape {np.shape(w)}")
        if default is not None:
            config[name] = _number(name, config[name])
    return config


def _number(name: str, value: Any) -> float:
    """A setting as a Python number in its range."""
    value = value.item() if hasattr(value, "item") else value
    if not 0 <= value < (1 if name in BELOW_ONE else np.inf):
        allowed = "in [0, 1)" if name in BELOW_ONE else "finite and not negative"
        raise ValueError(f"{name} is {value}; it must be {allowed}")
    return value


def _in_precision_of_w(rule: Callable) -> Callable:
    """The rule with its gradient in w's precision: a float64 gradient would make float64 of float32 weights."""

    @functools.wraps(rule)
    def of_one_dtype(w, dw, config=None):
        same = getattr(w, "dtype", None) == getattr(dw, "dtype", None) or getattr(w, "dtype", np.dtype(int)).kind != "f"
        return rule(w, dw if same else np.asarray(dw, w.dtype), config)

    return of_one_dtype


sgd, sgd_momentum, rmsprop, adam = map(_in_precision_of_w, (sgd, sgd_momentum, rmsprop, adam))
