"""Small changes of a picture that change the answer of a network."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from common.validate import checked_count
from common.vision.gradients import Scores, correct_scores, frozen, pixel_gradient, unit_norm, valid_range
from common.vision.images import checked_picture


def make_fooling_image(
    X: Tensor,
    target_y: int,
    model: Scores,
    max_iter: int = 100,
    lr: float = 1,
    verbose: bool = False,
    *,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Climb the target's score by steps of length lr along g / ||g||, until the target has the highest score.

    Szegedy et al., "Intriguing properties of neural networks" (2014), in the form of CS231n.

    Args:
        X: (1, 3, H, W) normalised picture; not changed.
        target_y: the class to be mistaken for.
        model: pictures -> scores (1, C).
        max_iter: most steps; a warning says so if they were not enough.
        lr: length of a step (L2 norm, in units of X).
        verbose: print the target's and the highest score before each step.
        callback: called with the number of steps so far and the scores (1, C).
    Returns:
        (1, 3, H, W), not cut to the valid range; a copy of X if the target has the highest score already.
    Raises:
        TypeError, ValueError: X is not one picture, target_y no class, max_iter negative, or the gradient zero.
    """
    checked_picture(X, "X", one=True)
    max_iter, fooled = checked_count("max_iter", max_iter, least=0), False
    X_fooling = X.detach().clone()
    with frozen(model), torch.enable_grad():
        for step in range(max_iter + 1):
            x = X_fooling.clone().requires_grad_()
            scores = model(x)  # (1, C)
            checked_target(target_y, scores)
            _report(step, scores, target_y, verbose, callback)
            fooled = bool(scores.argmax() == target_y)
            if fooled or step == max_iter:
                break
            ### BEGIN SOLUTION network_visualization, 6
            (dX,) = torch.autograd.grad(scores[0, target_y], x)
            X_fooling += lr * unit_norm(dX)
            ### END SOLUTION
    if not fooled:
        behind = (scores.max() - scores[0, target_y]).item()
        warnings.warn(f"not fooled after {max_iter} steps: class {target_y} is {behind:.3g} behind", stacklevel=2)
    return X_fooling


make_adversarial_attack = make_fooling_image  # its name in EECS 498


def _report(
    step: int, scores: Tensor, target_y: int, verbose: bool, callback: Callable[[int, Tensor], None] | None
) -> None:
    if verbose:
        target, highest = scores[0, target_y].item(), scores.max().item()
        print(f"step {step}: target score {target:.3f}, highest score {highest:.3f}")
    if callback is not None:
        callback(step, scores.detach())


def fgsm(X: Tensor, y: Tensor, model: Scores, epsilon: float | Tensor, targeted: bool = False) -> Tensor:
    """One step of size epsilon in every pixel, in the direction of the sign of the loss's gradient.

    The fast gradient sign method: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples"
    (2015).

    Args:
        X: (N, 3, H, W) normalised pictures; not changed.
        y: (N,) the true classes, or with targeted=True the wanted ones.
        model: pictures -> scores (N, C).
        epsilon: in units of X; a tensor may hold one number for each colour, (1, 3, 1, 1).
        targeted: go down the loss of y instead of up.
    Returns:
        (N, 3, H, W), cut to the model's valid range.
    Raises:
        TypeError, ValueError: X is no batch of pictures, y holds no classes for it, or epsilon is negative.
    """
    checked_picture(X, "X")
    if (torch.as_tensor(epsilon) < 0).any():
        raise ValueError(f"epsilon must not be negative, got {epsilon}")

    def loss(x: Tensor) -> Tensor:
        scores = model(x)
        correct_scores(scores, y)  # refuses labels that do not fit
        return F.cross_entropy(scores, torch.as_tensor(y).to(scores.device, torch.int64), reduction="sum")

    with frozen(model):
        _, dX = pixel_gradient(loss, X)
    lower, upper = valid_range(model, X)
    ### BEGIN SOLUTION network_visualization, 7
    direction = -dX.sign() if targeted else dX.sign()
    X_adversarial = (X.detach() + epsilon * direction).clamp(lower, upper)
    ### END SOLUTION
    return X_adversarial


def checked_target(target_y: int, scores: Tensor) -> int:
    """target_y, if it is a class of these scores (N, C).

    Raises:
        TypeError: not a whole number.
        ValueError: out of range.
    """
    return checked_count("target_y", target_y, least=0, most=scores.shape[1] - 1)
