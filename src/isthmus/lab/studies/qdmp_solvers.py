"""What the QDMP study times: ways to find a network's best plan for a condition. It times nothing.

Each way is *prepared* with a network's costs and then asked for one condition after another. Those
that build the graph anew do so when asked, from layers without any index of their tensors, as an
implementation does that keeps nothing between two decisions; the others were prepared before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.cheapest_plan import PlanCosts
from isthmus.planning.envelope import Condition
from isthmus.planning.frontier import frontier
from isthmus.planning.partition import PartitionProblem, cut_vertices
from isthmus.planning.segment_cut import Crossing, SegmentNetwork
from isthmus.planning.solvers import SOLVERS, Solver

__all__ = [
    "EXACT",
    "WAYS",
    "Ask",
    "Prepare",
    "fresh",
    "installed_ways",
    "least_s",
    "problem_at",
    "uncut_plans",
    "vertex_plans",
]

Ask = Callable[[Condition], float]
"""Returns the seconds of the plan found for a condition."""

Prepare = Callable[[PlanCosts], Ask]

_Plans = NDArray[np.float64]  # [plans, 3]: seconds on the device, bytes, seconds on the server

_INTEGER_BOUND = 2**40  # what OR-tools' int64 capacities are scaled to; their sum stays far below


def fresh(costs: PlanCosts) -> PlanCosts:
    """Return the costs with a graph that has no index of its tensors yet."""
    return replace(costs, graph=replace(costs.graph))


def problem_at(costs: PlanCosts, condition: Condition) -> PartitionProblem:
    """Return the partition problem under a condition, for a graph without any index."""
    sent_s = {name: size * condition[0] for name, size in costs.sent_bytes.items()}
    server_s = costs.server_s * condition[1]
    return PartitionProblem(replace(costs.graph), costs.device_s, server_s, sent_s)


def least_s(plans: _Plans, condition: Condition) -> float:
    """Return the least cost of some plans, seconds.

    Args:
        plans: float64 ``[plans, 3]``: seconds on the device, bytes, seconds on the server.
        condition: The condition.
    """
    return float(plans.dot((1.0, *condition)).min())


def uncut_plans(costs: PlanCosts) -> _Plans:
    """Return the costs of the two plans without a cut: all on the device, all on the server."""
    graph = costs.graph
    sent = sum(costs.sent_bytes[name] for name in graph.inputs if graph.consumers[name])
    return np.array([(costs.device_s.sum(), 0.0, 0.0), (0.0, sent, costs.server_s.sum())])


def vertex_plans(costs: PlanCosts) -> _Plans:
    """Return the costs of the plans without a cut, then of those that cut at one cut vertex."""
    graph = costs.graph
    here_s = np.cumsum(costs.device_s)
    there_s = costs.server_s.sum() - np.cumsum(costs.server_s)
    rows = []
    for vertex in cut_vertices(graph):
        names = graph.layers[vertex].outputs
        sent = sum(costs.sent_bytes[name] for name in names if graph.consumers[name])
        rows.append((here_s[vertex], sent, there_s[vertex]))
    return np.concatenate([uncut_plans(costs), np.array(rows).reshape(-1, 3)])


def _solver(solve: Solver) -> Prepare:
    return lambda costs: lambda condition: solve(problem_at(costs, condition)).cost_s


def _vertex_scan(costs: PlanCosts) -> Ask:
    return lambda condition: least_s(vertex_plans(fresh(costs)), condition)


def _vertex_scan_prepared(costs: PlanCosts) -> Ask:
    plans = vertex_plans(costs)
    return lambda condition: least_s(plans, condition)


def _frontier_prepared(costs: PlanCosts) -> Ask:
    plans = np.array([plan.costs for plan in frontier(costs).plans])
    return lambda condition: least_s(plans, condition)


def _scipy_prepared(costs: PlanCosts) -> Ask:
    """Lay the whole network out once as one segment, and change its capacities only."""
    graph = costs.graph
    network = SegmentNetwork(
        costs.device_s,
        costs.server_s,
        tuple(
            Crossing(graph.producers.get(name, -1), readers, False, costs.crossing(name))
            for name, readers in graph.consumers.items()
            if readers
        ),
    )
    local_s = float(costs.device_s.sum())

    def ask(condition: Condition) -> float:
        weights = np.array([1.0, *condition])
        found = network.cut(weights, local_s)
        if found.on_device is None:
            return local_s
        return min(local_s, float(network.costs(found.on_device) @ weights))

    return ask


def _networkx(costs: PlanCosts) -> Ask:
    """Build a graph of dictionaries each time, and cut it as the papers do."""
    import networkx
    from networkx.algorithms.flow import boykov_kolmogorov

    def ask(condition: Condition) -> float:
        problem = problem_at(costs, condition)
        graph, flow = problem.graph, networkx.DiGraph()
        for i in range(len(graph.layers)):
            flow.add_edge("device", i, capacity=float(problem.server_s[i]))
            flow.add_edge(i, "server", capacity=float(problem.device_s[i]))
        for name, readers in graph.consumers.items():
            producer = graph.producers.get(name, "device")
            flow.add_edge(producer, name, capacity=problem.transfer_s[name])
            for reader in readers:
                flow.add_edge(name, reader)
                if producer != "device":
                    flow.add_edge(reader, producer)
        value, _ = networkx.minimum_cut(flow, "device", "server", flow_func=boykov_kolmogorov)
        return float(value)

    return ask


def _ortools_prepared(costs: PlanCosts) -> Ask:
    """Lay the network out once for OR-tools' maximum flow, and change its capacities only."""
    from ortools.graph.python import max_flow

    graph, count = costs.graph, len(costs.graph.layers)
    source, sink = count, count + 1
    arcs = [(source, i) for i in range(count)] + [(i, sink) for i in range(count)]
    paid = [(0.0, 0.0, s) for s in costs.server_s] + [(s, 0.0, 0.0) for s in costs.device_s]
    vertex = count + 2
    for name, readers in graph.consumers.items():
        producer = graph.producers.get(name, source)
        if readers:
            arcs.append((producer, vertex))
            paid.append(costs.crossing(name))
            backward = [(reader, producer) for reader in readers if producer != source]
            infinite = [(vertex, reader) for reader in readers] + backward
            arcs += infinite
            paid += [(np.inf, 0.0, 0.0)] * len(infinite)
            vertex += 1
    flow = max_flow.SimpleMaxFlow()
    ends, weights_of = np.array(arcs), np.array(paid)
    places = flow.add_arcs_with_capacity(ends[:, 0], ends[:, 1], np.zeros(len(arcs), np.int64))
    local_s = float(costs.device_s.sum())

    def ask(condition: Condition) -> float:
        shares = weights_of @ np.array([1.0, *condition]) / local_s
        flow.set_arcs_capacity(places, (np.minimum(shares, 1) * _INTEGER_BOUND).astype(np.int64))
        flow.solve(source, sink)
        return float(flow.optimal_flow()) / _INTEGER_BOUND * local_s

    return ask


