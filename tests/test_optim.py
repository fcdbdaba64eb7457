"""The update rules against the courses' fixed numbers and against torch.optim over many steps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common import optim
from common.checks import rel_error

RULES = [optim.sgd, optim.sgd_momentum, optim.rmsprop, optim.adam]


def ramp(first, last):
    return np.linspace(first, last, 20).reshape(4, 5)


def w_and_dw():
    return ramp(-0.4, 0.6), ramp(-0.6, 0.4)


def summary(x):
    return [x.sum(), x.flat[0], x.flat[-1]]


# Fixed numbers ------------------------------------------------------------------------------------------------


@pytest.mark.learner
def test_sgd_is_in_place():
    w, dw = w_and_dw()
    next_w, config = optim.sgd(w, dw, {"learning_rate": 0.1})
    assert next_w is w and config == {"learning_rate": 0.1}
    np.testing.assert_allclose(summary(w), [2.2, -0.34, 0.56], rtol=1e-12)


@pytest.mark.learner
def test_momentum():
    w, dw = w_and_dw()
    config = {"learning_rate": 1e-3, "velocity": ramp(0.6, 0.9)}
    next_w, _ = optim.sgd_momentum(w, dw, config=config)
    np.testing.assert_allclose(summary(next_w), [15.502, 0.1406, 1.4096], rtol=1e-8)
    assert abs(config["velocity"].sum() - 13.502) < 1e-8


@pytest.mark.learner
def test_rmsprop():
    w, dw = w_and_dw()
    config = {"learning_rate": 1e-2, "cache": ramp(0.6, 0.9)}
    next_w, _ = optim.rmsprop(w, dw, config=config)
    assert abs(next_w.sum() - 2.02762475) < 1e-8
    assert abs(config["cache"].sum() - 14.87042105) < 1e-8


@pytest.mark.learner
def test_adam():
    w, dw = w_and_dw()
    config = {"learning_rate": 1e-2, "m": ramp(0.6, 0.9), "v": ramp(0.7, 0.5), "t": 5}
    next_w, _ = optim.adam(w, dw, config=config)
    assert config["t"] == 6
    assert abs(next_w.sum() - 1.97128308) < 1e-8
    assert abs(config["m"].sum() - 13.3) < 1e-8
    assert abs(config["v"].sum() - 11.99004211) < 1e-8


@pytest.mark.learner
def test_first_step_of_adam_has_the_length_of_the_rate():
    """Both corrections cancel at t = 1; without them the step would be three times longer."""
    w, dw = w_and_dw()
    next_w, _ = optim.adam(w, dw, {"learning_rate": 0.01})
    np.testing.assert_allclose(next_w - w, -0.01 * np.sign(dw), rtol=1e-5)


# torch.optim --------------------------------------------------------------------------------------------------

TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.03, alpha=0.9, eps=1e-6),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6),
}
SETTINGS = {
    "sgd": {"learning_rate": 0.05},
    "sgd_momentum": {"learning_rate": 0.05, "momentum": 0.8},
    "rmsprop": {"learning_rate": 0.03, "decay_rate": 0.9, "epsilon": 1e-6},
    "adam": {"learning_rate": 0.02, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6},
}


@pytest.mark.learner
@pytest.mark.parametrize("name", optim.RULES)
@given(seed=st.integers(0, 2**31), shape=st.lists(st.integers(1, 4), min_size=0, max_size=3))
@settings(max_examples=15, deadline=None)
def test_sixty_steps_against_torch(name, seed, shape):
    rng = np.random.RandomState(seed)
    w, scales = np.asarray(rng.randn(*shape)), 10.0 ** rng.randint(-3, 3, size=60)
    p = torch.tensor(w, requires_grad=True)
    theirs, config = TORCH[name]([p]), dict(SETTINGS[name])
    for scale in scales:
        dw = scale * np.asarray(rng.randn(*shape))
        w, config = getattr(optim, name)(w, dw, config)
        p.grad = torch.tensor(dw)
        theirs.step()
    assert rel_error(w, p.detach().numpy()) < 1e-9


# Conduct ------------------------------------------------------------------------------------------------------


@pytest.mark.robustness
@pytest.mark.parametrize("rule", RULES)
def test_defaults_are_filled_in(rule):
    w, dw = w_and_dw()
    _, config = rule(w, dw)
    assert config["learning_rate"] == (1e-3 if rule is optim.adam else 1e-2)
    again, same = rule(w, dw, config)
    assert same is config and again.shape == w.shape


@pytest.mark.robustness
@pytest.mark.parametrize("rule", RULES[1:])
def test_nothing_of_the_caller_is_written_to(rule):
    w, dw = w_and_dw()
    memory = {name: ramp(0.5, 0.9) for name in ("velocity", "cache", "m", "v")}
    config = dict(memory)
    rule(w, dw, config)
    np.testing.assert_array_equal(w, ramp(-0.4, 0.6))
    np.testing.assert_array_equal(dw, ramp(-0.6, 0.4))
    for array in memory.values():
        np.testing.assert_array_equal(array, ramp(0.5, 0.9))


@pytest.mark.robustness
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rate", [0.01, np.float64(0.01), np.array(0.01)])
def test_float32_stays_float32(rule, rate):
    w, dw = (x.astype(np.float32) for x in w_and_dw())
    config = {"learning_rate": rate, "beta1": np.float64(0.9), "momentum": np.float64(0.9)}
    for _ in range(3):
        w, config = rule(w, dw, config)
    assert w.dtype == np.float32
    assert all(value.dtype == np.float32 for value in config.values() if isinstance(value, np.ndarray))


@pytest.mark.robustness
@pytest.mark.parametrize("rule", RULES)
def test_shapes_have_to_agree(rule):
    with pytest.raises(ValueError, match=r"w and dw differ in shape: \(4, 5\) and \(5,\)"):
        rule(np.zeros((4, 5)), np.zeros(5))


@pytest.mark.robustness
@pytest.mark.parametrize(
    ("rule", "name", "value"),
    [
        (optim.sgd, "learning_rate", -1.0),
        (optim.sgd, "learning_rate", np.nan),
        (optim.sgd_momentum, "momentum", 1.0),
        (optim.rmsprop, "decay_rate", 1.5),
        (optim.rmsprop, "epsilon", -1e-8),
        (optim.adam, "beta1", 1),
        (optim.adam, "beta2", -0.1),
        (optim.adam, "t", -1),
    ],
)
def test_settings_out_of_range(rule, name, value):
    with pytest.raises(ValueError, match=f"{name} is "):
        rule(np.zeros(3), np.ones(3), {name: value})


@pytest.mark.robustness
def test_memory_of_another_parameter():
    with pytest.raises(ValueError, match=r"velocity has shape \(4,\), but w has shape \(3,\)"):
        optim.sgd_momentum(np.zeros(3), np.ones(3), {"velocity": np.zeros(4)})


@pytest.mark.robustness
@pytest.mark.parametrize("rule", optim.RULES)
def test_a_float64_gradient_leaves_float32_weights_float32(rule):
    """Momentum, RMSProp and Adam gave float64 back, and the rest of the training ran at half the speed."""
    w, config = np.ones((2, 3), np.float32), {}
    for _ in range(3):
        w, config = getattr(optim, rule)(w, np.full((2, 3), 0.25), config)
    assert w.dtype == np.float32
    assert {value.dtype for value in config.values() if isinstance(value, np.ndarray)} <= {np.dtype(np.float32)}
    want, memory = np.ones((2, 3), np.float32), {}
    for _ in range(3):
        want, memory = getattr(optim, rule)(want, np.full((2, 3), 0.25, np.float32), memory)
    assert np.array_equal(w, want)


@pytest.mark.robustness
@pytest.mark.parametrize("rule", optim.RULES)
def test_settings_that_no_rule_knows_are_refused(rule):
    with pytest.raises(ValueError, match="config holds learning_rte; this rule knows learning_rate"):
        getattr(optim, rule)(np.ones(3), np.ones(3), {"learning_rte": 0.1})
