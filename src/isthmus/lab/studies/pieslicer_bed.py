"""Three devices and two networks as PieSlicer published them, and what requests take on them.

Links run on virtual time: a published line (milliseconds over megabytes), and where asked for
a residual for each request, drawn once and the same for all methods and placements. Compute is what
was measured on this machine, times a slowdown and plus a constant that bring it to the published
line of the device: phones take tens of milliseconds before they decode anything, so a factor alone
would make small photographs several times too fast. It measures nothing and decides nothing.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.lab.studies.pieslicer_measure import FILE, ON_DEVICE, Times
from isthmus.types.conditions import ImageFacts

__all__ = [
    "DEVICES", "NETWORKS", "RESIDUALS", "Cell", "Line", "Requests", "cells", "fitted_device",
    "line_through", "published_figures", "published_lines", "requests_in",
]  # fmt: skip

DEVICES = ("nexus5", "motox4", "pixel2")
NETWORKS = ("university", "residential")

RESIDUALS = (0.05, 0.1, 0.2)
"""Standard deviations of the logarithms of a request's own factors on the link's seconds per byte
and on its constant. Published medians of one method in two runs are 5 to 16 % apart."""

_Floats = NDArray[np.float64]


class Line(NamedTuple):
    """A straight line over file sizes.

    Attributes:
        s_per_byte: Slope.
        constant_s: Seconds for no bytes.
    """

    s_per_byte: float
    constant_s: float

    def at(self, size_bytes: _Floats | float) -> _Floats:
        """Return seconds for sizes."""
        return np.asarray(self.s_per_byte * np.asarray(size_bytes) + self.constant_s)


@dataclass(frozen=True)
class Cell:
    """One device on one network.

    Attributes:
        device: Its name, of ``DEVICES``.
        network: Its name, of ``NETWORKS``.
        slowdown: How many times slower than this machine the device is.
        overhead_s: What it takes beyond that to resize any photograph.
        link: The published line of transfers.
    """

    device: str
    network: str
    slowdown: float
    overhead_s: float
    link: Line

    def slowed(self, times: Times) -> Times:
        """Return what would be measured with this device instead of this machine."""
        return replace(
            times,
            decode_s=self.slowdown * times.decode_s,
            resize_s=self.slowdown * times.resize_s + self.overhead_s,
            encode_s=self.slowdown * times.encode_s,
        )

    @property
    def name(self) -> str:
        """``DEVICE/NETWORK``."""
        return f"{self.device}/{self.network}"


@dataclass(frozen=True, eq=False)
class Requests:
    """``R`` requests in one cell, recorded in every placement.

    Attributes:
        photograph: Which photograph each is about, int ``[R]``.
        facts: What each photograph's header tells, length ``R``.
        link_s: Transfers, ``[R, P]`` for ``PLACEMENTS``, seconds.
        total_s: Everything before the network runs, ``[R, P]``, seconds.
        second_s: The same with the second measurement of compute, ``[R, P]``.
        sent_bytes: What crosses, ``[R, P]``.
        per_byte: Each request's factor on the link's seconds per byte, ``[R]``.
        per_message: The same on its constant, ``[R]``.
    """

    photograph: NDArray[np.intp]
    facts: tuple[ImageFacts, ...]
    link_s: _Floats
    total_s: _Floats
    second_s: _Floats
    sent_bytes: _Floats
    per_byte: _Floats
    per_message: _Floats

    def those(self, rows: NDArray[np.intp]) -> Requests:
        """Return some of the requests, in the order of ``rows``."""
        arrays = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, facts=tuple(self.facts[row] for row in rows), **arrays)


def requests_in(
    cell: Cell,
    times: Times,
    second: Times,
    photograph: NDArray[np.intp],
    *,
    residual_sd: float = 0.0,
    seed: int = 0,
) -> Requests:
    """Return requests about photographs, each with the link's residual of its own.

    Args:
        cell: The device and the network.
        times: What they took with this device (``Cell.slowed``).
        second: What they took when measured again.
        photograph: Which photograph each request is about, int ``[R]``.
        residual_sd: Of the logarithms of a request's factors on the link's line.
        seed: Of the residuals; differs by cell.
    """
    place = DEVICES.index(cell.device) * len(NETWORKS) + NETWORKS.index(cell.network)
    rng = np.random.default_rng((seed, place))
    per_byte, per_message = np.exp(rng.normal(0.0, residual_sd, (2, len(photograph))))
    sent_bytes = times.sent_bytes[photograph]
    link_s = (
        cell.link.s_per_byte * per_byte[:, None] * sent_bytes
        + cell.link.constant_s * per_message[:, None]
    )
    return Requests(
        photograph,
        tuple(times.facts[number] for number in photograph),
        link_s,
        link_s + (times.device_s + times.received_s)[photograph],
        link_s + (second.device_s + second.received_s)[photograph],
        sent_bytes,
        per_byte,
        per_message,
    )


def cells(times: Times) -> tuple[Cell, ...]:
    """Return all devices on all networks, the devices as slow as published."""
    lines = published_lines()
    return tuple(
        Cell(device, network, *fitted_device(times, device), lines["transfer", device, network])
        for device in DEVICES
        for network in NETWORKS
    )


def fitted_device(times: Times, device: str) -> tuple[float, float]:
    """Return the slowdown and the constant that give a device its published line.

    The line through what was measured here (least squares, as the published one) then is the
    published one; where that takes a negative constant, it is 0.

    Args:
        times: What was measured here.
        device: Of ``DEVICES``.
    """
    published = published_lines()["on_device", device, ""]
    here = line_through(times.sent_bytes[:, FILE], times.device_s[:, ON_DEVICE])
    slowdown = published.s_per_byte / here.s_per_byte
    return slowdown, max(0.0, published.constant_s - slowdown * here.constant_s)


def line_through(sizes: _Floats, seconds: _Floats) -> Line:
    """Return the line of least squares."""
    slope, constant = np.polyfit(sizes, seconds, 1)
    return Line(float(slope), float(constant))


@lru_cache
def published_lines() -> dict[tuple[str, str, str], Line]:
    """Return the coefficients of PieSlicer's app by term, device and network."""
    return {
        (row["term"], row["device"], row["network"]): Line(
            float(row["slope_ms_per_mb"]) / 1e9, float(row["intercept_ms"]) / 1e3
        )
        for row in _rows("pieslicer_coefficients.csv")
    }


@lru_cache
def published_figures() -> dict[str, dict[str, dict[str, float]]]:
    """Return PieSlicer's results by cell and method.

    ``p50``, ``p95`` and ``p99`` are milliseconds for ``optimal`` and shares of those for the rest;
    ``f1`` is given for ``pieslicer``.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in _rows("pieslicer_published.csv"):
        figures = {key: float(row[key]) for key in ("p50", "p95", "p99", "f1") if row[key]}
        found.setdefault(f"{row['device']}/{row['network']}", {})[row["method"]] = figures
    return found


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
