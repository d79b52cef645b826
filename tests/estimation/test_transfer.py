import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import ConditionsError
from isthmus.estimation.transfer import INITIAL_WINDOW_BYTES, exchange_s
from isthmus.types.link import Link

LINK = Link(1e6, 4e6, 0.1)


def sent_by_rounds_s(rate, rtt_s, size, window):
    """Send byte by byte, in principle: the oracle. A window is sent, then its echo awaited."""
    now_s = left_s = 0.0
    left = size
    while left > 0:
        burst = left if window / rate >= rtt_s else min(left, window)
        left_s = now_s + burst / rate
        now_s = max(now_s + rtt_s, left_s)
        left -= burst
        window *= 2
    return left_s


@given(st.floats(1e4, 1e8), st.floats(1e-3, 1.0), st.floats(1.0, 1e7), st.floats(1e3, 1e6))
def test_an_upload_takes_as_long_as_sending_it_window_by_window(rate, rtt_s, size, window):
    link = Link(rate, 1e9, rtt_s)
    expected_s = sent_by_rounds_s(rate, rtt_s, size, window)
    assert size / rate + link.stall_s(size, window) == pytest.approx(expected_s)


def test_an_open_wide_connection_costs_a_round_trip_and_the_bytes():
    time_s = exchange_s(LINK, sent_bytes=100_000, received_bytes=40_000)
    assert time_s == pytest.approx(0.1 + 0.1 + 0.01)
    assert exchange_s(LINK, sent_bytes=0, received_bytes=0) == 0.1


@pytest.mark.parametrize(("tls_rounds", "rounds"), [(0, 1), (1, 2), (2, 3)])
def test_without_a_connection_there_are_more_round_trips(tls_rounds, rounds):
    sizes = {"sent_bytes": 1000, "received_bytes": 1000, "tls_rounds": tls_rounds}
    open_s = exchange_s(LINK, **sizes)
    assert exchange_s(LINK, is_connected=False, **sizes) == pytest.approx(open_s + rounds * 0.1)


def test_a_new_connection_starts_with_the_initial_window_whatever_is_said():
    sizes = {"sent_bytes": 100_000, "received_bytes": 100}
    new_s = exchange_s(LINK, is_connected=False, window_bytes=10**6, **sizes)
    small_s = exchange_s(LINK, window_bytes=INITIAL_WINDOW_BYTES, **sizes)
    assert new_s == pytest.approx(small_s + 0.1)


def test_a_large_reply_has_a_slow_start_of_its_own_at_the_servers_rate():
    wide = exchange_s(LINK, sent_bytes=0, received_bytes=10**5)
    narrow = exchange_s(LINK, sent_bytes=0, received_bytes=10**5, window_bytes=10**9)
    back_s = sent_by_rounds_s(4e6, 0.1, 1e5, INITIAL_WINDOW_BYTES)
    assert narrow == pytest.approx(0.1 + back_s)
    assert wide == pytest.approx(0.1 + 0.025)


@pytest.mark.parametrize("sizes", [(-1, 0), (0, -1), (math.nan, 0), (0, math.nan)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ConditionsError, match="no exchange"):
        exchange_s(LINK, sent_bytes=sizes[0], received_bytes=sizes[1])


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ConditionsError, match="window_bytes"):
        exchange_s(LINK, sent_bytes=1, received_bytes=1, window_bytes=0)
