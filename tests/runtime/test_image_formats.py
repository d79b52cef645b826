"""What becomes of every kind of image file: its pixels, or a named error."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from isthmus.errors import ImageError
from isthmus.runtime import image
from isthmus.runtime.image_header import plain_header
from isthmus.types.variant import InputPipeline

PIPELINE = InputPipeline(64, (56, 48), "bilinear", "RGB", (0.0,) * 3, (1.0,) * 3)
ORANGE = (250, 130, 20)


def file_of(picture, file_format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def colour_of(data):
    pixels = np.asarray(image.decode(data, shorter_side_px=16))
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    return pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].astype(int)


def plain(mode, colour, size=(64, 48)):
    return Image.new(mode, size, colour)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def a_deep_png(colour_type, samples):
    """A PNG of one colour with 16 bits a sample, which Pillow cannot write for colours."""
    width, height = 24, 20
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples) * width
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    data = zlib.compress(row * height)
    chunks = png_chunk(b"IHDR", head) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("PPM", {}),
    ],
)
def test_every_format_gives_its_colours_and_facts(file_format, options):
    data = file_of(plain("RGB", ORANGE), file_format, **options)
    assert np.abs(colour_of(data) - ORANGE).max() <= 3
    facts = image.read_facts(data)
    assert (facts.width, facts.height, facts.file_bytes) == (64, 48, len(data))
    expected = file_format.lower() + ("-lossless" if options.get("lossless") else "")
    assert facts.format == expected
    assert facts.is_progressive is bool(options.get("progressive"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_any_format_is_turned_upright(file_format, orientation):
    quarters = Image.new("RGB", (64, 48), "black")
    quarters.paste("red", (0, 0, 32, 24))  # top left
    quarters.paste("blue", (32, 24, 64, 48))  # bottom right
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(quarters, file_format, exif=exif)
    upright = np.asarray(image.decode(data, shorter_side_px=48))
    assert upright.shape[:2] == ((64, 48) if orientation >= 5 else (48, 64))
    height, width = upright.shape[:2]
    at = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}
    colours = {}
    for corner, (row, column) in at.items():
        pixel = upright[height // 4 + row * height // 2, width // 4 + column * width // 2]
        colours[corner] = "red" if pixel[0] > 128 else "blue" if pixel[2] > 128 else "black"
    red = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
    red |= {5: "top left", 6: "top right", 7: "bottom right", 8: "bottom left"}
    assert colours[red[orientation]] == "red"
    assert sorted(colours.values()) == ["black", "black", "blue", "red"]


def test_a_broken_exif_block_harms_no_pixel():
    data = file_of(plain("RGB", ORANGE), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"x" * 99)
    assert np.abs(colour_of(data) - ORANGE).max() <= 3


def test_grey_becomes_rgb():
    for file_format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"):
        assert np.abs(colour_of(file_of(plain("L", 77), file_format)) - 77).max() <= 1
    assert colour_of(file_of(plain("1", 1), "PNG")).tolist() == [255] * 3


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("alpha", "share"), [(255, 1.0), (0, 0.0), (127, 127 / 255)])
def test_transparency_is_composited_over_white(file_format, alpha, share):
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    data = file_of(plain("RGBA", (*ORANGE, alpha)), file_format, **options)
    expected = [share * colour + (1 - share) * 255 for colour in ORANGE]
    assert np.abs(colour_of(data) - expected).max() <= 1


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "TIFF", "BMP"])
def test_palettes_become_rgb(file_format):
    picture = plain("P", 1)
    picture.putpalette([0, 0, 0, *ORANGE])
    assert colour_of(file_of(picture, file_format)).tolist() == list(ORANGE)


def ycck(data):
    """Say in a CMYK JPEG's Adobe segment that it holds YCCK, without touching any sample."""
    at = data.index(b"Adobe", data.index(b"\xff\xee")) + 11
    assert data[at] == 0
    return data[:at] + b"\x02" + data[at + 1 :]


def test_cmyk_and_ycck_jpegs_are_converted_without_a_profile():
    cmyk = file_of(plain("CMYK", (10, 120, 240, 40)), "JPEG", quality=95, subsampling=0)
    expected = [(255 - ink) * (255 - 40) / 255 for ink in (10, 120, 240)]
    assert np.abs(colour_of(cmyk) - expected).max() <= 3
    with Image.open(io.BytesIO(ycck(cmyk))) as opened:
        stored = 255 - np.asarray(opened.convert("CMYK")).astype(float)[24, 32]
    expected = stored[:3] * stored[3] / 255
    assert np.abs(colour_of(ycck(cmyk)) - expected).max() <= 3
    assert np.abs(colour_of(ycck(cmyk)) - colour_of(cmyk)).max() > 20


def test_sixteen_bits_keep_their_high_byte():
    assert colour_of(a_deep_png(0, [0x8040])).tolist() == [0x80] * 3
    assert colour_of(a_deep_png(2, [0x10FF, 0x8000, 0xFFFF])).tolist() == [0x10, 0x80, 0xFF]
    assert colour_of(a_deep_png(6, [0x10FF, 0x8000, 0xFFFF, 0xFFFF])).tolist() == [0x10, 0x80, 0xFF]
    assert colour_of(a_deep_png(4, [0x7700, 0x0000])).tolist() == [255] * 3  # transparent


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_used(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    if file_format != "TIFF":
        options["duration"] = 50
    data = file_of(
        plain("RGB", ORANGE), file_format, save_all=True,
        append_images=[plain("RGB", "blue")], **options,
    )  # fmt: skip
    assert np.abs(colour_of(data) - ORANGE).max() <= 3
    assert image.read_facts(data).width == 64


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 1), (17, 6000)])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_one_pixel_and_extreme_shapes_fit(file_format, size):
    data = file_of(plain("RGB", ORANGE, size), file_format, quality=95)
    pixels = image.fit(image.decode(data, shorter_side_px=64), PIPELINE)
    assert pixels.shape == (56, 48, 3)
    assert np.abs(pixels.astype(int) - ORANGE).max() <= 4
    assert (image.read_facts(data).width, image.read_facts(data).height) == size


