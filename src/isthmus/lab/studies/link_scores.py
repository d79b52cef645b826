"""How well a link's next exchange is predicted: this project's estimate against usual ones.

Requests of mixed sizes follow one another over recorded and generated traces, in virtual time, and
every estimator predicts each request's duration from those before. One family has no trace: steady
links with noise of their own on each request, most of which are too small to tell the rate. No
server and no slow start is in it. The recordings are of downlinks and are used as uplinks, as they
are.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from isthmus.estimation.link import INTERVAL_SDS, LinkEstimate
from isthmus.lab.traces import Trace, generated_traces, recorded_traces, traces_folder
from isthmus.types.progress import SILENT, Progress

__all__ = ["ESTIMATORS", "MOSTLY_SMALL", "Request", "link_scores", "mostly_small", "requests_over"]

SIZES_BYTES = (15_000, 1_000_000)
"""Of the requests, log-uniformly distributed."""
REPLY_BYTES = 1_000
PAUSE_S = 1.0
"""From the end of one exchange to the begin of the next."""
PROBE_BYTES = 200
PROBES = 3
BEGIN_S = 5.0
"""Left out of each trace, since the downloads that were recorded begin slowly."""
UNSCORED = 5
"""Requests at the begin of a trace that every estimator learns from first."""

MOSTLY_SMALL = "mostly small"
"""The family of steady links with noise, of which few requests tell the rate."""
_STEADY_LINKS = 8
_STEADY_REQUESTS = 2000
_SMALL_BYTES = 47_000
_LARGE_BYTES = (500_000, 10_000_000)
_LARGE_SHARE = 0.05
_NOISE_SD = 0.1


@dataclass(frozen=True)
class Request:
    """One exchange over a trace.

    Attributes:
        sent_bytes: Size of the request.
        elapsed_s: What it took.
        rate_bytes_per_s: The link's rate when it began.
    """

    sent_bytes: int
    elapsed_s: float
    rate_bytes_per_s: float

    @property
    def total_bytes(self) -> int:
        """Bytes of both directions."""
        return self.sent_bytes + REPLY_BYTES


class _Estimator(Protocol):
    """Predicts exchanges from those before."""

    def predict(self, request: Request) -> tuple[float, float]:
        """Return duration and standard deviation, NaN for none; reads no ``elapsed_s``."""

    def observe(self, request: Request) -> None:
        """Be told what it took."""


class _Rates:
    """A usual estimator: a rate from those of the last exchanges. It is told the round trip."""

    def __init__(self, trace: Trace, mean: Callable[[float | None, float], float]) -> None:
        self._rtt_s = trace.rtt_s
        self._mean = mean
        self._rate: float | None = None
        self._errors: deque[float] = deque(maxlen=50)

    def predict(self, request: Request) -> tuple[float, float]:
        if self._rate is None:
            return math.nan, math.nan
        transfer_s = request.total_bytes / self._rate
        # Its natural interval: the spread of its own last errors, relative to the transfer.
        spread = math.sqrt(sum(e * e for e in self._errors) / max(len(self._errors), 1))
        return self._rtt_s + transfer_s, transfer_s * spread

    def observe(self, request: Request) -> None:
        transfer_s = request.elapsed_s - self._rtt_s
        if self._rate is not None:
            self._errors.append(transfer_s * self._rate / request.total_bytes - 1)
        self._rate = self._mean(self._rate, request.total_bytes / transfer_s)


def _last(_: float | None, rate: float) -> float:
    return rate


def _ewma(mean: float | None, rate: float) -> float:
    return rate if mean is None else mean + 0.25 * (rate - mean)


def _harmonic() -> Callable[[float | None, float], float]:
    kept: deque[float] = deque(maxlen=5)

    def mean(_: float | None, rate: float) -> float:
        kept.append(1 / rate)
        return len(kept) / sum(kept)

    return mean


class _Oracle:
    """Knows the rate at the begin of each request, but not what becomes of it."""

    def __init__(self, trace: Trace) -> None:
        self._rtt_s = trace.rtt_s

    def predict(self, request: Request) -> tuple[float, float]:
        return self._rtt_s + request.total_bytes / max(request.rate_bytes_per_s, 1e3), math.nan

    def observe(self, request: Request) -> None:
        pass


class _Ours:
    """``LinkEstimate``, begun with three small messages and the first request, as a device does."""

    def __init__(self, trace: Trace) -> None:
        small_bytes = 2 * PROBE_BYTES
        small_s = trace.rtt_s + trace.transfer_s(BEGIN_S, small_bytes)
        self._probes = [(PROBE_BYTES, PROBE_BYTES, small_s)] * PROBES
        self._estimate: LinkEstimate | None = None

    def predict(self, request: Request) -> tuple[float, float]:
        if self._estimate is None:
            return math.nan, math.nan
        link = self._estimate.link
        transfer_s = request.total_bytes / link.uplink_bytes_per_s
        sd_s = transfer_s * link.uplink_sd_ratio
        both = 2 * link.uplink_rtt_correlation * link.rtt_sd_s * sd_s
        return link.rtt_s + transfer_s, math.sqrt(max(link.rtt_sd_s**2 + sd_s**2 + both, 0.0))

    def observe(self, request: Request) -> None:
        sample = (request.sent_bytes, REPLY_BYTES, request.elapsed_s)
        if self._estimate is None:
            self._estimate = LinkEstimate.from_probe([*self._probes, sample])
        else:
            self._estimate = self._estimate.observe(*sample)


ESTIMATORS: dict[str, Callable[[Trace], _Estimator]] = {
    "last_sample": lambda trace: _Rates(trace, _last),
    "ewma": lambda trace: _Rates(trace, _ewma),
    "harmonic_mean": lambda trace: _Rates(trace, _harmonic()),
    "oracle": _Oracle,
    "isthmus": _Ours,
}
"""By name: the last rate; its moving average of weight 1/4; the harmonic mean of the last five,
as adaptive video streaming has it; the rate when the request begins; and this project's."""


