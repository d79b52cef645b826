"""The PieSlicer study: resize a photograph on the device, or in the cloud?

What is compared is the time before the network runs, as in the paper.

**Recorded times.** Every photograph is measured on this machine in every placement, twice: decoding
at a reduced scale, resizing to 331 pixels and encoding as the device's part, and what the server
does with what arrives (``pieslicer_measure``). The device's part is slowed by a factor and
a constant that give it the published line of a Nexus 5, Moto X4 or Pixel 2; the server is this
machine. Transfers run on virtual time: the published lines of the campus's network and one at home
(``pieslicer_bed``). So a request has one recorded time in each placement, the same for all methods.
What a method's own decision takes is added to its times where it was measured.

**Residuals.** A published line leaves out how single transfers differ. So all is judged again with
a factor of each request's own on the link's seconds per byte and one on its constant, log-normal
with 5, 10 and 20 %, five requests a photograph. Nobody can foresee those: ``informed`` shows what
is left to decide.

**Who learns from what.** Photographs are made from few originals. Originals are split in halves;
methods learn from the photographs of one half and are judged on those of the other, then the other
way round. Isthmus fits its decoding terms as when profiling, starts with a link estimate from the
training requests, and goes on learning the link from what it sent.

**What is judged** (``pieslicer_scores``): the decision against the faster of two placements, on the
recorded times; near break-even against what the second measurement says is faster. The row
``optimal`` there is what nobody can beat: it shows how far the two measurements agree.

It leaves out what the network itself takes, and loss of accuracy: ``isthmus`` may send a smaller
JPEG than PieSlicer's, or pixels without loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.lab.photographs import photograph_set, recipe, source_photographs
from isthmus.lab.studies.pieslicer_bed import (
    DEVICES,
    NETWORKS,
    RESIDUALS,
    Cell,
    Requests,
    cells,
    published_figures,
    requests_in,
)
from isthmus.lab.studies.pieslicer_check import Checked, check
from isthmus.lab.studies.pieslicer_measure import (
    FILE,
    ON_DEVICE,
    PLACEMENTS,
    SIDE_PX,
    Times,
    measure,
)
from isthmus.lab.studies.pieslicer_methods import (
    METHODS,
    Lines,
    Placed,
    fitted_lines,
    place,
    published_rule,
)
from isthmus.lab.studies.pieslicer_scores import Score, break_even_bytes, scores_of
from isthmus.lab.studies.regressors import compare_regressors, group_folds
from isthmus.types.progress import SILENT, Progress

__all__ = ["Judged", "PieslicerStudy", "judge", "study_pieslicer"]

_REQUESTS_WITH_RESIDUALS = 5
REPEATS = 3
CHECKED_SHARE = 0.05
SEED = 0
_REGRESSORS = ("linear", "knn", "svr", "forest", "lasso")


@dataclass(frozen=True, eq=False)
class Judged:
    """How all methods did in all cells.

    Attributes:
        bed: Each cell, and its requests.
        scores: By cell and method.
        placed: How often each method chose each placement, by cell and method.
        lines: PieSlicer's lines over all photographs, by cell.
    """

    bed: Mapping[str, tuple[Cell, Requests]]
    scores: Mapping[str, Mapping[str, Score]]
    placed: Mapping[str, Mapping[str, Mapping[str, int]]]
    lines: Mapping[str, Lines]


@dataclass(frozen=True, eq=False)
class PieslicerStudy:
    """What was found.

    Attributes:
        times: The first measurement, which all is judged on.
        judged: With links as published.
        with_residuals: With residuals of the links, by their standard deviation.
        regressors: By regressor: errors and times, over all targets and by target.
        checked: Requests that were made for real.
    """

    times: Times
    judged: Judged
    with_residuals: Mapping[float, Judged]
    regressors: Mapping[str, Mapping[str, Any]]
    checked: tuple[Checked, ...]

    def record(self) -> dict[str, Any]:
        """Return it as JSON's kinds."""
        sizes = [facts.file_bytes for facts in self.times.facts]
        return {
            "settings": {
                "photographs": len(sizes),
                "file_mb": [min(sizes) / 1e6, max(sizes) / 1e6],
                "repeats": REPEATS,
                "shorter_side_px": SIDE_PX,
                "on_device": PLACEMENTS[ON_DEVICE],
                "seed": SEED,
            },
            "devices": {device: self.device_fit(device) for device in DEVICES},
            "cells": _plain(self.judged.scores),
            "residuals": {
                f"{residual_sd:g}": _plain(judged.scores)
                for residual_sd, judged in self.with_residuals.items()
            },
            "factors": {cell: self.factors(cell) for cell in self.judged.scores},
            "placed": _plain(self.judged.placed),
            "break_even_mb": {
                name: {
                    "observed": break_even_bytes(requests) / 1e6,
                    "pieslicer": self.judged.lines[name].break_even_bytes / 1e6,
                    "published": published_rule(cell).break_even_bytes / 1e6,
                }
                for name, (cell, requests) in self.judged.bed.items()
            },
            "published": published_figures(),
            "regressors": {name: dict(found) for name, found in self.regressors.items()},
            "checked_for_real": {
                "cells": len(self.checked),
                "median_error": median(one.error_ratio for one in self.checked)
                if self.checked
                else None,
            },
        }

    def factors(self, cell: str) -> dict[str, float]:
        """Return how many times faster ``isthmus`` is than the best of two, at p50 and p99."""
        best, ours = (self.judged.scores[cell][name] for name in ("optimal", "isthmus"))
        return {
            "p50": best["p50_ms"] / ours["p50_ms"],
            "p99": best["p99_ms"] / ours["p99_ms"],
        }

    def device_fit(self, device: str) -> dict[str, float]:
        """Return a device's slowdown, and how far the line is from its times."""
        cell = self.judged.bed[f"{device}/{NETWORKS[0]}"][0]
        on_device = self.judged.lines[f"{device}/{NETWORKS[0]}"].on_device
        taken_s = cell.slowed(self.times).device_s[:, ON_DEVICE]
        ratio = on_device.at(self.times.sent_bytes[:, FILE]) / taken_s
        return {
            "slowdown": cell.slowdown,
            "overhead_ms": cell.overhead_s * 1e3,
            "slope_ms_per_mb": on_device.s_per_byte * 1e9,
            "intercept_ms": on_device.constant_s * 1e3,
            "median_error": float(np.median(np.abs(ratio - 1))),
        }


