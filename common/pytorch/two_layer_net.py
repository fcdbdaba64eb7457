"""The two-layer network in PyTorch, under the names of EECS 498: plain functions of a dict of tensors.

The gradients are still written by hand; autograd only checks them. Everything runs where the parameters live.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from common.storage import atomic_write
from common.validate import checked_labels, checked_reg, checked_sizes

Params = dict[str, torch.Tensor]


class TwoLayerNet:
    """The functions below, bundled with the parameters they work on.

    Attributes:
        params: W1 (D, H), b1 (H,), W2 (H, C), b2 (C,).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        std: float = 1e-4,
        *,
        generator: torch.Generator | None = None,
    ):
        """Weights normally distributed around zero, biases zero.

        Args:
            input_size, hidden_size, output_size: D, H and C, each at least 1.
            dtype: a floating type.
            device: where parameters and data live.
            std: standard deviation of the weights.
            generator: a CPU generator of the weights; None = torch's global one.
        Raises:
            ValueError: a size below 1 or a negative std.
        """
        checked_sizes(input_size=input_size, hidden_size=hidden_size, output_size=output_size)
        if std < 0:
            raise ValueError(f"std must not be negative, got {std}")
        shapes = {"W1": (input_size, hidden_size), "W2": (hidden_size, output_size)}
        self.params = {
            name: std * torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()
        }
        self.params |= {"b1": torch.zeros(hidden_size, dtype=dtype), "b2": torch.zeros(output_size, dtype=dtype)}
        self.params = {name: value.to(device) for name, value in self.params.items()}

    def loss(self, X: torch.Tensor, y: torch.Tensor | None = None, reg: float = 0.0) -> Any:
        """Scores, or the loss and its gradients; see `nn_forward_backward`."""
        return nn_forward_backward(self.params, X, y, reg)

    def train(self, X, y, X_val, y_val, *args, **options) -> dict[str, list[float]]:
        """Train the parameters; arguments and result of `nn_train`."""
        return nn_train(self.params, nn_forward_backward, nn_predict, X, y, X_val, y_val, *args, **options)

    def predict(self, X: torch.Tensor) -> torch.Tensor:
        """Labels (N,); see `nn_predict`."""
        return nn_predict(self.params, nn_forward_backward, X)

    def save(self, path: str | Path) -> None:
        """Write the parameters to a file, which appears complete or not at all."""
        with atomic_write(path) as file:
            torch.save(self.params, file)

    def load(self, path: str | Path) -> None:
        """Read parameters that `save` wrote, to the device of the present ones.

        Raises:
            ValueError: the file does not hold the four parameters.
        """
        params = torch.load(path, map_location=self.params["W1"].device, weights_only=True)
        if not isinstance(params, dict) or params.keys() != self.params.keys():
            raise ValueError(f"{path} does not hold the parameters {sorted(self.params)}")
        self.params = params


