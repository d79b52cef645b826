"""Plan map: which plan is chosen over the uplink's rate and one more condition, as a picture.

What is chosen comes from ``planning.sweep`` alone; every line of the picture is where it says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.lab.picture import save_picture
from isthmus.planning.decide import predict
from isthmus.planning.sweep import Stretch, sweep, with_value
from isthmus.types.conditions import Conditions
from isthmus.types.plan import PlanRow, PlanTable, Rules

__all__ = ["UPLINKS_BYTES_PER_S", "MapRow", "PlanMap", "draw_map", "map_plans"]

UPLINKS_BYTES_PER_S = (50e3 / 8, 1e9 / 8)
"""The horizontal axis: 50 kbit/s to 1 Gbit/s."""

_SLOWDOWNS = (0.25, 16.0)
_ROWS = 120
_CLOSE = 1.002
"""Rows that differ are refined until their values differ by no more than this factor."""


@dataclass(frozen=True)
class MapRow:
    """What is chosen along the uplink at one value of the vertical axis."""

    value: float
    stretches: tuple[Stretch, ...]

    @property
    def keys(self) -> tuple[tuple[int, bool], ...]:
        """The chosen rows of the table in turn, and whether they will be late."""
        return tuple((part.plan.index, part.is_late) for part in self.stretches)


@dataclass(frozen=True)
class PlanMap:
    """What is chosen over two conditions.

    Attributes:
        vertical: ``deadline_s``, or ``device_slowdown`` where least latency is asked for.
        rows: From the lowest value to the highest, dense where the choice changes.
    """

    vertical: Literal["deadline_s", "device_slowdown"]
    rows: tuple[MapRow, ...]


def map_plans(table: PlanTable, conditions: Conditions, rules: Rules) -> PlanMap:
    """Return what ``decide`` chooses over the uplink and the deadline, all else as it is.

    Under rules that ask for the least latency the vertical axis is the device's slowdown.

    Args:
        table: All plans.
        conditions: What does not change.
        rules: What the user asks for; their deadline is replaced.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan.
        ConditionsError: If some conditions cannot be computed with.
    """
    by_slowdown = rules.objective == "least_latency"
    lowest, highest = _SLOWDOWNS if by_slowdown else _deadlines(table, conditions, rules)

    def row_at(value: float) -> MapRow:
        if by_slowdown:
            now, wanted = with_value(conditions, "device_slowdown", value), rules
        else:
            now, wanted = conditions, replace(rules, deadline_s=value)
        parts = sweep(table, now, wanted, "uplink_bytes_per_s", *UPLINKS_BYTES_PER_S)
        return MapRow(value, parts)

    def between(one: MapRow, other: MapRow) -> list[MapRow]:
        if one.keys == other.keys or other.value < one.value * _CLOSE:
            return []
        middle = row_at(math.sqrt(one.value * other.value))
        return [*between(one, middle), middle, *between(middle, other)]

    coarse = [row_at(float(value)) for value in np.geomspace(lowest, highest, _ROWS)]
    rows = [coarse[0]]
    for one, other in pairwise(coarse):
        rows += [*between(one, other), other]
    return PlanMap("device_slowdown" if by_slowdown else "deadline_s", tuple(rows))


def _deadlines(table: PlanTable, conditions: Conditions, rules: Rules) -> tuple[float, float]:
    """Return from which deadline to which something changes, with some margin, seconds."""
    limits = []
    for rate in UPLINKS_BYTES_PER_S:
        plans = predict(table, with_value(conditions, "uplink_bytes_per_s", rate), rules)
        best = max(plan.accuracy for plan in plans)
        limits.append(min(plan.latency_s for plan in plans))
        limits.append(min(p.latency_s + 2 * p.latency_sd_s for p in plans if p.accuracy == best))
    return min(limits) * 0.75, max(limits) * 1.35


# The picture.

_COLOURS = {"local": 30, "file": 205, "resized": 235, "tensor": 165, "split": 345}  # hues, degrees
_LATE = "#e4e4e4"
_GRID = (300, 200)  # columns and rows of the raster on which labels are placed
_SIZE = (10.0, 6.2)  # inches
_AXES = (0.085, 0.105, 0.875, 0.765)  # left, bottom, width, height, shares of the figure
_FONT_SIZES = (10.5, 9.0, 8.0, 7.0)
_WORDS = {
    "local": "all on the device",
    "file": "send the file",
    "resized": "send a resized JPEG",
    "tensor": "send the input tensor",
}


def draw_map(
    plan_map: PlanMap,
    target: Path,
    *,
    title: str,
    now: tuple[float, float] | None = None,
) -> None:
    """Draw a map: one area a plan, with its name in it; grey where every plan is late.

    Args:
        plan_map: From ``map_plans``.
        target: File to write, ``.svg`` or ``.png``.
        title: The conditions that do not change.
        now: Uplink rate, bytes per second, and value of the vertical axis to mark.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=_SIZE)
    panel = figure.add_axes(_AXES)
    rows = plan_map.rows
    scale = 1e3 if plan_map.vertical == "deadline_s" else 1.0
    colours = _colours(rows)
    sheets = _sheets(rows)
    for values, keys, edges in sheets:
        for i, key in enumerate(keys):
            left, right = (np.array([e[i + k] for e in edges]) * 8 / 1e6 for k in (0, 1))
            panel.fill_betweenx(
                np.array(values) * scale, left, right,
                facecolor=colours[key], edgecolor=colours[key], linewidth=0.4,
            )  # fmt: skip
    for xs, ys in _borders(sheets):
        panel.plot(np.array(xs) * 8 / 1e6, np.array(ys) * scale, color="white", linewidth=1.0)
    panel.set(xscale="log", yscale="log")
    panel.set_xlim(*(rate * 8 / 1e6 for rate in UPLINKS_BYTES_PER_S))
    panel.set_ylim(rows[0].value * scale, rows[-1].value * scale)
    ticks = [0.1, 1, 10, 100, 1000]
    panel.set_xticks(ticks, ["100 kbit/s", "1 Mbit/s", "10 Mbit/s", "100 Mbit/s", "1 Gbit/s"])
    low, high = rows[0].value * scale, rows[-1].value * scale
    steps = [m * 10.0**e for e in range(-2, 6) for m in (1, 1.5, 2, 3, 5, 7)]
    steps = [step for step in steps if low <= step <= high]
    unit = " ms" if plan_map.vertical == "deadline_s" else "x"
    panel.set_yticks(steps, [f"{step:g}{unit}" for step in steps])
    panel.minorticks_off()
    panel.set_xlabel("uplink")
    panel.set_ylabel(
        "deadline" if plan_map.vertical == "deadline_s" else "device slower than profiled"
    )
    panel.spines[["top", "right"]].set_visible(False)
    figure.text(_AXES[0], 0.945, _heading(plan_map), fontsize=13, fontweight="bold")
    figure.text(_AXES[0], 0.9, title, fontsize=9, color="#555555")
    _label(panel, rows)
    if now is not None and low <= now[1] * scale <= high:
        place = now[0] * 8 / 1e6, now[1] * scale
        panel.plot(*place, "o", color="black", ms=6, mec="white")
        panel.annotate("here", place, (6, 5), textcoords="offset points", fontsize=9, weight="bold")
    save_picture(figure, target, title=_heading(plan_map), description=title)
    plt.close(figure)


