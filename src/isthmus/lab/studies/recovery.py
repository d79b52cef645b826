"""The recovery study: how soon predictions are right again after something became slower.

Real requests to a real server; one after the other the device, the server and the link become
three times slower for a while. The device's slowness and the link are emulated; the server gets a
third of a processor from the kernel. It chooses no plans: each part allows one family, which
exercises what changes.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from isthmus.building.build import build_bundle
from isthmus.device.client import Device
from isthmus.lab.emulation import SlowedPace
from isthmus.lab.picture import save_picture
from isthmus.lab.real_bed_quota import CpuQuota, controller
from isthmus.lab.server_process import ServerProcess
from isthmus.lab.shaper import ShapedLink
from isthmus.loading.bundle import Bundle, open_bundle
from isthmus.loading.repository import scan_repository
from isthmus.profiling.profile import profile_bundle
from isthmus.types.plan import Family, Rules
from isthmus.types.progress import SILENT, Progress

__all__ = ["FACTOR", "PHASE", "RecoveryStudy", "Sample", "draw", "study_recovery"]

FACTOR = 3
"""How many times slower each becomes."""

PHASE = 20
"""Requests before, during and after."""

_RECOVERED_AFTER = 10
_DEVICE_SLOWDOWN = 4.0
_FAST_BITS_PER_S = 200e6
_SLOW_BITS_PER_S = 16e6
_RTT_S = 0.010
_FAMILIES: Mapping[str, Family] = {"device": "local", "server": "file", "link": "file"}


@dataclass(frozen=True)
class Sample:
    """One request.

    Attributes:
        predicted_s: Latency that was predicted.
        observed_s: What it took.
        device: The device's slowdown as believed afterwards.
        server: The server's slowdown as believed afterwards.
        uplink_bytes_per_s: The uplink as believed afterwards.
    """

    predicted_s: float
    observed_s: float
    device: float
    server: float
    uplink_bytes_per_s: float

    @property
    def error_ratio(self) -> float:
        """How far off the prediction was, of what was observed."""
        return abs(self.predicted_s - self.observed_s) / self.observed_s


@dataclass(frozen=True)
class RecoveryStudy:
    """What was observed.

    Attributes:
        samples: By what became slower: ``PHASE`` requests before, during and after.
        left_out: What could not be tried here, and why.
    """

    samples: Mapping[str, tuple[Sample, ...]]
    left_out: Mapping[str, str]

    def record(self) -> dict[str, Any]:
        """Return it as JSON's kinds, with the medians that matter."""
        return {
            "terms": {term: _figures(samples) for term, samples in self.samples.items()},
            "left_out": dict(self.left_out),
        }


def study_recovery(
    models_folder: Path,
    variant: str,
    *,
    photographs: Sequence[Path],
    calibration: Sequence[Path],
    progress: Progress = SILENT,
) -> RecoveryStudy:
    """Build and profile one network, and make device, server and link slower in turn.

    Args:
        models_folder: A repository of models.
        variant: Name of the network in it.
        photographs: Asked about in turn.
        calibration: To measure with.
        progress: Told about each request.

    Raises:
        LabError: If the server does not start.
    """
    path = {model.name: model.path for model in scan_repository(models_folder)}[variant]
    left_out = {}
    if controller() is None:
        left_out["server"] = "its processor time cannot be limited here: that needs root on Linux"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        quota = CpuQuota(1.0)
        if not left_out:
            stack.enter_context(quota)
        server = stack.enter_context(ServerProcess(models_folder))
        if not left_out:
            quota.add(server.pid)
        bundle = Path(folder) / "app.isthmus"
        build_bundle({variant: path}, bundle, calibration=calibration, progress=progress)
        pace = SlowedPace(_DEVICE_SLOWDOWN)
        profile_bundle(open_bundle(bundle), server.url, pace=pace, progress=progress)
        rate = {"link": _SLOW_BITS_PER_S}
        data = [photograph.read_bytes() for photograph in photographs]
        terms = [term for term in _FAMILIES if term not in left_out]
        progress.begin("requests", len(terms) * 3 * PHASE)
        samples = {}
        for term in terms:
            bits_per_s = rate.get(term, _FAST_BITS_PER_S)
            with ShapedLink(server.url, rate_bits_per_s=bits_per_s, rtt_s=_RTT_S) as link:
                slower = {
                    "device": partial(_slower_device, pace),
                    "server": partial(_slower_server, quota),
                    "link": partial(_slower_link, link),
                }[term]
                samples[term] = _samples(
                    open_bundle(bundle), link.url, pace, _FAMILIES[term], data, slower, progress
                )
    return RecoveryStudy(samples, left_out)


