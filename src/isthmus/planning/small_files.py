"""Small files: what a row that resizes becomes where its image would be no smaller than the file.

The device then sends the file as it is (``runtime.plan_runner``), and the server does what it does
for the ``file`` row of the same network. Whether it comes to that is told by the row's mean: an
image differs from the mean by some kilobytes, so that a file as small as the mean is sent in about
half of the cases, and predicted bytes are never too few on the mean. It chooses no plans.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.types.conditions import ImageFacts
from isthmus.types.plan import STAGES, PlanTable

__all__ = ["SmallFiles", "message_bytes", "small_files_of", "with_file_sent"]

_CONNECT = STAGES.index("connect")
_UPLOAD = STAGES.index("upload")
_OF_MESSAGES = ("sent_bytes", "sent_bytes_sd", "accuracy", "agreement")
"""A table's arrays that say what is sent, and what that keeps of the answers."""


class SmallFiles(NamedTuple):
    """Which rows of a table may send the file in the place of the image that they make.

    Attributes:
        rows: The rows, int ``[R]``, those first that send the smallest files alone.
        twins: The ``file`` row of the same network, int ``[R]``.
        limits_bytes: The largest file that each of them sends as it is, ``R`` of them, ascending.
    """

    rows: NDArray[np.intp]
    twins: NDArray[np.intp]
    limits_bytes: tuple[float, ...]

    def images_made(self, image: ImageFacts | None) -> int:
        """Return how many of ``rows`` send the image that they make of a photograph."""
        return (
            len(self.limits_bytes)
            if image is None
            else bisect_left(self.limits_bytes, image.file_bytes)
        )


def small_files_of(table: PlanTable) -> SmallFiles:
    """Return which rows of a table may send the file; none of networks without a ``file`` row."""
    files = {_of(table, i): i for i, row in enumerate(table.rows) if row.family == "file"}
    found = [
        (float(table.sent_bytes[i] - table.sent_bytes[twin]), i, twin)
        for i, row in enumerate(table.rows)
        if row.family == "resized" and (twin := files.get(_of(table, i))) is not None
    ]
    found.sort()
    return SmallFiles(
        np.array([i for _, i, _ in found], np.intp),
        np.array([twin for *_, twin in found], np.intp),
        tuple(limit for limit, *_ in found),
    )


def with_file_sent(table: PlanTable, small: SmallFiles, images_made: int) -> PlanTable:
    """Return a table in which rows of ``small`` send the file, but for the first so many.

    Such a row keeps its own work on the device, since the image is made before it is known how
    large it is. All behind that is the ``file`` row's, and so are its accuracy and its agreement:
    what the server gets has lost nothing.
    """
    rows, twins = small.rows[images_made:], small.twins[images_made:]
    if not len(rows):
        return table
    changed = ("coefficients", "residual_s", *_OF_MESSAGES)
    arrays = {name: getattr(table, name).copy() for name in changed}
    arrays["coefficients"][rows, _CONNECT:] = table.coefficients[twins, _CONNECT:]
    arrays["residual_s"][rows] = np.maximum(table.residual_s[rows], table.residual_s[twins])
    for name in _OF_MESSAGES:
        arrays[name][rows] = arrays[name][twins]
    return replace(table, **arrays)


def message_bytes(
    table: PlanTable, small: SmallFiles, image: ImageFacts | None
) -> NDArray[np.float64]:
    """Return what each row is predicted to send, the photograph included, float64 ``[P]``."""
    if image is None or "uplink_file_s" not in table.columns:
        return table.sent_bytes
    files = table.coefficients[:, _UPLOAD, table.columns.index("uplink_file_s")]
    sent_bytes = table.sent_bytes + files * image.file_bytes
    sent_bytes[small.rows] = np.minimum(sent_bytes[small.rows], sent_bytes[small.twins])
    return np.asarray(sent_bytes)


def _of(table: PlanTable, index: int) -> tuple[str, str, str, tuple[str, ...]]:
    """Return what a row has in common with the ``file`` row that does the rest as it does."""
    row = table.rows[index]
    return row.variant, row.unit, row.exit, row.cloud_tensors