def _heading(plan_map: PlanMap) -> str:
    if plan_map.vertical == "deadline_s":
        return "The most accurate plan in time"
    return "The fastest plan"


def _plans(rows: Sequence[MapRow]) -> dict[tuple[int, bool], Stretch]:
    return {key: part for row in rows for key, part in zip(row.keys, row.stretches, strict=True)}


def _colours(rows: Sequence[MapRow]) -> dict[tuple[int, bool], Any]:
    """Return a colour for each area: the family's hue, darker for more accurate networks."""
    from colorsys import hls_to_rgb

    plans = _plans(rows)
    accuracies = sorted({part.plan.accuracy for (_, is_late), part in plans.items() if not is_late})
    rows_of: dict[str, list[int]] = {}
    for index, is_late in sorted(plans):
        if not is_late:
            rows_of.setdefault(plans[index, is_late].plan.row.family, []).append(index)
    found: dict[tuple[int, bool], Any] = {}
    for key, part in plans.items():
        if key[1]:
            found[key] = _LATE
            continue
        family = part.plan.row.family
        rank = accuracies.index(part.plan.accuracy) / max(1, len(accuracies) - 1)
        shift = 0.035 * (rows_of[family].index(key[0]) % 2)  # so that neighbours differ
        lightness = 0.87 - 0.24 * rank + shift
        found[key] = hls_to_rgb(_COLOURS[family] / 360, lightness, 0.55)
    return found


_Sheet = tuple[list[float], tuple[tuple[int, bool], ...], list[list[float]]]


def _sheets(rows: Sequence[MapRow]) -> list[_Sheet]:
    """Return rows of like choices together: their values, what is chosen, and where it ends.

    Each reaches half-way to its neighbours, which are close by.
    """
    found = []
    for keys, group in groupby(rows, key=lambda row: row.keys):
        members = list(group)
        values = [row.value for row in members]
        edges = [[row.stretches[0].low, *(p.high for p in row.stretches)] for row in members]
        found.append((values, keys, edges))
    for one, other in pairwise(found):
        meeting = math.sqrt(one[0][-1] * other[0][0])
        one[0].append(meeting)
        one[2].append(one[2][-1])
        other[0].insert(0, meeting)
        other[2].insert(0, other[2][0])
    return found


def _borders(sheets: Sequence[_Sheet]) -> list[tuple[list[float], list[float]]]:
    """Return the lines between areas, rates and values of each; those too late are one area."""
    found = []
    for values, keys, edges in sheets:
        for i, (one, other) in enumerate(pairwise(keys), start=1):
            if not (one[1] and other[1]):
                found.append(([e[i] for e in edges], values))
    for (values, below, below_edges), (_, above, above_edges) in pairwise(sheets):
        lower, upper = below_edges[-1], above_edges[0]
        for left, right in pairwise(sorted({*lower, *upper})):
            middle = math.sqrt(left * right)
            one = below[int(np.searchsorted(lower[1:-1], middle))]
            other = above[int(np.searchsorted(upper[1:-1], middle))]
            if one != other and not (one[1] and other[1]):
                found.append(([left, right], [values[-1], values[-1]]))
    return found


