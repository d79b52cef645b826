import json

import pytest

from isthmus.building.agreement import Loss
from isthmus.building.crops import Crops
from isthmus.building.ledger import Ledger
from isthmus.errors import BundleError
from isthmus.types.proportion import Proportion

U8 = Loss("u8", "0123456789ab", ("x",))
JPEG = Loss("jpeg-85")
ASKED = {"images": 100, "may_differ": 2}


@pytest.fixture
def crops(photograph_files):
    return Crops(photograph_files)


def test_counts_outlive_the_process(crops, tmp_path):
    path = tmp_path / "counts.json"
    Ledger(path).add("net", "ab" * 32, crops, {U8: Proportion(99, 100), JPEG: Proportion(90, 100)})
    again = Ledger(path)
    assert again.find("ab" * 32, crops, U8, **ASKED) == Proportion(99, 100)
    assert again.find("ab" * 32, crops, JPEG, **ASKED) == Proportion(90, 100)
    (entry,) = (e for e in json.loads(path.read_text())["counts"] if e["codec"] == "u8")
    assert (entry["network"], entry["tensors"], entry["photographs"]) == ("net", ["x"], 4)
    assert {"onnxruntime", "numpy", "pillow", "machine"} <= entry["versions"].keys()
    assert list(tmp_path.iterdir()) == [path]


def test_another_network_cut_codec_or_set_of_images_is_not_known(crops, photograph_files):
    ledger = Ledger()
    ledger.add("net", "ab" * 32, crops, {U8: Proportion(99, 100)})
    assert ledger.find("cd" * 32, crops, U8, **ASKED) is None
    assert ledger.find("ab" * 32, crops, Loss("u8c", U8.cut_id, ("x",)), **ASKED) is None
    assert ledger.find("ab" * 32, crops, Loss("u8", "ba9876543210", ("x",)), **ASKED) is None
    assert ledger.find("ab" * 32, Crops(photograph_files[:2]), U8, **ASKED) is None


def test_a_count_of_fewer_images_settles_only_that_too_many_differ(crops):
    ledger = Ledger()
    ledger.add("net", "ab", crops, {U8: Proportion(47, 50), JPEG: Proportion(48, 50)})
    assert ledger.find("ab", crops, U8, **ASKED) == Proportion(47, 50)  # 3 differ, 2 may
    assert ledger.find("ab", crops, JPEG, **ASKED) is None
    assert ledger.find("ab", crops, U8, images=100, may_differ=3) is None


def test_what_is_known_elsewhere_is_used_and_never_written(crops, tmp_path):
    known, own = tmp_path / "known.json", tmp_path / "own.json"
    Ledger(known).add("net", "ab", crops, {U8: Proportion(99, 100)})
    before = known.read_bytes()
    ledger = Ledger(own, known=known)
    assert ledger.find("ab", crops, U8, **ASKED) == Proportion(99, 100)
    ledger.add("net", "ab", crops, {JPEG: Proportion(90, 100)})
    assert known.read_bytes() == before
    assert [e["codec"] for e in json.loads(own.read_text())["counts"]] == ["jpeg-85"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": 2, "counts": []}', '{"schema": 1, "counts": [{}]}', "\xff"],
)
def test_a_file_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "counts.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match="holds no counts"):
        Ledger(path)


def test_impossible_counts_are_refused(crops, tmp_path):
    path = tmp_path / "counts.json"
    Ledger(path).add("net", "ab", crops, {U8: Proportion(99, 100)})
    path.write_text(path.read_text().replace('"agreed": 99', '"agreed": 101'))
    with pytest.raises(BundleError, match="101 of 100"):
        Ledger(path)


def test_a_known_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"none\.json does not exist"):
        Ledger(known=tmp_path / "none.json")


def test_a_file_that_cannot_be_made_is_told_before_anything_is_counted(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing/counts\.json"):
        Ledger(tmp_path / "missing" / "counts.json")
    Ledger(tmp_path / "counts.json")
    assert not list(tmp_path.iterdir())
