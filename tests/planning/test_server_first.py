"""Edgent's order: server first, the rest on the device, the way back paid."""

import math
from dataclasses import replace

import numpy as np
import pytest

from isthmus.errors import CutError
from isthmus.planning.brute_force import closed_sets
from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.planning.server_first import (
    Exit,
    ServerFirst,
    cheapest,
    cheapest_by_trying_all,
    edgent,
    returned_entry,
    returned_tensors,
    server_first_sets,
)
from isthmus.types.conditions import Conditions, ImageFacts
from isthmus.types.graph import Layer, ModelGraph, TensorSpec
from isthmus.types.link import Link
from isthmus.types.plan import PlanRow, Rules

FASTEST = Rules(objective="least_latency")


def graph_of(layers, outputs, inputs=("x",)):
    """Layers as ``"reads reads > writes"``."""
    nodes = []
    for i, text in enumerate(layers):
        read, written = (part.split() for part in text.split(">"))
        nodes.append(Layer(f"l{i}", "Conv", tuple(read), tuple(written), 1, 4))
    names = (*inputs, *(name for node in nodes for name in node.outputs))
    tensors = {name: TensorSpec(name, "float32", (1,)) for name in names}
    return ModelGraph("net", "0" * 64, tuple(inputs), tuple(outputs), tuple(nodes), tensors)


def chain(count):
    return graph_of([f"{'x' if i == 0 else f't{i - 1}'} > t{i}" for i in range(count)],
                    [f"t{count - 1}"])  # fmt: skip


def random_costs(graph, rng):
    count = len(graph.layers)
    device_s = 10 ** rng.uniform(-3, -1, count)
    down = {name: float(10 ** rng.uniform(-4, -1)) for name in graph.producers}
    return ServerFirst(graph, device_s / rng.uniform(1, 20), device_s, rng.uniform(0, 0.1), down)


@pytest.mark.parametrize("seed", range(60))
def test_in_a_chain_the_enumerated_plans_are_all_there_are(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    costs = random_costs(chain(count), rng)
    # Edgent's sum, by partition point p: the server runs the first p layers.
    latencies = [
        (costs.upload_s + costs.download_s[f"t{p - 1}"] if p else 0.0)
        + sum(costs.server_s[:p])
        + sum(costs.device_s[p:])
        for p in range(count + 1)
    ]
    found, exact = cheapest(costs), cheapest_by_trying_all(costs)
    assert found.cost_s == pytest.approx(min(latencies))
    assert found.cost_s == pytest.approx(exact.cost_s)
    assert len(found.server_layers) == int(np.argmin(latencies))


BRANCHES = graph_of(["x > a", "a > b", "a > c", "b > d", "c d > e", "e > f"], ["f"])


@pytest.mark.parametrize("seed", range(60))
def test_with_all_candidates_the_oracle_finds_nothing_better(seed):
    costs = random_costs(BRANCHES, np.random.default_rng(seed))
    exact = cheapest_by_trying_all(costs)
    assert cheapest(costs).cost_s >= exact.cost_s
    every = [("b", "c"), ("b", "a"), ("a", "d"), ("c", "d")]
    assert cheapest(costs, every).cost_s == pytest.approx(exact.cost_s)


def test_what_comes_down_is_paid_once_and_outputs_come_too():
    graph = graph_of(["x y > a", "a > b", "a y > c", "b c > d"], ["d", "a"], inputs=("x", "y"))
    assert returned_tensors(graph, frozenset({0})) == ("a",)  # y is on the device anyhow
    assert returned_tensors(graph, frozenset({0, 1, 2})) == ("a", "b", "c")  # a: an output
    assert returned_tensors(graph, frozenset(range(4))) == ("a", "d")
    assert returned_tensors(graph, frozenset()) == ()
    down = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}
    costs = ServerFirst(graph, np.full(4, 0.1), np.full(4, 10.0), 100.0, down)
    assert costs.plan(frozenset({0, 1, 2})).cost_s == pytest.approx(100 + 0.3 + 7 + 10)
    assert costs.plan(frozenset()).cost_s == pytest.approx(40)  # nothing goes up or down


def test_sets_are_closed_downwards_and_cuts_are_checked():
    sets = server_first_sets(BRANCHES, [("b", "c")])
    assert set(sets) <= set(closed_sets(BRANCHES))
    assert frozenset({0, 1, 2}) in sets
    assert (sets[0], sets[-1]) == (frozenset(), frozenset(range(6)))
    # Without candidates: nothing, up to a, up to e, everything.
    assert server_first_sets(BRANCHES) == tuple(frozenset(range(n)) for n in (0, 1, 5, 6))
    with pytest.raises(CutError):
        server_first_sets(BRANCHES, [("b",)])


def exits_of(rng):
    """Exits whose accuracy does not grow with depth, each a chain of its own length."""
    lengths = (3, 5, 8)
    accuracies = rng.permutation([0.60, 0.75, 0.79]).tolist()
    return [
        Exit(f"exit{n}", accuracy, random_costs(chain(n), rng))
        for n, accuracy in zip(lengths, accuracies, strict=True)
    ]


