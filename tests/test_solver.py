"""The Solver: what it counts, keeps and survives, and that it resumes bit for bit."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from common import checkpoint, optim, storage
from common import solver as solver_module
from common.classifiers.fc_net import FullyConnectedNet
from common.solver import Solver


def toy_data(n=60, dtype=np.float64, seed=0):
    """Three classes of points in eight dimensions that a line can nearly separate."""
    rng = np.random.RandomState(seed)
    y = rng.randint(0, 3, n + 20)
    X = (rng.randn(n + 20, 8) + 2 * np.eye(8)[y]).astype(dtype)
    return {"X_train": X[:n], "y_train": y[:n], "X_val": X[n:], "y_val": y[n:]}


class Plain:
    """A model as a course would have it: params and loss, nothing else."""

    def __init__(self, D=8, C=3):
        self.params = {"W": np.zeros((D, C)), "b": np.zeros(C)}

    def loss(self, X, y=None):
        scores = X @ self.params["W"] + self.params["b"]
        if y is None:
            return scores
        rows, shifted = np.arange(len(y)), scores - scores.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        dscores = np.exp(log_p)
        dscores[rows, y] -= 1
        return -log_p[rows, y].mean(), {"W": X.T @ dscores / len(y), "b": dscores.mean(axis=0)}


def quiet(model, data, **options):
    return Solver(model, data, **({"verbose": False, "batch_size": 20, "seed": 0} | options))


def deep_net(seed=1, **options):
    options = {"normalization": "batchnorm", "keep_prob": 0.7, "dtype": np.float64, "rng": seed} | options
    return FullyConnectedNet([10, 9], 8, 3, weight_scale=0.3, **options)


# Counting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "batch_size", "num_epochs", "iterations", "accuracies"),
    [(60, 20, 4, 12, 5), (60, 25, 2, 4, 3), (60, 100, 3, 3, 3), (60, 60, 1, 1, 1)],
)
def test_iterations_and_histories(n, batch_size, num_epochs, iterations, accuracies):
    """An accuracy after the first iteration and after each epoch; with one iteration an epoch they coincide."""
    solver = quiet(Plain(), toy_data(n), batch_size=batch_size, num_epochs=num_epochs)
    solver.train()
    assert len(solver.loss_history) == iterations == solver.iteration
    assert len(solver.train_acc_history) == len(solver.val_acc_history) == accuracies
    assert solver.epoch == num_epochs


def test_it_learns():
    solver = quiet(model := Plain(), toy_data(300), num_epochs=10, optim_config={"learning_rate": 0.3})
    solver.train()
    assert solver.best_val_acc > 0.8 and solver.loss_history[-1] < solver.loss_history[0]
    assert solver.check_accuracy(solver.data["X_val"], solver.data["y_val"]) == solver.best_val_acc
    np.testing.assert_array_equal(model.params["W"], solver.best_params["W"])


@pytest.mark.parametrize("rule", optim.RULES)
def test_names_and_functions_are_the_same_rule(rule):
    models = Plain(), Plain()
    for model, update_rule in zip(models, (rule, getattr(optim, rule)), strict=True):
        quiet(model, toy_data(), update_rule=update_rule, num_epochs=2).train()
    np.testing.assert_array_equal(models[0].params["W"], models[1].params["W"])


def test_learning_rate_decays_once_an_epoch():
    rates = []

    def rule(w, dw, config):
        rates.append(config["learning_rate"])
        return optim.sgd(w, dw, config)

    options = {"update_rule": rule, "optim_config": {"learning_rate": 0.1}, "lr_decay": 0.5}
    quiet(Plain(), toy_data(60), num_epochs=3, **options).train()
    np.testing.assert_allclose(rates[::2], np.repeat([0.1, 0.05, 0.025], 3))
    assert rates[::2] == rates[1::2]  # W and b


def test_decay_of_a_default_rate_and_of_a_rule_without_one():
    solver = quiet(Plain(), toy_data(), num_epochs=2, lr_decay=0.5)
    solver.train()
    assert solver.optim_configs["W"]["learning_rate"] == 0.0025
    quiet(Plain(), toy_data(), update_rule=lambda w, dw, config: (w - dw, config), lr_decay=0.5).train()


def test_schedule():
    rates = []

    def rule(w, dw, config):
        rates.append(config["learning_rate"])
        return optim.sgd(w, dw, config)

    options = {"optim_config": {"learning_rate": 0.2}, "lr_schedule": lambda share: np.float64(1 - share)}
    quiet(Plain(), toy_data(60), update_rule=rule, num_epochs=2, **options).train()
    np.testing.assert_allclose(rates[::2], 0.2 * (1 - np.arange(6) / 6))


def test_every_parameter_has_a_memory_of_its_own():
    solver = quiet(Plain(), toy_data(), update_rule="sgd_momentum", num_epochs=1)
    solver.train()
    assert solver.optim_configs["W"]["velocity"].shape == (8, 3)
    assert solver.optim_configs["b"]["velocity"].shape == (3,)


# Sampling -----------------------------------------------------------------------------------------------------


class Recorder(Plain):
    """Notes the minibatches it is trained on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def loss(self, X, y=None):
        if y is not None:
            self.seen.append(X.copy())
        return super().loss(X, y)


