"""Complete a profiled bundle: add the cuts that its measured times call for, and measure them.

Heads and tails come from the whole networks that a bundle holds, so this needs onnx and scipy, but
not the files that the bundle was built from. It measures no time: whoever calls it profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from isthmus.building.agreement import AgreementCounter
from isthmus.building.build import CUTS_PER_VARIANT, split_rows
from isthmus.building.crops import Crops
from isthmus.building.selection import Tolerance, select
from isthmus.estimation.segments import Part, calibrated_layer_s, part_overhead_s
from isthmus.loading.bundle import Bundle, Candidate, add_candidates, changing, open_bundle
from isthmus.loading.claims import claimed
from isthmus.loading.onnx_file import load_graph, read_model
from isthmus.loading.saving import save_model
from isthmus.loading.split import split_model
from isthmus.planning.candidates import estimated_device_s
from isthmus.planning.completion import MissingCuts, missing_cuts
from isthmus.types.cut import device_layers
from isthmus.types.graph import ModelGraph
from isthmus.types.progress import SILENT, Progress

__all__ = ["Round", "complete_bundle", "profile_until_complete"]

_MOST_ROUNDS = 4

R = TypeVar("R")


@dataclass(frozen=True)
class Round:
    """What one look at the measured times has found.

    Attributes:
        found: Cuts to add, by network, and what is lost without and with them.
        plans: How many plans the bundle got; 0 if no cut was missing.
    """

    found: Mapping[str, MissingCuts]
    plans: int

    @property
    def cuts(self) -> int:
        """How many cuts were added."""
        return sum(len(found.cuts) for found in self.found.values())


def profile_until_complete(
    path: Path,
    profile: Callable[[Bundle], R],
    *,
    cuts_per_variant: int = 2 * CUTS_PER_VARIANT,
    progress: Progress = SILENT,
) -> tuple[R, tuple[Round, ...]]:
    """Profile a bundle, add the cuts that are missing, and so on until none is.

    Args:
        path: The bundle.
        profile: Measures an opened bundle and saves the profile in it; should measure only what
            it has not measured before.
        cuts_per_variant: At most so many cuts inside each network in the end.
        progress: Told about each step of the adding.

    Returns:
        What the last call of ``profile`` returned, and every look for cuts; the last one found
        none unless there were four.

    Raises:
        IsthmusError: As ``profile`` and ``complete_bundle``; if another process is changing it.
    """
    rounds: list[Round] = []
    with claimed(path):
        while True:
            report = profile(open_bundle(path))
            if len(rounds) == _MOST_ROUNDS:
                break
            bundle = open_bundle(path)
            rounds.append(
                complete_bundle(bundle, cuts_per_variant=cuts_per_variant, progress=progress)
            )
            if not rounds[-1].plans:
                break
    return report, tuple(rounds)


def complete_bundle(
    bundle: Bundle,
    *,
    cuts_per_variant: int = 2 * CUTS_PER_VARIANT,
    tolerance: Tolerance | None = None,
    progress: Progress = SILENT,
) -> Round:
    """Add the cuts that the measured times of a bundle call for.

    The bundle's new state appears at once or not at all. Its profile stays in force and knows
    nothing of the new plans: profile it again.

    Args:
        bundle: A profiled bundle.
        cuts_per_variant: At most so many cuts inside each network in the end.
        tolerance: How much lossy plans may change; counted on the bundle's own photographs.
        progress: Told about each network.

    Returns:
        What was found and added.

    Raises:
        ModelError: If a network in the bundle cannot be read, or a head cannot be written.
        BundleError: If it has not been profiled, or another process is changing it.
        OSError: If it cannot be written (the bundle is then as it was).
    """
    bundle.profiled_table()
    found: dict[str, MissingCuts] = {}
    progress.begin("missing cuts", len(bundle.variants))
    for name in bundle.variants:
        graph = _graph(bundle, name)
        known = {c.row.tensors for c in bundle.candidates if _is_split(c, name)}
        device_s, server_s = _calibrated(bundle, graph)
        most = max(0, cuts_per_variant - len(known))
        found[name] = missing_cuts(graph, device_s, server_s, known, most=most)
        progress.advance(name)
    plans = 0
    if any(one.cuts for one in found.values()):
        plans = _add(
            bundle,
            {name: one.cuts for name, one in found.items()},
            tolerance or Tolerance(),
            progress,
        )
    return Round(found, plans)


def _calibrated(
    bundle: Bundle, graph: ModelGraph
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the time of every layer on the device and on the server, seconds."""
    whole = frozenset(range(len(graph.layers)))
    tensors = {c.row.cut_id: c.row.tensors for c in bundle.candidates if _is_split(c, graph.name)}
    heads: dict[frozenset[int], float] = {}
    tails: dict[frozenset[int], float] = {}
    for plan in bundle.profile.get("plans", ()):
        if plan["variant"] != graph.name:
            continue
        seconds = plan["stages_s"]
        if plan["family"] == "local":
            heads[whole] = seconds["head"]
        elif plan["family"] == "tensor":
            tails[whole] = seconds["server"]
        elif plan["family"] == "split" and plan["cut_id"] in tensors:
            device = device_layers(graph, tensors[plan["cut_id"]])
            heads[device] = seconds["head"]
            tails[whole - device] = seconds["server"]
    estimated = estimated_device_s(graph)
    return _fitted(estimated, heads), _fitted(estimated, tails)


