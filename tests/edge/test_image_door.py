"""Hostile and odd photographs against a real server: it says what was wrong, and lives on."""

import io
import json
import re
import struct
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
from PIL import Image

from isthmus.edge.data_plane import DataPlane
from isthmus.edge.residency import Residency
from isthmus.edge.settings import Settings
from isthmus.errors import ImageError
from isthmus.runtime import image
from isthmus.runtime.fingerprint import disagreements, fingerprint
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.runtime.protocol import (
    InferRequest,
    WireTensor,
    bytes_payload,
    pack_request,
    unpack_reply,
)
from isthmus.types.variant import InputPipeline


def file_of(picture, file_format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def a_scene(size=(96, 64)):
    rng = np.random.default_rng(4)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def png_of_size(width, height):
    """A few bytes that say they hold very many pixels."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def jpeg_of_size(width, height):
    data = bytearray(file_of(a_scene(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def png_of_two_sizes():
    """A header that the hand reads, and another one behind it that the decoder reads."""
    data = file_of(a_scene(), "PNG")
    return png_of_size(12, 12)[:33] + data[8:]


def many_scans(*, progressive):
    """A JPEG with 300 empty scans, each of one component."""
    data = file_of(a_scene(), "JPEG", progressive=progressive)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    return data[: data.index(b"\xff\xda\x00")] + scan * 300 + data[-2:]


def of_twelve_bits():
    data = file_of(a_scene(), "JPEG")
    return data.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c")


def without_a_palette():
    data = file_of(a_scene().convert("P"), "PNG")
    start = data.index(b"PLTE") - 4
    return data[:start] + data[start + 12 + int.from_bytes(data[start : start + 4], "big") :]


SCENE = a_scene()
HOSTILE = {
    "empty": (b"", "empty"),
    "no image": (b"this is a letter, not a photograph", "no image"),
    "a program's format": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
    "half a JPEG": (file_of(SCENE, "JPEG")[:900], "cannot be decoded"),
    "half a PNG": (file_of(SCENE, "PNG")[:900], "cannot be decoded"),
    "half a WebP": (file_of(SCENE, "WEBP")[:300], "image"),
    "a JPEG's header": (file_of(SCENE, "JPEG")[:300], "image"),
    "a PNG bomb": (png_of_size(60_000, 60_000), "too many pixels"),
    "a JPEG bomb": (jpeg_of_size(65_000, 65_000), "too many pixels"),
    "too many scans": (many_scans(progressive=True), "too many scans"),
    "too many baseline scans": (many_scans(progressive=False), "too many scans"),
    "two sizes": (png_of_two_sizes(), "two sizes: 12 x 12 and 96 x 64"),
    "twelve bits": (
        of_twelve_bits(),
        "JPEG's header is damaged, or tells a rare kind, such as 12 bits",
    ),
    "no palette": (without_a_palette(), "cannot be decoded: [A-Z]"),
    "no white": (file_of(Image.fromarray(np.ones((16, 16), np.float32)), "TIFF"), "floating point"),
}
GOOD = {
    "JPEG": file_of(SCENE, "JPEG"),
    "progressive": file_of(SCENE, "JPEG", progressive=True),
    "PNG": file_of(SCENE, "PNG"),
    "WebP": file_of(SCENE, "WEBP"),
    "grey": file_of(SCENE.convert("L"), "JPEG"),
    "transparent": file_of(SCENE.convert("RGBA"), "PNG"),
    "palette": file_of(SCENE.convert("P"), "GIF"),
    "CMYK": file_of(SCENE.convert("CMYK"), "JPEG"),
    "one pixel": file_of(a_scene((1, 1)), "PNG"),
    "a line": file_of(a_scene((1500, 1)), "JPEG"),
}


def ask(port, data, **parameters):
    """Return status, and the scores or the error."""
    message = InferRequest((WireTensor("image", bytes_payload(data, **parameters)),))
    headers, body = pack_request(message)
    url = f"http://127.0.0.1:{port}/v2/models/photo.image/infer"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as reply:
            found = unpack_reply({k.lower(): v for k, v in reply.headers.items()}, reply.read())
            return reply.status, found.outputs[0].payload
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["error"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_is_said_and_the_server_lives_on(server_port, name):
    data, says = HOSTILE[name]
    status, error = ask(server_port, data)
    assert status == 400
    assert re.search(says, error)
    with pytest.raises(ImageError) as refused:
        image.decode(data, shorter_side_px=16)
    assert str(refused.value) == error  # the device says the same
    assert ask(server_port, data, cropped=True)[0] == 400
    assert ask(server_port, GOOD["JPEG"])[0] == 200


def test_a_bomb_is_refused_with_the_same_words_by_its_header_alone():
    for name in ("a PNG bomb", "a JPEG bomb"):
        said = set()
        for read in (image.read_facts, lambda data: image.decode(data, shorter_side_px=16)):
            with pytest.raises(ImageError) as refused:
                read(HOSTILE[name][0])
            said.add(str(refused.value))
        assert len(said) == 1


@pytest.mark.parametrize("name", GOOD)
def test_odd_photographs_have_an_answer(server_port, name):
    status, payload = ask(server_port, GOOD[name])
    assert status == 200
    assert payload.shape == (1, 5)


@pytest.mark.parametrize("name", IMAGE_CODECS)
def test_a_cropped_image_of_any_codec_has_an_answer(server_port, name):
    pixels = np.asarray(a_scene((12, 12)))
    assert ask(server_port, IMAGE_CODECS[name].encode(pixels), cropped=True)[0] == 200


def test_the_server_tells_its_libraries_and_the_pixels_that_they_make(server_port):
    with urllib.request.urlopen(f"http://127.0.0.1:{server_port}/v2") as reply:
        metadata = json.load(reply)
    assert metadata["libraries"] == fingerprint()["libraries"]
    assert disagreements(fingerprint(), metadata) == ()


def test_a_cropped_image_of_another_size_is_refused(server_port):
    status, error = ask(server_port, GOOD["JPEG"], cropped=True)
    assert status == 400
    assert "12 x 12" in error


def test_a_cropped_image_that_is_turned_must_have_the_size_when_upright():
    pipeline = InputPipeline(16, (8, 12), "bilinear", "RGB", (0.0,) * 3, (1.0,) * 3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = file_of(a_scene((12, 8)), "JPEG", exif=exif)
        if orientation < 5:
            assert image.decode_cropped(data, pipeline).shape == (8, 12, 3)
        else:
            with pytest.raises(ImageError, match="must be 12 x 8 pixels, got 8 x 12"):
                image.decode_cropped(data, pipeline)


def test_the_servers_owner_may_lower_the_limit_on_pixels(repository):
    settings = Settings(models_dir=repository.directory, max_image_pixels=6000)
    assert Settings(models_dir=repository.directory).max_image_pixels == image.MAX_PIXELS
    residency = Residency(
        repository.directory, threads=1, max_image_pixels=settings.max_image_pixels
    )
    residency.load_all()
    plane = DataPlane(residency, version="1")

    def infer(data):
        tensor = WireTensor("image", bytes_payload(data))
        return plane.infer("photo.image", "", InferRequest((tensor,)))

    with pytest.raises(ImageError, match="96 x 64, at most 6000"):
        infer(GOOD["JPEG"])
    assert infer(file_of(a_scene((90, 60)), "JPEG")).reply.outputs
    for wrong in (0, image.MAX_PIXELS + 1):
        with pytest.raises(ValueError, match="max_image_pixels"):
            Settings(models_dir=repository.directory, max_image_pixels=wrong)
