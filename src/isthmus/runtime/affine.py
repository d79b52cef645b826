"""The affine map from bytes to numbers, shared by the input pipeline and the u8 codec.

One function, so that a photograph that crosses as bytes and is mapped on the server gives
bit for bit the tensor that the device would have made. It chooses no scale and moves no bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["dequantise"]


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
