"""How large a cover of nested cuts is: `python benchmarks/site_cover.py`. Asserts nothing.

Device, edge and cloud over the stated cone, layer times estimated: the edge is ten times as fast as
the device and the cloud a hundred times, for each layer times a random factor from a half to two,
so that no site is best for all layers alike. Loading the file is not in the figures.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from frontier import SEED, real_networks

from isthmus.planning.candidates import estimated_layer_s
from isthmus.planning.site_cover import cover
from isthmus.planning.site_row import Hop, RowProblem
from isthmus.types.graph import ModelGraph

SPEEDUPS = (10.0, 100.0)


def problem_of(graph: ModelGraph, rng: np.random.Generator) -> RowProblem:
    """Return estimated costs at three sites, and raw tensors on both hops."""
    device_s = np.array([estimated_layer_s(graph, layer) for layer in graph.layers])
    behind = [device_s / speedup * rng.uniform(0.5, 2.0, len(device_s)) for speedup in SPEEDUPS]
    hop = Hop({name: float(spec.size_bytes) for name, spec in graph.tensors.items()})
    return RowProblem(graph, (device_s, *behind), (hop, hop))


def main() -> None:
    """Print one row for each network and gap."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.1, 0.05])
    parser.add_argument("--most-solves", type=int, default=5000)
    options = parser.parse_args()
    print(
        f"{'network':24s}{'layers':>7s}{'epsilon':>9s}{'plans':>7s}{'cloud':>7s}{'gap':>8s}"
        f"{'simplices':>11s}{'solves':>8s}{'seconds':>9s}"
    )
    for graph in real_networks():
        problem = problem_of(graph, np.random.default_rng(SEED))
        for epsilon in options.epsilon:
            started_s = time.perf_counter()
            found = cover(problem, epsilon=epsilon, most_solves=options.most_solves)
            spent_s = time.perf_counter() - started_s
            clouds = sum(2 in plan.levels for plan in found.plans)
            print(
                f"{graph.name:24s}{len(graph.layers):7d}{epsilon:9.2f}{len(found.plans):7d}"
                f"{clouds:7d}{found.gap_ratio:8.4f}{found.simplices:11d}{found.solves:8d}"
                f"{spent_s:9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
