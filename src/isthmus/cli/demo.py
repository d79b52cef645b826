"""``isthmus demo``: the whole of it on one machine. It parses, calls and prints."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows
from isthmus.cli.zoo import zoo_package
from isthmus.errors import LabError

if TYPE_CHECKING:
    from rich.console import Console

    from isthmus.lab.beds import BedKind
    from isthmus.lab.demo import DemoSettings, Setup

__all__ = ["command"]

_PART_TITLES = {
    "latency": "least latency",
    "no_pixels": "least latency, no pixels leave the device",
}
_NAME_WIDTH = 12


def command(
    folder: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Where the bundle and the figure go; reused the next time."
        ),
    ] = Path("demo"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Build and profile again, whatever is there.")
    ] = False,
    real_limits: Annotated[
        bool,
        typer.Option(
            "--real-limits",
            help="Limits by the kernel instead of emulated ones: TCP over a shaped TUN pipe, the "
            "device under a CPU quota. Linux and root only.",
        ),
    ] = False,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings", metavar="FILE", help="Another settings file (TOML) than the package's."
        ),
    ] = None,
    json_target: JsonTarget = None,
) -> None:
    """Run a real classifier across a slower device, slow links and a real server.

    Starts the server in a process of its own, builds and profiles a bundle of
    the zoo (or reuses the last one), then sends photographs over links of
    several rates, by every static method and by Isthmus in turns, and
    compares every answer with the unsplit network's. About five minutes the
    first time, and three and a half from then on. The device and the links are
    emulated, so that it runs everywhere; with --real-limits the kernel limits
    both.

    Example: isthmus demo --json demo.json
    """
    from isthmus.lab.beds import bed_of
    from isthmus.lab.demo import prepare, read_settings, run_part
    from isthmus.lab.real_bed import missing
    from isthmus.lab.report import draw, summarise

    if real_limits and (reason := missing()):
        raise LabError(f"{reason}; without --real-limits the demo runs everywhere")
    zoo = zoo_package()
    settings = read_settings(settings_file)
    out = console(stderr=json_target == "-")
    folder.mkdir(parents=True, exist_ok=True)
    files = {path.name: path for path in zoo.photograph_paths()}
    unknown = sorted(set(settings.photographs) - set(files))
    if unknown:
        raise LabError(f"the zoo has no photograph {unknown[0]}: it has {', '.join(files)}")
    photographs = {name: files[name].read_bytes() for name in settings.photographs}
    models_folder = zoo.model_path(zoo.model_names()[0]).parent
    _print_settings(out, settings, photographs, "real" if real_limits else "emulated")
    made = bed_of(
        "real" if real_limits else "emulated",
        models_folder,
        threads=settings.threads,
        device_slowdown=settings.device_slowdown,
    )
    with made as bed:
        _print_facts(out, {"edge server": f"process {bed.server.pid}, {bed.server.url}"})
        with progress_bars() as progress:
            setup = prepare(
                folder,
                models_folder,
                bed,
                settings,
                photographs=zoo.photograph_paths(),
                calibration=zoo.photograph_paths("calibration"),
                agreement=zoo.agreement_path(),
                is_fresh=fresh,
                progress=progress,
            )
        _print_setup(out, setup)
        begun_at_s = time.perf_counter()
        requests = []
        with progress_bars() as progress:
            for part in settings.parts:
                count = len(part.methods) * len(photographs) * settings.repeats
                progress.begin(part.name, count * len(settings.links_mbit_per_s))
                requests += run_part(
                    part,
                    settings,
                    setup,
                    bed,
                    photographs,
                    on_request=lambda r: progress.advance(
                        f"{r.link_mbit_per_s:g} Mbit/s {r.method} {r.photograph}"
                    ),
                )
        runs_s = time.perf_counter() - begun_at_s
    figures = summarise(requests, settings, setup)
    figures["runs_s"] = runs_s
    draw(figures, folder / "demo.svg")
    draw(figures, folder / "demo.png")
    if json_target is not None:
        write_json(figures, json_target)
    _print_figures(out, figures, runs_s, len(requests), folder)


def _print_settings(
    out: Console, settings: DemoSettings, photographs: dict[str, bytes], kind: BedKind
) -> None:
    sizes = ", ".join(f"{name} {len(data) / 1e3:.0f} KB" for name, data in photographs.items())
    rates = ", ".join(f"{rate:g}" for rate in settings.links_mbit_per_s)
    slowdown, round_trip_ms = settings.device_slowdown, settings.round_trip_s * 1e3
    device, links = {
        "emulated": (f"emulated, {slowdown:g} times slower than this machine", "emulated"),
        "real": (
            f"this machine under a CPU quota, {1 / slowdown:.3g} of one processor",
            "the kernel's TCP over a shaped TUN pipe",
        ),
    }[kind]
    _print_facts(
        out,
        {
            "device": device,
            "links": f"{links}: {rates} Mbit/s, round trip {round_trip_ms:g} ms",
            "photographs": f"{sizes}; each {settings.repeats} times",
            "requests": f"cut off at {settings.request_limit_s:g} s; threads a side: "
            f"{settings.threads}",
            "lossy plans": f"may change {settings.tolerance_ratio:.1%} of the answers, "
            "counted beforehand",
        },
    )


def _print_setup(out: Console, setup: Setup) -> None:
    parts = {"bundle": setup.build_s, "profile": setup.profile_s}
    _print_facts(
        out,
        {
            what: f"made in {seconds:.1f} s" if seconds else "reused (--fresh makes a new one)"
            for what, seconds in parts.items()
        },
    )


def _print_facts(out: Console, facts: dict[str, str]) -> None:
    """Print names and what is said of them, in as many lines as it takes."""
    name_width = max(_NAME_WIDTH, *map(len, facts))
    text_width = max(out.width - name_width - 2, _NAME_WIDTH)
    for name, text in facts.items():
        lines = textwrap.wrap(text, text_width, break_on_hyphens=False)
        for place, line in enumerate(lines):
            shown = "" if place else name
            out.print(f"{shown:<{name_width}}  {line}", markup=False, soft_wrap=True)


def _print_figures(
    out: Console, figures: dict[str, Any], runs_s: float, count: int, folder: Path
) -> None:
    for name, title in _PART_TITLES.items():
        _print_table(out, figures[name], title)
        _print_summary(out, figures[name])
    exact, lossy = figures["agreement"], figures["agreement_lossy"]
    error, decide = figures["prediction_error"], figures["decide_us"]
    sources = ", ".join(f"{name} {n}" for name, n in figures["sources"].items())
    out.print()
    _print_facts(
        out,
        {
            "answers": f"equal to the unsplit network's in {exact['same_top1']} of "
            f"{exact['checked']} by lossless plans (largest difference of a logit "
            f"{exact['max_abs_logit_error']:.2g}); the same class first in {lossy['same_top1']} "
            f"of {lossy['checked']} by lossy plans ({lossy['max_abs_logit_error']:.2g})",
            "predictions": f"of isthmus, off by {error['median']:.1%} at the median, "
            f"{error['p95']:.1%} at the 95th percentile",
            "decisions": f"p50 {decide['p50']:.0f} us, p99 {decide['p99']:.0f} us, "
            "as part of a request",
            "isthmus ran": sources,
            "all of it": f"{count} requests in {runs_s:.0f} s; figure: {folder / 'demo.svg'}",
        },
    )


def _print_table(out: Console, figures: dict[str, Any], title: str) -> None:
    from isthmus.lab.report import METHOD_TITLES

    rows = []
    for rate, methods in figures["by_link"].items():
        rows.append((f"{rate} Mbit/s", *[""] * 5))
        best = min(method["p50_ms"] for method in methods.values())
        rows += [
            (
                f"  {METHOD_TITLES[name]}",
                f"{method['p50_ms']:.0f}" + (" *" if method["p50_ms"] == best else "  "),
                f"{method['p95_ms']:.0f}",
                _ratio(method["isthmus_paired"]) if "isthmus_paired" in method else "",
                f"{method['sent_bytes'] / 1e3:.1f}",
                str(method["cut_off"] or ""),
            )
            for name, method in methods.items()
        ]
    print_rows(
        out,
        ("link, method", "p50  ", "p95", "isthmus takes", "KB sent", "cut off"),
        rows,
        title=f"{figures['variant']}: {title}; time to the answer, ms",
    )
    out.print(
        "*: fastest at the median. isthmus takes: its time as a share of this method's, for the "
        "same photograph in the same turn; median (95 % interval)",
        style="dim",
    )


def _short(label: str, variant: str) -> str:
    return label.removeprefix(variant).strip()


def _ratio(paired: dict[str, Any]) -> str:
    """Return the median of paired ratios and its interval, which few pairs do not have."""
    interval = paired["interval_95"]
    ends = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    return f"{paired['median']:.2f}{ends}"


def _print_summary(out: Console, figures: dict[str, Any]) -> None:
    """Say what Isthmus chose on each link, and how its times compare."""
    from isthmus.lab.report import METHOD_TITLES

    chosen = {
        f"at {rate} Mbit/s": ", ".join(
            f"{n} {_short(label, figures['variant'])}"
            for label, n in methods["isthmus"]["plans"].items()
        )
        for rate, methods in figures["by_link"].items()
    }
    versus = figures["geomean_vs_static"].items()
    best = figures["paired_vs_best_static_of_link"]
    out.print("\nisthmus chose")
    _print_facts(out, {f"  {link}": plans for link, plans in chosen.items()})
    out.print("isthmus takes, of each method's time (geometric mean of medians over links)")
    _print_facts(out, {f"  {METHOD_TITLES[name]}": f"{ratio:.2f}" for name, ratio in versus})
    out.print("isthmus takes, of the best method's time, which hindsight alone knows for a link")
    _print_facts(out, {f"  at {rate} Mbit/s": _ratio(ratio) for rate, ratio in best.items()})
    if "noise_floor_ratio" in figures:
        out.print(
            f"noise: {figures['noise_floor_ratio']:.1%} at most between isthmus and isthmus again "
            "(farthest end of their intervals)"
        )
