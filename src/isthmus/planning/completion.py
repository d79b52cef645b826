"""Cuts that measured times call for and that a network's candidates lack. It measures nothing.

The first candidates come from estimates (``candidates``). With heads and tails measured, layer
times can be calibrated on them, and some other cut may turn out to be worth having.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.candidates import behind_activations, codec_ways, interior, latency_gap
from isthmus.planning.envelope import cost_s
from isthmus.planning.frontier import frontier
from isthmus.types.cut import device_layers
from isthmus.types.graph import ModelGraph

__all__ = ["MissingCuts", "missing_cuts"]

_NOISE_RATIO = 0.03
"""Cuts that gain less than this anywhere are not worth a head and a tail in memory."""

_Tensors = tuple[str, ...]


@dataclass(frozen=True)
class MissingCuts:
    """Cuts worth adding, and what is lost without and with them.

    Attributes:
        cuts: Frontier tensors of each, sorted.
        gap_ratio: How much slower the best plan that is known can be than the best of all, under
            any condition of the stated cone, as far as the calibrated times are true.
        left_ratio: The same once the cuts are added.
    """

    cuts: tuple[_Tensors, ...]
    gap_ratio: float
    left_ratio: float


def missing_cuts(
    graph: ModelGraph,
    device_s: NDArray[np.float64],
    server_s: NDArray[np.float64],
    known: Collection[_Tensors],
    *,
    most: int,
) -> MissingCuts:
    """Return the cuts to add so that no plan is better by more than noise anywhere.

    The frontier of the calibrated times is exact for each codec, with and without leave to send
    pixels. Where the known plans lose most against it, the frontier's best is added, and again,
    until they lose less than 3 % everywhere, or ``most`` were added.

    Args:
        graph: The network.
        device_s: Calibrated time of every layer on the device, ``[n]``, seconds.
        server_s: The same on the server.
        known: Frontier tensors of the cuts that are there.
        most: Greatest number of cuts to add.
    """
    kept = {cut: device_layers(graph, cut) for cut in known}
    added: list[_Tensors] = []
    ways = [(way, frontier(way).plans) for way in codec_ways(graph, device_s, server_s)]

    def most_lost() -> float:
        return max(latency_gap(way, hull, kept.values())[0] for way, hull in ways)

    first_ratio = most_lost()
    for way, hull in ways:
        gap_ratio, at = latency_gap(way, hull, kept.values())
        while gap_ratio > _NOISE_RATIO and len(added) < most:
            best = min(hull, key=lambda plan: cost_s(plan.costs, at))
            cut = behind_activations(graph, best.tensors)
            device = interior(graph, cut)
            if device is None or cut in kept:
                break
            kept[cut] = device
            added.append(cut)
            gap_ratio, at = latency_gap(way, hull, kept.values())
    return MissingCuts(tuple(added), first_ratio, most_lost())
