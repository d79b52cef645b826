import copy
import json

import pytest

from isthmus.runtime.fingerprint import PIXEL_TOLERANCE, decodes_alike, disagreements, fingerprint

HERE = fingerprint()


@pytest.fixture
def there():
    return copy.deepcopy(HERE)


def test_it_names_the_libraries_and_crosses_as_json():
    assert json.loads(json.dumps(HERE)) == HERE
    assert HERE["libraries"].keys() == {"pillow", "libjpeg", "webp", "zlib", "onnxruntime", "zstd"}
    assert all(HERE["libraries"].values())
    assert len(HERE["golden_pixels"]) == 300
    assert max(HERE["golden_pixels"]) - min(HERE["golden_pixels"]) > 50


def test_sides_alike_agree(there):
    assert disagreements(HERE, there) == ()


def test_versions_may_differ_if_pixels_do_not(there):
    there["libraries"] = dict.fromkeys(there["libraries"], "0.1")
    there["golden_pixels"][7] += PIXEL_TOLERANCE
    assert disagreements(HERE, there) == ()


def test_pixels_apart_are_named_with_both_sides_libraries(there):
    there["libraries"] |= {"pillow": "9.1.0", "libjpeg": "6.2"}
    there["golden_pixels"][7] -= PIXEL_TOLERANCE + 1
    (said,) = disagreements(HERE, there)
    assert "3 grey levels apart" in said
    assert "Pillow 9.1.0 with libjpeg 6.2 there" in said
    assert HERE["libraries"]["pillow"] in said


@pytest.mark.parametrize("pixels", [None, [], [1, 2], "x", ["a"] * 300, [[1]] * 300])
def test_pixels_that_are_none_are_said_to_be_unknown(there, pixels):
    there["golden_pixels"] = pixels
    (said,) = disagreements(HERE, there)
    assert "not known" in said


def test_pixels_that_are_no_numbers_are_apart(there):
    there["golden_pixels"][0] = float("nan")
    assert len(disagreements(HERE, there)) == 1


@pytest.mark.parametrize(("apart", "is_alike"), [(0, True), (PIXEL_TOLERANCE, True),
    (PIXEL_TOLERANCE + 1, False), (float("nan"), False)])  # fmt: skip
def test_pixels_decide_whether_a_server_decodes_alike(there, apart, is_alike):
    there["golden_pixels"][7] += apart
    there["libraries"]["pillow"] = "0.1"
    assert decodes_alike(HERE, there) is is_alike


def test_a_server_decodes_otherwise_if_its_pixels_are_unknown_or_it_reads_fewer_formats(there):
    assert decodes_alike(HERE, {"name": "of others"}), "nothing is known against it"
    assert not decodes_alike(HERE, {**there, "golden_pixels": None})
    there["libraries"]["webp"] = "absent"
    assert not decodes_alike(HERE, there)
    assert decodes_alike(there, HERE), "what the device cannot read, the server can"


def test_a_side_without_webp_is_named(there):
    there["libraries"]["webp"] = "absent"
    assert disagreements(HERE, there) == ("the server's Pillow reads no WebP",)
    assert disagreements(there, HERE) == ("the device's Pillow reads no WebP",)


@pytest.mark.parametrize("metadata", [{}, {"name": "triton"}, {"libraries": "many"}])
def test_a_server_of_another_make_is_not_judged(metadata):
    assert disagreements(HERE, metadata) == ()
