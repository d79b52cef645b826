"""Report: from the demo's requests to its figures and its picture. It runs nothing."""

from __future__ import annotations

import dataclasses
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.lab.demo import DemoSettings, Part, Request, Setup
from isthmus.lab.picture import save_picture
from isthmus.profiling.measure import median_interval

__all__ = ["METHOD_TITLES", "draw", "summarise"]

METHOD_TITLES = {
    "device_only": "stay on the device",
    "edge_file": "send the file",
    "edge_resized": "resize, send a JPEG",
    "isthmus": "isthmus",
    "isthmus_again": "isthmus again",
}
"""What each method does, for people; all but Isthmus do it always."""

_COLOURS = {
    "device_only": "#8d6e63",
    "edge_file": "#78909c",
    "edge_resized": "#5c6bc0",
    "isthmus": "#e65100",
}
_STEP = 1.07
"""Factor from a method's place to the next one's, so that no whisker hides another."""

_DESCRIPTION = (
    "Two panels. Over the rate of the link, the median time to the answer of every "
    "method, with a whisker up to the 95th percentile."
)


def summarise(requests: Sequence[Request], settings: DemoSettings, setup: Setup) -> dict[str, Any]:
    """Return the demo's figures as JSON values.

    Ratios are 0 to 1, times in ms, bytes are means per answered request.

    Args:
        requests: All requests of all parts.
        settings: What was run.
        setup: On what it was run.
    """
    parts = {part.name: part for part in settings.parts}
    figures: dict[str, Any] = {
        name: _part_figures(part, [r for r in requests if r.part == name], settings)
        for name, part in parts.items()
    }
    own = [r for r in requests if r.method.startswith("isthmus") and r.outcome is not None]
    answered = [r for r in requests if r.outcome is not None]
    errors = [
        abs(r.outcome.plan.latency_s - r.outcome.timeline.total_s) / r.outcome.timeline.total_s
        for r in own
        if r.outcome is not None
    ]
    decide_us = [r.outcome.timeline.decide_s * 1e6 for r in own if r.outcome is not None]
    sources = Counter(r.outcome.source for r in own if r.outcome is not None)
    return {
        **figures,
        "agreement": _agreement(r for r in answered if _is_lossless(r)),
        "agreement_lossy": _agreement(r for r in answered if not _is_lossless(r)),
        "prediction_error": {"median": _quantile(errors, 0.5), "p95": _quantile(errors, 0.95)},
        "decide_us": {"p50": _quantile(decide_us, 0.5), "p99": _quantile(decide_us, 0.99)},
        "sources": {name: sources[name] for name in ("device", "edge", "split", "fallback")},
        "setup_s": {"build": setup.build_s, "profile": setup.profile_s},
        "settings": {
            "links_mbit_per_s": list(settings.links_mbit_per_s),
            "round_trip_s": settings.round_trip_s,
            "limits": setup.bed,
            "device_slowdown": settings.device_slowdown,
            "request_limit_s": settings.request_limit_s,
            "repeats": settings.repeats,
            "threads": settings.threads,
            "photographs": list(settings.photographs),
        },
        "requests": [_record(request) for request in requests],
    }


def _record(request: Request) -> dict[str, Any]:
    """Return one request for those who want to look for themselves; seconds."""
    outcome = request.outcome
    record: dict[str, Any] = {
        "part": request.part,
        "link_mbit_per_s": request.link_mbit_per_s,
        "method": request.method,
        "photograph": request.photograph,
        "seconds": request.seconds,
    }
    if outcome is not None:
        stages = dataclasses.asdict(outcome.timeline)
        record |= {
            "source": outcome.source,
            "plan": outcome.plan.row.label,
            "predicted_s": outcome.plan.latency_s,
            "predicted_stages_s": dict(outcome.plan.stages_s),
            "stages_s": {name.removesuffix("_s"): value for name, value in stages.items()},
            "sent_bytes": outcome.sent_bytes,
        }
    return record


def _part_figures(
    part: Part, requests: Sequence[Request], settings: DemoSettings
) -> dict[str, Any]:
    by_link = {
        f"{rate:g}": _link_figures(part, [r for r in requests if r.link_mbit_per_s == rate])
        for rate in settings.links_mbit_per_s
    }
    p50 = {m: [link[m]["p50_ms"] for link in by_link.values()] for m in part.methods}
    versus = {m: _geometric_mean(_ratios(p50["isthmus"], p50[m])) for m in part.static}
    hindsight = [min(p50[m][i] for m in part.static) for i in range(len(by_link))]
    figures: dict[str, Any] = {
        "variant": part.variant,
        "by_link": by_link,
        "geomean_vs_static": versus,
        "geomean_vs_best_static": max(versus.values()),
        "vs_best_static_of_link": dict(
            zip(by_link, _ratios(p50["isthmus"], hindsight), strict=True)
        ),
        "paired_vs_best_static_of_link": {
            rate: max(
                ({"method": m, **link[m]["isthmus_paired"]} for m in part.static),
                key=operator.itemgetter("median"),
            )
            for rate, link in by_link.items()
        },
    }
    if "isthmus_again" in p50:
        twice = [link["isthmus_again"]["isthmus_paired"] for link in by_link.values()]
        ends = [x for pair in twice for x in pair["interval_95"] or [pair["median"]]]
        figures["noise_floor_ratio"] = max(max(x, 1 / x) - 1 for x in ends)
    return figures


