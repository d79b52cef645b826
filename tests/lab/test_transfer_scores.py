"""The transfer study: its scores from planted exchanges, and a few exchanges on a real bed."""

from __future__ import annotations

import json
import math
import signal

import pytest

from isthmus.lab.real_bed import missing
from isthmus.lab.studies import transfer_ends
from isthmus.lab.studies.transfer_ends import Transfer
from isthmus.lab.studies.transfer_scores import TransferScores, score_transfers


def test_scores_are_computed_from_the_exchanges():
    bytes_per_s = 8e6 / 8 * 1448 / 1500
    up_s, down_s = 40_000 / bytes_per_s, 1_000 / bytes_per_s
    took_s = up_s + down_s + 0.3
    warm = Transfer("warm", 40_000, 1_000, math.inf, took_s, took_s * 1.1)
    new = Transfer("new", 40_000, 1_000, 14_480, took_s, took_s)
    record = TransferScores({(8e6, 0.1): (warm, new)}, dropped=3).record()
    by_connection = record["by_connection"]
    assert by_connection["warm"]["bytes_over_rate"]["median"] == pytest.approx(0.2 / took_s)
    assert by_connection["new"]["bytes_over_rate"]["median"] == pytest.approx(0.1 / took_s)
    assert by_connection["new"]["bytes_over_rate_only"]["p95"] == pytest.approx(0.3 / took_s)
    assert record["rounds"]["median"] == pytest.approx(0.05)
    assert by_connection["new"]["rounds"] == {"median": 0, "p95": 0}
    assert (record["exchanges"], record["dropped_packets"]) == (2, 3)
    assert record["by_link"][0]["rtt_s"] == 0.1
    assert "idle" not in by_connection
    json.dumps(record["by_link"], allow_nan=False)


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_rounds_know_a_real_connection_better_than_bytes_do():
    scores = score_transfers(
        rates_bits_per_s=(32e6,), round_trips_s=(0.04,), sizes_bytes=(80_000,), repeats=1
    )
    (found,) = scores.transfers.values()
    by_state = {made.state: made for made in found}
    assert set(by_state) == {"new", "idle", "warm"}
    assert by_state["new"].window_bytes == 14_480
    assert by_state["warm"].window_bytes > 14_480
    record = scores.record()
    # It cannot be faster than its rounds are, so the more of them are counted the better. Whether
    # 0.7 s are idle enough for more rounds, a busy machine decides.
    errors = {state: record["by_connection"][state] for state in ("new", "idle")}
    assert errors["new"]["rounds"]["median"] < errors["new"]["bytes_over_rate"]["median"]
    assert errors["idle"]["rounds"]["median"] <= errors["idle"]["bytes_over_rate"]["median"]


def test_ctrl_c_is_for_the_study_and_not_for_its_ends(monkeypatch):
    """It ends them; before, each printed where it had been."""
    seen = []
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(
        transfer_ends, "_serve", lambda _: seen.append(signal.getsignal(signal.SIGINT))
    )
    try:
        transfer_ends._main("server", "10.0.0.2")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert seen == [signal.SIG_IGN]
