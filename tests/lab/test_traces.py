import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import LabError
from isthmus.lab.traces import (
    FAMILIES,
    Trace,
    generated_traces,
    read_trace,
    recorded_traces,
    traces_folder,
)


def trace(durations, rates):
    return Trace("t", "test", 0.01, np.array(durations, float), np.array(rates, float))


def test_a_transfer_takes_what_the_rates_under_it_allow():
    one = trace([1, 2, 1], [100, 0, 50])
    assert one.transfer_s(0.0, 50) == pytest.approx(0.5)
    assert one.transfer_s(0.5, 50) == pytest.approx(0.5)
    assert one.transfer_s(0.5, 75) == pytest.approx(0.5 + 2 + 0.5)
    assert one.transfer_s(1.5, 10) == pytest.approx(1.5 + 0.2)
    assert one.transfer_s(0.0, 150) == pytest.approx(4.0)
    assert one.transfer_s(0.0, 151) == np.inf
    assert one.transfer_s(4.0, 1) == np.inf
    assert one.transfer_s(1.5, 0) == 0.0
    assert [one.rate_at(at_s) for at_s in (0, 0.99, 1, 3, 9)] == [100, 100, 0, 50, 50]
    assert one.length_s == 4


steps = st.lists(
    st.tuples(st.floats(0.01, 5), st.one_of(st.just(0.0), st.floats(1, 1e6))), min_size=1
)


@given(steps, st.floats(0, 1), st.floats(0, 1e6))
def test_a_transfer_ends_when_the_sum_of_the_rates_is_its_size(made, begun, size):
    one = trace(*zip(*made, strict=True))
    begun_at_s = begun * one.length_s
    end_s = begun_at_s + one.transfer_s(begun_at_s, size)
    sent, at_s = 0.0, 0.0
    for duration_s, rate in made:  # the integral of the rate, step by step
        sent += rate * max(min(end_s, at_s + duration_s) - max(begun_at_s, at_s), 0.0)
        at_s += duration_s
    if np.isinf(end_s):
        assert sent <= size * (1 + 1e-6) + 1e-6
    else:
        assert sent == pytest.approx(size, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize(("durations", "rates"), [([], []), ([1], [1, 2]), ([0], [1]), ([1], [-1])])
def test_an_impossible_trace_is_refused(durations, rates):
    with pytest.raises(LabError):
        trace(durations, rates)


def test_recordings_are_read_in_both_forms(tmp_path):
    (tmp_path / "ghent-4g").mkdir()
    (tmp_path / "norway-3g").mkdir()
    listed = [
        {"duration_ms": 500, "bandwidth_kbps": 8000, "latency_ms": 20},
        {"duration_ms": 1000, "bandwidth_kbps": 16, "latency_ms": 20},
    ]
    (tmp_path / "ghent-4g" / "report_bus_0001.json").write_text(json.dumps(listed))
    (tmp_path / "norway-3g" / "norway_bus_10").write_text("0.0\t8\n2.0\t1.6\n3.5\t9\n")
    (tmp_path / "norway-3g" / "norway_bus_2").write_text("0.0\t8\n2.0\t1.6\n")
    found = recorded_traces(traces_folder(tmp_path))
    assert [one.name for one in found] == ["report_bus_0001", "norway_bus_2", "norway_bus_10"]
    assert [one.family for one in found] == ["ghent-4g", "norway-3g", "norway-3g"]
    assert found[0].duration_s.tolist() == [0.5, 1.0]
    assert found[0].bytes_per_s.tolist() == [1e6, 2e3]
    assert found[0].rtt_s == 0.02
    assert found[2].duration_s.tolist() == [2.0, 1.5]
    assert found[2].bytes_per_s == pytest.approx([1e6, 2e5])


@pytest.mark.parametrize("text", ["", "[]", "[1]", "{", "a b\nc d", "1 2 3\n4", "[{}]"])
def test_what_is_no_trace_is_named(tmp_path, text):
    (tmp_path / "one").write_text(text)
    with pytest.raises(LabError, match="one"):
        read_trace(tmp_path / "one")


def test_without_recordings_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_SHARED", str(tmp_path))
    assert traces_folder() is None
    with pytest.raises(LabError, match="no folder"):
        traces_folder(tmp_path)


def test_generated_traces_are_the_same_each_time_and_differ_from_one_another():
    first, again, other = generated_traces(), generated_traces(), generated_traces(1)
    assert {one.family for one in first} == set(FAMILIES)
    assert len({one.name for one in first}) == len(first)
    for one, same, different in zip(first, again, other, strict=True):
        assert np.array_equal(one.bytes_per_s, same.bytes_per_s)
        assert not np.array_equal(one.bytes_per_s, different.bytes_per_s)
        assert 1e4 < np.mean(one.bytes_per_s) < 1e8
        assert 0.01 <= one.rtt_s <= 0.1


def test_generated_families_are_what_their_names_say():
    spreads = {}
    for one in generated_traces():
        logs = np.log(np.maximum(one.bytes_per_s, 1.0))
        spreads.setdefault(one.family, []).append((np.std(logs), np.std(np.diff(logs))))
    wide, rough = ({f: np.mean(v, axis=0)[i] for f, v in spreads.items()} for i in (0, 1))
    assert wide["stationary"] < 0.25
    assert rough["steps"] < 0.4 * wide["steps"]  # seldom, but far
    assert wide["on-off"] > 0.8
    assert rough["gauss-markov"] < 0.7 * wide["gauss-markov"]
