"""The input pipeline against an independent resampling in NumPy, and against hostile files."""

import contextlib
import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from isthmus.errors import ImageError
from isthmus.runtime import image as pipeline_of
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.types.conditions import dct_scale
from isthmus.types.variant import InputPipeline

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def a_pipeline(**changes):
    values = {
        "resize_shorter_side_px": 64,
        "crop_px": (56, 48),
        "interpolation": "bilinear",
        "channel_order": "RGB",
        "mean": MEAN,
        "std": STD,
    }
    return InputPipeline(**{**values, **changes})


def a_scene(width, height, seed=7, cell=16):
    """Smooth random colours: what a photograph's low frequencies look like."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def a_file(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def oracle_axis(length, target, support, kernel):
    """Return the antialiased resampling of one axis as a matrix [target, length]."""
    step = length / target
    stretch = max(step, 1.0)
    centres = (np.arange(target) + 0.5) * step
    distance = (np.arange(length)[None] + 0.5 - centres[:, None]) / stretch
    weights = np.where(np.abs(distance) < support, kernel(np.abs(distance)), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def triangle(x):
    return np.maximum(1 - x, 0)


def cubic(x, a=-0.5):
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def eight_bits(values):
    return np.clip(np.floor(values + 0.5), 0, 255)


def oracle_fits(pixels, pipeline):
    """Resize everything, then crop: the definition, with no shortcut.

    Samples are 8 bits between the passes, like Pillow's, which chooses the cheaper order: hence
    two answers, equal but for that rounding.
    """
    height, width, _ = pixels.shape
    target = pipeline.resize_shorter_side_px
    shorter = min(height, width)
    rows, columns = target * height // shorter, target * width // shorter
    support, kernel = {"bilinear": (1, triangle), "bicubic": (2, cubic)}[pipeline.interpolation]
    down = oracle_axis(height, rows, support, kernel)
    across = oracle_axis(width, columns, support, kernel)
    exact = pixels.astype(float)
    wide = eight_bits(np.einsum("hwc,xw->hxc", exact, across, optimize=True))
    low = eight_bits(np.einsum("rh,hwc->rwc", down, exact, optimize=True))
    fulls = (
        np.einsum("rh,hxc->rxc", down, wide, optimize=True),
        np.einsum("rwc,xw->rxc", low, across, optimize=True),
    )
    crop_rows, crop_columns = pipeline.crop_px
    top, left = round((rows - crop_rows) / 2), round((columns - crop_columns) / 2)
    return [full[top : top + crop_rows, left : left + crop_columns].clip(0, 255) for full in fulls]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 200), (201, 333), (64, 64), (40, 57), (1000, 65)])
def test_fit_agrees_with_the_definition_within_two_grey_levels(interpolation, size):
    pipeline = a_pipeline(interpolation=interpolation)
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)

    fitted = pipeline_of.fit(Image.fromarray(noise), pipeline)

    assert fitted.shape == (56, 48, 3)
    assert fitted.dtype == np.uint8
    differences = [np.abs(fitted - oracle).max() for oracle in oracle_fits(noise, pipeline)]
    assert min(differences) <= 1.5  # both passes round


@pytest.mark.parametrize("size", [(640, 480), (333, 517), (1023, 769)])
def test_computing_only_the_crop_gives_the_pixels_of_the_whole(size):
    scene = a_scene(*size)
    pipeline = a_pipeline(interpolation="bicubic")
    shorter = min(size)
    whole = scene.resize(tuple(64 * side // shorter for side in size), Image.Resampling.BICUBIC)
    left, top = round((whole.width - 48) / 2), round((whole.height - 56) / 2)
    expected = np.asarray(whole.crop((left, top, left + 48, top + 56))).astype(int)

    difference = np.abs(pipeline_of.fit(scene, pipeline).astype(int) - expected)

    assert difference.max() <= 1


def test_golden_pixels():
    """Three pixels of a fixed picture, so that a change in Pillow cannot pass unseen."""
    rows, columns = np.mgrid[0:120, 0:160]
    pixels = np.stack([rows * 2, columns, rows // 8 % 2 * 200 + columns // 8 % 2 * 50], axis=-1)
    pixels = pixels.astype(np.uint8)
    fitted = pipeline_of.fit(Image.fromarray(pixels), a_pipeline())
    golden = {(0, 0): (16, 34, 147), (28, 24): (121, 79, 225), (55, 47): (222, 123, 197)}
    for (row, column), expected in golden.items():
        assert np.abs(fitted[row, column].astype(int) - expected).max() <= 1, (row, column)


@pytest.mark.parametrize("size", [(1600, 1200), (1601, 1207), (255, 400), (512, 511), (64, 64)])
@pytest.mark.parametrize("shorter", [1, 64, 100, 256])
def test_a_jpeg_is_decoded_at_exactly_the_predicted_scale(size, shorter):
    data = a_file(a_scene(*size), "JPEG", quality=90)
    facts = pipeline_of.read_facts(data)
    decoded = pipeline_of.decode(data, shorter_side_px=shorter)
    scale = dct_scale(*size, shorter)
    assert decoded.size == tuple(-(-side // scale) for side in size)
    assert decoded.width * decoded.height == facts.decoded_pixels(shorter)
    assert min(decoded.size) >= min(shorter, *size)


def test_the_reduced_decode_is_close_to_the_full_one():
    pipeline = a_pipeline()
    data = a_file(a_scene(1600, 1200), "JPEG", quality=92)
    reduced = pipeline_of.fit(pipeline_of.decode(data, shorter_side_px=64), pipeline)
    full = pipeline_of.fit(Image.open(io.BytesIO(data)), pipeline)
    difference = np.abs(reduced.astype(int) - full.astype(int))
    assert 0 < difference.mean() < 1.5
    assert difference.max() < 16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_at_full_and_reduced_scale(orientation):
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }
    scene = a_scene(320, 256)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = a_file(scene, "JPEG", quality=95)
    turned = a_file(scene, "JPEG", quality=95, exif=exif)
    for shorter in (256, 64):
        expected = turns[orientation](
            np.asarray(pipeline_of.decode(upright, shorter_side_px=shorter))
        )
        found = np.asarray(pipeline_of.decode(turned, shorter_side_px=shorter))
        assert np.array_equal(found, expected)
    facts = pipeline_of.read_facts(turned)
    assert (facts.width, facts.height) == (320, 256)


def test_facts_of_the_header():
    data = a_file(a_scene(320, 200), "PNG")
    facts = pipeline_of.read_facts(data)
    assert (facts.format, facts.width, facts.height) == ("png", 320, 200)
    assert facts.file_bytes == len(data)


def test_a_phones_multi_picture_file_is_a_jpeg():
    scene = a_scene(320, 256)
    data = a_file(scene, "MPO", save_all=True, append_images=[a_scene(320, 256, seed=8)])
    assert pipeline_of.read_facts(data).format == "jpeg"
    assert pipeline_of.decode(data, shorter_side_px=64).size == (160, 128)


def rgb_of(image, format="PNG", **options):
    decoded = pipeline_of.decode(a_file(image, format, **options), shorter_side_px=8)
    assert decoded.mode == "RGB"
    return np.asarray(decoded)[4, 4].tolist()


def test_transparency_is_composited_over_white():
    assert rgb_of(Image.new("RGBA", (16, 16), (255, 0, 0, 0))) == [255, 255, 255]
    assert rgb_of(Image.new("RGBA", (16, 16), (0, 0, 0, 127))) == [128, 128, 128]
    assert rgb_of(Image.new("LA", (16, 16), (10, 255))) == [10, 10, 10]
    assert rgb_of(Image.new("RGB", (16, 16), (1, 2, 3)), transparency=(1, 2, 3)) == [255] * 3
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert rgb_of(palette) == [10, 20, 30]
    assert rgb_of(palette, transparency=0) == [255, 255, 255]
    assert rgb_of(palette, transparency=bytes([0, 255])) == [255, 255, 255]
    assert rgb_of(palette, "GIF") == [10, 20, 30]


def test_other_kinds_of_pixels_become_rgb():
    assert rgb_of(Image.new("L", (16, 16), 77)) == [77, 77, 77]
    assert rgb_of(Image.new("L", (16, 16), 77), "JPEG") == [77, 77, 77]
    assert rgb_of(Image.new("1", (16, 16), 1)) == [255, 255, 255]
    cyan = rgb_of(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95)
    assert cyan[0] < 10
    assert cyan[1] > 245
    deep = Image.fromarray(np.full((16, 16), 0x8040, np.uint16))
    assert rgb_of(deep) == [0x80, 0x80, 0x80]
    assert rgb_of(deep, "TIFF") == [0x80, 0x80, 0x80]
    with pytest.raises(ImageError, match="floating point"):
        rgb_of(Image.fromarray(np.ones((16, 16), np.float32)), "TIFF")


def a_png_header(width, height):
    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"not an image at all", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
        (a_png_header(20_000, 20_000), "too many pixels"),
        (a_png_header(13_200, 13_200), "at most"),
    ],
)
def test_hostile_bytes_have_a_named_error(data, says):
    for read in (pipeline_of.read_facts, lambda d: pipeline_of.decode(d, shorter_side_px=64)):
        with pytest.raises(ImageError, match=says):
            read(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_truncated_and_damaged_files_never_raise_anything_else(format):
    data = a_file(a_scene(160, 120), format)
    with pytest.raises(ImageError):
        pipeline_of.decode(data[: len(data) // 2], shorter_side_px=64)
    rng = np.random.default_rng(5)
    for _ in range(40):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(0, min(len(damaged), 400), 6)] = rng.integers(0, 256, 6)
        with contextlib.suppress(ImageError):
            pipeline_of.decode(damaged.tobytes(), shorter_side_px=64)


def test_pillows_warnings_do_not_escape_and_the_filters_come_back():
    large = a_file(Image.new("1", (10_000, 9_000)))  # Pillow warns of a decompression bomb
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inside = list(warnings.filters)
        assert pipeline_of.read_facts(large).pixels == 90_000_000
        assert warnings.filters == inside
    assert not caught
    assert warnings.filters == before


def test_warning_filters_survive_overlapping_threads():
    before = list(warnings.filters)
    data = a_file(a_scene(320, 240), "JPEG")
    start = threading.Barrier(4)

    def decode_some():
        start.wait()
        for _ in range(20):
            pipeline_of.decode(data, shorter_side_px=64)

    threads = [threading.Thread(target=decode_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_planes_and_normalisation(order):
    pipeline = a_pipeline(channel_order=order)
    pixels = pipeline_of.fit(a_scene(300, 200), pipeline)
    planes = pipeline_of.planar(pixels, pipeline)
    assert planes.shape == pipeline.tensor_shape
    assert planes.flags.c_contiguous
    channels = (0, 1, 2) if order == "RGB" else (2, 1, 0)
    values = pipeline_of.normalise(planes, pipeline)
    assert values.dtype == np.float32
    for plane, channel in enumerate(channels):
        assert np.array_equal(planes[0, plane], pixels[..., channel])
        exact = (pixels[..., channel].astype(float) - MEAN[plane]) / STD[plane]
        assert np.abs(values[0, plane] - exact).max() < 1e-6


def test_the_cropped_jpeg_keeps_its_size_and_nearly_its_pixels():
    pipeline = a_pipeline()
    pixels = pipeline_of.fit(a_scene(640, 480, cell=120), pipeline)
    back = pipeline_of.decode_cropped(IMAGE_CODECS["jpeg-95"].encode(pixels), pipeline)
    assert back.shape == pixels.shape
    assert np.abs(back.astype(int) - pixels).mean() < 4
    with pytest.raises(ImageError, match="must be 48 x 56"):
        pipeline_of.decode_cropped(IMAGE_CODECS["jpeg-95"].encode(pixels[:-1]), pipeline)