def test_without_a_seed_minibatches_come_from_the_global_stream_as_in_the_course():
    data = toy_data()
    np.random.seed(5)
    Solver(model := Recorder(), data, batch_size=20, num_epochs=1, num_train_samples=None, verbose=False).train()
    np.random.seed(5)
    for batch in model.seen:
        np.testing.assert_array_equal(batch, data["X_train"][np.random.choice(60, 20)])


def test_permutation_sees_everything_once_an_epoch():
    data = toy_data(63)
    quiet(model := Recorder(), data, sampling="permutation", num_epochs=2).train()
    for epoch in (model.seen[:3], model.seen[3:]):
        rows = np.concatenate(epoch)
        assert len(np.unique(rows[:, 0])) == 60
    assert not np.array_equal(model.seen[0], model.seen[3])


def test_permutation_with_a_batch_larger_than_the_data():
    quiet(model := Recorder(), toy_data(15), sampling="permutation", num_epochs=2).train()
    assert [len(batch) for batch in model.seen] == [15, 15]


def test_seed_repeats_a_run_and_leaves_the_global_stream_alone():
    models = Plain(), Plain()
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    for model in models:
        quiet(model, toy_data(), seed=7, num_train_samples=10).train()
    np.testing.assert_array_equal(models[0].params["W"], models[1].params["W"])
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_augment_changes_training_batches_only():
    def flip(X, rng):
        flip.calls += 1
        assert isinstance(rng, np.random.RandomState)
        X *= -1  # a batch is a copy: the data stay as they are
        return X

    flip.calls = 0
    data = toy_data()
    X = data["X_train"].copy()
    solver = quiet(model := Recorder(), data, augment=flip, num_epochs=2)
    solver.train()
    assert flip.calls == 6
    np.testing.assert_array_equal(data["X_train"], X)
    assert all((-row == X).all(axis=1).any() for batch in model.seen for row in batch)


def test_check_accuracy_in_batches_and_on_samples():
    solver = quiet(Plain(), data := toy_data(64))
    solver.model.params["W"][:3] = np.eye(3)
    X, y = data["X_train"], data["y_train"]
    want = np.mean(np.argmax(X[:, :3], axis=1) == y)
    for batch_size in (1, 7, 64, 1000):
        assert solver.check_accuracy(X, y, batch_size=batch_size) == want
    assert solver.check_accuracy(X, y, num_samples=64) == want  # no sampling when all are wanted
    assert solver.check_accuracy(X, y, num_samples=10) in np.arange(11) / 10


# What it must not do ------------------------------------------------------------------------------------------


def test_nothing_of_the_caller_is_changed():
    data, optim_config = toy_data(), {"learning_rate": 0.1, "velocity": np.zeros((8, 3))}
    kept, model = {name: value.copy() for name, value in data.items()}, Plain()
    del model.params["b"]
    model.loss = lambda X, y=None: X @ model.params["W"] if y is None else (1.0, {"W": model.params["W"] + 1})
    quiet(model, data, update_rule="sgd_momentum", optim_config=optim_config, lr_decay=0.5).train()
    assert optim_config["learning_rate"] == 0.1 and not optim_config["velocity"].any()
    for name, value in data.items():
        np.testing.assert_array_equal(value, kept[name])


def test_best_parameters_are_copies():
    """SGD writes in place: a reference to the best parameters would follow every later step."""
    data = toy_data()
    solver = quiet(model := Plain(), data, num_epochs=1, optim_config={"learning_rate": 0.1})
    solver.train(return_best_params=False)
    best = {name: value.copy() for name, value in solver.best_params.items()}
    for w in model.params.values():
        w += 1
    np.testing.assert_array_equal(solver.best_params["W"], best["W"])


