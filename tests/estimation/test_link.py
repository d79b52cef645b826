import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import ConditionsError
from isthmus.estimation.link import INTERVAL_SDS, LinkEstimate
from isthmus.estimation.samples import Sample
from isthmus.estimation.transfer import exchange_s
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


def test_it_converges_in_twenty_exchanges():
    rng = np.random.default_rng(5)
    rate_errors, rtt_errors = [], []
    for seed in range(300):
        rate, rtt_s = 10 ** rng.uniform(5, 8), 10 ** rng.uniform(-2.7, -0.5)
        wrong = 10 ** rng.uniform(-0.3, 0.3)  # a prior up to twice off
        estimate = LinkEstimate.from_link(
            Link(rate * wrong, rate * wrong, rtt_s * 10 ** rng.uniform(-0.3, 0.3))
        )
        for exchange in mixed_sizes(Link(rate, rate, rtt_s), seed):
            estimate = estimate.observe(*exchange)
        found = estimate.link
        assert found.downlink_bytes_per_s == found.uplink_bytes_per_s
        assert 0.001 < found.uplink_sd_ratio < 1
        rate_errors.append(abs(found.uplink_bytes_per_s / rate - 1))
        rtt_errors.append(abs(found.rtt_s / rtt_s - 1))
    assert np.quantile(rate_errors, 0.95) < 0.07
    assert np.quantile(rtt_errors, 0.95) < 0.04
    assert max(rate_errors + rtt_errors) < 0.3


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


KNOWN = Link(1e6, 1e6, 0.01, 0.1, 0.1, 0.001)


def settled(link, sizes=(1_000, 400_000), noise=0.02, count=60, seed=0):
    """Return an estimate that has long seen nothing but this link."""
    rng = np.random.default_rng(seed)
    estimate = LinkEstimate.from_link(link)
    for i in range(count):
        size = sizes[i % len(sizes)]
        estimate = estimate.observe(size, 0, elapsed_s(link, size, 0, rng.normal() * noise))
    return estimate


def test_a_long_transfer_teaches_the_rate_and_a_short_one_the_round_trip():
    start = LinkEstimate.from_link(KNOWN)
    after = start.observe(400_000, 0, 0.41 + 0.1)
    assert after.rtt_s == pytest.approx(0.01, rel=0.01)
    assert after.uplink.last_bytes_per_s == pytest.approx(4e5 / 0.5, rel=0.03)
    after = start.observe(100, 0, 0.0121)
    assert after.rtt_s == pytest.approx(0.012, rel=0.06)
    assert after.link.uplink_bytes_per_s == pytest.approx(1e6, rel=0.01)


def test_an_uncertain_rate_and_round_trip_err_against_each_other():
    estimate = LinkEstimate.from_link(Link(1e6, 1e6, 0.05))
    for _ in range(5):
        estimate = estimate.observe(50_000, 0, 0.1)
    assert -1 <= estimate.link.uplink_rtt_correlation < -0.1


def test_the_standard_deviation_finds_the_noise():
    rng = np.random.default_rng(3)
    link = Link(1e6, 1e6, 0.001)
    estimate = LinkEstimate.from_link(link)
    ratios, inside = [], []
    for _ in range(400):
        elapsed = elapsed_s(link, 10**6, 0, rng.normal() * 0.1)
        now = estimate.link
        off_s = elapsed - estimate.predicted_s(10**6, 0)
        inside.append(abs(off_s) < INTERVAL_SDS * now.uplink_sd_ratio)  # of one second
        estimate = estimate.observe(10**6, 0, elapsed)
        ratios.append(now.uplink_sd_ratio)
    assert 0.09 < np.mean(ratios[50:]) < 0.14  # more than the noise: the mean is not known either
    assert 0.85 < np.mean(inside) < 0.95


def test_bounds_widen_where_durations_are_not_as_normal_ones():
    rng = np.random.default_rng(3)
    estimate, inside = LinkEstimate.from_link(KNOWN), []
    for _ in range(600):
        link = estimate.link
        elapsed = 0.01 + 1 / (rng.choice([1.0, 0.3], p=[0.85, 0.15]) * 1e6 / 4e5)
        bound_s = INTERVAL_SDS * 4e5 / link.uplink_bytes_per_s * link.uplink_sd_ratio
        inside.append(abs(elapsed - estimate.predicted_s(400_000, 0)) < bound_s)
        estimate = estimate.observe(400_000, 0, elapsed)
    assert 0.86 < np.mean(inside[50:]) < 0.94


