"""No condition finds a better plan than a real network's frontier: sampled, by another solver."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from isthmus.loading.onnx_file import load_graph
from isthmus.planning.candidates import estimated_layer_s
from isthmus.planning.cheapest_plan import PlanCosts
from isthmus.planning.envelope import STATED_CONE, cost_s
from isthmus.planning.frontier import frontier
from isthmus.planning.min_cut import min_cut
from isthmus.planning.partition import PartitionProblem

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
CONDITIONS = 200


@pytest.mark.parametrize(
    "name", ["squeezenet", "resnet50", "inception_v1", "inception_v2", "shufflenet"]
)
def test_sampled_conditions_find_nothing_better(name):
    graph = load_graph(LIGHT / f"light_{name}.onnx")
    rng = np.random.default_rng(20260728)
    device_s = np.array([estimated_layer_s(graph, layer) for layer in graph.layers])
    server_s = device_s / 10 * rng.uniform(0.3, 3.0, len(device_s))
    sent = {name: float(graph.tensors[name].size_bytes) for name in graph.consumers}
    found = frontier(PlanCosts(graph, device_s, server_s, sent))
    assert found.gap_ratio <= 1e-6
    best = set()
    for _ in range(CONDITIONS):
        at = tuple(
            float(np.exp(rng.uniform(np.log(least), np.log(most))))
            for least, most in (STATED_CONE.s_per_byte, STATED_CONE.server_slowdown)
        )
        transfer_s = {name: size * at[0] for name, size in sent.items()}
        other = min_cut(PartitionProblem(graph, device_s, server_s * at[1], transfer_s))
        costs = [cost_s(plan.costs, at) for plan in found.plans]
        # Neither is cheaper than the other, up to their stated errors.
        assert other.cost_s - other.error_s <= min(costs) * (1 + 1e-9)
        assert min(costs) <= other.cost_s * (1 + 1e-9) + other.error_s
        best.add(int(np.argmin(costs)))
    assert len(best) > 2  # the sample is not all of one kind
