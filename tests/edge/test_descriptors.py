"""How many connections the limit on files leaves room for, and how often a lack of it is told."""

import asyncio
import errno
import logging

import pytest

from isthmus.edge import descriptors
from isthmus.edge.descriptors import connections_possible, telling_of_exhaustion

resource = pytest.importorskip("resource")


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "possible", "raised_to"),
    [
        (20_000, 20_000, 1024, 1024, 20_000),
        (256, 20_000, 1024, 1024, 1024 + 64),
        (256, resource.RLIM_INFINITY, 1024, 1024, 1024 + 64),
        (256, 512, 1024, 512 - 64, 512),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 1024, 1024, resource.RLIM_INFINITY),
        (32, 32, 1024, 1, 32),
    ],
)
def test_the_limit_is_raised_as_far_as_it_goes(
    monkeypatch, caplog, soft, hard, wanted, possible, raised_to
):
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    assert connections_possible(wanted) == possible
    assert limits[-1] == (raised_to, hard)
    assert ("ulimit -n" in caplog.text) == (possible < wanted)


def test_exhaustion_is_told_once_a_minute_and_other_exceptions_as_ever(monkeypatch, caplog):
    at_s = [1000.0]
    monkeypatch.setattr(descriptors, "now_s", lambda: at_s[0])
    caplog.set_level(logging.WARNING)
    loop = asyncio.new_event_loop()
    tell = telling_of_exhaustion()
    full = OSError(errno.EMFILE, "Too many open files")
    for _ in range(100):
        tell(loop, {"message": "m", "exception": full, "socket": None})
    assert caplog.text.count("connections have to wait: Too many open files") == 1
    at_s[0] += 61
    tell(loop, {"message": "m", "exception": full, "socket": None})
    assert caplog.text.count("connections have to wait") == 2
    tell(loop, {"message": "something else"})
    assert "something else" in caplog.text
    loop.close()
