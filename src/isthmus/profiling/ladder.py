"""A ladder of images from 20 KB to 10 MB, made from a few photographs, to measure decoding with.

It is only measured with, never shown to a network whose answer counts; so that enlarging a
photograph for the upper rungs does no harm. PNGs and WebPs are written as programs do by default:
what a file costs to decode depends on its encoder's effort, too, which no header tells.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from PIL import Image

from isthmus.runtime.image import decode, read_facts
from isthmus.types.conditions import ImageFacts
from isthmus.types.progress import SILENT, Progress

__all__ = ["LARGE_BYTES", "RUNGS_DIGEST", "Rung", "image_ladder"]

LARGE_BYTES = 2_500_000
"""A larger rung takes long to send and to decode: one look at it is enough."""

_Wanted = tuple[int, str, Mapping[str, int | bool]]
_FAST_LOSSLESS = {"lossless": True, "quality": 0, "method": 0}
_RUNGS: tuple[_Wanted, ...] = (
    # longer side in pixels, format, its options; the sizes are those of the zoo's photographs
    (320, "JPEG", {"quality": 75}),  # 10 to 20 KB
    (480, "JPEG", {"quality": 92}),  # 50 KB
    (640, "JPEG", {"quality": 85}),
    (960, "JPEG", {"quality": 95}),
    (1280, "JPEG", {"quality": 80}),
    (1600, "JPEG", {"quality": 92}),  # 0.5 MB
    (2400, "JPEG", {"quality": 75}),
    (3264, "JPEG", {"quality": 85}),  # 1 MB
    (4096, "JPEG", {"quality": 80}),
    (4096, "JPEG", {"quality": 96}),  # 3 MB
    (5600, "JPEG", {"quality": 99, "subsampling": 0}),  # 5 to 10 MB
    (480, "JPEG", {"quality": 75, "progressive": True}),
    (960, "JPEG", {"quality": 85, "progressive": True}),
    (1600, "JPEG", {"quality": 90, "progressive": True}),
    (3264, "JPEG", {"quality": 80, "progressive": True}),
    (240, "PNG", {}),  # 0.1 MB
    (320, "PNG", {}),
    (480, "PNG", {}),
    (640, "PNG", {}),
    (800, "PNG", {}),
    (960, "PNG", {}),  # 1 MB
    (320, "WEBP", {"quality": 90}),  # 20 to 30 KB
    (480, "WEBP", {"quality": 75}),
    (720, "WEBP", {"quality": 92}),
    (960, "WEBP", {"quality": 75}),
    (1280, "WEBP", {"quality": 95}),
    (1600, "WEBP", {"quality": 85}),  # 0.3 MB
    (240, "WEBP", {"lossless": True}),
    (400, "WEBP", _FAST_LOSSLESS),
    (640, "WEBP", {"lossless": True}),
    (800, "WEBP", _FAST_LOSSLESS),  # 0.5 MB
)
_KNOWN_OF_EACH = tuple(field.name for field in fields(ImageFacts))
RUNGS_DIGEST = hashlib.sha256(repr((_RUNGS, _KNOWN_OF_EACH)).encode()).hexdigest()[:12]
"""Tells times of one ladder from those of another, or of which less was known."""

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

    @property
    def is_large(self) -> bool:
        """Whether it is larger than ``LARGE_BYTES``."""
        return self.facts.file_bytes > LARGE_BYTES


def image_ladder(photographs: Sequence[bytes], progress: Progress = SILENT) -> tuple[Rung, ...]:
    """Return the photographs, and several sizes of each kind of file that has a line of its own.

    Args:
        photographs: Image files, at least one.
        progress: Told about each image that is made.

    Raises:
        ImageError: If one is no image.
    """
    originals = [decode(data, shorter_side_px=_FULL_SIZE_PX) for data in photographs]
    progress.begin("ladder of images", len(_RUNGS))
    files = list(photographs)
    for i, (side_px, file_format, options) in enumerate(_RUNGS):
        files.append(_encoded(originals[i % len(originals)], side_px, file_format, options))
        progress.advance(f"{side_px} px {file_format}")
    return tuple(Rung(data, read_facts(data)) for data in files)


def _encoded(
    photograph: Image.Image, longer_side_px: int, file_format: str, options: Mapping[str, int]
) -> bytes:
    ratio = longer_side_px / max(photograph.size)
    size = (max(1, round(photograph.width * ratio)), max(1, round(photograph.height * ratio)))
    buffer = io.BytesIO()
    photograph.resize(size, Image.Resampling.BICUBIC).save(buffer, file_format, **options)
    return buffer.getvalue()
