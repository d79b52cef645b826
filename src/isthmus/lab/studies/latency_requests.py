"""Ask a device about photographs in every way, and compare what was predicted with what it took.

A real bundle, profiled on the bed, and the device as it is used: it learns from each request. The
beds' limits are emulated or the kernel's. It prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.lab.beds import Bed, BedKind, bed_of
from isthmus.lab.demo import DemoSettings, Part, prepare
from isthmus.lab.device_side import Ask, Devices
from isthmus.types.plan import Family, Rules
from isthmus.types.progress import SILENT, Progress

__all__ = ["PHOTOGRAPHS", "SETTINGS", "Asked", "Material", "ask_in_every_way", "request_record"]

PHOTOGRAPHS = ("cat.jpg", "bee.jpg", "otter-8mp.jpg")
"""Of the zoo's for requests: 64, 238 and 1,005 KB."""

SETTINGS = DemoSettings(
    repeats=2,
    request_limit_s=10.0,
    device_slowdown=4.0,
    links_mbit_per_s=(8.0, 64.0),
    round_trip_s=0.020,
    threads=1,
    profile_budget_s=60.0,
    tolerance_ratio=0.05,
    photographs=PHOTOGRAPHS,
    parts=(),
)
"""Fixed before the first run. The first of the rounds is scored apart: the device learns."""

_SEED = 20261121
_DEVICE = "device"


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        link_mbit_per_s: Rate of the link.
        round: Which of the rounds it belongs to, from 0.
        variant: The network.
        family: The way that was allowed.
        plan: Which plan was run.
        photograph: Its name.
        predicted_s: Latency that was predicted before.
        observed_s: What it took, decision and all included.
    """

    link_mbit_per_s: float
    round: int
    variant: str
    family: Family
    plan: str
    photograph: str
    predicted_s: float
    observed_s: float

    @property
    def error_ratio(self) -> float:
        """How far off the prediction was, of what was observed."""
        return abs(self.predicted_s - self.observed_s) / self.observed_s


@dataclass(frozen=True)
class Material:
    """What is asked, and of which networks.

    Attributes:
        models_folder: The repository that the server serves.
        variants: Networks in it.
        photographs: On all of them lossy plans must keep the answer; some are asked about.
        calibration: Photographs to measure with.
        agreement: Counts of equal answers that are known already.
    """

    models_folder: Path
    variants: tuple[str, ...]
    photographs: tuple[Path, ...]
    calibration: tuple[Path, ...]
    agreement: Path | None = None


def ask_in_every_way(
    kind: BedKind,
    folder: Path,
    material: Material,
    *,
    settings: DemoSettings = SETTINGS,
    progress: Progress = SILENT,
) -> list[Asked]:
    """Build and profile a bundle on a bed, and make every kind of request over every link.

    Args:
        kind: Which bed.
        folder: Where the bundle is kept; reused if there.
        material: Networks and photographs.
        settings: What is run.
        progress: Told about each step.

    Raises:
        LabError: If the bed is impossible here; it says why.
    """
    variants = material.variants
    parts = tuple(Part("latency", v, (), (), no_pixels_leave=False) for v in variants)
    settings = replace(settings, parts=parts)
    data = {p.name: p.read_bytes() for p in material.photographs}
    data = {name: data[name] for name in settings.photographs}
    with bed_of(
        kind,
        material.models_folder,
        threads=settings.threads,
        device_slowdown=settings.device_slowdown,
    ) as bed:
        setup = prepare(
            folder,
            material.models_folder,
            bed,
            settings,
            photographs=material.photographs,
            calibration=material.calibration,
            agreement=material.agreement,
            progress=progress,
        )
        rows = setup.bundle.profiled_table().rows
        ways = sorted({(row.variant, row.family) for row in rows if not row.cloud_tensors})
        steps = list(product(range(settings.repeats), ways, data))
        progress.begin(f"requests, {kind}", len(steps) * len(settings.links_mbit_per_s))
        found: list[Asked] = []
        for rate in settings.links_mbit_per_s:
            found += _over_link(bed, setup.bundle.path, rate, ways, data, settings, progress)
    return found


def request_record(asked: Sequence[Asked]) -> dict[str, Any]:
    """Return median and 95th percentile of the errors, after the first round, as JSON values.

    ``overall``, and by network, family, link and photograph; ``first_round`` is what was asked
    while the device knew the link by its probes only.
    """
    settled = [one for one in asked if one.round > 0]
    return {
        "overall": _figures(settled),
        "first_round": _figures([one for one in asked if one.round == 0]),
        "networks": _by(settled, "variant"),
        "families": _by(settled, "family"),
        "links_mbit_per_s": _by(settled, "link_mbit_per_s"),
        "photographs": _by(settled, "photograph"),
        "requests": [asdict(one) for one in asked],
    }


def _over_link(
    bed: Bed,
    bundle: Path,
    rate_mbit: float,
    ways: Sequence[tuple[str, Family]],
    photographs: Mapping[str, bytes],
    settings: DemoSettings,
    progress: Progress,
) -> list[Asked]:
    rng = np.random.default_rng(_SEED)
    steps = list(product(ways, photographs))
    devices = Devices(
        bundle=bundle,
        url="",
        rules={_DEVICE: Rules("least_latency")},
        photographs=photographs,
        threads=settings.threads,
        limit_s=settings.request_limit_s,
    )
    found: list[Asked] = []
    with (
        bed.link(rate_bits_per_s=rate_mbit * 1e6, rtt_s=settings.round_trip_s) as url,
        bed.device.opened(replace(devices, url=url)) as ask,
    ):
        for turn in range(settings.repeats):
            for place in rng.permutation(len(steps)):
                (variant, family), photograph = steps[place]
                one = _asked(ask, rate_mbit, turn, variant, family, photograph)
                found += [one] if one is not None else []
                progress.advance(f"{rate_mbit:g} Mbit/s {variant} {family}")
    return found


def _asked(
    ask: Ask, rate_mbit: float, turn: int, variant: str, family: Family, photograph: str
) -> Asked | None:
    rules = Rules("least_latency", variants=frozenset({variant}), families=frozenset({family}))
    _, outcome = ask(_DEVICE, photograph, rules)
    if outcome is None or outcome.source == "fallback":
        return None
    plan = outcome.plan
    return Asked(
        rate_mbit,
        turn,
        variant,
        family,
        plan.row.label,
        photograph,
        plan.latency_s,
        outcome.timeline.total_s,
    )


def _by(asked: Sequence[Asked], field: str) -> dict[str, Any]:
    keys = dict.fromkeys(getattr(one, field) for one in asked)
    return {str(k): _figures([one for one in asked if getattr(one, field) == k]) for k in keys}


def _figures(asked: Sequence[Asked]) -> dict[str, float]:
    errors = [one.error_ratio for one in asked]
    if not errors:
        return {"count": 0}
    signed = [one.predicted_s / one.observed_s - 1.0 for one in asked]
    return {
        "median": float(np.median(errors)),
        "p95": float(np.quantile(errors, 0.95)),
        "median_signed": float(np.median(signed)),
        "count": len(errors),
    }