class Worsening(Plain):
    """Right at first, and worse with every step."""

    def __init__(self):
        super().__init__()
        self.params["W"][:3] = 10 * np.eye(3)

    def loss(self, X, y=None):
        result = super().loss(X, y)
        return result if y is None else (result[0], {name: -grad for name, grad in result[1].items()})


def test_best_parameters_are_swapped_in_or_not():
    for wanted in (True, False):
        solver = quiet(model := Worsening(), toy_data(300), num_epochs=30, optim_config={"learning_rate": 1.0})
        solver.train(return_best_params=wanted)
        assert solver.val_acc_history[-1] < solver.best_val_acc
        assert np.array_equal(model.params["W"], solver.best_params["W"]) is wanted


def test_running_averages_belong_to_the_best_parameters():
    """The courses swap the weights and keep the last averages, so the accuracy is not the one that was measured."""
    data = toy_data(100)
    for seed in range(5):
        solver = quiet(deep_net(seed), data, num_epochs=8, optim_config={"learning_rate": 1.0}, seed=seed)
        solver.train()
        assert solver.check_accuracy(data["X_val"], data["y_val"]) == solver.best_val_acc


class Hopeless(Plain):
    def loss(self, X, y=None):
        return np.eye(4)[np.full(len(X), 3)] if y is None else (1.0, {n: 0 * w for n, w in self.params.items()})


def test_a_model_that_is_never_right_keeps_its_parameters():
    solver = quiet(model := Hopeless(), toy_data())
    solver.train()
    assert solver.best_val_acc == 0.0 and model.params.keys() == {"W", "b"} == solver.best_params.keys()


# Divergence, interrupts, time ---------------------------------------------------------------------------------


def test_divergence_is_reported_once_and_survived():
    solver = quiet(Plain(), toy_data(), num_epochs=5, optim_config={"learning_rate": 1e308})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solver.train()
    assert [str(w.message)[:21] for w in caught] == ["the loss became nan a"]
    assert caught[0].filename == __file__
    assert len(solver.loss_history) == 15 and np.isnan(solver.loss_history[-1])
    assert all(np.isfinite(w).all() for w in solver.best_params.values())
    assert all(np.isfinite(w).all() for w in solver.model.params.values()) is bool(solver.best_params)


def test_a_model_of_nans_is_never_the_best():
    """Scores of NaN name class 0 for every picture, which is right now and then."""
    data = toy_data()
    data["y_val"] = np.zeros_like(data["y_val"])
    model = Plain()
    model.params["W"] -= [1, 0, 0]  # class 0 loses as long as the weights are numbers
    model.loss = lambda X, y=None: (
        X @ model.params["W"] if y is None else (np.nan, {n: w + np.nan for n, w in model.params.items()})
    )
    solver = quiet(model, data)
    with pytest.warns(UserWarning, match=r"the loss became nan at iteration 1 \(epoch 1\)"):
        solver.train()
    assert solver.val_acc_history[-1] == 1.0 and solver.best_val_acc == -1 and solver.best_params == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupt_leaves_the_best_parameters(error):
    class Interrupted(Worsening):
        calls = 0

        def loss(self, X, y=None):
            self.calls += y is not None
            if self.calls == 100:
                raise error
            return super().loss(X, y)

    solver = quiet(model := Interrupted(), toy_data(300), num_epochs=30, optim_config={"learning_rate": 1.0})
    with pytest.raises(error):
        solver.train()
    assert solver.best_val_acc > solver.val_acc_history[-1]
    np.testing.assert_array_equal(model.params["W"], solver.best_params["W"])


