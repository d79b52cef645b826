"""How long the frontier of a network takes: `python benchmarks/frontier.py`. Asserts nothing.

Real networks with estimated layer times, and chains of cells in the manner of NASNet: each cell
reads the outputs of the two before it, so no layer is a cut vertex and every search is one
minimum cut of the whole network, the hardest case. Loading the file is not in the figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isthmus.lab.studies.synthetic_graphs import cell_chain
from isthmus.planning.candidates import estimated_layer_s
from isthmus.planning.cheapest_plan import PlanCosts
from isthmus.planning.frontier import frontier
from isthmus.planning.partition import cut_vertices
from isthmus.types.graph import ModelGraph

SEED = 20260728
SERVER_SPEEDUP = 10.0


def real_networks() -> Iterator[ModelGraph]:
    """Yield the zoo's networks and those that come with onnx, as far as they are installed."""
    from isthmus.loading.onnx_file import load_graph

    paths: list[Path] = []
    try:
        import isthmus_zoo

        paths += [isthmus_zoo.model_path(name) for name in isthmus_zoo.model_names()]
    except ImportError:
        print("(the zoo is not installed)")
    import onnx

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    paths += sorted(folder.glob("light_*.onnx"))
    for path in paths:
        yield load_graph(path)


def costs_of(graph: ModelGraph, rng: np.random.Generator | None = None) -> PlanCosts:
    """Return estimated costs; with ``rng``, the server is not as fast for all layers alike."""
    device_s = np.array([estimated_layer_s(graph, layer) for layer in graph.layers])
    factors = 1.0 if rng is None else rng.uniform(0.5, 2.0, len(device_s))
    sent = {name: float(graph.tensors[name].size_bytes) for name in graph.consumers}
    return PlanCosts(graph, device_s, device_s / SERVER_SPEEDUP * factors, sent)


def print_row(graph: ModelGraph, costs: PlanCosts, times: str, repetitions: int) -> None:
    """Print what the frontier of one network has and takes, the best of a few repetitions."""
    spent_s = []
    for _ in range(repetitions):
        started_s = time.perf_counter()
        found = frontier(costs)
        spent_s.append(time.perf_counter() - started_s)
    print(
        f"{graph.name:24s}{len(graph.layers):7d}{len(cut_vertices(graph)):9d}  {times:14s}"
        f"{len(found.plans):9d}{found.certificates:9d}{found.searches:9d}{found.cuts:6d}"
        f"{min(spent_s) * 1e3:9.1f}{found.gap_ratio:10.1e}"
    )


def main() -> None:
    """Print one row for each network and way of estimating the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3, help="the fastest one is printed")
    repetitions = parser.parse_args().repetitions
    print(
        f"{'network':24s}{'layers':>7s}{'cut vert':>9s}  {'server':14s}{'vertices':>9s}"
        f"{'proofs':>9s}{'searches':>9s}{'cuts':>6s}{'ms':>9s}{'gap':>10s}"
    )
    graphs = list(real_networks())
    for layers in (1000, 5000):
        graphs += [cell_chain(layers, SEED, reads_two=two) for two in (False, True)]
    for graph in graphs:
        print_row(graph, costs_of(graph), "proportional", repetitions)
        rng = np.random.default_rng(SEED)
        print_row(graph, costs_of(graph, rng), "by layer", repetitions)


if __name__ == "__main__":
    main()
