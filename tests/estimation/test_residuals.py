import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import ConditionsError
from isthmus.estimation.residuals import LEAST_WORK_S, Residuals, Slowdown
from isthmus.types.conditions import NORMAL_SDS

WORK_S = 0.040
NOISE = 0.05


def settled(rng, *, slowdown=1.0, samples=50):
    estimate = Slowdown()
    for _ in range(samples):
        estimate = estimate.observe(WORK_S, WORK_S * slowdown * math.exp(rng.normal(0, NOISE)))
    return estimate


@pytest.mark.parametrize("step", [3.0, 1 / 3, 1.5, 1.2, 10.0])
@pytest.mark.parametrize("seed", range(20))
def test_a_step_is_followed_within_ten_requests(step, seed):
    rng = np.random.default_rng(seed)
    estimate = settled(rng)
    for _ in range(10):
        estimate = estimate.observe(WORK_S, WORK_S * step * math.exp(rng.normal(0, NOISE)))
    assert estimate.mean == pytest.approx(step, rel=0.10)


@pytest.mark.parametrize("outlier", [3.0, 30.0, 1 / 3, 1e6, 0.0])
def test_one_outlier_moves_nothing(outlier):
    before = settled(np.random.default_rng(1))
    after = before.observe(WORK_S, WORK_S * outlier)
    assert (after.mean, after.sd) == (before.mean, before.sd)
    again = after.observe(WORK_S, WORK_S * before.mean)  # and it is forgotten
    assert again.outside == ()
    assert again.mean == pytest.approx(before.mean)


def test_outliers_on_both_sides_are_no_change():
    estimate = before = settled(np.random.default_rng(2))
    for factor in (3, 1 / 3, 3, 1 / 3, 3, 3, 1 / 3):
        estimate = estimate.observe(WORK_S, WORK_S * factor)
    assert estimate.mean == before.mean


def test_a_drift_is_followed():
    estimate = settled(np.random.default_rng(3))
    for i in range(60):
        estimate = estimate.observe(WORK_S, WORK_S * 1.02**i)
    assert estimate.mean == pytest.approx(1.02**59, rel=0.10)


def test_too_little_work_says_nothing():
    assert Slowdown().observe(LEAST_WORK_S / 2, 1.0) == Slowdown()
    assert Slowdown().observe(LEAST_WORK_S, LEAST_WORK_S * 1.1).mean > 1


def test_the_mean_is_surer_with_every_sample():
    rng = np.random.default_rng(4)
    few, many = settled(rng, samples=2), settled(rng, samples=40)
    assert 0 < many.sd < few.sd


@given(st.lists(st.floats(0, 1e12), max_size=20))
def test_whatever_is_observed_the_slowdown_is_a_positive_number(observed):
    estimate = Slowdown()
    for seconds in observed:
        estimate = estimate.observe(WORK_S, seconds)
    assert 0 < estimate.mean < math.inf
    assert 0 <= estimate.sd < math.inf


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
def test_impossible_times_are_refused(wrong):
    for work_s, seconds in ((wrong, 1.0), (1.0, wrong)):
        with pytest.raises(ConditionsError, match="no site works"):
            Slowdown().observe(work_s, seconds)
    if wrong != -1.0:
        with pytest.raises(ConditionsError, match="standard deviations"):
            Residuals().observe(error_sds=wrong)


def test_a_slow_server_says_nothing_about_the_device():
    known = Residuals()
    for _ in range(10):
        known = known.observe(
            device_work_s=WORK_S, device_s=WORK_S, server_work_s=WORK_S, server_s=3 * WORK_S
        )
    assert known.device.mean == pytest.approx(1)
    assert known.server.mean == pytest.approx(3)
    local = known.observe(device_work_s=WORK_S, device_s=WORK_S, error_sds=0.0)
    assert local.server == known.server


def test_the_quantile_is_learned_from_enough_requests():
    known = Residuals()
    for error_sds in range(39):
        known = known.observe(error_sds=float(error_sds) / 10)
    assert known.safety_sds == NORMAL_SDS
    known = known.observe(error_sds=3.9)
    assert known.safety_sds == pytest.approx(3.7)  # 38 of 40 are no larger
    for _ in range(200):
        known = known.observe(error_sds=-1.0)
    assert len(known.errors_sds) == 128
    assert known.safety_sds == 1.0
    for _ in range(200):
        known = known.observe(error_sds=100.0)
    assert known.safety_sds == 6.0
