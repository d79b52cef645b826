"""Codec: tensor to bytes and back. Implementations live in ``runtime.codecs``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["Codec", "Payload"]


@dataclass(frozen=True)
class Payload:
    """One encoded tensor, as an Open Inference Protocol tensor carries it.

    Attributes:
        datatype: Open Inference Protocol datatype of ``data``, e.g. ``FP32``, ``UINT8``, ``BYTES``.
        shape: Shape of the tensor that it decodes to.
        data: The bytes that cross the link.
        parameters: What the decoder must know, JSON values only; ``codec`` is absent for raw.
    """

    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview
    parameters: Mapping[str, Any]


class Codec(Protocol):
    """Tensor to bytes, in one message that says how to decode it."""

    @property
    def name(self) -> str:
        """E.g. ``raw`` or ``u8+zstd``."""

    @property
    def is_lossless(self) -> bool:
        """Whether decoding gives back every bit."""

    def encode(self, array: np.ndarray) -> Payload:
        """Return the payload of ``array``.

        Raises:
            CodecError: If the array cannot be encoded (dtype, or values that are not finite).
        """
