"""Image codecs: as what a photograph that was resized on the device crosses the link.

They encode pixels of exactly the network's input size; ``image.decode_cropped`` is the way back.
Which of them a network may use is measured when a bundle is built (``building.agreement``).

JPEG keeps its colours at full resolution (4:4:4): around 16 KB that changes fewer answers than
subsampled colours at a higher quality do, for the same bytes. A quality below 75 saves a few
kilobytes and costs a tenth of the answers (``docs/concepts/input-pipeline.md`` has the table).
WebP's lossless mode keeps every pixel in half the bytes of the input tensor.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["IMAGE_CODECS", "ImageCodec"]


@dataclass(frozen=True)
class ImageCodec:
    """Pixels to the bytes of an image file.

    Attributes:
        name: What ``PlanRow.codec`` says, e.g. ``jpeg-85``.
        is_lossless: Whether decoding gives back every pixel.
        file_format: Pillow's name of the format.
        options: Pillow's options for it.
    """

    name: str
    is_lossless: bool
    file_format: str
    options: Mapping[str, bool | int] = field(default_factory=dict)

    def encode(self, pixels: NDArray[np.uint8]) -> bytes:
        """Return the file of RGB pixels, uint8 ``[H, W, 3]``."""
        buffer = io.BytesIO()
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        picture.save(buffer, format=self.file_format, **self.options)
        return buffer.getvalue()


def _jpeg(quality: int) -> ImageCodec:
    return ImageCodec(f"jpeg-{quality}", False, "JPEG", {"quality": quality, "subsampling": 0})


# The least effort: more of it saves a tenth of the bytes in seven times the time.
_WEBP = ImageCodec("webp-lossless", True, "WEBP", {"lossless": True, "quality": 0, "method": 0})

IMAGE_CODECS: Mapping[str, ImageCodec] = MappingProxyType(
    {codec.name: codec for codec in (_jpeg(95), _jpeg(85), _jpeg(75), _WEBP)}
)
"""By name, the largest JPEG first."""
