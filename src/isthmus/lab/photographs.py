"""A set of photographs spread evenly over file sizes, made from freely licensed ones.

Only the recipe is part of the package: the sources come from Debian packages (or a folder), and
what is made of them stays in the user's cache. Each file is a random crop of a real photograph,
resampled and given a sensor's noise, so that it has the size that is wanted at a quality that
cameras use. All chance has a seed: a set made again has the same bytes, as far as Pillow is the
same. It is derived from about forty photographs and no substitute for a thousand; content is not
what is measured with it.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops
from PIL import __version__ as pillow_version

from isthmus.errors import LabError
from isthmus.loading.files import new_file
from isthmus.types.progress import SILENT, Progress

__all__ = ["PACKAGES", "Wanted", "photograph_set", "recipe", "source_photographs"]

PACKAGES: dict[str, tuple[str, ...]] = {
    "lomiri-wallpapers-16.04": tuple(
        f"usr/share/backgrounds/{name}.jpg"
        for name in (
            "Bridge_by_Sander_Klootwijk", "Dragonfly_by_Bolly", "Picture_0B_by_freespace",
            "Wine_by_Jakkub_Mede", "aitzgorri_by_Aitzol_Berasategi", "free_by_Peter_Nerlich",
            "friends_by_Aitzol_Berasategi", "greentock_by_Peter_Nerlich",
            "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi",
            "seeding_by_Clements_Engelhardt", "sunset_by_Aitzol_Berasategi",
            "umang_by_Abhishek_Mudgal",
        )
    ),
    "lomiri-wallpapers-20.04": ("usr/share/backgrounds/Kleiber_by_Lukas_Baubkus.jpg",),
    "mate-backgrounds": tuple(
        f"usr/share/backgrounds/mate/nature/{name}.jpg"
        for name in (
            "Aqua", "Blinds", "Dune", "FreshFlower", "Garden", "GreenMeadow", "LadyBird",
            "RainDrops", "Storm", "TwoWings", "Wood", "YellowFlower",
        )
    ),
    "plasma-workspace-wallpapers": tuple(
        f"usr/share/wallpapers/{name}.jpg"
        for name in (
            *(
                f"{folder}/contents/images/2560x1600"
                for folder in (
                    "BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow",
                    "FallenLeaf", "Grey", "Kite", "OneStandsOut", "Path", "summer_1am",
                )
            ),
            "Volna/contents/images/5120x2880",
        )
    ),
}  # fmt: skip
"""Debian packages, and the photographs in each; their licences are in the packages."""

_RECIPE = 2  # to be counted up when a change below gives other bytes
_LARGEST_BYTES = 10_000_000
_SHORTER_SIDES = (3 / 4, 2 / 3, 9 / 16)
_QUALITIES = (90, 95)
_NOISE_LEVELS = 7.0
_NOISE_PX = 1024
_USUAL_BYTES_PER_PIXEL = 0.45
_CLOSE = 0.03
_TRIES = 7
_PROGRESSIVE_EVERY = 10


@dataclass(frozen=True)
class Wanted:
    """One photograph of the set.

    Attributes:
        number: Its place, from 0.
        size_bytes: What it should have, to 3 %.
        source: Number of the photograph that it is made from.
        seed: Of its crop and its noise.
        quality: Of the JPEG.
        is_progressive: Whether it is a progressive one.
    """

    number: int
    size_bytes: int
    source: int
    seed: int
    quality: int
    is_progressive: bool


def recipe(count: int, *, sources: int, seed: int) -> tuple[Wanted, ...]:
    """Return what the set consists of: sizes in even steps to 10 MB, all else by chance.

    Args:
        count: Photographs in the set.
        sources: Photographs to make them from; each is used about equally often.
        seed: Of the chance.
    """
    if count < 1 or sources < 1:
        raise LabError(f"no set of {count} photographs can be made from {sources}")
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(sources) for _ in range(-(-count // sources))])
    return tuple(
        Wanted(
            number,
            round((number + 0.5) / count * _LARGEST_BYTES),
            int(order[number]),
            int(rng.integers(2**31)),
            int(rng.choice(_QUALITIES)),
            number % _PROGRESSIVE_EVERY == _PROGRESSIVE_EVERY - 1,
        )
        for number in range(count)
    )


def source_photographs(folder: Path | None = None) -> tuple[Path, ...]:
    """Return photographs to make a set from, downloading Debian's packages where need be.

    Args:
        folder: Take all its JPEG files instead.

    Raises:
        LabError: If there are none and none can be had; it says what to install.
    """
    if folder is not None:
        found = tuple(sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")))
        if not found:
            raise LabError(f"{folder} has no JPEG files")
        return found
    found, missing = _look_in(Path("/"))
    if missing:
        kept = cache_folder() / "photograph-sources"
        found, missing = _look_in(kept)
        if missing:
            _download(missing, kept)
            found, missing = _look_in(kept)
    if missing:
        raise LabError(f"{missing[0]} has other files than expected: give photographs in a folder")
    return found


def photograph_set(
    count: int,
    sources: Sequence[Path],
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[Path, ...]:
    """Return a set of photographs; those made before are taken from the cache.

    Args:
        count: Photographs in the set.
        sources: What they are made from.
        seed: Of the recipe.
        progress: Told about each.

    Raises:
        LabError: If a source is no photograph, or a size cannot be reached.
    """
    wanted = recipe(count, sources=len(sources), seed=seed)
    folder = cache_folder() / "photographs" / f"{count}-seed-{seed}-{_made_of(sources)}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"{one.number:04d}.jpg" for one in wanted)
    pending = [(one, path) for one, path in zip(wanted, paths, strict=True) if not path.exists()]
    if pending:
        progress.begin("photographs", len(pending))
        with ProcessPoolExecutor(2) as pool:
            jobs = [pool.submit(_make, one, sources[one.source], path) for one, path in pending]
            try:
                for job, (_, path) in zip(jobs, pending, strict=True):
                    job.result()
                    progress.advance(path.name)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return paths


def cache_folder() -> Path:
    """Return the folder below which what can be made again is kept, the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "isthmus"


