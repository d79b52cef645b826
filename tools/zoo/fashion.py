"""``python -m tools.zoo.fashion``: fetch Fashion-MNIST, train, write, measure, write the cards.

It needs Isthmus itself beside ``requirements.txt`` (``pip install -e .``): accuracy is that of the
PNG files behind the product's own input pipeline. It counts no agreement of codecs
(``benchmarks/labelled_agreement.py`` does).
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isthmus.runtime import image
from isthmus.runtime.session import Session

from .cards import FASHION_HEADING, FASHION_ORIGINS, fashion_cards
from .catalogue import FASHION_LABELS, FASHION_NETWORKS, FASHION_PACKAGE, Network
from .convert import model_bytes
from .fashion_data import labels_of, pixels_of, png_files, seen_pixels
from .fashion_training import trained_weights
from .fetch import Downloads, sha256_of

ZOO = Path(__file__).parents[2] / "zoo"
SHIPPED = 1000
CALIBRATION = 4
SOURCE = "10,000 test images as PNG files, through the input pipeline of Isthmus"


def main() -> int:
    """Run all steps; exit status 3 if epochs are left for another call."""
    parser = argparse.ArgumentParser(prog="python -m tools.zoo.fashion", description=__doc__)
    default = Path(tempfile.gettempdir()) / "isthmus-zoo-downloads"
    parser.add_argument("--downloads", type=Path, default=default, help="kept between runs")
    parser.add_argument("--zoo", type=Path, default=ZOO, help="the distribution's folder")
    parser.add_argument(
        "--epochs", type=int, default=1000, help="at most so many now for each network"
    )
    arguments = parser.parse_args()
    downloads = Downloads(arguments.downloads.resolve())
    downloads.fetch_debian([FASHION_PACKAGE])
    made = downloads.folder / "fashion-mnist"
    made.mkdir(exist_ok=True)
    pixels = _training_pixels(made / "train.npy", downloads)
    weights = {}
    for network in FASHION_NETWORKS:
        weights[network.name] = trained_weights(
            network,
            pixels,
            labels_of("train", downloads),
            made / f"{network.name}.pt",
            at_most=arguments.epochs,
        )
    test = png_files(downloads, made / "t10k", 10_000)
    folder = arguments.zoo / "src/isthmus_zoo/fashion_mnist"
    (folder / "models").mkdir(parents=True, exist_ok=True)
    classes = labels_of("t10k", downloads)
    measured = {}
    for network in FASHION_NETWORKS:
        found = weights[network.name]
        if found is None:
            return 3
        path = folder / "models" / f"{network.name}.onnx"
        path.write_bytes(model_bytes(network, found, FASHION_LABELS, _accuracy(0)))
        right = int((_answers(path, network, test) == classes).sum())
        path.write_bytes(model_bytes(network, found, FASHION_LABELS, _accuracy(right)))
        measured[network.name] = right
        print(f"{network.name}: {right} of {len(test)} right, SHA-256 {sha256_of(path)}")
    _ship(test[:SHIPPED], classes, folder / "photographs")
    cards = arguments.zoo / "MODELS.md"
    text = cards.read_text(encoding="utf-8").partition(FASHION_HEADING)[0].rstrip("\n")
    cards.write_text(f"{text}\n\n{fashion_cards(folder / 'models', measured)}", encoding="utf-8")
    return 0


def _training_pixels(kept: Path, downloads: Downloads) -> npt.NDArray[np.uint8]:
    if not kept.exists():
        np.save(kept, seen_pixels(pixels_of("train", downloads)))
    found: npt.NDArray[np.uint8] = np.load(kept)
    return found


def _accuracy(right: int) -> dict[str, object]:
    return {"ratio": right / 10_000, "status": "measured", "source": SOURCE}


def _answers(path: Path, network: Network, files: Sequence[Path]) -> npt.NDArray[np.int64]:
    """Return the first answer for each file, as the product gives it."""
    pipeline = network.pipeline
    found = np.empty(len(files), np.int64)
    with Session(path) as session:
        for k, file in enumerate(files):
            decoded = image.decode(file.read_bytes(), shorter_side_px=32)
            pixels = image.planar(image.fit(decoded, pipeline), pipeline)
            found[k] = session.run({"input": image.normalise(pixels, pipeline)})["logits"].argmax()
    return found


def _ship(files: Sequence[Path], classes: npt.NDArray[np.uint8], folder: Path) -> None:
    """Copy images into the zoo with a record of each."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for k, file in enumerate(files):
        shutil.copyfile(file, folder / file.name)
        records.append(
            {
                "file": file.name,
                "use": "calibration" if k < CALIBRATION else "request",
                "expected_labels": [FASHION_LABELS[classes[k]]],
            }
        )
    lines = ",\n".join(json.dumps(record) for record in records)
    (folder / "origins.json").write_text(f'{{"photographs": [\n{lines}\n]}}\n', encoding="utf-8")
    name, version = FASHION_PACKAGE
    text = FASHION_ORIGINS.format(
        count=len(files), package=name, version=version, calibration=CALIBRATION
    )
    (folder / "ORIGINS.md").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
