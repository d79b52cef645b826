"""The input pipeline: a photograph's bytes become a network's input tensor, on device and server.

One implementation serves both sides, so that it does not matter where the pipeline is cut. It
does not read files, follow colour profiles (pixels are taken as sRGB) or augment.

What a file is, its bytes say and not its name. What is done with pixels that are not plain RGB:
transparency is composited over white, grey and palette images become RGB, CMYK and YCCK are
converted without a profile, 16-bit samples keep their high byte, and of an animation the first
frame is used. Photographs are turned upright as EXIF says. ``docs/concepts/input-pipeline.md``
has all of it in one table.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from isthmus.errors import ImageError
from isthmus.runtime.affine import dequantise
from isthmus.runtime.image_header import plain_header, samples_per_pixel, scan_count
from isthmus.runtime.memory import keep_freed_memory
from isthmus.types.conditions import DECODE_MARGIN, ImageFacts
from isthmus.types.variant import InputPipeline

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "decode",
    "decode_cropped",
    "fit",
    "normalise",
    "planar",
    "read_facts",
]

MAX_PIXELS = 128_000_000
"""Images with more pixels are refused unless the caller says otherwise, by what their header says.

A phone's 108 megapixels are read. The largest image with transparency takes a gigabyte; Pillow's
own limit against decompression bombs, 179 million, stands whatever the caller says.
"""

MAX_SCANS = 100
"""JPEGs with more scans are refused: each costs a pass over the whole image, and a file of a few
kilobytes may hold thousands, baseline or progressive. Encoders make about ten."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is read. Formats that start other programs (EPS) or embed others (ICNS) are left out."""

_FORMAT_NAMES = {"mpo": "jpeg"}  # as many phones write: a JPEG with another one behind it
_STARTS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_USUAL_SAMPLES_PER_PIXEL = 1.5
_ORIENTATION = 0x0112  # the EXIF tag


