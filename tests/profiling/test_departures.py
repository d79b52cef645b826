"""What is not as it was profiled is said by name."""

import pytest

from isthmus.profiling.departures import departures
from isthmus.runtime.session import ONNXRUNTIME_VERSION

HERE = {"onnxruntime": ONNXRUNTIME_VERSION}
PROFILE = {
    "device_threads": 1,
    "server_threads": 4,
    "libraries": {"device": HERE, "server": {"onnxruntime": "1.20"}},
}
SERVER = {"threads": 4, "libraries": {"onnxruntime": "1.20"}}


def test_as_profiled_there_is_nothing_to_say():
    assert departures(PROFILE, threads=1, server=SERVER) == ()
    assert departures(PROFILE, threads=1, server={}) == ()


@pytest.mark.parametrize(
    ("changed", "threads", "says"),
    [
        ({"threads": 2}, 1, "the server runs an inference with 2 threads, and it was profiled"),
        ({"threads": 1}, 1, "the server runs an inference with 1 thread, and it was profiled"),
        ({}, 3, "the device runs an inference with 3 threads, and it was profiled with 1"),
        ({"libraries": {"onnxruntime": "1.21"}}, 1, "onnxruntime 1.21, and it was profiled with"),
    ],
)
def test_each_difference_is_named(changed, threads, says):
    (said,) = departures(PROFILE, threads=threads, server={**SERVER, **changed})
    assert says in said
    assert "profile again" in said


def test_another_onnxruntime_here_is_named():
    before = {**PROFILE, "libraries": {"device": {"onnxruntime": "0.1"}}}
    (said,) = departures(before, threads=1, server=SERVER)
    assert f"the device runs onnxruntime {ONNXRUNTIME_VERSION}" in said


@pytest.mark.parametrize("libraries", [None, [], "x", {"device": 3}])
def test_a_record_or_a_server_that_does_not_tell_is_not_judged(libraries):
    told = {"libraries": libraries}
    assert departures(told, threads=5, server={"threads": 2, "libraries": libraries}) == ()
