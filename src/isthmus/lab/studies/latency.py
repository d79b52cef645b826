"""The latency study: how far predictions are from what happens, from layers to whole requests.

It has each of its parts measured: parts of networks (``latency_measure``), requests
(``latency_requests``), transfers, the link and regressors. What was measured is kept in a folder
and not measured again. It scores and prints nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from isthmus.errors import IsthmusError
from isthmus.lab.beds import BedKind
from isthmus.lab.real_bed import missing
from isthmus.lab.studies.latency_measure import kept_times, measure
from isthmus.lab.studies.latency_process import Effort
from isthmus.lab.studies.latency_record import LatencyStudy
from isthmus.lab.studies.latency_requests import Asked, Material, ask_in_every_way
from isthmus.lab.studies.latency_scores import layer_rows
from isthmus.lab.studies.latency_times import NetworkTimes
from isthmus.lab.studies.link_scores import link_scores
from isthmus.lab.studies.network_files import NetworkFile
from isthmus.lab.studies.regressors import compare_regressors, left_out
from isthmus.lab.studies.transfer_scores import score_transfers
from isthmus.loading.files import new_file
from isthmus.types.graph import ModelGraph
from isthmus.types.progress import SILENT, Progress

__all__ = ["PARTS", "StudyPart", "study_latency"]

StudyPart = Literal["compute", "relay", "real-bed", "transfer", "link", "regressors"]
"""Parts of networks; requests over the emulated bed and over the real one; and the others."""

PARTS: tuple[StudyPart, ...] = get_args(StudyPart)

_BEDS: Mapping[StudyPart, BedKind] = {"relay": "emulated", "real-bed": "real"}

_KINDS = ("Conv", "Conv.pointwise")
"""What regressors are compared on: the layers that most of the time is spent in."""


def study_latency(
    folder: Path,
    networks: Mapping[str, NetworkFile],
    *,
    material: Material | None,
    parts: Sequence[StudyPart] = PARTS,
    effort: Effort | None = None,
    absent: Mapping[str, str] | None = None,
    progress: Progress = SILENT,
) -> LatencyStudy:
    """Measure what the folder does not have yet, and put all of it together.

    Args:
        folder: What was measured is kept here; delete a file to have it measured again.
        networks: Whose parts are measured.
        material: What is asked end to end; ``None`` if it is not here.
        parts: Which parts of the study.
        effort: How long each network's parts are measured.
        absent: Why other networks are not among them, by name.
        progress: Told about each step.

    Raises:
        LabError: If a process or a server does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missed: dict[str, str] = {}
    known: dict[str, tuple[ModelGraph, NetworkTimes]] = {}
    if "compute" in parts or "regressors" in parts:
        missed |= absent or {}
        progress.begin("networks", len(networks))
        for name, network in networks.items():
            try:
                known[name] = _times(folder / "times" / f"{name}.json", network, effort or Effort())
            except IsthmusError as error:
                missed[name] = str(error)
            progress.advance(name)
    asked: dict[BedKind, Sequence[Asked]] = {}
    for part, kind in _BEDS.items():
        if part not in parts:
            continue
        if material is None:
            missed[part] = "isthmus-zoo is not installed"
        elif kind == "real" and (reason := missing()):
            missed[part] = reason
        else:
            asked[kind] = _requests(folder, kind, material, progress)
    transfer: Mapping[str, Any] = {}
    if "transfer" in parts:
        if reason := missing():
            missed["transfer"] = reason
        else:
            transfer = _kept(
                folder / "transfer.json", lambda: score_transfers(progress=progress).record()
            )
    link: Mapping[str, Any] = {}
    if "link" in parts:
        link = _kept(folder / "link.json", lambda: link_scores(progress=progress))
    compared: Mapping[str, Any] = {}
    if "regressors" in parts:
        compared = _compared(known, missed)
    return LatencyStudy(
        known if "compute" in parts else {}, asked, transfer, link, compared, missed
    )


def _times(path: Path, network: NetworkFile, effort: Effort) -> tuple[ModelGraph, NetworkTimes]:
    graph = network.graph()
    times = kept_times(path, graph.sha256)
    if times is None:
        times = measure(network, effort=effort)
        _keep(path, times.to_json())
    return graph, times


def _requests(
    folder: Path, kind: BedKind, material: Material, progress: Progress
) -> Sequence[Asked]:
    content = _kept(
        folder / f"requests-{kind}.json",
        lambda: [
            asdict(one)
            for one in ask_in_every_way(kind, folder / "bundle", material, progress=progress)
        ],
    )
    return [Asked(**one) for one in content]


def _compared(
    networks: Mapping[str, tuple[ModelGraph, NetworkTimes]], missed: dict[str, str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in _KINDS:
        rows, seconds, groups = layer_rows(networks, kind)
        if len(set(groups)) < 4:
            missed[f"regressors, {kind}"] = "layers of four networks are needed"
            continue
        missed |= {f"regressors, {name}": why for name, why in left_out(rows).items()}
        scores = compare_regressors(rows, seconds, groups=groups, folds=4)
        found[kind] = {"layers": len(rows), "networks": len(set(groups)), "scores": scores}
    return found


def _kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a file has, or what ``make`` makes, which is then kept in it."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    content = make()
    _keep(path, content)
    return content


def _keep(path: Path, content: Any) -> None:
    with new_file(path, parents=True) as file:
        file.write(json.dumps(content).encode())
