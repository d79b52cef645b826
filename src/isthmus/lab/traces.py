"""Traces: rates of a link over time, recorded or generated, and exact transfers over them.

Time is virtual: nothing is sent and nothing waits. A trace has a rate at each instant and a
constant round trip; it knows no losses and no queues. Recorded traces are never part of the
package; where their folder is absent, the generated ones remain.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import LabError

__all__ = [
    "FAMILIES",
    "Trace",
    "generated_traces",
    "read_trace",
    "recorded_traces",
    "traces_folder",
]

FAMILIES = ("stationary", "steps", "gauss-markov", "on-off", "lte-like")
"""What ``generated_traces`` makes."""

_GHENT = "ghent-4g"
_NORWAY = "norway-3g"
_RTT_S = {_GHENT: 0.020, _NORWAY: 0.070}
"""Ghent's is the constant in its files; Norway's files have none, so this one is assumed."""
_BITS = 8
_STEP_S = 0.25
_LENGTH_S = 300.0
_EACH = 8


@dataclass(frozen=True, eq=False)
class Trace:
    """Rates of one direction of a link, constant from step to step.

    Attributes:
        name: Unique within its family.
        family: Where it comes from: a folder of recordings, or a way to generate.
        rtt_s: Round trip of a message without size.
        duration_s: Of each step, shape ``(n,)``, positive.
        bytes_per_s: Rate in each step, shape ``(n,)``, not negative.
    """

    name: str
    family: str
    rtt_s: float
    duration_s: NDArray[np.float64]
    bytes_per_s: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.duration_s.shape != self.bytes_per_s.shape or not len(self.duration_s):
            raise LabError(f"trace {self.name} has not one rate for each step")
        if not ((self.duration_s > 0).all() and (self.bytes_per_s >= 0).all()):
            raise LabError(f"trace {self.name} has an impossible duration or rate")

    @property
    def length_s(self) -> float:
        """How long the trace is."""
        return float(self._ends_s[-1])

    def rate_at(self, at_s: float) -> float:
        """Return the rate at one instant, bytes per second; the last one beyond the end."""
        step = int(np.searchsorted(self._ends_s, at_s, side="right"))
        return float(self.bytes_per_s[min(step, len(self.bytes_per_s) - 1)])

    def transfer_s(self, begun_at_s: float, size_bytes: float) -> float:
        """Return how long some bytes take from an instant on.

        Args:
            begun_at_s: When the first is sent, from the trace's begin, not negative.
            size_bytes: How many.

        Returns:
            Seconds until the last has been sent; infinite if the trace ends before.
        """
        ends_s, sums = self._ends_s, self._sums_bytes
        if begun_at_s >= ends_s[-1]:
            return math.inf
        step = int(np.searchsorted(ends_s, begun_at_s, side="right"))
        already = float(sums[step] - (ends_s[step] - begun_at_s) * self.bytes_per_s[step])
        wanted = already + size_bytes
        if wanted > sums[-1]:
            return math.inf
        if size_bytes <= 0:
            return 0.0
        last = int(np.searchsorted(sums, wanted, side="left"))
        left_bytes = float(sums[last]) - wanted
        return float(ends_s[last]) - left_bytes / float(self.bytes_per_s[last]) - begun_at_s

    @cached_property
    def _ends_s(self) -> NDArray[np.float64]:
        return np.cumsum(self.duration_s)

    @cached_property
    def _sums_bytes(self) -> NDArray[np.float64]:
        return np.cumsum(self.duration_s * self.bytes_per_s)


def traces_folder(folder: str | Path | None = None) -> Path | None:
    """Return the folder of the recorded traces, or ``None`` if there is none.

    Args:
        folder: Where to look; by default ``traces`` in the folder that the environment variable
            ``ISTHMUS_SHARED`` names, else in ``../shared``.

    Raises:
        LabError: If a folder was given and has no traces.
    """
    if folder is None:
        found = Path(os.environ.get("ISTHMUS_SHARED", "../shared")) / "traces"
        return found if _has_traces(found) else None
    if not _has_traces(Path(folder)):
        raise LabError(f"{folder} has no folder {_GHENT} or {_NORWAY} of recorded traces")
    return Path(folder)


def recorded_traces(folder: Path) -> tuple[Trace, ...]:
    """Return all recorded traces of a folder, by family and name.

    Raises:
        LabError: If a file is not a trace.
    """
    paths = [*_files(folder / _GHENT, "report_*.json"), *_files(folder / _NORWAY, "norway_*")]
    return tuple(read_trace(path) for path in paths)


def read_trace(path: Path) -> Trace:
    """Return one recorded trace, in the form of either folder.

    A JSON list of ``duration_ms`` and ``bandwidth_kbps``, or lines of time in seconds and Mbit/s,
    each rate holding until the next line (so that the last line's does not count).

    Raises:
        LabError: If the file is not such a trace.
    """
    try:
        text = path.read_text("utf-8")
        if text.lstrip().startswith("["):
            steps = json.loads(text)
            durations = np.array([step["duration_ms"] * 1e-3 for step in steps], float)
            rates = np.array([step["bandwidth_kbps"] * 1e3 / _BITS for step in steps], float)
            family = _GHENT
        else:
            table = np.array([line.split() for line in text.split("\n") if line.strip()], float)
            durations, rates = np.diff(table[:, 0]), table[:-1, 1] * 1e6 / _BITS
            family = _NORWAY
        return Trace(path.stem, family, _RTT_S[family], durations, rates)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise LabError(f"{path} is not a trace: {error}") from error


def generated_traces(seed: int = 0) -> tuple[Trace, ...]:
    """Return traces that need no files: eight of each family of ``FAMILIES``, five minutes each.

    - stationary: one mean, 5 to 20 % of noise from step to step;
    - steps: a new mean about every 40 s, anywhere from 1 to 50 Mbit/s;
    - gauss-markov: a rate that wanders and returns, correlated 0.9 from step to step;
    - on-off: full rate for about 15 s, a tenth of it for about 5 s;
    - lte-like: a slow and a fast wandering, and now and then a deep dip whose length has a heavy
      tail.

    Args:
        seed: Of the random numbers; the same seed makes the same traces.
    """
    rng = np.random.default_rng(seed)
    makers = dict(
        zip(FAMILIES, (_stationary, _steps, _gauss_markov, _on_off, _lte_like), strict=True)
    )
    count = round(_LENGTH_S / _STEP_S)
    durations = np.full(count, _STEP_S)
    return tuple(
        Trace(
            f"{family}_{i:02d}",
            family,
            float(10 ** rng.uniform(-2.0, -1.0)),
            durations,
            np.maximum(make(rng, count), 0.0),
        )
        for family, make in makers.items()
        for i in range(_EACH)
    )


def _mean(rng: np.random.Generator, low_bits: float = 2e6, high_bits: float = 50e6) -> float:
    return float(np.exp(rng.uniform(np.log(low_bits), np.log(high_bits)))) / _BITS


def _noise(rng: np.random.Generator, count: int, sd_ratio: float) -> NDArray[np.float64]:
    return np.exp(rng.normal(0.0, sd_ratio, count))


def _stationary(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return _mean(rng) * _noise(rng, count, rng.uniform(0.05, 0.2))


def _steps(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    rates = [_mean(rng, 1e6)]
    for _ in range(count - 1):
        rates.append(_mean(rng, 1e6) if rng.random() < _STEP_S / 40 else rates[-1])
    return np.array(rates) * _noise(rng, count, 0.05)


def _wandering(rng: np.random.Generator, count: int, correlation: float) -> NDArray[np.float64]:
    """Return a stationary first-order Gauss-Markov sequence of mean 0 and variance 1."""
    values = [rng.normal()]
    for shock in rng.normal(0.0, math.sqrt(1 - correlation**2), count - 1):
        values.append(correlation * values[-1] + shock)
    return np.array(values)


def _gauss_markov(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    wandering = _wandering(rng, count, 0.9) * rng.uniform(0.2, 0.4)
    return _mean(rng) * np.maximum(1 + wandering, 0.05)


def _on_off(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    levels = np.empty(count)
    at, is_on = 0, True
    while at < count:
        end = at + 1 + int(rng.exponential(15.0 if is_on else 5.0) / _STEP_S)
        levels[at:end] = 1.0 if is_on else 0.1
        at, is_on = end, not is_on
    return _mean(rng, 5e6) * levels * _noise(rng, count, 0.05)


def _lte_like(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    slow = np.exp(_wandering(rng, count, 0.997) * 0.3)
    fast = np.maximum(1 + _wandering(rng, count, 0.8) * rng.uniform(0.15, 0.35), 0.05)
    rates = _mean(rng, 8e6) * slow * fast
    for begin in np.flatnonzero(rng.random(count) < 0.01):
        end = begin + 1 + int(rng.pareto(1.5) * 0.5 / _STEP_S)
        rates[begin:end] *= rng.uniform(0.02, 0.3)
    return rates


def _has_traces(folder: Path) -> bool:
    return (folder / _GHENT).is_dir() or (folder / _NORWAY).is_dir()


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    def key(path: Path) -> list[str | int]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]

    return iter(sorted(folder.glob(pattern), key=key))
