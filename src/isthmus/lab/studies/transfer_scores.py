"""How well the time of a transfer is known beforehand: bytes over the rate, and TCP's rounds.

Exchanges of several sizes, over connections that are new, idle or warm, are made by the project's
own transport across a real bed, and compared with what was predicted from the bed's true limits.
No link is estimated here, no network runs, and nothing is printed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, get_args

import numpy as np

from isthmus.errors import LabError
from isthmus.lab.real_bed import RealBed
from isthmus.lab.studies.transfer_ends import READY, State, Transfer, device_command, server_command
from isthmus.types.link import Link
from isthmus.types.progress import SILENT, Progress

__all__ = ["RATES_BITS_PER_S", "ROUND_TRIPS_S", "SIZES_BYTES", "TransferScores", "score_transfers"]

RATES_BITS_PER_S = (4e6, 16e6, 64e6)
ROUND_TRIPS_S = (0.010, 0.030, 0.080)
SIZES_BYTES = (15_000, 40_000, 100_000, 250_000, 600_000)
"""Fixed before the first run, so that nothing here was tuned until rounds won."""

_PAYLOAD_RATIO = 1448 / 1500
"""Share of a full packet that is TCP's data; both predictions know it."""
_SEED = 20261121


@dataclass(frozen=True)
class TransferScores:
    """All exchanges by link.

    Attributes:
        transfers: The exchanges over each link, as (bits per s, round trip in s).
        dropped: Packets that the queues dropped.
    """

    transfers: dict[tuple[float, float], tuple[Transfer, ...]]
    dropped: int

    def record(self) -> dict[str, Any]:
        """Return the scores as JSON values.

        ``bytes_over_rate`` is one round trip, the bytes of both directions over their rates, and
        one more round trip without a connection; ``bytes_over_rate_only`` is without the round
        trips, as the published systems have it; ``rounds`` is ``estimation.transfer.exchange_s``.
        Errors are ``|predicted - observed| / observed``.
        """
        every = [(link, t) for link, found in self.transfers.items() for t in found]
        return {
            **_errors(every),
            "by_connection": {
                state: _errors([(link, t) for link, t in every if t.state == state])
                for state in get_args(State)
                if any(t.state == state for _, t in every)
            },
            "by_link": [
                {"bits_per_s": link[0], "rtt_s": link[1], **_errors([(link, t) for t in found])}
                for link, found in self.transfers.items()
            ],
            "exchanges": len(every),
            "dropped_packets": self.dropped,
            "transfers": [
                {"bits_per_s": link[0], "rtt_s": link[1], **asdict(t)} for link, t in every
            ],
        }


def score_transfers(
    *,
    rates_bits_per_s: Sequence[float] = RATES_BITS_PER_S,
    round_trips_s: Sequence[float] = ROUND_TRIPS_S,
    sizes_bytes: Sequence[int] = SIZES_BYTES,
    repeats: int = 2,
    progress: Progress = SILENT,
) -> TransferScores:
    """Make exchanges over every link of a real bed; about two minutes with the defaults.

    Args:
        rates_bits_per_s: Rates of the links, the same in both directions, over whole packets.
        round_trips_s: Their round trips.
        sizes_bytes: Bodies of the requests.
        repeats: How often each size is sent in each state of the connection.
        progress: Told about each exchange.

    Raises:
        LabError: If a real bed is impossible here, or one of its processes fails.
    """
    links = list(product(rates_bits_per_s, round_trips_s))
    steps = list(product(get_args(State), sizes_bytes)) * repeats
    progress.begin("exchanges", len(links) * len(steps))
    rng = np.random.default_rng(_SEED)
    found: dict[tuple[float, float], tuple[Transfer, ...]] = {}
    with RealBed(uplink_bits_per_s=links[0][0], rtt_s=links[0][1]) as bed:
        server = bed.start("server", server_command(bed.server_address), stdout=subprocess.PIPE)
        if server.stdout is None or server.stdout.readline() != READY:
            raise LabError("the server of the transfer study did not start")
        with server.stdout:
            for link in links:
                bed.set_link(uplink_bits_per_s=link[0], rtt_s=link[1])
                order = [steps[i] for i in rng.permutation(len(steps))]
                found[link] = tuple(_transfers(bed, link, order, progress))
        counts = bed.counts()
    return TransferScores(found, counts.uplink_dropped + counts.downlink_dropped)


def _transfers(
    bed: RealBed, link: tuple[float, float], steps: list[tuple[State, int]], progress: Progress
) -> Iterable[Transfer]:
    command = device_command(bed.server_address, _true_link(link), steps)
    device = bed.start("device", command, stdout=subprocess.PIPE)
    assert device.stdout is not None
    with device.stdout as lines:
        for line in lines:
            made = Transfer(**json.loads(line))
            progress.advance(f"{link[0] / 1e6:g} Mbit/s {link[1] * 1e3:g} ms {made.state}")
            yield made
    if device.wait():
        raise LabError(f"the device of the transfer study ended with status {device.returncode}")


def _true_link(link: tuple[float, float]) -> Link:
    """Return the link as its users' bytes see it."""
    bits_per_s, rtt_s = link
    bytes_per_s = bits_per_s / 8 * _PAYLOAD_RATIO
    return Link(bytes_per_s, bytes_per_s, rtt_s)


def _errors(
    every: Sequence[tuple[tuple[float, float], Transfer]],
) -> dict[str, dict[str, float]]:
    """Return median and 95th percentile of the relative errors of each prediction."""
    errors: dict[str, list[float]] = {
        "bytes_over_rate": [],
        "bytes_over_rate_only": [],
        "rounds": [],
    }
    for link, made in every:
        true = _true_link(link)
        bytes_s = (
            made.sent_bytes / true.uplink_bytes_per_s
            + made.received_bytes / true.downlink_bytes_per_s
        )
        trips = 2 if made.state == "new" else 1
        predicted_s = {
            "bytes_over_rate": bytes_s + trips * true.rtt_s,
            "bytes_over_rate_only": bytes_s,
            "rounds": made.rounds_s,
        }
        for name, seconds in predicted_s.items():
            errors[name].append(abs(seconds - made.elapsed_s) / made.elapsed_s)
    return {
        name: {
            "median": float(np.median(values)),
            "p95": float(np.quantile(values, 0.95)),
        }
        for name, values in errors.items()
    }
