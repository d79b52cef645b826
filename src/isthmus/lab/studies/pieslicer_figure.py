"""The PieSlicer study's figure: time against size of the file, by placement. It only draws."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from isthmus.lab.picture import save_picture
from isthmus.lab.studies.pieslicer import PieslicerStudy
from isthmus.lab.studies.pieslicer_bed import DEVICES, NETWORKS
from isthmus.lab.studies.pieslicer_measure import FILE, ON_DEVICE, PLACEMENTS
from isthmus.lab.studies.pieslicer_scores import break_even_bytes

__all__ = ["draw"]

_SHOWN = {
    FILE: ("#c1440e", "the file, resized in the cloud"),
    ON_DEVICE: ("#1f5f8b", "resized on the device, JPEG 85"),
    PLACEMENTS.index("webp-lossless"): ("#8a8a8a", "resized on the device, lossless WebP"),
}
_LABELS = {"nexus5": "Nexus 5", "motox4": "Moto X4", "pixel2": "Pixel 2"}


def draw(study: PieslicerStudy, target: Path) -> None:
    """Draw a panel for each device and network.

    Args:
        study: What was found.
        target: File to write; its suffix tells the format (``.svg``, ``.png``).
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter

    figure, panels = plt.subplots(
        len(NETWORKS), len(DEVICES), figsize=(11, 6.4), sharex=True, sharey=True,
        layout="constrained",
    )  # fmt: skip
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for row, network in enumerate(NETWORKS):
        for column, device in enumerate(DEVICES):
            panel = panels[row][column]
            cell, requests = study.judged.bed[f"{device}/{network}"]
            sizes_mb = requests.sent_bytes[:, FILE] / 1e6
            progressive = np.array([facts.is_progressive for facts in requests.facts])
            for placement, (colour, label) in _SHOWN.items():
                for chosen, marker, size in ((~progressive, ".", 3.0), (progressive, "x", 3.5)):
                    panel.plot(
                        sizes_mb[chosen], requests.total_s[chosen, placement], marker, color=colour,
                        markersize=size, label=label if marker == "." else None, rasterized=True,
                    )  # fmt: skip
            break_even_mb = break_even_bytes(requests) / 1e6
            if 0 < break_even_mb < math.inf:
                panel.axvline(break_even_mb, color="#333333", linewidth=0.9, linestyle="--")
                panel.annotate(
                    f"break-even\n{break_even_mb:.2f} MB", (break_even_mb, 0.97),
                    xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points",
                    va="top", fontsize=8,
                )  # fmt: skip
            panel.set(xscale="log", yscale="log")
            panel.set_title(
                f"{_LABELS[device]} ({cell.slowdown:.1f} times slower, and "
                f"{cell.overhead_s * 1e3:.0f} ms), {network}",
                fontsize=9,
            )
            panel.xaxis.set_major_formatter(plain)
            panel.yaxis.set_major_formatter(plain)
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
            if row == len(NETWORKS) - 1:
                panel.set_xlabel("size of the file, MB")
            if column == 0:
                panel.set_ylabel("before the network runs, s")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(
        [*handles, Line2D([], [], color="#333333", marker="x", linestyle="", markersize=1.5)],
        [*labels, "progressive files"],
        loc="outside lower center", ncols=len(_SHOWN) + 1, frameon=False, markerscale=4,
    )  # fmt: skip
    save_picture(
        figure,
        target,
        title="Isthmus: resize on the device or in the cloud",
        description="Time before the network runs against the size of the photograph's file, for "
        "three devices and two networks: only below about a megabyte is sending the file faster.",
    )
    plt.close(figure)
