"""Fingerprint: which libraries make pixels and answers here, and the pixels that they do make.

Two sides that decode with other libraries still agree if their pixels do: so both decode the same
small file, ``golden.jpg``, at half its size, and the pixels are compared rather than the versions.
It opens no connection; a server's fingerprint is in its metadata. ``golden.jpg`` is a part of the
photograph "Seeding" by Clemens Engelhardt, CC0-1.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import PIL
import zstandard
from PIL import features

from isthmus.runtime import image
from isthmus.runtime.session import ONNXRUNTIME_VERSION
from isthmus.types.variant import InputPipeline

__all__ = ["PIXEL_TOLERANCE", "decodes_alike", "disagreements", "fingerprint"]

PIXEL_TOLERANCE = 2
"""Grey levels, of 255, by which pixels may differ between two sides, or from the golden ones."""

_PIPELINE = InputPipeline(12, (10, 10), "bilinear", "RGB", (0.0,) * 3, (1.0,) * 3)
_SIZE = 10 * 10 * 3
_ABSENT = "absent"


@cache
def fingerprint() -> dict[str, Any]:
    """Return ``libraries`` (name to version) and ``golden_pixels`` (300 grey levels), JSON values.

    ``libjpeg`` is ``turbo`` and its version, or the interface's version of another libjpeg.
    """
    turbo = features.version("libjpeg_turbo")
    libjpeg = f"turbo {turbo}" if turbo else features.version("jpg")
    data = files("isthmus.runtime").joinpath("golden.jpg").read_bytes()
    pixels = image.fit(image.decode(data, shorter_side_px=24), _PIPELINE)
    return {
        "libraries": {
            "pillow": PIL.__version__,
            "libjpeg": libjpeg or _ABSENT,
            "webp": features.version("webp") or _ABSENT,
            "zlib": features.version("zlib_ng") or features.version("zlib") or _ABSENT,
            "onnxruntime": ONNXRUNTIME_VERSION,
            "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
        },
        "golden_pixels": pixels.ravel().tolist(),
    }


def decodes_alike(here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Return whether photographs become the same pixels on both sides, as far as can be known.

    Not if the server's pixels of the golden photograph are further than ``PIXEL_TOLERANCE`` away
    or unknown, or if it reads no WebP. A server that tells no fingerprint is taken to.

    Args:
        here: This side's ``fingerprint``.
        there: The server's metadata.
    """
    theirs = there.get("libraries")
    if not isinstance(theirs, Mapping):
        return True
    return _levels_apart(here, there) <= PIXEL_TOLERANCE and theirs.get("webp") != _ABSENT


def disagreements(here: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[str, ...]:
    """Return, in words, where two sides would not give the same answer; empty if nowhere.

    Versions may differ as long as the pixels are within ``PIXEL_TOLERANCE``; a side that reads no
    WebP is named, too. A server that tells no fingerprint, as those of others do, is not judged.

    Args:
        here: This side's ``fingerprint``.
        there: The server's metadata.
    """
    found = []
    mine, theirs = here["libraries"], there.get("libraries")
    if not isinstance(theirs, Mapping):
        return ()
    apart = _levels_apart(here, there)
    if apart == math.inf:
        found.append("the server decodes no golden photograph: its pixels are not known")
    elif not apart <= PIXEL_TOLERANCE:
        found.append(
            f"photographs decode {apart:g} grey levels apart (at most {PIXEL_TOLERANCE} are "
            f"harmless): Pillow {theirs.get('pillow')} with libjpeg {theirs.get('libjpeg')} "
            f"there, {mine['pillow']} with {mine['libjpeg']} here; install the same Pillow"
        )
    for side, libraries in (("server", theirs), ("device", mine)):
        if libraries.get("webp") == _ABSENT:
            found.append(f"the {side}'s Pillow reads no WebP")
    return tuple(found)


def _levels_apart(here: Mapping[str, Any], there: Mapping[str, Any]) -> float:
    """Return how far the golden pixels are apart, grey levels; infinite if there are none there."""
    try:
        pixels = np.asarray(there.get("golden_pixels"), dtype=float)
    except (TypeError, ValueError):
        return math.inf
    if pixels.shape != (_SIZE,):
        return math.inf
    return float(np.abs(pixels - np.asarray(here["golden_pixels"])).max())
