import hashlib

import numpy as np
import pytest

from isthmus.building.crops import Crops
from isthmus.errors import ImageError
from isthmus.runtime import image


@pytest.fixture
def crops(photograph_files):
    return Crops(photograph_files)


def pixels(crops, k):
    return np.asarray(crops.image(k))


def test_the_same_number_is_the_same_image_in_any_order_and_under_any_name(
    crops, photograph_files, tmp_path
):
    renamed = []
    for i, path in enumerate(reversed(photograph_files)):
        renamed.append(tmp_path / f"{i}.jpg")
        renamed[-1].write_bytes(path.read_bytes())
    others = Crops(renamed)
    assert others.digest == crops.digest
    for k in (9, 3, 0):
        assert np.array_equal(pixels(crops, k), pixels(others, k))


def test_what_changes_the_images_changes_the_digest(crops, photograph_files):
    assert Crops(photograph_files, seed=1).digest != crops.digest
    assert Crops(photograph_files[:3]).digest != crops.digest
    assert not np.array_equal(pixels(Crops(photograph_files, seed=1), 0), pixels(crops, 0))


def test_a_photograph_given_twice_counts_once(crops, photograph_files):
    twice = Crops([*photograph_files, *photograph_files])
    assert (twice.photographs, twice.digest) == (4, crops.digest)


def test_images_are_rgb_of_25_to_100_percent_of_a_photograph(crops):
    for k in range(40):
        image = crops.image(k)
        share = image.width * image.height / (96 * 64)
        assert image.mode == "RGB"
        assert 0.2 < share <= 1.0
        assert 3 / 4 / 1.1 < (image.width / image.height) / 1.5 < 4 / 3 * 1.1


def test_images_differ_and_use_every_photograph(crops):
    digests = {hashlib.sha256(pixels(crops, k).tobytes()).digest() for k in range(40)}
    assert len(digests) == 40


def test_large_photographs_make_images_of_384_pixels(make_photograph, tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(make_photograph(width=2400, height=1600))
    crops = Crops([path])
    assert {min(crops.image(k).size) for k in range(6)} == {384}


def test_half_of_the_images_are_mirrored(tmp_path):
    from PIL import Image

    ramp = np.tile(np.linspace(40, 200, 96, dtype=np.uint8), (64, 1))
    path = tmp_path / "ramp.png"
    Image.fromarray(np.stack([ramp] * 3, axis=-1)).save(path)
    crops = Crops([path])
    rising = [pixels(crops, k)[:, -1].mean() > pixels(crops, k)[:, 0].mean() for k in range(60)]
    assert 18 <= sum(rising) <= 42


def test_enough_photographs_are_taken_as_they_are(photograph_files):
    crops = Crops(photograph_files, enough=4)
    assert crops.are_photographs
    seen = set()
    for k in range(4):
        path = crops.path(k)
        expected = image.decode(path.read_bytes(), shorter_side_px=768)
        assert np.array_equal(pixels(crops, k), np.asarray(expected))
        seen.add(path)
    assert seen == set(photograph_files)


def test_too_few_different_photographs_are_cropped(crops, photograph_files):
    few = Crops([*photograph_files, photograph_files[0]], enough=5)
    assert not few.are_photographs
    assert few.digest == crops.digest
    assert np.array_equal(pixels(few, 2), pixels(crops, 2))


def test_photographs_as_they_are_have_a_digest_of_their_own(crops, photograph_files):
    as_they_are = Crops(photograph_files, enough=4)
    assert as_they_are.digest != crops.digest
    assert as_they_are.digest == Crops(photograph_files[::-1], enough=2, seed=1).digest


def test_no_photographs_and_broken_ones_are_named(tmp_path):
    with pytest.raises(ImageError, match="no photographs"):
        Crops([])
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8nothing")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        Crops([broken]).image(0)
