"""Training runs: the loop of `fit`, clipping, checkpoints that survive a kill, and several processes."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F

from common.pytorch import checkpoints, recipes, runs
from common.pytorch.runs import train
from common.pytorch.training import fit
from tests.random_pictures import labels, pictures

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.robustness


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps one state for the process; a test may ask for another precision."""
    yield
    AcceleratorState._reset_state(True)


def cpu(**options):
    return Accelerator(cpu=True, **options)


def problem(dropout=0.0, seed=0):
    """A small net, 24 examples, and batches of eight in an order that depends on the epoch only."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))
    x, y = torch.randn(24, 4), torch.randint(0, 3, (24,))

    def batches(epoch):
        order = torch.randperm(24, generator=torch.Generator().manual_seed(epoch))
        return [(x[rows], y[rows]) for rows in order.split(8)]

    return net, batches, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def run(net, batches, *optimisers, **options):
    options = {"epochs": 3, "steps_per_epoch": 3, "accelerator": cpu()} | options
    return train(net, batches, F.cross_entropy, optimisers, **options)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def falling(fraction):
    return 1 - fraction


def steps(history):
    """What a history says of steps and accuracies, without times."""
    return {name: values for name, values in history.items() if "seconds" not in name}


class TestLoop:
    def test_is_that_of_fit(self):
        (net, batches, sgd), (other, _, other_sgd) = problem(), problem()
        calls, epochs = [], []
        options = {"schedule": falling, "evaluate": lambda net: net[0].bias.sum().item()}
        history = run(net, batches, sgd, **options, on_step=lambda *s: calls.append(s), on_epoch=epochs.append)
        want = fit(other, batches, F.cross_entropy, [other_sgd], epochs=3, steps_per_epoch=3, bf16=False, **options)
        torch.testing.assert_close(weights(net), weights(other))
        for name, values in steps(want).items():
            np.testing.assert_allclose(history[name], values, rtol=1e-6)
        assert calls == [(step, 9) for step in range(1, 10)]
        assert epochs == [0, 1, 2]
        for name in ("seconds", "cpu_seconds"):
            assert np.all(np.diff([0, *history[name]]) > 0)

    def test_clipping_shortens_the_gradient_of_all_parameters_together(self):
        net, batches, _ = problem()
        before, (x, y) = weights(net), batches(0)[0]
        F.cross_entropy(net(x), y).backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
        halves = [torch.optim.SGD(part.parameters(), lr=1.0) for part in (net[0], net[3])]
        limit = 0.3 * gradient.norm().item()
        run(net, lambda _: [(x, y)], *halves, epochs=1, steps_per_epoch=1, clip=limit)
        torch.testing.assert_close(before - weights(net), 0.3 * gradient, rtol=1e-4, atol=1e-6)

    def test_random_numbers_depend_on_seed_and_epoch_only(self):
        torch.manual_seed(3)
        want = torch.rand(3)
        results = []
        for seed in (0, 0, 1):
            net, batches, sgd = problem(dropout=0.5)
            torch.manual_seed(3)
            run(net, batches, sgd, seed=seed)
            assert torch.equal(torch.rand(3), want), "the global stream is as it was"
            results.append(weights(net))
        assert torch.equal(results[0], results[1])
        assert not torch.equal(results[0], results[2])

    def test_time_limit_stops_between_epochs(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(runs.time, "perf_counter", lambda: now[0])

        def spend(step, steps):
            now[0] += 1

        for limit, epochs in ((0.1, 1), (6.1, 2), (8.9, 2), (9.0, 3)):
            net, batches, sgd = problem()
            history = run(net, batches, sgd, time_limit=limit, on_step=spend)
            assert len(history["train_acc"]) == epochs
            assert len(history["loss"]) == 3 * epochs

    def test_bf16_casts_inside_the_network_and_leaves_it_as_it_was(self):
        net, batches, sgd = problem()
        kinds = []
        net[0].register_forward_hook(lambda module, args, out: kinds.append(out.dtype))
        history = run(net, batches, sgd, accelerator=cpu(mixed_precision="bf16"), epochs=1)
        assert set(kinds) == {torch.bfloat16}
        assert np.isfinite(history["loss"]).all()
        net(batches(0)[0][0])
        assert kinds[-1] == torch.float32
        assert all(p.dtype == torch.float32 for p in net.parameters())

    def test_fp16_scales_the_gradient_and_not_the_loss(self):
        """The scaling of fp16 on the CPU, where accelerate has no fp16: the same weights as without."""

        class Scaling:
            scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)

        (net, batches, sgd), (other, _, other_sgd) = problem(), problem()
        cpu()  # an accelerated optimiser needs its state
        loss_fn = runs.scaled(F.cross_entropy, Scaling)
        loss = loss_fn(net(batches(0)[0][0]), batches(0)[0][1])
        loss.backward()
        F.cross_entropy(other(batches(0)[0][0]), batches(0)[0][1]).backward()
        torch.testing.assert_close(net[0].weight.grad, 2.0**12 * other[0].weight.grad)
        steppers = [runs.Stepper(AcceleratedOptimizer(sgd, scaler=Scaling.scaler))]
        options = {"epochs": 3, "steps_per_epoch": 3, "bf16": False}
        history = fit(net, batches, loss_fn, steppers, **options)
        want = fit(other, batches, F.cross_entropy, [other_sgd], **options)
        torch.testing.assert_close(weights(net), weights(other))
        np.testing.assert_allclose(history["loss"], want["loss"], rtol=1e-5)

    def test_fp16_takes_one_optimiser(self):
        class Scaling:
            scaler = torch.amp.GradScaler("cpu")

        net, batches, sgd = problem()
        with pytest.raises(ValueError, match="fp16 scales the loss for one optimiser, got 2"):
            run(net, batches, sgd, sgd, accelerator=Scaling())

    def test_bad_input_is_named(self):
        net, batches, sgd = problem()
        for name in ("epochs", "steps_per_epoch"):
            with pytest.raises(ValueError, match=name):
                run(net, batches, sgd, **{name: 0})
        for name in ("clip", "time_limit"):
            for value in (0, -1, float("nan")):
                with pytest.raises(ValueError, match=f"{name} must be above 0"):
                    run(net, batches, sgd, **{name: value})
        with pytest.raises(ValueError, match="steps_per_epoch is 2, but batches gave more"):
            run(net, batches, sgd, steps_per_epoch=2)

        class Three:
            num_processes, process_index, device = 3, 0, torch.device("cpu")

        with pytest.raises(ValueError, match="3 processes cannot share a batch of 8 equally"):
            list(runs.shares(batches(0), Three()))


class TestCheckpoints:
    @pytest.mark.parametrize("stop", [1, 2])
    def test_a_run_that_stopped_goes_on_as_if_it_had_not(self, tmp_path, stop):
        """Dropout and momentum: all that an epoch needs is in the file or follows from its number."""
        whole, batches, sgd = problem(dropout=0.5)
        want = run(whole, batches, sgd, schedule=falling)

        class Stop(Exception):
            pass

        def interrupt(step, steps):
            if step == 3 * stop + 2:  # in the middle of an epoch
                raise Stop

        path = tmp_path / "run.pt"
        net, batches, sgd = problem(dropout=0.5)
        with pytest.raises(Stop):
            run(net, batches, sgd, schedule=falling, checkpoint=path, on_step=interrupt)
        net, batches, sgd = problem(dropout=0.5, seed=7)  # whatever it starts from
        _, batches, _ = problem()
        epochs = []
        got = run(net, batches, sgd, schedule=falling, checkpoint=path, on_epoch=epochs.append)
        assert epochs == list(range(stop, 3))
        assert torch.equal(weights(net), weights(whole))
        assert steps(got) == steps(want)
        again = run(net, batches, sgd, schedule=falling, checkpoint=path, on_epoch=epochs.append)
        assert epochs == list(range(stop, 3)), "there is nothing left to do"
        assert again == got

    def trained(self, path, epochs=2):
        net, batches, sgd = problem()
        run(net, batches, sgd, epochs=epochs, checkpoint=path)
        return net, sgd

    @pytest.mark.parametrize("harm", ["cut", "flip", "empty", "missing"])
    def test_the_one_before_stands_in_for_a_damaged_one(self, tmp_path, harm):
        path = tmp_path / "run.pt"
        self.trained(path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        if harm == "missing":
            path.unlink()  # killed between renaming and writing
        else:
            path.write_bytes({"cut": content[:-9], "flip": content, "empty": b""}[harm])
        net, _, sgd = problem(seed=5)
        if harm == "missing":
            history = checkpoints.load_checkpoint(path, net, [sgd])
        else:
            with pytest.warns(UserWarning, match=r"run.pt is damaged .* going on from .*run.pt.previous"):
                history = checkpoints.load_checkpoint(path, net, [sgd])
        assert len(history["train_acc"]) == 1
        alone, _ = self.trained(tmp_path / "other.pt", epochs=1)
        # The schedule is constant, so the first epoch of two is that of one.
        assert torch.equal(weights(net), weights(alone))

    def test_two_damaged_files_are_an_error(self, tmp_path):
        path = tmp_path / "run.pt"
        self.trained(path)
        for file in (path, checkpoints.previous(path)):
            file.write_bytes(b"nothing")
        net, batches, sgd = problem()
        before = weights(net)
        with (
            pytest.warns(UserWarning, match="damaged"),
            pytest.raises(ValueError, match=r"run.pt.previous is damaged or cut short"),
        ):
            run(net, batches, sgd, checkpoint=path)
        assert torch.equal(weights(net), before)
        with pytest.raises(FileNotFoundError, match="no checkpoint"):
            checkpoints.load_checkpoint(tmp_path / "none.pt", net, [sgd])

    def test_another_network_or_optimiser_is_refused(self, tmp_path):
        path = tmp_path / "run.pt"
        self.trained(path)
        net = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Dropout(0.0), nn.Linear(9, 3))
        before, sgd = weights(net), torch.optim.SGD(net.parameters(), lr=0.1)
        with pytest.raises(ValueError, match=r"another network; they differ in 0.bias, 0.weight, 3.weight"):
            checkpoints.load_checkpoint(path, net, [sgd])
        assert torch.equal(weights(net), before)
        net, _, sgd = problem()
        for others in ([sgd, sgd], [], [torch.optim.SGD(net[0].parameters(), lr=0.1)]):
            with pytest.raises(ValueError, match="other optimisers"):
                checkpoints.load_checkpoint(path, net, others)

    def test_a_file_runs_no_code(self, tmp_path, capsys):
        class Evil:
            def __reduce__(self):
                return (print, ("run by a pickle",))

        import hashlib
        import io

        buffer = io.BytesIO()
        torch.save({"kind": "run", "net": Evil()}, buffer)
        file = tmp_path / "evil.pt"
        file.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
        net, _, sgd = problem()
        with pytest.raises(Exception, match=r"[Ww]eights.only"):
            checkpoints.load_checkpoint(file, net, [sgd])
        assert "run by a pickle" not in capsys.readouterr().out

    def test_a_save_that_fails_leaves_the_one_before(self, tmp_path, monkeypatch):
        path = tmp_path / "run.pt"
        net, sgd = self.trained(path, epochs=1)
        content = path.read_bytes()
        monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            checkpoints.save_checkpoint(path, net, [sgd], {"loss": [1.0]})
        assert checkpoints.previous(path).read_bytes() == content
        assert checkpoints.has_checkpoint(path)


# Other processes -----------------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from common.pytorch.runs import train
from tests.test_pytorch_runs import falling, problem, weights

out, checkpoint, kill_at = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
net, batches, sgd = problem(dropout=0.5 if checkpoint else 0.0)

def on_step(step, steps):
    if step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

accelerator = Accelerator(cpu=True)
options = {"accelerator": accelerator, "checkpoint": checkpoint, "clip": 0.5, "schedule": falling, "on_step": on_step}
history = train(net, batches, F.cross_entropy, [sgd], epochs=3, steps_per_epoch=3, **options)
if accelerator.is_main_process:
    torch.save({"weights": weights(net), "loss": history["loss"], "train_acc": history["train_acc"],
                "processes": accelerator.num_processes}, out)
"""


