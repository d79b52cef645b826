"""Look at a link with a few real requests. It sends nothing but a bundle's own photographs.

It does not decide when to look: at the start, and later where an estimate ``wants_probe``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from isthmus.errors import NoPlanError
from isthmus.estimation.link import LinkEstimate
from isthmus.estimation.samples import Sample
from isthmus.runtime.plan_runner import Job, PlanRunner, StageTimes
from isthmus.runtime.transport import HttpTransport
from isthmus.types.plan import PlanRow

__all__ = ["probe_again", "probe_link"]

_SMALL_EXCHANGES = 3
_LARGE_EXCHANGES = 3
_ENOUGH_S = 0.1
"""A transfer this much longer than the round trip tells the rate; no further ones are made."""
_TELLING_ROUND_TRIPS = 2.0
_TIMEOUT_S = 10.0
_MESSAGE_BYTES = 200


def probe_link(runner: PlanRunner, row: PlanRow, photographs: Sequence[bytes]) -> LinkEstimate:
    """Return an estimate of the link to the runner's server.

    A few small messages tell the round trip; then photographs are sent as they are, from the
    smallest on, until one took long enough to tell the rate.

    Args:
        runner: Carries out ``row``; must have a transport.
        row: A row of the family ``file``.
        photographs: Image files.

    Raises:
        RemoteError: If the server fails.
    """
    if runner.transport is None:
        raise NoPlanError("there is no server to probe")
    samples: list[Sample] = []
    for _ in range(_SMALL_EXCHANGES):
        small = runner.transport.exchange("GET", "v2/health/ready", timeout_s=_TIMEOUT_S)
        samples.append(Sample(small.sent_bytes, _MESSAGE_BYTES, small.elapsed_s))
    round_trip_s = min(sample.elapsed_s for sample in samples)
    for data in sorted(photographs, key=len)[:_LARGE_EXCHANGES]:
        samples.append(_send(runner, row, data, round_trip_s))
        if samples[-1].elapsed_s > round_trip_s + _ENOUGH_S:
            break
    return LinkEstimate.from_probe(samples)


def probe_again(
    runner: PlanRunner, row: PlanRow, photographs: Sequence[bytes], estimate: LinkEstimate
) -> LinkEstimate:
    """Return the estimate after one more request, of a size that tells the rate.

    That is the smallest photograph whose bytes are expected to take twice as long as the round
    trip, so that an error of the round trip hardly counts; the largest where none does.

    Args:
        runner: Carries out ``row``; must have a transport.
        row: A row of the family ``file``.
        photographs: Image files, at least one.
        estimate: What is known so far.

    Raises:
        RemoteError: If the server fails.
        NoPlanError: If there is no server.
    """
    wanted_bytes = _TELLING_ROUND_TRIPS * estimate.rtt_s * estimate.link.uplink_bytes_per_s
    by_size = sorted(photographs, key=len)
    data = next((one for one in by_size if len(one) >= wanted_bytes), by_size[-1])
    sample = _send(runner, row, data, estimate.rtt_s)
    return estimate.observe(
        sample.sent_bytes,
        sample.received_bytes,
        sample.elapsed_s,
        window_bytes=sample.window_bytes,
    )


def _send(runner: PlanRunner, row: PlanRow, data: bytes, round_trip_s: float) -> Sample:
    """Send one photograph and return what it took."""
    transport = runner.transport
    window_bytes = math.inf
    if isinstance(transport, HttpTransport):
        window_bytes = transport.window_bytes(round_trip_s)
    run = runner.run(row, Job(data, StageTimes()), timeout_s=_TIMEOUT_S)
    return Sample(run.sent_bytes, run.received_bytes, run.network_s, window_bytes)
