import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from isthmus.estimation.fit import fit_nonnegative, spread


def loss(features, seconds, coefficients):
    """The sum of squared relative errors."""
    return float(((features @ coefficients / seconds - 1) ** 2).sum())


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30))
def test_the_optimum_is_that_of_scipy(seed, count, rows):
    rng = np.random.default_rng(seed)
    features = rng.uniform(0, 1, (rows, count)) * 10.0 ** rng.integers(-3, 8, count)
    features[rng.random((rows, count)) < 0.2] = 0
    seconds = rng.uniform(1e-4, 1, rows)
    found = fit_nonnegative(features, seconds)
    scale = np.maximum(np.abs(features / seconds[:, None]).max(axis=0), 1e-300)
    expected = nnls(features / seconds[:, None] / scale, np.ones(rows))[0] / scale
    assert (found >= 0).all()
    assert loss(features, seconds, found) <= loss(features, seconds, expected) + 1e-7


def test_planted_coefficients_are_recovered():
    rng = np.random.default_rng(5)
    truth = np.array([2e-3, 0.0, 3e-9, 1e-8])
    features = np.column_stack(
        [
            np.ones(40),
            rng.uniform(1e4, 1e6, 40),
            rng.uniform(1e5, 1e7, 40),
            rng.uniform(1e5, 1e6, 40),
        ]
    )
    found = fit_nonnegative(features, features @ truth)
    np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-15)


def test_small_times_count_as_much_as_large_ones():
    seconds = np.array([1.0, 1.0, 1.0, 1000.0])
    (found,) = fit_nonnegative(np.array([[1.0], [1.0], [1.0], [500.0]]), seconds)
    assert found == pytest.approx(3.5 / 3.25)  # of the relative errors; of absolute ones, 2.0


def test_a_cost_that_would_be_negative_is_zero():
    assert fit_nonnegative([[1, 1], [1, 2], [1, 3]], [3, 2, 1])[1] == 0


def test_features_that_are_always_zero_cost_nothing():
    assert fit_nonnegative([[1, 0], [2, 0]], [1, 2]).tolist() == [pytest.approx(1), 0]


def test_only_what_is_not_known_is_fitted_and_a_small_rest_weighs_little():
    sizes = np.array([[1.0], [10.0], [100.0]])
    known_s = np.full(3, 5.0)
    seconds = known_s + 2.0 * sizes[:, 0]
    assert fit_nonnegative(sizes, seconds, known_s=known_s) == pytest.approx([2.0])
    seconds[0] = known_s[0] * 0.99  # noise: less than what is known
    assert fit_nonnegative(sizes, seconds, known_s=known_s) == pytest.approx([2.0], rel=0.1)


@pytest.mark.parametrize(
    ("features", "seconds"),
    [
        ([], []),
        ([[1], [2]], [1]),
        ([1, 2], [1, 2]),
        ([[1] * 9], [1]),
        ([[1]], [0]),
        ([[1]], [-1]),
        ([[1]], [float("nan")]),
        ([[float("inf")]], [1]),
    ],
)
def test_what_cannot_be_fitted_is_refused(features, seconds):
    with pytest.raises(ValueError, match="seconds"):
        fit_nonnegative(features, seconds)


def test_the_spread_is_a_standard_deviation_that_outliers_do_not_move():
    values = np.random.default_rng(3).normal(5, 0.2, 4001)
    values[:200] = 1000
    assert spread(values) == pytest.approx(0.2, rel=0.1)
    assert spread([7.0]) == 0
