"""What a resized photograph crosses as: sizes fall, pixels survive."""

import io

import numpy as np
import pytest
from PIL import Image

import isthmus_zoo
from isthmus.runtime import image
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.types.variant import InputPipeline

PIPELINE = InputPipeline(256, (224, 200), "bilinear", "RGB", (0.0,) * 3, (1.0,) * 3)


@pytest.fixture(scope="module")
def pixels():
    data = isthmus_zoo.photograph_paths()[0].read_bytes()
    return image.fit(image.decode(data, shorter_side_px=256), PIPELINE)


def test_names_are_the_keys():
    assert all(codec.name == name for name, codec in IMAGE_CODECS.items())
    assert "webp-lossless" in IMAGE_CODECS


@pytest.mark.parametrize("codec", IMAGE_CODECS.values(), ids=IMAGE_CODECS)
def test_the_way_there_and_back(codec, pixels):
    back = image.decode_cropped(codec.encode(pixels), PIPELINE)
    difference = np.abs(back.astype(int) - pixels)
    assert bool(difference.max() == 0) is codec.is_lossless
    assert difference.mean() < 5


def test_less_quality_takes_fewer_bytes_and_changes_more(pixels):
    jpegs = [codec for name, codec in IMAGE_CODECS.items() if name.startswith("jpeg")]
    made = [codec.encode(pixels) for codec in jpegs]
    errors = [np.abs(image.decode_cropped(d, PIPELINE).astype(int) - pixels).mean() for d in made]
    assert [codec.name for codec in jpegs] == ["jpeg-95", "jpeg-85", "jpeg-75"]
    assert sorted(map(len, made), reverse=True) == [len(data) for data in made]
    assert sorted(errors) == errors
    assert len(IMAGE_CODECS["webp-lossless"].encode(pixels)) < pixels.nbytes * 0.8


def test_jpegs_are_baseline_and_keep_their_colours(pixels):
    for name, codec in IMAGE_CODECS.items():
        if name.startswith("jpeg"):
            with Image.open(io.BytesIO(codec.encode(pixels))) as made:
                assert "progressive" not in made.info
                assert {layer[1:3] for layer in made.layer} == {(1, 1)}


def test_any_view_of_pixels_can_be_encoded(pixels):
    codec = IMAGE_CODECS["webp-lossless"]
    assert codec.encode(pixels[:, ::-1]) == codec.encode(pixels[:, ::-1].copy())