def requests_over(trace: Trace, *, pause_s: float = PAUSE_S) -> tuple[Request, ...]:
    """Return the requests that a trace has room for, sizes drawn by the trace's name.

    Args:
        trace: The link.
        pause_s: From the end of one exchange to the begin of the next.
    """
    rng = np.random.default_rng(zlib.crc32(trace.name.encode()))
    low, high = np.log(SIZES_BYTES)
    made: list[Request] = []
    at_s = BEGIN_S
    while True:
        sent_bytes = round(math.exp(rng.uniform(low, high)))
        transfer_s = trace.transfer_s(at_s, sent_bytes + REPLY_BYTES)
        if math.isinf(transfer_s):
            return tuple(made)
        elapsed_s = trace.rtt_s + transfer_s
        made.append(Request(sent_bytes, elapsed_s, trace.rate_at(at_s)))
        at_s += elapsed_s + pause_s


def mostly_small() -> dict[Trace, tuple[Request, ...]]:
    """Return steady links, each with its requests: nineteen of twenty small, the others large.

    As a device sends resized photographs, and now and then a file. A small request's duration is
    mostly the constant, 80 to 120 ms; a megabyte takes 80 to 400 ms more. Each request has
    log-normal noise of 10 % on the time of a byte and, drawn apart, on the constant. The first is
    large.
    """
    made: dict[Trace, tuple[Request, ...]] = {}
    for number in range(_STEADY_LINKS):
        rng = np.random.default_rng((zlib.crc32(MOSTLY_SMALL.encode()), number))
        rate, rtt_s = 1e9 / rng.uniform(80, 400), rng.uniform(0.08, 0.12)
        steady = np.array([rate])
        name = f"{MOSTLY_SMALL.replace(' ', '-')}_{number:02d}"
        trace = Trace(name, MOSTLY_SMALL, rtt_s, np.array([3600.0]), steady)
        low, high = np.log(_LARGE_BYTES)
        large = np.exp(rng.uniform(low, high, _STEADY_REQUESTS))
        is_large = rng.random(_STEADY_REQUESTS) < _LARGE_SHARE
        is_large[0] = True
        per_byte, per_message = np.exp(rng.normal(0.0, _NOISE_SD, (2, _STEADY_REQUESTS)))
        made[trace] = tuple(
            Request(
                int(size),
                rtt_s * float(of_message) + (int(size) + REPLY_BYTES) / rate * float(of_byte),
                rate,
            )
            for size, of_byte, of_message in zip(
                np.where(is_large, large, _SMALL_BYTES), per_byte, per_message, strict=True
            )
        )
    return made


