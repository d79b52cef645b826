"""The conditions as a vector: named columns, their values and their uncertainties.

It does not know any plan, and positions are never stored: columns are looked up by name.

A column's value is the product of one *base* (a slowdown, seconds per byte, the round trip), which
is uncertain, and one *feature* of the input or the connection, which is known. Image features are
zero without an image and where the image is of another format group: ``jpeg`` is every JPEG,
``progressive`` a progressive one (beside ``jpeg``: what it costs beyond), ``other`` the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import ConditionsError
from isthmus.types.conditions import Conditions

__all__ = ["BASES", "columns_for", "conditions_matrix"]

BASES = ("device_slowdown", "server_slowdown", "uplink", "downlink", "rtt")
"""What is uncertain, in the order of the standard-deviation directions."""

_FEATURES = (
    "one", "jpeg_bytes", "jpeg_pixels", "other_bytes", "other_pixels",
    "progressive_bytes", "progressive_pixels", "file", "connect",
)  # fmt: skip
_IMAGE_FEATURES = _FEATURES[1:7]
_SITES = {"device": 0, "server": 1}
_LINK_COLUMNS = {
    "uplink_s_per_byte": ("uplink", "one"),
    "uplink_file_s": ("uplink", "file"),
    "downlink_s_per_byte": ("downlink", "one"),
    "rtt_s": ("rtt", "one"),
    "connect_s": ("rtt", "connect"),
}
_DECODED = "jpeg_decoded_px."


class _Layout(NamedTuple):
    """Where the columns of one table take their values from, resolved once.

    Attributes:
        bases: Which number each entry of the matrix is made of, int ``[K, 1 + B]``: the values
            of ``BASES`` come first, then their standard deviations, then a zero.
        features: Index into the features by column, int ``[K, 1]``.
        decode_targets: Targets whose decoded pixels follow the fixed features.
    """

    bases: NDArray[np.intp]
    features: NDArray[np.intp]
    decode_targets: tuple[int, ...]


def columns_for(decode_targets: Iterable[int]) -> tuple[str, ...]:
    """Return the columns that plans with these decode targets need.

    Args:
        decode_targets: Length in pixels of the shorter side that a photograph is decoded for,
            one for each distinct input pipeline; repeats and order do not matter.

    Returns:
        Names, the device's first, then the server's, then the link's.

    Raises:
        ValueError: If a target is not positive.

    Examples:
        >>> [name for name in columns_for([256]) if name.startswith("device")]  # doctest: +ELLIPSIS
        ['device', 'device.jpeg_bytes', 'device.jpeg_pixels', 'device.jpeg_decoded_px.256', ...]
    """
    targets = sorted(set(decode_targets))
    if targets and targets[0] < 1:
        raise ValueError(f"decode targets must be positive, got {targets[0]}")
    image = [
        "jpeg_bytes", "jpeg_pixels", *(f"{_DECODED}{target}" for target in targets),
        "progressive_bytes", "progressive_pixels", "other_bytes", "other_pixels",
    ]  # fmt: skip
    sites = [name for site in _SITES for name in (site, *(f"{site}.{part}" for part in image))]
    return (*sites, *_LINK_COLUMNS)


def conditions_matrix(columns: tuple[str, ...], conditions: Conditions) -> NDArray[np.float64]:
    """Return the conditions as a vector with its covariance's square root beside it.

    Column 0 is the vector ``x``; column ``1 + b`` is how far ``x`` moves when base ``b`` (see
    ``BASES``) moves by one standard deviation. So the covariance of ``x`` is ``D @ D.T`` with
    ``D`` the columns from 1 on (to first order for rates, whose inverse is what counts), and one
    product ``coefficients @ matrix`` gives mean and spread.

    Args:
        columns: Names, length ``K``.
        conditions: One instant.

    Returns:
        float64 ``[K, 1 + len(BASES)]``, all finite and none negative.

    Raises:
        ValueError: If a column's name is not known.
        ConditionsError: If a value would overflow, or the image's facts are impossible.
    """
    layout = _layout(columns)
    link, image = conditions.link, conditions.image
    features = [1.0, *[0.0] * 7, 0.0 if conditions.is_connected else 1.0]
    if image is None:
        features += [0.0] * len(layout.decode_targets)
    else:
        group = 1 if image.format == "jpeg" else 3
        features[group] = features[7] = image.file_bytes
        features[group + 1] = image.pixels
        if image.is_progressive:
            features[5:7] = features[1:3]
        features += [
            image.decoded_pixels(target) if group == 1 else 0.0 for target in layout.decode_targets
        ]
    device, server = conditions.device_slowdown, conditions.server_slowdown
    up, down, rtt = 1.0 / link.uplink_bytes_per_s, 1.0 / link.downlink_bytes_per_s, link.rtt_s
    device_sd, server_sd = conditions.device_slowdown_sd, conditions.server_slowdown_sd
    up_sd, down_sd = up * link.uplink_sd_ratio, down * link.downlink_sd_ratio
    largest = sum(features) * (
        device + server + up + down + rtt + device_sd + server_sd + up_sd + down_sd + link.rtt_sd_s
    )
    if not (math.isfinite(largest) and min(features) >= 0):
        raise ConditionsError(f"these conditions are beyond what can be computed: {conditions}")
    bases = np.array(
        (device, server, up, down, rtt, device_sd, server_sd, up_sd, down_sd, link.rtt_sd_s, 0.0)
    )
    matrix: NDArray[np.float64] = bases.take(layout.bases)
    matrix *= np.array(features).take(layout.features)
    return matrix


@lru_cache(maxsize=64)
def _layout(columns: tuple[str, ...]) -> _Layout:
    """Resolve names to bases and features.

    Raises:
        ValueError: If a column's name is not known.
    """
    sources: list[tuple[int, int | str]] = []
    for name in columns:
        site, _, part = name.partition(".")
        target = part.removeprefix(_DECODED)
        if name in _LINK_COLUMNS:
            base, feature = _LINK_COLUMNS[name]
            sources.append((BASES.index(base), _FEATURES.index(feature)))
        elif name in _SITES:
            sources.append((_SITES[name], 0))
        elif site in _SITES and part in _IMAGE_FEATURES:
            sources.append((_SITES[site], _FEATURES.index(part)))
        elif site in _SITES and target != part and target.isdecimal() and int(target) > 0:
            sources.append((_SITES[site], target))
        else:
            raise ValueError(f"unknown column {name!r}")
    targets = sorted({int(feature) for _, feature in sources if isinstance(feature, str)})
    features = [
        len(_FEATURES) + targets.index(int(feature)) if isinstance(feature, str) else feature
        for _, feature in sources
    ]
    count = len(BASES)
    bases = np.full((len(sources), 1 + count), 2 * count)
    for column, (index, _) in enumerate(sources):
        bases[column, 0], bases[column, 1 + index] = index, count + index
    return _Layout(bases, np.array(features, np.intp)[:, None], tuple(targets))
