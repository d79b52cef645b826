"""All solvers of the partition problem, by name. They share one signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from isthmus.planning.brute_force import brute_force, brute_force_min_max
from isthmus.planning.chain_scan import chain_scan
from isthmus.planning.dads_heavy import dads_heavy_published
from isthmus.planning.min_cut import min_cut
from isthmus.planning.min_max import min_max
from isthmus.planning.partition import Partition, PartitionProblem
from isthmus.planning.two_stage import two_stage, two_stage_published

__all__ = ["SOLVERS", "STREAM_SOLVERS", "Solver"]

Solver = Callable[[PartitionProblem], Partition]

SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {
        "chain_scan": chain_scan,
        "min_cut": min_cut,
        "two_stage": two_stage,
        "two_stage_published": two_stage_published,
        "brute_force": brute_force,
    }
)
"""Least latency; ``chain_scan`` only of chains, ``brute_force`` of small networks."""

STREAM_SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {
        "min_max": min_max,
        "dads_heavy_published": dads_heavy_published,
        "brute_force_min_max": brute_force_min_max,
    }
)
"""Least bottleneck; ``Partition.cost_s`` is the bottleneck."""