@pytest.mark.parametrize("factor", [3.0, 1 / 3.0])
def test_after_a_step_of_the_rate_four_exchanges_are_enough(factor):
    estimate = settled(KNOWN)
    link = Link(1e6 * factor, 1e6 * factor, 0.01)
    rng = np.random.default_rng(1)
    for _ in range(4):
        estimate = estimate.observe(400_000, 0, elapsed_s(link, 400_000, 0, rng.normal() * 0.02))
    assert estimate.predicted_s(400_000, 0) == pytest.approx(elapsed_s(link, 400_000, 0), rel=0.05)
    assert estimate.rtt_s == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("factor", [3.0, 1 / 3.0])
def test_after_a_step_of_the_round_trip_ten_exchanges_are_enough(factor):
    estimate = settled(KNOWN)
    link = Link(1e6, 1e6, 0.01 * factor)
    rng = np.random.default_rng(1)
    for i in range(10):
        size = (1_000, 400_000)[i % 2]
        estimate = estimate.observe(size, 0, elapsed_s(link, size, 0, rng.normal() * 0.02))
    assert estimate.rtt_s == pytest.approx(0.01 * factor, rel=0.1)
    assert estimate.link.uplink_bytes_per_s == pytest.approx(1e6, rel=0.1)


NOISE = 0.1
SMALL_BYTES = 47_000


def noisy(link, sizes, rng):
    """Yield one exchange a size, with noise of its own on a byte's time and on the round trip."""
    for size in sizes:
        per_byte, per_message = np.exp(rng.normal(0.0, NOISE, 2))
        yield size, 0, link.rtt_s * per_message + size / link.uplink_bytes_per_s * per_byte


def mostly_small(rng, count, share=0.05):
    """Return sizes of which few take longer than a round trip of a tenth of a second."""
    large = np.exp(rng.uniform(np.log(5e5), np.log(1e7), count))
    return np.where(rng.random(count) < share, large, SMALL_BYTES).astype(int).tolist()


STEADY = [Link(2.57e6, 2.57e6, 0.105), Link(1.05e7, 1.05e7, 0.099)]


@pytest.mark.parametrize("link", STEADY)
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_noise_does_not_carry_the_rate_of_a_steady_link_away(link, share):
    errors = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        estimate = LinkEstimate.from_probe(
            list(noisy(link, [SMALL_BYTES] * 60 + mostly_small(rng, 60, share=1.0), rng))
        )
        for number, exchange in enumerate(noisy(link, mostly_small(rng, 250, share), rng)):
            estimate = estimate.observe(*exchange)
            if number >= 50:
                errors.append(estimate.link.uplink_bytes_per_s / link.uplink_bytes_per_s - 1)
    assert abs(np.mean(errors)) < 0.02
    assert np.quantile(np.abs(errors), 0.95) < 0.06


@pytest.mark.parametrize("link", STEADY)
def test_jitter_is_not_taken_for_a_rate_that_varies(link):
    errors, spreads = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        wrong = np.exp(rng.normal(0.0, 0.3, 2))  # a prior that is off in both
        rate = link.uplink_bytes_per_s * wrong[0]
        estimate = LinkEstimate.from_link(Link(rate, rate, link.rtt_s * wrong[1]))
        for exchange in noisy(link, mostly_small(rng, 400), rng):
            estimate = estimate.observe(*exchange)
        errors.append(abs(estimate.link.uplink_bytes_per_s / link.uplink_bytes_per_s - 1))
        spreads.append(estimate.link.uplink_sd_ratio)
    assert np.quantile(errors, 0.9) < 0.12
    assert np.median(spreads) < 0.2


def test_one_outlier_is_no_change():
    calm = settled(KNOWN)
    hit = calm.observe(400_000, 0, 40.0)
    assert hit.uplink.count > calm.uplink.count  # not begun anew
    assert hit.uplink.long.bytes_per_s > 0.9e6
    assert hit.rtt_s == pytest.approx(calm.rtt_s, rel=0.05)
    for _ in range(3):
        hit = hit.observe(400_000, 0, 0.41)
    assert hit.predicted_s(400_000, 0) == pytest.approx(0.41, rel=0.05)


