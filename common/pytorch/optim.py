"""What PyTorch's own optimisers lack for fast training: orthogonalised momentum, lookahead, a triangular rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch


def triangle(fraction: float, peak: float = 0.2, start: float = 0.2, end: float = 0.0) -> float:
    """Factor on the learning rate: a straight line up to 1, a straight line down.

    L. Smith and N. Topin, "Super-convergence" (2018).

    Args:
        fraction: of the training that is done, 0 to 1.
        peak: where the factor is 1; 0 <= peak < 1. With 0 there is no way up.
        start, end: the factor at fraction 0 and at fraction 1.
    Returns:
        A factor.
    Raises:
        ValueError: fraction outside [0, 1] or peak outside [0, 1).
    """
    if not 0 <= fraction <= 1 or not 0 <= peak < 1:
        raise ValueError(f"fraction must be in [0, 1] and peak in [0, 1), got {fraction} and {peak}")
    ### BEGIN SOLUTION pytorch, 13
    if fraction < peak:
        return start + (1 - start) * fraction / peak
    return end + (1 - end) * (1 - fraction) / (1 - peak)
    ### END SOLUTION


def orthogonalise(G: torch.Tensor, steps: int = 3) -> torch.Tensor:
    """Pull every singular value of a matrix towards 1 and leave its singular vectors: about U V^T of G = U S V^T.

    A step replaces each singular value s by a s + b s^3 + c s^5, with coefficients that lift small values fast, and
    needs matrix products only.

    K. Jordan et al., "Muon: an optimizer for hidden layers" (2024).

    Args:
        G: (M, N).
        steps: 3 brings all but the smallest values to 0.5 - 1.3.
    Returns:
        (M, N), of the dtype of G.
    Raises:
        ValueError: G is not a matrix, or steps < 0.
    """
    if G.ndim != 2 or steps < 0:
        raise ValueError(f"G has shape {tuple(G.shape)} and steps is {steps}; a matrix and steps >= 0 are needed")
    ### BEGIN SOLUTION pytorch, 12
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G.T if G.shape[0] > G.shape[1] else G  # the products are smaller this way round
    X = X / (X.norm() + 1e-7)  # now no singular value is above 1
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X.T if G.shape[0] > G.shape[1] else X
    ### END SOLUTION


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose step is orthogonalised, for filters followed by a normalisation.

    Such filters act by their direction only. So before each step a layer is brought back to the norm sqrt(F), filters
    of length 1 on average, and the learning rate is an angle.

    Jordan et al. (2024).
    """

    def __init__(self, params: Iterable, lr: float = 0.24, momentum: float = 0.6, steps: int = 3):
        """
        Args:
            params: tensors (F, ...) of two dimensions or more; all but the first are flattened.
            lr: the length of a step along each singular direction.
            momentum: share of the old velocity that is kept, 0 <= momentum < 1.
            steps: of `orthogonalise`.
        Raises:
            ValueError: lr < 0, momentum outside [0, 1), or a parameter with fewer than two dimensions.
        """
        if lr < 0 or not 0 <= momentum < 1:
            raise ValueError(f"lr must be >= 0 and momentum in [0, 1), got {lr} and {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps})
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim < 2:
                raise ValueError(f"Muon works on matrices and filters, not on a parameter of shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """One step for every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients anew, as PyTorch's optimisers take it; None = they are there.
        Returns:
            The loss of the closure, if there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            options = {name: group[name] for name in ("lr", "momentum", "steps")}
            for p in (p for p in group["params"] if p.grad is not None):
                if "velocity" not in self.state[p]:
                    self.state[p]["velocity"] = torch.zeros_like(p)
                muon_update(p, p.grad, self.state[p]["velocity"], **options)
        return loss


def muon_update(
    p: torch.Tensor, grad: torch.Tensor, velocity: torch.Tensor, lr: float, momentum: float, steps: int
) -> None:
    """One step of Muon for one parameter, in place; autograd must not record it (`Muon.step` sees to that).

    Args:
        p: (F, ...), changed.
        grad: of the shape of p.
        velocity: of the shape of p, changed.
        lr, momentum, steps: as in `Muon`.
    """
    ### BEGIN SOLUTION pytorch, 12
    velocity.mul_(momentum).add_(grad)
    ahead = grad + momentum * velocity  # Nesterov: look one step further along the velocity
    p.mul_(len(p) ** 0.5 / p.norm())
    p.sub_(lr * orthogonalise(ahead.flatten(1), steps).view_as(p))
    ### END SOLUTION


class Lookahead:
    """Slow weights that follow the fast ones; now and then the fast ones are put back onto them.

    M. Zhang, J. Lucas, G. Hinton, J. Ba, "Lookahead optimizer: k steps forward, 1 step back" (2019).
    """

    def __init__(self, params: Iterable[torch.Tensor]):
        """
        Args:
            params: the fast weights; copies of them are the first slow weights.
        """
        self.fast = list(params)
        self.slow = [p.detach().clone() for p in self.fast]

    def update(self, keep: float) -> None:
        """slow <- keep slow + (1 - keep) fast, then fast <- slow, in place.

        Args:
            keep: share of the slow weights that stays, 0 to 1. 0 changes nothing, 1 throws the fast weights away.
        Raises:
            ValueError: keep outside [0, 1].
        """
        if not 0 <= keep <= 1:
            raise ValueError(f"keep must be in [0, 1], got {keep}")
        ### BEGIN SOLUTION pytorch, 13
        with torch.no_grad():
            for slow, fast in zip(self.slow, self.fast, strict=True):
                slow.lerp_(fast, 1 - keep)
                fast.copy_(slow)
        ### END SOLUTION
