"""Fashion-MNIST: its images as PNG files, named by class, and as what the networks see.

It trains nothing. A network sees what the product's own input pipeline makes of a PNG file, so
that training, measuring and use do not differ.

References:
    Xiao et al., "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms", arXiv:1708.07747, 2017. MIT License, Copyright (c) 2017 Zalando SE.
"""

import gzip
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from isthmus.runtime import image

from .catalogue import FASHION_LABELS, FASHION_PACKAGE, FASHION_PIPELINE
from .fetch import Downloads, folder_of

__all__ = ["labels_of", "pixels_of", "png_files", "seen_pixels"]

_FOLDER = "usr/share/datasets/fashion-mnist"
_SHA256 = {
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "train-images-idx3-ubyte.gz": (
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"
    ),
    "train-labels-idx1-ubyte.gz": (
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"
    ),
}


def pixels_of(part: str, downloads: Downloads) -> npt.NDArray[np.uint8]:
    """Return the images of a part, ``train`` or ``t10k``: grey, uint8 ``[n, 28, 28]``."""
    data = _unpacked(f"{part}-images-idx3-ubyte.gz", downloads)
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)


def labels_of(part: str, downloads: Downloads) -> npt.NDArray[np.uint8]:
    """Return the classes of a part, uint8 ``[n]``, 0 to 9."""
    return np.frombuffer(_unpacked(f"{part}-labels-idx1-ubyte.gz", downloads), np.uint8, offset=8)


def png_files(downloads: Downloads, folder: Path, count: int) -> tuple[Path, ...]:
    """Write the first images of the test part as PNG files, unless they are there.

    Args:
        downloads: Where the package is.
        folder: Where the files go: ``00000-ankle-boot.png`` and so on.
        count: How many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = labels_of("t10k", downloads)
    files = []
    for k, pixels in enumerate(pixels_of("t10k", downloads)[:count]):
        path = folder / f"{k:05d}-{_slug(FASHION_LABELS[classes[k]])}.png"
        if not path.exists():
            path.write_bytes(_png(pixels))
        files.append(path)
    return tuple(files)


def seen_pixels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return images as they arrive at the networks: grey, uint8 ``[n, 32, 32]``.

    Each goes through a PNG file and the input pipeline; of the three equal channels one is kept.
    """
    seen = np.empty((len(pixels), *FASHION_PIPELINE.crop_px), np.uint8)
    for k, one in enumerate(pixels):
        seen[k] = image.fit(image.decode(_png(one), shorter_side_px=32), FASHION_PIPELINE)[..., 0]
    return seen


def _unpacked(name: str, downloads: Downloads) -> bytes:
    path = downloads.file(folder_of(*FASHION_PACKAGE), f"{_FOLDER}/{name}", sha256=_SHA256[name])
    return gzip.decompress(path.read_bytes())


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _slug(label: str) -> str:
    return label.lower().replace("/", "-").replace(" ", "-")
