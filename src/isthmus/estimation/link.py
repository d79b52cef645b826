"""Estimate the link from exchanges, each only as far as it tells; it sends nothing itself.

One exchange tells one number, its duration, and three are wanted: the round trip and two rates. So
it is a recursive regression over sizes: an error is shared out by how uncertain each part of the
predicted duration was (a Kalman filter's gain), so that short messages teach the round trip and
long ones the rate. The round trip is a mean that drifts; rates have memories of their own
(``estimation.rate``), which forget quickly and start anew when they have changed.

It reads no clock: it does not see how long ago an exchange was, nor losses, nor the server's own
time, which is to be subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from isthmus.errors import ConditionsError
from isthmus.estimation.limits import RATE_LIMITS_BYTES_PER_S, RTT_LIMITS_S, clipped
from isthmus.estimation.rate import Cusum, Rate
from isthmus.estimation.samples import Sample, fit_samples, upload_rounds
from isthmus.types.conditions import NORMAL_SDS
from isthmus.types.link import Link

__all__ = ["INTERVAL_SDS", "LinkEstimate"]

INTERVAL_SDS = NORMAL_SDS
"""Standard deviations about a prediction between which 90 % of the durations shall lie."""

_UNKNOWN_RATIO = 0.3
_PROBE_JITTER_RATIO = 0.05
_PROBE_RATE_RATIO = 0.2

_RTT_DRIFT_RATIO = 0.002
_JITTER_SHARE = 0.1
_JITTER_WEIGHT = 0.15
_LEAST_JITTER_RATIO = 0.01
_CLOCK_SD_S = 2e-5
_NOISE_RATIO = 0.01
_OUTLIER_SDS = 5.0
_RTT_OUTLIER_SDS = 1.5
_BOUNDED_SQUARE = 0.7785
"""Mean square of a standard normal number bounded by 1.5, by which bounded errors tell a variance
(Huber, "Robust estimation of a location parameter", 1964, proposal 2)."""
_MOST_CORRELATION = 0.9
_TELLING = 0.5

_WIDEN = 0.03
_WIDTH_LIMITS = (0.5, 4.0)
_MISS_SHARE = 0.1
_ENOUGH = 5

_QUIET = 40


@dataclass(frozen=True, slots=True)
class LinkEstimate:
    """What the exchanges so far tell of the link; ``observe`` returns the next estimate.

    Attributes:
        rtt_s: Mean round trip.
        rtt_variance_s2: How uncertain that mean is.
        jitter_s2: Variance of single round trips around it.
        uplink: Rate from the device to the server.
        downlink: Rate back; the same as ``uplink`` until ``is_downlink_known``.
        covariance_s: Covariance of the errors of ``rtt_s`` and of the relative time of a byte.
        carried_bytes: What those messages carried on the mean that taught the round trip since
            the rate was last confirmed; what their bytes took longer than believed, it has taken.
        is_downlink_known: Whether some reply took longer than its request, or a prior said so.
        width: By how much standard deviations are stretched so that 90 % of the durations lie
            between the bounds that they give.
        outlier: -1 or 1 if the last exchange was an outlier, to the fast or slow side, or one was
            since which no exchange has told the rate; else 0.
        quiet: Exchanges since one told the uplink's rate.
        rtt_cusum: Watches the round trip for a change.
    """

    rtt_s: float
    rtt_variance_s2: float
    jitter_s2: float
    uplink: Rate
    downlink: Rate
    covariance_s: float = 0.0
    carried_bytes: float = 0.0
    is_downlink_known: bool = False
    width: float = 1.0
    outlier: int = 0
    quiet: int = 0
    rtt_cusum: Cusum = field(default_factory=Cusum)

    @staticmethod
    def from_link(link: Link) -> LinkEstimate:
        """Return an estimate that starts from ``link``: a network's prior, worth one exchange.

        A standard deviation of zero counts as unknown, and is taken as 30 %. The downlink counts
        as known if its rate is not the uplink's.
        """
        rtt_s = clipped(link.rtt_s, RTT_LIMITS_S)
        both_s2 = (link.rtt_sd_s or _UNKNOWN_RATIO * rtt_s) ** 2
        jitter_s2 = _JITTER_SHARE * both_s2
        rtt_variance_s2 = both_s2 - jitter_s2
        up, down = (
            _rate(rate, sd_ratio)
            for rate, sd_ratio in (
                (link.uplink_bytes_per_s, link.uplink_sd_ratio),
                (link.downlink_bytes_per_s, link.downlink_sd_ratio),
            )
        )
        correlation = clipped(link.uplink_rtt_correlation, (-_MOST_CORRELATION, _MOST_CORRELATION))
        return LinkEstimate(
            rtt_s,
            rtt_variance_s2,
            jitter_s2,
            up,
            down,
            correlation * math.sqrt(both_s2 * up.variance),
            is_downlink_known=link.downlink_bytes_per_s != link.uplink_bytes_per_s,
        )

    @staticmethod
    def from_probe(samples: Sequence[Sample | tuple[int, int, float]]) -> LinkEstimate:
        """Return an estimate from a few timed exchanges, some small and at least one larger.

        Least squares of the relative error over ``rounds * rtt + s_per_byte * bytes``. Where
        it comes out below 1 % of what the exchanges allow (noise, or one size only), it is
        clipped there; with one size only, half of the time counts as round trip.

        Args:
            samples: The exchanges.

        Raises:
            ConditionsError: If there is no exchange, or one has no finite duration or no bytes.
        """
        exchanges = [Sample(*sample) for sample in samples]
        for one in exchanges:
            if not (math.isfinite(one.elapsed_s) and one.sent_bytes + one.received_bytes > 0):
                total_bytes = one.sent_bytes + one.received_bytes
                raise ConditionsError(f"no exchange takes {one.elapsed_s} s for {total_bytes} B")
        if not exchanges:
            raise ConditionsError("a probe needs at least one exchange")
        rtt_s, s_per_byte, errors = fit_samples(exchanges)
        # Of the mean round trip the small messages tell, as far as their own bytes do not matter;
        # of the next rate a few exchanges tell little.
        sizes_s = [s_per_byte * (one.sent_bytes + one.received_bytes) for one in exchanges]
        small = [i for i, size_s in enumerate(sizes_s) if size_s < rtt_s]
        jitter_ratio, rtt_variance_s2 = _UNKNOWN_RATIO, (_UNKNOWN_RATIO * rtt_s) ** 2
        if small:
            jitter_ratio = max(_rms([errors[i] for i in small]), _PROBE_JITTER_RATIO)
            rtt_variance_s2 = (jitter_ratio * rtt_s) ** 2 / len(small)
            rtt_variance_s2 += min(sizes_s[i] for i in small) ** 2
        sd_ratio = max(_rms(errors), _PROBE_RATE_RATIO)
        rate = _rate(1 / s_per_byte, sd_ratio, count=float(len(exchanges) - len(small)))
        return LinkEstimate(rtt_s, rtt_variance_s2, (jitter_ratio * rtt_s) ** 2, rate, rate)

    @property
    def link(self) -> Link:
        """The link as the next exchange will find it, with standard deviations of that."""
        up, down = self.uplink, self.downlink
        rtt_variance_s2 = self.rtt_variance_s2 + self.jitter_s2
        return Link(
            uplink_bytes_per_s=up.expected_bytes_per_s,
            downlink_bytes_per_s=down.expected_bytes_per_s,
            rtt_s=self.rtt_s,
            uplink_sd_ratio=self.width * math.sqrt(up.variance),
            downlink_sd_ratio=self.width * math.sqrt(down.variance),
            rtt_sd_s=self.width * math.sqrt(rtt_variance_s2),
            uplink_rtt_correlation=self.covariance_s / math.sqrt(up.variance * rtt_variance_s2),
        )

    @property
    def wants_probe(self) -> bool:
        """Whether the exchanges so far say too little of the uplink's rate.

        So it is at the start, right after a change, and where messages are too small to tell: at
        once if a change is suspected, else when there have been only such for long.
        """
        patience = 1 if self.uplink.cusum.is_suspicious else _QUIET
        return self.uplink.count < 1.5 or self.quiet >= patience

    def predicted_s(
        self, sent_bytes: float, received_bytes: float, *, window_bytes: float = math.inf
    ) -> float:
        """Return the expected duration of an exchange without the server's own time, seconds.

        Args:
            sent_bytes: Bytes to write, framing included.
            received_bytes: Bytes of the reply.
            window_bytes: What the connection may send at first.
        """
        s_per_byte = 1 / self.uplink.expected_bytes_per_s
        rounds, waited_bytes = 1, 0.0
        if window_bytes < sent_bytes:
            rounds, waited_bytes = upload_rounds(sent_bytes, window_bytes, s_per_byte, self.rtt_s)
        back_s = received_bytes / self.downlink.expected_bytes_per_s
        return rounds * self.rtt_s + (sent_bytes - waited_bytes) * s_per_byte + back_s

    def observe(
        self,
        sent_bytes: int,
        received_bytes: int,
        elapsed_s: float,
        *,
        window_bytes: float = math.inf,
    ) -> LinkEstimate:
        """Return the estimate after one exchange.

        An error of more than five standard deviations counts as five, unless one was off to the
        same side before and none has told the rate since.

        Args:
            sent_bytes: Bytes written, framing included.
            received_bytes: Bytes of the reply.
            elapsed_s: The whole exchange minus the server's own time, seconds. May be slightly
                negative where the server's clock is coarse.
            window_bytes: What the connection might send at first.

        Raises:
            ConditionsError: If the duration is not finite, a size is negative or the window is
                less than a byte.
        """
        _check(sent_bytes, received_bytes, elapsed_s, window_bytes)
        before = self
        parts = self._parts(sent_bytes, received_bytes, window_bytes)
        if not self.is_downlink_known and parts.down_s > parts.up_s - parts.down_s:
            downlink = replace(self.uplink, variance=max(self.uplink.variance, _UNKNOWN_RATIO**2))
            before = replace(self, downlink=downlink, is_downlink_known=True)
            parts = before._parts(sent_bytes, received_bytes, window_bytes)
        return before._after(parts, clipped(elapsed_s, RTT_LIMITS_S))

    def observe_cancelled(
        self, sent_bytes: int, elapsed_s: float, *, window_bytes: float = math.inf
    ) -> LinkEstimate:
        """Return the estimate after an exchange that was given up: it would have taken longer.

        Nothing changes if it was predicted to take longer anyway. Otherwise it counts as one of
        the duration that is to be expected of those that take at least this long, and makes the
        link slower, never faster and never more certain.

        Args:
            sent_bytes: Bytes that were to be written, framing included.
            elapsed_s: How long it was waited for, seconds, without the server's own time.
            window_bytes: What the connection might send at first.

        Raises:
            ConditionsError: As ``observe``.

        References:
            Tobin, "Estimation of relationships for limited dependent variables", Econometrica
            1958: the mean of a normal distribution beyond a bound.
        """
        _check(sent_bytes, 0, elapsed_s, window_bytes)
        parts = self._parts(sent_bytes, 0, window_bytes)
        least_s = min(elapsed_s, RTT_LIMITS_S[1])
        if least_s <= parts.total_s:
            return self
        sd_s = math.sqrt(parts.variance_s2)
        error_s = sd_s * _mean_beyond((least_s - parts.total_s) / sd_s)
        outlier = int(error_s > _OUTLIER_SDS * sd_s)
        if outlier and self.outlier != 1:
            error_s = _OUTLIER_SDS * sd_s
        uplink = self.uplink
        if parts.up_s > 0:
            uplink = uplink.at_most(error_s / parts.up_s, parts.up_trust, error_s / sd_s)
        return replace(
            self,
            rtt_s=clipped(self.rtt_s + max(parts.rtt_gain, 0.0) * error_s, RTT_LIMITS_S),
            uplink=uplink,
            downlink=self.downlink if self.is_downlink_known else uplink,
            outlier=outlier,
        )

    def _parts(self, sent_bytes: float, received_bytes: float, window_bytes: float) -> _Parts:
        """Return what an exchange's duration is predicted to consist of."""
        s_per_byte = 1 / self.uplink.mean_bytes_per_s
        down_s = received_bytes / self.downlink.mean_bytes_per_s
        rounds, waited_bytes = 1, 0.0
        if window_bytes < sent_bytes:
            rounds, waited_bytes = upload_rounds(sent_bytes, window_bytes, s_per_byte, self.rtt_s)
        up_s = (sent_bytes - waited_bytes) * s_per_byte
        total_s = rounds * self.rtt_s + up_s + down_s
        # Where the reply's rate is the request's, both are one part.
        both_s = up_s if self.is_downlink_known else up_s + down_s
        apart_s = down_s if self.is_downlink_known else 0.0
        rtt_part = rounds * self.rtt_variance_s2 + both_s * self.covariance_s
        up_part = both_s * self.uplink.variance + rounds * self.covariance_s
        down_part = apart_s * self.downlink.variance
        variance_s2 = (
            rounds * (rtt_part + rounds * self.jitter_s2)
            + both_s * up_part
            + apart_s * down_part
            + (_NOISE_RATIO * total_s) ** 2
            + _CLOCK_SD_S**2
        )
        return _Parts(
            total_s=total_s,
            rounds=rounds,
            up_s=both_s,
            down_s=down_s,
            apart_s=apart_s,
            variance_s2=variance_s2,
            rtt_part=rtt_part,
            up_part=up_part,
            rtt_gain=rtt_part / variance_s2,
            up_trust=clipped(both_s * up_part / variance_s2, (0.0, 1.0)),
            down_trust=apart_s * down_part / variance_s2,
            jitter_trust=rounds * self.jitter_s2 / variance_s2,
        )

    def _after(self, parts: _Parts, elapsed_s: float) -> LinkEstimate:
        """Return the estimate after an exchange whose parts were predicted so."""
        error_s = whole_s = elapsed_s - parts.total_s
        sd_s = math.sqrt(parts.variance_s2)
        # The bounds are about what is predicted, which lies below what the mean rates give.
        early_s = parts.up_s * (1 - 1 / self.uplink.lead) + parts.apart_s * (
            1 - 1 / self.downlink.lead
        )
        is_missed = abs(error_s + early_s) > INTERVAL_SDS * self.width * sd_s
        stretch = (1 - _MISS_SHARE) / _MISS_SHARE if is_missed else -1.0
        width = self.width
        if self.uplink.count >= _ENOUGH:  # before, the prior is what is wrong
            width = clipped(width * math.exp(_WIDEN * stretch), _WIDTH_LIMITS)
        error_sds = math.log(elapsed_s / parts.total_s) * parts.total_s / sd_s
        bounded_s = clipped(error_s, (-_RTT_OUTLIER_SDS * sd_s, _RTT_OUTLIER_SDS * sd_s))
        outlier = 0
        if abs(error_s) > _OUTLIER_SDS * sd_s:
            outlier = 1 if error_s > 0 else -1
            if outlier != self.outlier:
                error_s = outlier * _OUTLIER_SDS * sd_s
        # What is mostly round trip neither confirms a rate nor says that it has changed.
        tells = parts.up_trust >= _TELLING and parts.up_s >= _TELLING * parts.rounds * self.rtt_s
        uplink, downlink = self.uplink, self.downlink
        if parts.up_s > 0:
            shared = parts.rounds * self.covariance_s / (parts.up_s * uplink.variance)
            uplink = uplink.observe(
                error_s / parts.up_s, parts.up_trust, error_sds, shared=shared, is_telling=tells
            )
        if not self.is_downlink_known:
            downlink = uplink
        elif parts.apart_s > 0:
            downlink = downlink.observe(error_s / parts.apart_s, parts.down_trust, error_sds)

        rtt_s = clipped(self.rtt_s + parts.rtt_gain * bounded_s, RTT_LIMITS_S)
        # An error that is not believed entirely makes the round trip less certain than it would.
        believed = bounded_s / whole_s if whole_s else 1.0
        rtt_variance_s2 = self.rtt_variance_s2
        rtt_variance_s2 -= believed * parts.rtt_gain * parts.rtt_part
        square_s2 = bounded_s * bounded_s / _BOUNDED_SQUARE
        jitter_s2 = self.jitter_s2 + _JITTER_WEIGHT * parts.jitter_trust * (
            parts.jitter_trust * square_s2 - parts.rounds * self.jitter_s2
        )
        # No round trip is longer than an exchange that had it, but for its jitter.
        most_s = elapsed_s / parts.rounds + min(math.sqrt(jitter_s2), elapsed_s)
        if rtt_s > most_s:
            shrunk = (most_s / rtt_s) ** 2
            rtt_s, jitter_s2 = most_s, jitter_s2 * shrunk
        drift_s2 = (_RTT_DRIFT_RATIO * rtt_s) ** 2
        rtt_cusum = self.rtt_cusum
        rtt_share = parts.rounds * (parts.rtt_part + parts.rounds * self.jitter_s2)
        if rtt_share >= _TELLING * parts.variance_s2:
            rtt_cusum = rtt_cusum.observe(error_sds)
            if rtt_cusum.has_changed:
                rtt_s = clipped(self.rtt_s + whole_s / parts.rounds, RTT_LIMITS_S)
                rtt_cusum, drift_s2 = Cusum(), (_UNKNOWN_RATIO * rtt_s) ** 2
        own_bytes = parts.up_s * self.uplink.mean_bytes_per_s / parts.rounds
        taken = clipped(believed * parts.rounds * parts.rtt_gain, (0.0, 1.0))
        carried_bytes = self.carried_bytes + taken * (own_bytes - self.carried_bytes)
        if tells:
            if uplink.count < self.uplink.count or (outlier and outlier == self.outlier):
                # The rate jumps. If it had before those messages came that taught the round
                # trip, this has taken all that they carried; if only now, nothing: so half.
                half_s = carried_bytes / uplink.mean_bytes_per_s / 2
                half_s -= carried_bytes / self.uplink.mean_bytes_per_s / 2
                rtt_s = clipped(rtt_s - half_s, RTT_LIMITS_S)
                drift_s2 += half_s**2
            if uplink.cusum == Cusum():
                carried_bytes = 0.0
        rtt_variance_s2 = max(rtt_variance_s2, 0.0) + drift_s2
        bound_s = _MOST_CORRELATION * math.sqrt(rtt_variance_s2 * uplink.variance)
        covariance_s = self.covariance_s - uplink.share * parts.rtt_gain * parts.up_part
        if rtt_s <= RTT_LIMITS_S[0]:  # it cannot give way any more, so the rate has to
            covariance_s = 0.0
        return LinkEstimate(
            rtt_s,
            rtt_variance_s2,
            max(jitter_s2, (_LEAST_JITTER_RATIO * rtt_s) ** 2),
            uplink,
            downlink,
            clipped(covariance_s, (-bound_s, bound_s)),
            carried_bytes,
            self.is_downlink_known,
            width,
            outlier or (0 if tells else self.outlier),
            0 if tells else self.quiet + 1,
            rtt_cusum,
        )