def study_pieslicer(
    count: int,
    *,
    sources: Path | None = None,
    is_checked: bool = True,
    progress: Progress = SILENT,
) -> PieslicerStudy:
    """Make the photographs, measure them, judge all methods and check some requests for real.

    Args:
        count: Photographs.
        sources: Folder of photographs to make them from; Debian's if there is none.
        is_checked: Whether to make some requests for real.
        progress: Told about each step.

    Raises:
        LabError: If photographs cannot be had, or the relay does not start.
    """
    originals = source_photographs(sources)
    photographs = photograph_set(count, originals, seed=SEED, progress=progress)
    groups = [one.source for one in recipe(count, sources=len(originals), seed=SEED)]
    times, second = measure(photographs, repeats=REPEATS, seed=SEED, progress=progress)
    progress.begin("judged", 1 + len(RESIDUALS))
    judged = {}
    for residual_sd in (0.0, *RESIDUALS):
        judged[residual_sd] = judge(times, second, groups, residual_sd=residual_sd)
        progress.advance(f"residuals of {residual_sd:.0%}")
    as_published = judged.pop(0.0)
    checked: tuple[Checked, ...] = ()
    bed = as_published.bed
    slower = [(cell, requests) for cell, requests in bed.values() if cell.slowdown >= 1]
    if is_checked and slower:  # no machine can pretend to be faster than it is
        checked = check(slower, photographs, share=CHECKED_SHARE, seed=SEED, progress=progress)
    regressors = _regressors(times, bed["motox4/university"][1], groups, progress)
    return PieslicerStudy(times, as_published, judged, regressors, checked)


