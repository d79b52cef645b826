"""Measure single layers: what onnxruntime fuses is one unit, timed by its own profiler.

The kernels that run are not the layers of the file: activations and normalisations are part of a
convolution, layouts are changed in between. Kernels are traced back to layers by the names that
the optimiser leaves, and where it leaves none by what they do; all their time is some unit's. It
fits nothing, and does not measure heads and tails: ``profiling.profile`` does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import ModelError
from isthmus.runtime.session import Kernel, Session, profiled_runs
from isthmus.types.graph import ModelGraph, TensorSpec

__all__ = [
    "RUNS", "FusedUnit", "LayerTimes", "layer_shares_s", "measure_layers", "units_of_kernels",
]  # fmt: skip

RUNS = 25
"""Timed runs of each network; medians count."""

_WARM_UPS = 5
_BLOCKED = re.compile(r"^(?P<tensor>.*?)(_bn|_mul)?_nchwc$")
"""Kernels in blocked layout are called by the tensor that the last layer fused into them wrote."""
_FUSED_PREFIX = "Fused"
_BACK = "ReorderOutput"
_STANDS_FOR = {"Gemm": ("Gemm", "MatMul")}  # a product whose addend is fused is a Gemm
_NEVER_BEHIND = frozenset({"AveragePool", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool"})
"""What is not fused behind another layer: without a kernel it was not run at all."""


@dataclass(frozen=True)
class FusedUnit:
    """Layers that run as one kernel, or as one and the changes of layout that it needs.

    Attributes:
        layers: Indices in their graph, ascending.
        seconds: Median time of its kernels, to the microsecond; 0 for a layer that was not run,
            since another one gives the same.
    """

    layers: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class LayerTimes:
    """What one network's layers cost, and what all of it does.

    Attributes:
        units: Every layer is in exactly one.
        network_s: Median of whole runs without the profiler, seconds.
    """

    units: tuple[FusedUnit, ...]
    network_s: float


def measure_layers(
    graph: ModelGraph,
    model: Path,
    *,
    runs: int = RUNS,
    threads: int = 1,
    now_s: Callable[[], float] = time.perf_counter,
) -> LayerTimes:
    """Run a network, and say what each of its units took.

    Inputs are noise, or whole numbers from 0 to 1 (indices must exist somewhere). Runs with the
    profiler and without alternate in two passes, and the first of each do not count.

    Args:
        graph: The network.
        model: Its file.
        runs: Timed runs each way, at least 2.
        threads: Threads of one inference.
        now_s: The clock for whole runs.

    Raises:
        ModelError: If the network cannot be loaded or run, or its kernels cannot be read.
        ValueError: If ``runs`` is below 2.
    """
    if runs < 2:
        raise ValueError(f"at least 2 runs are needed, got {runs}")
    generator = np.random.default_rng(0)
    feeds = {name: _noise(graph.tensors[name], generator) for name in graph.inputs}
    whole_s: list[float] = []
    profiled: list[tuple[Kernel, ...]] = []
    for count in (-(-runs // 2), runs // 2):
        with Session(model, threads=threads) as session:
            for turn in range(-_WARM_UPS, count):
                begun_at_s = now_s()
                session.run(feeds)
                if turn >= 0:
                    whole_s.append(now_s() - begun_at_s)
        found = profiled_runs(model, feeds, runs=_WARM_UPS + count, threads=threads)
        profiled += found[_WARM_UPS:]
    by_unit: dict[tuple[int, ...], list[float]] = {}
    traced: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for run in profiled:
        names = tuple(kernel.name for kernel in run)
        if names not in traced:  # sessions may number what they insert in another order
            traced[names] = units_of_kernels(graph, run)
        seconds: dict[tuple[int, ...], float] = {}
        for kernel, layers in zip(run, traced[names], strict=True):
            seconds[layers] = seconds.get(layers, 0.0) + kernel.seconds
        for layers, unit_s in seconds.items():
            by_unit.setdefault(layers, []).append(unit_s)
    if any(len(times) != len(profiled) for times in by_unit.values()):
        raise ModelError(f"{model}: onnxruntime does not fuse the same layers in every session")
    units = [FusedUnit(layers, float(np.median(times))) for layers, times in by_unit.items()]
    ran = {layer for unit in units for layer in unit.layers}
    units += [FusedUnit((i,), 0.0) for i in range(len(graph.layers)) if i not in ran]
    return LayerTimes(tuple(sorted(units, key=attrgetter("layers"))), float(np.median(whole_s)))


def layer_shares_s(graph: ModelGraph, units: Sequence[FusedUnit]) -> NDArray[np.float64]:
    """Return a time for every layer: its unit's, shared out by operations.

    A cut inside a unit leaves the convolution on one side and an activation on the other, so that
    nearly all of the time belongs to the convolution. Units without operations share evenly.

    Args:
        graph: The network.
        units: Its units; layers in none get 0.

    Returns:
        Seconds, float64 ``(layers,)``; their sum is that of the units.
    """
    shares = np.zeros(len(graph.layers))
    for unit in units:
        flops = np.array([graph.layers[index].flops for index in unit.layers], dtype=np.float64)
        weights = flops if flops.any() else np.ones(len(flops))
        shares[list(unit.layers)] = unit.seconds * weights / weights.sum()
    return shares


def units_of_kernels(graph: ModelGraph, kernels: Sequence[Kernel]) -> list[tuple[int, ...]]:
    """Return the layers that each kernel of a run belongs to.

    1. A kernel is *anchored* at the layer of its name, at the layer that writes the tensor in its
       name (``<tensor>_nchwc``, the last of what was fused), or else at the first free layer of
       its operator and output shape.
    2. If the anchor's operator is not the kernel's, the free layers before it, back to one of the
       kernel's operator, are fused into it.
    3. Layers still free were fused into what they follow, or vanished: they join the unit of the
       layer that writes their first input, or of their first reader if they read graph inputs.
       Convolutions, products and poolings among them were found equal to others and not run:
       they are units of their own, without a kernel.
    4. A kernel without an anchor is a change of layout or a cast: it belongs to the next anchored
       kernel that runs; ``ReorderOutput``, and one that no other follows, to the last before it.

    Args:
        graph: The network that was loaded.
        kernels: Those of one run, in order.

    Returns:
        For each kernel the indices of its unit's layers, ascending.

    Raises:
        ModelError: If no kernel can be traced back to a layer.
    """
    anchors = _anchors(graph, kernels)
    owner: dict[int, int] = {anchor: anchor for anchor in anchors if anchor is not None}
    if not owner:
        raise ModelError(f"{graph.name}: onnxruntime runs nothing that the file has a layer for")
    for kernel, anchor in zip(kernels, anchors, strict=True):
        if anchor is not None:
            fused = _fused_before(graph, anchor, _operator(kernel), owner)
            owner |= dict.fromkeys(fused, anchor)
    for index, layer in enumerate(graph.layers):
        sources = [graph.producers[name] for name in layer.inputs if name in graph.producers]
        if index in owner:
            continue
        if layer.op_type in _NEVER_BEHIND:
            owner[index] = index
        elif sources and sources[0] in owner:
            owner[index] = owner[sources[0]]
    for index in reversed(range(len(graph.layers))):
        if index not in owner:
            readers = [r for name in graph.layers[index].outputs for r in graph.consumers[name]]
            owner[index] = owner[min(readers)] if readers else min(owner.values())
    members: dict[int, list[int]] = {}
    for index in range(len(graph.layers)):
        members.setdefault(owner[index], []).append(index)
    return [tuple(members[anchor]) for anchor in _completed(kernels, anchors)]


def _anchors(graph: ModelGraph, kernels: Sequence[Kernel]) -> list[int | None]:
    by_name = {layer.name: index for index, layer in enumerate(graph.layers)}
    taken: set[int] = set()
    anchors: list[int | None] = []
    for kernel in kernels:
        anchor = by_name.get(kernel.name)
        blocked = _BLOCKED.match(kernel.name)
        if anchor is None and blocked:
            anchor = graph.producers.get(blocked["tensor"])
        anchors.append(None if anchor in taken else anchor)
        taken.update(() if anchor is None else (anchor,))
    free: dict[tuple[str, tuple[tuple[int, ...], ...]], list[int]] = {}
    for index, layer in enumerate(graph.layers):
        if index not in taken:
            shapes = tuple(graph.tensors[name].shape for name in layer.outputs)
            free.setdefault((layer.op_type, shapes), []).append(index)
    for position, kernel in enumerate(kernels):
        operators = _STANDS_FOR.get(_operator(kernel), (_operator(kernel),))
        alike = [found for op in operators for found in free.get((op, kernel.output_shapes), ())]
        if anchors[position] is None and alike:
            anchors[position] = min(alike)
            free[graph.layers[min(alike)].op_type, kernel.output_shapes].remove(min(alike))
    return anchors


def _operator(kernel: Kernel) -> str:
    return kernel.op_type.removeprefix(_FUSED_PREFIX)


def _fused_before(
    graph: ModelGraph, anchor: int, op_type: str, owner: Mapping[int, int]
) -> list[int]:
    """Return the free layers from the one of ``op_type`` to the anchor; none if there is none."""
    path: list[int] = []
    index = anchor
    while graph.layers[index].op_type != op_type:
        sources = [graph.producers.get(name) for name in graph.layers[index].inputs]
        free = [source for source in sources if source is not None and source not in owner]
        if not free:
            return []
        index = max(free)  # of two branches that meet, the later one was fused
        path.append(index)
    return path


def _completed(kernels: Sequence[Kernel], anchors: Sequence[int | None]) -> list[int]:
    """Return the anchors, those of changes of layout taken from a neighbour."""
    following: int | None = None
    later: list[int | None] = []
    for anchor in reversed(anchors):
        following = anchor if anchor is not None else following
        later.append(following)
    before = next(anchor for anchor in anchors if anchor is not None)
    completed = []
    for kernel, anchor, after in zip(kernels, anchors, reversed(later), strict=True):
        if anchor is not None:
            before = anchor
        is_back = kernel.op_type == _BACK or after is None
        completed.append(before if anchor is not None or after is None or is_back else after)
    return completed


def _noise(spec: TensorSpec, generator: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "fc":
        return generator.standard_normal(spec.shape).astype(dtype)
    return generator.integers(0, 2, spec.shape).astype(dtype)