def test_one_slow_small_message_does_not_move_the_round_trip_far():
    calm = settled(KNOWN)
    assert calm.observe(1_000, 0, 2.0).rtt_s == pytest.approx(0.01, rel=0.15)


def test_no_round_trip_is_longer_than_an_exchange():
    estimate = LinkEstimate.from_link(Link(1e6, 1e6, 1.0)).observe(100, 0, 0.02)
    assert estimate.rtt_s < 0.045


def test_slow_start_is_not_taken_for_a_slow_link():
    link = Link(1e6, 1e6, 0.1)
    fooled = wise = LinkEstimate.from_link(Link(1e6, 1e6, 0.1, 0.1, 0.1, 0.01))
    for size in [30_000, 60_000, 100_000, 200_000] * 5:
        took_s = exchange_s(link, sent_bytes=size, received_bytes=0, window_bytes=14_480)
        wise = wise.observe(size, 0, took_s, window_bytes=14_480)
        fooled = fooled.observe(size, 0, took_s)
        assert wise.predicted_s(size, 0, window_bytes=14_480) == pytest.approx(took_s, rel=0.02)
    assert wise.link.uplink_bytes_per_s == pytest.approx(1e6, rel=0.02)
    assert wise.rtt_s == pytest.approx(0.1, rel=0.02)
    assert fooled.predicted_s(100_000, 0) > 1.3 * wise.predicted_s(100_000, 0)


def test_a_cancelled_exchange_that_was_expected_to_last_says_nothing():
    calm = settled(KNOWN)
    assert calm.observe_cancelled(400_000, 0.2) is calm


@settings(max_examples=200)
@given(links, st.integers(0, 10**7), st.floats(1e-4, 100.0), st.integers(0, 30), st.integers(1, 4))
def test_a_cancelled_exchange_never_makes_the_link_faster(link, sent, waited_s, seen, times):
    estimate = settled(link, sizes=(1_000, 30_000, 1_000_000), count=seen)
    for _ in range(times):
        after = estimate.observe_cancelled(sent, waited_s)
        assert after.link.uplink_bytes_per_s <= estimate.link.uplink_bytes_per_s * (1 + 1e-12)
        assert after.rtt_s >= estimate.rtt_s
        assert after.link.uplink_sd_ratio >= estimate.link.uplink_sd_ratio
        estimate = after


def test_cancelled_exchanges_teach_what_they_can():
    estimate = settled(KNOWN)
    for _ in range(4):  # a tenth of the rate now: 4.01 s, and never waited for
        estimate = estimate.observe_cancelled(400_000, 1.5)
    assert estimate.predicted_s(400_000, 0) > 1.2


def test_probes_are_wanted_at_the_start_after_a_change_and_when_nothing_is_told():
    estimate = LinkEstimate.from_link(KNOWN)
    assert estimate.wants_probe
    for _ in range(3):
        estimate = estimate.observe(400_000, 0, 0.41)
    assert not estimate.wants_probe
    for _ in range(39):
        estimate = estimate.observe(200, 0, 0.0102)
    assert not estimate.wants_probe
    estimate = estimate.observe(200, 0, 0.0102)
    assert estimate.wants_probe
    estimate = estimate.observe(400_000, 0, 0.41)
    assert not estimate.wants_probe
    changed = [estimate := estimate.observe(400_000, 0, 2.0) for _ in range(5)]
    assert any(one.wants_probe for one in changed)


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
    assert estimate.link.uplink_bytes_per_s == pytest.approx(1e6 / 1.5, rel=0.1)


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
    assert found.uplink_sd_ratio == pytest.approx(0.2)


def test_a_probe_in_slow_start_finds_the_link():
    link = Link(1e6, 1e6, 0.1)
    samples = [
        Sample(
            size,
            200,
            exchange_s(link, sent_bytes=size, received_bytes=200, window_bytes=14_480),
            14_480,
        )
        for size in (200, 200, 200, 60_000, 150_000)
    ]
    found = LinkEstimate.from_probe(samples).link
    assert found.rtt_s == pytest.approx(0.1, rel=0.02)
    assert found.uplink_bytes_per_s == pytest.approx(1e6, rel=0.05)


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


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ConditionsError, match="window_bytes"):
        LinkEstimate.from_link(PRIOR).observe(1, 1, 1.0, window_bytes=0)
    with pytest.raises(ConditionsError, match="window_bytes"):
        LinkEstimate.from_link(PRIOR).observe_cancelled(1, 1.0, window_bytes=0)