def judge(
    times: Times, second: Times, groups: Sequence[int], *, residual_sd: float = 0.0
) -> Judged:
    """Return how all methods do in all cells.

    Args:
        times: What all is judged on.
        second: The second measurement.
        groups: Each photograph's original; no method learns from photographs of one that it is
            judged on.
        residual_sd: Of the links; with residuals there are several requests a photograph.
    """
    count = len(times.facts)
    everything = np.arange(count)
    asked = np.tile(everything, _REQUESTS_WITH_RESIDUALS if residual_sd else 1)
    asked = np.random.default_rng(SEED).permutation(asked)
    folds = group_folds(list(groups), 2, seed=SEED)
    bed, scores, placed, lines = {}, {}, {}, {}
    for cell in cells(times):
        slowed = cell.slowed(times)
        requests = requests_in(
            cell, slowed, cell.slowed(second), asked, residual_sd=residual_sd, seed=SEED
        )
        found = _placed(cell, slowed, requests, folds)
        bed[cell.name] = cell, requests
        scores[cell.name] = scores_of(requests, found, slowdown=cell.slowdown)
        placed[cell.name] = {
            name: dict(Counter(PLACEMENTS[one] for one in found[name].placement.tolist()))
            for name in METHODS
        }
        lines[cell.name] = fitted_lines(slowed, everything, _first(requests, everything))
    return Judged(bed, scores, placed, lines)


def _plain(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {
        cell: {name: dict(one) for name, one in methods.items()} for cell, methods in found.items()
    }


def _placed(
    cell: Cell,
    times: Times,
    requests: Requests,
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> dict[str, Placed]:
    """Return where each method places all requests, each judged by the other half's lesson."""
    placement = {name: np.zeros(len(requests.photograph), np.intp) for name in METHODS}
    deciding_s = dict.fromkeys(METHODS, 0.0)
    for training, judged in folds:
        rows = np.flatnonzero(np.isin(requests.photograph, judged))
        learnt = _first(requests, training)
        for name, one in place(cell, times, training, learnt, requests.those(rows)).items():
            placement[name][rows] = one.placement
            deciding_s[name] += one.decision_s * len(rows) / len(requests.photograph)
    return {name: Placed(placement[name], deciding_s[name]) for name in METHODS}


def _first(requests: Requests, photographs: NDArray[np.intp]) -> Requests:
    """Return the first request about each photograph, in their order."""
    _, first = np.unique(requests.photograph, return_index=True)
    return requests.those(first[photographs])


def _regressors(
    times: Times, requests: Requests, groups: Sequence[int], progress: Progress
) -> dict[str, dict[str, Any]]:
    """Return how well regressors predict preprocessing and transfers, on originals left out.

    The paper's see its features, size, width, height and pixels; ours those of the plan table.
    """
    theirs = [
        [facts.file_bytes / 1e6, facts.width, facts.height, facts.pixels / 1e6]
        for facts in times.facts
    ]
    everything = np.arange(len(times.facts))
    ours = [
        [facts.file_bytes, facts.samples, facts.decoded_pixels(SIDE_PX), *beyond]
        for facts in times.facts
        for beyond in [(facts.file_bytes, facts.samples) if facts.is_progressive else (0, 0)]
    ]
    targets = {
        "on_device": times.device_s[:, ON_DEVICE],
        "in_cloud": times.received_s[:, 0],
        "transfer": _first(requests, everything).link_s[:, 0],
    }
    progress.begin("regressors", len(targets))
    found = {}
    for target, seconds in targets.items():
        found[target] = dict(compare_regressors(theirs, seconds, groups=groups, names=_REGRESSORS))
        own = compare_regressors(ours, seconds, groups=groups, names=("nonnegative",))
        found[target]["isthmus"] = own["nonnegative"]
        progress.advance(target)
    names = [name for name in ("isthmus", *_REGRESSORS) if name in found["transfer"]]
    return {
        name: {
            "mape": float(np.mean([found[target][name]["mape"] for target in targets])),
            "train_ms": float(np.mean([found[target][name]["train_ms"] for target in targets])),
            "use_us": float(np.mean([found[target][name]["use_us"] for target in targets])),
            "mape_by_target": {target: found[target][name]["mape"] for target in targets},
        }
        for name in names
    }
