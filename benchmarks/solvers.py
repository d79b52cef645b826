"""Time every solver side by side, and count how often the published two-stage search misses.

    python benchmarks/solvers.py [NETWORK.onnx ...] [--graphs N]

Costs of layers are estimated; all runs are interleaved, and the least of several times is printed.
Asserts nothing. Counting the misses of 4,000 graphs for each kind of costs takes minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from isthmus.errors import CutError
from isthmus.loading.onnx_file import load_graph
from isthmus.planning.candidates import estimated_layer_s
from isthmus.planning.partition import Partition, PartitionProblem
from isthmus.planning.site_row import Hop, RowPartition, RowProblem, row_min_cut
from isthmus.planning.solvers import SOLVERS, STREAM_SOLVERS
from isthmus.types.graph import Layer, ModelGraph, TensorSpec

BYTES_PER_S = 4e6 / 8
RTT_S = 0.01
SPEEDUP = 10
ROUNDS = 5
LONGEST_S = 0.5  # what takes longer is run once


def branched(rng: np.random.Generator, segments: int, most: int) -> ModelGraph:
    """Return segments of 2 or 3 branches of 2 to ``most`` layers, each closed by one layer."""
    layers: list[Layer] = []
    last = "x"
    for _ in range(segments):
        ends = []
        for _ in range(rng.integers(2, 4)):
            end = last
            for _ in range(rng.integers(2, most + 1)):
                name = f"l{len(layers)}"
                layers.append(Layer(name, "Op", (end,), (name,), 1, 0))
                end = name
            ends.append(end)
        last = f"l{len(layers)}"
        layers.append(Layer(last, "Op", tuple(ends), (last,), 1, 0))
    names = ("x", *(layer.name for layer in layers))
    return ModelGraph("branched", "0" * 64, ("x",), (last,), tuple(layers), sized(rng, names))


def chain(rng: np.random.Generator, count: int) -> ModelGraph:
    """Return layers in a row."""
    names = ["x", *(f"l{i}" for i in range(count))]
    layers = [Layer(made, "Op", (read,), (made,), 1, 0) for read, made in pairwise(names)]
    return ModelGraph("chain", "0" * 64, ("x",), (names[-1],), tuple(layers), sized(rng, names))


def sized(rng: np.random.Generator, names: Iterable[str]) -> dict[str, TensorSpec]:
    """Return a tensor of 1 to 100 kB for each name."""
    return {name: TensorSpec(name, "uint8", (int(rng.integers(1000, 100_000)),)) for name in names}


def problem_of(graph: ModelGraph, device_s: np.ndarray) -> PartitionProblem:
    """Return the problem over a 4 Mbit/s uplink with a server ten times as fast."""
    sent = {name: graph.tensors[name].size_bytes / BYTES_PER_S for name in graph.tensors}
    return PartitionProblem(graph, device_s, device_s / SPEEDUP, sent, RTT_S)


def three_sites(problem: PartitionProblem) -> RowPartition:
    """Solve the same with a cloud behind, another ten times as fast, ten times as far."""
    near = Hop(problem.transfer_s, problem.message_s)
    far = Hop(problem.transfer_s, 10 * problem.message_s)
    layer_s = (problem.device_s, problem.server_s, problem.server_s / 10)
    return row_min_cut(RowProblem(problem.graph, layer_s, (near, far)))


def time_solvers(name: str, problem: PartitionProblem) -> None:
    """Print the least time of each solver, and what it found."""
    best: dict[str, tuple[float, str]] = {}
    timed: dict[str, Callable[[PartitionProblem], Partition | RowPartition]] = {
        **SOLVERS,
        **STREAM_SOLVERS,
        "row_min_cut, 3 sites": three_sites,
    }
    for _ in range(ROUNDS):
        for solver, solve in timed.items():
            if solver in best and best[solver][0] > LONGEST_S:
                continue
            started_s = time.perf_counter()
            try:
                found = solve(problem)
            except (CutError, ValueError):
                continue  # no chain, or too many layers for brute force
            took_s = time.perf_counter() - started_s
            text = f"{1000 * found.cost_s:9.3f} ms, error {found.error_s / found.cost_s:.0e}"
            best[solver] = min(best.get(solver, (np.inf, text)), (took_s, text))
    layers = len(problem.graph.layers)
    for solver, (took_s, text) in best.items():
        print(f"{name:18} {layers:5} {solver:24} {1000 * took_s:8.2f} ms  found {text}")


def count_misses(graphs: int) -> None:
    """Print how often the published search misses the optimum, and by how much."""
    print(f"\n{graphs} graphs each: 6 segments, 2-3 branches, 2-4 layers each, server 10 x faster,")
    print("tensors of 1-100 kB at 4 Mbit/s, 10 ms round trip")
    for s_per_layer, spread in product((0.0005, 0.002, 0.005), (0.0, 0.5, 1.0)):
        rng = np.random.default_rng(0)
        losses = []
        for _ in range(graphs):
            graph = branched(rng, 6, 4)
            device_s = s_per_layer * 10.0 ** rng.uniform(-spread, spread, len(graph.layers))
            problem = problem_of(graph, device_s)
            exact = SOLVERS["two_stage"](problem).cost_s
            losses.append(SOLVERS["two_stage_published"](problem).cost_s / exact)
        missed = [loss for loss in losses if loss > 1 + 1e-9]
        text = f"{len(missed) / graphs:6.2%} missed"
        if missed:
            text += f", then {np.mean(missed):.2f} x the optimum, {max(missed):.2f} x at most"
        print(f"layers of {1000 * s_per_layer:3.1f} ms, +-{spread} decades: {text}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", type=Path, metavar="NETWORK.onnx")
    parser.add_argument("--graphs", type=int, default=4000, help="to count misses over")
    options = parser.parse_args()
    for path in options.networks:
        graph = load_graph(path)
        layer_s = np.array([estimated_layer_s(graph, layer) for layer in graph.layers])
        time_solvers(graph.name, problem_of(graph, layer_s))
    rng = np.random.default_rng(1)
    graph = branched(rng, 111, 5)
    device_s = 0.001 * 10.0 ** rng.uniform(-1, 1, len(graph.layers))
    time_solvers("synthetic", problem_of(graph, device_s))
    graph = chain(rng, 1000)
    time_solvers("chain", problem_of(graph, 0.001 * 10.0 ** rng.uniform(-1, 1, 1000)))
    count_misses(options.graphs)


if __name__ == "__main__":
    main()
