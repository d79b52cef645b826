"""The beds study: whether the emulated and the real bed agree on what is fastest, and where not.

The same networks, links and photographs run on both beds, which take turns link by link. Each has
a profile of its own. It emulates and limits nothing itself, and prints nothing.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from isthmus.errors import LabError
from isthmus.lab.beds import Bed, BedKind, bed_of
from isthmus.lab.demo import DemoSettings, Part, Request, Setup, prepare, run_part
from isthmus.lab.real_bed import missing
from isthmus.types.progress import SILENT, Progress

__all__ = ["TIE_RATIO", "BedsStudy", "study_beds"]

TIE_RATIO = 0.05
"""Methods whose medians differ by less are equally fast: a method run twice differs by as much."""


@dataclass(frozen=True)
class BedsStudy:
    """All requests on both beds.

    Attributes:
        part: What was compared.
        settings: Links and photographs.
        requests: By bed, in the order in which they were made.
    """

    part: Part
    settings: DemoSettings
    requests: Mapping[BedKind, Sequence[Request]]

    def record(self) -> dict[str, Any]:
        """Return the comparison as JSON values.

        By link: ``p50_ms`` by bed and method; ``winner`` by bed, the fastest method that always
        does the same; ``agree``, whether each bed's winner is the other's, or within ``TIE_RATIO``
        of it there; ``real_over_emulated`` by method; and ``plans``, what Isthmus chose.
        """
        links = {f"{rate:g}": self._link_record(rate) for rate in self.settings.links_mbit_per_s}
        return {
            "variant": self.part.variant,
            "links": links,
            "agree": sum(link["agree"] for link in links.values()),
            "same_winner": sum(len(set(link["winner"].values())) == 1 for link in links.values()),
            "of": len(links),
            "tie_ratio": TIE_RATIO,
            "settings": {
                key: value for key, value in asdict(self.settings).items() if key != "parts"
            },
        }

    def _link_record(self, rate_mbit: float) -> dict[str, Any]:
        p50_ms = {
            kind: {method: self._p50_ms(kind, rate_mbit, method) for method in self.part.methods}
            for kind in get_args(BedKind)
        }
        static = {kind: {m: p50_ms[kind][m] for m in self.part.static} for kind in p50_ms}
        winner = {kind: min(found, key=found.__getitem__) for kind, found in static.items()}
        agree = all(
            found[other] <= (1 + TIE_RATIO) * min(found.values())
            for found in static.values()
            for other in winner.values()
        )
        return {
            "p50_ms": p50_ms,
            "winner": winner,
            "agree": agree,
            "real_over_emulated": {
                method: p50_ms["real"][method] / p50_ms["emulated"][method]
                for method in self.part.methods
            },
            "plans": {kind: self._plans(kind, rate_mbit) for kind in get_args(BedKind)},
        }

    def _p50_ms(self, kind: BedKind, rate_mbit: float, method: str) -> float:
        return float(
            np.median(
                [
                    r.seconds
                    for r in self.requests[kind]
                    if (r.link_mbit_per_s, r.method) == (rate_mbit, method)
                ]
            )
            * 1e3
        )

    def _plans(self, kind: BedKind, rate_mbit: float) -> dict[str, int]:
        chosen = Counter(
            r.outcome.plan.row.label
            for r in self.requests[kind]
            if r.link_mbit_per_s == rate_mbit and r.method in self.part.own and r.outcome
        )
        return dict(chosen.most_common())


def study_beds(
    folder: Path,
    models_folder: Path,
    settings: DemoSettings,
    *,
    photographs: Sequence[Path],
    calibration: Sequence[Path],
    agreement: Path | None = None,
    progress: Progress = SILENT,
) -> BedsStudy:
    """Run the demo's first part on both beds.

    Args:
        folder: Where the bundle is kept, and one with a profile of each bed; reused if there.
        models_folder: The repository that the servers serve.
        settings: What is run.
        photographs: Those that settings name are sent; on all of them lossy plans must keep the
            answer.
        calibration: Photographs to measure with.
        agreement: Counts of equal answers that are known already.
        progress: Told about each step.

    Raises:
        LabError: If a real bed is impossible here; it says why.
    """
    if reason := missing():
        raise LabError(reason)
    part = replace(settings.parts[0], own=settings.parts[0].own[:1])
    settings = replace(settings, parts=(part,))
    sent = {path.name: path.read_bytes() for path in photographs}
    sent = {name: sent[name] for name in settings.photographs}
    requests: dict[BedKind, list[Request]] = {kind: [] for kind in get_args(BedKind)}
    with ExitStack() as stack:
        beds: dict[BedKind, Bed] = {
            kind: stack.enter_context(
                bed_of(
                    kind,
                    models_folder,
                    threads=settings.threads,
                    device_slowdown=settings.device_slowdown,
                )
            )
            for kind in get_args(BedKind)
        }
        setups: dict[BedKind, Setup] = {}
        for kind, bed in beds.items():
            own_folder = folder / kind
            if setups and not own_folder.exists():  # the networks are the same: build once
                shutil.copytree(folder / "emulated", own_folder)
            setups[kind] = prepare(
                own_folder,
                models_folder,
                bed,
                settings,
                photographs=photographs,
                calibration=calibration,
                agreement=agreement,
                progress=progress,
            )
        count = len(part.methods) * len(sent) * settings.repeats * len(beds)
        progress.begin("requests", count * len(settings.links_mbit_per_s))
        for rate in settings.links_mbit_per_s:
            at_rate = replace(settings, links_mbit_per_s=(rate,))
            for kind, bed in beds.items():
                requests[kind] += run_part(
                    part,
                    at_rate,
                    setups[kind],
                    bed,
                    sent,
                    on_request=lambda r: progress.advance(
                        f"{r.link_mbit_per_s:g} Mbit/s {r.method} {r.photograph}"
                    ),
                )
    return BedsStudy(part, settings, requests)
