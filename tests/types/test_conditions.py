import io
import math

import numpy as np
import pytest
from PIL import Image

from isthmus.errors import ConditionsError
from isthmus.types.conditions import DECODE_MARGIN, CloudState, Conditions, ImageFacts, dct_scale
from isthmus.types.link import Link, stall_rounds

SIZES = [
    *((side, side) for side in (1, 7, 223, 224, 225, 447, 448, 449, 1791, 1792, 1793)),
    (640, 480), (480, 640), (1000, 223), (4000, 3000), (3000, 4000), (2047, 4096), (2049, 2048),
    (10, 3000), (511, 512), (8 * 224 - 1, 9999), (1920, 1080), (999, 1001),
]  # fmt: skip


@pytest.fixture(scope="module")
def jpegs():
    """A black JPEG of every size."""
    files = {}
    for size in SIZES:
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "JPEG")
        files[size] = buffer.getvalue()
    return files


@pytest.mark.parametrize("target", [1, 16, 224, 256, 300, 5000])
def test_the_scale_and_the_pixels_are_those_of_pillows_draft(jpegs, target):
    for (width, height), data in jpegs.items():
        with Image.open(io.BytesIO(data)) as opened:
            opened.draft("RGB", (DECODE_MARGIN * target,) * 2)
            drafted = opened.size
        scale = dct_scale(width, height, target)
        assert drafted == (math.ceil(width / scale), math.ceil(height / scale))
        facts = ImageFacts("jpeg", width, height, len(data))
        assert facts.decoded_pixels(target) == drafted[0] * drafted[1]


def test_the_shorter_side_stays_long_enough():
    for width, height in SIZES:
        for target in (1, 100, 256):
            scale = dct_scale(width, height, target)
            assert scale == 1 or min(width, height) / scale >= DECODE_MARGIN * target


def test_a_target_of_nothing_is_as_one_pixel():
    assert dct_scale(100, 100, 0) == dct_scale(100, 100, 1) == 8


@pytest.mark.parametrize("name", ["png", "webp", "gif", "tiff"])
def test_only_jpegs_decode_at_a_reduced_scale(name):
    assert ImageFacts(name, 4000, 3000, 1).decoded_pixels(224) == 12_000_000
    assert ImageFacts("jpeg", 4000, 3000, 1).decoded_pixels(224) == 1000 * 750


LINK = Link(1e6, 1e6, 0.01)


def test_plain_conditions_are_those_of_the_profile():
    plain = Conditions(LINK)
    assert (plain.device_slowdown, plain.server_slowdown, plain.is_connected) == (1.0, 1.0, True)


@pytest.mark.parametrize(
    "options",
    [
        {"device_slowdown": 0.0},
        {"device_slowdown": -1.0},
        {"server_slowdown": math.nan},
        {"server_slowdown": math.inf},
        {"device_slowdown_sd": -0.1},
        {"server_slowdown_sd": math.nan},
        {"unit_ready_s": {"net": -1.0}},
        {"unit_ready_s": {"net": math.nan}},
    ],
)
def test_impossible_conditions_are_refused_by_name(options):
    with pytest.raises(ConditionsError, match=next(iter(options))):
        Conditions(LINK, **options)


def test_a_unit_may_never_be_ready():
    assert Conditions(LINK, unit_ready_s={"net": math.inf}).unit_ready_s["net"] == math.inf


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("uplink_bytes_per_s", [0.0, -1.0, math.nan, math.inf]),
        ("downlink_bytes_per_s", [0.0, -1.0, math.nan, math.inf]),
        ("rtt_s", [-0.1, math.nan, math.inf]),
        ("uplink_sd_ratio", [-0.1, math.nan]),
        ("downlink_sd_ratio", [-0.1, math.nan]),
        ("rtt_sd_s", [-0.1, math.inf]),
    ],
)
def test_impossible_links_are_refused_by_name(name, values):
    good = {"uplink_bytes_per_s": 1e6, "downlink_bytes_per_s": 1e6, "rtt_s": 0.01}
    Link(**good)
    for value in values:
        with pytest.raises(ConditionsError, match=name):
            Link(**{**good, name: value})


def test_slow_start_costs_rounds_until_the_link_is_full():
    link = Link(1e6, 1e6, 0.1)
    stalls = link.stalls_s(15_000)
    # By hand: 15, 30 and 60 kB leave 85, 70 and 40 ms of a 100 ms round unused; 120 kB fill it.
    assert stalls == pytest.approx((0.0, 0.085, 0.155, 0.195))
    assert link.stalls_s(100_000) == (0.0,)
    assert link.stalls_s(math.inf) == (0.0,)
    assert [stall_rounds(size, 15_000) for size in (1, 15_000, 45_000, 105_001)] == [0, 0, 1, 3]
    assert stall_rounds(1e9, math.inf) == 0


def test_windows_and_correlations_that_mean_nothing_are_refused():
    link = Link(1e6, 1e6, 0.1)
    for window in (0.0, -1.0, 0.99, 1e-320, math.nan):
        with pytest.raises(ConditionsError, match="window_bytes"):
            link.stalls_s(window)
        with pytest.raises(ConditionsError, match="window_bytes"):
            Conditions(link, window_bytes=window)
    assert Conditions(link, window_bytes=1).window_bytes == 1
    for wrong in (1.1, -1.1, math.nan):
        with pytest.raises(ConditionsError, match="correlation"):
            Link(1e6, 1e6, 0.1, uplink_rtt_correlation=wrong)
    for wrong in ({"slowdown": 0.0}, {"slowdown": math.nan}, {"slowdown_sd": -1.0}):
        with pytest.raises(ConditionsError, match="cloud"):
            CloudState(link, **wrong)


def test_a_window_doubles_until_a_round_trip_is_filled():
    rng = np.random.default_rng(3)
    for rate, rtt, window in 10.0 ** rng.uniform([3, -4, 2], [9, 0, 6], (2000, 3)):
        link, rounds, sent_s = Link(rate, 1e6, rtt), 0, window / rate
        while sent_s < rtt:
            rounds, sent_s = rounds + 1, sent_s * 2
        assert link.rounds_to_fill(window) == rounds
    assert Link(1e6, 1e6, 0.064).rounds_to_fill(1_000) == 6
    assert Link(1e6, 1e6, 0.0).rounds_to_fill(1) == 0
    for rate in (1e20, 1.7e308):
        assert Link(rate, 1e6, 0.1).rounds_to_fill(1) == 48
        assert len(Link(rate, 1e6, 0.1).stalls_s(1)) == 49
