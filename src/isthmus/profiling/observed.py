"""What was seen while one row of a plan table ran, as values that can be kept and summarised.

It runs nothing (``profiling.plans`` does) and makes no costs of it (``profiling.entries`` does).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from isthmus.profiling.measure import Measurement, measurement_of
from isthmus.types.plan import PlanRow

__all__ = ["MEASURED", "Observed", "RowRuns", "steady_stages"]

MEASURED = ("preprocess", "head", "encode", "server_decode", "server", "tail")
"""Stages whose time is a constant of the row; the others follow from the image and the link."""


@dataclass(frozen=True)
class Observed:
    """One run of one row.

    Attributes:
        seconds: By stage, of those that are ``MEASURED``.
        sent_bytes: Bytes written to the server, the photograph's own included.
        received_bytes: Bytes of the reply's body.
        file_bytes: Size of the photograph.
        sent_file: Whether the photograph's file crossed the link as it is.
    """

    seconds: Mapping[str, float]
    sent_bytes: int
    received_bytes: int
    file_bytes: int
    sent_file: bool = False

    def steady_s(self, row: PlanRow) -> float:
        """Return the seconds of the stages that depend neither on the photograph nor the link."""
        return sum(self.seconds.get(stage, 0.0) for stage in steady_stages(row))


@dataclass(frozen=True)
class RowRuns:
    """All runs of one row.

    Attributes:
        row: What it does.
        blocks: The runs, in blocks of consecutive ones; none is empty.
        precision_ratio: How well the median was to be known.
        is_complete: Whether measuring ended by itself: the median was known, or the time spent.
    """

    row: PlanRow
    blocks: tuple[tuple[Observed, ...], ...] = field(repr=False)
    precision_ratio: float
    is_complete: bool

    @cached_property
    def measurement(self) -> Measurement:
        """Of the steady seconds."""
        return measurement_of([[o.steady_s(self.row) for o in block] for block in self.blocks])

    @cached_property
    def counted(self) -> tuple[Observed, ...]:
        """The runs without the warm-ups."""
        warm_ups = self.measurement.warm_ups_by_block
        return tuple(
            one for block, skip in zip(self.blocks, warm_ups, strict=True) for one in block[skip:]
        )

    @property
    def is_known(self) -> bool:
        """Whether the median is known as well as it was to be."""
        return self.measurement.half_width_ratio <= self.precision_ratio

    def satisfies(self, precision_ratio: float) -> bool:
        """Whether measuring again with this precision would be of no use."""
        return self.is_complete and (
            self.precision_ratio <= precision_ratio
            or self.measurement.half_width_ratio <= precision_ratio
        )

    def median_s(self, stage: str) -> float:
        """Return the median of one stage."""
        return float(np.median([one.seconds.get(stage, 0.0) for one in self.counted]))

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads; the row is not part of it."""
        return {
            "precision_ratio": self.precision_ratio,
            "is_complete": self.is_complete,
            "blocks": [[asdict(one) for one in block] for block in self.blocks],
        }

    @staticmethod
    def from_json(row: PlanRow, content: Mapping[str, Any]) -> RowRuns | None:
        """Return kept runs of a row, or ``None`` if they are not what this version keeps."""
        try:
            blocks = tuple(tuple(_observed(one) for one in block) for block in content["blocks"])
            runs = RowRuns(
                row, blocks, float(content["precision_ratio"]), bool(content["is_complete"])
            )
            _ = runs.measurement
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return None
        return runs


def steady_stages(row: PlanRow) -> Sequence[str]:
    """Return the measured stages of a row that do not depend on the photograph."""
    if row.family == "file":
        return [stage for stage in MEASURED if stage != "server_decode"]
    return MEASURED


def _observed(entry: Mapping[str, Any]) -> Observed:
    return Observed(
        {str(stage): float(seconds) for stage, seconds in entry["seconds"].items()},
        int(entry["sent_bytes"]),
        int(entry["received_bytes"]),
        int(entry["file_bytes"]),
        bool(entry["sent_file"]),
    )
