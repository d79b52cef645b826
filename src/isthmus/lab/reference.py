"""Reference: the unsplit network, in a session of its own, to compare every answer with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from isthmus.errors import LabError
from isthmus.runtime import image
from isthmus.runtime.session import Session
from isthmus.types.variant import Variant

__all__ = ["Reference"]


class Reference:
    """The unsplit network's answers; a context manager."""

    def __init__(self, path: Path, variant: Variant) -> None:
        """Load the file as it is, neither from a bundle nor from a server.

        Args:
            path: The ONNX file.
            variant: How its input is made.
        """
        if variant.pipeline is None:
            raise LabError(f"{variant.name} has no input pipeline")
        self._pipeline = variant.pipeline
        self._session = Session(path)
        self._answers: dict[str, dict[str, np.ndarray]] = {}

    def __enter__(self) -> Self:
        """Return the reference itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the memory back."""
        self._session.close()

    def compare(
        self, name: str, photograph: bytes, outputs: Mapping[str, np.ndarray]
    ) -> tuple[bool, float]:
        """Return whether the top-1 is the unsplit network's, and the largest difference.

        Args:
            name: The photograph's name; its answer is computed once.
            photograph: Its file.
            outputs: What a plan answered.

        Raises:
            LabError: If the outputs are not the network's.
        """
        if name not in self._answers:
            self._answers[name] = self._answer(photograph)
        expected = self._answers[name]
        if {key: value.shape for key, value in outputs.items()} != {
            key: value.shape for key, value in expected.items()
        }:
            raise LabError(f"{name}: outputs {sorted(outputs)} instead of {sorted(expected)}")
        same = all(np.argmax(outputs[key]) == np.argmax(expected[key]) for key in expected)
        error = max(float(np.abs(outputs[key] - expected[key]).max()) for key in expected)
        return same, error

    def _answer(self, photograph: bytes) -> dict[str, np.ndarray]:
        decoded = image.decode(photograph, shorter_side_px=self._pipeline.resize_shorter_side_px)
        planar = image.planar(image.fit(decoded, self._pipeline), self._pipeline)
        tensor = image.normalise(planar, self._pipeline)
        return self._session.run({self._session.inputs[0].name: tensor})
