"""Rate: bytes per second of one direction of a link, as its exchanges told. It knows no round trip.

A rate on a radio link moves from one second to the next and yet keeps returning to where it was for
minutes. So two memories are kept, the last exchange and a long average, and what is expected lies
between them, where it has lain so far. Averages are of rates and not of times: a second without
reception, a thousand times slower than usual, would own any average of times for long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

__all__ = ["Rate"]

LIMITS_BYTES_PER_S = (1.0, 1e12)

_LONG_WEIGHT = 0.2
_VARIANCE_WEIGHT = 0.2
_LEAST_VARIANCE = 1e-4
_MOST_VARIANCE = 0.5
_OUTLIER_SDS = 3.0
_LEAD = 0.5
_LEAST_TIME = 0.1

_SHARE_PRIOR = 0.5
_MOST_SHARE = 0.9
_SHARE_PRIOR_WEIGHT = 2.0
_SHARE_MEMORY = 0.97
_TELLING = 0.5

_CUSUM_SLACK_SDS = 1.0
_CUSUM_LIMIT_SDS = 5.0
_CUSUM_MOST_SDS = 3.0


@dataclass(frozen=True, slots=True)
class Cusum:
    """Two-sided cumulative sum of standardised errors: has what makes them changed?

    References:
        Page, "Continuous inspection schemes", Biometrika 1954. *Departs*: one error counts at most
        three standard deviations, so that one outlier is never a change.
    """

    above: float = 0.0
    below: float = 0.0

    def observe(self, error_sds: float) -> Cusum:
        """Return the sums after one error, in standard deviations."""
        error_sds = min(max(error_sds, -_CUSUM_MOST_SDS), _CUSUM_MOST_SDS)
        return Cusum(
            max(0.0, self.above + error_sds - _CUSUM_SLACK_SDS),
            max(0.0, self.below - error_sds - _CUSUM_SLACK_SDS),
        )

    @property
    def has_changed(self) -> bool:
        """Whether the errors are no longer around zero."""
        return max(self.above, self.below) > _CUSUM_LIMIT_SDS


@dataclass(frozen=True, slots=True)
class Rate:
    """What is known of a direction's rate; ``observe`` returns the next.

    Attributes:
        last_bytes_per_s: Of the last exchange.
        long_bytes_per_s: Long average.
        variance: Of an exchange's rate around ``mean_bytes_per_s``, relative to it, squared.
        count: Exchanges since the prior or the last change.
        together: Sum of products of two deviations from the long average, both relative: the last
            exchange's and that of the one after it.
        spread: Sum of the squares of the first.
        cusum: Watches for a change.
    """

    last_bytes_per_s: float
    long_bytes_per_s: float
    variance: float
    count: float = 0.0
    together: float = _SHARE_PRIOR * _SHARE_PRIOR_WEIGHT
    spread: float = _SHARE_PRIOR_WEIGHT
    cusum: Cusum = field(default_factory=Cusum)

    @property
    def share(self) -> float:
        """How much the next exchange resembles the last one rather than the average, 0 to 0.7.

        The coefficient of the recursive regression of one exchange's deviation from the average
        on that of the exchange before.
        """
        return min(max(self.together / self.spread, 0.0), _MOST_SHARE)

    @property
    def mean_bytes_per_s(self) -> float:
        """Mean of the next exchange's rate."""
        share = self.share
        return share * self.last_bytes_per_s + (1 - share) * self.long_bytes_per_s

    @property
    def expected_bytes_per_s(self) -> float:
        """Rate by which the next exchange's duration is predicted with the least relative error.

        An error of a short duration weighs more, so that it lies above the mean rate: by half
        the variance, as for a log-normal rate.
        """
        return self.mean_bytes_per_s * self.lead

    @property
    def lead(self) -> float:
        """How far ``expected_bytes_per_s`` lies above the mean rate, as a factor."""
        return 1 + _LEAD * self.variance

    def observe(self, error_ratio: float, trust: float, error_sds: float) -> Rate:
        """Return the rate after one exchange.

        Args:
            error_ratio: How much longer than expected a byte took, relative.
            trust: Which part of that is to be believed, the rest being the round trip's or the
                other direction's, 0 to 1.
            error_sds: The exchange's whole error in standard deviations, positive if it was slow.
        """
        mean = self.mean_bytes_per_s
        low, high = LIMITS_BYTES_PER_S
        seen = mean / max(1 + trust * error_ratio, _LEAST_TIME)
        seen = min(max(seen, low), high)
        long = self.long_bytes_per_s
        # What is not to be believed leaves each memory where it is.
        kept = 1 - trust
        last_next = max(seen + kept * (self.last_bytes_per_s - mean), low)
        weight = max(_LONG_WEIGHT, 1 / (self.count + 2))
        long_next = long + weight * (seen + kept * (long - mean) - long)
        error = seen / mean - 1
        most = _OUTLIER_SDS * math.sqrt(self.variance) + 0.02
        error = min(max(error, -most), most)
        variance = self.variance * (1 - _VARIANCE_WEIGHT * trust)
        variance += _VARIANCE_WEIGHT * error * error
        together, spread, cusum, count = self.together, self.spread, self.cusum, self.count + trust
        if trust >= _TELLING:
            before = min(max((self.last_bytes_per_s - long) / mean, -1.0), 1.0)
            after = min(max((seen - long) / mean, -1.0), 1.0)
            prior = (1 - _SHARE_MEMORY) * _SHARE_PRIOR_WEIGHT
            together = _SHARE_MEMORY * together + prior * _SHARE_PRIOR + before * after
            spread = _SHARE_MEMORY * spread + prior + before * before
            cusum = cusum.observe(error_sds)
            if cusum.has_changed:
                long_next, count, cusum = last_next, 1.0, Cusum()
        return Rate(
            last_next,
            max(long_next, low),
            _clipped(variance, (_LEAST_VARIANCE, _MOST_VARIANCE)),
            count,
            together,
            spread,
            cusum,
        )

    def at_most(self, error_ratio: float, trust: float, error_sds: float) -> Rate:
        """Return the rate after an exchange that was cancelled: it was no faster than this.

        Args:
            error_ratio: How much longer than expected a byte took at least, relative, positive.
            trust: As for ``observe``.
            error_sds: As for ``observe``.
        """
        low, _ = LIMITS_BYTES_PER_S
        seen = self.mean_bytes_per_s / (1 + trust * error_ratio)
        weight = max(_LONG_WEIGHT, 1 / (self.count + 2))
        last, long = self.last_bytes_per_s, self.long_bytes_per_s
        last_next = max(min(last, last + trust * (seen - last)), low)
        long_next = max(min(long, long + trust * weight * (seen - long)), low)
        cusum = self.cusum.observe(error_sds) if trust >= _TELLING else self.cusum
        if cusum.has_changed:
            long_next, cusum = min(long_next, last_next), Cusum()
        return replace(self, last_bytes_per_s=last_next, long_bytes_per_s=long_next, cusum=cusum)


def _clipped(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(max(value, low), high)
