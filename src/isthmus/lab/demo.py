"""The demo: real requests over limited links, every static choice beside Isthmus.

It chooses nothing itself: a method is a set of ``Rules`` for the one ``Device``. It prints and
draws nothing (``cli.demo`` and ``lab.report`` do).
"""

from __future__ import annotations

import itertools
import math
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from isthmus.building.build import build_bundle
from isthmus.building.ledger import Ledger
from isthmus.building.selection import Tolerance
from isthmus.errors import BundleError, LabError
from isthmus.lab.beds import Bed, BedKind
from isthmus.lab.device_side import Devices, ProfileTask
from isthmus.lab.reference import Reference
from isthmus.loading.bundle import Bundle, open_bundle
from isthmus.loading.onnx_file import load_graph
from isthmus.loading.repository import scan_repository
from isthmus.types.outcome import Outcome
from isthmus.types.plan import Family, Rules
from isthmus.types.progress import SILENT, Progress

__all__ = [
    "DemoSettings",
    "Part",
    "Request",
    "Setup",
    "interleaved",
    "prepare",
    "read_settings",
    "run_part",
]

METHODS: Mapping[str, frozenset[Family] | None] = {
    "device_only": frozenset({"local"}),
    "edge_file": frozenset({"file"}),
    "edge_resized": frozenset({"resized"}),
    "isthmus": None,
    "isthmus_again": None,
}
"""Families of plans that each method may use; ``None`` for all."""

_STATIC = "static"
"""The device that all static methods share."""


@dataclass(frozen=True)
class Part:
    """One comparison of the demo.

    Attributes:
        name: ``latency`` or ``no_pixels``.
        variant: The network.
        static: Methods that always do the same.
        own: Methods that decide.
        no_pixels_leave: Whether photographs have to stay on the device.
    """

    name: str
    variant: str
    static: tuple[str, ...]
    own: tuple[str, ...]
    no_pixels_leave: bool

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods, the static ones first."""
        return (*self.static, *self.own)

    def rules(self, method: str) -> Rules:
        """Return the rules that make the device behave like a method."""
        return Rules(
            objective="least_latency",
            variants=frozenset({self.variant}),
            families=METHODS[method],
            no_pixels_leave=self.no_pixels_leave,
        )


@dataclass(frozen=True)
class DemoSettings:
    """What the demo runs, from its settings file."""

    repeats: int
    request_limit_s: float
    device_slowdown: float
    links_mbit_per_s: tuple[float, ...]
    round_trip_s: float
    threads: int
    profile_budget_s: float
    tolerance_ratio: float
    photographs: tuple[str, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Setup:
    """What a demo runs on.

    Attributes:
        bundle: Built and profiled.
        models: ONNX files by name.
        build_s: Seconds that building took; 0 if the bundle was reused.
        profile_s: Seconds that profiling took; 0 if the profile was reused.
        bed: Whether the limits of device and links are emulated or real.
    """

    bundle: Bundle
    models: Mapping[str, Path]
    build_s: float
    profile_s: float
    bed: BedKind = "emulated"


@dataclass(frozen=True)
class Request:
    """One request of the demo and what came of it.

    Attributes:
        part: Name of the comparison.
        link_mbit_per_s: Rate of the link.
        method: Who answered.
        photograph: Its name.
        seconds: Time to the answer, at most the limit.
        outcome: ``None`` if the request was cut off.
        same_top1: Whether the top-1 is the unsplit network's.
        logit_error: Largest absolute difference from the unsplit network's outputs.
    """

    part: str
    link_mbit_per_s: float
    method: str
    photograph: str
    seconds: float
    outcome: Outcome | None
    same_top1: bool
    logit_error: float


def read_settings(path: Path | None = None) -> DemoSettings:
    """Read the demo's settings: the file given, or the one in the package.

    Raises:
        LabError: If the file is malformed.
    """
    source = path or resources.files("isthmus.lab") / "demo_settings.toml"
    try:
        content = tomllib.loads(source.read_text(encoding="utf-8"))
        return DemoSettings(
            repeats=content["repeats"],
            request_limit_s=content["request_limit_s"],
            device_slowdown=content["device_slowdown"],
            links_mbit_per_s=tuple(content["links_mbit_per_s"]),
            round_trip_s=content["round_trip_s"],
            threads=content["threads"],
            profile_budget_s=content["profile_budget_s"],
            tolerance_ratio=content["tolerance_ratio"],
            photographs=tuple(content["photographs"]),
            parts=tuple(
                Part(
                    name,
                    content[name]["variant"],
                    tuple(content[name]["static"]),
                    tuple(content[name]["own"]),
                    no_pixels_leave=name == "no_pixels",
                )
                for name in ("latency", "no_pixels")
            ),
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise LabError(f"{source} is malformed: {error!r}") from error


def prepare(
    folder: Path,
    models_folder: Path,
    bed: Bed,
    settings: DemoSettings,
    *,
    photographs: Sequence[Path],
    calibration: Sequence[Path],
    agreement: Path | None = None,
    is_fresh: bool = False,
    progress: Progress = SILENT,
) -> Setup:
    """Build and profile the demo's bundle, or reuse what an earlier demo left in ``folder``.

    A bundle is reused if it is of the same networks, a profile if it was made on such a bed.

    Args:
        folder: Where the bundle is kept.
        models_folder: The repository that the bed's server serves.
        bed: Entered before; profiling talks to its server over a link that limits nothing.
        settings: What the demo runs.
        photographs: On these lossy plans must keep the answer.
        calibration: Photographs to measure with.
        agreement: What has been counted for lossy plans before.
        is_fresh: Whether nothing is reused; what is there stays until it is replaced.
        progress: Told about each step.
    """
    used = {part.variant for part in settings.parts}
    models = {m.name: m.path for m in scan_repository(models_folder) if m.name in used}
    path = folder / "app.isthmus"
    build_s = profile_s = 0.0
    bundle = None if is_fresh else _reusable(path, models)
    if bundle is None:
        begun_at_s = time.perf_counter()
        build_bundle(
            models,
            path,
            photographs=photographs,
            calibration=calibration,
            tolerance=Tolerance(settings.tolerance_ratio, ledger=Ledger(known=agreement)),
            progress=progress,
        )
        build_s = time.perf_counter() - begun_at_s
        bundle = open_bundle(path)
    if bundle.profile.get("lab") != bed.conditions:
        begun_at_s = time.perf_counter()
        with bed.direct() as url:
            task = ProfileTask(
                path,
                url,
                threads=settings.threads,
                budget_s=settings.profile_budget_s,
                notes={"lab": bed.conditions},
            )
            bed.device.profile(task, progress)
        profile_s = time.perf_counter() - begun_at_s
        bundle = open_bundle(path)
    return Setup(bundle, models, build_s, profile_s, bed.kind)


def run_part(
    part: Part,
    settings: DemoSettings,
    setup: Setup,
    bed: Bed,
    photographs: Mapping[str, bytes],
    *,
    on_request: Callable[[Request], None],
) -> list[Request]:
    """Run one comparison over every link; methods take turns on each photograph.

    Args:
        part: What is compared.
        settings: Links, repeats and limits.
        setup: Bundle and networks.
        bed: Entered before.
        photographs: Image files by name.
        on_request: Called after each request.

    Returns:
        All requests, in the order in which they were made.
    """
    requests: list[Request] = []
    with Reference(setup.models[part.variant], setup.bundle.variants[part.variant]) as reference:
        for rate_mbit in settings.links_mbit_per_s:
            with (
                bed.link(rate_bits_per_s=rate_mbit * 1e6, rtt_s=settings.round_trip_s) as url,
                bed.device.opened(
                    Devices(
                        bundle=setup.bundle.path,
                        url=url,
                        rules=_device_rules(part),
                        photographs=photographs,
                        threads=settings.threads,
                        limit_s=settings.request_limit_s,
                    )
                ) as ask,
            ):
                for method, name in interleaved(part.methods, tuple(photographs), settings.repeats):
                    device = _STATIC if method in part.static else method
                    seconds, outcome = ask(device, name, part.rules(method))
                    same, error = (
                        (False, math.nan)
                        if outcome is None
                        else reference.compare(name, photographs[name], outcome.outputs)
                    )
                    made = Request(
                        part.name, rate_mbit, method, name, seconds, outcome, same, error
                    )
                    requests.append(made)
                    on_request(made)
    return requests


def _reusable(path: Path, models: Mapping[str, Path]) -> Bundle | None:
    """Return an earlier demo's bundle if it is whole and of the same networks."""
    if not path.exists():
        return None
    try:
        bundle = open_bundle(path)
    except BundleError:
        return None
    digests = {name: load_graph(file, name=name).sha256 for name, file in models.items()}
    known = {name: variant.graph_sha256 for name, variant in bundle.variants.items()}
    return bundle if known == digests else None


