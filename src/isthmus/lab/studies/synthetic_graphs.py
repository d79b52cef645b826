"""Networks made up for studies: chains of cells in the manner of NASNet. Nothing can run them."""

from __future__ import annotations

import numpy as np

from isthmus.types.graph import Layer, ModelGraph, TensorSpec

__all__ = ["cell_chain"]

_LAYERS_PER_CELL = 12
_BRANCHES = 5


def cell_chain(layers: int, seed: int, *, reads_two: bool) -> ModelGraph:
    """Return a chain of cells of five branches each, of random sizes that shrink along it.

    Args:
        layers: About how many layers.
        seed: Of the random sizes.
        reads_two: Whether a cell reads the outputs of the last two cells, as NASNet's do, so that
            no layer is a cut vertex; else that of the last one.
    """
    rng = np.random.default_rng(seed)
    sizes = {"x": 150_528}
    nodes: list[Layer] = []

    def add(op_type: str, reads: tuple[str, ...], elements: float, flops: float) -> str:
        name = f"t{len(nodes)}"
        sizes[name] = max(int(elements), 10)
        weights = 4 * sizes[name] if op_type == "Conv" else 0
        nodes.append(Layer(f"l{len(nodes)}", op_type, reads, (name,), int(flops), weights))
        return name

    cells = max(layers // _LAYERS_PER_CELL, 1)
    previous = last = "x"
    for cell in range(cells):
        scale = 200_000 * 0.01 ** (cell / cells)
        sources = (previous, last) if reads_two and previous != last else (last,)
        branches = []
        for branch in range(_BRANCHES):
            first = add("Conv", (sources[branch % len(sources)],), *_random(rng, scale))
            branches.append(add("Conv", (first,), *_random(rng, scale)))
        total = sum(sizes[name] for name in branches)
        joined = add("Concat", tuple(branches), total, 0)
        previous, last = last, add("Conv", (joined,), *_random(rng, 2 * scale))
    reads = (previous, last) if reads_two and previous != last else (last,)
    made = add("Gemm", reads, 1000, 1e6)
    tensors = {name: TensorSpec(name, "float32", (size,)) for name, size in sizes.items()}
    name = f"cells-{'two' if reads_two else 'one'}-back-{layers}"
    return ModelGraph(name, "0" * 64, ("x",), (made,), tuple(nodes), tensors)


def _random(rng: np.random.Generator, scale: float) -> tuple[float, float]:
    """Return elements and operations of one layer."""
    return scale * float(rng.uniform(0.2, 1.0)), float(10 ** rng.uniform(6, 8))
