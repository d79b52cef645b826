"""A ladder of images of known sizes, made from a few photographs, to measure decoding with.

It is only measured with, never shown to a network whose answer counts; so that enlarging a
photograph for the upper rungs does no harm.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from isthmus.runtime.image import decode, read_facts
from isthmus.types.conditions import ImageFacts

__all__ = ["Rung", "image_ladder"]

_RUNGS = (
    # longer side in pixels, JPEG quality
    (640, 85),
    (960, 95),
    (1280, 80),
    (1600, 92),
    (2400, 75),
    (3264, 85),
    (4096, 80),
)
_PROGRESSIVE_RUNGS = ((960, 85), (1600, 90), (3264, 80))
_PNG_SIDES_PX = (640, 1280)
_FULL_SIZE_PX = 1 << 30  # no decoder can shrink to as much as that


@dataclass(frozen=True)
class Rung:
    """One image of the ladder.

    Attributes:
        data: The file.
        facts: What its header tells.
    """

    data: bytes
    facts: ImageFacts


def image_ladder(photographs: Sequence[bytes]) -> tuple[Rung, ...]:
    """Return the photographs, and JPEGs, progressive JPEGs and PNGs of several sizes.

    Args:
        photographs: Image files, at least one.

    Raises:
        ImageError: If one is no image.
    """
    wanted: list[tuple[int, str, dict[str, int]]] = [
        *((side_px, "JPEG", {"quality": quality}) for side_px, quality in _RUNGS),
        *(
            (side_px, "JPEG", {"quality": quality, "progressive": True})
            for side_px, quality in _PROGRESSIVE_RUNGS
        ),
        *((side_px, "PNG", {}) for side_px in _PNG_SIDES_PX),
    ]
    files = [
        *photographs,
        *(
            _encoded(photographs[i % len(photographs)], side_px, file_format, **options)
            for i, (side_px, file_format, options) in enumerate(wanted)
        ),
    ]
    return tuple(Rung(data, read_facts(data)) for data in files)


def _encoded(data: bytes, longer_side_px: int, file_format: str, **options: int) -> bytes:
    photograph = decode(data, shorter_side_px=_FULL_SIZE_PX)
    ratio = longer_side_px / max(photograph.size)
    size = (max(1, round(photograph.width * ratio)), max(1, round(photograph.height * ratio)))
    buffer = io.BytesIO()
    photograph.resize(size, Image.Resampling.BICUBIC).save(buffer, file_format, **options)
    return buffer.getvalue()
