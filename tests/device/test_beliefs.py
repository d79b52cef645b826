from dataclasses import replace

import pytest

from isthmus.device.beliefs import Beliefs
from isthmus.estimation.link import LinkEstimate
from isthmus.runtime.plan_runner import Run
from isthmus.types.conditions import Conditions
from isthmus.types.link import Link
from isthmus.types.plan import STAGES, Plan, PlanRow

LINK = Link(1e6, 1e6, 0.020)
NOW = Conditions(LINK, window_bytes=1e9)
LOCAL = {"decode": 0.010, "head": 0.050}
REMOTE = {"decode": 0.010, "encode": 0.002, "upload": 0.110, "server": 0.020, "download": 0.010}


def plan(stages_s, family="local"):
    stages = dict.fromkeys(STAGES, 0.0) | stages_s
    total_s = sum(stages.values())
    return Plan(PlanRow("net", family), 0, total_s, 0.010, 0.7, 0.0, 1.0, stages)


@pytest.fixture
def beliefs():
    return Beliefs(LinkEstimate.from_link(LINK))


def scaled(stages_s, factor, *stages):
    return {stage: s * (factor if stage in stages else 1) for stage, s in stages_s.items()}


def test_a_local_request_tells_of_the_device_alone(beliefs):
    link, server_seen_at_s = beliefs.link, beliefs.server_seen_at_s
    for _ in range(10):
        beliefs.learn(plan(LOCAL), NOW, scaled(LOCAL, 3, "decode", "head"), Run({}))
    assert beliefs.residuals.device.mean == pytest.approx(3)
    assert beliefs.residuals.server.mean == 1
    assert beliefs.link is link
    assert beliefs.server_seen_at_s == server_seen_at_s
    assert beliefs.device_seen_at_s > server_seen_at_s


def test_work_is_what_the_profile_says_however_slow_the_device_is_thought(beliefs):
    """Once three times slower is known, three times slower is no news."""
    slow = scaled(LOCAL, 3, "decode", "head")
    for _ in range(10):
        beliefs.learn(plan(LOCAL), NOW, slow, Run({}))
    now = beliefs.residuals.device.mean
    for _ in range(10):
        known = plan(scaled(LOCAL, now, "decode", "head"))
        beliefs.learn(known, replace(NOW, device_slowdown=now), slow, Run({}))
        now = beliefs.residuals.device.mean
    assert now == pytest.approx(3, rel=0.01)


def test_a_remote_request_tells_of_link_and_server(beliefs):
    run = Run({}, sent_bytes=100_000, received_bytes=1000, network_s=0.120)
    seconds = scaled(REMOTE, 3, "server")
    before = beliefs.link
    for _ in range(10):
        beliefs.learn(plan(REMOTE, "file"), NOW, seconds, run)
    assert beliefs.residuals.server.mean == pytest.approx(3)
    assert beliefs.residuals.device.mean == pytest.approx(1)
    assert beliefs.link is not before


def test_an_exchange_that_was_given_up_slows_the_link(beliefs):
    before = beliefs.estimate.predicted_s(100_000, 0)
    for _ in range(5):
        beliefs.learn_cancelled(plan(REMOTE, "file"), 100_000, 10 * before, 1e9)
    assert beliefs.estimate.predicted_s(100_000, 0) > 1.5 * before


def test_what_the_server_needs_is_not_held_against_the_link(beliefs):
    before = beliefs.estimate
    loading = plan({**REMOTE, "connect": 0.020, "wait": 2.0}, "file")
    beliefs.learn_cancelled(loading, 100_000, 2.1, 1e9)
    assert beliefs.estimate is before


def test_probes_tell_of_one_site(beliefs):
    for _ in range(10):
        beliefs.learn_server(0.020, 0.040)
    assert beliefs.residuals.server.mean == pytest.approx(2)
    for _ in range(10):
        beliefs.learn_device(0.020, 0.010)
    assert beliefs.residuals.device.mean == pytest.approx(0.5)
    assert beliefs.residuals.errors_sds == ()


def test_errors_are_counted_in_predicted_deviations(beliefs):
    beliefs.learn(plan(LOCAL), NOW, scaled(LOCAL, 1.2, "head"), Run({}))
    assert beliefs.residuals.errors_sds == pytest.approx((1.0,))
