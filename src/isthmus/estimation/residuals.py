"""Learn from predicted against observed: slowdowns, and how far off predictions are.

A slowdown is how many times longer a site takes than when it was profiled: heat, other processes,
other requests. Each site has one, learned from its own stages alone, so that a slow server says
nothing about the device. What is left over is kept as quantiles. It reads no clock, and the link
is ``estimation.link``'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from isthmus.errors import ConditionsError
from isthmus.types.conditions import NORMAL_SDS

__all__ = ["LEAST_WORK_S", "Residuals", "Slowdown"]

LEAST_WORK_S = 0.001
"""A site that should have worked less than this says nothing: clocks and calls weigh too much."""

_WEIGHT = 0.2
_BAND_SDS = 4.0
_LEAST_BAND = math.log(1.25)
_PERSISTENCE = 3
_NOISE_PRIOR = 0.05
_LEAST_NOISE = 0.01
_MOST = math.log(1e4)

_KEPT = 128
_ENOUGH = 40
_LATE_SHARE = 0.95
_SDS_LIMITS = (1.0, 6.0)


@dataclass(frozen=True)
class Slowdown:
    """How much slower one site is than when it was profiled; ``observe`` returns the next one.

    In logarithms, so that three times slower and three times faster are equally far. Samples
    within a band around the mean move it, a fifth of their distance each. A sample outside moves
    nothing; the third in a row on the same side is no outlier but a change, and the mean starts
    anew from those three.

    Attributes:
        log_mean: Logarithm of the slowdown.
        log_noise: Standard deviation of single samples' logarithms.
        count: Samples since the last change; the profile itself counts one.
        outside: Logarithms of the last samples, if they were outside on the same side.
    """

    log_mean: float = 0.0
    log_noise: float = _NOISE_PRIOR
    count: int = 1
    outside: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """The slowdown; 1 is as profiled."""
        return math.exp(self.log_mean)

    @property
    def sd(self) -> float:
        """Standard deviation of the mean; that of single requests is the plans' residual."""
        weight = max(_WEIGHT, 1 / self.count)
        return self.mean * self.log_noise * math.sqrt(weight / (2 - weight))

    def observe(self, work_s: float, observed_s: float) -> Slowdown:
        """Return the estimate after one request.

        Args:
            work_s: What the site's stages take by the profile, at slowdown 1, seconds; with less
                than ``LEAST_WORK_S`` nothing is learned.
            observed_s: What they took, seconds.

        Raises:
            ConditionsError: If a number is not finite, or negative.
        """
        if not (0 <= work_s < math.inf and 0 <= observed_s < math.inf):
            raise ConditionsError(f"no site works {work_s} s in {observed_s} s")
        if work_s < LEAST_WORK_S:
            return self
        sample = min(max(math.log(max(observed_s, 1e-9) / work_s), -_MOST), _MOST)
        error = sample - self.log_mean
        if abs(error) > max(_BAND_SDS * self.log_noise, _LEAST_BAND):
            return self._after_outside(sample, error)
        weight = max(_WEIGHT, 1 / (self.count + 1))
        variance = (1 - weight) * (self.log_noise**2 + weight * error * error)
        return Slowdown(
            self.log_mean + weight * error,
            max(math.sqrt(variance), _LEAST_NOISE),
            self.count + 1,
        )

    def _after_outside(self, sample: float, error: float) -> Slowdown:
        same_side = self.outside and (self.outside[-1] > self.log_mean) == (error > 0)
        outside = (*self.outside, sample) if same_side else (sample,)
        if len(outside) < _PERSISTENCE:
            return replace(self, outside=outside)
        return Slowdown(sorted(outside)[_PERSISTENCE // 2], _NOISE_PRIOR, _PERSISTENCE)


@dataclass(frozen=True)
class Residuals:
    """What all requests so far tell about the predictions; ``observe`` returns the next.

    Attributes:
        device: The device's slowdown.
        server: The server's slowdown.
        errors_sds: Of the last requests, observed minus predicted total in predicted standard
            deviations, the oldest first.
    """

    device: Slowdown = Slowdown()
    server: Slowdown = Slowdown()
    errors_sds: tuple[float, ...] = ()

    def observe(
        self,
        *,
        device_work_s: float = 0.0,
        device_s: float = 0.0,
        server_work_s: float = 0.0,
        server_s: float = 0.0,
        error_sds: float | None = None,
    ) -> Residuals:
        """Return what is known after one request, or a probe.

        Args:
            device_work_s: The plan's stages on the device by the profile, seconds.
            device_s: The same as observed, seconds.
            server_work_s: The plan's stages on the server by the profile, without waiting.
            server_s: The same as observed, seconds.
            error_sds: Observed minus predicted total, in predicted standard deviations; ``None``
                for probes.

        Raises:
            ConditionsError: If a number is not finite, or a time is negative.
        """
        errors = self.errors_sds
        if error_sds is not None:
            if not math.isfinite(error_sds):
                raise ConditionsError(f"no prediction is off by {error_sds} standard deviations")
            errors = (*errors, error_sds)[-_KEPT:]
        return Residuals(
            self.device.observe(device_work_s, device_s),
            self.server.observe(server_work_s, server_s),
            errors,
        )

    @property
    def safety_sds(self) -> float:
        """Predicted standard deviations that 95 of 100 requests do not exceed.

        That of a normal distribution until 40 requests have been seen, then their own quantile
        (the smallest value that 95 % of them do not exceed), from 1 to 6.
        """
        if len(self.errors_sds) < _ENOUGH:
            return NORMAL_SDS
        rank = math.ceil(_LATE_SHARE * len(self.errors_sds)) - 1
        low, high = _SDS_LIMITS
        return min(max(sorted(self.errors_sds)[rank], low), high)
