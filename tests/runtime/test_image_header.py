"""Headers read by hand say what Pillow says, or nothing."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import isthmus_zoo
from isthmus.runtime.image import read_facts
from isthmus.runtime.image_header import plain_header, scan_count
from isthmus.types.conditions import ImageFacts


def by_pillow(data: bytes) -> ImageFacts:
    with Image.open(io.BytesIO(data)) as image:
        name = "jpeg" if image.format == "MPO" else image.format.lower()
        if name != "jpeg":
            return ImageFacts(name, *image.size, len(data))
        layers = [(h, v) for _, h, v, _ in image.layer]
        most = max(h for h, _ in layers) * max(v for _, v in layers)
        per_pixel = sum(h * v for h, v in layers) / most
        return ImageFacts(name, *image.size, len(data), "progressive" in image.info, per_pixel)


def encoded(size, file_format, mode="RGB", **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, file_format, **options)
    return buffer.getvalue()


def test_zoo_photographs_are_read_as_pillow_reads_them():
    found = []
    for path in isthmus_zoo.photograph_paths():
        data = path.read_bytes()
        assert plain_header(data) == by_pillow(data), path.name
        found.append(plain_header(data).is_progressive)
    assert any(found)
    assert not all(found)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"x" * 60_000}])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (640, 481)])
def test_jpegs(mode, options, size):
    data = encoded(size, "JPEG", mode, **options)
    assert plain_header(data) == by_pillow(data)
    assert plain_header(memoryview(data)) == by_pillow(data)


@pytest.mark.parametrize(
    ("mode", "subsampling", "per_pixel"),
    [("RGB", 0, 3), ("RGB", 1, 2), ("RGB", 2, 1.5), ("L", 0, 1), ("CMYK", 0, 4)],
)
@pytest.mark.parametrize("is_progressive", [False, True])
def test_how_many_samples_a_jpeg_stores_for_a_pixel(mode, subsampling, per_pixel, is_progressive):
    data = encoded((40, 30), "JPEG", mode, subsampling=subsampling, progressive=is_progressive)
    for facts in (plain_header(data), plain_header(memoryview(data)), read_facts(data)):
        assert facts.samples_per_pixel == per_pixel
        assert facts.samples == 1200 * per_pixel
    strange = b"\xff\xd8" + b"\xff" + data[2:]  # filled: left to Pillow
    assert plain_header(strange) is None
    assert read_facts(strange).samples_per_pixel == per_pixel


def test_a_jpeg_without_sampling_factors_is_left_to_pillow():
    data = bytearray(encoded((40, 30), "JPEG"))
    data[data.index(b"\xff\xc0") + 11] = 0x20
    assert plain_header(bytes(data)) is None


def test_a_jpeg_with_metadata():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * 5000
    data = encoded((40, 30), "JPEG", exif=exif, icc_profile=b"p" * 100_000)
    assert plain_header(data) == by_pillow(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16"])
def test_pngs(mode):
    data = encoded((33, 21), "PNG", mode)
    assert plain_header(data) == by_pillow(data)


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "TIFF", "PPM"])
def test_other_formats_are_left_to_pillow(file_format):
    assert plain_header(encoded((33, 21), file_format)) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"no image", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image_is_left_to_pillow(data):
    assert plain_header(data) is None


def test_a_header_without_a_size_is_left_to_pillow():
    jpeg = bytearray(encoded((40, 30), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 7] = b"\0\0"  # its height comes later, in a segment of its own
    assert plain_header(bytes(jpeg)) is None
    png = bytearray(encoded((40, 30), "PNG"))
    png[16:20] = bytes(4)
    assert plain_header(bytes(png)) is None


def test_truncated_headers_are_left_to_pillow():
    data = encoded((40, 30), "JPEG", comment=b"x" * 300)
    full = plain_header(data)
    for end in range(data.index(b"\xff\xc0") + 9):
        assert plain_header(data[:end]) is None
    assert full is not None


@given(st.binary(max_size=200), st.randoms(use_true_random=False))
def test_no_bytes_raise_and_what_is_said_is_a_size(noise: bytes, rng: random.Random):
    whole = encoded((40, 30), "JPEG")
    at = rng.randrange(2, 60)
    for data in (b"\xff\xd8\xff" + noise, whole[:at] + noise + whole[at:], noise):
        found = plain_header(data)
        assert found is None or (found.width > 0 and found.height > 0)


@pytest.mark.parametrize("bits", [0, 7, 9, 12, 16])
@pytest.mark.parametrize("components", [1, 3])
def test_a_jpeg_of_other_than_eight_bits_is_left_to_pillow(bits, components):
    data = bytearray(encoded((40, 30), "JPEG", "L" if components == 1 else "RGB"))
    frame = data.index(b"\xff\xc0")
    data[frame + 4] = bits
    assert plain_header(bytes(data)) is None


def test_a_jpeg_of_an_odd_number_of_components_is_left_to_pillow():
    data = bytearray(encoded((40, 30), "JPEG"))
    for components in (0, 2, 5, 255):
        data[data.index(b"\xff\xc0") + 9] = components
        assert plain_header(bytes(data)) is None


def a_jpeg_of_scans(count: int, *, between: bytes = b"", progressive: bool = False) -> bytes:
    """Scans of one component each."""
    data = encoded((40, 30), "JPEG", progressive=progressive)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(2)
    return data[: data.index(b"\xff\xda")] + (between + scan) * count + data[-2:]


@pytest.mark.parametrize("progressive", [True, False])
@pytest.mark.parametrize("count", [1, 5, 21, 500])
def test_scans_are_counted(count, progressive):
    assert scan_count(a_jpeg_of_scans(count, progressive=progressive)) == count


def test_behind_a_scan_of_all_components_nothing_is_decoded():
    data = encoded((40, 30), "JPEG")
    scan = data[data.index(b"\xff\xda") : -2]
    assert scan_count(data[:-2] + scan * 500 + data[-2:]) == 1
    grey = encoded((40, 30), "JPEG", "L")
    scan = grey[grey.index(b"\xff\xda") : -2]
    assert scan_count(grey[:-2] + scan * 500 + grey[-2:]) == 1


def test_scans_hidden_behind_a_false_end_are_counted():
    comment = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"
    application = b"\xff\xff\xef\x00\x04\xff\xd9"
    assert scan_count(a_jpeg_of_scans(300, between=comment)) == 300
    assert scan_count(a_jpeg_of_scans(300, between=application)) == 300


def test_scans_of_other_pictures_do_not_count():
    thumbnail = b"\xff\xe1" + struct.pack(">H", 302) + b"\xff\xda\x00" * 100
    data = encoded((40, 30), "JPEG")
    assert scan_count(data[:2] + thumbnail + data[2:]) == 1
    assert scan_count(data + b"\xff\xda\x00" * 2000) == 1  # a film behind a photograph
