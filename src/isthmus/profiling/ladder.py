"""A ladder of images of known sizes, made from a few photographs, to measure decoding with.

It is only measured with, never shown to a network whose answer counts; so that enlarging a
photograph for the upper rungs does no harm.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from isthmus.runtime.image import read_facts
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
_OTHER_SIDES_PX = (640, 1280)


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
    """Return the photographs, JPEGs of seven sizes made from them, and PNGs of two.

    Args:
        photographs: Image files, at least one.

    Raises:
        ImageError: If one is no image.
    """
    files = list(photographs)
    for i, (side_px, quality) in enumerate(_RUNGS):
        files.append(_encoded(photographs[i % len(photographs)], side_px, "JPEG", quality=quality))
    for i, side_px in enumerate(_OTHER_SIDES_PX):
        files.append(_encoded(photographs[i % len(photographs)], side_px, "PNG"))
    return tuple(Rung(data, read_facts(data)) for data in files)


def _encoded(data: bytes, longer_side_px: int, file_format: str, **options: int) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        photograph = opened.convert("RGB")
    ratio = longer_side_px / max(photograph.size)
    size = (max(1, round(photograph.width * ratio)), max(1, round(photograph.height * ratio)))
    buffer = io.BytesIO()
    photograph.resize(size, Image.Resampling.BICUBIC).save(buffer, file_format, **options)
    return buffer.getvalue()