WAYS: Mapping[str, Prepare] = MappingProxyType(
    {
        "chain_scan": _solver(SOLVERS["chain_scan"]),
        "two_stage": _solver(SOLVERS["two_stage"]),
        "two_stage_published": _solver(SOLVERS["two_stage_published"]),
        "min_cut": _solver(SOLVERS["min_cut"]),
        "networkx": _networkx,
        "vertex_scan": _vertex_scan,
        "scipy_prepared": _scipy_prepared,
        "ortools_prepared": _ortools_prepared,
        "vertex_scan_prepared": _vertex_scan_prepared,
        "frontier_prepared": _frontier_prepared,
    }
)
"""All ways by name; those named ``prepared`` keep what does not depend on the condition.

``chain_scan`` refuses what is no chain.
"""

EXACT = ("two_stage", "min_cut", "scipy_prepared", "ortools_prepared")
"""Those that find a best plan and are worth using at run time."""

_PACKAGES = {"networkx": "networkx", "ortools_prepared": "ortools"}


def installed_ways() -> tuple[dict[str, Prepare], dict[str, str]]:
    """Return the ways whose packages are installed, and why each other one is left out."""
    left_out = {
        way: f"{package} is not installed"
        for way, package in _PACKAGES.items()
        if importlib.util.find_spec(package) is None
    }
    return {name: way for name, way in WAYS.items() if name not in left_out}, left_out
