"""Hyper-parameter search: order, seeds, workers, errors - and a Dask cluster where Dask is installed."""

import itertools

import joblib
import numpy as np
import pytest

from common import results
from common.search import Trial, around, best, grid, search


def score(lr, reg, data):
    rng = np.random.RandomState(0)
    return {"val": float(-((np.log10(lr) + 3) ** 2) - reg + 1e-9 * rng.rand() + 0 * data.sum())}


def broken(lr):
    raise RuntimeError(f"cannot train with lr = {lr}")


CANDIDATES = grid(lr=[1e-4, 1e-3, 1e-2], reg=[0.0, 1.0])


def test_grid_varies_the_last_name_fastest():
    assert CANDIDATES[:3] == [{"lr": 1e-4, "reg": 0.0}, {"lr": 1e-4, "reg": 1.0}, {"lr": 1e-3, "reg": 0.0}]
    assert len(CANDIDATES) == 6
    for empty in ({}, {"lr": []}):
        with pytest.raises(ValueError, match="nothing to choose from"):
            grid(**empty)


def test_around_is_a_logarithmic_neighbourhood():
    values = around(1e-3, 10, 5)
    assert values[0] == pytest.approx(1e-4)
    assert values[2] == pytest.approx(1e-3)
    assert np.allclose(np.diff(np.log(values)), np.log(10) / 2)
    for bad in ((0, 10, 5), (1, 1, 5), (1, 10, 1)):
        with pytest.raises(ValueError, match="needs center > 0"):
            around(*bad)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_search_keeps_the_order_whatever_the_workers(n_jobs):
    trials = search(score, CANDIDATES, n_jobs=n_jobs, data=np.ones(5))
    assert [trial.params for trial in trials] == CANDIDATES
    assert [trial.scores for trial in trials] == [score(**c, data=np.ones(5)) for c in CANDIDATES]
    assert best(trials).params == {"lr": 1e-3, "reg": 0.0}


def test_errors_of_a_candidate_reach_the_caller():
    with pytest.raises(RuntimeError, match=r"cannot train with lr = 0\.1"):
        search(broken, grid(lr=[0.1]), n_jobs=1)
    with pytest.raises(ValueError, match="candidates is empty"):
        search(broken, [])


def test_best_ignores_nan_and_takes_the_first_of_equals():
    trials = [Trial({"i": i}, {"val": v}) for i, v in enumerate([np.nan, 0.2, 0.4, 0.4])]
    assert best(trials).params == {"i": 2}
    with pytest.raises(ValueError, match="usable score"):
        best(trials[:1])
    with pytest.raises(KeyError):
        best(trials, by="test")


# An interrupted search goes on ------------------------------------------------------------------------------


def logged(x, log, data):
    """Notes that it was asked; fails for x = 2 as long as there is no file `power`."""
    with open(log / f"{x}", "a") as file:
        file.write("1")
    if x == 2 and not (log / "power").exists():
        raise RuntimeError("power cut")
    return {"val": np.float64(x / 3 + data.sum())}


def asked(log):
    return {file.name: len(file.read_text()) for file in sorted(log.iterdir()) if file.name != "power"}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """`start()` begins a run that keeps its trials: it counts its searches from 0 and knows no time of others."""

    def start():
        monkeypatch.setattr(results, "_searches", itertools.count())
        monkeypatch.setattr(results, "_kept_seconds", 0.0)

    monkeypatch.setenv(results.FOLDER, str(tmp_path / "run"))
    (tmp_path / "log").mkdir()
    start()
    return start


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interrupted_search_does_not_repeat_trials(tmp_path, runs, n_jobs):
    log, candidates = tmp_path / "log", grid(x=[0, 1, 2, 3])
    with pytest.raises(RuntimeError, match="power cut"):
        search(logged, candidates, n_jobs=n_jobs, log=log, data=np.ones(5))
    before = asked(log)
    finished = len(list((tmp_path / "run" / "trials").glob("*.json")))
    (log / "power").touch()
    runs()
    trials = search(logged, candidates, n_jobs=n_jobs, log=log, data=np.ones(5))
    assert [trial.scores["val"] for trial in trials] == [x / 3 + 5 for x in range(4)]
    assert sum(asked(log).values()) == sum(before.values()) + len(candidates) - finished
    assert before["0"] == asked(log)["0"] == 1  # finished before the power cut with one worker or two
    runs()
    assert search(logged, candidates, n_jobs=n_jobs, log=log, data=np.ones(5)) == trials
    kept = [results.read_json(file)["cpu_seconds"] for file in (tmp_path / "run" / "trials").iterdir()]
    assert results._kept_seconds == pytest.approx(sum(kept))  # the time of the trials that were not repeated


def test_trials_of_another_search_or_other_data_are_not_taken(tmp_path, runs):
    log, candidates = tmp_path / "log", grid(x=[0])
    search(logged, candidates, n_jobs=1, log=log, data=np.ones(5))
    runs()
    assert search(logged, candidates, n_jobs=1, log=log, data=np.ones(6))[0].scores == {"val": 6.0}
    search(logged, candidates, n_jobs=1, log=log, data=np.ones(6))  # the second search of this run
    assert asked(log) == {"0": 3}


def test_a_learner_keeps_no_trials(tmp_path, monkeypatch):
    monkeypatch.delenv(results.FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    search(score, CANDIDATES, n_jobs=1, data=np.ones(5))
    assert list(tmp_path.iterdir()) == []


def test_the_same_search_on_a_dask_cluster():
    distributed = pytest.importorskip("dask.distributed", reason="Dask is optional: pip install 'dask[distributed]'")
    local = search(score, CANDIDATES, n_jobs=1, data=np.ones(5))
    where = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": None}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, **where) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask", wait_for_workers_timeout=60),
    ):
        assert search(score, CANDIDATES, data=np.ones(5)) == local
