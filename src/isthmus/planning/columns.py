"""The conditions as numbers: named columns, their values and their uncertainties.

It does not know any plan, and positions are never stored: columns are looked up by name.

A column's value is the product of one *base* (a slowdown, seconds per byte, the round trip), which
is uncertain, and one *feature* of the input or the connection, which is known. Image features are
zero without an image and where the image is of another format group: ``jpeg`` is every JPEG,
``progressive`` a progressive one (beside ``jpeg``: what it costs beyond), ``webp`` a lossy WebP,
``webp_lossless`` a lossless one, ``other`` the rest.

Columns are named by site (``device``, ``server``, ``cloud``) and by hop: the hop from the device to
the server has no prefix, the one from there to the cloud has ``cloud_``. The cloud has no image
features: the input pipeline runs on the device or on the server.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from isthmus.errors import BundleError, ConditionsError
from isthmus.types.conditions import CloudState, Conditions

__all__ = ["BASES", "Layout", "Numbers", "columns_for", "features_of", "layout_of", "numbers_of"]

BASES = (
    "device_slowdown", "server_slowdown", "uplink", "downlink", "rtt",
    "cloud_slowdown", "cloud_uplink", "cloud_downlink", "cloud_rtt",
)  # fmt: skip
"""What is uncertain; every column is the product of one of these and a feature."""

_UPLINK, _RTT, _CLOUD_UPLINK, _CLOUD_RTT = (
    BASES.index(base) for base in ("uplink", "rtt", "cloud_uplink", "cloud_rtt")
)

_IMAGE_FEATURES = (
    "jpeg_bytes", "jpeg_samples", "progressive_bytes", "progressive_samples",
    "webp_bytes", "webp_pixels", "webp_lossless_bytes", "webp_lossless_pixels",
    "other_bytes", "other_pixels",
)  # fmt: skip
_FEATURES = ("one", *_IMAGE_FEATURES, "file", "connect")
_GROUP_AT = {
    "webp": _FEATURES.index("webp_bytes"),
    "webp-lossless": _FEATURES.index("webp_lossless_bytes"),
}
_OTHER_AT = _FEATURES.index("other_bytes")
_SITES = {"device": 0, "server": 1}
_LINK_COLUMNS = {
    "uplink_s_per_byte": ("uplink", "one"),
    "uplink_file_s": ("uplink", "file"),
    "downlink_s_per_byte": ("downlink", "one"),
    "rtt_s": ("rtt", "one"),
    "connect_s": ("rtt", "connect"),
}
_CLOUD_COLUMNS = {
    "cloud": ("cloud_slowdown", "one"),
    "cloud_uplink_s_per_byte": ("cloud_uplink", "one"),
    "cloud_downlink_s_per_byte": ("cloud_downlink", "one"),
    "cloud_rtt_s": ("cloud_rtt", "one"),
}
_PLAIN_COLUMNS = _LINK_COLUMNS | _CLOUD_COLUMNS
_NO_IMAGE = (0.0,) * (len(_IMAGE_FEATURES) + 1)
_DECODED = "jpeg_decoded_px."


class Layout(NamedTuple):
    """Where the columns of a table take their values from.

    Attributes:
        sources: For each column the position of its base in ``Numbers.values`` and that of its
            feature in ``Numbers.features``.
        decode_targets: Targets whose decoded pixels follow the fixed features.
    """

    sources: tuple[tuple[int, int], ...]
    decode_targets: tuple[int, ...]


class Numbers(NamedTuple):
    """What conditions are multiplied with a table as.

    A column is ``values[base] * features[feature]``, and moves by ``sds[base] *
    features[feature]`` when its base moves by one standard deviation (to first order for rates,
    whose inverse is what counts). Bases are independent of each other, but for ``covariances``.

    Attributes:
        values: Of ``BASES``: slowdowns, seconds per byte up and down, seconds; without a cloud
            its bases, the last ones, are left out.
        sds: Their standard deviations, in the same units.
        features: Those of the input and the connection, none negative.
        largest: No less than the sum of all columns and of all that they may move; finite.
        covariances: Pairs of bases whose errors go together, and their covariance.
    """

    values: tuple[float, ...]
    sds: tuple[float, ...]
    features: list[float]
    largest: float
    covariances: tuple[tuple[int, int, float], ...] = ()


def columns_for(decode_targets: Iterable[int], *, has_cloud: bool = False) -> tuple[str, ...]:
    """Return the columns that plans with these decode targets need.

    Args:
        decode_targets: Length in pixels of the shorter side that a photograph is decoded for,
            one for each distinct input pipeline; repeats and order do not matter.
        has_cloud: Whether some plans use a third site behind the server.

    Returns:
        Names, the device's first, then the server's, then the link's, then the cloud's.

    Raises:
        ValueError: If a target is not positive.

    Examples:
        >>> [name for name in columns_for([256]) if name.startswith("device")]  # doctest: +ELLIPSIS
        ['device', 'device.jpeg_bytes', 'device.jpeg_samples', 'device.jpeg_decoded_px.256', ...]
    """
    targets = sorted(set(decode_targets))
    if targets and targets[0] < 1:
        raise ValueError(f"decode targets must be positive, got {targets[0]}")
    image = [
        *_IMAGE_FEATURES[:2], *(f"{_DECODED}{target}" for target in targets), *_IMAGE_FEATURES[2:],
    ]  # fmt: skip
    sites = [name for site in _SITES for name in (site, *(f"{site}.{part}" for part in image))]
    return (*sites, *(_PLAIN_COLUMNS if has_cloud else _LINK_COLUMNS))


def numbers_of(conditions: Conditions, decode_targets: tuple[int, ...]) -> Numbers:
    """Return the conditions as numbers; plain ones, since a few of them decide a request.

    Args:
        conditions: One instant.
        decode_targets: Those of the table's ``Layout``.

    Raises:
        ConditionsError: If a value would overflow, or the image's facts are impossible.
    """
    link, features = conditions.link, features_of(conditions, decode_targets)
    up, down = 1.0 / link.uplink_bytes_per_s, 1.0 / link.downlink_bytes_per_s
    values: tuple[float, ...] = (
        conditions.device_slowdown,
        conditions.server_slowdown,
        up,
        down,
        link.rtt_s,
    )
    sds: tuple[float, ...] = (
        conditions.device_slowdown_sd,
        conditions.server_slowdown_sd,
        up * link.uplink_sd_ratio,
        down * link.downlink_sd_ratio,
        link.rtt_sd_s,
    )
    if conditions.cloud is not None:
        more, more_sds = _cloud_numbers(conditions.cloud)
        values, sds = values + more, sds + more_sds
    largest = sum(features) * (sum(values) + sum(sds))
    if not (largest < math.inf and min(features) >= 0):
        raise ConditionsError(f"these conditions are beyond what can be computed: {conditions}")
    cloud = conditions.cloud
    if link.uplink_rtt_correlation or (cloud and cloud.link.uplink_rtt_correlation):
        return Numbers(values, sds, features, largest, _covariances(conditions, sds))
    return Numbers(values, sds, features, largest)


def features_of(conditions: Conditions, decode_targets: tuple[int, ...]) -> list[float]:
    """Return the features of the input and the connection; negative if its facts are impossible."""
    image, connecting = conditions.image, 0.0 if conditions.is_connected else 1.0
    if image is None:
        return [1.0, *_NO_IMAGE, connecting, *(0.0 for _ in decode_targets)]
    size = float(image.file_bytes)
    if image.format == "jpeg":
        samples = float(image.samples)
        beyond = (size, samples) if image.is_progressive else (0.0, 0.0)
        features = [1.0, size, samples, *beyond, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, size, connecting]
        for target in decode_targets:
            features.append(float(image.decoded_pixels(target)))
        return features
    features = [1.0, *_NO_IMAGE[1:], size, connecting, *(0.0 for _ in decode_targets)]
    at = _GROUP_AT.get(image.format, _OTHER_AT)
    features[at : at + 2] = size, float(image.pixels)
    return features


def _covariances(
    conditions: Conditions, sds: tuple[float, ...]
) -> tuple[tuple[int, int, float], ...]:
    """Return what a link's rate and round trip have in common, hop by hop."""
    near = conditions.link.uplink_rtt_correlation * sds[_UPLINK] * sds[_RTT]
    found = ((_UPLINK, _RTT, near),) if near else ()
    if conditions.cloud is None:
        return found
    far = conditions.cloud.link.uplink_rtt_correlation * sds[_CLOUD_UPLINK] * sds[_CLOUD_RTT]
    return (*found, (_CLOUD_UPLINK, _CLOUD_RTT, far)) if far else found


