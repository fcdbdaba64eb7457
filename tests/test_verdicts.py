"""What a failed check says: the numbers, the worst entry, and a reason only where it is true by computation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.checks import CheckFailed, check
from common.verdicts.hints import hint

rng = np.random.RandomState(0)
V, W, PICTURE = rng.randn(6, 4), rng.randn(8, 8), rng.rand(3, 5, 5)
CENTRED = V - V.mean(axis=0)
PROBABILITIES = np.exp(V) / np.exp(V).sum(axis=1, keepdims=True)
COUNTS = rng.randint(200, 900, (5, 5))


def failure(*arguments, **options):
    with pytest.raises(CheckFailed) as raised:
        check(*arguments, **options)
    return str(raised.value)


def at(x, index, value):
    x = np.array(x, dtype=np.float64)
    x[index] = value
    return x


def edges(x):
    x = x.copy()
    x[..., 0, :] += 1
    x[..., -1] += 1
    return x


# The text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("the shifted loss never overflows", False), {}, "the shifted loss never overflows: this is not so"),
        (("a", 4.60517, 2.302585), {"rel": 1e-4}, "got 4.605, expected 2.303, rel. error 0.333 | got is 2 x expected"),
        (("a", 1.00000001, 1.00000002), {}, "got 1.00000001, expected 1.00000002"),
        (("a", True, False), {}, "got True, expected False"),
        (("a", (5,), (5, 10)), {}, "got (5,), expected (5, 10)"),
        (("a", "cat", "dog"), {}, "got 'cat', expected 'dog'"),
        (
            ("a", ["cat", "emu"], ["cat", "dog"]),
            {},
            "1 of 2 entries differ, the first at [1]: got 'emu', expected 'dog'",
        ),
        (("a", [1, 2, 3.25], [1, 2, 3]), {}, "1 of 3 entries differs | [   1    2 3.25] | [   1    2    3]"),
        (("a", [[1, 2]], [[1], [2]]), {}, "got shape (1, 2), expected (2, 1) | [[1 2]] | [[1] [2]]"),
        (("a", at(W, (3, 7), 9.0), W), {"atol": 0.1}, "largest difference at [3, 7]: got 9, expected "),
        (("a", at(W, (3, 7), 9.0), W), {"rel": 0.1}, "largest rel. error at [3, 7]: got 9, | 1 of 64 entries differs"),
        (
            ("a", [*-np.arange(9.0), 40], [*np.arange(9.0), -40]),
            {"rel": 0.1},
            "rel. error at [9]: got 40, expected -40",
        ),  # all are 1
        (("a", np.arange(20), at(np.arange(20), 7, 0)), {}, "first difference at [7]: got 7, expected 0"),
        (("a", np.zeros(9, int), np.full(9, 0.5)), {}, "shape (9,) | got has dtype int64, expected float64"),
        (("a", np.arange(10) / 10), {"above": 0.05, "below": 0.87}, "measured 0 at [0], 2 of 10 entries outside"),
        (("a", np.arange(10) / 10), {"below": 0.75}, "measured 0.9 at [9], 2 of 10 entries outside"),
        (("a", 0.24999999), {"above": 0.25}, "measured 0.24999999"),
        (("a", torch.zeros(2, dtype=torch.bfloat16), [0, 1]), {}, "1 of 2 entries differs"),
    ],
)
def test_texts(arguments, options, text):
    said = failure(*arguments, **options)
    assert said.startswith(arguments[0])
    assert len(said.splitlines()) <= 8
    assert max(map(len, said.splitlines())) < 120
    for part in text.split(" | "):
        assert part in said


def test_a_message_in_full():
    want = np.arange(1.0, 31).reshape(5, 6)
    assert failure("dW matches autograd", 2 * want, want, rel=1e-6).splitlines() == [
        "dW matches autograd  (rel. error < 1e-06): rel. error 0.333",
        "        largest rel. error at [4, 5]: got 60, expected 30",
        "        30 of 30 entries differ, shape (5, 6)",
        "        hint: got is 2 x expected",
    ]


# Hints: (words, got, want, a got that is nearly so) ----------------------------------------------------------

X = V * 3 + rng.randn(4)
Z = X - X.mean(axis=0)
HINTS = [
    ("got is 2 x expected", 2 * V, V, 2 * V + 1e-3),
    ("got is 1/2 x expected", V / 2, V, at(V / 2, (2, 2), 0.5)),
    ("the sign is turned", -V, V, at(-V, (0, 0), V[0, 0])),
    ("6 x expected, and 6 is the length of axis 0", 6 * V, V, 6.001 * V + 1e-3 * V**2),
    ("1/6 x expected, and 6 is the length of axis 0", V / 6, V, V / 6 + 1e-3),
    ("24 x expected, and 24 is the number of entries", 24 * V, V, 24 * V + 0.1),
    ("got is sqrt(5/6) x expected", V * np.sqrt(5 / 6), V, V * np.sqrt(5 / 6) + 1e-3),
    ("got is 0.9 x expected", 0.9 * V, V, 0.9 * V + 1e-4),
    ("got is expected shifted by 0.25", V + 0.25, V, at(V + 0.25, (1, 1), 0)),
    ("its mean is not subtracted", V, V - V.mean(), at(V, (1, 1), 0)),
    ("got - got.mean(axis=0) is expected", V, CENTRED, V + 0.01 * V**2),
    ("got / got.std(axis=0) is expected", Z, Z / Z.std(axis=0), Z + 1e-3 * X**2),
    ("before it is normalised along axis 0", X, Z / Z.std(axis=0), X + 1e-3 * X**2),
    ("got is the transpose", W.T, W, at(W.T, (0, 1), 0)),
    ("got is the transpose", V.T, V, at(V.T, (0, 1), 0)),
    ("expected.transpose(0, 2, 1)", PICTURE.transpose(0, 2, 1), PICTURE, PICTURE.transpose(0, 2, 1) ** 1.01),
    ("expected.transpose(1, 2, 0)", PICTURE.transpose(1, 2, 0), PICTURE, PICTURE.transpose(1, 2, 0) ** 1.01),
    ("with the entries reversed", V[0, ::-1], V[0], V[1, ::-1]),
    ("with the rows reversed", V[::-1], V, at(V[::-1], (0, 0), 0)),
    ("with the columns rolled by 1", np.roll(V, 1, axis=1), V, np.roll(V, 1, axis=1) ** 2),
    ("with the last two axes reversed", PICTURE[:, ::-1, ::-1], PICTURE, PICTURE[:, ::-1, ::-1] ** 1.01),
    ("holds the rows of expected in another order", V[[2, 1, 5, 0, 4, 3]], V, at(V[[2, 1, 5, 0, 4, 3]], (0, 0), 0)),
    ("the columns of expected in another order", V[:, [2, 1, 3, 0]], V, at(V[:, [2, 1, 3, 0]], (0, 0), 0)),
    ("the numbers of expected in another order", V[0, [1, 0, 3, 2]], V[0], V[1, [1, 0, 3, 2]]),
    ("the signs are lost", np.abs(V), V, np.abs(V) ** 1.01),
    ("got is expected with its negative entries set to 0", np.maximum(V, 0), V, np.maximum(V, 0) + 0.1 * (V > 0.5)),
    ("expected is got with its negative entries set to 0", V, np.maximum(V, 0), V + 0.1 * (V > 0.5)),
    ("got is the square of", V**2, V, V**2 * 1.01),
    ("got is the square root of", np.abs(V), V**2, np.abs(V) * 1.01),
    ("got is exp(expected)", np.exp(V), V, np.exp(V) * 1.01),
    ("got is log(expected)", V, np.exp(V), V * 1.01),
    ("got is -log(expected)", -V, np.exp(V), -V * 1.01),
    ("got is 1 - expected", 1 - V, V, 1.01 - V * 1.01),
    ("got is the softmax of expected", PROBABILITIES, V, PROBABILITIES * 1.01),
    ("expected is the softmax of got", V, PROBABILITIES, V * 1.01),
    ("expected is the log of the softmax of got", V, np.log(PROBABILITIES), V * 1.01),
    ("rounded to whole numbers (its dtype is int64)", np.round(9 * V).astype(int), 9 * V, np.round(9 * V) + 1),
    ("cut to whole numbers", np.trunc(9 * V), 9 * V, np.trunc(9 * V) + np.sign(V)),
    ("modulo 256", COUNTS.astype(np.uint8), COUNTS, COUNTS.astype(np.uint8) // 2),
    ("except in row 0", at(V, 0, 1.0), V, at(at(V, 0, 1.0), (3, 3), 1.0)),
    ("except in column 3, the last one", at(V, (slice(None), 3), 1.0), V, at(at(V, (slice(None), 3), 1.0), 0, 2.0)),
    ("except in index 1 of axis 0", at(PICTURE, 1, 2.0), PICTURE, at(PICTURE, (slice(0, 2), 2, 2), 2.0)),
    ("except on the diagonal", W + np.eye(8), W, W + np.eye(8) + np.eye(8, k=1)),
    ("except at the border", edges(PICTURE), PICTURE, at(edges(PICTURE), (0, 2, 2), 5.0)),
    ("got is all zeros", 0 * V, V, at(0 * V, (0, 0), 1e-3)),
    ("every entry of got is 0.1", np.full((6, 4), 0.1), V, at(np.full((6, 4), 0.1), (0, 0), 0.2)),
    ("True where expected is False", ~(V > 0), V > 0, np.abs(V) < 0.5),
    ("got holds NaN at [2, 1] (1 of 24)", at(V, (2, 1), np.nan), V, at(V, (2, 1), 1e9)),
    ("got holds -inf at [2, 1] (1 of 24)", at(V, (2, 1), -np.inf), V, at(V, (2, 1), 1e300)),
    ("its dtype is float32", V.astype(np.float32), V, V.astype(np.float32) + np.float32(0.01) * rng.rand(6, 4)),
    ("went through float32", V.astype(np.float32).astype(float), V, V * (1 + 1e-7 * rng.rand(6, 4))),
    ("(24,) and (24, 1): keepdims?", V.ravel(), V.reshape(24, 1), -V.ravel()),
    ("got.reshape(...) is expected", V.reshape(4, 6), V, V.reshape(4, 6) ** 2),
    ("got.mean() is expected", V, V.mean(), V * 1.01),
    ("got.sum(axis=1) is expected", V, V.sum(axis=1), V + 0.01 * V**2),
    ("expected.sum(axis=0) is got", V.sum(axis=0), V, V.sum(axis=0) * 1.01),
    ("got[1] is expected", np.stack([V**2, V]), V, np.stack([V**2, V * 1.01])),
    ("got[0] is expected: got is a tuple of 2", (V, (V, "cache")), V, (V * 1.01, (V, "cache"))),
    ("the diagonal of got", V[:, :1] - at(V[:, 1], 0, 3), V[:, 0] - at(V[:, 1], 0, 3), V[:, :1] * V[:, 1]),
    (
        "got[..., 1:-1, 1:-1] is the other: padding?",
        np.pad(PICTURE, ((0, 0), (1, 1), (1, 1))),
        PICTURE,
        rng.rand(3, 7, 7),
    ),
    ("got is None", None, V, 3.0),
    # Numbers
    ("got is 2 x expected", 4.60517, 2.302585, 4.6053),
    ("the sign is turned", -2.302585, 2.302585, -2.3026),
    ("got is 500 x expected", 1151.2925, 2.302585, 1151.29),
    ("got is 1/3 x expected", 0.767528, 2.302584, 0.7676),
    ("got is the square of expected", 5.3018976, 2.302585, 5.302),
    ("a probability instead of its -log", 0.1000000093, 2.302585, 0.10001),
    ("got is -log(expected)", 2.30258509, 0.1, 2.3027),
    ("got is 1 - expected", 0.7654, 0.2346, 0.7655),
    ("rounded to a whole number", 2, 2.302585, 1),
    ("cut to a whole number", 2, 2.802585, 1),
    ("got is NaN", np.nan, 2.3, 1e9),
]


@pytest.mark.parametrize(("words", "got", "want", "near"), HINTS, ids=[f"{i}: {row[0]}" for i, row in enumerate(HINTS)])
def test_a_hint_is_said_where_it_is_true_and_only_there(words, got, want, near):
    assert words in hint(got, want, {})
    assert words not in hint(near, want, {})


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (2 * np.ones(5), np.ones(5)),  # twice, one more, exp(log 2), ...
        (np.ones(5), np.zeros(5)),
        ([0, 0, 6], [0, 0, 3]),
        ([1, 0], [0, 1]),
        (np.zeros((3, 2)), np.zeros((2, 3))),
        (6, 3),
        (0.5, 0.25),  # twice, the square root, ...
        (0.4, 0.2),
        (0.0, 2.3),
        (W + W.T + 1e-9, W + W.T),  # its transpose as well
        (np.ones((2, 0)), np.ones(0)),
        ("cat", "dog"),
    ],
)
def test_no_hint_where_many_would_fit(got, want):
    assert hint(got, want, {}) == ""


shapes = st.sampled_from([(), (3,), (8,), (2, 3), (4, 4), (6, 5), (3, 4, 4), (2, 3, 4, 4)])


@given(st.integers(0, 2**31), shapes, shapes, st.sampled_from([np.float64, np.float32]))
@settings(max_examples=300, deadline=None)
def test_random_arrays_get_no_hint(seed, shape, other, dtype):
    random = np.random.RandomState(seed)
    assert hint(random.randn(*shape), np.asarray(random.randn(*other)).astype(dtype), {}) == ""


@given(
    st.integers(0, 2**31), st.sampled_from([(3,), (2, 3), (6, 5)]), st.floats(-9, 9).filter(lambda c: abs(c - 1) > 0.1)
)
@settings(max_examples=100, deadline=None)
def test_a_factor_is_always_found(seed, shape, factor):
    want = np.random.RandomState(seed).randn(*shape)
    if abs(factor) > 1e-3:
        said = hint(factor * want, want, {})
        assert "x expected" in said
        assert said.count("got") == 1


def test_float32_rounds_more():
    want = V.astype(np.float32)
    assert hint(want * np.float32(2.0000005), want, {}) == "got is 2 x expected"
    assert hint(want * np.float32(2.001), want, {}) == "got is 2.001 x expected"


# Hints of the caller -----------------------------------------------------------------------------------------


def test_hints_of_the_caller():
    said = failure("dW", W - V.sum(), W, rel=1e-6, hints={"a": W - 1, "without regularisation": lambda: W - V.sum()})
    assert said.splitlines()[-1].strip() == "hint: got is what comes out without regularisation"
    said = failure("loss", 2.31, 5.0, atol=0.05, hints={"without regularisation": np.log(10), "b": 2.27})
    assert "hint: got is what comes out without regularisation" in said  # the closer of two


@pytest.mark.parametrize("mistake", [W - 1, W + 1e-9, V, "text", lambda: np.full((8, 8), np.nan)])
def test_hints_of_the_caller_that_do_not_fit(mistake):
    """Something else, what is expected itself, another shape, no numbers."""
    assert "comes out" not in failure("dW", W - 0.1 * W**2, W, rel=1e-6, hints={"so": mistake})


def test_a_hint_that_cannot_be_computed_hides_nothing():
    said = failure("dW", W**1 - 0.1 * W**2, W, rel=1e-6, hints={"so": lambda: 1 / 0})
    assert "64 of 64 entries differ" in said
    assert "(the hint 'so' could not be computed: ZeroDivisionError: division by zero)" in said
    assert "hint: got is 2 x expected" in failure("dW", 2 * W, W, rel=1e-6, hints={"so": lambda: 1 / 0})
