import dataclasses
import itertools

import pytest

import isthmus_zoo
from isthmus.errors import ImageError
from isthmus.profiling.ladder import LARGE_BYTES, Rung, image_ladder
from isthmus.runtime.image import read_facts
from isthmus.types.conditions import dct_scale


@pytest.fixture(scope="module")
def photographs(make_photograph):
    return (make_photograph(width=400, height=300), make_photograph(width=90, height=160, seed=1))


@pytest.fixture(scope="module")
def ladder(photographs):
    return image_ladder(photographs)


def test_the_photographs_themselves_come_first(ladder, photographs):
    assert tuple(rung.data for rung in ladder[:2]) == photographs


def test_the_rungs_have_the_sizes_they_should(ladder):
    kinds = [(r.facts.format, r.facts.is_progressive) for r in ladder[2:]]
    sides = [max(r.facts.width, r.facts.height) for r in ladder[2:]]
    jpegs = [320, 480, 640, 960, 1280, 1600, 2400, 3264, 4096, 4096, 5600]
    assert kinds == [
        *[("jpeg", False)] * len(jpegs),
        *[("jpeg", True)] * 4,
        *[("png", False)] * 6,
        *[("webp", False)] * 6,
        *[("webp-lossless", False)] * 4,
    ]
    others = [480, 960, 1600, 3264, 240, 320, 480, 640, 800, 960, 320, 480, 720, 960, 1280, 1600]
    assert sides == [*jpegs, *others, 240, 400, 640, 800]
    for i, rung in enumerate(ladder[2:]):  # in turns, each with its own shape
        shorter, longer = sorted((rung.facts.width, rung.facts.height))
        ratio = 3 / 4 if i % 2 == 0 else 9 / 16
        assert shorter == pytest.approx(longer * ratio, abs=1)


def test_real_photographs_make_files_from_20_kilobytes_to_several_megabytes():
    photograph = isthmus_zoo.photograph_paths()[4].read_bytes()
    sizes = sorted(
        r.facts.file_bytes for r in image_ladder([photograph])[1:] if r.facts.format == "jpeg"
    )
    assert sizes[0] < 25_000
    assert sizes[-1] > 7_000_000
    assert all(after < 3.5 * before for before, after in itertools.pairwise(sizes))


def test_only_the_rungs_that_take_long_are_large(ladder):
    assert not any(rung.is_large for rung in ladder[:2])
    facts = dataclasses.replace(ladder[0].facts, file_bytes=LARGE_BYTES)
    assert not Rung(b"", facts).is_large
    assert Rung(b"", dataclasses.replace(facts, file_bytes=LARGE_BYTES + 1)).is_large


def test_the_facts_are_those_of_the_files(ladder):
    assert all(rung.facts == read_facts(rung.data) for rung in ladder)


def test_every_scale_of_the_jpeg_decoder_is_met(ladder):
    jpegs = [rung.facts for rung in ladder if rung.facts.format == "jpeg"]
    assert {dct_scale(f.width, f.height, 224) for f in jpegs} == {1, 2, 4, 8}


def test_a_very_narrow_photograph_makes_a_ladder_too(make_photograph):
    assert len(image_ladder([make_photograph(width=500, height=1)])) == 32


def test_what_is_no_image_is_refused():
    with pytest.raises(ImageError):
        image_ladder([b"no image"])