@pytest.mark.parametrize("seed", range(40))
def test_edgent_takes_the_most_accurate_exit_that_any_partition_brings_in_time(seed):
    rng = np.random.default_rng(seed)
    exits = exits_of(rng)
    best_s = {one.name: cheapest_by_trying_all(one.costs).cost_s for one in exits}
    for deadline_s in (0.0, *(s * factor for s in best_s.values() for factor in (0.999, 1.001))):
        choice = edgent(exits, deadline_s=deadline_s)
        in_time = [one for one in exits if best_s[one.name] <= deadline_s]
        assert choice.is_late == (not in_time)
        if in_time:
            assert choice.exit.accuracy == max(one.accuracy for one in in_time)
            assert choice.plan.cost_s <= deadline_s
        else:
            assert choice.plan.cost_s == pytest.approx(min(best_s.values()))


def test_edgent_goes_by_measured_accuracy_and_not_by_depth():
    costs = random_costs(chain(4), np.random.default_rng(0))
    deep, shallow = Exit("deep", 0.78, costs), Exit("shallow", 0.79, costs)
    assert edgent([deep, shallow], deadline_s=9.0).exit is shallow
    with pytest.raises(ValueError, match="at least one exit"):
        edgent([], deadline_s=1.0)


UP_TERMS = {"encode": {"device": 0.001}, "server_decode": {"server": 0.002}}


@pytest.mark.parametrize("sends_file", [False, True])
def test_deciding_over_the_rows_is_trying_all_of_them(sends_file):
    rng = np.random.default_rng(7)
    graph = chain(6)
    photo = ImageFacts("jpeg", 640, 480, 60_000)
    chosen = set()
    for _ in range(60):
        costs = random_costs(graph, rng)
        sizes = {name: s * 1e6 for name, s in costs.download_s.items()}
        entries = [PlanEntry(PlanRow("net", "local"), {"head": {"device": costs.device_s.sum()}})]
        sets = server_first_sets(graph)[1:-1]
        entries += [
            returned_entry(
                graph, server, server_s=costs.server_s, device_s=costs.device_s,
                tensor_bytes=sizes, input_terms=UP_TERMS, input_bytes=300.0, sends_file=sends_file,
            )
            for server in sets
        ]  # fmt: skip
        table = compile_table(entries, columns_for(()))
        link = Link(float(10 ** rng.uniform(5, 7)), float(10 ** rng.uniform(5, 7)), 0.01)
        now = Conditions(link, photo, device_slowdown=2.0, server_slowdown=1.5)
        up_bytes = 300.0 + 60_000 * sends_file
        seconds = replace(
            costs,
            device_s=costs.device_s * 2.0,
            server_s=costs.server_s * 1.5,
            upload_s=0.010 + up_bytes / link.uplink_bytes_per_s + 0.002 + 0.003,
            download_s={n: size / link.downlink_bytes_per_s for n, size in sizes.items()},
        )
        plan = decide(table, now, FASTEST)
        best = min((seconds.plan(server) for server in (frozenset(), *sets)),
                   key=lambda one: one.cost_s)  # fmt: skip
        assert plan.latency_s == pytest.approx(best.cost_s)
        assert (plan.row.family == "returned") == bool(best.server_layers)
        if best.server_layers:
            assert plan.row.tensors == returned_tensors(graph, best.server_layers)
            assert plan.stages_s["tail"] == pytest.approx(
                sum(2.0 * costs.device_s[i] for i in range(6) if i not in best.server_layers)
            )
            assert plan.sent_bytes == up_bytes
        chosen.add(plan.index)
    assert len(chosen) > 2


def test_a_row_needs_both_sides_and_says_what_it_sends():
    costs = random_costs(chain(3), np.random.default_rng(0))
    rest = {
        "server_s": costs.server_s, "device_s": costs.device_s, "input_terms": UP_TERMS,
        "tensor_bytes": dict.fromkeys(costs.download_s, 10.0), "input_bytes": 5.0,
    }  # fmt: skip
    for server in (frozenset(), frozenset(range(3))):
        with pytest.raises(ValueError, match="then on the device"):
            returned_entry(chain(3), server, **rest)
    row = returned_entry(chain(3), frozenset({0}), **rest).row
    assert (row.family, row.tensors, row.has_pixels, row.is_local) == (
        "returned", ("t0",), True, False,
    )  # fmt: skip
    assert row.unit == f"net.head-{row.cut_id}"
    rest["tensor_bytes"] = {**rest["tensor_bytes"], "t0": math.inf}
    with pytest.raises(ValueError, match="must not cross"):
        returned_entry(chain(3), frozenset({0}), **rest)


def test_impossible_costs_are_refused():
    good = random_costs(chain(2), np.random.default_rng(0))
    for change, message in [
        ({"upload_s": math.inf}, "upload_s must be finite"),
        ({"download_s": {"t0": 1.0}}, "lacks 't1'"),
        ({"download_s": {"t0": 1.0, "t1": -1.0}}, "must not be negative"),
        ({"server_s": np.ones(3)}, "server_s"),
    ]:
        with pytest.raises(ValueError, match=message):
            replace(good, **change)
    with pytest.raises(ValueError, match="21 layers are too many"):
        cheapest_by_trying_all(random_costs(chain(21), np.random.default_rng(0)))


def test_the_link_is_paid_by_the_byte_in_both_directions():
    terms = link_terms("returned", sent_bytes=100, received_bytes=5000)
    assert terms["upload"]["uplink_s_per_byte"] == 100
    assert terms["download"]["downlink_s_per_byte"] == 5000
