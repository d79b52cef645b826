"""How well lines predict decoding: `python benchmarks/input_costs.py`. Prints figures only.

Lines are fitted on the profile's ladder, made of three photographs, and judged on others: the
zoo's photographs as they are, and made into files of other sizes, qualities and formats. PNGs and
WebPs are written as programs do by default, and WebPs with the least effort, too; JPEGs with
colours at a quarter of the resolution (4:2:0), and at all of it, too. Each format is
judged by four lines: over pixels, over the file's bytes (PieSlicer's), over both, and the plan
table's, which knows the pixels that are truly decoded. With `--photographs DIR` the JPEGs of a
folder are judged, too, by the ladder's lines and by lines fitted to every other one of them.
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
THREE_MEGAPIXELS = 3_000_000
KINDS: Mapping[str, tuple[str, Mapping[str, bool | int], int]] = {
    # format, options, how many files to judge by
    "jpeg": ("JPEG", {}, 60),
    "progressive": ("JPEG", {"progressive": True}, 30),
    "png": ("PNG", {}, 24),
    "webp": ("WEBP", {}, 30),
    "webp, least effort": ("WEBP", {"method": 0}, 30),
    "webp lossless": ("WEBP", {"lossless": True}, 16),
    "lossless, least effort": ("WEBP", {"method": 0, "lossless": True}, 16),
    "jpeg 4:4:4": ("JPEG", {"subsampling": 0}, 24),
    "progressive 4:4:4": ("JPEG", {"subsampling": 0, "progressive": True}, 24),
}
Samples = dict[str, list[Sample]]
Features = Callable[[ImageFacts], Sequence[float]]
LINES: Mapping[str, Features] = {
    "pixels": lambda f: [1, f.pixels],
    "bytes": lambda f: [1, f.file_bytes],
    "bytes and pixels": lambda f: [1, f.file_bytes, f.pixels],
}


def kind_of(facts: ImageFacts) -> str:
    """Return the group of a file that a line is fitted to."""
    return "progressive" if facts.is_progressive else facts.format


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


def samples_of(groups: Mapping[str, Sequence[bytes]], rng: np.random.Generator) -> Samples:
    """Return files with the least time of several of decoding for a shorter side of ``SIDE_PX``.

    All are decoded once before any is decoded again, so that no minute in which the machine was
    slower counts for one group alone. A shared machine has two speeds, 30 % apart: the median of
    five is now of one and now of the other.
    """
    files = [(name, data) for name, found in groups.items() for data in found]
    spent_s = np.zeros((ROUNDS, len(files)))
    for times in spent_s:
        for i in rng.permutation(len(files)).tolist():
            begun_at_s = time.perf_counter()
            decode(files[i][1], shorter_side_px=SIDE_PX)
            times[i] = time.perf_counter() - begun_at_s
    found: dict[str, list[Sample]] = {name: [] for name in groups}
    for (name, data), seconds in zip(files, spent_s.min(axis=0).tolist(), strict=True):
        found[name].append(Sample(read_facts(data), seconds))
    return found


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
        table = [abs(predicted_s(terms, s.facts) / s.seconds - 1) for s in found]
        cells = "".join(f"{cell:>18s}" for cell in (*by_line, told(table)))
        print(f"{name:24s}{len(found):6d}{cells}")


def main() -> None:
    """Print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, help="a folder of JPEGs to judge by, too")
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    paths = isthmus_zoo.photograph_paths()
    order = rng.permutation(len(paths)).tolist()
    chosen = [paths[i].read_bytes() for i in order]
    others = [decode(data, shorter_side_px=1 << 30) for data in chosen[LADDER_OF:]]
    groups: dict[str, Sequence[bytes]] = {
        "ladder": [rung.data for rung in image_ladder(chosen[:LADDER_OF])],
        "as they are": chosen[LADDER_OF:],
    }
    for name, (_, _, count) in KINDS.items():
        groups[name] = [made_from(others[i % len(others)], name, rng) for i in range(count)]
    if arguments.photographs:
        paths = [p for p in sorted(arguments.photographs.rglob("*")) if p.is_file()]
        files = [path.read_bytes() for path in paths]
        groups["the folder's baseline"] = [d for d in files if kind_of(read_facts(d)) == "jpeg"]
    judged = samples_of(groups, rng)
    ladder = judged.pop("ladder")
    for name, is_large in (("webp to 3 MP", False), ("webp beyond 3 MP", True)):
        judged[name] = [
            s for s in judged["webp"] if (s.facts.pixels > THREE_MEGAPIXELS) == is_large
        ]
    folder = judged.get("the folder's baseline", ())
    print(f"median and p95 of the relative error, decoding for {SIDE_PX} px\n")
    print_lines(ladder, judged)
    if folder:
        print("\nthe same with lines fitted to every other one of the folder\n")
        print_lines(folder[::2], {"the ones between": folder[1::2]})


if __name__ == "__main__":
    main()