@pytest.fixture
def script(tmp_path):
    """Run the script above in another process: script(launcher, checkpoint, kill_at) -> how it ended, what it saved."""
    file, environment = tmp_path / "script.py", os.environ | {"PYTHONPATH": str(ROOT), "WORKBOOK_QUIET": "1"}
    file.write_text(SCRIPT)

    def call(*launcher, checkpoint="", kill_at=-1):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.pt"
        command = [sys.executable, *launcher, str(file), str(out), str(checkpoint), str(kill_at)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)
        return done, torch.load(out, weights_only=True) if out.exists() else None

    return call


def test_kill_during_an_epoch_and_resume(script, tmp_path):
    done, whole = script(checkpoint=tmp_path / "whole.pt")
    assert done.returncode == 0, done.stderr
    killed, nothing = script(checkpoint=tmp_path / "killed.pt", kill_at=5)
    assert killed.returncode == -signal.SIGKILL
    assert nothing is None
    done, resumed = script(checkpoint=tmp_path / "killed.pt")
    assert done.returncode == 0, done.stderr
    assert torch.equal(resumed["weights"], whole["weights"])
    assert resumed["loss"] == whole["loss"]
    assert not list(tmp_path.glob(".*.part"))


def test_two_processes_are_one_with_the_whole_batch(script):
    """gloo averages the gradients of the halves: the same sums in another order."""
    done, two = script("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29517")
    assert done.returncode == 0, done.stderr
    done, one = script()
    assert done.returncode == 0, done.stderr
    assert (one["processes"], two["processes"]) == (1, 2)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-5)
    np.testing.assert_allclose(two["train_acc"], one["train_acc"], rtol=1e-6)


