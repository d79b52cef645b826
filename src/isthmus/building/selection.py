"""Selection: which plans of a network go into the bundle, and with which codecs.

It makes no parts and measures no time of layers. A lossy plan is kept if it is *within the
tolerance*: the share of images on which the first answer differs, as counted, is at most the
tolerance. The count itself is compared and not a bound of its interval: with 1,000 images one
difference, as a tie in the last bit makes, would put the lower bound beyond 0.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from isthmus.building.agreement import AgreementCounter, Loss
from isthmus.building.coding import FIDELITY, CodingCost, coding_costs, worth_having
from isthmus.building.crops import Crops
from isthmus.building.ledger import Ledger
from isthmus.loading.bundle import Candidate
from isthmus.types.plan import PlanRow
from isthmus.types.progress import SILENT, Progress
from isthmus.types.proportion import Proportion

__all__ = ["IMAGES", "TOLERANCE_RATIO", "Tolerance", "coded_rows", "select"]

IMAGES = 1000
"""Images on which agreement is counted."""

TOLERANCE_RATIO = 0.005
"""Share of the first answers that a lossy plan may change."""

_SAMPLES = 3  # images on which codecs are timed


@dataclass(frozen=True)
class Tolerance:
    """What a lossy plan may change, and how that is found out.

    Attributes:
        ratio: Share of the first answers that may differ, 0 to 1. Of the network's top-1
            accuracy, that is the share that may be lost.
        images: On how many images it is counted; 0 keeps no lossy plan.
        ledger: Counts that are known already; new ones are added.

    Raises:
        ValueError: If the ratio is no share.
    """

    ratio: float = TOLERANCE_RATIO
    images: int = IMAGES
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"a tolerance is a share from 0 to 1, got {self.ratio}")

    @property
    def may_differ(self) -> int:
        """On how many of the images the answer may differ."""
        return math.floor(self.ratio * self.images + 1e-9)

    def accepts(self, count: Proportion) -> bool:
        """Return whether a count of all images is within the tolerance."""
        return count.of >= self.images > 0 and 1 - count.ratio <= self.ratio + 1e-9


def coded_rows(
    rows: Sequence[PlanRow], counter: AgreementCounter, crops: Crops
) -> tuple[tuple[PlanRow, ...], Mapping[str, Mapping[str, CodingCost]]]:
    """Return the rows without those whose codec no link would ask for, and what codecs cost.

    Only rows that cut inside the network are looked at; the codecs of each cut are timed on the
    tensors that cross it.

    Returns:
        The rows that stay, in their order, and the costs by cut id and codec.
    """
    samples = [counter.tensors(crops, k) for k in range(_SAMPLES)]
    costs: dict[str, Mapping[str, CodingCost]] = {}
    stay: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if row.family == "split" and row.cut_id not in costs:
            found = coding_costs([[made[name] for name in row.tensors] for made in samples])
            costs[row.cut_id] = found
            here = {r.codec for r in rows if r.cut_id == row.cut_id} & found.keys()
            stay[row.cut_id] = worth_having({codec: found[codec] for codec in here}, FIDELITY)
    kept = tuple(row for row in rows if row.family != "split" or row.codec in stay[row.cut_id])
    return kept, costs


def select(
    rows: Sequence[PlanRow],
    counter: AgreementCounter,
    crops: Crops,
    tolerance: Tolerance,
    progress: Progress = SILENT,
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Return the candidates kept and those left out for their answers.

    Codecs that no link would ask for go first and silently; agreement is counted for what is left
    and not in the ledger; what is beyond the tolerance is left out; then codecs are compared once
    more, now those counting as equally faithful whose intervals overlap.

    Args:
        rows: All plans of one network.
        counter: Runs them.
        crops: The images.
        tolerance: What may change, and what is known.
        progress: Told about the counting.

    Raises:
        ImageError: If a photograph cannot be decoded.
    """
    coded, costs = coded_rows(rows, counter, crops)
    counts = _counts(
        {Loss.of(row) for row in coded if not row.is_lossless}, counter, crops, tolerance, progress
    )
    candidates = []
    for row in coded:
        if row.is_lossless:
            candidates.append(Candidate(row))
        else:
            count = counts[Loss.of(row)]
            candidates.append(Candidate(row, count.ratio, count.of))
    accepted = [
        c for c in candidates if c.row.is_lossless or tolerance.accepts(counts[Loss.of(c.row)])
    ]
    dropped = tuple(c for c in candidates if c not in accepted)
    return tuple(_asked_for(accepted, costs)), dropped


def _counts(
    losses: set[Loss],
    counter: AgreementCounter,
    crops: Crops,
    tolerance: Tolerance,
    progress: Progress,
) -> dict[Loss, Proportion]:
    if tolerance.images == 0:
        return dict.fromkeys(losses, Proportion(0, 0))
    settled = {"images": tolerance.images, "may_differ": tolerance.may_differ}
    found = {
        loss: tolerance.ledger.find(counter.graph_sha256, crops, loss, **settled)
        for loss in sorted(losses, key=lambda loss: (loss.cut_id, loss.codec))
    }
    known = {loss: count for loss, count in found.items() if count is not None}
    lacking = [loss for loss in found if loss not in known]
    if not lacking:
        return known
    counted = counter.count(lacking, crops, **settled, progress=progress)
    tolerance.ledger.add(counter.name, counter.graph_sha256, crops, counted)
    return known | counted


def _asked_for(
    candidates: Sequence[Candidate], costs: Mapping[str, Mapping[str, CodingCost]]
) -> list[Candidate]:
    """Return the candidates without codecs that one beats that agrees as often."""
    cuts = dict.fromkeys(c.row.cut_id for c in candidates if c.row.family == "split")
    stay = set()
    for cut in cuts:
        here = {c.row.codec: c for c in candidates if c.row.cut_id == cut}
        faithful = _classes(here)
        found = {codec: costs[cut][codec] for codec in here}
        stay |= {(cut, codec) for codec in worth_having(found, faithful)}
    return [c for c in candidates if c.row.family != "split" or (c.row.cut_id, c.row.codec) in stay]


def _classes(candidates: Mapping[str, Candidate]) -> dict[str, float]:
    """Return for each codec how faithful it is, as far as the counts can tell codecs apart.

    The lossless ones come first. A lossy one is as faithful as the best of its class as long as
    their intervals overlap.
    """
    found: dict[str, float] = {}
    rank, least = 0, math.inf
    for codec, candidate in sorted(candidates.items(), key=lambda item: -item[1].agreement):
        if candidate.row.is_lossless:
            found[codec] = 1.0
            continue
        low, high = candidate.count.interval
        if high < least:
            rank, least = rank - 1, low
        found[codec] = rank
    return found