def test_a_suspected_change_wants_a_probe_once_messages_do_not_tell():
    estimate = settled(KNOWN)
    assert not estimate.observe(200, 0, 0.2).wants_probe
    odd = estimate.observe(400_000, 0, 2.0)
    assert not odd.wants_probe  # the next one may tell
    assert odd.observe(200, 0, 0.0102).wants_probe
    calm = odd.observe(400_000, 0, 0.41).observe(200, 0, 0.0102)
    assert not calm.wants_probe


SLOW, FASTER = 3.9e-7, 9.5e-8  # seconds per byte
PROBE_BYTES = 1_005_000


def rate_errors_after_a_step(before, factor, *, larges, is_probing, noise=0.0, seed=1):
    """Return how far the rate is off before each large message, nineteen small ones between two."""
    rng = np.random.default_rng(seed)

    def taken_s(size, s_per_byte):
        of_byte, of_message = rng.lognormal(0.0, noise, 2)
        return float(of_byte * s_per_byte * size + of_message * 0.105)

    sizes = [*[SMALL_BYTES] * 100, *range(100_000, 10_000_000, 100_000)]
    estimate = LinkEstimate.from_probe([(size, 0, taken_s(size, before)) for size in sizes])
    now, errors = factor * before, []
    for large in np.exp(rng.uniform(np.log(5e5), np.log(1e7), larges)).astype(int).tolist():
        for size in (*[SMALL_BYTES] * 19, large):
            if size == large:
                errors.append(estimate.link.uplink_bytes_per_s * now - 1)
            estimate = estimate.observe(size, 0, taken_s(size, now))
            if is_probing and estimate.wants_probe:
                estimate = estimate.observe(PROBE_BYTES, 0, taken_s(PROBE_BYTES, now))
    return np.abs(errors)


@pytest.mark.parametrize("factor", [3.0, 1 / 3.0])
@pytest.mark.parametrize("before", [SLOW, FASTER])
def test_after_a_step_between_small_messages_probes_find_the_rate_at_once(before, factor):
    """Small messages had made the round trip longer by what the new rate costs them."""
    errors = rate_errors_after_a_step(before, factor, larges=4, is_probing=True)
    assert errors[0] > 0.6
    assert (errors[2:] < 0.12).all()


@pytest.mark.parametrize("factor", [3.0, 1 / 3.0])
def test_after_a_step_between_small_messages_three_large_ones_find_the_rate(factor):
    errors = rate_errors_after_a_step(SLOW, factor, larges=6, is_probing=False)
    assert (errors[3:] < 0.12).all()


def test_after_a_step_noise_does_not_keep_the_rate_away():
    errors = [
        rate_errors_after_a_step(SLOW, 3.0, larges=4, is_probing=True, noise=0.1, seed=seed)
        for seed in range(24)
    ]
    assert np.median(errors, axis=0)[2:].max() < 0.25


def test_outliers_with_small_messages_between_are_no_first_ones():
    estimate = settled(KNOWN).observe(400_000, 0, 40.0)
    for _ in range(3):
        estimate = estimate.observe(1_000, 0, 0.011)
    assert estimate.outlier == 1
    assert estimate.observe(400_000, 0, 0.41).outlier == 0
    assert estimate.observe(400_000, 0, 40.0).uplink.last_bytes_per_s < 2e4


def test_a_step_at_once_after_the_rate_was_confirmed_leaves_the_round_trip():
    link = Link(2.5e6, 2.5e6, 0.105)
    estimate = settled(link, sizes=(SMALL_BYTES, 4_000_000))
    slower = Link(8e5, 8e5, 0.105)
    for _ in range(3):
        estimate = estimate.observe(4_000_000, 0, elapsed_s(slower, 4_000_000, 0))
    assert estimate.link.uplink_bytes_per_s == pytest.approx(8e5, rel=0.05)
    assert estimate.rtt_s == pytest.approx(0.105, rel=0.03)