# Recipes -------------------------------------------------------------------------------------------------------

SMALL = recipes.ResNetRecipe("resnet32", epochs=2, batch_size=8)


class TestRecipes:
    def test_the_rate_of_the_course(self):
        epochs = [recipes.steps_down((epoch + done) / 10) for epoch in range(10) for done in (0, 0.5, 0.99)]
        np.testing.assert_allclose(epochs, [1.0] * 18 + [0.1] * 6 + [0.01] * 6)

    @pytest.mark.parametrize("translate", [0, 2])
    def test_an_epoch_shows_each_picture_once(self, translate):
        x, y = pictures(21), torch.arange(21)
        recipe = recipes.ResNetRecipe(batch_size=8, translate=translate, flip=True)
        batches = recipes.epoch_batches(x, y, recipe, seed=1)
        one, again, other = (list(batches(epoch)) for epoch in (0, 0, 1))
        assert [len(names) for _, names in one] == [8, 8, 5], "the last, smaller batch is there"
        assert sorted(torch.cat([names for _, names in one]).tolist()) == list(range(21))
        assert all(torch.equal(a, b) for a, b in zip(sum(one, ()), sum(again, ()), strict=True))
        assert not torch.equal(one[0][1], other[0][1])
        if not translate:
            plain = recipes.normalise(x)
            for picture, name in ((p, n) for batch, names in one for p, n in zip(batch, names, strict=True)):
                assert torch.equal(picture, plain[name]) or torch.equal(picture.flip(2), plain[name])

    def test_training_is_deterministic_and_recorded(self):
        x, y = pictures(20), labels(20)
        train_resnet = partial(recipes.train_resnet, x, y, SMALL, accelerator=cpu())
        (net, history), (same, _) = train_resnet(val=(x, y), seed=2), train_resnet(seed=2)
        assert torch.equal(weights(net), weights(same))
        assert {name: len(values) for name, values in history.items() if "acc" in name or name == "loss"} == {
            "loss": 6, "train_acc": 2, "val_acc": 2,
        }  # fmt: skip
        assert not net.training
        assert not torch.equal(weights(net), weights(train_resnet(seed=3)[0]))

    def test_bad_recipes_are_named(self):
        for name, value in (
            ("network", "vgg"), ("epochs", 0), ("batch_size", 0), ("learning_rate", 0.0), ("warm_up", 1.0),
            ("smoothing", -0.1), ("translate", -1),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=name):
                recipes.ResNetRecipe(**{name: value})
        with pytest.raises(ValueError, match="labels must be int64, one for each of 4 pictures"):
            recipes.train_resnet(pictures(4), labels(3), SMALL)

    def test_command_line(self, tmp_path, monkeypatch, capsys):
        rows = (
            pictures(30).flatten(1).numpy(),
            labels(30).numpy(),
            pictures(9, 1).flatten(1).numpy(),
            labels(9, 1).numpy(),
        )
        monkeypatch.setattr(recipes, "read_rows", lambda root: rows)
        out = tmp_path / "history.json"
        arguments = "--recipe plain32 --data cifar10 --epochs 2 --batch-size 10 --num-train 20 --num-val 10 --cpu"
        recipes.main([*arguments.split(), "--history", str(out), "--checkpoint", str(tmp_path / "run.pt")])
        printed, history = capsys.readouterr().out, json.loads(out.read_text())
        assert "epoch   2" in printed
        assert f"plain32: test accuracy {history['test_acc']:.4f}" in printed
        assert len(history["loss"]) == 4
        assert (tmp_path / "run.pt").is_file()
        with pytest.raises(ValueError, match="num_val is 30"):
            recipes.main(["--num-val", "30", "--cpu"])
        with pytest.raises(SystemExit):
            recipes.main(["--recipe", "vgg"])
        assert "invalid choice" in capsys.readouterr().err