def _raster(rows: Sequence[MapRow]) -> NDArray[np.int64]:
    """Return the area of each point of a grid: the table's row, or -1 where it is late."""
    columns, lines = _GRID
    rates = np.geomspace(*UPLINKS_BYTES_PER_S, columns)
    values = np.geomspace(rows[0].value, rows[-1].value, lines)
    places = np.abs(np.log([row.value for row in rows])[None, :] - np.log(values)[:, None])
    grid = np.empty((lines, columns), np.int64)
    for line, place in enumerate(places.argmin(axis=1)):
        parts = rows[int(place)].stretches
        ends = np.array([part.high for part in parts[:-1]])
        chosen = np.array([-1 if part.is_late else part.plan.index for part in parts])
        grid[line] = chosen[np.searchsorted(ends, rates)]
    return grid


def _label(panel: Any, rows: Sequence[MapRow]) -> None:
    """Write into each area what it is, as large as fits."""
    grid = _raster(rows)
    plans = {index: part.plan.row for (index, is_late), part in _plans(rows).items() if not is_late}
    several = len({row.variant for row in plans.values()}) > 1
    cuts = _cut_names(plans)
    for area in np.unique(grid).tolist():
        texts = (
            ["no plan is in time:\nthe fastest is taken", "no plan\nis in time"]
            if area < 0
            else _texts(plans[area], cuts.get(area, ""), several=several)
        )
        placed = _place(grid == area, texts)
        if placed is not None:
            x, y, text, size, angle = placed
            panel.text(
                x, y, text, fontsize=size, ha="center", va="center", linespacing=1.15,
                rotation=angle, transform=panel.transAxes, color="#222222",
            )  # fmt: skip


def _cut_names(plans: Mapping[int, PlanRow]) -> dict[int, str]:
    """Return names of cuts: the first part of the tensor's, unless two of a network share it."""
    whole = {
        index: (row.tensors[0].strip("/").removesuffix("_output_0") if row.tensors else row.cut_id)
        for index, row in plans.items()
        if row.family == "split"
    }
    first = {index: name.split("/")[0] for index, name in whole.items()}
    cuts = {(plans[index].variant, first[index], name) for index, name in whole.items()}
    meant = Counter((variant, short) for variant, short, _ in cuts)
    return {
        index: first[index] if meant[plans[index].variant, first[index]] == 1 else name
        for index, name in whole.items()
    }


def _texts(row: PlanRow, cut: str, *, several: bool) -> list[str]:
    """Return what an area may be called, the best first."""
    if row.family == "split":
        whats = [f"cut at {cut}\n{row.codec}", f"cut {cut}"]
    else:
        words = _WORDS[row.family]
        whats = [words, row.family]
    if not several:
        return whats
    named = [f"{row.variant}{gap}{what}" for what in whats for gap in ("\n", " ")]
    return [*named, whats[-1], row.family]


def _place(
    mask: NDArray[np.bool_], texts: Sequence[str]
) -> tuple[float, float, str, float, float] | None:
    """Return where in an area a text fits, how large and at which angle; ``None`` if none does.

    The better text comes before the larger one, and upright before on its side. The place, in
    shares of the panel, is where there is most room around it.
    """
    lines, columns = mask.shape
    sums = np.zeros((lines + 1, columns + 1), np.int64)
    sums[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    for text, angle, size in product(texts, (0.0, 90.0), _FONT_SIZES):
        parts = text.split("\n")
        width_in = (0.60 * max(map(len, parts)) + 1.0) * size / 72
        height_in = (1.25 * len(parts) + 0.5) * size / 72
        if angle:
            width_in, height_in = height_in, width_in
        wide = math.ceil(width_in / (_SIZE[0] * _AXES[2]) * columns)
        high = math.ceil(height_in / (_SIZE[1] * _AXES[3]) * lines)
        if wide > columns or high > lines:
            continue
        held = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
        fits = held == wide * high
        if fits.any():
            line, column = _middle(fits)
            return (column + wide / 2) / columns, (line + high / 2) / lines, text, size, angle
    return None


def _middle(fits: NDArray[np.bool_]) -> tuple[int, int]:
    """Return a point that is far from where nothing fits: the last to go when all edges recede."""
    kept = fits
    while True:
        inner = np.zeros_like(kept)
        inner[1:-1, 1:-1] = (
            kept[1:-1, 1:-1] & kept[:-2, 1:-1] & kept[2:, 1:-1] & kept[1:-1, :-2] & kept[1:-1, 2:]
        )
        if not inner.any():
            places = np.argwhere(kept)
            line, column = places[len(places) // 2]
            return int(line), int(column)
        kept = inner
