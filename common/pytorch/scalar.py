"""Automatic differentiation of numbers: what PyTorch does for tensors, small enough to read whole.

A `Value` holds a number, and remembers from which values it was made and its derivative with respect to each of them.
The rest is the chain rule, from the result back to the inputs: reverse-mode differentiation (Linnainmaa, 1970).
"""

from __future__ import annotations

import math
from collections.abc import Sequence


class Value:
    """A number that remembers how it was made.

    Attributes:
        data: the number.
        grad: the derivative of the result that `backward` was called on, with respect to this value; 0 before.
        parents: the values that it was made from.
        slopes: its derivative with respect to each of the parents.
        label: the operation that made it, or a name.
    """

    def __init__(self, data: float, parents: Sequence[Value] = (), slopes: Sequence[float] = (), label: str = ""):
        """
        Args:
            data, parents, slopes, label: as the attributes.
        Raises:
            ValueError: not one slope for each parent.
        """
        if len(parents) != len(slopes):
            raise ValueError(f"each parent needs one slope, got {len(parents)} parents and {len(slopes)} slopes")
        self.data, self.grad = float(data), 0.0
        self.parents, self.slopes, self.label = tuple(parents), tuple(slopes), label

    def __repr__(self) -> str:
        return f"Value({self.data:g}, grad={self.grad:g})"

    def __add__(self, other: Value | float) -> Value:
        other = as_value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other: Value | float) -> Value:
        other = as_value(other)
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 1
        return Value(self.data * other.data, (self, other), (other.data, self.data), "*")
        ### END SOLUTION

    def __pow__(self, power: float) -> Value:
        """The power is a plain number: it gets no gradient."""
        if isinstance(power, Value):
            raise TypeError("a power must be a plain number; write a ** b as (b * a.log()).exp() for a above 0")
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 1
        return Value(self.data**power, (self,), (power * self.data ** (power - 1),), f"**{power:g}")
        ### END SOLUTION

    def exp(self) -> Value:
        """e to this power."""
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 1
        out = math.exp(self.data)
        return Value(out, (self,), (out,), "exp")
        ### END SOLUTION

    def log(self) -> Value:
        """The natural logarithm."""
        return Value(math.log(self.data), (self,), (1 / self.data,), "log")

    def tanh(self) -> Value:
        """The hyperbolic tangent."""
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 1
        out = math.tanh(self.data)
        return Value(out, (self,), (1 - out**2,), "tanh")
        ### END SOLUTION

    def relu(self) -> Value:
        """max(0, x), with the derivative 0 at 0."""
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 1
        return Value(max(0.0, self.data), (self,), (float(self.data > 0),), "relu")
        ### END SOLUTION

    # What follows from the above
    def __neg__(self) -> Value:
        return self * -1.0

    def __sub__(self, other: Value | float) -> Value:
        return self + -as_value(other)

    def __truediv__(self, other: Value | float) -> Value:
        return self * as_value(other) ** -1.0

    def __rsub__(self, other: float) -> Value:
        return as_value(other) - self

    def __rtruediv__(self, other: float) -> Value:
        return as_value(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def backward(self) -> None:
        """Add to `grad` of every value that this one was made from, directly or not, its derivative.

        As in PyTorch, gradients of several calls add up.
        """
        ### BEGIN SOLUTION pytorch_autograd_and_nn, 1
        order = ordered(self)
        share = dict.fromkeys(order, 0.0)  # what this call adds to each gradient
        share[self] = 1.0
        for value in reversed(order):
            value.grad += share[value]
            for parent, slope in zip(value.parents, value.slopes, strict=True):
                share[parent] += slope * share[value]
        ### END SOLUTION


def as_value(x: Value | float) -> Value:
    """x, or a constant with this number."""
    return x if isinstance(x, Value) else Value(x, label=f"{x:g}")


def ordered(result: Value) -> list[Value]:
    """Every value that the result was made from, and the result last; parents come before what they make.

    It keeps a list of its own instead of calling itself, since a sum of some thousand terms is deeper than the stack
    of Python.
    """
    order, seen, waiting = [], set(), [(result, False)]
    ### BEGIN SOLUTION pytorch_autograd_and_nn, 1
    while waiting:
        value, parents_done = waiting.pop()
        if parents_done:
            order.append(value)
        elif value not in seen:
            seen.add(value)
            waiting.append((value, True))
            waiting.extend((parent, False) for parent in value.parents)
    ### END SOLUTION
    return order