class _Parts(NamedTuple):
    """What an exchange's duration is predicted to consist of.

    Attributes:
        total_s: All of it.
        rounds: Round trips, those that slow start costs included.
        up_s: What follows the uplink's rate.
        down_s: What the reply takes.
        apart_s: The same, where the downlink's rate is known apart; else 0.
        variance_s2: Of the duration.
        rtt_part: Covariance of the duration and the mean round trip.
        up_part: Covariance of the duration and the relative time of an uplink byte.
        rtt_gain: How far the round trip follows an error, seconds per second.
        up_trust: Which part of an error is the uplink's.
        down_trust: Which part is the downlink's.
        jitter_trust: Which part is this round trip's own, for each of its rounds.
    """

    total_s: float
    rounds: int
    up_s: float
    down_s: float
    apart_s: float
    variance_s2: float
    rtt_part: float
    up_part: float
    rtt_gain: float
    up_trust: float
    down_trust: float
    jitter_trust: float


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))


def _mean_beyond(bound: float) -> float:
    """Return the mean of those values of a standard normal distribution that exceed a bound."""
    above = math.erfc(bound / math.sqrt(2)) / 2
    if above < 1e-12:
        return bound + 1 / bound
    return math.exp(-bound * bound / 2) / math.sqrt(2 * math.pi) / above


def _check(sent_bytes: int, received_bytes: int, elapsed_s: float, window_bytes: float) -> None:
    if not math.isfinite(elapsed_s) or min(sent_bytes, received_bytes) < 0:
        raise ConditionsError(
            f"no exchange sends {sent_bytes} B and receives {received_bytes} B in {elapsed_s} s"
        )
    if not window_bytes >= 1:
        raise ConditionsError(f"window_bytes must be at least 1, got {window_bytes}")


def _rate(bytes_per_s: float, sd_ratio: float, *, count: float = 0.0) -> Rate:
    variance = (sd_ratio or _UNKNOWN_RATIO) ** 2
    return Rate.known(clipped(bytes_per_s, RATE_LIMITS_BYTES_PER_S), variance, count=count)
