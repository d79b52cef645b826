"""The QDMP study: how long finding the best cut takes, and what not finding it costs.

All figures of a run are measured side by side: the ways are called in turn, one condition after
another, so that whatever else the machine does falls on all of them alike. The costs of layers
are *estimated* and add up (``planning.candidates``); nothing is measured on a device, no network
runs, and nothing is printed here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import numpy as np

from isthmus.building.build import CUTS_PER_VARIANT
from isthmus.errors import CutError, IsthmusError
from isthmus.lab.studies.decision_times import DecisionTimes, decision_times
from isthmus.lab.studies.network_files import available_networks
from isthmus.lab.studies.qdmp_solvers import (
    EXACT,
    Prepare,
    fresh,
    installed_ways,
    least_s,
    problem_at,
    uncut_plans,
    vertex_plans,
)
from isthmus.lab.studies.synthetic_graphs import cell_chain
from isthmus.planning.candidates import candidates, estimated_layer_s
from isthmus.planning.cheapest_plan import PlanCosts
from isthmus.planning.envelope import STATED_CONE, Condition
from isthmus.planning.frontier import frontier
from isthmus.planning.partition import cut_vertices
from isthmus.planning.solvers import SOLVERS
from isthmus.types.cut import device_layers
from isthmus.types.graph import ModelGraph
from isthmus.types.progress import SILENT, Progress

__all__ = [
    "ROUNDING_RATIO",
    "SERVER_SPEEDUP",
    "GraphFigures",
    "QdmpStudy",
    "available_graphs",
    "estimated_costs",
    "study_graph",
    "study_qdmp",
]

SERVER_SPEEDUP = 10.0
"""How much faster than the device the server is for every layer, at slowdown 1."""

ROUNDING_RATIO = 1e-9
"""Gaps below this are arithmetic: costs are summed in another order, capacities are integers."""

_LOOK_UP = "frontier_prepared"
_SEED = 20260728
_SECONDS = 120.0
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 200
_TABLE_ROWS = 200
_DECISIONS = 5000
_FIRST: Condition = (8 / 10e6, 1.0)  # 10 Mbit/s and the server as stated
_LEAST_CONDITIONS = 9


@dataclass(frozen=True)
class GraphFigures:
    """What was found of one network.

    Attributes:
        layers: How many.
        cut_vertices: Layers that every path passes.
        frontier: Plans that are best somewhere in the stated cone.
        candidates: Cuts that would be built.
        frontier_build_ms: Milliseconds to find the frontier, median.
        solve_ms: Milliseconds to find one condition's plan, median, by way.
        max_gap_ratio: How much longer than the best a method's plan takes, at worst, by method.
        conditions: Of how many conditions the gaps are the worst.
        break_even_decisions: After how many decisions the frontier has paid for itself, against
            the fastest exact way; infinite if it never does.
    """

    layers: int
    cut_vertices: int
    frontier: int
    candidates: int
    frontier_build_ms: float
    solve_ms: Mapping[str, float]
    max_gap_ratio: Mapping[str, float]
    conditions: int
    break_even_decisions: float

    def record(self) -> dict[str, Any]:
        """Return it as JSON's kinds."""
        return {
            **vars(self),
            "solve_ms": dict(self.solve_ms),
            "max_gap_ratio": dict(self.max_gap_ratio),
        }


@dataclass(frozen=True)
class QdmpStudy:
    """The whole study.

    Attributes:
        graphs: By network.
        table: How long deciding by a plan table takes.
        left_out: Why a network or a way is not in it, by name.
    """

    graphs: Mapping[str, GraphFigures]
    table: DecisionTimes
    left_out: Mapping[str, str]

    @property
    def break_even_decisions(self) -> float:
        """After how many decisions the frontier has paid for itself, for the worst network."""
        return max((one.break_even_decisions for one in self.graphs.values()), default=math.nan)

    def record(self) -> dict[str, Any]:
        """Return it as JSON's kinds."""
        return {
            "graphs": {name: one.record() for name, one in self.graphs.items()},
            "table_decide_us": self.table.record(),
            "break_even_decisions": self.break_even_decisions,
            "left_out": dict(self.left_out),
            "costs": "estimated, additive; no layer was measured",
            "server_speedup": SERVER_SPEEDUP,
        }


def available_graphs() -> tuple[dict[str, Callable[[], ModelGraph]], dict[str, str]]:
    """Return how to get each network that is on this machine, and why others are left out.

    The ``light_*`` networks that come with onnx, the zoo's, text and layout networks if the
    tests have put them into the user's cache, and made-up chains of cells.
    """
    files, left_out = available_networks()
    found: dict[str, Callable[[], ModelGraph]] = {n: file.graph for n, file in files.items()}
    for layers, reads_two in product((1000, 5000), (False, True)):
        name = f"cells-{'two' if reads_two else 'one'}-back-{layers}"
        found[name] = partial(cell_chain, layers, _SEED, reads_two=reads_two)
    return found, left_out


def study_qdmp(
    graphs: Mapping[str, Callable[[], ModelGraph]],
    *,
    seconds: float = _SECONDS,
    decisions: int = _DECISIONS,
    left_out: Mapping[str, str] | None = None,
    progress: Progress = SILENT,
) -> QdmpStudy:
    """Study some networks.

    Args:
        graphs: How to get each, by name.
        seconds: About how long it may take; each way is called at least once, however long
            that takes.
        decisions: How many decisions by a plan table are timed.
        left_out: Why networks are not among them, by name; those that cannot be loaded and the
            ways whose packages are not installed are added.
        progress: Is told about each network.
    """
    ways, missing = installed_ways()
    missing = {**(left_out or {}), **missing}
    progress.begin("networks", len(graphs) + 1)
    table = decision_times(rows=_TABLE_ROWS, decisions=decisions, seed=_SEED)
    progress.advance("plan table")
    end = time.perf_counter() + seconds
    figures: dict[str, GraphFigures] = {}
    for i, (name, load) in enumerate(graphs.items()):
        share = max(end - time.perf_counter(), 0.0) / (len(graphs) - i)
        try:
            figures[name] = study_graph(load(), ways, seconds=share)
        except IsthmusError as error:
            missing[name] = str(error)
        progress.advance(name)
    return QdmpStudy(figures, table, missing)


