"""Do the same bytes give the same pixels everywhere? `python benchmarks/golden_pixels.py`.

Prints the library versions, how far this machine's pixels are from the golden ones in
`tests/runtime/golden`, and for every network of the zoo, over its photographs, what decoding at a
reduced scale (`draft()`) changes against decoding in full. Asserts nothing.
`--golden-only` stops before the networks; `--write` makes the golden files anew.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.runtime import image
from isthmus.types.conditions import DECODE_MARGIN
from isthmus.types.variant import InputPipeline

GOLDEN = Path(__file__).parents[1] / "tests" / "runtime" / "golden"
PIPELINE = InputPipeline(40, (40, 32), "bilinear", "RGB", (0.0,) * 3, (1.0,) * 3)
SIDES_PX = (20, 120)  # decoded at half its size, and in full
FULL_SIZE_PX = 1 << 30
MARGINS = (1, 2, 4)


def golden_files() -> dict[str, bytes]:
    """Return the files of each kind, made of one photograph of the zoo (CC0)."""
    import isthmus_zoo

    path = next(p for p in isthmus_zoo.photograph_paths() if p.stem == "seeding-16mp")
    photograph = image.decode(path.read_bytes(), shorter_side_px=FULL_SIZE_PX)
    small = photograph.resize((160, 120), Image.Resampling.LANCZOS)
    turned = Image.Exif()
    turned[0x0112] = 6
    fading = Image.linear_gradient("L").resize(small.size)
    transparent = small.resize((80, 60))
    transparent.putalpha(fading.resize(transparent.size))

    def file_of(picture: Image.Image, file_format: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, file_format, **options)
        return buffer.getvalue()

    return {
        "baseline.jpg": file_of(small, "JPEG", quality=85),
        "progressive.jpg": file_of(small, "JPEG", quality=85, progressive=True),
        "all-colours.jpg": file_of(small, "JPEG", quality=85, subsampling=0),
        "turned.jpg": file_of(small, "JPEG", quality=85, exif=turned),
        "grey.jpg": file_of(small.convert("L"), "JPEG", quality=85),
        "cmyk.jpg": file_of(small.convert("CMYK"), "JPEG", quality=85),
        "lossy.webp": file_of(small, "WEBP", quality=85),
        "transparent.png": file_of(transparent, "PNG", optimize=True),
    }


def fitted(data: bytes, side_px: int, pipeline: InputPipeline = PIPELINE) -> NDArray:
    """Return a photograph as the input pipeline resizes it, decoded for a shorter side."""
    return image.fit(image.decode(data, shorter_side_px=side_px), pipeline)


def write_golden() -> None:
    """Make the golden files, and the pixels that this machine's libraries give."""
    made = golden_files()
    for name, data in made.items():
        (GOLDEN / name).write_bytes(data)
    np.savez_compressed(
        GOLDEN / "expected.npz",
        **{
            f"{name} {side}": fitted(data, side) for name, data in made.items() for side in SIDES_PX
        },
    )


def golden_differences() -> Iterator[tuple[str, int, float]]:
    """Yield each golden file with the greatest and the mean difference, grey levels."""
    with np.load(GOLDEN / "expected.npz") as expected:
        for key in expected.files:
            name, side = key.rsplit(" ", 1)
            found = fitted((GOLDEN / name).read_bytes(), int(side)).astype(int)
            difference = np.abs(found - expected[key])
            yield key, int(difference.max()), float(difference.mean())


def print_golden() -> None:
    """Print how far pixels are from the golden ones, here."""
    import PIL
    from PIL import features

    turbo = features.version("libjpeg_turbo")
    libjpeg = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
    print(f"Pillow {PIL.__version__}, {libjpeg}, libwebp {features.version('webp')}\n")
    print(f"{'golden file, decoded for':28s}{'max':>6s}{'mean':>8s}")
    for key, most, mean in golden_differences():
        print(f"{key:28s}{most:6d}{mean:8.3f}")


def print_draft() -> None:
    """Print what decoding at a reduced scale changes, for every network of the zoo."""
    import isthmus_zoo
    from isthmus.loading.onnx_file import load_variant

    photographs = [path.read_bytes() for path in isthmus_zoo.photograph_paths()]
    models = Path(isthmus_zoo.__file__).parent / "models"
    print(f"\ndraft() against full decode, {len(photographs)} photographs; margin: of the side")
    print(
        f"{'network':18s}{'margin':>7s}{'reduced':>9s}{'max px':>8s}{'mean px':>9s}{'top-1':>8s}"
        f"{'logits':>8s}{'decode':>10s}"
    )
    for path in sorted(models.glob("*.onnx")):
        pipeline = load_variant(path, name=path.stem).pipeline
        assert pipeline is not None
        print_draft_of(path, pipeline, photographs)
    print("logits: the greatest difference of any, as a share of the range of all logits")


def print_draft_of(path: Path, pipeline: InputPipeline, photographs: Sequence[bytes]) -> None:
    """Print one network's rows, by how much larger than needed the photograph is decoded."""
    from isthmus.runtime.session import Session

    count, side_px = len(photographs), pipeline.resize_shorter_side_px
    with Session(path) as session:

        def answer(pixels: NDArray) -> NDArray:
            tensor = image.normalise(image.planar(pixels, pipeline), pipeline)
            return session.run({session.inputs[0].name: tensor})[session.outputs[0].name]

        full = [fitted(data, FULL_SIZE_PX, pipeline) for data in photographs]
        expected = [answer(pixels) for pixels in full]
        for margin in MARGINS:
            begun_at_s = time.perf_counter()
            quick = [
                fitted(data, side_px * margin // DECODE_MARGIN, pipeline) for data in photographs
            ]
            spent_s = time.perf_counter() - begun_at_s
            found = [answer(pixels) for pixels in quick]
            differences = [np.abs(a.astype(int) - b) for a, b in zip(full, quick, strict=True)]
            reduced = [difference for difference in differences if difference.any()]
            pairs = list(zip(expected, found, strict=True))
            same = sum(bool(a.argmax() == b.argmax()) for a, b in pairs)
            logits = max(float(np.abs(a - b).max() / np.ptp(a)) for a, b in pairs)
            print(
                f"{path.stem:18s}{margin:7d}{len(reduced):6d}/{count}"
                f"{max(int(d.max()) for d in reduced):8d}"
                f"{np.mean([d.mean() for d in reduced]):9.2f}{same:5d}/{count}{logits:8.3f}"
                f"{spent_s / count * 1e3:7.1f} ms"
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden-only", action="store_true", help="no networks")
    parser.add_argument("--write", action="store_true", help="make the golden files anew")
    arguments = parser.parse_args()
    if arguments.write:
        write_golden()
    print_golden()
    if not arguments.golden_only:
        print_draft()


if __name__ == "__main__":
    main()
