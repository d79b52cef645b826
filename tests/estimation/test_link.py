import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import ConditionsError
from isthmus.estimation.link import LinkEstimate
from isthmus.types.link import Link


def elapsed_s(link, sent, received, noise=0.0):
    time_s = link.rtt_s + sent / link.uplink_bytes_per_s + received / link.downlink_bytes_per_s
    return time_s * (1 + noise)


links = st.builds(
    lambda rate, rtt_s: Link(10.0**rate, 10.0**rate, 10.0**rtt_s),
    st.floats(5.0, 8.0),
    st.floats(-2.7, -0.5),
)


def mixed_sizes(link, seed):
    """Yield 20 exchanges, one after the other shorter and longer than the round trip."""
    rng = np.random.default_rng(seed)
    for i in range(20):
        ratio = 10 ** rng.uniform(0.5, 1.5) if i % 2 else 10 ** rng.uniform(-2, -0.5)
        sent = max(int(link.rtt_s * link.uplink_bytes_per_s * ratio), 1)
        noise = rng.uniform(-0.05, 0.05)
        received = int(sent / 10)
        yield sent, received, elapsed_s(link, sent, received, noise)


@settings(max_examples=300)
@given(links, st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.integers(0, 10**6))
def test_it_converges_in_twenty_exchanges(link, rate_off, rtt_off, seed):
    rate = link.uplink_bytes_per_s * 10**rate_off  # a prior up to twice off
    estimate = LinkEstimate.from_link(Link(rate, rate, link.rtt_s * 10**rtt_off))
    for exchange in mixed_sizes(link, seed):
        estimate = estimate.observe(*exchange)
    found = estimate.link
    assert found.uplink_bytes_per_s == pytest.approx(link.uplink_bytes_per_s, rel=0.1)
    assert found.downlink_bytes_per_s == found.uplink_bytes_per_s
    assert found.rtt_s == pytest.approx(link.rtt_s, rel=0.1)
    assert 0.001 < found.uplink_sd_ratio < 1


@settings(max_examples=300)
@given(
    links,
    st.lists(
        st.tuples(
            st.integers(0, 10**9),
            st.integers(0, 10**9),
            st.one_of(st.floats(-1e300, 1e300), st.floats(-0.1, 10.0), st.just(0.0)),
        ),
        min_size=1,
        max_size=40,
    ),
)
def test_nothing_observed_makes_an_impossible_link(prior, exchanges):
    estimate = LinkEstimate.from_link(prior)
    for exchange in exchanges:
        estimate = estimate.observe(*exchange)
        found = estimate.link  # refuses NaN, infinity, and rates that are not positive
        assert found.rtt_s > 0
        assert estimate.predicted_s(1000, 1000) > 0


@settings(max_examples=200)
@given(links, links, st.integers(200, 10**6), st.integers(100, 10**4))
def test_one_size_only_is_still_predicted(prior, link, sent, received):
    estimate = LinkEstimate.from_link(prior)
    for i in range(80):
        estimate = estimate.observe(
            sent, received, elapsed_s(link, sent, received, 0.02 * (-1) ** i)
        )
    assert estimate.predicted_s(sent, received) == pytest.approx(
        elapsed_s(link, sent, received), rel=0.1
    )


PRIOR = Link(1e6, 1e6, 0.01)


def test_a_long_transfer_teaches_the_rate_and_a_short_one_the_round_trip():
    start = LinkEstimate.from_link(PRIOR)
    after = start.observe(100_000, 0, 0.21)
    assert after.rtt == start.rtt
    assert after.uplink.mean == pytest.approx((1e-6 + 2e-6) / 2)  # the first weighs a half
    after = start.observe(1_000, 0, 0.031)
    assert after.uplink == start.uplink
    assert after.rtt.mean == pytest.approx((0.01 + 0.03) / 2)


def test_weights_fall_to_a_quarter_and_the_variance_is_that_of_the_samples():
    estimate = LinkEstimate.from_link(PRIOR)
    mean, variance = 0.01, 0.0
    for i, weight in enumerate([1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 4]):
        sample = 0.02 + 0.001 * i
        estimate = estimate.observe(0, 0, sample)
        variance = (1 - weight) * (variance + weight * (sample - mean) ** 2)
        mean += weight * (sample - mean)
        assert estimate.rtt.mean == pytest.approx(mean)
        assert estimate.link.rtt_sd_s == pytest.approx(math.sqrt(variance))