def study_graph(graph: ModelGraph, ways: Mapping[str, Prepare], *, seconds: float) -> GraphFigures:
    """Study one network.

    Args:
        graph: The network.
        ways: What to time, by name.
        seconds: About how long it may take; half for times, half for gaps.
    """
    costs = estimated_costs(graph)
    conditions = list(_conditions())
    end = time.perf_counter() + seconds
    built_ms, solve_ms = _times_ms(costs, ways, conditions, end - seconds / 2)
    gaps = _Gaps(costs)
    for count, condition in enumerate(conditions):
        if count >= _LEAST_CONDITIONS and time.perf_counter() > end:
            break
        gaps.add(condition)
    saved_ms = min(solve_ms[way] for way in EXACT if way in solve_ms) - solve_ms[_LOOK_UP]
    return GraphFigures(
        layers=len(graph.layers),
        cut_vertices=len(cut_vertices(graph)),
        frontier=gaps.frontier,
        candidates=gaps.candidates,
        frontier_build_ms=built_ms,
        solve_ms=solve_ms,
        max_gap_ratio=gaps.most,
        conditions=gaps.conditions,
        break_even_decisions=math.ceil(built_ms / saved_ms) if saved_ms > 0 else math.inf,
    )


def estimated_costs(graph: ModelGraph) -> PlanCosts:
    """Return estimated costs of raw tensors; the server is as much faster for all layers."""
    device_s = np.array([estimated_layer_s(graph, layer) for layer in graph.layers])
    sent = {name: float(graph.tensors[name].size_bytes) for name in graph.consumers}
    return PlanCosts(graph, device_s, device_s / SERVER_SPEEDUP, sent)


def _conditions() -> Iterator[Condition]:
    """Yield a grid over the stated cone, corners included, in a fixed order by chance."""
    grid = list(
        product(
            np.geomspace(*STATED_CONE.s_per_byte, 17).tolist(),
            np.geomspace(*STATED_CONE.server_slowdown, 7).tolist(),
        )
    )
    yield _FIRST
    for place in np.random.default_rng(_SEED).permutation(len(grid)):
        yield grid[place]


def _times_ms(
    costs: PlanCosts, ways: Mapping[str, Prepare], conditions: Sequence[Condition], end: float
) -> tuple[float, dict[str, float]]:
    """Return the median times of building the frontier and of each way, interleaved.

    What takes more than a tenth of all the time is not called again, so that it has seen fewer
    conditions than the others, which are called five times at least. What refuses the network is
    not in the result.
    """
    room_s = end - time.perf_counter()
    asks = {name: prepare(costs) for name, prepare in ways.items()}
    calls: dict[str, Callable[[Condition], object]] = {
        "": lambda _: frontier(fresh(costs)),
        **asks,
    }
    spent_s: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(_MOST_ROUNDS):
        for name in list(calls):
            started_s = time.perf_counter()
            try:
                calls[name](conditions[i % len(conditions)])
            except CutError:
                del calls[name], spent_s[name]
                continue
            spent_s[name].append(time.perf_counter() - started_s)
            if spent_s[name][-1] > room_s / 10:
                del calls[name]
        if not calls or (i + 1 >= _LEAST_ROUNDS and time.perf_counter() > end):
            break
    found = {name: median(spent) * 1e3 for name, spent in spent_s.items()}
    return found.pop(""), found


class _Gaps:
    """How much longer than the best each method's plan takes at worst, over some conditions.

    Attributes:
        most: The greatest gap so far, by method.
        conditions: How many were added.
        frontier: Plans of the frontier.
        candidates: Candidate cuts.
    """

    def __init__(self, costs: PlanCosts) -> None:
        graph = costs.graph
        vertices = vertex_plans(costs)
        device_only, edge_only = np.split(uncut_plans(costs), 2)
        cuts = candidates(graph, limit=CUTS_PER_VARIANT).cuts
        kept = [costs.of(device_layers(graph, cut)) for cut in cuts]
        plans = frontier(costs).plans
        self._costs = costs
        self._plans = {
            "frontier": np.array([plan.costs for plan in plans]),
            "candidates": np.concatenate([uncut_plans(costs), np.array(kept).reshape(-1, 3)]),
            "vertex_scan": vertices,
            "device_only": device_only,
            "edge_only": edge_only,
        }
        self.frontier, self.candidates, self.conditions = len(plans), len(cuts), 0
        self.most: dict[str, float] = {}

    def add(self, condition: Condition) -> None:
        """Look at one more condition."""
        problem = problem_at(self._costs, condition)
        taken_s = {
            "exact": SOLVERS["two_stage"](problem).cost_s,
            "min_cut": SOLVERS["min_cut"](problem).cost_s,
            "two_stage_published": SOLVERS["two_stage_published"](problem).cost_s,
        }
        for name, plans in self._plans.items():
            taken_s[name] = least_s(plans, condition)
        best_s = min(taken_s.values())
        for name, cost_s in taken_s.items():
            gap = cost_s / best_s - 1 if best_s > 0 else 0.0
            gap = gap if gap > ROUNDING_RATIO else 0.0
            self.most[name] = max(self.most.get(name, 0.0), gap)
        self.conditions += 1
