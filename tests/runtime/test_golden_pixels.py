"""The pixels that this machine's libraries make, against those that were written down.

`benchmarks/golden_pixels.py --write` makes the files anew; docs/concepts/input-pipeline.md says
with which versions of Pillow they were compared.
"""

from pathlib import Path

import numpy as np
import pytest

from isthmus.runtime import image
from isthmus.runtime.fingerprint import PIXEL_TOLERANCE
from isthmus.types.variant import InputPipeline

GOLDEN = Path(__file__).parent / "golden"
PIPELINE = InputPipeline(40, (40, 32), "bilinear", "RGB", (0.0,) * 3, (1.0,) * 3)

with np.load(GOLDEN / "expected.npz") as stored:
    EXPECTED = dict(stored)


@pytest.mark.parametrize("key", EXPECTED)
def test_pixels_are_the_golden_ones(key):
    name, side_px = key.rsplit(" ", 1)
    decoded = image.decode((GOLDEN / name).read_bytes(), shorter_side_px=int(side_px))
    found = image.fit(decoded, PIPELINE).astype(int)
    assert found.shape == (40, 32, 3)
    assert np.abs(found - EXPECTED[key]).max() <= PIXEL_TOLERANCE


def test_every_golden_file_is_compared_reduced_and_in_full():
    files = {path.name for path in GOLDEN.iterdir()} - {"expected.npz"}
    assert set(EXPECTED) == {f"{name} {side}" for name in files for side in (20, 120)}
    baseline = (GOLDEN / "baseline.jpg").read_bytes()
    assert image.decode(baseline, shorter_side_px=20).size == (80, 60)
    reduced, full = EXPECTED["baseline.jpg 20"], EXPECTED["baseline.jpg 120"]
    assert 0 < np.abs(reduced.astype(int) - full).mean() < 3


def test_a_pixel_that_moved_would_be_seen():
    wrong = np.asarray(EXPECTED["baseline.jpg 120"]).astype(int)[:, ::-1]
    assert np.abs(wrong - EXPECTED["baseline.jpg 120"]).max() > 10 * PIXEL_TOLERANCE
