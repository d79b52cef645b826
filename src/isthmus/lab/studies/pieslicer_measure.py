"""What it takes to bring photographs to a network's input, by placement, measured on this machine.

The device's and the server's part are both measured here, each on its own; what a slower device
would take is up to ``pieslicer_bed``. Nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime import clock
from isthmus.runtime.image import decode, decode_cropped, fit, normalise, planar, read_facts
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.types.conditions import ImageFacts
from isthmus.types.progress import SILENT, Progress
from isthmus.types.variant import InputPipeline

__all__ = [
    "FILE", "ON_DEVICE", "PIPELINE", "PLACEMENTS", "SIDE_PX", "TENSOR",
    "Times", "measure", "prepare", "receive",
]  # fmt: skip

SIDE_PX = 331
"""PieSlicer's target: the largest input of its networks, NASNet's."""

PIPELINE = InputPipeline(
    SIDE_PX, (SIDE_PX, SIDE_PX), "bilinear", "RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)
)

PLACEMENTS = ("file", *IMAGE_CODECS, "tensor")
"""What crosses: the file, pixels of the input's size in each image codec, or as they are."""

FILE = 0
TENSOR = len(PLACEMENTS) - 1
ON_DEVICE = PLACEMENTS.index("jpeg-85")
"""The device's side of PieSlicer's choice. Quality 85 with whole colours is as large as the 90 with
subsampled ones that Android writes, and changes fewer answers."""

_Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Times:
    """One measurement of ``N`` photographs; seconds, of this machine.

    Attributes:
        facts: What their headers tell, length ``N``.
        decode_s: Decoding on the device, ``[N]``.
        resize_s: Resizing there, ``[N]``.
        file_decode_s: Decoding the file on the server, ``[N]``.
        file_resize_s: Resizing and normalising it there, ``[N]``.
        encode_s: Encoding on the device, ``[N, P]`` for ``PLACEMENTS``; 0 for the file.
        received_s: All that the server does with what arrives, ``[N, P]``.
        sent_bytes: What crosses, ``[N, P]``.
    """

    facts: tuple[ImageFacts, ...]
    decode_s: _Floats
    resize_s: _Floats
    file_decode_s: _Floats
    file_resize_s: _Floats
    encode_s: _Floats
    received_s: _Floats
    sent_bytes: _Floats

    @property
    def device_s(self) -> _Floats:
        """All that the device does before it sends, ``[N, P]``."""
        prepared = (self.decode_s + self.resize_s)[:, None] + self.encode_s
        prepared[:, FILE] = 0.0
        return prepared


def measure(
    photographs: Sequence[Path],
    *,
    repeats: int,
    seed: int,
    progress: Progress = SILENT,
    now_s: Callable[[], float] = clock.now_s,
) -> tuple[Times, Times]:
    """Measure all photographs in every placement twice over, and keep the fastest of each.

    All photographs are gone through again and again, each time in another order, for the first
    measurement and the second in turn: a minute in which the machine is slow then spoils neither
    a photograph nor a measurement. A shared machine has two speeds, for minutes at a time: of
    three passes the medians of two measurements were 18 % apart (95th percentile, 200
    photographs), the fastest 4 %. Device and server take turns within a photograph, which is
    decoded once before, so that the first of them is not the one that finds cold caches.

    Args:
        photographs: JPEG files.
        repeats: How often each, in each measurement.
        seed: Of the orders.
        progress: Told about each.
        now_s: The clock, seconds.

    Returns:
        Both measurements, in the order of ``photographs``.

    Raises:
        ImageError: If one is no image.
    """
    count, width, passes = len(photographs), len(PLACEMENTS), 2 * repeats
    single, wide = np.zeros((passes, 4, count)), np.zeros((passes, 2, count, width))
    sent_bytes = np.zeros((count, width))
    facts: dict[int, ImageFacts] = {}
    rng = np.random.default_rng(seed)
    progress.begin("measured", passes * count)
    for turn in range(passes):
        for number in rng.permutation(count).tolist():
            data = photographs[number].read_bytes()
            facts[number] = read_facts(data)
            decode(data, shorter_side_px=SIDE_PX)
            found = _measure_once(data, now_s)
            single[turn, :, number], wide[turn, :, number], sent_bytes[number] = found
            progress.advance(photographs[number].name)
    ordered = tuple(facts[number] for number in range(count))
    first, second = (_fastest(ordered, single[one::2], wide[one::2], sent_bytes) for one in (0, 1))
    return first, second


def prepare(data: bytes, placement: int) -> bytes:
    """Return what crosses: all that the device does."""
    if placement == FILE:
        return data
    pixels = fit(decode(data, shorter_side_px=SIDE_PX), PIPELINE)
    if placement == TENSOR:
        return planar(pixels, PIPELINE).tobytes()
    return IMAGE_CODECS[PLACEMENTS[placement]].encode(pixels)


def receive(data: bytes, placement: int) -> NDArray[np.float32]:
    """Return the network's input: all that the server does with what arrived."""
    if placement == FILE:
        return _input_of(fit(decode(data, shorter_side_px=SIDE_PX), PIPELINE))
    if placement == TENSOR:
        planes = np.frombuffer(data, np.uint8).reshape(PIPELINE.tensor_shape)
        return normalise(planes, PIPELINE)
    return _input_of(decode_cropped(data, PIPELINE))


def _measure_once(
    data: bytes, now_s: Callable[[], float]
) -> tuple[list[float], list[list[float]], list[int]]:
    """Return decoding and resizing on both sides, encoding and receiving, and what crosses."""

    def timed(do: Callable[[], T]) -> tuple[T, float]:
        begun_at_s = now_s()
        made = do()
        return made, now_s() - begun_at_s

    image, decode_s = timed(lambda: decode(data, shorter_side_px=SIDE_PX))
    pixels, resize_s = timed(lambda: fit(image, PIPELINE))
    crossing, encode_s = [data], [0.0]
    for codec in IMAGE_CODECS.values():
        made, seconds = timed(lambda codec=codec: codec.encode(pixels))  # type: ignore[misc]
        crossing.append(made)
        encode_s.append(seconds)
    planes, seconds = timed(lambda: planar(pixels, PIPELINE).tobytes())
    crossing.append(planes)
    encode_s.append(seconds)

    image, file_decode_s = timed(lambda: decode(data, shorter_side_px=SIDE_PX))
    _, file_resize_s = timed(lambda: _input_of(fit(image, PIPELINE)))
    received_s = [file_decode_s + file_resize_s]
    for placement in range(1, len(PLACEMENTS)):
        _, seconds = timed(
            lambda placement=placement: receive(crossing[placement], placement)  # type: ignore[misc]
        )
        received_s.append(seconds)
    single = [decode_s, resize_s, file_decode_s, file_resize_s]
    return single, [encode_s, received_s], [len(one) for one in crossing]


def _fastest(
    facts: tuple[ImageFacts, ...], single: _Floats, wide: _Floats, sent_bytes: _Floats
) -> Times:
    """Return one measurement of its passes, ``[passes, 4, N]`` and ``[passes, 2, N, P]``."""
    decode_s, resize_s, file_decode_s, file_resize_s = single.min(axis=0)
    encode_s, received_s = wide.min(axis=0)
    return Times(
        facts, decode_s, resize_s, file_decode_s, file_resize_s, encode_s, received_s, sent_bytes
    )


def _input_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return normalise(planar(pixels, PIPELINE), PIPELINE)
