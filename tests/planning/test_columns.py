import math

import numpy as np
import pytest

from isthmus.errors import BundleError, ConditionsError
from isthmus.planning.columns import BASES, columns_for, layout_of, numbers_of
from isthmus.types.conditions import CloudState, Conditions, ImageFacts
from isthmus.types.link import Link

COLUMNS = columns_for([256, 232, 256])
LINK = Link(1e6, 2e6, 0.02, uplink_sd_ratio=0.1, downlink_sd_ratio=0.2, rtt_sd_s=0.003)
JPEG = ImageFacts("jpeg", 4000, 3000, 3_000_000)


def matrix_of(columns, conditions):
    """The columns' values, and beside them how far each base's standard deviation moves them."""
    sources, targets = layout_of(columns)
    values, sds, features, largest, _ = numbers_of(conditions, targets)
    matrix = np.zeros((len(columns), 1 + len(BASES)))
    for column, (base, feature) in enumerate(sources):
        matrix[column, 0] = values[base] * features[feature]
        matrix[column, 1 + base] = sds[base] * features[feature]
    assert matrix.sum() <= largest * (1 + 1e-12)
    return matrix


def vector(conditions, columns=COLUMNS):
    return dict(zip(columns, matrix_of(columns, conditions)[:, 0].tolist(), strict=True))


def test_columns_are_named_once_and_in_order():
    assert COLUMNS[:13] == (
        "device",
        "device.jpeg_bytes",
        "device.jpeg_samples",
        "device.jpeg_decoded_px.232",
        "device.jpeg_decoded_px.256",
        "device.progressive_bytes",
        "device.progressive_samples",
        "device.webp_bytes",
        "device.webp_pixels",
        "device.webp_lossless_bytes",
        "device.webp_lossless_pixels",
        "device.other_bytes",
        "device.other_pixels",
    )
    assert [name.replace("server", "device") for name in COLUMNS[13:26]] == list(COLUMNS[:13])
    assert COLUMNS[26:] == (
        "uplink_s_per_byte", "uplink_file_s", "downlink_s_per_byte", "rtt_s", "connect_s",
    )  # fmt: skip


def test_values_of_a_jpeg():
    x = vector(Conditions(LINK, JPEG, device_slowdown=3.0, server_slowdown=2.0))
    assert x["device"] == 3.0
    assert x["device.jpeg_bytes"] == 3.0 * 3_000_000
    assert x["server.jpeg_samples"] == 2.0 * 18_000_000
    assert x["device.jpeg_decoded_px.256"] == 3.0 * 1000 * 750
    assert x["device.other_bytes"] == x["server.other_pixels"] == 0
    assert x["uplink_s_per_byte"] == pytest.approx(1e-6)
    assert x["uplink_file_s"] == pytest.approx(3.0)
    assert x["downlink_s_per_byte"] == pytest.approx(5e-7)
    assert x["rtt_s"] == 0.02
    assert x["connect_s"] == 0


def test_a_progressive_jpeg_fills_its_columns_beside_those_of_every_jpeg():
    baseline = vector(Conditions(LINK, ImageFacts("jpeg", 40, 30, 500)))
    x = vector(Conditions(LINK, ImageFacts("jpeg", 40, 30, 500, is_progressive=True)))
    assert x["device.progressive_bytes"] == x["server.progressive_bytes"] == 500
    assert x["device.progressive_samples"] == 1800
    assert baseline["device.progressive_bytes"] == 0
    assert {k: v for k, v in x.items() if "progressive" not in k} == {
        k: v for k, v in baseline.items() if "progressive" not in k
    }


@pytest.mark.parametrize("per_pixel", [1, 1.5, 2, 3, 4])
def test_a_jpeg_counts_by_the_samples_that_it_stores(per_pixel):
    x = vector(Conditions(LINK, ImageFacts("jpeg", 40, 30, 500, True, per_pixel)))
    assert x["device.jpeg_samples"] == x["server.progressive_samples"] == 1200 * per_pixel


def test_decoded_pixels_are_of_their_own_target():
    facts = ImageFacts("jpeg", 5120, 3840, 1)
    x = vector(Conditions(LINK, facts))
    assert x["device.jpeg_decoded_px.232"] == facts.decoded_pixels(232) == 640 * 480
    assert x["device.jpeg_decoded_px.256"] == facts.decoded_pixels(256) == 1280 * 960


@pytest.mark.parametrize(
    ("name", "group"),
    [("png", "other"), ("webp", "webp"), ("webp-lossless", "webp_lossless"), ("bmp", "other")],
)
def test_another_format_fills_its_own_columns_alone(name, group):
    x = vector(Conditions(LINK, ImageFacts(name, 40, 30, 500)))
    filled = {key: value for key, value in x.items() if "." in key and value}
    assert filled == {
        f"{site}.{group}_{what}": value
        for site in ("device", "server")
        for what, value in (("bytes", 500), ("pixels", 1200))
    }
    assert x["uplink_file_s"] == pytest.approx(5e-4)


