"""Conditions: all that a decision depends on at one instant. It measures nothing itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.errors import ConditionsError
from isthmus.types.link import Link

__all__ = ["DECODE_MARGIN", "NORMAL_SDS", "CloudState", "Conditions", "ImageFacts", "dct_scale"]

NORMAL_SDS = 1.64
"""Standard deviations from the mean below which 95 of 100 of a normal distribution are."""

DECODE_MARGIN = 2
"""A JPEG is decoded so that its shorter side stays this many times as long as is needed.

Without a margin the decoder's own shrinking shows: four answers of seventeen changed in the worst
network of the zoo, with it one, for a twentieth more time (``docs/concepts/input-pipeline.md``).
"""


def dct_scale(width: int, height: int, shorter_side_px: int) -> int:
    """Return the factor by which a JPEG decoder may shrink while decoding: 1, 2, 4 or 8.

    The largest factor that leaves the shorter side at least ``DECODE_MARGIN`` times
    ``shorter_side_px`` long.

    Examples:
        >>> dct_scale(4000, 3000, 256), dct_scale(640, 480, 256)
        (4, 1)
    """
    room = min(width, height) // (DECODE_MARGIN * max(shorter_side_px, 1))
    return 8 if room >= 8 else 4 if room >= 4 else 2 if room >= 2 else 1


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image's header tells without decoding it.

    Attributes:
        format: Lower case, e.g. ``jpeg``, ``png``, ``webp``; a WebP without loss, which is
            another format but for its name, is ``webp-lossless``.
        width: Pixels.
        height: Pixels.
        file_bytes: Size of the file.
        is_progressive: Whether it is a progressive JPEG, which costs several times as much to
            decode as a baseline one.
        samples_per_pixel: Of a JPEG, all its components together: 3 where colours are stored for
            every pixel (4:4:4), 1.5 where for every fourth (4:2:0, as cameras do), 1 of grey.
    """

    format: str
    width: int
    height: int
    file_bytes: int
    is_progressive: bool = False
    samples_per_pixel: float = 1.5

    @property
    def pixels(self) -> int:
        """Pixels of the whole image."""
        return self.width * self.height

    @property
    def samples(self) -> float:
        """Values that a JPEG stores: what a decoder works on before it makes pixels of them."""
        return self.pixels * self.samples_per_pixel

    def decoded_pixels(self, shorter_side_px: int) -> int:
        """Pixels that are decoded when ``shorter_side_px`` is all that is needed.

        Only JPEG can be decoded at a reduced scale.
        """
        if self.format != "jpeg":
            return self.pixels
        scale = dct_scale(self.width, self.height, shorter_side_px)
        return -(-self.width // scale) * -(-self.height // scale)


@dataclass(frozen=True, slots=True)
class CloudState:
    """A third site behind the edge server, as the edge server sees it.

    Attributes:
        link: The path from the edge to the cloud.
        slowdown: How much slower the cloud is than when it was profiled; 1 is as profiled.
        slowdown_sd: Standard deviation of ``slowdown``.
    """

    link: Link
    slowdown: float = 1.0
    slowdown_sd: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.slowdown < math.inf and 0 <= self.slowdown_sd < math.inf):
            raise ConditionsError(
                "the cloud's slowdown must be a positive number and its slowdown_sd zero or a "
                f"positive number, got {self.slowdown} and {self.slowdown_sd}"
            )


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that a decision depends on, at one instant.

    Attributes:
        link: The path to the server.
        image: The input's header facts; ``None`` for tensor inputs.
        is_connected: Whether a connection is open (otherwise one more round trip is paid).
        is_server_available: Whether remote plans may be chosen at all.
        device_slowdown: How much slower the device is than when it was profiled; 1 is as profiled.
        server_slowdown: The same of the server.
        device_slowdown_sd: Standard deviation of ``device_slowdown``.
        server_slowdown_sd: Standard deviation of ``server_slowdown``.
        unit_ready_s: Seconds from now until a resident unit (a model on the server) can start
            to work, its queue and what remains of its loading, by the unit's name; a unit
            that is not named is ready at once.
        window_bytes: What the connection may send before the first acknowledgement comes back
            (its congestion window), at least 1; a new one, or one that was idle, starts small.
            Infinite where nothing holds back, or where the connection ends nearby at a relay.
        cloud: A third site behind the server; ``None`` where there is none.
        decodes_alike: Whether photographs become the same pixels on the server as here, within the
            tolerance that ``runtime.fingerprint`` states.
        safety_sds: Predicted standard deviations to keep between mean and deadline, so that 95 of
            100 requests are in time; 1.64 if errors are normally distributed.
    """

    link: Link
    image: ImageFacts | None = None
    is_connected: bool = True
    is_server_available: bool = True
    device_slowdown: float = 1.0
    server_slowdown: float = 1.0
    device_slowdown_sd: float = 0.0
    server_slowdown_sd: float = 0.0
    unit_ready_s: Mapping[str, float] = field(default_factory=dict)
    window_bytes: float = math.inf
    cloud: CloudState | None = None
    decodes_alike: bool = True
    safety_sds: float = NORMAL_SDS

    def __post_init__(self) -> None:  # once a request, so no loop where nothing is wrong
        if not (
            0 < self.device_slowdown < math.inf
            and 0 < self.server_slowdown < math.inf
            and 0 <= self.device_slowdown_sd < math.inf
            and 0 <= self.server_slowdown_sd < math.inf
            and self.window_bytes >= 1
            and 0 <= self.safety_sds < math.inf
            and (not self.unit_ready_s or all(s >= 0 for s in self.unit_ready_s.values()))
        ):
            self._refuse()

    def _refuse(self) -> None:
        """Say which figure is wrong.

        Raises:
            ConditionsError: Always.
        """
        if not (0 < self.device_slowdown < math.inf and 0 < self.server_slowdown < math.inf):
            raise ConditionsError(
                "device_slowdown and server_slowdown must be a positive number, got "
                f"{self.device_slowdown} and {self.server_slowdown}"
            )
        if not (
            0 <= self.device_slowdown_sd < math.inf and 0 <= self.server_slowdown_sd < math.inf
        ):
            raise ConditionsError(
                "device_slowdown_sd and server_slowdown_sd must be zero or a positive number, got "
                f"{self.device_slowdown_sd} and {self.server_slowdown_sd}"
            )
        if not self.window_bytes >= 1:
            raise ConditionsError(f"window_bytes must be at least 1, got {self.window_bytes}")
        if not 0 <= self.safety_sds < math.inf:
            raise ConditionsError(f"safety_sds must not be negative, got {self.safety_sds}")
        raise ConditionsError("unit_ready_s must be zero or positive for every unit")