def _look_in(root: Path) -> tuple[tuple[Path, ...], list[str]]:
    """Return the photographs below ``root``, and the packages that are not there."""
    missing = [
        package
        for package, names in PACKAGES.items()
        if not all((root / name).is_file() for name in names)
    ]
    return tuple(root / name for names in PACKAGES.values() for name in names), missing


def _download(packages: Sequence[str], target: Path) -> None:
    """Unpack Debian packages into a folder, without installing them.

    Raises:
        LabError: If that is not possible here.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise LabError(
            f"photographs are needed: install the Debian packages {' '.join(packages)}, or give "
            "a folder of JPEG photographs"
        )
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            ["apt-get", "download", "-q", *packages], cwd=scratch, capture_output=True, text=True
        )
        if done.returncode:
            raise LabError(
                f"the Debian packages {' '.join(packages)} cannot be downloaded "
                f"({done.stderr.strip()[-200:]}): install them, or give a folder of photographs"
            )
        for package in sorted(Path(scratch).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(target)], check=True)


def _made_of(sources: Sequence[Path]) -> str:
    """Return what tells sets of one recipe and seed apart: other sources, or another Pillow.

    Raises:
        LabError: If a source cannot be read.
    """
    digest = hashlib.sha256(f"{_RECIPE} {pillow_version}".encode())
    for source in sources:
        try:
            digest.update(hashlib.sha256(source.read_bytes()).digest())
        except OSError as error:
            raise LabError(f"{source} cannot be read: {error}") from error
    return digest.hexdigest()[:12]


def _make(wanted: Wanted, source: Path, target: Path) -> None:
    """Write one photograph, whole or not at all.

    Raises:
        LabError: If the source is no photograph, or the size cannot be reached.
    """
    rng = np.random.default_rng(wanted.seed)
    try:
        with Image.open(source) as opened:
            crop = _crop(opened.convert("RGB"), rng)
    except OSError as error:
        raise LabError(f"{source} is no photograph: {error}") from error
    noise = _noise(rng)
    megapixels = wanted.size_bytes / _USUAL_BYTES_PER_PIXEL / 1e6
    for _ in range(_TRIES):
        data = _encoded(crop, noise, megapixels, wanted)
        if abs(len(data) / wanted.size_bytes - 1) <= _CLOSE:
            with new_file(target) as file:
                file.write(data)
            return
        megapixels *= wanted.size_bytes / len(data)
    raise LabError(f"{source}: no resolution gives {wanted.size_bytes} bytes")


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a part of the image, in a camera's shape, upright or lying."""
    shape = float(rng.choice(_SHORTER_SIDES))
    width, height = (1.0, shape) if image.width >= image.height else (shape, 1.0)
    scale = min(image.width / width, image.height / height) * float(rng.uniform(0.7, 1.0))
    size = int(scale * width), int(scale * height)
    left = int(rng.integers(image.width - size[0] + 1))
    top = int(rng.integers(image.height - size[1] + 1))
    return image.crop((left, top, left + size[0], top + size[1]))


def _noise(rng: np.random.Generator) -> Image.Image:
    """Return a tile of a sensor's noise about 128; Pillow's own cannot be given a seed."""
    levels = rng.normal(128, _NOISE_LEVELS, (_NOISE_PX, _NOISE_PX))
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def _encoded(crop: Image.Image, noise: Image.Image, megapixels: float, wanted: Wanted) -> bytes:
    """Return a JPEG of so many pixels."""
    factor = math.sqrt(megapixels * 1e6 / (crop.width * crop.height))
    size = max(8, round(crop.width * factor)), max(8, round(crop.height * factor))
    luma, *chroma = crop.resize(size, Image.Resampling.BICUBIC).convert("YCbCr").split()
    noises = Image.new("L", size)
    for left in range(0, size[0], _NOISE_PX):
        for top in range(0, size[1], _NOISE_PX):
            noises.paste(noise, (left, top))
    noisy = Image.merge("YCbCr", (ImageChops.add(luma, noises, offset=-128), *chroma))
    buffer = io.BytesIO()
    noisy.save(buffer, "JPEG", quality=wanted.quality, progressive=wanted.is_progressive)
    return buffer.getvalue()