def test_no_image_and_no_connection():
    x = vector(Conditions(LINK, is_connected=False))
    assert not any(v for name, v in x.items() if "." in name or name == "uplink_file_s")
    assert x["connect_s"] == 0.02


def test_a_cloud_has_columns_and_bases_of_its_own():
    columns = columns_for([256], has_cloud=True)
    assert columns[:-4] == columns_for([256])
    link = Link(1e7, 5e6, 0.04, uplink_sd_ratio=0.1, downlink_sd_ratio=0.3, rtt_sd_s=0.002)
    conditions = Conditions(LINK, JPEG, cloud=CloudState(link, 3.0, 0.25))
    matrix = matrix_of(columns, conditions)
    np.testing.assert_array_equal(
        matrix[:-4, 0], matrix_of(columns[:-4], Conditions(LINK, JPEG))[:, 0]
    )
    names = ("cloud", "cloud_uplink_s_per_byte", "cloud_downlink_s_per_byte", "cloud_rtt_s")
    values, sds = (3.0, 1e-7, 2e-7, 0.04), (0.25, 1e-8, 6e-8, 0.002)
    for place, (name, value, sd) in enumerate(zip(names, values, sds, strict=True)):
        assert columns[place - 4] == name
        moves = np.zeros(len(BASES))
        moves[place - 4] = sd
        np.testing.assert_allclose(matrix[place - 4], [value, *moves], rtol=1e-12)
    # Without a cloud a decision computes nothing for it.
    assert len(numbers_of(Conditions(LINK), ()).values) == len(BASES) - 4


def test_directions_are_the_derivatives_times_the_standard_deviations():
    sds = {"device_slowdown_sd": 0.3, "server_slowdown_sd": 0.4}
    base = Conditions(LINK, JPEG, is_connected=False, device_slowdown=2.0, **sds)
    matrix = matrix_of(COLUMNS, base)
    assert matrix.shape == (len(COLUMNS), 1 + len(BASES))

    def moved(device=2.0, server=1.0, up=1e-6, down=5e-7, rtt=0.02):
        link = Link(1 / up, 1 / down, rtt)
        return matrix_of(COLUMNS, Conditions(
            link, JPEG, is_connected=False, device_slowdown=device, server_slowdown=server
        ))[:, 0]  # fmt: skip

    by_one_sd = [
        moved(device=2.3), moved(server=1.4), moved(up=1.1e-6), moved(down=6e-7), moved(rtt=0.023)
    ]  # fmt: skip
    for b, after in enumerate(by_one_sd):
        np.testing.assert_allclose(after - matrix[:, 0], matrix[:, 1 + b], atol=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "", "uplink", "edge", "x.y", "server.file", "device.pixels", "device.jpeg_decoded_px.",
        "device.jpeg_decoded_px.0",
    ],
)  # fmt: skip
def test_unknown_columns_are_named(name):
    with pytest.raises(BundleError, match="does not know; make it again"):
        layout_of([name])


def test_order_of_columns_is_free():
    shuffled = tuple(reversed(COLUMNS))
    conditions = Conditions(LINK, JPEG)
    assert vector(conditions, shuffled) == vector(conditions)


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(Link(1e-320, 1e6, 0.1)),
        Conditions(Link(1e6, 1e6, 1e308), device_slowdown=1e308),
        Conditions(LINK, ImageFacts("jpeg", -4000, 3000, 10)),
        Conditions(LINK, ImageFacts("png", 10, 10, math.nan)),  # type: ignore[arg-type]
        Conditions(Link(1e-300, 1e6, 0.1), ImageFacts("jpeg", 10**5, 10**5, 10**9)),
        Conditions(LINK, cloud=CloudState(Link(1e-320, 1e6, 0.1))),
    ],
)
def test_what_would_overflow_is_refused(conditions):
    with pytest.raises(ConditionsError):
        numbers_of(conditions, layout_of(COLUMNS).decode_targets)


def test_decode_targets_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        columns_for([0, 224])


def test_a_links_rate_and_round_trip_err_together_hop_by_hop():
    near = Link(1e6, 1e6, 0.02, 0.2, 0.0, 0.005, uplink_rtt_correlation=-0.5)
    far = Link(2e6, 1e6, 0.03, 0.1, 0.0, 0.004, uplink_rtt_correlation=0.25)
    expected = (
        (BASES.index("uplink"), BASES.index("rtt"), -0.5 * 0.2e-6 * 0.005),
        (BASES.index("cloud_uplink"), BASES.index("cloud_rtt"), 0.25 * 0.05e-6 * 0.004),
    )
    found = numbers_of(Conditions(near, cloud=CloudState(far)), ()).covariances
    assert [pair[:2] for pair in found] == [pair[:2] for pair in expected]
    assert [pair[2] for pair in found] == pytest.approx([pair[2] for pair in expected])
    assert numbers_of(Conditions(Link(1e6, 1e6, 0.02, 0.2)), ()).covariances == ()
