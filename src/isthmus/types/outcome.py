"""Outcome: what truly happened to one request, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from isthmus.types.plan import Plan

__all__ = ["HedgeUse", "Outcome", "Source", "Timeline"]

Source = Literal["device", "edge", "split", "fallback"]

HedgeUse = Literal["", "spared", "lost", "won"]


@dataclass(frozen=True)
class Timeline:
    """Where one request's time went, seconds; the stages add up to ``total_s``.

    ``upload_s``, ``wait_s``, ``server_decode_s``, ``server_s`` and ``download_s`` split one
    exchange: the server's share is what the server reports, ``download_s`` is predicted from the
    link's state, and ``upload_s`` is the rest. ``tail_s`` is what the device runs after a
    server's answer. ``unaccounted_s`` is the total minus all others.
    """

    decide_s: float = 0.0
    decode_s: float = 0.0
    preprocess_s: float = 0.0
    head_s: float = 0.0
    encode_s: float = 0.0
    connect_s: float = 0.0
    upload_s: float = 0.0
    wait_s: float = 0.0
    server_decode_s: float = 0.0
    server_s: float = 0.0
    download_s: float = 0.0
    tail_s: float = 0.0
    unaccounted_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Sum of all stages: from the request to the answer, seconds."""
        return float(sum(getattr(self, part.name) for part in fields(self)))


@dataclass(frozen=True)
class Outcome:
    """What truly happened to one request.

    Attributes:
        outputs: The network's outputs by name.
        source: ``device``, ``edge`` (all layers on the server), ``split``, or ``fallback`` (the
            server failed and a local plan answered).
        plan: The plan that gave the answer.
        replaced: Plans that were decided before it and given up, the first one first: with the
            source ``fallback`` the last of them failed; any other's message came out so large
            that, decided again, another plan was the better. Empty if ``plan`` was the first.
        timeline: Where the time went.
        sent_bytes: Bytes written to the server, HTTP framing included.
        sent_as: As what the input crossed: ``file``, or the name of a codec; empty if the answer
            is the device's own. A plan that resizes sends the file where that is the smaller one.
        received_bytes: Bytes of the reply's body.
        was_cold: Whether the server had to load a model for this request.
        is_deadline_met: ``None`` without a deadline.
        error: Why the first plan failed, if the source is ``fallback``; empty otherwise.
        hedge: What became of the plan's hedge: empty if it had none, ``spared`` if the answer was
            there before it started, ``lost`` if it ran and the server's answer was taken, ``won``
            if its own was (the source is then ``device``).
    """

    outputs: Mapping[str, np.ndarray]
    source: Source
    plan: Plan
    timeline: Timeline
    sent_bytes: int = 0
    sent_as: str = ""
    received_bytes: int = 0
    was_cold: bool = False
    is_deadline_met: bool | None = None
    error: str = ""
    hedge: HedgeUse = ""
    replaced: tuple[Plan, ...] = ()