def test_what_a_file_is_its_bytes_say(tmp_path):
    path = tmp_path / "photograph.jpg"
    path.write_bytes(file_of(plain("RGB", ORANGE), "PNG"))
    assert image.read_facts(path.read_bytes()).format == "png"
    assert colour_of(path.read_bytes()).tolist() == list(ORANGE)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_limit_on_pixels_is_checked_before_anything_is_decoded(file_format, monkeypatch):
    data = file_of(plain("RGB", ORANGE, (50, 40)), file_format)
    assert image.read_facts(data, max_pixels=2000).pixels == 2000
    assert image.decode(data, shorter_side_px=8, max_pixels=2000).mode == "RGB"
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for read in (
        lambda: image.read_facts(data, max_pixels=1999),
        lambda: image.decode(data, shorter_side_px=8, max_pixels=1999),
    ):
        with pytest.raises(ImageError, match="too many pixels: 50 x 40, at most 1999"):
            read()


def test_a_progressive_jpeg_with_very_many_scans_is_refused():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    data = file_of(noise, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda\x00")
    scan = data[last:-2]
    few, many = (data[:-2] + scan * count + data[-2:] for count in (20, 2000))
    assert image.decode(few, shorter_side_px=48).size == (64, 48)
    with pytest.raises(ImageError, match=r"too many scans: 20\d\d, at most 100"):
        image.decode(many, shorter_side_px=8)
    film = file_of(noise, "JPEG") + b"\xff\xda\x00" * 2000  # behind a photograph
    assert image.decode(film, shorter_side_px=8).mode == "RGB"


def test_a_baseline_jpeg_with_very_many_scans_is_refused():
    data = file_of(plain("RGB", ORANGE, (8, 8)), "JPEG")
    whole = data[data.index(b"\xff\xda\x00") : -2]
    of_one_component = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(2)
    head = data[: data.index(whole)]
    with pytest.raises(ImageError, match="too many scans: 101, at most 100"):
        image.decode(head + of_one_component * 101 + data[-2:], shorter_side_px=8)
    with pytest.raises(ImageError, match="cannot be decoded"):  # at once: the first was all
        image.decode(head + whole * 500 + data[-2:], shorter_side_px=8)


WEBPS = {
    "lossy": {"quality": 80},
    "lossless": {"lossless": True},
    "extended": {"quality": 80, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"},
    "extended lossless": {"lossless": True, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"},
    "animated": {"save_all": True, "append_images": [plain("RGB", "blue", (333, 21))]},
    "transparent": {"quality": 80},
}


@pytest.mark.parametrize("options", WEBPS.values(), ids=WEBPS)
@pytest.mark.parametrize("size", [(333, 21), (1, 1), (1, 16383)])
def test_webp_headers_are_read_by_hand(options, size):
    if "append_images" in options:
        options = {**options, "append_images": [plain("RGB", "blue", size)]}
    is_transparent = options == WEBPS["transparent"] and size[0] > 1
    picture = plain("RGBA", (*ORANGE, 90), size) if is_transparent else plain("RGB", ORANGE, size)
    data = file_of(picture, "WEBP", **options)
    found = plain_header(data)
    expected = "webp-lossless" if options.get("lossless") else "webp"
    assert (found.format, found.width, found.height) == (expected, *size)
    assert found.file_bytes == len(data)
    for end in range(30):
        assert plain_header(data[:end]) is None


def test_webp_headers_that_are_not_plain_are_left_to_pillow():
    data = bytearray(file_of(plain("RGB", ORANGE), "WEBP"))
    data[23] ^= 1  # the start code
    assert plain_header(bytes(data)) is None
    lossless = bytearray(file_of(plain("RGB", ORANGE), "WEBP", lossless=True))
    lossless[20] ^= 1
    assert plain_header(bytes(lossless)) is None
    assert plain_header(b"RIFF\0\0\0\0WEBPICCP" + bytes(40)) is None


def mutated(data, rng):
    """Return a file with a few bytes near its start changed, taken away or put in."""
    found = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(min(len(found), rng.choice([30, 100, 700]))))
        kind = rng.random()
        if kind < 0.6:
            found[at] = rng.choice([0, 1, 0xFF, rng.integers(256)])
        elif kind < 0.8:
            del found[at : at + int(rng.integers(1, 9))]
        else:
            found[at:at] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(found)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM"])
def test_whatever_is_damaged_the_header_and_the_decoder_agree(file_format):
    rng = np.random.default_rng(5)
    noise = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    data = file_of(noise, file_format)
    seen = set()
    for _ in range(150):
        damaged = mutated(data, rng)
        outcomes = []
        for read in (image.read_facts, lambda data: image.decode(data, shorter_side_px=1000)):
            try:
                found = read(damaged)
                outcomes.append((found.width, found.height))
            except ImageError as error:
                outcomes.append(str(error))
        by_header, decoded = outcomes
        seen.add(type(decoded))
        # What the header cannot tell, decoding may still refuse; nothing else is allowed.
        assert by_header == decoded or (isinstance(decoded, str) and isinstance(by_header, tuple))
    assert seen == {tuple, str}
