"""Rate: bytes per second of one direction of a link, as its exchanges told. It knows no round trip.

A rate on a radio link moves from one second to the next and yet keeps returning to where it was for
minutes; on a wire it hardly moves, and what differs between exchanges is noise. So three memories
are kept: the last exchange, an average of about five, and one of about thirty. What is expected
lies between them, where it has lain so far. Averages are of rates and not of times: a second
without reception, a thousand times slower than usual, would own any average of times for long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from isthmus.estimation.limits import RATE_LIMITS_BYTES_PER_S, clipped

__all__ = ["Cusum", "Memory", "Rate", "Share"]

_RECENT_WEIGHT = 0.2
_LONG_WEIGHT = 0.03
_CHANGED_WEIGHT = 0.5
_LEAST_DIVISOR = 0.1
_VARIANCE_WEIGHT = 0.2
_LEAST_VARIANCE = 1e-4
_MOST_VARIANCE = 0.5
_OUTLIER_SDS = 3.0
_LEAD = 0.5
_LEAST_TIME = 0.1

_SHARE_PRIOR = 0.5
_SHARE_PRIOR_WEIGHT = 4.0
_SHARE_MEMORY = 0.98
_MOST_SHARE = 0.95
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
    def is_suspicious(self) -> bool:
        """Whether an outlier, or more than that, has not been made up for."""
        return max(self.above, self.below) >= _CUSUM_MOST_SDS - _CUSUM_SLACK_SDS

    @property
    def has_changed(self) -> bool:
        """Whether the errors are no longer around zero."""
        return max(self.above, self.below) > _CUSUM_LIMIT_SDS


@dataclass(frozen=True, slots=True)
class Memory:
    """An average of rates that weighs each exchange by what it tells.

    Attributes:
        bytes_per_s: The average.
        weight: Its own variance over that of an exchange's rate: what the next exchange counts, if
            it is believed entirely. Exchanges make it smaller only as far as they tell something.
    """

    bytes_per_s: float
    weight: float

    def observe(
        self, seen_bytes_per_s: float, *, expected: float, trust: float, shared: float, least: float
    ) -> Memory:
        """Return the average after one exchange.

        Args:
            seen_bytes_per_s: What the exchange's rate is believed to have been.
            expected: What it was expected to be, bytes per second.
            trust: As for ``Rate.observe``.
            shared: As for ``Rate.observe``.
            least: Weight that it keeps at least, so that it forgets.

        References:
            Kalman, "A new approach to linear filtering and prediction problems", 1960: its gain for
            a constant, whose error may go together with that of the round trip.
        """
        own = max(self.weight + shared, 0.0)
        gain = own / max(1 + shared, _LEAST_DIVISOR)
        # What is not to be believed leaves the average where it is.
        off = seen_bytes_per_s - expected + trust * (expected - self.bytes_per_s)
        low, _ = RATE_LIMITS_BYTES_PER_S
        return Memory(
            max(self.bytes_per_s + gain * off, low), max(self.weight - trust * gain * own, least)
        )

    def lowered(self, seen_bytes_per_s: float, trust: float) -> Memory:
        """Return the average after an exchange that was no faster than this."""
        low, _ = RATE_LIMITS_BYTES_PER_S
        off = min(self.weight * trust * (seen_bytes_per_s - self.bytes_per_s), 0.0)
        return replace(self, bytes_per_s=max(self.bytes_per_s + off, low))


@dataclass(frozen=True, slots=True)
class Share:
    """How much of one deviation is found again in another: a recursive regression.

    Attributes:
        together: Sum of their products, both relative to the rate.
        spread: Sum of the squares of the first.
    """

    together: float = 0.0
    spread: float = 0.0

    def observe(self, before: float, after: float) -> Share:
        """Return the sums after one more pair; each counts as 1 at most."""
        before, after = clipped(before, (-1.0, 1.0)), clipped(after, (-1.0, 1.0))
        return Share(
            _SHARE_MEMORY * self.together + before * after,
            _SHARE_MEMORY * self.spread + before * before,
        )

    def given(self, variance: float) -> float:
        """Return the share, 0 to 0.95; a half until deviations of this variance told otherwise."""
        prior = _SHARE_PRIOR_WEIGHT * variance
        found = (self.together + _SHARE_PRIOR * prior) / (self.spread + prior)
        return clipped(found, (0.0, _MOST_SHARE))


@dataclass(frozen=True, slots=True)
class Rate:
    """What is known of a direction's rate; ``observe`` returns the next.

    Attributes:
        last_bytes_per_s: What the last exchange's is believed to have been: where it told nothing,
            what was expected, so that what came before fades.
        recent: Average of about five exchanges.
        long: Average of about thirty.
        variance: Of an exchange's rate around ``mean_bytes_per_s``, relative to it, squared.
        count: Exchanges since the prior or the last change.
        of_last: How far an exchange lies where the one before it did, seen from the averages.
        of_recent: How far one lies where the recent average does, seen from the long one.
        cusum: Watches for a change.
    """

    last_bytes_per_s: float
    recent: Memory
    long: Memory
    variance: float
    count: float = 0.0
    of_last: Share = field(default_factory=Share)
    of_recent: Share = field(default_factory=Share)
    cusum: Cusum = field(default_factory=Cusum)

    @staticmethod
    def known(bytes_per_s: float, variance: float, *, count: float = 0.0) -> Rate:
        """Return a rate of which nothing is known but what is expected.

        Args:
            bytes_per_s: What is expected of the next exchange.
            variance: Of that, relative, squared.
            count: Exchanges that told it; what is expected counts as one more.
        """
        mean = bytes_per_s / _lead(variance)
        weight = 1 / (count + 2)
        return Rate(
            mean,
            Memory(mean, max(weight, _RECENT_WEIGHT)),
            Memory(mean, max(weight, _LONG_WEIGHT)),
            variance,
            count,
        )

    @property
    def share(self) -> float:
        """How much the next exchange resembles the last one rather than the averages, 0 to 0.95."""
        return self.of_last.given(self.variance)

    @property
    def average_bytes_per_s(self) -> float:
        """Between the recent and the long average, where exchanges have lain."""
        long = self.long.bytes_per_s
        return long + self.of_recent.given(self.variance) * (self.recent.bytes_per_s - long)

    @property
    def mean_bytes_per_s(self) -> float:
        """Mean of the next exchange's rate."""
        share = self.share
        return share * self.last_bytes_per_s + (1 - share) * self.average_bytes_per_s

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
        return _lead(self.variance)

    def observe(
        self,
        error_ratio: float,
        trust: float,
        error_sds: float,
        *,
        shared: float = 0.0,
        is_telling: bool = True,
    ) -> Rate:
        """Return the rate after one exchange.

        Args:
            error_ratio: How much longer than expected a byte took, relative.
            trust: Which part of that is to be believed, the rest being the round trip's or the
                other direction's, 0 to 1.
            error_sds: The exchange's whole error in standard deviations, positive if it was slow.
            shared: Covariance of the errors of a byte's time and of the round trips in this
                exchange, over the variance of the former.
            is_telling: Whether the exchange was large enough to say that the rate has changed.
        """
        mean = self.mean_bytes_per_s
        seen = mean / max(1 + trust * error_ratio, _LEAST_TIME)
        seen = clipped(seen, RATE_LIMITS_BYTES_PER_S)
        recent, long = (
            memory.observe(seen, expected=mean, trust=trust, shared=shared, least=least)
            for memory, least in ((self.recent, _RECENT_WEIGHT), (self.long, _LONG_WEIGHT))
        )
        error = seen / mean - 1
        most = _OUTLIER_SDS * math.sqrt(self.variance) + 0.02
        error = clipped(error, (-most, most))
        # What tells little of the rate tells less still of how much it varies.
        weight = _VARIANCE_WEIGHT * trust
        variance = self.variance * (1 - weight * trust) + weight * error * error
        count, of_last, of_recent, cusum = (
            self.count + trust, self.of_last, self.of_recent, self.cusum,
        )  # fmt: skip
        if trust >= _TELLING:
            average, before = self.average_bytes_per_s, self.long.bytes_per_s
            of_last = of_last.observe(
                (self.last_bytes_per_s - average) / mean, (seen - average) / mean
            )
            of_recent = of_recent.observe(
                (self.recent.bytes_per_s - before) / mean, (seen - before) / mean
            )
            # Where the last exchange is followed closely, averages that are left behind tell more.
            behind_sds = math.log(average / seen) * math.sqrt((1 - self.share**2) / self.variance)
            if is_telling:
                cusum = cusum.observe(max(error_sds, behind_sds, key=abs))
            if cusum.has_changed:
                recent = long = Memory(seen, _CHANGED_WEIGHT)
                count, cusum = 1.0, Cusum()
        return Rate(
            seen,
            recent,
            long,
            clipped(variance, (_LEAST_VARIANCE, _MOST_VARIANCE)),
            count,
            of_last,
            of_recent,
            cusum,
        )

    def at_most(self, error_ratio: float, trust: float, error_sds: float) -> Rate:
        """Return the rate after an exchange that was cancelled: it was no faster than this.

        Args:
            error_ratio: How much longer than expected a byte took at least, relative, positive.
            trust: As for ``observe``.
            error_sds: As for ``observe``.
        """
        low, _ = RATE_LIMITS_BYTES_PER_S
        seen = self.mean_bytes_per_s / (1 + trust * error_ratio)
        last = self.last_bytes_per_s
        last = max(min(last, last + trust * (seen - last)), low)
        recent, long = self.recent.lowered(seen, trust), self.long.lowered(seen, trust)
        cusum = self.cusum.observe(error_sds) if trust >= _TELLING else self.cusum
        if cusum.has_changed:
            recent, long = (
                Memory(min(memory.bytes_per_s, last), _CHANGED_WEIGHT) for memory in (recent, long)
            )
            cusum = Cusum()
        return replace(self, last_bytes_per_s=last, recent=recent, long=long, cusum=cusum)


def _lead(variance: float) -> float:
    return 1 + _LEAD * variance