def test_the_standard_deviation_finds_the_noise():
    rng = np.random.default_rng(3)
    link = Link(1e6, 1e6, 0.001)
    estimate = LinkEstimate.from_link(link)
    ratios = []
    for _ in range(400):
        estimate = estimate.observe(10**6, 0, elapsed_s(link, 10**6, 0, rng.normal() * 0.1))
        ratios.append(estimate.link.uplink_sd_ratio)
    assert np.mean(ratios[50:]) == pytest.approx(0.1, rel=0.2)


def test_the_downlink_follows_until_a_reply_is_large():
    link = Link(1e6, 1e7, 0.01)
    estimate = LinkEstimate.from_link(PRIOR)
    for _ in range(30):
        estimate = estimate.observe(10**5, 1000, elapsed_s(Link(5e5, 5e5, 0.01), 10**5, 1000))
    assert not estimate.is_downlink_known
    assert estimate.link.downlink_bytes_per_s == pytest.approx(5e5, rel=0.01)
    for _ in range(30):
        estimate = estimate.observe(1000, 10**6, elapsed_s(link, 1000, 10**6))
        estimate = estimate.observe(10**6, 1000, elapsed_s(link, 10**6, 1000))
    assert estimate.is_downlink_known
    assert estimate.link.uplink_bytes_per_s == pytest.approx(1e6, rel=0.05)
    assert estimate.link.downlink_bytes_per_s == pytest.approx(1e7, rel=0.05)


def test_a_prior_with_two_rates_keeps_them_apart():
    estimate = LinkEstimate.from_link(Link(1e6, 1e7, 0.001)).observe(10**6, 0, 2.001)
    assert estimate.link.downlink_bytes_per_s == pytest.approx(1e7)
    assert estimate.link.uplink_bytes_per_s == pytest.approx(1e6 / 1.5)


def test_what_it_learnt_goes_on_as_a_prior():
    link = LinkEstimate.from_link(Link(1e6, 2e6, 0.01, 0.1, 0.2, 0.003)).link
    expected = dataclasses.astuple(Link(1e6, 2e6, 0.01, 0.1, 0.2, 0.003))
    assert dataclasses.astuple(link) == pytest.approx(expected)


@settings(max_examples=200)
@given(links, st.integers(0, 10**6))
def test_a_probe_finds_the_link(link, seed):
    rng = np.random.default_rng(seed)
    product = link.rtt_s * link.uplink_bytes_per_s
    sizes = [max(int(product * share), 1) for share in (0.01, 0.02, 0.01, 0.01, 5.0, 20.0)]
    exchanges = [(n, 0, elapsed_s(link, n, 0, rng.uniform(-0.02, 0.02))) for n in sizes]
    found = LinkEstimate.from_probe(exchanges).link
    assert found.uplink_bytes_per_s == pytest.approx(link.uplink_bytes_per_s, rel=0.1)
    assert found.downlink_bytes_per_s == found.uplink_bytes_per_s
    assert found.rtt_s == pytest.approx(link.rtt_s, rel=0.05)
    assert found.uplink_sd_ratio == pytest.approx(0.1)


def test_noise_of_a_long_exchange_does_not_move_the_round_trip():
    exchanges = [(10, 0, 0.01), (50_000, 0, 0.06), (100_000, 0, 0.11), (400_000, 0, 0.41 * 1.1)]
    assert LinkEstimate.from_probe(exchanges).link.rtt_s == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(
    "exchanges",
    [
        [(1000, 100, 0.5)],
        [(1000, 100, 0.5)] * 3,
        [(100, 10, 0.02), (10**6, 100, 0.01)],  # the larger one was faster
        [(100, 10, 0.0001), (10**6, 100, 5.0), (2 * 10**6, 100, 50.0)],
        [(100, 10, -0.001), (100, 10, 0.001), (5000, 10, 0.002)],
        [(0, 1, 0.0)],
    ],
)
def test_a_poor_probe_gives_a_possible_link(exchanges):
    estimate = LinkEstimate.from_probe(exchanges)
    assert estimate.link.rtt_s > 0
    if len(set(exchanges)) == 1 and exchanges[0][2] > 0:
        sent, received, time_s = exchanges[0]
        assert estimate.predicted_s(sent, received) == pytest.approx(time_s)


@pytest.mark.parametrize("exchanges", [[], [(0, 0, 0.1)], [(10, 0, math.nan)], [(1, 1, math.inf)]])
def test_no_probe_at_all_is_refused(exchanges):
    with pytest.raises(ConditionsError):
        LinkEstimate.from_probe(exchanges)


@pytest.mark.parametrize(
    "exchange", [(1, 1, math.nan), (1, 1, math.inf), (-1, 1, 1.0), (1, -1, 1.0)]
)
def test_impossible_exchanges_are_refused(exchange):
    with pytest.raises(ConditionsError):
        LinkEstimate.from_link(PRIOR).observe(*exchange)