def _device_rules(part: Part) -> dict[str, Rules]:
    """Return the rules of each device: those that decide learn from their own requests only."""
    families = frozenset[Family]().union(*(METHODS[method] or () for method in part.static))
    static = replace(part.rules(part.static[0]), families=families)
    return {_STATIC: static, **{method: part.rules(method) for method in part.own}}


def interleaved(
    methods: Sequence[str], photographs: Sequence[str], repeats: int
) -> Iterator[tuple[str, str]]:
    """Yield method and photograph of each request; all methods in turn for each photograph.

    What ran before is felt: after a rest, as a method on a slow link has it, the processor needs
    3 to 5 % longer for the same (decision 0022). So the order changes from photograph to
    photograph, and over a cycle of orders every method is equally often at every place, and
    follows every other equally often.

    References:
        Williams, "Experimental designs balanced for the estimation of residual effects of
        treatments", Australian Journal of Scientific Research A 2, 1949.
    """
    orders = itertools.cycle(_orders(len(methods)))
    for _ in range(repeats):
        for name in photographs:
            yield from ((methods[place], name) for place in next(orders))


def _orders(count: int) -> list[tuple[int, ...]]:
    """Return Williams' orders: ``count`` of them, and their mirror images if it is odd."""
    zigzag = [(i + 1) // 2 if i % 2 else -(i // 2) for i in range(count)]  # 0, 1, -1, 2, -2
    orders = [tuple((start + step) % count for step in zigzag) for start in range(count)]
    if count % 2 == 0:
        return orders
    return [order for pair in ((order, order[::-1]) for order in orders) for order in pair]
