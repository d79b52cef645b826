"""Compile the plan table of a network for a device, an edge server and a cloud behind it.

Its costs are *estimates* that add up: nothing is measured, and no runtime carries out a row with
``cloud_tensors`` yet. It decides nothing: ``decide`` does, as over any table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.columns import columns_for
from isthmus.planning.pixels import has_pixels
from isthmus.planning.plan_table import PlanEntry, cloud_hop_terms, compile_table, link_terms
from isthmus.planning.site_cover import STATED_ROW_CONE, CoverPlan, RowCone, cover
from isthmus.planning.site_row import Hop, RowProblem
from isthmus.types.cut import Cut
from isthmus.types.graph import ModelGraph
from isthmus.types.plan import PlanRow, PlanTable
from isthmus.types.unit import tail_name

__all__ = ["SiteTable", "site_table"]


@dataclass(frozen=True)
class SiteTable:
    """A table, and what it can lose against all nested cuts there are.

    Attributes:
        table: One local row, and one for each nested cut worth having.
        gap_ratio: Under no condition of the cone is any pair of nested cuts faster than the best
            row by more than this share of its latency; proven (``site_cover``), if costs add up.
        solves: How many minimum cuts that took.
    """

    table: PlanTable
    gap_ratio: float
    solves: int


def site_table(
    graph: ModelGraph,
    layer_s: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    sent_bytes: Mapping[str, float],
    *,
    reply_bytes: float,
    epsilon: float = 0.05,
    cone: RowCone = STATED_ROW_CONE,
    accuracy: float = 0.0,
) -> SiteTable:
    """Return the table of a network for three sites in a row.

    The rows are those of an epsilon-cover of all nested cuts, and of one of all cuts that do not
    use the cloud, beside the row without a server. Round trips and the way back are the same for
    all plans that use the same hops, so that a plan that is nearly the best of these without
    them is so with them: the gap holds for latencies with both, whatever they are.

    From where the device is, the server answers: what the cloud and the second hop take is part
    of the stage ``server``. All plans send raw tensors, or whatever ``sent_bytes`` is of.

    Args:
        graph: The network, with one output.
        layer_s: float64 ``[n]`` for device, edge and cloud: seconds of each layer there at
            slowdown 1.
        sent_bytes: Bytes on the wire of each tensor that some layer reads, graph inputs included;
            infinite for one that must not cross.
        reply_bytes: Of the network's output, framing included. It takes the whole way back from
            the last site that is used.
        epsilon: The gap asked for; what is reached is in the result.
        cone: The conditions for which the gap holds.
        accuracy: Of the network, 0 to 1.

    Raises:
        ValueError: If the costs do not describe three sites, or are negative; if the network
            has several outputs or a layer that reads no data, so that tensors alone do not tell
            two nested cuts.

    Complexity: See ``cover``.
    """
    if len(graph.outputs) != 1 or not all(layer.inputs for layer in graph.layers):
        raise ValueError(f"{graph.name} needs one output, and inputs of every layer")
    problem = RowProblem(graph, layer_s, (Hop(sent_bytes), Hop(sent_bytes)))
    near = RowProblem(graph, layer_s[:2], problem.hops[:1])
    near_cone = RowCone(cone.s_per_byte[:1], cone.slowdown[:1])
    both = cover(problem, epsilon=epsilon, cone=cone)
    edge = cover(near, epsilon=epsilon, cone=near_cone)
    rows: dict[PlanRow, PlanEntry] = {}
    for plan in (*edge.plans, *both.plans):
        entry = _entry(graph, plan, reply_bytes, accuracy)
        rows.setdefault(entry.row, entry)
    local = PlanEntry(
        PlanRow(graph.name, "local"),
        {"head": {"device": float(layer_s[0].sum())}},
        accuracy=accuracy,
    )
    rows.setdefault(local.row, local)
    table = compile_table(list(rows.values()), columns_for((), has_cloud=True))
    gap_ratio = max(edge.gap_ratio, both.gap_ratio)
    return SiteTable(table, gap_ratio, edge.solves + both.solves)


def _entry(graph: ModelGraph, plan: CoverPlan, reply_bytes: float, accuracy: float) -> PlanEntry:
    """Return the row of one plan."""
    device_s, up_bytes, edge_s, *behind = plan.costs
    if max(plan.levels) == 0:
        row = PlanRow(graph.name, "local")
        return PlanEntry(row, {"head": {"device": device_s}}, accuracy=accuracy)
    near, far = plan.tensors[0], plan.tensors[1] if behind else ()
    cut_ids = [Cut.of(graph.sha256, names, graph.fixed_shapes).id for names in (near, far)]
    unit = tail_name(graph.name, cut_ids[0])
    server = {"server": edge_s}
    if max(plan.levels) > 1:
        unit += f".cloud-{cut_ids[1]}"
        hop = cloud_hop_terms(sent_bytes=behind[0], received_bytes=reply_bytes)
        server |= {"cloud": behind[1], **hop}
    is_split = 0 in plan.levels
    row = PlanRow(
        graph.name,
        "split" if is_split else "tensor",
        near,
        cut_ids[0] if is_split else "",
        "raw",
        unit if is_split or far else graph.name,
        has_pixels=has_pixels(graph, near),
        cloud_tensors=far,
    )
    terms = {
        "head": {"device": device_s},
        "server": server,
        **link_terms(row.family, sent_bytes=up_bytes, received_bytes=reply_bytes),
    }
    return PlanEntry(row, terms, sent_bytes=up_bytes, accuracy=accuracy)
