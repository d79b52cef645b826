"""Measure what a unit takes on this server, between the requests of others.

Each repetition is a job of its own in the worker's queue, so nobody waits for more than one. It
makes no profile of the samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.edge.unit import Unit
from isthmus.edge.worker import Worker
from isthmus.errors import ProtocolError
from isthmus.runtime.clock import now_s

__all__ = ["measure"]

_MOST_REPETITIONS = 1000
_LONGEST_BUDGET_S = 60.0


async def measure(worker: Worker, unit: Unit, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Run a unit repeatedly with made-up inputs.

    Args:
        worker: Runs the repetitions.
        unit: What to measure.
        wanted: ``{"repetitions": n, "budget_s": x}``; it ends with whichever is reached first,
            but not before one repetition.

    Returns:
        ``samples_s`` (decoding and network, without waiting), ``load_s`` and ``resident_bytes``.

    Raises:
        ProtocolError: If the wanted numbers are missing or out of bounds.
        BusyError: If the queue is full.
    """
    repetitions = _bounded(wanted, "repetitions", _MOST_REPETITIONS)
    budget_s = _bounded(wanted, "budget_s", _LONGEST_BUDGET_S)
    run, _ = await worker.run(unit.sample_run)

    def timed_run() -> float:
        started_at_s = now_s()
        run()
        return now_s() - started_at_s

    samples_s: list[float] = []
    started_at_s = now_s()
    while not samples_s or (len(samples_s) < repetitions and now_s() - started_at_s < budget_s):
        sample_s, _ = await worker.run(timed_run)
        samples_s.append(sample_s)
    return {
        "samples_s": samples_s,
        "load_s": unit.load_s,
        "resident_bytes": unit.resident_bytes,
    }


def _bounded(wanted: Mapping[str, Any], name: str, most: float) -> float:
    value = wanted.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most:
        return value
    raise ProtocolError(f"{name} must be a number above 0 and at most {most}, got {value!r}")
