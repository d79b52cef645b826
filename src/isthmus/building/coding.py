"""Codecs for a cut: what each costs on real tensors, and which of them are worth having.

Times are of this workstation, and only sort out what no link would ask for; the device measures
again what is left when the bundle is profiled. It counts no agreement.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.errors import CodecError
from isthmus.runtime import codecs

__all__ = ["FIDELITY", "CodingCost", "coding_costs", "worth_having"]

FIDELITY: Mapping[str, float] = {
    "raw": 3, "zstd": 3, "fp16": 2, "fp16+zstd": 2, "u8c": 1, "u8c+zstd": 1, "u8": 0, "u8+zstd": 0,
}  # fmt: skip
"""Which codec is at least as close to the tensor as which: by rank, before any answer is compared.
"""

_RATES_BYTES_PER_S = np.geomspace(1e6, 1e9, 31) / 8
_GAIN_RATIO = 0.1
_REPEATS = 3


@dataclass(frozen=True)
class CodingCost:
    """What it costs to take the tensors of a cut across.

    Attributes:
        sent_bytes: Of all tensors and what their decoder must know, mean over the samples.
        seconds: Encoding and decoding on this machine, median over the samples of the fastest try.
    """

    sent_bytes: float
    seconds: float


def coding_costs(
    samples: Sequence[Sequence[np.ndarray]],
    *,
    now_s: Callable[[], float] = time.perf_counter,
) -> dict[str, CodingCost]:
    """Return what every codec costs that can carry the tensors of a cut.

    Args:
        samples: For each of a few inputs, the tensors that cross.
        now_s: The clock.
    """
    found = {}
    for name, codec in codecs.CODECS.items():
        sent_bytes, seconds = 0, []
        try:
            for arrays in samples:
                tries = []
                for _ in range(_REPEATS):
                    begun_at_s = now_s()
                    payloads = [codec.encode(array) for array in arrays]
                    for payload, array in zip(payloads, arrays, strict=True):
                        codecs.decode(payload, limit_bytes=array.nbytes)
                    tries.append(now_s() - begun_at_s)
                seconds.append(min(tries))
                told = sum(len(json.dumps(dict(payload.parameters))) for payload in payloads)
                sent_bytes += told + sum(len(payload.data) for payload in payloads)
        except CodecError:
            continue
        found[name] = CodingCost(sent_bytes / len(samples), statistics.median(seconds))
    return found


def worth_having(costs: Mapping[str, CodingCost], fidelity: Mapping[str, float]) -> tuple[str, ...]:
    """Return the codecs that some link would ask for, the most faithful first.

    A codec stays if at some uplink rate from 1 to 1000 Mbit/s its transfer and coding take at
    least 10 % less time than those of every other one that stays and is no less faithful. They
    are compared from the most faithful on, the faster one first, and then once more among those
    left. The first one always stays: it is what any server understands.

    Args:
        costs: By codec.
        fidelity: How faithful each codec is, in any unit; only the order counts.
    """
    order = sorted(costs, key=lambda name: (-fidelity[name], costs[name].seconds))
    taken_s = {
        name: costs[name].sent_bytes / _RATES_BYTES_PER_S + costs[name].seconds for name in order
    }

    def gains(name: str, others: list[str]) -> bool:
        rivals = [taken_s[o] for o in others if o != name and fidelity[o] >= fidelity[name]]
        best_s = np.min(rivals, axis=0) if rivals else np.inf
        return bool((taken_s[name] <= (1 - _GAIN_RATIO) * best_s).any())

    kept: list[str] = []
    for name in order:
        if gains(name, kept):
            kept.append(name)
    for name in kept[1:]:
        if not gains(name, kept):
            kept.remove(name)
    return tuple(kept)