class Clock:
    """Stands for `time`: a second passes in every training step and in every look at an accuracy."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize("limit", [1, 2, 5, 20, 31])
def test_time_limit(monkeypatch, limit):
    clock, model = Clock(), Plain()
    monkeypatch.setattr(solver_module, "time", clock)

    def loss(X, y=None):
        clock.now += y is not None or len(X) == 20  # a step, or the validation set
        return Plain.loss(model, X, y)

    model.loss = loss
    solver = quiet(model, toy_data(200), num_epochs=4)
    solver.train(time_limit=limit)
    assert limit - 4 <= clock.now <= max(limit, 2)  # one iteration and its accuracy are always done
    assert len(solver.val_acc_history) == 1 + solver.epoch + (solver.iteration % 10 not in (0, 1))


def test_time_enough():
    solver = quiet(Plain(), toy_data(), num_epochs=2)
    solver.train(time_limit=60)
    assert solver.iteration == 6


def test_training_goes_on_when_asked_again():
    solver = quiet(Plain(), toy_data(), num_epochs=2)
    solver.train()
    solver.train()
    assert solver.epoch == 4 and len(solver.loss_history) == 12


# Checkpoints --------------------------------------------------------------------------------------------------

RUN = {"update_rule": "adam", "optim_config": {"learning_rate": 0.02}, "lr_decay": 0.9, "num_train_samples": 30}


def noisy(X, rng):
    return X + 0.1 * rng.randn(*X.shape)


def everything(solver):
    """All that a run leaves, as nested containers."""
    return {
        "model": checkpoint.snapshot(solver.model),
        "best": solver.best,
        "configs": solver.optim_configs,
        "histories": [solver.loss_history, solver.train_acc_history, solver.val_acc_history],
        "counters": [solver.epoch, solver.iteration, solver.best_val_acc],
    }


def assert_identical(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_identical(a[name], b[name])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_identical(x, y)
    else:
        assert np.array_equal(a, b) and np.asarray(a).dtype == np.asarray(b).dtype


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("rule", optim.RULES)
@pytest.mark.parametrize("options", [{}, {"sampling": "permutation", "augment": noisy, "lr_schedule": lambda s: 1 - s}])
def test_resumes_bit_for_bit(tmp_path, seed, rule, options):
    """Batch normalisation and dropout, interrupted after the third of six epochs."""
    options = RUN | options | {"seed": seed, "update_rule": rule, "num_epochs": 6}
    np.random.seed(11)
    whole = quiet(deep_net(), toy_data(), checkpoint_name=tmp_path / "run", **options)
    whole.train()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"run_epoch_{e}.pkl" for e in range(7)]

    np.random.seed(999)  # another process: nothing is as it was
    resumed = quiet(deep_net(seed=77), toy_data(), **options)
    resumed.load_checkpoint(tmp_path / "run_epoch_3.pkl")
    assert resumed.epoch == 3 and len(resumed.loss_history) == 9
    resumed.train()
    assert_identical(everything(whole), everything(resumed))


def test_resumes_bit_for_bit_in_the_middle_of_an_epoch(tmp_path):
    options = RUN | {"num_epochs": 3, "sampling": "permutation", "checkpoint_name": tmp_path / "run"}
    whole = quiet(deep_net(), toy_data(), **options)
    whole.train()
    resumed = quiet(deep_net(seed=77), toy_data(), **options | {"checkpoint_name": None})
    resumed.load_checkpoint(tmp_path / "run_epoch_0.pkl")  # written after the first iteration
    assert resumed.iteration == 1
    np.random.set_state(np.random.RandomState(0).get_state())  # load_checkpoint has set it; spoil it ...
    resumed.load_checkpoint(tmp_path / "run_epoch_0.pkl")  # ... and set it again
    resumed.train()
    assert_identical(everything(whole), everything(resumed))


def test_a_plain_model_resumes_in_another_process(tmp_path):
    np.random.seed(4)
    whole = Solver(FullyConnectedNet([5], 8, 3, rng=0), toy_data(), batch_size=20, num_epochs=4, verbose=False, **RUN)
    whole.checkpoint_name = tmp_path / "runs" / "here"
    whole.train()
    code = f"""
import numpy as np
from tests.test_solver import RUN, FullyConnectedNet, Solver, toy_data
solver = Solver(FullyConnectedNet([5], 8, 3), toy_data(), batch_size=20, num_epochs=4, verbose=False, **RUN)
solver.load_checkpoint({str(tmp_path / "runs" / "here_epoch_2.pkl")!r})
solver.train()
print(repr(solver.loss_history[-1]), solver.model.params["W1"].sum(dtype=np.float64).item().hex())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    want = whole.model.params["W1"].sum(dtype=np.float64).item().hex()
    assert done.stdout.split() == [repr(whole.loss_history[-1]), want], done.stderr


