import numpy as np
import pytest

from isthmus.lab.studies.regressors import (
    REGRESSORS,
    compare_regressors,
    group_folds,
    left_out,
)

GROUPS = np.repeat(np.arange(9), 8)


def linear_times(seed=3, noise=0.0):
    rng = np.random.default_rng(seed)
    features = rng.uniform(1, 10, (len(GROUPS), 2))
    seconds = 1e-3 + features @ [2e-3, 5e-4]
    return features, seconds * rng.lognormal(0, noise, len(seconds)) if noise else seconds


def test_a_group_is_on_one_side_and_every_row_is_held_out_once():
    folds = group_folds(GROUPS.tolist(), 4, seed=1)
    held_out = np.concatenate([test for _, test in folds])
    assert sorted(held_out.tolist()) == list(range(len(GROUPS)))
    for train, test in folds:
        assert len(train)
        assert not set(GROUPS[train]) & set(GROUPS[test])
    assert len(group_folds(["a", "b", "a"], 5, seed=0)) == 2
    with pytest.raises(ValueError, match="2 groups"):
        group_folds(["a", "a"], 5, seed=0)


def test_linear_models_are_right_about_linear_times_and_all_are_timed():
    pytest.importorskip("sklearn")
    features, seconds = linear_times()
    scores = compare_regressors(features, seconds, groups=GROUPS.tolist(), folds=2)
    assert tuple(scores) == REGRESSORS
    assert scores["linear"]["mape"] < 1e-9
    assert scores["nonnegative"]["mape"] < 1e-6
    for name, score in scores.items():
        assert 0 <= score["median_ape"] < 0.2, name
        assert score["train_ms"] > 0, name
        assert score["use_us"] > 0, name
    assert len(scores["knn"]["chosen"]) == 2


def test_what_only_a_group_knows_cannot_be_learned():
    """Rows of a group share a secret: with rows split instead of groups, neighbours would know."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(5)
    secret = rng.uniform(1, 10, 9)[GROUPS]
    features = rng.uniform(0, 100, 9)[GROUPS][:, None]
    by_group = compare_regressors(features, secret, groups=GROUPS.tolist(), folds=2, names=["knn"])
    by_row = compare_regressors(features, secret, groups=range(len(GROUPS)), folds=2, names=["knn"])
    assert by_row["knn"]["mape"] < 0.01 < 0.1 < by_group["knn"]["mape"]


def test_outliers_are_dropped_from_training_and_never_from_the_test():
    features, seconds = linear_times()
    seconds[::24] /= 50
    own = {"groups": GROUPS.tolist(), "names": ["nonnegative"]}
    kept = compare_regressors(features, seconds, outlier_quantiles=(0.1, 1.0), **own)
    without = compare_regressors(features, seconds, **own)
    assert kept["nonnegative"]["median_ape"] < 0.02 < 0.05 < without["nonnegative"]["median_ape"]
    assert kept["nonnegative"]["mape"] > 1  # those three rows are still scored


def test_those_left_out_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    features, seconds = linear_times()
    assert set(left_out(features)) == {"linear", "knn", "forest", "lasso", "svr"}
    assert "isthmus[bench]" in left_out(features)["svr"]
    assert set(compare_regressors(features, seconds, groups=GROUPS.tolist())) == {"nonnegative"}
    assert "7 features" in left_out(np.ones((3, 8)))["nonnegative"]


@pytest.mark.parametrize(
    ("features", "seconds", "groups"),
    [
        (np.ones((4, 1)), np.ones(4), [0, 0, 1, 1]),
        (np.ones((4, 1)), np.ones(3), [0, 1, 2, 3]),
        (np.ones((4, 1)), np.array([1, 1, 1, 0.0]), [0, 1, 2, 3]),
        (np.full((4, 1), np.nan), np.ones(4), [0, 1, 2, 3]),
    ],
)
def test_what_makes_no_sense_is_refused(features, seconds, groups):
    with pytest.raises(ValueError, match=r"groups|positive"):
        compare_regressors(features, seconds, groups=groups)
