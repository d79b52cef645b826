"""How well lines predict decoding: `python benchmarks/input_costs.py`. Prints figures only.

Lines are fitted on the profile's ladder, made of three photographs, and judged on others: the
zoo's photographs as they are, and made into files of other sizes, qualities and formats. Each
format is judged by four lines: over pixels, over the file's bytes (PieSlicer's), over both, and
the plan table's, which knows the pixels that are truly decoded. With `--photographs DIR` the files
of a folder are judged, too.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import isthmus_zoo
from isthmus.estimation.fit import fit_nonnegative
from isthmus.profiling.input_costs import Sample, decode_terms, predicted_s
from isthmus.profiling.ladder import image_ladder
from isthmus.runtime.image import decode, read_facts
from isthmus.types.conditions import ImageFacts

SEED = 20261121
SIDE_PX = 256
ROUNDS = 5
LADDER_OF = 3
KINDS: Mapping[str, tuple[str, Mapping[str, bool | int], int]] = {
    # format, options, how many files to judge by
    "jpeg": ("JPEG", {}, 60),
    "progressive": ("JPEG", {"progressive": True}, 30),
    "png": ("PNG", {"compress_level": 6}, 24),
    "webp": ("WEBP", {"method": 0}, 30),
    "webp lossless": ("WEBP", {"method": 0, "lossless": True}, 12),
}
Features = Callable[[ImageFacts], Sequence[float]]
LINES: Mapping[str, Features] = {
    "pixels": lambda f: [1, f.pixels],
    "bytes": lambda f: [1, f.file_bytes],
    "bytes and pixels": lambda f: [1, f.file_bytes, f.pixels],
}


def kind_of(facts: ImageFacts) -> str:
    """Return the group of a file that a line is fitted to; without loss a WebP costs as a PNG."""
    if facts.is_progressive:
        return "progressive"
    return "png" if facts.format == "webp-lossless" else facts.format


def decode_s(data: bytes) -> float:
    """Return the median time of decoding for a shorter side of ``SIDE_PX``."""
    spent = []
    for _ in range(ROUNDS):
        begun_at_s = time.perf_counter()
        decode(data, shorter_side_px=SIDE_PX)
        spent.append(time.perf_counter() - begun_at_s)
    return float(np.median(spent))


def made_from(photograph: Image.Image, name: str, rng: np.random.Generator) -> bytes:
    """Return a file of a random size and quality."""
    file_format, options, _ = KINDS[name]
    most = 1600 if file_format == "PNG" or "lossless" in name else 4500
    side = float(np.exp(rng.uniform(np.log(240), np.log(most))))
    ratio = side / max(photograph.size)
    size = (max(1, round(photograph.width * ratio)), max(1, round(photograph.height * ratio)))
    options = {"quality": int(rng.integers(60, 97)), **options}
    buffer = io.BytesIO()
    photograph.resize(size, Image.Resampling.BICUBIC).save(buffer, file_format, **options)
    return buffer.getvalue()


def samples_of(files: Sequence[bytes]) -> list[Sample]:
    """Return files with their times."""
    return [Sample(read_facts(data), decode_s(data)) for data in files]


def told(errors: Sequence[float]) -> str:
    """Return the median and the 95th percentile of relative errors."""
    return f"{np.median(errors):8.1%}{np.percentile(errors, 95):8.1%}"


def print_lines(ladder: Sequence[Sample], judged: Mapping[str, Sequence[Sample]]) -> None:
    """Print each line's errors on each group of files."""
    terms = decode_terms("device", {SIDE_PX: ladder})[SIDE_PX]
    print(f"{'files':24s}{'count':>6s}" + "".join(f"{n:>18s}" for n in (*LINES, "plan table")))
    for name, found in judged.items():
        by_line = []
        for features in LINES.values():
            errors = []
            for sample in found:
                own = [s for s in ladder if kind_of(s.facts) == kind_of(sample.facts)]
                line = fit_nonnegative([features(s.facts) for s in own], [s.seconds for s in own])
                errors.append(abs(float(line @ features(sample.facts)) / sample.seconds - 1))
            by_line.append(told(errors))
        table = [abs(predicted_s("device", terms, s.facts) / s.seconds - 1) for s in found]
        cells = "".join(f"{cell:>18s}" for cell in (*by_line, told(table)))
        print(f"{name:24s}{len(found):6d}{cells}")


def print_own_columns(ladder: Sequence[Sample], judged: Mapping[str, Sequence[Sample]]) -> None:
    """Print what files lose by sharing a line over bytes and pixels with another format."""
    features = LINES["bytes and pixels"]
    fitted_to = (("png",), ("webp",), ("png", "webp"))
    print(f"{'line fitted to':24s}" + "".join(f"{' and '.join(k):>18s}" for k in fitted_to))
    for name in ("png", "webp", "webp lossless"):
        cells = ""
        for kinds in fitted_to:
            own = [s for s in ladder if kind_of(s.facts) in kinds]
            line = fit_nonnegative([features(s.facts) for s in own], [s.seconds for s in own])
            errors = [abs(float(line @ features(s.facts)) / s.seconds - 1) for s in judged[name]]
            cells += f"{told(errors):>18s}"
        print(f"{name:24s}{cells}")


def main() -> None:
    """Print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, help="a folder of files to judge by, too")
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    paths = isthmus_zoo.photograph_paths()
    order = rng.permutation(len(paths)).tolist()
    chosen = [paths[i].read_bytes() for i in order]
    ladder = samples_of([rung.data for rung in image_ladder(chosen[:LADDER_OF])])
    others = [decode(data, shorter_side_px=1 << 30) for data in chosen[LADDER_OF:]]
    judged: dict[str, Sequence[Sample]] = {"as they are": samples_of(chosen[LADDER_OF:])}
    for name, (_, _, count) in KINDS.items():
        files = [made_from(others[i % len(others)], name, rng) for i in range(count)]
        judged[name] = samples_of(files)
    if arguments.photographs:
        found = [p for p in sorted(arguments.photographs.rglob("*")) if p.is_file()]
        judged["of the folder"] = samples_of([path.read_bytes() for path in found])
    print(f"median and p95 of the relative error, decoding for {SIDE_PX} px\n")
    print_lines(ladder, judged)
    print("\nPNG and WebP: a line over bytes and pixels for both, or one each\n")
    print_own_columns(ladder, judged)


if __name__ == "__main__":
    main()
