"""What choosing among a few cuts loses, when measured costs replace estimated ones.

A function of what was measured twice: plans are chosen by the first measurement and scored by
the second, so that nobody wins by luck. It measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.lab.studies.latency_times import NetworkTimes, PartTimes
from isthmus.planning.envelope import STATED_CONE
from isthmus.profiling.layers import layer_shares_s
from isthmus.types.graph import ModelGraph

__all__ = ["CODECS", "DEVICE_SLOWDOWN", "measured_gap"]

DEVICE_SLOWDOWN = 10.0
"""How much slower than the server, for which both measurements stand, the device is."""

CODECS = {"raw": 1.0, "u8+zstd": 1 / 6}
"""Bytes that are sent of each float32 byte; the second as the planner's estimates have it."""

_RATES, _LOADS = 33, 13


def measured_gap(graph: ModelGraph, times: NetworkTimes) -> dict[str, Any]:
    """Return how much longer than the best plan the chosen ones take, over a grid of conditions.

    Plans: the whole network on either side, and every cut that was measured; uplinks from
    50 kbit/s to 10 Gbit/s, servers 0.1 to 10 times as slow (``STATED_CONE``), each codec. The
    device is ``DEVICE_SLOWDOWN`` times slower than the server for every part; round trips and
    the way back are the same for all plans and left out, and so is encoding.

    Args:
        graph: The network.
        times: Two measurements of its cuts.

    Returns:
        ``cuts``, ``candidates``, ``conditions``, and by way of choosing ``max``, ``mean`` and
        ``p95`` of the loss against the best of all cuts, all by the second measurement:
        ``candidates_best`` (what the set itself lacks), ``candidates`` (chosen among them by the
        first), ``noise_floor`` (among all cuts by the first) and ``additive`` (among all cuts by
        sums of measured layers).
    """
    whole = [*times.candidates, len(times.cuts), len(times.cuts) + 1]  # local and offloaded
    losses: dict[str, list[float]] = {}
    layer_s = layer_shares_s(graph, times.units)
    sent = np.array(
        [_sent_bytes(graph, cut) for cut in times.cuts] + [0, _sent_bytes(graph, graph.inputs)]
    )
    costs = {
        "first": _costs(times.first["busy"]),
        "second": _costs(times.second["busy"]),
        "additive": _additive(graph, times, layer_s),
    }
    grid = list(
        product(
            CODECS.values(),
            np.geomspace(*STATED_CONE.s_per_byte, _RATES).tolist(),
            np.geomspace(*STATED_CONE.server_slowdown, _LOADS).tolist(),
        )
    )
    for ratio, s_per_byte, load in grid:
        total = {
            name: DEVICE_SLOWDOWN * found[:, 0] + ratio * sent * s_per_byte + load * found[:, 1]
            for name, found in costs.items()
        }
        truth = total["second"]
        best_s = truth.min()
        chosen_s = {
            "candidates_best": truth[whole].min(),
            "candidates": truth[whole][total["first"][whole].argmin()],
            "noise_floor": truth[total["first"].argmin()],
            "additive": truth[total["additive"].argmin()],
        }
        for name, seconds in chosen_s.items():
            losses.setdefault(name, []).append(float(seconds / best_s - 1.0))
    return {
        "cuts": len(times.cuts),
        "candidates": len(times.candidates),
        "conditions": len(grid),
        "loss_ratio": {name: _summary(values) for name, values in losses.items()},
    }


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {
        "max": float(np.max(values)),
        "p95": float(np.quantile(values, 0.95)),
        "mean": float(np.mean(values)),
    }


def _sent_bytes(graph: ModelGraph, tensors: Sequence[str]) -> float:
    return float(sum(graph.tensors[name].size_bytes for name in tensors))


def _costs(times: PartTimes) -> NDArray[np.float64]:
    """Return seconds of head and tail of each cut, all on the device, and all on the server."""
    rows = list(zip(times.heads_s, times.tails_s, strict=True))
    return np.array([*rows, (times.whole_s, 0.0), (0.0, times.whole_s)], dtype=np.float64)


def _additive(
    graph: ModelGraph, times: NetworkTimes, layer_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    heads = [
        float(layer_s[list(times.layers(graph, i, "head"))].sum()) for i in range(len(times.cuts))
    ]
    total = float(layer_s.sum())
    return np.array([*((h, total - h) for h in heads), (total, 0.0), (0.0, total)])
