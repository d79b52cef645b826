"""Draw `docs/images/frontier.svg`: `python tools/draw_frontier.py`, with the zoo installed.

Left: every cut between the layers of MobileNetV2, and those on the frontier. Right: which of them
is best under which condition. Layer times are estimated, not measured; pixels stay on the device.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import matplotlib as mpl
import numpy as np

import isthmus_zoo

mpl.use("svg")

from matplotlib import pyplot as plt

from isthmus.loading.onnx_file import load_graph
from isthmus.planning.candidates import estimated_layer_s
from isthmus.planning.cheapest_plan import CheapestPlan, PlanCosts
from isthmus.planning.envelope import cost_s
from isthmus.planning.frontier import Frontier, frontier
from isthmus.planning.pixels import pixel_tensors

NETWORK = "mobilenet-v2"
TARGET = Path(__file__).parents[1] / "docs" / "images" / "frontier.svg"
COLOURS = ("#0969da", "#bf8700", "#1a7f37", "#cf222e", "#8250df", "#57606a", "#0a7ea4", "#953800")
TITLE = "The frontier of MobileNetV2"
DESCRIPTION = (
    "Left: the cuts of MobileNetV2 as points, seconds on the device across and bytes sent up; six "
    "on the lower left are joined by a line, the frontier. Right: uplink across, server speed up, "
    "both logarithmic; the plane is divided into regions, one for each cut on the frontier."
)


def costs_of_network() -> PlanCosts:
    """Return estimated costs, the server ten times as fast, for plans that send no pixels."""
    graph = load_graph(isthmus_zoo.model_path(NETWORK))
    device_s = np.array([estimated_layer_s(graph, layer) for layer in graph.layers])
    hidden = pixel_tensors(graph)
    sent = {
        name: math.inf if name in hidden else float(graph.tensors[name].size_bytes)
        for name in graph.consumers
    }
    return PlanCosts(graph, device_s, device_s / 10, sent)


def draw_costs(axes: plt.Axes, costs: PlanCosts, found: Frontier) -> None:
    """Draw device seconds against bytes, of all cuts and of the frontier."""
    every = [plan.costs for plan in CheapestPlan(costs).some(32)]
    axes.scatter(*zip(*[(c[0] * 1e3, c[1] / 1e3) for c in every], strict=True), s=9, c="#afb8c1")
    corners = [(plan.costs[0] * 1e3, plan.costs[1] / 1e3) for plan in found.plans]
    axes.plot(*zip(*corners, strict=True), color="#1f2328", linewidth=1, zorder=2)
    for place, at in enumerate(corners):
        axes.scatter(*at, s=46, color=COLOURS[place], zorder=3)
        axes.annotate("ABCDEFGH"[place], at, (5, 6), textcoords="offset points", weight="bold")
    axes.set(xlabel="on the device, ms", ylabel="sent, KB", ylim=(-60, 1750))


def draw_regions(axes: plt.Axes, found: Frontier) -> None:
    """Draw which vertex is best under which condition."""
    uplinks, speeds = np.geomspace(5e4, 1e10, 260), np.geomspace(1, 100, 160)
    conditions = [[(8 / uplink, 10 / speed) for uplink in uplinks] for speed in speeds]
    best = np.array(
        [
            [int(np.argmin([cost_s(plan.costs, at) for plan in found.plans])) for at in row]
            for row in conditions
        ]
    )
    shown = mpl.colors.ListedColormap(COLOURS[: len(found.plans)])
    axes.contourf(
        uplinks / 1e6, speeds, best, np.arange(len(found.plans) + 1) - 0.5, cmap=shown, alpha=0.75
    )
    for place in range(len(found.plans)):
        rows, columns = np.nonzero(best == place)
        row = int(np.median(rows))
        at = float(np.median(uplinks[columns[rows == row]])) / 1e6, float(speeds[row])
        axes.text(*at, "ABCDEFGH"[place], weight="bold", ha="center", va="center")
    axes.set(xscale="log", yscale="log", xlabel="uplink, Mbit/s", ylabel="server, times the device")


def main() -> None:
    """Draw the picture."""
    mpl.rcParams.update({"svg.hashsalt": NETWORK, "svg.fonttype": "none", "font.size": 10})
    costs = costs_of_network()
    found = frontier(costs)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained")
    draw_costs(left, costs, found)
    draw_regions(right, found)
    left.set_title(f"{len(found.plans)} vertices", loc="left")
    right.set_title("where each is best", loc="left")
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    head, tail = drawn.getvalue().split("<defs>", 1)
    said = f"<title>{TITLE}</title>\n <desc>{DESCRIPTION}</desc>\n <defs>"
    lines = (head + said + tail).splitlines()
    TARGET.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
    for name, plan in zip("ABCDEFGH", found.plans, strict=False):
        print(name, ", ".join(plan.tensors) or "all on the device", plan.costs)


if __name__ == "__main__":
    main()
