"""Beliefs: what a device knows of its link, itself and its server, and learns from requests.

It decides nothing and sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.estimation.link import LinkEstimate
from isthmus.estimation.residuals import Residuals
from isthmus.runtime.clock import now_s
from isthmus.runtime.plan_runner import Run
from isthmus.types.conditions import Conditions
from isthmus.types.link import Link
from isthmus.types.plan import Plan

__all__ = ["Beliefs"]

_DEVICE_STAGES = ("decode", "preprocess", "head", "encode", "tail")
_SERVER_STAGES = ("server_decode", "server")
_NOT_LINK_STAGES = ("connect", "wait", *_SERVER_STAGES)


class Beliefs:
    """The link's state and both sites' slowdowns, as far as requests and probes tell.

    What decisions need is worked out when something was learned, and not while a request waits.

    Attributes:
        link: The link as it is believed to be.
        residuals: Slowdowns, and how far predictions were off.
        safety_sds: See ``Conditions``.
        device_seen_at_s: When a request or probe last said something of the device.
        server_seen_at_s: The same of the server.
        link_seen_at_s: The same of the link.
    """

    def __init__(self, estimate: LinkEstimate) -> None:
        """Start from an estimate of the link, and both sites as they were profiled."""
        self.residuals = Residuals()
        self.safety_sds = self.residuals.safety_sds
        self.device_seen_at_s = self.server_seen_at_s = now_s()
        self.believe(estimate)

    @property
    def estimate(self) -> LinkEstimate:
        """The estimate behind ``link``."""
        return self._estimate

    def believe(self, estimate: LinkEstimate) -> None:
        """Replace the estimate of the link."""
        self._estimate = estimate
        self.link: Link = estimate.link
        self.link_seen_at_s = now_s()

    def learn(
        self, plan: Plan, conditions: Conditions, seconds: Mapping[str, float], run: Run
    ) -> None:
        """Learn from a request that was carried out as planned.

        Args:
            plan: As it was decided.
            conditions: What it was decided with.
            seconds: Observed time of each stage.
            run: What carrying it out gave.
        """
        if run.sent_bytes:
            self.learn_exchange(run, conditions.window_bytes)
        observed_s = sum(seconds.get(stage, 0.0) for stage in plan.stages_s)
        sds = (observed_s - plan.latency_s) / plan.latency_sd_s if plan.latency_sd_s > 0 else None
        self._believe_sites(
            self.residuals.observe(
                device_work_s=_sum(plan.stages_s, _DEVICE_STAGES) / conditions.device_slowdown,
                device_s=_sum(seconds, _DEVICE_STAGES),
                server_work_s=_sum(plan.stages_s, _SERVER_STAGES) / conditions.server_slowdown,
                server_s=_sum(seconds, _SERVER_STAGES),
                error_sds=sds,
            )
        )

    def learn_exchange(self, run: Run, window_bytes: float) -> None:
        """Learn the link from one exchange alone."""
        self.believe(
            self._estimate.observe(
                run.sent_bytes, run.received_bytes, run.network_s, window_bytes=window_bytes
            )
        )

    def learn_cancelled(
        self, plan: Plan, sent_bytes: int, elapsed_s: float, window_bytes: float
    ) -> None:
        """Learn from an exchange that was given up: it would have taken longer.

        Args:
            plan: What the server's part, and connecting, were predicted to take by.
            sent_bytes: Size of the message.
            elapsed_s: How long it was waited for, seconds.
            window_bytes: What the connection might send at first.
        """
        network_s = max(elapsed_s - _sum(plan.stages_s, _NOT_LINK_STAGES), 0.0)
        self.believe(
            self._estimate.observe_cancelled(sent_bytes, network_s, window_bytes=window_bytes)
        )

    def learn_device(self, work_s: float, observed_s: float) -> None:
        """Learn from stages of the device that were run to see how fast it is."""
        self._believe_sites(self.residuals.observe(device_work_s=work_s, device_s=observed_s))

    def learn_server(self, work_s: float, observed_s: float) -> None:
        """Learn from stages of the server that were run to see how fast it is."""
        self._believe_sites(self.residuals.observe(server_work_s=work_s, server_s=observed_s))

    def _believe_sites(self, residuals: Residuals) -> None:
        before, self.residuals = self.residuals, residuals
        self.safety_sds = residuals.safety_sds
        if residuals.device is not before.device:
            self.device_seen_at_s = now_s()
        if residuals.server is not before.server:
            self.server_seen_at_s = now_s()


def _sum(seconds: Mapping[str, float], stages: tuple[str, ...]) -> float:
    return sum(seconds.get(stage, 0.0) for stage in stages)
