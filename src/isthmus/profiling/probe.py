"""Look at a link with a few real requests. It sends nothing but a bundle's own photographs."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.errors import NoPlanError
from isthmus.estimation.link import LinkEstimate
from isthmus.runtime.plan_runner import Job, PlanRunner, StageTimes
from isthmus.types.plan import PlanRow

__all__ = ["probe_link"]

_SMALL_EXCHANGES = 3
_LARGE_EXCHANGES = 3
_ENOUGH_S = 0.1
"""A transfer this much longer than the round trip tells the rate; no further ones are made."""
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
    exchanges: list[tuple[int, int, float]] = []
    for _ in range(_SMALL_EXCHANGES):
        small = runner.transport.exchange("GET", "v2/health/ready", timeout_s=_TIMEOUT_S)
        exchanges.append((small.sent_bytes, _MESSAGE_BYTES, small.elapsed_s))
    round_trip_s = min(elapsed_s for _, _, elapsed_s in exchanges)
    for data in sorted(photographs, key=len)[:_LARGE_EXCHANGES]:
        run = runner.run(row, Job(data, StageTimes()), timeout_s=_TIMEOUT_S)
        exchanges.append((run.sent_bytes, run.received_bytes, run.network_s))
        if run.network_s > round_trip_s + _ENOUGH_S:
            break
    return LinkEstimate.from_probe(exchanges)
