"""Predict the parts of a network that nothing was fitted to, and compare with what they took.

A function of what was measured: by sums of measured layers, by models of layers fitted to other
networks, and by segments. It measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from isthmus.estimation.fit import fit_nonnegative
from isthmus.estimation.segments import Part, calibrated_layer_s, part_overhead_s
from isthmus.estimation.site_model import MeasuredNetwork, SiteModel, fit_site_model
from isthmus.estimation.units import fused_units, work_of
from isthmus.lab.studies.latency_times import Cadence, NetworkTimes, Side
from isthmus.profiling.layers import layer_shares_s
from isthmus.types.graph import ModelGraph

__all__ = ["METHODS", "Prediction", "error_ratios", "layer_rows", "predictions", "site_models"]

METHODS = ("sum_of_layers", "regression", "regression_papers", "segments", "noise_floor")
"""The last one is the same part as the fitted process measured it."""

_SIDES: tuple[Side, ...] = ("head", "tail")

PartSeconds = Callable[[frozenset[int]], float]


@dataclass(frozen=True)
class Prediction:
    """A part of a network, predicted by one process and run by another.

    Attributes:
        method: How it was predicted.
        cadence: How it was run.
        is_scored: Whether its cut is one of those between the fitted ones; else it is one more.
        cut: Its number.
        side: Which part.
        predicted_s: Seconds.
        observed_s: Median seconds.
    """

    method: str
    cadence: Cadence
    is_scored: bool
    cut: int
    side: Side
    predicted_s: float
    observed_s: float

    @property
    def error_ratio(self) -> float:
        """How far off it was, of what was observed."""
        return abs(self.predicted_s - self.observed_s) / self.observed_s


def site_models(
    networks: Mapping[str, tuple[ModelGraph, NetworkTimes]],
) -> dict[str, tuple[SiteModel, SiteModel]]:
    """Return models for each network, fitted to the layers of all others; needs four networks.

    The first has our features, the second those of the published systems.
    """
    measured = {name: _measured(*network) for name, network in networks.items()}
    found = {}
    for name in measured:
        others = [one for other, one in measured.items() if other != name]
        if len(others) >= 3:
            own, papers = (fit_site_model("here", others, features=f) for f in ("work", "papers"))
            found[name] = own, papers
    return found


def predictions(
    graph: ModelGraph, times: NetworkTimes, models: tuple[SiteModel, SiteModel] | None
) -> list[Prediction]:
    """Predict the cuts that are not fitted to, for every method and cadence.

    Segments are calibrated on heads and tails of the fitted cuts and on the whole network, as the
    first process measured them one after the other; observed is what the second one measured.
    With gaps every method is scored as it is and, as ``METHOD_at_cadence``, after a constant
    and a factor for heads and another two for tails, fitted to the fitted cuts with gaps.

    Args:
        graph: The network.
        times: What was measured.
        models: Of ``site_models``; without them there is no regression.
    """
    methods = _methods(graph, times, models)
    found: list[Prediction] = []
    for side in _SIDES:
        at_cadence = _cadence(times, side)
        for cut in range(len(times.cuts)):
            if cut in times.fitted:
                continue
            layers = times.layers(graph, cut, side)
            known_s = {name: predict(layers) for name, predict in methods.items()}
            is_scored = cut in times.held_out
            for cadence, second in times.second.items():
                observed_s = second.of(cut, side)
                before_s = times.first[cadence].of(cut, side)
                if observed_s is None or before_s is None:
                    continue
                said_s = dict(known_s)
                if cadence == "idle":
                    said_s |= {f"{n}_at_cadence": at_cadence(s) for n, s in known_s.items()}
                said_s["noise_floor"] = before_s
                found += [
                    Prediction(name, cadence, is_scored, cut, side, seconds, observed_s)
                    for name, seconds in said_s.items()
                ]
    return found


def error_ratios(found: Iterable[Prediction]) -> dict[str, dict[str, float]]:
    """Return median and 95th percentile of the errors, and how many, by method."""
    errors: dict[str, list[float]] = {}
    for one in found:
        errors.setdefault(one.method, []).append(one.error_ratio)
    return {
        name: {
            "median": float(np.median(values)),
            "p95": float(np.quantile(values, 0.95)),
            "count": len(values),
        }
        for name, values in errors.items()
    }


def layer_rows(
    networks: Mapping[str, tuple[ModelGraph, NetworkTimes]], kind: str
) -> tuple[list[tuple[float, ...]], list[float], list[str]]:
    """Return work, seconds and network of all measured units of one kind, for regressors.

    Args:
        networks: Graphs and times.
        kind: Of ``Work``, e.g. ``Conv``.

    Returns:
        Operations, bytes moved and elements written; seconds; the network's name.
    """
    rows: list[tuple[float, ...]] = []
    seconds: list[float] = []
    groups: list[str] = []
    for name, (graph, times) in networks.items():
        for unit in times.units:
            work = work_of(graph, unit.layers)
            if work.kind == kind and unit.seconds > 0:
                rows.append((work.flops, work.moved_bytes, work.output_elements))
                seconds.append(unit.seconds)
                groups.append(name)
    return rows, seconds, groups


def _methods(
    graph: ModelGraph, times: NetworkTimes, models: tuple[SiteModel, SiteModel] | None
) -> dict[str, PartSeconds]:
    layer_s = layer_shares_s(graph, times.units)
    first = times.first["busy"]
    parts = [Part(frozenset(range(len(graph.layers))), first.whole_s)]
    for cut in times.fitted:
        for side in _SIDES:
            seconds = first.of(cut, side)
            assert seconds is not None  # every cut was run without gaps
            parts.append(Part(times.layers(graph, cut, side), seconds))
    overhead_s = part_overhead_s(layer_s, parts)
    segment_s = calibrated_layer_s(layer_s, parts, overhead_s=overhead_s)
    found: dict[str, PartSeconds] = {
        "sum_of_layers": partial(_sum_s, layer_s, 0.0),
        "segments": partial(_sum_s, segment_s, overhead_s),
    }
    if models is not None:
        for name, model in zip(("regression", "regression_papers"), models, strict=True):
            found[name] = partial(_model_s, model, graph)
    return found


def _sum_s(
    layer_s: np.ndarray[Any, np.dtype[np.float64]], more_s: float, layers: frozenset[int]
) -> float:
    return float(layer_s[list(layers)].sum()) + more_s


def _model_s(model: SiteModel, graph: ModelGraph, layers: frozenset[int]) -> float:
    return model.part(graph, layers).seconds


def _cadence(times: NetworkTimes, side: Side) -> Callable[[float], float]:
    """Return what a time without gaps becomes with them, by the fitted cuts."""
    busy, idle = times.first["busy"], times.first["idle"]
    pairs = [(busy.of(cut, side), idle.of(cut, side)) for cut in times.fitted]
    known = [(b, i) for b, i in pairs if b is not None and i is not None]
    if side == "head":
        known.append((busy.whole_s, idle.whole_s))
    constant_s, factor = fit_nonnegative([(1.0, b) for b, _ in known], [i for _, i in known])
    return lambda seconds: float(constant_s + factor * seconds)


def _measured(graph: ModelGraph, times: NetworkTimes) -> MeasuredNetwork:
    every: Sequence[int] = range(len(graph.layers))
    return MeasuredNetwork(
        name=times.name,
        units=tuple(work_of(graph, unit.layers) for unit in times.units),
        seconds=tuple(unit.seconds for unit in times.units),
        network_s=times.network_s,
        predictable=tuple(work_of(graph, unit) for unit in fused_units(graph, every)),
    )
