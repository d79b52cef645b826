"""A cover of sites in a row: no condition of its cone finds a much cheaper plan than its best."""

import math
from dataclasses import replace

import numpy as np
import pytest

from isthmus.planning import site_cover
from isthmus.planning.site_cover import STATED_ROW_CONE, RowCone, cover
from isthmus.planning.site_row import Hop, RowProblem, all_levels, part_costs, row_partition_of
from isthmus.types.graph import Layer, ModelGraph, TensorSpec

FLOAT_RATIO = 1e-9


def random_row(seed, *, sites=3, layers=5):
    """Branches and joins, layer times over two decades, tensors that grow and shrink."""
    rng = np.random.default_rng(seed)
    made = ["in"]
    nodes = []
    for i in range(layers):
        read = rng.choice(made[-3:], size=rng.integers(1, 3)).tolist()
        nodes.append(Layer(f"l{i}", "Conv", tuple(dict.fromkeys(read)), (f"t{i}",), 1, 4))
        made.append(f"t{i}")
    tensors = {name: TensorSpec(name, "float32", (1,)) for name in made}
    unread = tuple(name for name in made if not any(name in node.inputs for node in nodes))
    graph = ModelGraph("g", "0" * 64, ("in",), unread, tuple(nodes), tensors)
    device_s = 10 ** rng.uniform(-3, -1, layers)
    speeds = [np.ones(layers), *(10 ** -rng.uniform(0.5, 1.5, layers) for _ in range(sites - 1))]
    layer_s = [device_s * np.prod(speeds[: k + 1], axis=0) for k in range(sites)]
    sent = {name: float(10 ** rng.uniform(3, 6)) for name in made}
    if seed % 3 == 0:
        sent[made[int(rng.integers(1, layers))]] = math.inf
    more = (500.0, dict.fromkeys(unread, 3e4)) if seed % 2 else (0.0, {})
    return RowProblem(graph, tuple(layer_s), (Hop(sent, *more),) * (sites - 1))


def all_costs(problem):
    """The parts of every plan that is allowed, float64 [plans, parts]."""
    graph, sites = problem.graph, len(problem.layer_s)
    found = np.array([part_costs(problem, levels) for levels in all_levels(graph, sites)])
    return found[np.isfinite(found).all(axis=1)]


def conditions(cone, count, seed):
    """Weights spread over the cone by logarithm, and its corners."""
    rng = np.random.default_rng(seed)
    ranges = np.log([r for pair in zip(cone.s_per_byte, cone.slowdown, strict=True) for r in pair])
    inside = np.exp(rng.uniform(ranges[:, 0], ranges[:, 1], (count, len(ranges))))
    corners = np.array(list(cone.corners().values()))
    return np.concatenate([np.insert(inside, 0, 1.0, axis=1), corners])


def worst_gap_ratio(problem, found, count=4000):
    weights = conditions(found.cone, count, 1)
    best = (all_costs(problem) @ weights.T).min(axis=0)
    have = (np.array([plan.costs for plan in found.plans]) @ weights.T).min(axis=0)
    return float((have / best).max() - 1)


@pytest.mark.parametrize("seed", range(12))
def test_sampled_conditions_keep_to_the_gap(seed):
    problem = random_row(seed)
    sizes = []
    for epsilon in (0.5, 0.1):
        found = cover(problem, epsilon=epsilon)
        assert found.is_complete
        assert found.gap_ratio <= epsilon
        assert worst_gap_ratio(problem, found) <= found.gap_ratio + FLOAT_RATIO
        sizes.append(len(found.plans))
    assert sizes[0] <= sizes[-1]


TWO_SITES = RowCone(STATED_ROW_CONE.s_per_byte[:1], STATED_ROW_CONE.slowdown[:1])


@pytest.mark.parametrize("seed", range(12))
def test_two_sites_are_a_row_too(seed):
    problem = random_row(seed, sites=2, layers=8)
    found = cover(problem, epsilon=0.02, cone=TWO_SITES)
    assert found.is_complete
    assert worst_gap_ratio(problem, found) <= found.gap_ratio + FLOAT_RATIO <= 0.02 + 2e-9


