"""Edgent's order: the server runs the first layers, the device the rest. It runs neither.

The input goes up, as a file or as a tensor; the server runs a part of the network that is closed
downwards; what the rest reads of it comes down, and so does every output made there; the device
ends the work. The way back is paid by the byte, as the way up is. That is the family ``returned``
of a plan table. Cuts are enumerated, not searched for by a minimum cut: those behind cut vertices,
and others that a caller brings. No runtime of ours carries such a plan out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.brute_force import closed_sets
from isthmus.planning.partition import check_costs, crossing_tensors, cut_vertices
from isthmus.planning.plan_table import PlanEntry, Terms, link_terms
from isthmus.types.cut import Cut, device_layers
from isthmus.types.graph import ModelGraph
from isthmus.types.plan import PlanRow

__all__ = [
    "Choice", "Exit", "ReturnedPlan", "ServerFirst",
    "cheapest", "cheapest_by_trying_all", "edgent", "returned_entry", "returned_tensors",
    "server_first_sets",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class ServerFirst:
    """What each part of such a plan costs.

    Attributes:
        graph: The network, pruned to one exit if it has several.
        server_s: float64 ``[n]``, seconds of each layer on the server.
        device_s: The same on the device.
        upload_s: Seconds until the server has the input, by file or as a tensor, round trip and
            the device's work for it included.
        download_s: Seconds that each tensor that a layer writes takes to come down; infinite for
            one that must not cross.
    """

    graph: ModelGraph
    server_s: NDArray[np.float64]
    device_s: NDArray[np.float64]
    upload_s: float
    download_s: Mapping[str, float]

    def __post_init__(self) -> None:
        check_costs(self.graph, {"server_s": self.server_s, "device_s": self.device_s})
        if missing := sorted(self.graph.producers.keys() - self.download_s.keys()):
            raise ValueError(f"download_s lacks {missing[0]!r}")
        if not 0 <= self.upload_s < math.inf:
            raise ValueError(f"upload_s must be finite and not negative, got {self.upload_s}")
        if any(not value >= 0 for value in self.download_s.values()):
            raise ValueError("download_s must not be negative")

    def plan(self, server: frozenset[int]) -> ReturnedPlan:
        """Return the plan with these layers on the server; nothing is sent if there are none."""
        is_there = np.isin(np.arange(len(self.server_s)), list(server))
        cost_s = float(self.device_s[~is_there].sum())
        if server:
            down = returned_tensors(self.graph, server)
            cost_s += self.upload_s + float(self.server_s[is_there].sum())
            cost_s += sum(self.download_s[name] for name in down)
        return ReturnedPlan(server, cost_s)


@dataclass(frozen=True)
class ReturnedPlan:
    """A plan: the layers that the server runs first, and its latency in seconds."""

    server_layers: frozenset[int]
    cost_s: float


def returned_tensors(graph: ModelGraph, server: frozenset[int]) -> tuple[str, ...]:
    """Return what comes down if the server runs these layers, sorted.

    That is what the device's layers read of theirs, and the outputs that they make; the device has
    the graph's inputs, whoever reads them.
    """
    made = {name for i in server for name in graph.layers[i].outputs}
    return tuple(sorted(made & {*crossing_tensors(graph, server), *graph.outputs}))


def server_first_sets(
    graph: ModelGraph, candidates: Iterable[Sequence[str]] = ()
) -> tuple[frozenset[int], ...]:
    """Return sets of layers that the server may run first, those with fewer layers first.

    None, all, all up to each cut vertex, and all that each of ``candidates`` depends on. In a
    chain every layer is a cut vertex, so that these are all sets there are.

    Args:
        graph: The network.
        candidates: Frontier tensors of more cuts.

    Raises:
        CutError: If a candidate is no cut.
    """
    found = {frozenset[int](), frozenset(range(len(graph.layers)))}
    found |= {frozenset(range(vertex + 1)) for vertex in cut_vertices(graph)}
    found |= {device_layers(graph, cut) for cut in candidates}
    return tuple(sorted(found, key=lambda server: (len(server), sorted(server))))


def cheapest(costs: ServerFirst, candidates: Iterable[Sequence[str]] = ()) -> ReturnedPlan:
    """Return the fastest of the enumerated plans; the one with fewest layers there wins ties."""
    plans = [costs.plan(server) for server in server_first_sets(costs.graph, candidates)]
    return min(plans, key=lambda plan: plan.cost_s)


def cheapest_by_trying_all(costs: ServerFirst) -> ReturnedPlan:
    """Return the fastest of all plans there are: the oracle of ``cheapest``, in small networks.

    Raises:
        ValueError: If there are more than 20 layers.
    """
    plans = [costs.plan(server) for server in closed_sets(costs.graph)]
    return min(plans, key=lambda plan: (plan.cost_s, len(plan.server_layers)))


@dataclass(frozen=True)
class Exit:
    """One exit of a branchy network.

    Attributes:
        name: The exit's name.
        accuracy: As measured on a whole test set, 0 to 1.
        costs: Of the network pruned to it.
    """

    name: str
    accuracy: float
    costs: ServerFirst = field(repr=False)


@dataclass(frozen=True)
class Choice:
    """What ``edgent`` chose.

    Attributes:
        exit: The exit.
        plan: How it is run.
        is_late: Whether it will miss the deadline, as all exits would.
    """

    exit: Exit
    plan: ReturnedPlan
    is_late: bool


def edgent(exits: Sequence[Exit], *, deadline_s: float) -> Choice:
    """Return the most accurate exit that can be run before the deadline, and how.

    Exits are tried by falling accuracy; of each, the fastest partition counts. Without one that
    is in time, it is the fastest of all, marked as late. Ties go to the earlier exit.

    Args:
        exits: At least one; accuracies are of whole test sets, not of one input.
        deadline_s: Seconds from the request to the answer.

    Raises:
        ValueError: If there is no exit.

    References:
        Li et al., "Edge Intelligence: On-Demand Deep Learning Model Co-Inference with
        Device-Edge Synergy" (Edgent), MECOMM 2018. *Departs*: exits are ordered by measured
        accuracy and not by depth; the answer's way back is paid; where the paper has no plan,
        the fastest one is given; cut vertices in place of a chain's layers. The paper's model
        loading is not in it: processes are warm.
    """
    if not exits:
        raise ValueError("Edgent needs at least one exit")
    tried = []
    for one in sorted(exits, key=lambda one: -one.accuracy):
        plan = cheapest(one.costs)
        if plan.cost_s <= deadline_s:
            return Choice(one, plan, is_late=False)
        tried.append(Choice(one, plan, is_late=True))
    return min(tried, key=lambda choice: choice.plan.cost_s)


def returned_entry(
    graph: ModelGraph,
    server: frozenset[int],
    *,
    server_s: NDArray[np.float64],
    device_s: NDArray[np.float64],
    tensor_bytes: Mapping[str, float],
    input_terms: Terms,
    input_bytes: float,
    sends_file: bool = False,
    accuracy: float = 0.0,
) -> PlanEntry:
    """Return a row of the family ``returned`` for a plan table.

    Args:
        graph: The network.
        server: Layers that the server runs first; some, but not all.
        server_s: float64 ``[n]``, seconds of each layer on the server at slowdown 1.
        device_s: The same on the device.
        tensor_bytes: Bytes on the wire of each tensor that a layer writes.
        input_terms: What making the input costs, by stage and column: of ``decode``,
            ``preprocess``, ``encode`` and ``server_decode``.
        input_bytes: Bytes sent up, the photograph's own not included.
        sends_file: Whether the photograph goes up as it is.
        accuracy: Of the network, 0 to 1.

    Raises:
        ValueError: If the layers are none or all, or what comes down has no finite size.
    """
    if not 0 < len(server) < len(graph.layers):
        raise ValueError("a `returned` row has layers on the server and then on the device")
    is_there = np.isin(np.arange(len(server_s)), list(server))
    tensors = crossing_tensors(graph, server)
    cut_id = Cut.of(graph.sha256, tensors, graph.fixed_shapes).id
    down_bytes = sum(tensor_bytes[name] for name in returned_tensors(graph, server))
    row = PlanRow(
        graph.name, "returned", tensors, cut_id, "raw", f"{graph.name}.head-{cut_id}",
        has_pixels=True,
    )  # fmt: skip
    terms: Terms = {
        **input_terms,
        "server": {"server": float(server_s[is_there].sum())},
        "tail": {"device": float(device_s[~is_there].sum())},
        **link_terms(
            "returned", sent_bytes=input_bytes, received_bytes=down_bytes, sends_file=sends_file
        ),
    }
    if not math.isfinite(down_bytes):
        raise ValueError(f"{row.label}: a tensor that must not cross would come down")
    return PlanEntry(row, terms, sent_bytes=input_bytes, accuracy=accuracy)