def _cloud_numbers(cloud: CloudState) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return values and standard deviations of the cloud's bases, in the order of ``BASES``."""
    link = cloud.link
    up, down = 1.0 / link.uplink_bytes_per_s, 1.0 / link.downlink_bytes_per_s
    values = (cloud.slowdown, up, down, link.rtt_s)
    sds = (cloud.slowdown_sd, up * link.uplink_sd_ratio, down * link.downlink_sd_ratio)
    return values, (*sds, link.rtt_sd_s)


def layout_of(columns: Iterable[str]) -> Layout:
    """Resolve columns' names to bases and features.

    Raises:
        BundleError: If a column's name is not known.
    """
    sources: list[tuple[int, int | str]] = []
    for name in columns:
        site, _, part = name.partition(".")
        target = part.removeprefix(_DECODED)
        if name in _PLAIN_COLUMNS:
            base, feature = _PLAIN_COLUMNS[name]
            sources.append((BASES.index(base), _FEATURES.index(feature)))
        elif name in _SITES:
            sources.append((_SITES[name], 0))
        elif site in _SITES and part in _IMAGE_FEATURES:
            sources.append((_SITES[site], _FEATURES.index(part)))
        elif site in _SITES and target != part and target.isdecimal() and int(target) > 0:
            sources.append((_SITES[site], target))
        else:
            raise BundleError(
                f"a profile counts costs by {name!r}, which this version does not know; "
                "make it again with isthmus profile"
            )
    targets = sorted({int(feature) for _, feature in sources if isinstance(feature, str)})
    return Layout(
        tuple(
            (base, len(_FEATURES) + targets.index(int(found)) if isinstance(found, str) else found)
            for base, found in sources
        ),
        tuple(targets),
    )