class Stateful(Plain):
    """Keeps something that is neither a parameter nor a running average."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def loss(self, X, y=None):
        self.steps += y is not None
        return super().loss(X, y)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def test_a_model_with_a_state_of_its_own(tmp_path):
    solver = quiet(Stateful(), toy_data(), num_epochs=2)
    solver.train(return_best_params=False)
    solver.save_checkpoint(tmp_path / "all.pkl")
    other = quiet(model := Stateful(), toy_data(), num_epochs=2)
    other.load_checkpoint(tmp_path / "all.pkl")
    assert model.steps == 6


def saved(tmp_path, **options):
    solver = quiet(deep_net(), toy_data(), **(RUN | {"num_epochs": 1} | options))
    solver.train()
    solver.save_checkpoint(path := tmp_path / "run.pkl")
    return path


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "text", "other pickle"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    content = {
        "cut": data[:-100],
        "empty": b"",
        "bit": data,
        "text": b"hello " * 20,
        "other pickle": pickle.dumps([1, 2]),
    }
    path.write_bytes(content[damage])
    solver = quiet(deep_net(seed=5), toy_data(), **RUN)
    before = everything(solver)
    with pytest.raises(ValueError, match=r"run\.pkl is damaged or cut short"):
        solver.load_checkpoint(path)
    assert_identical(before, everything(solver))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("you have been had",)

    payload = pickle.dumps({"kind": "solver", "settings": Evil()})
    (tmp_path / "evil.pkl").write_bytes(payload + checkpoint.hashlib.sha256(payload).digest())
    with pytest.raises(ValueError, match="only NumPy arrays are admitted"):
        quiet(deep_net(), toy_data()).load_checkpoint(tmp_path / "evil.pkl")


def test_files_of_other_kinds_and_missing_ones(tmp_path):
    deep_net().save(tmp_path / "net.pkl")
    solver = quiet(deep_net(), toy_data(), **RUN)
    with pytest.raises(ValueError, match="holds a model, not a solver"):
        solver.load_checkpoint(tmp_path / "net.pkl")
    with pytest.raises(FileNotFoundError):
        solver.load_checkpoint(tmp_path / "nothing.pkl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10}, r"batch_size 20 \(here 10\)"),
        ({"update_rule": "sgd"}, r"rule adam \(here sgd\)"),
        ({"sampling": "permutation"}, "sampling replacement"),
        ({"seed": None}, "seeded True"),
        ({"lr_decay": 1.0}, "lr_decay 0.9"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        quiet(deep_net(), toy_data(), **(RUN | options)).load_checkpoint(saved(tmp_path))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = saved(tmp_path)
    with pytest.raises(ValueError, match="do not fit this model; they differ in W"):
        quiet(FullyConnectedNet([10, 8], 8, 3, normalization="batchnorm"), toy_data(), **RUN).load_checkpoint(path)
    with pytest.raises(ValueError, match="differ in beta1, beta2, gamma1, gamma2"):
        quiet(FullyConnectedNet([10, 9], 8, 3), toy_data(), **RUN).load_checkpoint(path)


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        quiet(deep_net(), toy_data(), **RUN).save_checkpoint(path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.pkl"] and path.read_bytes() == before


def test_a_checkpoint_holds_plain_things_only(tmp_path):
    with pytest.raises(TypeError, match="not a function"):
        checkpoint.write(tmp_path / "x.pkl", {"kind": "x", "rule": lambda: 0})
    with pytest.raises(TypeError, match="not a ndarray"):
        checkpoint.write(tmp_path / "x.pkl", {"kind": "x", "a": np.array([None])})
    checkpoint.write(tmp_path / "x.pkl", {"kind": "x", "a": (np.float64(2), [np.int64(3), None], np.arange(3))})
    content = checkpoint.read(tmp_path / "x.pkl", "x")
    assert content["a"][:2] == (2.0, [3, None]) and type(content["a"][0]) is float


# Words --------------------------------------------------------------------------------------------------------


def test_verbose_says_what_happens(capsys):
    quiet(Plain(), toy_data(), num_epochs=4, verbose=True, print_every=5, print_acc_every=2).train()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "iteration 1 / 12", "epoch 0 / 4", "iteration 6 / 12", "epoch 2 / 4", "iteration 11 / 12", "epoch 4 / 4",
    ]  # fmt: skip
    assert lines[0] == f"iteration 1 / 12: loss {np.log(3):.6f}"


def test_not_verbose_says_nothing(capsys, monkeypatch):
    monkeypatch.setenv("WORKBOOK_QUIET", "1")
    quiet(Plain(), toy_data()).train()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update_rule": "adamw"}, "update_rule must be a function or one of sgd, sgd_momentum, rmsprop, adam"),
        ({"update_rule": "with_defaults"}, "update_rule must be"),
        ({"sampling": "random"}, "sampling must be one of"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"num_epochs": -1}, "num_epochs is -1"),
        ({"print_every": 0}, "print_every is 0"),
        ({"num_train_samples": 0}, "num_train_samples is 0"),
        ({"lr_decay": 0}, "lr_decay must be"),
        ({"lr_schedule": lambda share: 1}, "which is missing"),
        ({"device": "cuda"}, "device must be"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Solver(Plain(), toy_data(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"learning_rate": 1}, "learning_rate"), ({"num_epochs": 2.5}, "num_epochs must be an integer, not float")],
)
def test_options_of_the_wrong_kind(options, message):
    with pytest.raises(TypeError, match=message):
        Solver(Plain(), toy_data(), **options)


# Metric and batch function ------------------------------------------------------------------------------------


def draw_pairs(data, batch_size, rng):
    chosen = rng.choice(len(data["points"]), batch_size)
    return data["points"][chosen], data["classes"][chosen]


def score(model, data):
    """Minus the loss on the held-out points: the higher, the better, and always negative."""
    return -model.loss(data["held_out"], data["held_out_classes"])[0]


def own_data():
    data = toy_data()
    names = {"X_train": "points", "y_train": "classes", "X_val": "held_out", "y_val": "held_out_classes"}
    return {names[name]: value for name, value in data.items()}


def test_metric_and_batch_function_train_as_the_defaults_do():
    """The same minibatches from the same seed: the same weights, with data that the Solver does not know."""
    usual = quiet(Plain(), toy_data(), num_train_samples=None)
    own = quiet(Plain(), own_data(), metric=score, batch=draw_pairs, num_train=60)
    usual.train(return_best_params=False)
    own.train(return_best_params=False)
    assert own.loss_history == usual.loss_history and own.num_iterations == usual.num_iterations
    np.testing.assert_array_equal(own.model.params["W"], usual.model.params["W"])
    assert own.train_acc_history == [] and len(own.val_acc_history) == len(usual.val_acc_history)


def test_the_best_parameters_are_those_of_the_metric():
    solver = quiet(Plain(), own_data(), metric=score, batch=draw_pairs, num_train=60, num_epochs=20)
    assert solver.best_val_acc == -np.inf
    solver.train()
    assert solver.best_val_acc == max(solver.val_acc_history) < 0
    assert score(solver.model, solver.data) == solver.best_val_acc


def test_a_run_with_a_metric_resumes_bit_for_bit(tmp_path):
    options = {"metric": score, "batch": draw_pairs, "num_train": 60, "update_rule": "adam"}
    whole = quiet(Plain(), own_data(), num_epochs=6, **options)
    whole.train()
    first = quiet(Plain(), own_data(), num_epochs=6, checkpoint_name=tmp_path / "run", **options)
    first.train()
    second = quiet(Plain(), own_data(), num_epochs=6, **options)
    second.load_checkpoint(tmp_path / "run_epoch_3.pkl")
    second.train()
    assert second.val_acc_history == whole.val_acc_history
    with pytest.raises(ValueError, match=r"metric score \(here None\)"):
        quiet(Plain(), toy_data(), update_rule="adam").load_checkpoint(tmp_path / "run_epoch_3.pkl")


def test_a_metric_with_the_usual_batches_needs_no_validation_pictures():
    data = toy_data()
    solver = quiet(Plain(), {name: data[name] for name in ("X_train", "y_train")}, metric=lambda model, data: 1.0)
    solver.train()
    assert set(solver.val_acc_history) == {1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": draw_pairs}, "num_train, the number of examples in an epoch, is needed"),
        ({"batch": draw_pairs, "num_train": 0}, "num_train is 0"),
        ({"batch": draw_pairs, "num_train": 60, "augment": lambda X, rng: X}, "augment there"),
    ],
)
def test_bad_batch_functions(options, message):
    with pytest.raises(ValueError, match=message):
        quiet(Plain(), toy_data(), **options)


def test_bad_data():
    data = toy_data()
    with pytest.raises(ValueError, match="data lacks y_val"):
        Solver(Plain(), {name: value for name, value in data.items() if name != "y_val"})
    with pytest.raises(ValueError, match="X_train has 0 pictures and y_train 0 labels"):
        Solver(Plain(), data | {"X_train": data["X_train"][:0], "y_train": data["y_train"][:0]})
    with pytest.raises(ValueError, match="X_val has 20 pictures and y_val 19 labels"):
        Solver(Plain(), data | {"y_val": data["y_val"][1:]})
    with pytest.raises(ValueError, match="time_limit must be"):
        quiet(Plain(), data).train(time_limit=0)


# Where training goes on -------------------------------------------------------------------------------------------


class Stopped(Plain):
    """Raises an error in its nth training step."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def loss(self, X, y=None):
        self.left -= y is not None
        if self.left == 0:
            raise KeyboardInterrupt
        return super().loss(X, y)


