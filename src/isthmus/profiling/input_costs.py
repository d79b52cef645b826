"""What the input pipeline costs, on the device and on the server: lines through measured ladders.

It decides nothing about plans; ``profiling.profile`` puts these terms into rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isthmus.estimation.fit import fit_nonnegative
from isthmus.types.conditions import ImageFacts

__all__ = ["Sample", "decode_terms", "resize_terms"]

Terms = dict[str, float]


@dataclass(frozen=True)
class Sample:
    """How long one image took.

    Attributes:
        facts: The image.
        seconds: The time.
    """

    facts: ImageFacts
    seconds: float


def decode_terms(site: str, samples: Mapping[int, Sequence[Sample]]) -> dict[int, Terms]:
    """Fit decoding: a constant, file bytes, pixels and decoded pixels, shared by all targets.

    Baseline JPEGs are fitted together, whatever shorter side they were decoded for; progressive
    ones get bytes and pixels beyond that, and other formats, which cannot be decoded at a reduced
    scale, bytes and pixels beyond the same constant.

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
    constant, per_byte, per_pixel, per_decoded = line.tolist()
    progressive = [
        (s, float(line @ _jpeg_features(s.facts, side_px)))
        for side_px, s in everything
        if s.facts.is_progressive
    ]
    other = [(s, constant) for _, s in everything if s.facts.format != "jpeg"]
    shared = {
        site: constant,
        f"{site}.jpeg_bytes": per_byte,
        f"{site}.jpeg_pixels": per_pixel,
        **_beyond(progressive, f"{site}.progressive"),
        **_beyond(other, f"{site}.other"),
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
    other = [(s, float(constant)) for s in samples if s.facts.format != "jpeg"]
    return {
        site: float(constant),
        f"{site}.jpeg_decoded_px.{side_px}": float(per_decoded),
        **_beyond(other, f"{site}.other"),
    }


def _jpeg_features(facts: ImageFacts, side_px: int) -> list[float]:
    return [1.0, facts.file_bytes, facts.pixels, facts.decoded_pixels(side_px)]


def _beyond(samples: Sequence[tuple[Sample, float]], prefix: str) -> Terms:
    """Fit bytes and pixels to what the samples take beyond the seconds beside them."""
    if not samples:
        return {}
    per_byte, per_pixel = fit_nonnegative(
        [[s.facts.file_bytes, s.facts.pixels] for s, _ in samples],
        [s.seconds for s, _ in samples],
        known_s=[known_s for _, known_s in samples],
    ).tolist()
    return {f"{prefix}_bytes": per_byte, f"{prefix}_pixels": per_pixel}
