"""What the input pipeline costs, on the device and on the server: lines through measured ladders.

It decides nothing about plans; ``profiling.profile`` puts these terms into rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.estimation.fit import fit_nonnegative
from isthmus.planning.columns import layout_of, numbers_of
from isthmus.types.conditions import Conditions, ImageFacts
from isthmus.types.link import Link

__all__ = [
    "FitError",
    "Sample",
    "Terms",
    "decode_terms",
    "fit_errors",
    "predicted_s",
    "resize_terms",
]

Terms = dict[str, float]
_GROUPS = {"webp": "webp", "webp-lossless": "webp_lossless"}
_NO_LINK = Link(1.0, 1.0, 0.0)  # no term asks for it


@dataclass(frozen=True)
class Sample:
    """How long one image took.

    Attributes:
        facts: The image.
        seconds: The time.
    """

    facts: ImageFacts
    seconds: float


@dataclass(frozen=True)
class FitError:
    """How far a line is from what it was fitted to.

    Attributes:
        median_ratio: Median of the relative errors.
        p95_ratio: Their 95th percentile.
        images: How many images there were.
    """

    median_ratio: float
    p95_ratio: float
    images: int


def decode_terms(site: str, samples: Mapping[int, Sequence[Sample]]) -> dict[int, Terms]:
    """Fit decoding: a constant, file bytes, samples and decoded pixels, shared by all targets.

    Baseline JPEGs are fitted together, whatever shorter side they were decoded for; progressive
    ones get bytes and samples beyond that. Lossy WebPs, lossless ones and the other formats, which
    cannot be decoded at a reduced scale, each get bytes and pixels beyond the same constant.

    Args:
        site: ``device`` or ``server``: the prefix of the columns.
        samples: By shorter side in pixels, at least one baseline JPEG each.

    Returns:
        Coefficients by column name, by shorter side.
    """
    everything = [(side_px, s) for side_px, found in samples.items() for s in found]
    baseline = [
        (side_px, s)
        for side_px, s in everything
        if s.facts.format == "jpeg" and not s.facts.is_progressive
    ]
    line = fit_nonnegative(
        [_jpeg_features(s.facts, side_px) for side_px, s in baseline],
        [s.seconds for _, s in baseline],
    )
    constant, per_byte, per_sample, per_decoded = line.tolist()
    progressive = [
        (s, float(line @ _jpeg_features(s.facts, side_px)))
        for side_px, s in everything
        if s.facts.is_progressive
    ]
    rest = [s for _, s in everything if s.facts.format != "jpeg"]
    shared = {
        site: constant,
        f"{site}.jpeg_bytes": per_byte,
        f"{site}.jpeg_samples": per_sample,
        **_beyond(progressive, f"{site}.progressive", "samples"),
        **_of_other_formats(site, constant, rest),
    }
    return {
        side_px: {**shared, f"{site}.jpeg_decoded_px.{side_px}": per_decoded} for side_px in samples
    }


def resize_terms(site: str, side_px: int, samples: Sequence[Sample]) -> Terms:
    """Fit resizing: a constant and the pixels that were decoded.

    Args:
        site: ``device`` or ``server``: the prefix of the columns.
        side_px: Shorter side that was decoded for.
        samples: At least one JPEG.
    """
    jpeg = [s for s in samples if s.facts.format == "jpeg"]
    constant, per_decoded = fit_nonnegative(
        [[1, s.facts.decoded_pixels(side_px)] for s in jpeg], [s.seconds for s in jpeg]
    )
    rest = [s for s in samples if s.facts.format != "jpeg"]
    return {
        site: float(constant),
        f"{site}.jpeg_decoded_px.{side_px}": float(per_decoded),
        **_of_other_formats(site, float(constant), rest),
    }


def fit_errors(
    fitted: Sequence[tuple[Mapping[str, float], Sequence[Sample]]],
) -> dict[str, FitError]:
    """Return how far lines are from what they were fitted to.

    Each image counts once, by the median of its times.

    Args:
        fitted: Terms, and the samples that they were fitted to.

    Returns:
        By format; progressive JPEGs are ``progressive``, and not ``jpeg``.
    """
    errors: dict[str, list[float]] = {}
    for terms, samples in fitted:
        seconds: dict[ImageFacts, list[float]] = {}
        for sample in samples:
            seconds.setdefault(sample.facts, []).append(sample.seconds)
        for facts, found in seconds.items():
            error = abs(predicted_s(terms, facts) / float(np.median(found)) - 1)
            kind = "progressive" if facts.is_progressive else facts.format
            errors.setdefault(kind, []).append(error)
    return {
        name: FitError(float(np.median(found)), float(np.percentile(found, 95)), len(found))
        for name, found in errors.items()
    }


def predicted_s(terms: Mapping[str, float], facts: ImageFacts) -> float:
    """Return what the plan table makes of terms for one image, at no slowdown, seconds.

    Args:
        terms: Coefficients by column name, all of one site.
        facts: The image.
    """
    columns = layout_of(terms)
    numbers = numbers_of(Conditions(_NO_LINK, facts), columns.decode_targets)
    return sum(
        value * numbers.values[base] * numbers.features[feature]
        for value, (base, feature) in zip(terms.values(), columns.sources, strict=True)
    )


def _jpeg_features(facts: ImageFacts, side_px: int) -> list[float]:
    return [1.0, facts.file_bytes, facts.samples, facts.decoded_pixels(side_px)]


def _of_other_formats(site: str, constant_s: float, samples: Sequence[Sample]) -> Terms:
    groups: dict[str, list[tuple[Sample, float]]] = {}
    for sample in samples:
        group = _GROUPS.get(sample.facts.format, "other")
        groups.setdefault(group, []).append((sample, constant_s))
    terms: Terms = {}
    for group, found in groups.items():
        terms |= _beyond(found, f"{site}.{group}", "pixels")
    return terms


def _beyond(samples: Sequence[tuple[Sample, float]], prefix: str, area: str) -> Terms:
    """Fit bytes, and pixels or samples, to what files take beyond the seconds beside them."""
    if not samples:
        return {}
    per_byte, per_area = fit_nonnegative(
        [[s.facts.file_bytes, getattr(s.facts, area)] for s, _ in samples],
        [s.seconds for s, _ in samples],
        known_s=[known_s for _, known_s in samples],
    ).tolist()
    return {f"{prefix}_bytes": per_byte, f"{prefix}_{area}": per_area}
