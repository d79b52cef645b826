import math

import numpy as np
import pytest

from isthmus.lab.studies import link_scores as study
from isthmus.lab.traces import Trace, traces_folder


def trace(rates, rtt_s=0.05, step_s=0.25):
    rates = np.array(rates, float)
    return Trace("made", "test", rtt_s, np.full(len(rates), step_s), rates)


def test_requests_take_exactly_what_the_trace_says():
    one = trace([1e6] * 400)
    requests = study.requests_over(one)
    assert len(requests) > 50
    for request in requests:
        assert 15_000 <= request.sent_bytes <= 1_000_000
        assert request.elapsed_s == pytest.approx(0.05 + request.total_bytes / 1e6)
        assert request.rate_bytes_per_s == 1e6
    assert study.requests_over(one) == requests


def test_on_a_link_that_never_changes_all_are_right_in_the_end():
    one = trace([1e6] * 1200)
    for name, make in study.ESTIMATORS.items():
        estimator = make(one)
        for request in study.requests_over(one):
            expected_s, _ = estimator.predict(request)
            estimator.observe(request)
        assert expected_s == pytest.approx(request.elapsed_s, rel=0.01), name


def test_baselines_are_what_their_names_say():
    one = trace([1e6] * 10)
    rates = [1e6, 2e6, 4e6]
    expected = {
        "last_sample": 4e6,
        "ewma": 1e6 + 0.25 * 1e6 + 0.25 * (4e6 - 1.25e6),
        "harmonic_mean": 3 / (1 / 1e6 + 1 / 2e6 + 1 / 4e6),
    }
    for name, rate in expected.items():
        estimator = study.ESTIMATORS[name](one)
        for given in rates:
            estimator.observe(study.Request(99_000, 0.05 + 1e5 / given, math.nan))
        predicted_s, _ = estimator.predict(study.Request(99_000, math.nan, math.nan))
        assert predicted_s == pytest.approx(0.05 + 1e5 / rate)


def test_no_estimator_looks_at_the_answer():
    one = trace(np.random.default_rng(0).uniform(1e6, 5e6, 400))
    requests = study.requests_over(one)
    for make in study.ESTIMATORS.values():
        estimator = make(one)
        estimator.observe(requests[0])
        blind = study.Request(requests[1].sent_bytes, math.nan, requests[1].rate_bytes_per_s)
        assert estimator.predict(blind) == pytest.approx(
            estimator.predict(requests[1]), nan_ok=True
        )


def test_the_record_says_what_was_scored(tmp_path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_SHARED", str(tmp_path))
    record = study.link_scores()
    assert record["recordings"] == "none found"
    assert record["half"] == "held out"
    assert set(record["overall"]) == set(study.ESTIMATORS)
    assert set(record["families"]) == set(record["requests"])
    assert record["overall"]["oracle"]["interval_coverage"] is None
    ours = record["overall"]["isthmus"]
    assert 0.85 <= ours["interval_coverage"] <= 0.95
    other = study.link_scores(held_out=False)
    assert other["overall"] != record["overall"]


def test_small_requests_on_a_steady_link_do_not_spoil_what_is_known_of_large_ones():
    for held_out in (False, True):
        record = study.link_scores(held_out=held_out)
        assert record["requests"][study.MOSTLY_SMALL] > 200
        scores = record["families"][study.MOSTLY_SMALL]
        ours, best = scores["isthmus"], scores["oracle"]  # which knows the mean rate, not the noise
        assert ours["median"] < 1.1 * best["median"]
        assert ours["p95"] < 1.15 * best["p95"]
        assert ours["p95"] < scores["last_sample"]["p95"]


def test_most_of_the_mostly_small_requests_take_hardly_longer_than_nothing():
    for trace, requests in study.mostly_small().items():
        floor_s = [one.elapsed_s / trace.rtt_s for one in requests if one.sent_bytes < 5e5]
        assert 0.9 < len(floor_s) / len(requests) < 0.98
        assert 1 < np.median(floor_s) < 1.3
        whole_s = [
            (one.elapsed_s - trace.rtt_s) * trace.rate_at(0.0) / one.total_bytes
            for one in requests
            if one.sent_bytes >= 5e5
        ]
        assert np.std(whole_s) == pytest.approx(0.1, rel=0.35)


@pytest.mark.skipif(traces_folder() is None, reason="recorded traces are not here (../shared)")
def test_on_recorded_links_it_is_better_than_each_usual_estimator():
    scores = study.link_scores()["overall"]
    ours = scores["isthmus"]
    for name in ("last_sample", "ewma", "harmonic_mean"):
        assert ours["median"] < scores[name]["median"]
        assert ours["p95"] < scores[name]["p95"]
    assert 0.85 <= ours["interval_coverage"] <= 0.95