def unlucky(data):
    """The validation labels of another problem: the best accuracy comes early, by accident."""
    return data | {"y_val": np.random.RandomState(5).permutation(data["y_val"])}


GOES_ON = {
    "update_rule": "adam",
    "optim_config": {"learning_rate": 0.05},
    "num_train_samples": None,
    "sampling": "permutation",
    "num_epochs": 12,
}


def test_after_an_interrupt_training_goes_on_from_the_last_parameters():
    """It went on from the best ones, with the optimiser's memory of the last."""
    data = unlucky(toy_data(100))
    whole, solver = quiet(Plain(), data, **GOES_ON), quiet(Stopped(48), data, **GOES_ON)
    whole.train(return_best_params=False)
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    assert not np.array_equal(solver.model.params["W"], solver.last["params"]["W"])  # it has the best, not the last
    solver.train(return_best_params=False)
    assert_identical(everything(whole), everything(solver))
    assert solver.loss_history == whole.loss_history


def test_after_a_time_limit_training_goes_on_from_the_last_parameters(tmp_path):
    """Also by way of a file that is written while the model has the best parameters."""
    data = unlucky(toy_data(100))
    whole, solver, third = (quiet(Plain(), data, **GOES_ON) for _ in range(3))
    whole.train(return_best_params=False)
    while solver.iteration < 30:
        solver.train(time_limit=1e-9)  # one iteration each
    solver.save_checkpoint(tmp_path / "run.pkl")
    assert solver.loss_history == whole.loss_history[:30]
    third.load_checkpoint(tmp_path / "run.pkl")
    for continued in (solver, third):
        continued.train(return_best_params=False)
        assert continued.loss_history == whole.loss_history
        assert_identical(checkpoint.snapshot(whole.model), checkpoint.snapshot(continued.model))