def _fitted(
    estimated: NDArray[np.float64], seconds: Mapping[frozenset[int], float]
) -> NDArray[np.float64]:
    parts = [Part(layers, took_s) for layers, took_s in seconds.items() if layers and took_s > 0]
    return calibrated_layer_s(estimated, parts, overhead_s=part_overhead_s(estimated, parts))


def _add(
    bundle: Bundle,
    cuts: Mapping[str, tuple[tuple[str, ...], ...]],
    tolerance: Tolerance,
    progress: Progress,
) -> int:
    """Write the heads of cuts into a bundle and let it know them; return how many plans are new."""
    crops = Crops([bundle.path / name for name in bundle.calibration])
    heads: dict[tuple[str, str], str] = {}
    added: list[Candidate] = []
    with changing(bundle.path):
        for name, tensors in cuts.items():
            if tensors:
                added += _selected(bundle, name, tensors, crops, tolerance, progress)
                heads |= _save_heads(bundle, name, tensors)
        add_candidates(bundle.path, added, heads)
    return len(added)


def _save_heads(
    bundle: Bundle, name: str, cuts: tuple[tuple[str, ...], ...]
) -> dict[tuple[str, str], str]:
    """Write heads that read the weights which the network has in the bundle already."""
    graph = _graph(bundle, name)
    outline = onnx.load(bundle.head_path(name, ""), load_external_data=False)
    places = {}
    for tensors in cuts:
        split = split_model(outline, graph, tensors)
        if split.head is not None and (name, split.cut.id) not in bundle.heads:
            place = Path(bundle.heads[name, ""]).with_name(f"head-{split.cut.id}.onnx").as_posix()
            save_model(split.head, bundle.path / place)
            places[name, split.cut.id] = place
    return places


def _selected(
    bundle: Bundle,
    name: str,
    cuts: tuple[tuple[str, ...], ...],
    crops: Crops,
    tolerance: Tolerance,
    progress: Progress,
) -> tuple[Candidate, ...]:
    """Return the plans with new cuts that keep the answer."""
    graph, model = _graph(bundle, name), read_model(bundle.head_path(name, ""))
    splits = [split_model(model, graph, tensors) for tensors in cuts]
    rows = [row for split in splits for row in split_rows(name, graph, split)]
    with AgreementCounter(bundle.variants[name], model, graph, splits) as counter:
        kept, _ = select(rows, counter, crops, tolerance, progress)
    return kept


def _graph(bundle: Bundle, name: str) -> ModelGraph:
    """Return the graph of a network under the digest of the file that the server has."""
    graph = load_graph(bundle.head_path(name, ""), name=name)
    return replace(graph, sha256=bundle.variants[name].graph_sha256)


def _is_split(candidate: Candidate, name: str) -> bool:
    return (candidate.row.variant, candidate.row.family) == (name, "split")
