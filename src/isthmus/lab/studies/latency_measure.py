"""Measure the parts of a network for the latency study, twice, and keep the times in a file.

Which cuts are run is decided here; they run in ``latency_process``, in two processes one after
the other. Nothing is predicted or compared.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from isthmus.building.build import CUTS_PER_VARIANT
from isthmus.errors import CutError, ModelError
from isthmus.lab.studies.latency_process import (
    PAUSE_S,
    Effort,
    head_path,
    measured_apart,
    tail_path,
    whole_path,
)
from isthmus.lab.studies.latency_times import CADENCES, NetworkTimes
from isthmus.lab.studies.network_files import NetworkFile
from isthmus.loading.onnx_file import read_model
from isthmus.loading.split import exposed_model, split_model
from isthmus.planning.candidates import behind_activations, candidates, estimated_device_s
from isthmus.planning.partition import cut_vertices
from isthmus.profiling.layers import measure_layers
from isthmus.runtime.session import ONNXRUNTIME_VERSION
from isthmus.types.cut import device_layers
from isthmus.types.graph import ModelGraph

__all__ = ["MOST_CUTS", "MOST_WEIGHT_BYTES", "SCORED_CUTS", "chosen_cuts", "kept_times", "measure"]

SCORED_CUTS = 9
"""The candidates of a bundle, and cuts behind cut vertices up to this number."""

MOST_CUTS = 40
"""Cuts that are built and run of a network at most; each is a head and a tail in memory."""

MOST_WEIGHT_BYTES = 6e9
"""Of all parts together: a network with many weights gets fewer cuts."""

_THREADS = 1


def measure(network: NetworkFile, *, effort: Effort) -> NetworkTimes:
    """Measure a network's layers and parts; about a minute.

    Args:
        network: Which.
        effort: How long each process measures.

    Raises:
        ModelError: If the network cannot be loaded, cut or run.
        LabError: If a process fails.
    """
    graph = network.graph()
    cuts, candidate_numbers, is_complete = chosen_cuts(graph)
    scored = spread_out(candidate_numbers, len(cuts), SCORED_CUTS)
    held_out = scored[1::2]
    with tempfile.TemporaryDirectory(prefix=f"isthmus-{network.name}-") as scratch:
        folder = Path(scratch)
        _write_parts(network, graph, cuts, folder)
        layers = measure_layers(graph, whole_path(folder), threads=_THREADS)
        first, second = (
            measured_apart(
                folder, cuts=len(cuts), idle=idle, effort=effort, threads=_THREADS, seed=seed
            )
            for seed, idle in enumerate((scored, held_out))
        )
    return NetworkTimes(
        name=network.name,
        graph_sha256=graph.sha256,
        cuts=cuts,
        is_every_cut_vertex=is_complete,
        candidates=candidate_numbers,
        scored=scored,
        units=layers.units,
        network_s=layers.network_s,
        first=dict(zip(CADENCES, first, strict=True)),
        second=dict(zip(CADENCES, second, strict=True)),
        made={
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": platform.machine(),
            "onnxruntime": ONNXRUNTIME_VERSION,
            "threads": _THREADS,
            "busy_s": effort.busy_s,
            "idle_s": effort.idle_s,
            "pause_s": PAUSE_S,
        },
    )


def chosen_cuts(
    graph: ModelGraph, *, most: int = MOST_CUTS
) -> tuple[tuple[tuple[str, ...], ...], tuple[int, ...], bool]:
    """Return the cuts to run, by depth, which of them a bundle would have, and if that is all.

    These are the candidates, and the cuts at one tensor behind a cut vertex, activations
    included; if they are too many, some spread over the depth.

    Args:
        graph: The network.
        most: How many cuts at most; fewer where the network has many weights.

    Returns:
        Frontier tensors of each, numbers of the candidates, and whether no cut vertex is left out.

    Raises:
        ModelError: If fewer than three cuts are to be had.
    """
    found = set(candidates(graph, limit=CUTS_PER_VARIANT).cuts)
    kept = set(found)
    for vertex in cut_vertices(graph):
        read = [name for name in graph.layers[vertex].outputs if graph.consumers[name]]
        if len(read) == 1:
            kept.add(behind_activations(graph, (read[0],)))
    layer_s = estimated_device_s(graph)
    depth: dict[tuple[str, ...], float] = {}
    for cut in kept:
        try:
            head = device_layers(graph, cut)
        except CutError:
            continue
        if 0 < len(head) < len(graph.layers):
            depth[cut] = float(layer_s[list(head)].sum())
    every = sorted(depth, key=lambda cut: (depth[cut], cut))
    weights = sum(layer.weight_bytes for layer in graph.layers)
    most = min(most, int(MOST_WEIGHT_BYTES / max(weights, 1)))
    wanted = tuple(i for i, cut in enumerate(every) if cut in found)
    chosen = spread_out(wanted, len(every), most)
    if len(chosen) < 3:
        raise ModelError(f"{graph.name}: has fewer than three cuts that can be run here")
    cuts = tuple(every[i] for i in chosen)
    numbers = tuple(i for i, cut in enumerate(cuts) if cut in found)
    return cuts, numbers, len(cuts) == len(every)


def spread_out(wanted: Sequence[int], count: int, most: int) -> tuple[int, ...]:
    """Return up to ``most`` of ``count`` places: those wanted, and others far from them.

    The first and the last place are always among them; if more than ``most`` are wanted, the
    others of those are spread evenly.

    Examples:
        >>> spread_out([4], 9, 5)
        (0, 2, 4, 6, 8)
    """
    if count <= most:
        return tuple(range(count))
    if len({0, count - 1, *wanted}) > most:
        places = sorted({0, count - 1, *wanted})
        return tuple(places[round(i)] for i in np.linspace(0, len(places) - 1, most))
    chosen = {0, count - 1, *wanted}
    while len(chosen) < most:
        rest = [place for place in range(count) if place not in chosen]
        chosen.add(max(rest, key=lambda p: (min(abs(p - c) for c in chosen), -p)))
    return tuple(sorted(chosen))


def kept_times(path: Path, graph_sha256: str) -> NetworkTimes | None:
    """Return what was measured before, or ``None`` if there is nothing of that network.

    Args:
        path: The file.
        graph_sha256: Digest of the network.
    """
    try:
        times = NetworkTimes.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    return times if times.graph_sha256 == graph_sha256 else None


def _write_parts(
    network: NetworkFile, graph: ModelGraph, cuts: Sequence[tuple[str, ...]], folder: Path
) -> None:
    model = read_model(network.path, shapes=network.shapes)
    onnx.save(exposed_model(model, graph, ()), whole_path(folder))
    for number, cut in enumerate(cuts):
        split = split_model(model, graph, cut)
        assert split.head is not None  # the cut has layers on both sides
        onnx.save(split.head, head_path(folder, number))
        onnx.save(split.tail, tail_path(folder, number))