def _samples(
    bundle: Bundle,
    url: str,
    pace: SlowedPace,
    family: Family,
    photographs: Sequence[bytes],
    slower: Callable[[], contextlib.AbstractContextManager[None]],
    progress: Progress,
) -> tuple[Sample, ...]:
    """Ask before, during and after something is slower."""
    found: list[Sample] = []
    rules = Rules("least_latency", families=frozenset({family}))
    with Device(bundle, server=url, rules=rules, pace=pace, is_probing=False) as device:
        for phase in (contextlib.nullcontext, slower, contextlib.nullcontext):
            with phase():
                for _ in range(PHASE):
                    outcome = device.infer(photographs[len(found) % len(photographs)])
                    timeline, known = outcome.timeline, device.residuals
                    observed_s = timeline.total_s - timeline.decide_s - timeline.unaccounted_s
                    found.append(
                        Sample(
                            outcome.plan.latency_s,
                            observed_s,
                            known.device.mean,
                            known.server.mean,
                            device.link.uplink_bytes_per_s,
                        )
                    )
                    progress.advance(family)
    return tuple(found)


@contextlib.contextmanager
def _slower_device(pace: SlowedPace) -> Iterator[None]:
    before, pace.factor = pace.factor, FACTOR * pace.factor
    try:
        yield
    finally:
        pace.factor = before


@contextlib.contextmanager
def _slower_server(quota: CpuQuota) -> Iterator[None]:
    quota.set(1 / FACTOR)
    try:
        yield
    finally:
        quota.set(1.0)


@contextlib.contextmanager
def _slower_link(link: ShapedLink) -> Iterator[None]:
    link.set(rate_bits_per_s=_SLOW_BITS_PER_S / FACTOR)
    try:
        yield
    finally:
        link.set(rate_bits_per_s=_SLOW_BITS_PER_S)


def _figures(samples: Sequence[Sample]) -> dict[str, Any]:
    def error(first: int, end: int) -> float:
        return median(sample.error_ratio for sample in samples[first:end])

    def observed_s(first: int) -> float:
        return median(sample.observed_s for sample in samples[first : first + PHASE])

    recovered = PHASE + _RECOVERED_AFTER
    return {
        "latency_ratio": observed_s(PHASE) / observed_s(0),
        "error_ratio": {
            "before": error(_RECOVERED_AFTER, PHASE),
            "first_slowed": samples[PHASE].error_ratio,
            "after_ten": error(recovered, 2 * PHASE),
            "first_back": samples[2 * PHASE].error_ratio,
            "after_ten_back": error(PHASE + recovered, 3 * PHASE),
        },
        "samples": [{**asdict(sample), "error_ratio": sample.error_ratio} for sample in samples],
    }


def draw(study: RecoveryStudy, target: Path) -> None:
    """Draw predicted and observed latency of every request, one panel for each term.

    Args:
        study: What was observed.
        target: File to write; its suffix tells the format (``.svg``, ``.png``).
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    titles = {
        "device": "the device, three times slower (emulated)",
        "server": "the server, a third of a processor (real)",
        "link": "the uplink, a third of its rate (emulated)",
    }
    count = len(study.samples)
    figure, panels = plt.subplots(
        1, count, figsize=(4.2 * count, 3.6), layout="constrained", squeeze=False
    )
    for panel, (term, samples) in zip(panels[0], study.samples.items(), strict=True):
        requests = range(1, len(samples) + 1)
        panel.axvspan(PHASE + 0.5, 2 * PHASE + 0.5, color="#f2e6d8", linewidth=0)
        observed = [sample.observed_s * 1e3 for sample in samples]
        predicted = [sample.predicted_s * 1e3 for sample in samples]
        panel.plot(requests, observed, "o", markersize=3.5, color="#333333", label="observed")
        panel.plot(requests, predicted, color="#c1440e", linewidth=1.8, label="predicted before")
        panel.set(title=titles[term], xlabel="request", xlim=(0, len(samples) + 1))
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(ticker.LogLocator(10, (1, 2, 5)))
        panel.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_locator(ticker.NullLocator())
        panel.title.set_fontsize(10)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("time to the answer, ms")
    panels[0][0].legend(frameon=False, loc="upper left")
    save_picture(
        figure,
        target,
        title="Isthmus: predictions after something became slower",
        description="Predicted and observed latency of sixty requests each, while the device, "
        "the server and the link are slower for twenty of them: predictions follow after three.",
    )
    plt.close(figure)