def read_facts(data: bytes | memoryview, *, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Return what the header of an image file tells, without decoding any pixel.

    Args:
        data: The whole file.
        max_pixels: Images with more are refused.

    Returns:
        The facts; width and height are as stored, before EXIF orientation.

    Raises:
        ImageError: If the bytes are empty, no image of a known format, or too many pixels.
    """
    plain = plain_header(data)
    if plain is not None:
        _check_size(plain.width, plain.height, max_pixels)
        return plain
    with _pillow(), _opened(data, max_pixels) as image:
        assert image.format is not None
        name = image.format.lower()
        return ImageFacts(
            _FORMAT_NAMES.get(name, name),
            *image.size,
            file_bytes=len(data),
            is_progressive="progressive" in image.info,
            samples_per_pixel=_samples_per_pixel(image),
        )


def decode(
    data: bytes | memoryview, *, shorter_side_px: int, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode a photograph to upright RGB, a JPEG at the smallest scale that is large enough.

    A JPEG is decoded at 1, 1/2, 1/4 or 1/8 of its size, the ``types.conditions.dct_scale`` of
    its stored size; other formats at full size. The buffers' memory is kept for the next one.

    Args:
        data: The whole file.
        shorter_side_px: Length that the shorter side needs to have, pixels.
        max_pixels: Images with more are refused before anything is decoded.

    Returns:
        Mode ``RGB``; the shorter side is at least ``DECODE_MARGIN * shorter_side_px`` if the
        file's is.

    Raises:
        ImageError: If the bytes are empty, truncated, no image, or too many pixels or scans, or
            if their headers contradict one another.
    """
    keep_freed_memory()
    with _pillow(), _opened(data, max_pixels) as image:
        enough_px = DECODE_MARGIN * shorter_side_px
        image.draft("RGB", (enough_px, enough_px))
        image.load()
        upright = _UPRIGHT.get(_orientation(image))
        rgb = _to_rgb(image)
        return rgb if upright is None else rgb.transpose(upright)


def fit(image: Image.Image, pipeline: InputPipeline) -> NDArray[np.uint8]:
    """Resize the shorter side and crop the centre.

    Sizes are rounded as torchvision's ``Resize`` and ``CenterCrop`` do: the longer side down,
    the crop's offset to the nearest, halves to even. Only the crop is computed, which gives
    what resizing everything first would, but for the rounding between Pillow's two passes.

    Args:
        image: Mode ``RGB``.
        pipeline: Says the sizes and the interpolation.

    Returns:
        uint8 ``[crop height, crop width, 3]``, RGB.
    """
    width, height = image.size
    shorter, target = min(width, height), pipeline.resize_shorter_side_px
    full_width, full_height = target * width // shorter, target * height // shorter
    crop_height, crop_width = pipeline.crop_px
    left = round((full_width - crop_width) / 2)
    top = round((full_height - crop_height) / 2)
    x, y = width / full_width, height / full_height
    box = (left * x, top * y, (left + crop_width) * x, (top + crop_height) * y)
    box = (*box[:2], min(box[2], width), min(box[3], height))  # rounding may exceed the edge
    resized = image.resize(
        (crop_width, crop_height), resample=_FILTERS[pipeline.interpolation], box=box
    )
    return np.asarray(resized)


def planar(pixels: NDArray[np.uint8], pipeline: InputPipeline) -> NDArray[np.uint8]:
    """Return the planes of RGB pixels, in the pipeline's channel order.

    Args:
        pixels: uint8 ``[H, W, 3]``.
        pipeline: Says the order.

    Returns:
        uint8 ``[1, 3, H, W]``, contiguous.
    """
    ordered = pixels if pipeline.channel_order == "RGB" else pixels[..., ::-1]
    return np.ascontiguousarray(ordered.transpose(2, 0, 1)[None])


def normalise(planar_u8: NDArray[np.uint8], pipeline: InputPipeline) -> NDArray[np.float32]:
    """Return ``(pixel - mean) * (1 / std)``, the network's input.

    Args:
        planar_u8: uint8 ``[1, 3, H, W]``, channels in the pipeline's order.
        pipeline: Says mean and std.

    Returns:
        float32 ``[1, 3, H, W]``; bit for bit what ``codecs.encode_pixels`` decodes to.
    """
    scale = [1 / value for value in pipeline.std]
    return dequantise(planar_u8, scale=scale, zero_point=pipeline.mean, axis=1)


def decode_cropped(data: bytes | memoryview, pipeline: InputPipeline) -> NDArray[np.uint8]:
    """Decode an image that an ``ImageCodec`` made of pixels that ``fit`` has already cropped.

    Returns:
        uint8 ``[crop height, crop width, 3]``, RGB.

    Raises:
        ImageError: If it is no image, or not exactly of the pipeline's crop size when upright.
    """
    height, width = pipeline.crop_px
    facts = read_facts(data)
    found = (facts.width, facts.height)
    if found == (width, height):
        upright = decode(data, shorter_side_px=min(height, width))
        found = upright.size
    if found != (width, height):
        raise ImageError(
            f"a cropped image must be {width} x {height} pixels, got {found[0]} x {found[1]}"
        )
    return np.asarray(upright)


def _opened(data: bytes | memoryview, max_pixels: int) -> Image.Image:
    if not len(data):
        raise ImageError("the image is empty (0 bytes)")
    plain = plain_header(data)
    if plain is not None:
        _check_size(plain.width, plain.height, max_pixels)
    file = bytes(data)
    try:
        image = Image.open(io.BytesIO(file), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(_why_unknown(file)) from error
    width, height = image.size
    _check_size(width, height, max_pixels)
    if plain is not None and (plain.width, plain.height) != image.size:
        raise ImageError(
            f"the image says two sizes: {plain.width} x {plain.height} and {width} x {height}"
        )
    if image.format in ("JPEG", "MPO") and (scans := scan_count(file)) > MAX_SCANS:
        raise ImageError(f"the JPEG has too many scans: {scans}, at most {MAX_SCANS} are read")
    return image


def _samples_per_pixel(image: Image.Image) -> float:
    factors = [(h, v) for _, h, v, _ in getattr(image, "layer", ())]
    return samples_per_pixel(factors) or _USUAL_SAMPLES_PER_PIXEL


def _why_unknown(file: bytes) -> str:
    for start, name in _STARTS.items():
        if file.startswith(start):
            return f"the {name}'s header is damaged, or tells a rare kind, such as 12 bits a sample"
    known = ", ".join(name.lower() for name in FORMATS)
    return f"the bytes are no image that is read here ({known})"


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"the image has too many pixels: {width} x {height}, at most {max_pixels} are read"
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  a broken EXIF block raises anything, and harms no pixel
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16-bit samples; "I" is what old Pillow makes of a PNG's
        samples = np.clip(np.asarray(image).astype(np.int64), 0, 0xFFFF) >> 8
        return Image.fromarray(samples.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("the image has floating point samples, which have no defined white")
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer)
        return white
    return image.convert("RGB")


@contextmanager
def _pillow() -> Iterator[None]:
    """Name what Pillow raises and silence what it warns of (which would name no file anyway)."""
    with _silence:
        try:
            yield
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(f"the image has too many pixels: {error}") from error
        except MemoryError as error:
            raise ImageError("the image does not fit into memory") from error
        except Exception as error:  # each of Pillow's formats stumbles in its own way
            why = str(error) or type(error).__name__
            raise ImageError(f"the image cannot be decoded: {why}") from error


class _Silence:
    """Warnings off while at least one thread is inside.

    ``warnings.catch_warnings`` alone would restore the wrong filters when threads overlap.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._catcher: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._catcher = warnings.catch_warnings(action="ignore")
                self._catcher.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._catcher is not None:
                self._catcher.__exit__(None, None, None)
                self._catcher = None


_silence = _Silence()
