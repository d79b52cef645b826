"""What the input pipeline costs, on the device and on the server: lines through measured ladders.

It decides nothing about plans; ``profiling.profile`` puts these terms into rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.profiling.fit import fit_nonnegative
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

    JPEGs are fitted together, whatever shorter side they were decoded for; other formats, which
    cannot be decoded at a reduced scale, get bytes and pixels beyond the same constant.

    Args:
        site: ``device`` or ``server``: the prefix of the columns.
        samples: By shorter side in pixels, at least one JPEG each.

    Returns:
        Coefficients by column name, by shorter side.
    """
    everything = [(side_px, s) for side_px, found in samples.items() for s in found]
    jpeg = [(side_px, s) for side_px, s in everything if s.facts.format == "jpeg"]
    constant, per_byte, per_pixel, per_decoded = fit_nonnegative(
        [
            [1, s.facts.file_bytes, s.facts.pixels, s.facts.decoded_pixels(side_px)]
            for side_px, s in jpeg
        ],
        [s.seconds for _, s in jpeg],
    )
    other = [s for _, s in everything if s.facts.format != "jpeg"]
    other_terms = _beyond(constant, other)
    shared = {
        site: float(constant),
        f"{site}.jpeg_bytes": float(per_byte),
        f"{site}.jpeg_pixels": float(per_pixel),
        **{f"{site}.{name}": value for name, value in other_terms.items()},
    }
    return {
        side_px: {**shared, f"{site}.jpeg_decoded_px.{side_px}": float(per_decoded)}
        for side_px in samples
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
    other = [s for s in samples if s.facts.format != "jpeg"]
    per_pixel = _beyond(constant, other)["other_pixels"] if other else 0.0
    return {
        site: float(constant),
        f"{site}.jpeg_decoded_px.{side_px}": float(per_decoded),
        f"{site}.other_pixels": per_pixel,
    }


def _beyond(constant: float, samples: Sequence[Sample]) -> Terms:
    """Fit bytes and pixels to what the samples take beyond ``constant``."""
    if not samples:
        return {"other_bytes": 0.0, "other_pixels": 0.0}
    floor_s = min(s.seconds for s in samples) * 1e-3
    per_byte, per_pixel = fit_nonnegative(
        [[s.facts.file_bytes, s.facts.pixels] for s in samples],
        np.maximum([s.seconds - constant for s in samples], floor_s),
    )
    return {"other_bytes": float(per_byte), "other_pixels": float(per_pixel)}
