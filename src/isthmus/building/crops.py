"""Crops: as many images as are wanted from the photographs there are, the same ones each time.

It compares no answers (``agreement`` does) and stores no image. If there are enough photographs,
each is an image as it is. Otherwise image ``k`` is made of photograph
``k mod n`` by: a window of 25 to 100 % of its area and an aspect of 3:4 to 4:3 of the
photograph's own, at a random place; mirrored in half of the cases; brightness, contrast and colour
each times 0.8 to 1.2; at most 384 pixels on its shorter side. Images of one photograph resemble one
another, so that a thousand of them tell less than a thousand photographs would.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from isthmus.errors import ImageError
from isthmus.runtime import image

__all__ = ["Crops"]

_RECIPE = "1"  # a new one for every change of what image k is
_AS_THEY_ARE = "as they are"  # the recipe where there are enough photographs
_DECODED_PX = 768
_LONGEST_SHORTER_SIDE_PX = 384
_AREA_RATIO = (0.25, 1.0)
_ASPECT_RATIO = (3 / 4, 4 / 3)
_STRENGTH = (0.8, 1.2)


class Crops:
    """Images made of photographs, by number; several threads may ask at once."""

    def __init__(
        self, photographs: Sequence[Path], *, enough: int | None = None, seed: int = 0
    ) -> None:
        """Remember where the photographs are, and read them once for their digest.

        Args:
            photographs: Image files; their order and names do not matter, their bytes do.
            enough: So many different photographs, or more, are taken as they are, in the order of
                their digests; ``None`` always makes crops.
            seed: Of all that is random.

        Raises:
            ImageError: If there are none.
        """
        if not photographs:
            raise ImageError("no photographs to make crops of")
        by_digest = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in photographs}
        self._paths = [by_digest[digest] for digest in sorted(by_digest)]
        self.are_photographs = enough is not None and len(by_digest) >= enough
        """Whether the images are the photographs as they are."""

        recipe = [_AS_THEY_ARE] if self.are_photographs else [_RECIPE, str(seed)]
        told = "\n".join([*recipe, *sorted(by_digest)])
        self.digest = hashlib.sha256(told.encode()).hexdigest()
        """SHA-256 of recipe, seed and photographs: images of the same digest are the same."""
        self._decoded = lru_cache(maxsize=32)(_decoded)

        self.seed = seed
        """Of all that is random."""

    @property
    def photographs(self) -> int:
        """How many different photographs the images are made of."""
        return len(self._paths)

    def path(self, k: int) -> Path:
        """Return of which photograph image ``k`` is made."""
        return self._paths[k % len(self._paths)]

    def image(self, k: int) -> Image.Image:
        """Return image ``k``, mode ``RGB``.

        Raises:
            ImageError: If its photograph cannot be decoded.
        """
        photograph = self._decoded(self.path(k))
        if self.are_photographs:
            return photograph
        rng = np.random.default_rng((self.seed, k))
        window = _window(photograph.size, rng)
        width, height = window[2] - window[0], window[3] - window[1]
        scale = min(1.0, _LONGEST_SHORTER_SIDE_PX / min(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        made = photograph.resize(size, Image.Resampling.BICUBIC, box=window)
        if rng.random() < 0.5:
            made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            made = enhance(made).enhance(rng.uniform(*_STRENGTH))
        return made


def _decoded(path: Path) -> Image.Image:
    try:
        return image.decode(path.read_bytes(), shorter_side_px=_DECODED_PX)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def _window(size: tuple[int, int], rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return a random window (left, top, right, bottom) of an image of ``size``, pixels."""
    area = rng.uniform(*_AREA_RATIO)
    aspect = math.exp(rng.uniform(math.log(_ASPECT_RATIO[0]), math.log(_ASPECT_RATIO[1])))
    width = min(1.0, math.sqrt(area * aspect)) * size[0]
    height = min(1.0, math.sqrt(area / aspect)) * size[1]
    left, top = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height)
    return left, top, left + width, top + height
