"""The affine map between bytes and numbers, shared by the input pipeline and the u8 codecs.

``x = (q - zero_point) * scale``, with one pair for a tensor or one for each channel. One function
maps back, so that a photograph that crosses as bytes and is mapped on the server gives bit for
bit the tensor that the device would have made. It moves no bytes and trusts its caller.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import CodecError

__all__ = ["LARGEST", "LEVELS", "dequantise", "quantise", "quantise_channels"]

LEVELS = 255
LARGEST = float(np.finfo(np.float32).max)

_SMALLEST = float(np.finfo(np.float32).tiny)  # steps below it lose digits, or are 0
_CHANNEL_LEVELS = 253  # two fewer: one for the rounded step, one for the rounded zero point


def quantise(array: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, float]:
    """Return bytes, scale and zero point; the range is [min, max], [0, max] after a ReLU.

    Args:
        array: float32, any shape; may be empty.

    Returns:
        uint8 of the same shape, one scale, one zero point. The error is half a scale at most.

    Raises:
        CodecError: If a value is not finite, or the span is beyond float32.
    """
    if array.size == 0:
        return np.zeros(array.shape, np.uint8), 1.0, 0.0
    low, high = float(array.min()), float(array.max())
    span = high - low
    _check_span(low, high, span)
    scale = span / LEVELS
    if np.float32(scale) < _SMALLEST:  # constant, or as good as that
        return np.zeros(array.shape, np.uint8), 1.0, -low
    inverse = np.float32(1 / scale)
    steps = array * inverse if low == 0 else (array - np.float32(low)) * inverse
    steps += np.float32(0.5)
    return steps.astype(np.uint8), scale, (0.0 - low) / scale


def quantise_channels(
    array: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], list[float], list[float]]:
    """Return bytes, and a scale and zero point for each channel, the second axis.

    Both travel as JSON, so they are short: the scale is rounded up to four digits and the zero
    point to an integer, at the price of two of 255 levels. A constant channel has scale 1.

    Args:
        array: float32 of at least two dimensions; may be empty.

    Returns:
        uint8 of the same shape, and two lists as long as its second axis. The error is half a
        channel's scale at most.

    Raises:
        CodecError: If a value is not finite, or a channel's span is beyond float32.
    """
    channels = array.shape[1]
    if array.size == 0:
        return np.zeros(array.shape, np.uint8), [1.0] * channels, [0.0] * channels
    others = tuple(axis for axis in range(array.ndim) if axis != 1)
    low = array.min(axis=others).astype(np.float64)
    high = array.max(axis=others).astype(np.float64)
    with np.errstate(invalid="ignore"):
        span = high - low  # NaN where both ends are the same infinity
    worst = int(np.argmax(~(span <= LARGEST)))
    _check_span(low[worst], high[worst], span[worst])
    is_constant = span / _CHANNEL_LEVELS < _SMALLEST
    scales = [
        1.0 if constant else float(f"{step * 1.0005:.4g}")  # rounds up: 4 digits, and half of one
        for step, constant in zip((span / _CHANNEL_LEVELS).tolist(), is_constant, strict=True)
    ]
    scale = np.array(scales)
    zero_points = np.where(is_constant, -low, np.ceil(-low / scale)) + 0.0  # no -0
    offsets = -zero_points * scale
    ends = np.maximum.reduce(np.abs([offsets, LEVELS * scale, offsets + LEVELS * scale]))
    farthest = int(np.argmax(ends))
    if ends[farthest] > LARGEST:  # the levels reach a little farther than the values
        raise CodecError(f"values from {low[farthest]} to {high[farthest]} are beyond one byte")
    along = [1] * array.ndim
    along[1] = -1
    steps = array - offsets.astype(np.float32).reshape(along) if offsets.any() else array
    steps = steps * (1 / scale).astype(np.float32).reshape(along)
    steps += np.float32(0.5)
    zeros = [int(z) if z.is_integer() else z for z in zero_points.tolist()]
    return steps.astype(np.uint8), scales, zeros


def dequantise(
    quantised: NDArray[np.uint8],
    *,
    scale: float | Sequence[float],
    zero_point: float | Sequence[float],
    axis: int | None = None,
) -> NDArray[np.float32]:
    """Return ``(quantised - zero_point) * scale`` in float32.

    Computed as ``quantised * scale + offset`` with ``offset = -zero_point * scale`` rounded once
    from float64, which stays exact where the zero point is far larger than 255.

    Args:
        quantised: uint8, any shape.
        scale: One number, or one for each index along ``axis``.
        zero_point: The same, in the units of ``quantised``.
        axis: The axis of the sequences; ``None`` if both are single numbers.

    Returns:
        float32 of the same shape, freshly allocated.
    """
    scales = np.asarray(scale, dtype=np.float64)
    offsets = 0.0 - np.asarray(zero_point, dtype=np.float64) * scales
    if axis is not None:
        along = [1] * quantised.ndim
        along[axis] = -1
        scales, offsets = scales.reshape(along), offsets.reshape(along)
    values = np.multiply(quantised, scales.astype(np.float32), dtype=np.float32)
    values = np.asarray(values)  # a zero-dimensional product is a scalar, which cannot be added to
    values += offsets.astype(np.float32)
    return values


def _check_span(low: float, high: float, span: float) -> None:
    if not span <= LARGEST:  # also where an end is NaN or infinite: both pass through min and max
        raise CodecError(f"values from {low} to {high} cannot be quantised to one byte")
