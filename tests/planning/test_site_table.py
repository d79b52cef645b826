"""Deciding over a table of three sites, against all nested cuts, on random graphs."""

import math
from dataclasses import replace

import numpy as np
import pytest

from isthmus.errors import NoPlanError
from isthmus.planning.decide import decide
from isthmus.planning.site_cover import STATED_ROW_CONE, RowCone
from isthmus.planning.site_row import (
    Hop,
    RowProblem,
    all_levels,
    part_costs,
    row_brute_force,
    row_partition_of,
)
from isthmus.planning.site_table import site_table
from isthmus.planning.view import exclusions
from isthmus.types.conditions import CloudState, Conditions
from isthmus.types.cut import device_layers
from isthmus.types.graph import Layer, ModelGraph, TensorSpec
from isthmus.types.link import Link
from isthmus.types.plan import Rules

FASTEST = Rules(objective="least_latency")
REPLY_BYTES = 700.0


def network(seed, layers):
    """Branches that end in one output; layer times and tensors over two decades and more."""
    rng = np.random.default_rng(seed)
    made, unread, nodes = ["in"], ["in"], []
    for i in range(layers):
        if i == layers - 1:
            read = list(unread)
        else:
            read = rng.choice(made[-3:], size=rng.integers(1, 3)).tolist()
        unread = [name for name in unread if name not in read] + [f"t{i}"]
        nodes.append(Layer(f"l{i}", "Conv", tuple(dict.fromkeys(read)), (f"t{i}",), 1, 4))
        made.append(f"t{i}")
    tensors = {name: TensorSpec(name, "float32", (1,)) for name in made}
    graph = ModelGraph("net", "0" * 64, ("in",), (made[-1],), tuple(nodes), tensors)
    device_s = 10 ** rng.uniform(-3, -1, layers)
    edge_s = device_s * 10 ** -rng.uniform(0, 1.5, layers)
    cloud_s = edge_s * 10 ** -rng.uniform(0, 1.5, layers)
    sent = {name: float(10 ** rng.uniform(3, 6)) for name in made}
    return graph, (device_s, edge_s, cloud_s), sent


def random_conditions(rng):
    """Anywhere in the stated cone, whole row slowed down together, any round trips."""
    ranges = zip(STATED_ROW_CONE.s_per_byte, STATED_ROW_CONE.slowdown, strict=True)
    near_s, edge, far_s, cloud = (
        float(np.exp(rng.uniform(*np.log(one)))) for pair in ranges for one in pair
    )
    together = float(rng.uniform(0.5, 2))

    def link(s_per_byte):
        rtt_s = float(rng.choice([0.0, 0.002, 0.05]))
        return Link(1 / (s_per_byte * together), float(10 ** rng.uniform(5, 8)), rtt_s)

    return Conditions(
        link(near_s),
        is_connected=bool(rng.random() < 0.7),
        device_slowdown=together,
        server_slowdown=edge * together,
        cloud=CloudState(link(far_s), cloud * together),
    )


def row_problem(graph, layer_s, sent, now):
    """The same decision as a row of sites, in seconds, with what the hops cost besides bytes."""
    slowdowns = (now.device_slowdown, now.server_slowdown, now.cloud.slowdown)
    connect_s = 0.0 if now.is_connected else now.link.rtt_s

    def hop(link, more_s):
        message_s = link.rtt_s + REPLY_BYTES / link.downlink_bytes_per_s + more_s
        return Hop({n: size / link.uplink_bytes_per_s for n, size in sent.items()}, message_s)

    costs = tuple(one * slowdown for one, slowdown in zip(layer_s, slowdowns, strict=True))
    return RowProblem(graph, costs, (hop(now.link, connect_s), hop(now.cloud.link, 0.0)))


@pytest.mark.parametrize("seed", range(10))
def test_deciding_over_the_table_is_trying_all_within_the_gap(seed):
    rng = np.random.default_rng(1000 + seed)
    for case in range(12):
        graph, layer_s, sent = network(100 * seed + case, int(rng.integers(1, 5)))
        epsilon = 0.1 if case % 5 == 0 else 1.0
        found = site_table(graph, layer_s, sent, reply_bytes=REPLY_BYTES, epsilon=epsilon)
        assert found.gap_ratio <= epsilon
        for _ in range(5):
            now = random_conditions(rng)
            best = row_brute_force(row_problem(graph, layer_s, sent, now))
            plan = decide(found.table, now, FASTEST)
            assert plan.latency_s >= best.cost_s * (1 - 1e-9)
            assert plan.latency_s <= best.cost_s * (1 + found.gap_ratio + 1e-9)
            assert sum(plan.stages_s.values()) == pytest.approx(plan.latency_s)


