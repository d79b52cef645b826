"""Figures of the PieSlicer study: what methods took, and how far they were from the best of two.

All of a cell's methods are judged on the same recorded times. It draws no conclusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from isthmus.lab.studies.pieslicer_bed import Requests
from isthmus.lab.studies.pieslicer_measure import FILE, ON_DEVICE
from isthmus.lab.studies.pieslicer_methods import Placed

__all__ = ["NEAR_SHARE", "Score", "break_even_bytes", "scores_of"]

NEAR_SHARE = 0.2
"""Share of the requests that counts as near break-even."""

_NOTHING_TO_GAIN = 0.001
"""Where the better static method loses less than this share of the best, there is no skill."""


class Score(TypedDict):
    """How one method did in one cell.

    ``accuracy``, ``f1_device`` and ``f1_cloud`` ask only on which side a photograph was resized,
    compared with the faster of two. ``nan`` where a figure has no meaning.

    Attributes:
        p50_ms: Median of the time before the network runs.
        p95_ms: Its 95th percentile.
        p99_ms: Its 99th percentile.
        accuracy: Share of requests placed on the side that turned out faster.
        f1_device: Of the decision for the device.
        f1_cloud: Of the decision for the cloud.
        mean_regret_ms: What was lost against the faster of two, on the mean; below 0 if other
            placements were faster still.
        p99_regret_ms: Its 99th percentile.
        regret_ratio: Mean regret as a share of the mean of the faster of two.
        skill: 1 - regret / regret of the better static method.
        near_break_even_accuracy: Of the requests nearest to break-even, share placed on the side
            that the second measurement says is faster.
        near_break_even_regret_ms: Mean regret of those, by the second measurement.
        sent_ratio: Bytes sent, as a share of what sending files takes.
        decision_us: What one decision takes on this machine, where it was measured.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    accuracy: float
    f1_device: float
    f1_cloud: float
    mean_regret_ms: float
    p99_regret_ms: float
    regret_ratio: float
    skill: float
    near_break_even_accuracy: float
    near_break_even_regret_ms: float
    sent_ratio: float
    decision_us: float


def scores_of(
    requests: Requests, placed: Mapping[str, Placed], *, slowdown: float
) -> dict[str, Score]:
    """Return the figures of each method.

    Args:
        requests: The recorded requests.
        placed: By method; ``in_cloud`` and ``on_device`` among them.
        slowdown: Of the device, which decides.
    """
    best_s = requests.total_s[:, [FILE, ON_DEVICE]].min(axis=1)
    is_device = _device_is_faster(requests.total_s)
    gap_s = requests.second_s[:, ON_DEVICE] - requests.second_s[:, FILE]
    near = np.argsort(np.abs(gap_s), kind="stable")[: max(1, round(NEAR_SHARE * len(gap_s)))]
    near_is_device = _device_is_faster(requests.second_s)[near]
    near_best_s = requests.second_s[near][:, [FILE, ON_DEVICE]].min(axis=1)
    rows = np.arange(len(best_s))
    lost_s = {
        name: requests.total_s[rows, one.placement] + slowdown * one.decision_s - best_s
        for name, one in placed.items()
    }
    static_s = min(float(lost_s[name].mean()) for name in ("in_cloud", "on_device"))
    has_skill = static_s > _NOTHING_TO_GAIN * float(best_s.mean())
    scores = {}
    for name, one in placed.items():
        taken_ms = (lost_s[name] + best_s) * 1e3
        to_device = one.placement != FILE
        near_s = requests.second_s[near, one.placement[near]] + slowdown * one.decision_s
        p50_ms, p95_ms, p99_ms = np.percentile(taken_ms, (50, 95, 99)).tolist()
        regret_s = float(lost_s[name].mean())
        scores[name] = Score(
            p50_ms=p50_ms,
            p95_ms=p95_ms,
            p99_ms=p99_ms,
            accuracy=float((to_device == is_device).mean()),
            f1_device=_f1(to_device, is_device),
            f1_cloud=_f1(~to_device, ~is_device),
            mean_regret_ms=regret_s * 1e3,
            p99_regret_ms=float(np.percentile(lost_s[name], 99)) * 1e3,
            regret_ratio=regret_s / float(best_s.mean()),
            skill=1 - regret_s / static_s if has_skill else float("nan"),
            near_break_even_accuracy=float((to_device[near] == near_is_device).mean()),
            near_break_even_regret_ms=float((near_s - near_best_s).mean()) * 1e3,
            sent_ratio=float(
                requests.sent_bytes[rows, one.placement].sum() / requests.sent_bytes[:, FILE].sum()
            ),
            decision_us=one.decision_s * 1e6,
        )
    return scores


def break_even_bytes(requests: Requests) -> float:
    """Return the size of file that parts the requests best: the device faster from there on.

    0 if all are best on the device, infinite if none is.
    """
    order = np.argsort(requests.sent_bytes[:, FILE], kind="stable")
    sizes = np.concatenate(([0.0], requests.sent_bytes[order, FILE], [np.inf]))
    gained = np.where(_device_is_faster(requests.total_s)[order], 1, -1)
    best = int(np.argmin(np.concatenate(([0], np.cumsum(gained)))))
    low, high = sizes[best], sizes[best + 1]
    return 0.0 if best == 0 else float(high if np.isinf(high) else (low + high) / 2)


def _device_is_faster(total_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether resizing on the device is faster; ties go to the cloud."""
    return np.asarray(total_s[:, ON_DEVICE] < total_s[:, FILE])


def _f1(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Return the harmonic mean of precision and recall; ``nan`` if there is nothing to find."""
    relevant = int(said.sum() + true.sum())
    return 2 * int((said & true).sum()) / relevant if relevant else float("nan")
