"""The papers' comparison of regressors, on held-out groups: error, time to train, time to use.

PieSlicer compared linear models, nearest neighbours, forests, lasso and support vectors. Here a
network's layers, or a photograph's times, are never in training and test both; scaling, outlier
rules and hyper-parameters see training groups only. It measures nothing and draws no conclusion.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isthmus.estimation.fit import fit_symmetric

__all__ = ["REGRESSORS", "RegressorScore", "compare_regressors", "group_folds", "left_out"]

REGRESSORS = ("nonnegative", "linear", "knn", "forest", "lasso", "svr")
"""Ours (linear, no negative coefficient, symmetric relative errors), and those of the paper."""

_INNER_FOLDS = 3
_NONNEGATIVE_FEATURES = 7  # and a constant
_LEAST_USE_S = 1e-3  # how long single predictions are timed
_Floats = NDArray[np.float64]
_Predict = Callable[[_Floats], _Floats]
_Fit = Callable[[_Floats, _Floats], _Predict]


class RegressorScore(TypedDict):
    """How one regressor did, over the rows that were held out.

    Attributes:
        mape: Mean of the absolute relative errors, a ratio; every row was held out once.
        median_ape: Their median.
        search_ms: Choosing hyper-parameters, all candidates on inner folds; median over folds.
        train_ms: One fit with those chosen; median over folds.
        use_us: Predicting one row, alone, as a decision does; median over folds.
        chosen: The hyper-parameters of each fold, for those that have any.
    """

    mape: float
    median_ape: float
    search_ms: float
    train_ms: float
    use_us: float
    chosen: list[dict[str, float]]


def left_out(features: ArrayLike) -> dict[str, str]:
    """Return why a regressor cannot take part, by name; empty where all can.

    Args:
        features: Shape ``(n, k)``.

    Examples:
        >>> left_out([[-1.0], [2.0]])["nonnegative"]
        'a feature is negative'
    """
    x = np.asarray(features, dtype=np.float64)
    reasons = {}
    if (x < 0).any():
        reasons["nonnegative"] = "a feature is negative"
    elif x.shape[1] > _NONNEGATIVE_FEATURES:
        reasons["nonnegative"] = f"more than {_NONNEGATIVE_FEATURES} features"
    if importlib.util.find_spec("sklearn") is None:
        missing = "scikit-learn is not installed: pip install 'isthmus[bench]'"
        reasons |= dict.fromkeys(("linear", "knn", "forest", "lasso", "svr"), missing)
    return reasons


def group_folds(
    groups: Sequence[Any], folds: int, *, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Split rows so that no group is on both sides of any fold.

    Args:
        groups: The group of each row: a network, a photograph.
        folds: How many; fewer where there are fewer groups.
        seed: Decides which groups share a fold.

    Returns:
        Indices of training and test rows by fold; every row is in one test set.

    Raises:
        ValueError: If there are less than two groups or folds.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group.max(initial=-1)) + 1
    if folds < 2 or count < 2:
        raise ValueError(f"at least 2 folds and 2 groups are needed, got {folds} and {count}")
    shuffled = np.random.default_rng(seed).permutation(count)
    fold_of = (shuffled % min(folds, count))[group]
    return [
        (np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold))
        for fold in range(min(folds, count))
    ]


def compare_regressors(
    features: ArrayLike,
    target_s: ArrayLike,
    *,
    groups: Sequence[Any],
    folds: int = 5,
    seed: int = 0,
    outlier_quantiles: tuple[float, float] | None = None,
    names: Sequence[str] = REGRESSORS,
) -> dict[str, RegressorScore]:
    """Return how well, how fast trained and how fast used each regressor is, by name.

    For each fold, hyper-parameters are chosen on inner folds of the training groups by mean
    absolute relative error, then one model is fitted to all training rows. Features and targets
    are standardised by training rows. Those of ``left_out`` do not appear.

    Args:
        features: Shape ``(n, k)``.
        target_s: What is to be predicted, shape ``(n,)``, seconds, positive.
        groups: The group of each row, which is held out as a whole; ``range(n)`` if rows stand
            alone.
        folds: Outer folds.
        seed: Of the folds and the forests.
        outlier_quantiles: Training rows whose target is outside these quantiles of the training
            targets are dropped; test rows never are.
        names: Which to compare, of ``REGRESSORS``.

    Returns:
        The scores. Times are of this machine, and one run each: ratios, not benchmarks.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, a target is not positive, or there
            are less than three groups.

    References:
        Ogden, Kong, Guo, "PieSlicer", ICPE 2021, for the five and the grids of neighbours and
        forests. *Departs* from its published code, which normalised and dropped outliers before
        it split, chose hyper-parameters by the largest error on the test rows, and kept photographs
        on both sides: see the note on that paper. Grids of lasso and support vectors are ours.
    """
    x = np.asarray(features, dtype=np.float64)
    y = np.asarray(target_s, dtype=np.float64)
    if x.ndim != 2 or y.shape != x.shape[:1] or len(groups) != len(y):
        raise ValueError(f"{x.shape} features, {y.shape} targets, {len(groups)} groups do not fit")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (y > 0).all()):
        raise ValueError("features must be finite, targets finite and positive")
    labels = np.asarray(groups)
    if len(np.unique(labels)) < 3:
        raise ValueError("at least 3 groups are needed: to test, and two to choose with")
    splits = group_folds(groups, folds, seed=seed)
    absent = left_out(x)
    scores = {}
    for name in (name for name in names if name not in absent):
        errors: list[_Floats] = []
        searches, trains, uses, chosen = [], [], [], []
        for train, test in splits:
            kept = _kept(y[train], outlier_quantiles)
            own = train[kept]
            if len(np.unique(labels[own])) < 2:
                raise ValueError("a fold has less than two groups to train with: use more data")
            candidates = _candidates(name, x[own], seed)
            begun_at_s = time.perf_counter()
            best = _choose(candidates, x[own], y[own], labels[own], seed)
            searches.append(time.perf_counter() - begun_at_s)
            begun_at_s = time.perf_counter()
            predict = candidates[best][1](x[own], y[own])
            trains.append(time.perf_counter() - begun_at_s)
            uses.append(_use_s(predict, x[test]))
            errors.append(_relative_errors(predict, x[test], y[test]))
            chosen.append(candidates[best][0])
        apes = np.concatenate(errors)
        scores[name] = RegressorScore(
            mape=float(apes.mean()),
            median_ape=float(np.median(apes)),
            search_ms=float(np.median(searches)) * 1e3,
            train_ms=float(np.median(trains)) * 1e3,
            use_us=float(np.median(uses)) * 1e6,
            chosen=chosen if any(chosen) else [],
        )
    return scores


def _kept(target_s: _Floats, quantiles: tuple[float, float] | None) -> NDArray[np.bool_]:
    if quantiles is None:
        return np.ones(len(target_s), dtype=bool)
    low, high = np.quantile(target_s, quantiles)
    return np.asarray((target_s >= low) & (target_s <= high), dtype=bool)


def _relative_errors(predict: _Predict, x: _Floats, y: _Floats) -> _Floats:
    return np.abs(predict(x) / y - 1.0)


def _choose(
    candidates: Sequence[tuple[dict[str, float], _Fit]],
    x: _Floats,
    y: _Floats,
    labels: NDArray[Any],
    seed: int,
) -> int:
    """Return the candidate with the least mean relative error on inner folds."""
    if len(candidates) == 1:
        return 0
    inner = group_folds(labels.tolist(), _INNER_FOLDS, seed=seed + 1)
    losses = [
        np.mean(
            np.concatenate(
                [
                    _relative_errors(fit(x[train], y[train]), x[test], y[test])
                    for train, test in inner
                ]
            )
        )
        for _, fit in candidates
    ]
    return int(np.argmin(losses))


def _use_s(predict: _Predict, x: _Floats) -> float:
    """Return the median time of predicting one row, seconds."""
    samples: list[float] = []
    while len(samples) < 9 or sum(samples) < _LEAST_USE_S:
        row = x[len(samples) % len(x)][None]
        begun_at_s = time.perf_counter()
        predict(row)
        samples.append(time.perf_counter() - begun_at_s)
    return float(np.median(samples[1:]))


def _candidates(name: str, x: _Floats, seed: int) -> list[tuple[dict[str, float], _Fit]]:
    """Return the hyper-parameters to choose from, each with its way to fit."""
    if name == "nonnegative":
        return [({}, _fit_nonnegative)]
    grid = _GRIDS[name](len(x))
    return [(values, _standardised(name, values, seed)) for values in grid]


def _fit_nonnegative(x: _Floats, y: _Floats) -> _Predict:
    coefficients = fit_symmetric(np.hstack([np.ones((len(x), 1)), x]), y)
    constant, slopes = coefficients[0], coefficients[1:]
    return lambda rows: rows @ slopes + constant


_GRIDS: Mapping[str, Callable[[int], list[dict[str, float]]]] = {
    "linear": lambda _: [{}],
    "knn": lambda n: [{"n_neighbors": k} for k in (*range(1, 30), 50, 100) if k <= n // 2],
    "forest": lambda _: [
        {"n_estimators": trees, "max_depth": depth}
        for trees in (1, 2, 4, 8)
        for depth in range(1, 11)
    ],
    "lasso": lambda _: [{"alpha": alpha} for alpha in (1e-4, 1e-3, 1e-2, 1e-1)],
    "svr": lambda _: [{"C": c, "epsilon": e} for c in (1.0, 10.0, 100.0) for e in (0.01, 0.1)],
}


def _standardised(name: str, values: Mapping[str, float], seed: int) -> _Fit:
    """Return how to fit a model of scikit-learn to standardised features and targets."""
    # Imported where they are used: an extra, and half a second.
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso, LinearRegression
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.svm import SVR

    makers: Mapping[str, Callable[..., Any]] = {
        "linear": LinearRegression,
        "knn": KNeighborsRegressor,
        "forest": lambda **own: RandomForestRegressor(random_state=seed, **own),
        "lasso": lambda **own: Lasso(max_iter=20_000, **own),
        "svr": SVR,
    }

    def fit(x: _Floats, y: _Floats) -> _Predict:
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale[scale == 0] = 1.0
        target_mean, target_scale = y.mean(), y.std() or 1.0
        own = dict(values)
        if "n_neighbors" in own:
            own["n_neighbors"] = min(own["n_neighbors"], len(x))
        model = makers[name](**own)
        with warnings.catch_warnings():  # a lasso that has not converged is scored as it is
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((x - mean) / scale, (y - target_mean) / target_scale)
        return lambda rows: np.asarray(
            model.predict((rows - mean) / scale) * target_scale + target_mean, dtype=np.float64
        )

    return fit
