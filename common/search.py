"""Hyper-parameter search: candidates in, scores out, on all cores - or on a cluster, by changing joblib's backend."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np

from common import results
from common.progress import progress


@dataclass(frozen=True)
class Trial:
    """One candidate and what came out of it.

    Attributes:
        params: the hyper-parameters, by name.
        scores: what the evaluation returned, by name, for example {"train": 0.41, "val": 0.39}.
    """

    params: dict[str, Any]
    scores: dict[str, float]


def grid(**choices: Sequence[Any]) -> list[dict[str, Any]]:
    """Every combination of the choices, the last name varying fastest.

        grid(lr=[1e-7, 1e-6], reg=[1e3, 1e4])  ->  four dicts

    Raises:
        ValueError: a name has no choices.
    """
    empty = [name for name, values in choices.items() if len(values) == 0]
    if empty or not choices:
        raise ValueError(f"nothing to choose from for {', '.join(empty) or 'an empty grid'}")
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def around(center: float, factor: float, num: int = 5) -> list[float]:
    """`num` values from center / factor to center * factor, evenly spaced on a logarithmic axis: the fine step.

    Raises:
        ValueError: center is not positive, factor not above 1 or num below 2.
    """
    if center <= 0 or factor <= 1 or num < 2:
        raise ValueError(f"needs center > 0, factor > 1 and num >= 2, got {center}, {factor}, {num}")
    return np.geomspace(center / factor, center * factor, num).tolist()


def search(
    evaluate: Callable[..., dict[str, float]], candidates: Sequence[dict[str, Any]], *, n_jobs: int = -1, **fixed: Any
) -> list[Trial]:
    """Evaluate every candidate and keep the order. Each evaluation must seed itself: then the result is the same on
    one core, on many, and on a cluster (`with joblib.parallel_config(backend="dask"): search(...)`). `make results`
    keeps each finished trial, so that an interrupted run goes on with the others.

    Args:
        evaluate: called as evaluate(**candidate, **fixed) in a worker process; returns scores by name.
        candidates: dicts of hyper-parameters, for example from `grid`.
        n_jobs: worker processes, -1 for one a core, 1 to stay in this process.
        fixed: the same for all candidates, such as the data; large arrays are shared, not copied.
    Returns:
        One Trial for each candidate.
    Raises:
        ValueError: there are no candidates.
        Exception: whatever evaluate raises.
    """
    if len(candidates) == 0:
        raise ValueError("candidates is empty: there is nothing to search")
    files = results.trial_files(evaluate, candidates, fixed)
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    scored = parallel(
        joblib.delayed(results.trial)(evaluate, candidate, fixed, file)
        for candidate, file in zip(candidates, files, strict=True)
    )
    bar = progress(zip(candidates, scored, strict=True), total=len(candidates), desc="search")
    return [Trial(dict(candidate), dict(scores)) for candidate, scores in bar]


def best(trials: Sequence[Trial], by: str = "val") -> Trial:
    """The trial with the highest score; the first one when several share it. NaN never wins.

    Raises:
        ValueError: there are no trials, or every score is NaN.
        KeyError: the trials have no such score.
    """
    scores = np.array([trial.scores[by] for trial in trials])
    if np.all(np.isnan(scores)):
        raise ValueError(f"no trial has a usable score {by!r}")
    return trials[int(np.nanargmax(scores))]