def nn_forward_pass(params: Params, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (N, C) and the hidden layer (N, H) of rows X (N, D).

    Raises:
        ValueError: X does not fit W1, or holds NaN or infinity.
        TypeError: X has another dtype than W1.
    """
    _check_rows(params, X)
    ### BEGIN SOLUTION two_layer_net, 13
    hidden = (X @ params["W1"] + params["b1"]).clamp(min=0)  # (N, H)
    scores = hidden @ params["W2"] + params["b2"]  # (N, C)
    return scores, hidden
    ### END SOLUTION


def nn_forward_backward(params: Params, X: torch.Tensor, y: torch.Tensor | None = None, reg: float = 0.0) -> Any:
    """Scores; with labels, the loss -mean log p_y + reg (sum W1^2 + sum W2^2) and its gradients.

    Args:
        params: W1 (D, H), b1 (H,), W2 (H, C), b2 (C,).
        X: rows, (N, D), of the dtype and on the device of params.
        y: (N,) integer labels, 0 to C - 1, or None.
        reg: strength of the L2 term, without a factor 1/2; biases are not regularised.
    Returns:
        scores (N, C) if y is None, else the loss (0-d tensor) and {name: gradient}.
    Raises:
        ValueError: shapes that do not fit, labels out of range, NaN or infinity in X, reg < 0.
        TypeError: labels that are not integers, X of another dtype than W1.
    """
    scores, hidden = nn_forward_pass(params, X)
    if y is None:
        return scores
    _check_labels(params, X, y, "y")
    reg, rows, W1, W2 = checked_reg(reg), torch.arange(len(y), device=y.device), params["W1"], params["W2"]
    ### BEGIN SOLUTION two_layer_net, 13
    log_probs = scores - torch.logsumexp(scores, dim=1, keepdim=True)  # logsumexp shifts by the maximum itself
    loss = -log_probs[rows, y].mean() + reg * (W1.square().sum() + W2.square().sum())
    dscores = log_probs.exp()
    dscores[rows, y] -= 1
    dscores /= len(y)  # (N, C)
    da = (dscores @ W2.T) * (hidden > 0)  # (N, H)
    grads = {
        "W1": X.T @ da + 2 * reg * W1,
        "b1": da.sum(0),
        "W2": hidden.T @ dscores + 2 * reg * W2,
        "b2": dscores.sum(0),
    }
    return loss, grads
    ### END SOLUTION


def nn_train(
    params: Params,
    loss_func: Callable,
    pred_func: Callable,
    X: torch.Tensor,
    y: torch.Tensor,
    X_val: torch.Tensor,
    y_val: torch.Tensor,
    learning_rate: float = 1e-3,
    learning_rate_decay: float = 0.95,
    reg: float = 5e-6,
    num_iters: int = 100,
    batch_size: int = 200,
    verbose: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, list[float]]:
    """Stochastic gradient descent on minibatches drawn with replacement; params are updated in place.

    Args:
        params: tensors by name; every one that loss_func gives a gradient for is trained.
        loss_func: loss_func(params, X, y, reg) -> loss, grads.
        pred_func: pred_func(params, loss_func, X) -> labels.
        X, y, X_val, y_val: rows and labels for training and validation; not changed.
        learning_rate, learning_rate_decay, reg, num_iters, batch_size, verbose: as in the NumPy network.
        generator: a CPU generator of the minibatches; None = torch's global one.
    Returns:
        loss_history (a value a step), train_acc_history (of the current batch) and val_acc_history (a value an epoch).
    Raises:
        ValueError, TypeError: as `nn_forward_backward`; num_iters or batch_size below 1.
    """
    for rows, labels, name in ((X, y, "y"), (X_val, y_val, "y_val")):
        _check_rows(params, rows)
        _check_labels(params, rows, labels, name)
    checked_sizes(num_iters=num_iters, batch_size=batch_size)
    history = {"loss_history": [], "train_acc_history": [], "val_acc_history": []}
    ### BEGIN SOLUTION two_layer_net, 13
    iterations_per_epoch = max(len(X) // batch_size, 1)
    for it in range(num_iters):
        batch = torch.randint(len(X), (batch_size,), generator=generator).to(X.device)
        loss, grads = loss_func(params, X[batch], y[batch], reg)
        for name, grad in grads.items():
            params[name] -= learning_rate * grad
        history["loss_history"].append(float(loss))
        if it % iterations_per_epoch == 0:
            right = pred_func(params, loss_func, X[batch]) == y[batch]
            history["train_acc_history"].append(right.double().mean().item())
            history["val_acc_history"].append((pred_func(params, loss_func, X_val) == y_val).double().mean().item())
            learning_rate *= learning_rate_decay
        if verbose and it % 100 == 0:
            print(f"iteration {it} / {num_iters}: loss {float(loss):.6f}")
    return history
    ### END SOLUTION


def nn_predict(params: Params, loss_func: Callable, X: torch.Tensor) -> torch.Tensor:
    """Labels (N,) of the rows X (N, D): the class with the highest score."""
    ### BEGIN SOLUTION two_layer_net, 13
    return loss_func(params, X).argmax(dim=1)
    ### END SOLUTION


def nn_get_search_params() -> tuple[list[float], list[int], list[float], list[float]]:
    """Candidates for a small search: learning rates, hidden sizes, regularisation strengths, decays."""
    ### BEGIN SOLUTION two_layer_net, 13
    return [0.2, 0.5], [64, 128], [1e-6, 1e-4], [0.95]
    ### END SOLUTION


def find_best_net(
    data_dict: Params,
    get_param_set_fn: Callable[[], tuple] = nn_get_search_params,
    *,
    num_iters: int = 2000,
    batch_size: int = 200,
    std: float = 1e-2,
    seed: int = 0,
) -> tuple[TwoLayerNet, dict[str, list[float]], float]:
    """Train a network for every combination of hyper-parameters and keep the one that validates best.

    Args:
        data_dict: X_train, y_train, X_val, y_val; the device and dtype of X_train are the network's.
        get_param_set_fn: gives the four lists of `nn_get_search_params`.
        num_iters, batch_size: of every training.
        std: of the initial weights.
        seed: every candidate starts from the same one.
    Returns:
        The best network, its history and its validation accuracy at the end of training.
    Raises:
        ValueError: a list of candidates is empty.
    """
    X, y, X_val, y_val = (data_dict[name] for name in ("X_train", "y_train", "X_val", "y_val"))
    rates, sizes, strengths, decays = get_param_set_fn()
    candidates = list(itertools.product(sizes, rates, strengths, decays))
    if not candidates:
        raise ValueError("nothing to search: get_param_set_fn gave an empty list")
    best = (None, None, -1.0)  # even a network that gets everything wrong beats it
    ### BEGIN SOLUTION two_layer_net, 13
    for size, rate, reg, decay in candidates:
        draw = torch.Generator().manual_seed(seed)
        num_classes = int(y.max()) + 1
        net = TwoLayerNet(X.shape[1], size, num_classes, X.dtype, X.device, std, generator=draw)
        history = net.train(X, y, X_val, y_val, rate, decay, reg, num_iters, batch_size, generator=draw)
        accuracy = (net.predict(X_val) == y_val).double().mean().item()
        if accuracy > best[2]:
            best = (net, history, accuracy)
    return best
    ### END SOLUTION


def _check_rows(params: Params, X: torch.Tensor) -> None:
    W1 = params["W1"]
    if X.ndim != 2 or len(X) == 0 or X.shape[1] != W1.shape[0]:
        raise ValueError(f"X has shape {tuple(X.shape)}; W1 of shape {tuple(W1.shape)} needs (N, {len(W1)}), N >= 1")
    if X.dtype != W1.dtype:
        raise TypeError(f"X is {X.dtype} but the parameters are {W1.dtype}; convert with X.to({W1.dtype})")
    if not torch.isfinite(X).all():
        raise ValueError("X holds NaN or infinity; every value must be finite")


def _check_labels(params: Params, X: torch.Tensor, y: torch.Tensor, name: str) -> None:
    checked_labels(y.cpu().numpy(), name, tuple(X.shape), len(params["b2"]))
