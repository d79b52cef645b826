"""A share that was counted, and how well the count tells it. It counts nothing itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Proportion"]

_Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Proportion:
    """So many of so many.

    Attributes:
        counted: How many, 0 to ``of``.
        of: Out of how many; 0 if nobody has counted.

    Raises:
        ValueError: If the numbers are no such counts.

    Examples:
        >>> Proportion(995, 1000).ratio
        0.995
        >>> tuple(round(bound, 4) for bound in Proportion(1000, 1000).interval)
        (0.9962, 1.0)
        >>> tuple(round(bound, 4) for bound in Proportion(995, 1000).interval)
        (0.9883, 0.9979)
    """

    counted: int
    of: int

    def __post_init__(self) -> None:
        """Check the counts."""
        if not 0 <= self.counted <= self.of:
            raise ValueError(f"{self.counted} of {self.of} is no proportion")

    @property
    def ratio(self) -> float:
        """The share itself, 0 to 1; 0 if nobody has counted."""
        return self.counted / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval: lower and upper bound, 0 to 1.

        Unlike ``p +- 1.96 sd`` it is not empty where all or none were counted. It takes the
        trials for independent.

        References:
            Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
            JASA 1927.
        """
        if self.of == 0:
            return 0.0, 1.0
        p, n, z = self.ratio, self.of, _Z95
        centre = p + z * z / (2 * n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = (bound / (1 + z * z / n) for bound in (centre - half, centre + half))
        return (low if self.counted else 0.0), (high if self.counted < self.of else 1.0)