def test_parameters_that_were_changed_in_between_are_trained_on():
    solver = quiet(Plain(), unlucky(toy_data(100)), **GOES_ON)
    solver.train(time_limit=1e-9)
    solver.model.params = {"W": np.full((8, 3), 7.0), "b": np.zeros(3)}
    solver.step()
    assert np.abs(solver.model.params["W"] - 7).max() < 0.1
    solver.model.params["W"] = np.full((8, 3), 5.0)
    solver.train(time_limit=1e-9, return_best_params=False)
    assert np.abs(solver.model.params["W"] - 5).max() < 0.1


def test_a_finished_run_that_is_loaded_is_finished(tmp_path):
    path = saved(tmp_path, num_epochs=3)
    solver = quiet(deep_net(seed=8), toy_data(), **RUN | {"num_epochs": 3})
    solver.load_checkpoint(path)
    before = everything(solver)
    solver.train(return_best_params=False)
    solver.train(return_best_params=False)
    assert_identical(before, everything(solver))
    assert solver.epoch == 3
    more = quiet(deep_net(seed=8), toy_data(), **RUN | {"num_epochs": 5})
    more.load_checkpoint(path)
    more.train()
    assert more.epoch == 5 and more.loss_history[:9] == solver.loss_history
    more.train()  # its own work is done: as many again
    assert more.epoch == 10


# What went wrong without a word -----------------------------------------------------------------------------------


def test_labels_in_a_column_are_refused():
    """(N,) == (N, 1) compares all with all: the accuracy of a perfect model was a third."""
    data = toy_data()
    for part in ("train", "val"):
        with pytest.raises(ValueError, match=rf"y_{part} must have the shape \(N,\), got \(\d+, 1\)"):
            quiet(Plain(), data | {f"y_{part}": data[f"y_{part}"][:, None]})
    solver = quiet(Plain(), data)
    with pytest.raises(ValueError, match=r"y must have the shape \(20,\) for 20 pictures, got \(20, 1\)"):
        solver.check_accuracy(data["X_val"], data["y_val"][:, None])


