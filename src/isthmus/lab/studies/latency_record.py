"""What the latency study found, as one record: errors by network, over all, and apart.

A function of what was measured, request by request and part by part. It measures and prints
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from isthmus.lab.beds import BedKind
from isthmus.lab.studies.latency_gap import measured_gap
from isthmus.lab.studies.latency_requests import SETTINGS, Asked, request_record
from isthmus.lab.studies.latency_scores import (
    Prediction,
    error_ratios,
    predictions,
    site_models,
)
from isthmus.lab.studies.latency_times import CADENCES, NetworkTimes
from isthmus.types.graph import ModelGraph

__all__ = ["LatencyStudy"]


@dataclass(frozen=True)
class LatencyStudy:
    """All that was measured.

    Attributes:
        networks: Graphs and times of their parts, by name.
        asked: Requests by bed.
        transfer: ``TransferScores.record``; empty if not asked for, as all below.
        link: ``link_scores``.
        regressors: ``compare_regressors`` by kind of layers.
        left_out: What is not in it and why, by name.
    """

    networks: Mapping[str, tuple[ModelGraph, NetworkTimes]] = field(default_factory=dict)
    asked: Mapping[BedKind, Sequence[Asked]] = field(default_factory=dict)
    transfer: Mapping[str, Any] = field(default_factory=dict)
    link: Mapping[str, Any] = field(default_factory=dict)
    regressors: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the errors as JSON values.

        By network, and ``overall``: ``error_ratio`` of heads and tails of the cuts held out, run
        one after the other; ``end_to_end`` in it is of whole requests on the emulated bed.
        ``with_gaps`` is the same with half a second between runs, ``further_cuts`` of the cuts
        that are not scored, and ``sequence`` of head and tail together. ``measured_gap`` is what
        a choice among the candidates loses.
        """
        models = site_models(self.networks)
        found = {
            name: predictions(graph, times, models.get(name))
            for name, (graph, times) in self.networks.items()
        }
        requests = {bed: request_record(asked) for bed, asked in self.asked.items()}
        whole = requests.get("emulated", {})
        networks = {
            name: self._network(name, found[name], whole.get("networks", {}).get(name))
            for name in self.networks
        }
        every = [one for predicted in found.values() for one in predicted]
        record: dict[str, Any] = {"networks": networks}
        if every:
            record["overall"] = _errors(every, whole.get("overall"))
            record["measured_gap"] = _worst(
                [one["measured_gap"] for one in networks.values() if "measured_gap" in one]
            )
        if requests:
            record["requests"] = {**requests, "settings": _settings()}
        if self.transfer:
            record["transfer"] = {k: v for k, v in self.transfer.items() if k != "transfers"}
        if self.link:
            record["link"] = self.link["overall"]
            record["link_details"] = {k: v for k, v in self.link.items() if k != "overall"}
        if self.regressors:
            record["regressors"] = dict(self.regressors)
        record["left_out"] = dict(self.left_out)
        return record

    def _network(
        self, name: str, predicted: Sequence[Prediction], whole: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        graph, times = self.networks[name]
        runs = {
            f"{process}_{cadence}": found[cadence].runs
            for process, found in (("first", times.first), ("second", times.second))
            for cadence in CADENCES
        }
        record = {
            "cuts": len(times.cuts),
            "network_s": times.network_s,
            **_errors(predicted, whole),
            "fitted": [list(times.cuts[i]) for i in times.fitted],
            "held_out": [list(times.cuts[i]) for i in times.held_out],
            "least_runs": runs,
            "made": dict(times.made),
        }
        if times.is_every_cut_vertex:
            record["measured_gap"] = measured_gap(graph, times)
        return record


def _errors(
    predicted: Sequence[Prediction], whole: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    busy = [one for one in predicted if one.cadence == "busy"]
    scored = [one for one in busy if one.is_scored]
    ratios: dict[str, Any] = error_ratios(scored)
    if whole is not None:
        ratios["end_to_end"] = dict(whole)
    return {
        "error_ratio": ratios,
        "sequence": error_ratios(_sequences(scored)),
        "heads": error_ratios(one for one in scored if one.side == "head"),
        "tails": error_ratios(one for one in scored if one.side == "tail"),
        "further_cuts": error_ratios(one for one in busy if not one.is_scored),
        "with_gaps": error_ratios(one for one in predicted if one.cadence == "idle"),
    }


def _sequences(predicted: Sequence[Prediction]) -> list[Prediction]:
    """Return head and tail of each cut as one."""
    heads, tails = ([p for p in predicted if p.side == side] for side in ("head", "tail"))
    return [
        Prediction(
            head.method,
            head.cadence,
            head.is_scored,
            head.cut,
            head.side,
            head.predicted_s + tail.predicted_s,
            head.observed_s + tail.observed_s,
        )
        for head, tail in zip(heads, tails, strict=True)
    ]


def _worst(gaps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the losses over all networks: the largest, and the mean of the means."""
    if not gaps:
        return {"networks": 0}
    return {
        "networks": len(gaps),
        "loss_ratio": {
            way: {
                "max": max(gap["loss_ratio"][way]["max"] for gap in gaps),
                "mean": sum(gap["loss_ratio"][way]["mean"] for gap in gaps) / len(gaps),
            }
            for way in gaps[0]["loss_ratio"]
        },
    }


def _settings() -> dict[str, Any]:
    return {key: value for key, value in asdict(SETTINGS).items() if key != "parts"}
