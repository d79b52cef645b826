"""The flow below all solvers: real capacities in 32 bits, and arcs that must never be cut."""

import math

import networkx
import numpy as np
import pytest

from isthmus.planning.flow import FlowNetwork


def cut_of(arcs, capacities, below=1.0):
    """Vertices: the source 0, the sink 1, others from 2 on."""
    return FlowNetwork(arcs, source=0, sink=1).cut(np.array(capacities, float), below=below)


@pytest.mark.parametrize("least", [1e-6, 0.4, 0.6, 0.999])
@pytest.mark.parametrize("parallel", [1, 40])
def test_an_infinite_arc_is_not_cut_though_all_else_costs_nearly_the_bound(least, parallel):
    # Were infinity less than the bound, the arc behind vertex 2 would be the cheaper one.
    found = cut_of([(0, 2), *[(2, 1)] * parallel], [least, *[math.inf] * parallel])
    assert found.value == least
    assert found.is_source_side.tolist() == [True, False, False]
    assert least * (1 - 1e-6) <= found.least <= least


def test_many_infinite_arcs_into_one_vertex_do_not_overflow():
    # Eight arcs of 2^29 would be 2^32, which is 0 in 32 bits.
    middle = range(2, 10)
    arcs = [(0, k) for k in middle] + [(k, 10) for k in middle] + [(10, 1)]
    found = cut_of(arcs, [*[math.inf] * 16, 0.7])
    assert found.value == 0.7
    assert not found.is_source_side[1]
    assert found.is_source_side[2:].all()


@pytest.mark.parametrize("below", [0.3, 0.300001])
def test_a_cut_as_dear_as_the_bound_is_none(below):
    arcs, capacities = [(0, 2), (2, 1)], [math.inf, 0.3]
    assert (cut_of(arcs, capacities, below) is None) == (below == 0.3)
    assert cut_of(arcs, [math.inf, math.inf], below) is None


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_with_infinite_arcs_against_networkx(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(3, 9))
    arcs = [(a, b) for a in range(size) for b in range(size) if a != b and rng.random() < 0.5]
    arcs += [(0, 2), (2, 1)]
    capacities = 10.0 ** rng.uniform(-3, 1, len(arcs))
    capacities[rng.random(len(arcs)) < 0.25] = math.inf
    graph = networkx.DiGraph()
    for (a, b), capacity in zip(arcs, capacities.tolist(), strict=True):
        before = graph.edges[a, b]["capacity"] if graph.has_edge(a, b) else 0.0
        graph.add_edge(a, b, capacity=before + capacity)
    try:
        expected = networkx.minimum_cut_value(graph, 0, 1)
    except networkx.NetworkXUnbounded:
        expected = math.inf
    if math.isinf(expected):
        assert cut_of(arcs, capacities, 1e3) is None
        return
    for below in (1e3, expected * 1.0001, expected * 30):
        found = cut_of(arcs, capacities, below)
        if expected >= below:
            assert found is None
            continue
        assert found.value == pytest.approx(expected, rel=1e-5)
        assert found.least <= expected * (1 + 1e-12)
