"""The scalar engine: every operation and random expressions against PyTorch, order, and sums over several uses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.pytorch import figures
from common.pytorch.scalar import Value, ordered

UNARY = {
    "exp": lambda a: a.exp(),
    "log": lambda a: (a * a + 1.0).log(),
    "tanh": lambda a: a.tanh(),
    "relu": lambda a: a.relu(),
    "power": lambda a: (a * a + 0.5) ** 1.5,
    "negative": lambda a: -a,
    "constants": lambda a: 2.0 - 3.0 * a + a / 4.0 - 1.0 + 1.0 / (a * a + 1.0),
}
BINARY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / (b * b + 1.0),
}
numbers = st.floats(-2, 2).filter(lambda x: abs(x) > 1e-3)


def both(build, inputs):
    """Number and gradients of an expression: ours and PyTorch's."""
    ours, theirs = (
        [Value(x) for x in inputs],
        [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs],
    )
    out, wanted = build(ours), build(theirs)
    out.backward()
    wanted.backward()
    gradients = [0.0 if t.grad is None else t.grad.item() for t in theirs]
    return [out.data, *(v.grad for v in ours)], [wanted.item(), *gradients]


@pytest.mark.parametrize("name", UNARY)
@given(x=numbers)
def test_operations_of_one_number(name, x):
    np.testing.assert_allclose(*both(lambda v: UNARY[name](v[0]), [x]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", BINARY)
@given(x=numbers, y=numbers)
def test_operations_of_two_numbers(name, x, y):
    np.testing.assert_allclose(*both(lambda v: BINARY[name](*v), [x, y]), rtol=1e-12, atol=1e-14)


@settings(max_examples=100)
@given(data=st.data())
def test_random_expressions_in_which_values_are_used_again(data):
    """Each step takes any values that are there, so most have several children."""
    inputs = data.draw(st.lists(numbers, min_size=2, max_size=4))
    steps = []
    for count in range(len(inputs), len(inputs) + data.draw(st.integers(1, 12))):
        first, second = data.draw(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)))
        steps.append((data.draw(st.sampled_from(["tanh", "relu", *BINARY])), first, second))

    def build(values):
        values = list(values)
        for name, i, j in steps:
            new = UNARY[name](values[i]) if name in UNARY else BINARY[name](values[i], values[j])
            values.append(new.tanh())  # so that numbers stay small
        return sum(values[1:], values[0] * 1.0)

    np.testing.assert_allclose(*both(build, inputs), rtol=1e-9, atol=1e-12)


def test_order():
    a = Value(2)
    b = a * 3
    c = a * b
    d = b + c
    order = ordered(d)
    assert len(order) == len(set(order)) == 5
    assert order[-1] is d
    assert all(order.index(parent) < order.index(value) for value in order for parent in value.parents)
    d.backward()
    assert [v.grad for v in (a, b, c, d)] == [15, 3, 1, 1]
    c.backward()
    assert [v.grad for v in (a, b, c, d)] == [15 + 12, 3 + 2, 2, 1], "gradients of several calls add up"


def test_long_sums_need_no_deep_stack():
    a = Value(1.0)
    total = a
    for _ in range(20_000):
        total = total + a
    total.backward()
    assert a.grad == total.data == 20_001


def test_relu_at_zero_has_slope_zero_as_in_pytorch():
    np.testing.assert_array_equal(*both(lambda v: v[0].relu(), [0.0]))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="one slope, got 2 parents and 1 slopes"):
        Value(1, (Value(2), Value(3)), (1.0,))
    with pytest.raises(TypeError, match="a power must be a plain number"):
        Value(2) ** Value(3)
    with pytest.raises(ValueError, match=r"math domain|expected a positive"):
        Value(-1).log()
    assert repr(Value(math.e)) == "Value(2.71828, grad=0)"


def test_graph_shows_every_value_and_slope():
    a = Value(2)
    d = a * 3 + a
    d.backward()
    fig = figures.graph(d, {a: "a", d: "d"})
    words = [text.get_text() for text in fig.axes[0].texts]
    assert any(w.startswith("a\ndata 2\ngrad 4") for w in words)
    assert any(w.startswith("d = +\ndata 8\ngrad 1") for w in words)
    assert sum("times" in w for w in words) == 4