@pytest.mark.parametrize("seed", range(6))
def test_plans_are_what_they_say(seed):
    problem = random_row(seed)
    for plan in cover(problem, epsilon=0.1).plans:
        assert row_partition_of(problem, plan.levels).tensors == plan.tensors
        assert part_costs(problem, plan.levels) == plan.costs
        assert math.inf not in plan.costs


def test_the_cone_is_covered_by_its_simplices():
    corners = list(STATED_ROW_CONE.corners())
    numbers = {ends: k for k, ends in enumerate(corners)}
    simplices = list(site_cover._simplices(numbers))
    assert len(simplices) == 24
    points = np.random.default_rng(0).random((500, 4))
    hits = np.zeros(500)
    for simplex in simplices:
        matrix = np.array([[*corners[k], 1] for k in simplex], float).T
        shares = np.linalg.solve(matrix, np.append(points, np.ones((500, 1)), axis=1).T)
        hits += (shares >= -1e-12).all(axis=0)
    assert (hits == 1).all()  # on a common face, with probability 0, it would be two


def divided_at(seed):
    """Every division of one search: the simplex, its weights, the point and the parts."""
    problem, seen = random_row(seed), []

    class Spy(site_cover._Search):
        def divided(self, proof):
            parts = list(super().divided(proof))
            seen.append(([self._weights[i] for i in proof.simplex],
                         [[self._weights[i] for i in part] for part in parts]))  # fmt: skip
            return iter(parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site_cover, "_Search", Spy)
        cover(problem, epsilon=0.05)
    return seen


def test_the_parts_of_a_simplex_cover_it():
    scale = STATED_ROW_CONE.corners()[(1, 1, 1, 1)]
    seen = divided_at(4)
    assert len(seen) > 20
    for whole, parts in seen[::7]:
        shares = np.random.default_rng(1).dirichlet(np.ones(5), 50).T
        points = (np.array(whole) / scale).T @ shares
        is_inside = np.zeros(50, bool)
        for part in parts:
            corners = (np.array(part) / scale).T
            found, *_ = np.linalg.lstsq(corners, points, rcond=None)
            close = np.abs(corners @ found - points).max(axis=0) < 1e-9
            is_inside |= close & (found >= -1e-5).all(axis=0)
        assert is_inside.all()


def test_a_cap_on_the_work_leaves_a_gap_that_is_still_proven():
    gaps = []
    for most in (0, 4, 16, 64):
        problem = random_row(2, layers=6)
        found = cover(problem, epsilon=1e-4, most_solves=most)
        gaps.append(found.gap_ratio)
        assert found.solves <= 16 + most
        assert worst_gap_ratio(problem, found) <= found.gap_ratio + FLOAT_RATIO
        assert found.is_complete == (found.gap_ratio <= 1e-4)
    assert not cover(problem, epsilon=1e-4, most_solves=4).is_complete
    assert gaps[0] > gaps[-1]


def test_costs_of_nothing():
    problem = random_row(1)
    free = tuple(np.zeros(5) for _ in range(3))
    found = cover(replace(problem, layer_s=free), epsilon=0.1)
    assert [plan.levels for plan in found.plans] == [(0,) * 5]
    assert found.gap_ratio == 0


def test_what_cannot_be_asked_for():
    problem = random_row(0)
    with pytest.raises(ValueError, match="epsilon must be positive"):
        cover(problem, epsilon=0.0)
    with pytest.raises(ValueError, match="2 hops and a cone of 1"):
        cover(problem, epsilon=0.1, cone=TWO_SITES)
    with pytest.raises(ValueError, match="2 hops lead to 1 sites"):
        RowCone(STATED_ROW_CONE.s_per_byte, STATED_ROW_CONE.slowdown[:1])
    with pytest.raises(ValueError, match="a range must be positive"):
        RowCone(((0.0, 1.0),), ((0.1, 1.0),))