def link_scores(
    folder: str | Path | None = None,
    *,
    held_out: bool = True,
    pause_s: float = PAUSE_S,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Return how far predictions were from what happened, one request ahead.

    The estimate's constants were chosen on the even half of the traces of each family, so that
    the other half is what counts. Of the family ``MOSTLY_SMALL`` only large requests are scored,
    and the usual estimators learn from those alone, since small ones would mislead them.

    Args:
        folder: Of the recorded traces; by default where ``traces_folder`` looks. Without any,
            only generated traces are used.
        held_out: Score the half that nothing was chosen on; else the other half.
        pause_s: From the end of one exchange to the begin of the next.
        progress: Is told how far it has come.

    Returns:
        ``overall`` (all requests) and ``families``, each by estimator: ``median`` and ``p95`` of
        the relative error of the duration, and ``interval_coverage``, the share of durations
        within 1.64 standard deviations (``None`` without any); and ``requests``, how many.

    Raises:
        LabError: If the folder or a file in it is not as expected.
    """
    found = traces_folder(folder)
    steady = mostly_small()
    traces = [*(recorded_traces(found) if found else ()), *generated_traces(), *steady]
    halves: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        halves[trace.family].append(trace)
    chosen = [t for family in halves.values() for t in family[int(held_out) :: 2]]
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    inside: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    progress.begin("Predict requests over traces", len(chosen))
    for trace in chosen:
        requests = steady.get(trace) or requests_over(trace, pause_s=pause_s)
        least_bytes = _LARGE_BYTES[0] if trace in steady else 0
        for name, make in ESTIMATORS.items():
            estimator = make(trace)
            for number, request in enumerate(requests):
                is_large = request.sent_bytes >= least_bytes
                expected_s, sd_s = estimator.predict(request)
                if is_large or make is _Ours:
                    estimator.observe(request)
                if number < UNSCORED or not is_large:
                    continue
                off_s = abs(expected_s - request.elapsed_s)
                errors[trace.family][name].append(off_s / request.elapsed_s)
                if not math.isnan(sd_s):
                    inside[trace.family][name].append(off_s <= INTERVAL_SDS * sd_s)
        progress.advance(trace.name)
    families = {f: _scores([errors[f]], [inside[f]]) for f in errors}
    return {
        "pause_s": pause_s,
        "half": "held out" if held_out else "chosen on",
        "recordings": "downlink recordings used as uplink" if found else "none found",
        "requests": {family: len(errors[family]["isthmus"]) for family in errors},
        "overall": _scores(list(errors.values()), list(inside.values())),
        "families": families,
    }


def _scores(
    errors: Sequence[dict[str, list[float]]], inside: Sequence[dict[str, list[bool]]]
) -> dict[str, dict[str, float | None]]:
    scores: dict[str, dict[str, float | None]] = {}
    for name in ESTIMATORS:
        all_errors = np.concatenate([family[name] for family in errors])
        all_inside = [hit for family in inside for hit in family.get(name, ())]
        scores[name] = {
            "median": float(np.median(all_errors)),
            "p95": float(np.quantile(all_errors, 0.95)),
            "interval_coverage": float(np.mean(all_inside)) if all_inside else None,
        }
    return scores