def _link_figures(part: Part, requests: Sequence[Request]) -> dict[str, Any]:
    by_method = {m: [r for r in requests if r.method == m] for m in part.methods}
    return {
        method: _method_figures(made)
        | ({} if method == "isthmus" else {"isthmus_paired": _paired(by_method["isthmus"], made)})
        for method, made in by_method.items()
    }


def _paired(own: Sequence[Request], other: Sequence[Request]) -> dict[str, Any]:
    """Return the median ratio of times for the same photograph in the same turn, and its interval.

    The ratio of two medians is that of times of two photographs, and of two moments of the
    machine: for twice the same plan it was anything from 0.82 to 1.22 (decision 0022).
    """
    assert [r.photograph for r in own] == [r.photograph for r in other]
    ratios = _ratios([r.seconds for r in own], [r.seconds for r in other])
    interval = median_interval(ratios)
    return {"median": _quantile(ratios, 0.5), "interval_95": interval and list(interval)}


def _method_figures(requests: Sequence[Request]) -> dict[str, Any]:
    seconds = [r.seconds for r in requests]
    outcomes = [r.outcome for r in requests if r.outcome is not None]
    plans = Counter(outcome.plan.row.label for outcome in outcomes)
    return {
        "p50_ms": _quantile(seconds, 0.5) * 1e3,
        "p95_ms": _quantile(seconds, 0.95) * 1e3,
        "sent_bytes": float(np.mean([o.sent_bytes for o in outcomes])) if outcomes else 0.0,
        "requests": len(requests),
        "cut_off": len(requests) - len(outcomes),
        "plans": dict(plans.most_common()),
    }


def _agreement(requests: Iterable[Request]) -> dict[str, Any]:
    made = list(requests)
    return {
        "checked": len(made),
        "same_top1": sum(r.same_top1 for r in made),
        "max_abs_logit_error": max((r.logit_error for r in made), default=0.0),
    }


def _is_lossless(request: Request) -> bool:
    return request.outcome is not None and request.outcome.plan.row.is_lossless


def _ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else 0.0


def draw(figures: Mapping[str, Any], target: Path) -> None:
    """Draw the latencies of every method over the links, one panel for each part.

    Args:
        figures: From ``summarise``.
        target: File to write; its suffix tells the format (``.svg``, ``.png``).
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    settings = figures["settings"]
    is_emulated = settings["limits"] == "emulated"
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    titles = {"latency": "least latency", "no_pixels": "no pixels leave the device"}
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        by_link = figures[name]["by_link"]
        methods = [m for m in _COLOURS if m in next(iter(by_link.values()))]
        rates = [float(rate) for rate in by_link]
        for place, method in enumerate(methods):
            values = [link[method] for link in by_link.values()]
            p50, p95 = (np.array([v[key] for v in values]) for key in ("p50_ms", "p95_ms"))
            mine = method == "isthmus"
            panel.errorbar(
                np.array(rates) * _STEP ** (place - (len(methods) - 1) / 2),
                p50,
                yerr=(np.zeros_like(p50), np.maximum(p95 - p50, 0)),
                marker="o",
                markersize=7 if mine else 5,
                color=_COLOURS[method],
                linewidth=2.8 if mine else 1.4,
                elinewidth=1.2,
                capsize=3,
                zorder=3 if mine else 2,
                label=METHOD_TITLES[method] if mine else f"always {METHOD_TITLES[method]}",
            )
        panel.set(xscale="log", yscale="log")
        panel.set_title(f"{figures[name]['variant']}: {title}", loc="left", fontsize=11)
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates])
        panel.minorticks_off()
        panel.set_yticks([50, 100, 200, 500, 1000, 2000, 5000])
        panel.set_yticklabels(["50", "100", "200", "500", "1000", "2000", "5000"])
        panel.set_xlabel("emulated link, Mbit/s" if is_emulated else "link, Mbit/s")
        panel.grid(axis="y", alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    panels[0].set_ylabel("time to the answer, ms")
    limits = (
        f"on an emulated device ({settings['device_slowdown']:g} times slower) and emulated links"
        if is_emulated
        else "with real limits: kernel TCP over a shaped TUN pipe, device under a CPU quota of "
        f"{1 / settings['device_slowdown']:.3g}"
    )
    figure.suptitle(
        f"measured {limits}, round trip {settings['round_trip_s'] * 1e3:g} ms; "
        "points are medians, whiskers reach to the 95th percentile",
        fontsize=9,
        color="#555555",
    )
    save_picture(figure, target, title="Isthmus: the demo", description=_DESCRIPTION)
    plt.close(figure)