def test_each_row_is_executable_and_costs_what_its_partition_costs():
    graph, layer_s, sent = network(3, 6)
    table = site_table(graph, layer_s, sent, reply_bytes=REPLY_BYTES, epsilon=0.01).table
    now = random_conditions(np.random.default_rng(5))
    problem = row_problem(graph, layer_s, sent, now)
    families = set()
    for index, row in enumerate(table.rows):
        families.add((row.family, bool(row.cloud_tensors)))
        here = device_layers(graph, row.tensors) if row.tensors else frozenset(range(6))
        near = device_layers(graph, row.cloud_tensors) if row.cloud_tensors else frozenset(range(6))
        assert here <= near
        levels = tuple(0 if i in here else 1 if i in near else 2 for i in range(6))
        partition = row_partition_of(problem, levels)
        assert partition.tensors == (row.tensors, row.cloud_tensors)
        alone = replace(table, **{
            name: getattr(table, name)[[index]]
            for name in ("coefficients", "residual_s", "sent_bytes", "sent_bytes_sd", "accuracy",
                         "agreement", "exit_probability")
        }, rows=(row,))  # fmt: skip
        plan = decide(alone, now, FASTEST)
        assert plan.latency_s == pytest.approx(partition.cost_s)
        assert plan.sent_bytes == pytest.approx(sum(sent[name] for name in row.tensors))
        # The device sees one server: whatever is behind it is in one stage.
        there = part_costs(problem, levels)
        behind = sum(there[2:]) if max(levels) else 0.0
        assert plan.stages_s["server"] == pytest.approx(behind)
        assert row.unit.startswith(graph.name) or row.is_local
    assert families >= {("local", False), ("split", False), ("split", True), ("tensor", True)}
    units = [row.unit for row in table.rows]
    assert len(set(units)) == len(units)
    labels = [row.label for row in table.rows]
    assert len(set(labels)) == len(labels)


def test_round_trips_may_be_anything():
    # By bytes and seconds alone all work belongs into the cloud, under every condition asked for.
    graph, (device_s, _, _), sent = network(3, 4)
    layer_s = (device_s, device_s / 10, device_s / 1e6)
    cone = RowCone(((1e-13, 2e-13), (1e-13, 2e-13)), ((0.9, 1.1), (0.9, 1.1)))
    found = site_table(graph, layer_s, sent, reply_bytes=0.0, epsilon=0.01, cone=cone)
    for near_s, far_s, sites in [(0.0, 0.0, 3), (0.0, 5.0, 2), (5.0, 0.0, 1)]:
        links = [Link(7e12, 7e12, rtt_s) for rtt_s in (near_s, far_s)]
        plan = decide(found.table, Conditions(links[0], cloud=CloudState(links[1])), FASTEST)
        assert 1 + (not plan.row.is_local) + bool(plan.row.cloud_tensors) == sites


def test_rows_with_a_cloud_need_one():
    graph, layer_s, sent = network(3, 6)
    table = site_table(graph, layer_s, sent, reply_bytes=REPLY_BYTES).table
    quick = Conditions(Link(1e9, 1e9, 0.0), cloud=CloudState(Link(1e9, 1e9, 0.0), 0.1))
    assert decide(table, quick, FASTEST).row.cloud_tensors
    without = replace(quick, cloud=None)
    assert not decide(table, without, FASTEST).row.cloud_tensors
    assert decide(table, quick, FASTEST).row.cloud_tensors  # not remembered from the last one
    (reason,) = exclusions(table, without, FASTEST)
    assert reason == "there is no cloud behind the server"
    assert exclusions(table, quick, FASTEST) == {}
    only = [index for index, row in enumerate(table.rows) if row.cloud_tensors]
    rows = replace(table, rows=tuple(table.rows[i] for i in only), **{
        name: getattr(table, name)[only]
        for name in ("coefficients", "residual_s", "sent_bytes", "sent_bytes_sd", "accuracy",
                     "agreement", "exit_probability")
    })  # fmt: skip
    with pytest.raises(NoPlanError, match="there is no cloud behind the server excludes"):
        decide(rows, without, FASTEST)


def test_tensors_that_must_not_cross_do_not():
    graph, layer_s, sent = network(3, 6)
    sent |= {"in": math.inf}
    rows = site_table(graph, layer_s, sent, reply_bytes=REPLY_BYTES).table.rows
    assert len(rows) > 2
    assert all("in" not in (*row.tensors, *row.cloud_tensors) for row in rows)


def test_what_tensors_alone_do_not_tell_is_refused():
    graph, layer_s, sent = network(3, 6)
    two_outputs = replace(graph, outputs=(*graph.outputs, "t1"))
    with pytest.raises(ValueError, match="net needs one output"):
        site_table(two_outputs, layer_s, sent, reply_bytes=1.0)
    first = replace(graph.layers[0], inputs=())
    with pytest.raises(ValueError, match="inputs of every layer"):
        site_table(
            replace(graph, layers=(first, *graph.layers[1:])), layer_s, sent, reply_bytes=1.0
        )


def test_the_number_of_nested_cuts_is_tried_in_full():
    graph, _, _ = network(0, 5)
    levels = list(all_levels(graph, 3))
    assert len(levels) == len(set(levels)) > 20
