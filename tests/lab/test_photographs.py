import numpy as np
import pytest
from PIL import Image

from isthmus.errors import LabError
from isthmus.lab import photographs
from isthmus.lab.photographs import PACKAGES, photograph_set, recipe, source_photographs


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(monkeypatch):
    """Sizes up to 200 KB, so that a test takes no time."""
    monkeypatch.setattr(photographs, "_LARGEST_BYTES", 200_000)


def test_sizes_are_spread_evenly_and_sources_used_equally():
    wanted = recipe(100, sources=7, seed=3)
    assert [one.size_bytes for one in wanted] == [50_000 + 100_000 * i for i in range(100)]
    uses = np.bincount([one.source for one in wanted])
    assert len(uses) == 7
    assert uses.max() - uses.min() <= 1
    assert sum(one.is_progressive for one in wanted) == 10
    assert recipe(100, sources=7, seed=3) == wanted != recipe(100, sources=7, seed=4)
    with pytest.raises(LabError, match="no set of 0 photographs"):
        recipe(0, sources=7, seed=0)


def test_photographs_have_the_sizes_and_are_made_once(small, photograph_files):
    made = photograph_set(4, photograph_files)
    sizes = [path.stat().st_size for path in made]
    assert sizes == pytest.approx([25_000, 75_000, 125_000, 175_000], rel=0.03)
    with Image.open(made[-1]) as image:
        assert image.format == "JPEG"
        assert 1.3 < max(image.size) / min(image.size) < 1.8
    before = [path.stat().st_mtime_ns for path in made]
    made[2].unlink()
    again = photograph_set(4, photograph_files)
    after = [path.stat().st_mtime_ns for path in again]
    assert again == made
    assert [i for i in range(4) if before[i] != after[i]] == [2]


def test_a_set_made_again_has_the_same_bytes(small, photograph_files, monkeypatch, tmp_path):
    def made(cache, seed):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        return [path.read_bytes() for path in photograph_set(2, photograph_files, seed=seed)]

    once = made("one", 0)
    assert made("another", 0) == once
    assert made("another", 1) != once


def test_other_sources_another_recipe_or_pillow_make_another_set(
    small, photograph_files, monkeypatch
):
    folders = {photograph_set(1, photograph_files[:2])[0].parent}
    folders.add(photograph_set(1, photograph_files[1:3])[0].parent)
    monkeypatch.setattr(photographs, "_RECIPE", 0)
    folders.add(photograph_set(1, photograph_files[:2])[0].parent)
    monkeypatch.setattr(photographs, "pillow_version", "0.0")
    folders.add(photograph_set(1, photograph_files[:2])[0].parent)
    assert len(folders) == 4


def test_a_broken_source_is_named(small, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photograph")
    with pytest.raises(LabError, match="broken.jpg is no photograph"):
        photograph_set(1, [broken])
    with pytest.raises(LabError, match="gone.jpg cannot be read"):
        photograph_set(1, [tmp_path / "gone.jpg"])


def test_a_folder_of_photographs_is_enough(tmp_path, photograph_files):
    assert set(source_photographs(photograph_files[0].parent)) == set(photograph_files)
    with pytest.raises(LabError, match="has no JPEG files"):
        source_photographs(tmp_path)


def test_without_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(photographs, "_look_in", lambda _: ((), list(PACKAGES)))
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(LabError, match="install the Debian packages lomiri-wallpapers-16.04"):
        source_photographs()
