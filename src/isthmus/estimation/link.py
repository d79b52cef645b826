"""Estimate the link from exchanges: a plain moving average. It sends nothing and reads no clock.

One exchange tells one number, its duration, and three are wanted. So the larger part of what was
*predicted* learns from it: the rate if most of the predicted time is transfer, the round trip
otherwise. Sizes must be mixed for both to be right; with one size only, that size's time is.
It does not detect that the link has changed, beyond following the average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from isthmus.errors import ConditionsError
from isthmus.types.link import Link

__all__ = ["LinkEstimate"]

_WEIGHT = 0.25
_S_PER_BYTE_LIMITS = (1e-12, 1.0)
_RTT_LIMITS_S = (1e-6, 3600.0)
_LEAST_SHARE = 0.01
_PROBE_SD_RATIO = 0.1


@dataclass(frozen=True)
class _Average:
    """An exponentially weighted mean and variance of positive samples.

    Attributes:
        mean: Positive.
        variance: Not negative.
        count: Samples so far, the prior counting as one.
    """

    mean: float
    variance: float
    count: int = 1

    def with_sample(self, sample: float, limits: tuple[float, float]) -> _Average:
        """Return the average after ``sample``, clipped to ``limits`` and above zero.

        A sample weighs 1/4, the first ones after a prior more: 1/2, 1/3. One below a tenth of
        the mean, or negative because the rest was overestimated, counts as a tenth.
        """
        low, high = limits
        sample = min(max(sample, self.mean / 10, low), high)
        weight = max(_WEIGHT, 1 / (self.count + 1))
        error = sample - self.mean
        return _Average(
            self.mean + weight * error,
            (1 - weight) * (self.variance + weight * error * error),
            self.count + 1,
        )


@dataclass(frozen=True)
class LinkEstimate:
    """What the exchanges so far tell of the link; ``observe`` returns the next estimate.

    Attributes:
        uplink: Seconds per byte sent.
        downlink: Seconds per byte received; the same as ``uplink`` until ``is_downlink_known``.
        rtt: Round trip, seconds.
        is_downlink_known: Whether some reply was large enough to tell the downlink from the
            uplink.
    """

    uplink: _Average
    downlink: _Average
    rtt: _Average
    is_downlink_known: bool = False

    @staticmethod
    def from_link(link: Link) -> LinkEstimate:
        """Return an estimate that starts from ``link``, taken as a prior worth one exchange.

        The downlink counts as known if its rate is not the uplink's.
        """
        up, down = 1 / link.uplink_bytes_per_s, 1 / link.downlink_bytes_per_s
        up, down = (_clipped(value, _S_PER_BYTE_LIMITS) for value in (up, down))
        return LinkEstimate(
            _Average(up, (up * link.uplink_sd_ratio) ** 2),
            _Average(down, (down * link.downlink_sd_ratio) ** 2),
            _Average(_clipped(link.rtt_s, _RTT_LIMITS_S), link.rtt_sd_s**2),
            is_downlink_known=up != down,
        )

    @staticmethod
    def from_probe(exchanges: Sequence[tuple[int, int, float]]) -> LinkEstimate:
        """Return an estimate from a few timed exchanges, some small and at least one larger.

        Least squares of the relative error over ``rtt + s_per_byte * (sent + received)``. Where
        it comes out below 1 % of what the exchanges allow (noise, or one size only), it is
        clipped there; with one size only, half of the time counts as round trip.

        Args:
            exchanges: Bytes sent, bytes received and seconds without the server's own time, of
                each exchange; a duration may be slightly negative where clocks are coarse.

        Raises:
            ConditionsError: If there is no exchange, or one has no finite duration or no bytes.
        """
        for sent, received, elapsed_s in exchanges:
            if not (math.isfinite(elapsed_s) and sent + received > 0):
                raise ConditionsError(f"no exchange takes {elapsed_s} s for {sent + received} B")
        if not exchanges:
            raise ConditionsError("a probe needs at least one exchange")
        samples = [
            (float(sent + received), _clipped(elapsed_s, _RTT_LIMITS_S))
            for sent, received, elapsed_s in exchanges
        ]
        least_s = min(elapsed_s for _, elapsed_s in samples)
        most_bytes, most_s = max(samples)
        rtt_s, s_per_byte = _fit_line(samples)
        rtt_s = _clipped(max(rtt_s, _LEAST_SHARE * least_s), _RTT_LIMITS_S)
        s_per_byte = max(s_per_byte, _LEAST_SHARE * most_s / most_bytes)
        s_per_byte = _clipped(s_per_byte, _S_PER_BYTE_LIMITS)
        errors = [elapsed_s / (rtt_s + s_per_byte * size) - 1 for size, elapsed_s in samples]
        ratio = max(_PROBE_SD_RATIO, math.sqrt(sum(e * e for e in errors) / len(errors)))
        rate = _Average(s_per_byte, (ratio * s_per_byte) ** 2)
        return LinkEstimate(rate, rate, _Average(rtt_s, (ratio * rtt_s) ** 2))

    @property
    def link(self) -> Link:
        """The link as it is now believed to be, with standard deviations."""
        return Link(
            uplink_bytes_per_s=1 / self.uplink.mean,
            downlink_bytes_per_s=1 / self.downlink.mean,
            rtt_s=self.rtt.mean,
            uplink_sd_ratio=math.sqrt(self.uplink.variance) / self.uplink.mean,
            downlink_sd_ratio=math.sqrt(self.downlink.variance) / self.downlink.mean,
            rtt_sd_s=math.sqrt(self.rtt.variance),
        )

    def predicted_s(self, sent_bytes: float, received_bytes: float) -> float:
        """Return the expected duration of an exchange without the server's own time, seconds."""
        return self.rtt.mean + sent_bytes * self.uplink.mean + received_bytes * self.downlink.mean

    def observe(self, sent_bytes: int, received_bytes: int, elapsed_s: float) -> LinkEstimate:
        """Return the estimate after one exchange.

        If transfer is more than half of the predicted time, the direction that takes longer
        learns its seconds per byte and the round trip is kept; otherwise the round trip learns.

        Args:
            sent_bytes: Bytes written, framing included.
            received_bytes: Bytes of the reply.
            elapsed_s: The whole exchange minus the server's own time, seconds. May be slightly
                negative where the server's clock is coarse.

        Raises:
            ConditionsError: If the duration is not finite or a size is negative.
        """
        if not math.isfinite(elapsed_s) or min(sent_bytes, received_bytes) < 0:
            raise ConditionsError(
                f"no exchange sends {sent_bytes} B and receives {received_bytes} B in {elapsed_s} s"
            )
        up_s, down_s = sent_bytes * self.uplink.mean, received_bytes * self.downlink.mean
        if up_s + down_s <= self.rtt.mean:
            rtt = self.rtt.with_sample(elapsed_s - up_s - down_s, _RTT_LIMITS_S)
            return replace(self, rtt=rtt)
        rest_s = elapsed_s - self.rtt.mean
        if down_s > up_s:
            sample = (rest_s - up_s) / received_bytes
            downlink = self.downlink.with_sample(sample, _S_PER_BYTE_LIMITS)
            return replace(self, downlink=downlink, is_downlink_known=True)
        if self.is_downlink_known:
            sample = (rest_s - down_s) / sent_bytes
            return replace(self, uplink=self.uplink.with_sample(sample, _S_PER_BYTE_LIMITS))
        sample = rest_s / (sent_bytes + received_bytes)
        rate = self.uplink.with_sample(sample, _S_PER_BYTE_LIMITS)
        return replace(self, uplink=rate, downlink=rate)


def _clipped(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(max(value, low), high)


def _fit_line(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return intercept and slope that minimise the sum of squared relative errors.

    Where all sizes are equal the line is not determined: half of the mean time is intercept.

    Args:
        samples: Size and time, both positive, of each exchange.
    """
    weights = [1 / elapsed_s**2 for _, elapsed_s in samples]
    total = sum(weights)
    size = sum(w * x for w, (x, _) in zip(weights, samples, strict=True)) / total
    time = sum(w * y for w, (_, y) in zip(weights, samples, strict=True)) / total
    spread = sum(w * (x - size) ** 2 for w, (x, _) in zip(weights, samples, strict=True))
    if len({x for x, _ in samples}) == 1:
        return time / 2, time / 2 / size
    both = sum(w * (x - size) * (y - time) for w, (x, y) in zip(weights, samples, strict=True))
    slope = both / spread
    return time - slope * size, slope