def shifted(data):
    return data | {"X_train": data["X_train"] + 1e-9}


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"optim_config": {"learning_rate": 0.01}}, None, r"optim_config \{'learning_rate': 0.02\} \(here"),
        ({"optim_config": {"learning_rate": 0.02, "beta1": 0.5}}, None, "optim_config"),
        ({"seed": 1}, None, r"seed 0 \(here 1\)"),
        ({"num_train_samples": 20}, None, "num_train_samples 30"),
        ({"num_val_samples": 10}, None, "num_val_samples None"),
        ({"augment": noisy}, None, r"augment None \(here noisy\)"),
        ({"lr_schedule": lambda s: 1 - s}, None, "lr_schedule None"),
        ({}, shifted, r"data [0-9a-f]{8} \(here [0-9a-f]{8}\)"),
        ({}, unlucky, r"data [0-9a-f]{8}"),
    ],
)
def test_a_checkpoint_of_other_settings_or_data_is_refused(tmp_path, options, change, message):
    data = toy_data() if change is None else change(toy_data())
    solver = quiet(deep_net(seed=5), data, **(RUN | options))
    path, before = saved(tmp_path), everything(solver)
    with pytest.raises(ValueError, match=message):
        solver.load_checkpoint(path)
    assert_identical(before, everything(solver))


def test_a_checkpoint_from_before_these_settings_is_read(tmp_path):
    content = checkpoint.read(saved(tmp_path), "solver")
    for name in ("seed", "data", "optim_config", "num_train_samples", "num_val_samples", "augment", "lr_schedule"):
        del content["settings"][name]
    checkpoint.write(tmp_path / "old.pkl", content)
    solver = quiet(deep_net(seed=5), toy_data(), **RUN)
    solver.load_checkpoint(tmp_path / "old.pkl")
    assert solver.epoch == 1


def without(content, *path):
    for name in path[:-1]:
        content = content[name]
    del content[path[-1]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: without(c, "random"),
        lambda c: without(c, "histories"),
        lambda c: without(c, "settings"),
        lambda c: without(c, "optim_configs", "W1"),
        lambda c: c["random"].update({"global": ("MT19937", [1, 2, 3], 5)}),
        lambda c: c.update(best=None),
        lambda c: c["best"]["params"].update(W1=np.zeros((2, 2))),
        lambda c: c["model"]["state"].pop(),
    ],
)
def test_a_load_that_fails_changes_nothing(tmp_path, spoil):
    """The model had the file's parameters and the Solver its old counters."""
    content = checkpoint.read(saved(tmp_path), "solver")
    spoil(content)
    checkpoint.write(tmp_path / "spoilt.pkl", content)
    solver = quiet(deep_net(seed=5), toy_data(), **RUN | {"num_epochs": 7})
    solver.train()
    assert not np.array_equal(solver.last["params"]["W1"], solver.model.params["W1"])
    before, random, own = everything(solver), np.random.get_state(), solver.rng.get_state()
    with pytest.raises(ValueError):
        solver.load_checkpoint(tmp_path / "spoilt.pkl")
    assert_identical(before, everything(solver))
    assert_identical([random[1:], own[1:]], [np.random.get_state()[1:], solver.rng.get_state()[1:]])


class Courses(Plain):
    """As in the source course: bn_params may be a dict, and fills while the model trains."""

    def __init__(self):
        super().__init__()
        self.bn_params = {"mode": "train"}

    def loss(self, X, y=None):
        self.bn_params["running_mean"] = X.mean(axis=0)
        return super().loss(X, y)


def test_bn_params_may_be_a_dict(tmp_path):
    """It was a TypeError at the end of the training."""
    solver = quiet(model := Courses(), toy_data(), num_epochs=2)
    solver.train()
    np.testing.assert_array_equal(model.bn_params["running_mean"], solver.best["state"]["running_mean"])
    solver.save_checkpoint(tmp_path / "run.pkl")
    other = quiet(fresh := Courses(), toy_data(), num_epochs=2)
    other.load_checkpoint(tmp_path / "run.pkl")
    assert fresh.bn_params.keys() == {"mode", "running_mean"}
