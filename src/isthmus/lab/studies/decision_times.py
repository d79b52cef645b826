"""How long deciding by a plan table takes, from a photograph's bytes to the plan. It runs no plan.

The table is made up; what counts for the time is how many rows and columns it has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide, decide_many
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.runtime.image_header import plain_header
from isthmus.types.conditions import Conditions, ImageFacts
from isthmus.types.link import INITIAL_WINDOW_BYTES, Link
from isthmus.types.plan import FAMILIES, PlanRow, PlanTable, Rules

__all__ = ["DecisionTimes", "decision_times", "random_table"]

_TARGETS = (224, 240, 256, 320, 384)
_BATCH = 100
_RULES = Rules(deadline_s=0.1, hedge_above_ratio=0.01)


@dataclass(frozen=True)
class DecisionTimes:
    """Microseconds of one decision.

    Attributes:
        rows: Plans in the table.
        columns: Columns of the table.
        p50: Median of single decisions, photograph's header and conditions included.
        p99: 99th percentile of the same.
        batched_per_decision: Mean of many at once, of conditions that are there.
    """

    rows: int
    columns: int
    p50: float
    p99: float
    batched_per_decision: float

    def record(self) -> dict[str, Any]:
        """Return it as JSON's kinds."""
        return asdict(self)


def decision_times(*, rows: int, decisions: int, seed: int) -> DecisionTimes:
    """Time decisions with a deadline, one at a time and many at once, in a loop of nothing else.

    Variance, hedges and TCP's slow start are all considered: links are uncertain, remote plans
    that are late in one of a hundred cases get a hedge, connections have been idle.

    Args:
        rows: Plans in the table.
        decisions: How many to time.
        seed: Of the made-up figures.
    """
    rng = np.random.default_rng(seed)
    table = random_table(rows, rng)
    photograph = IMAGE_CODECS["jpeg-85"].encode(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8))
    facts = plain_header(photograph)
    links = [
        Link(
            float(10 ** rng.uniform(4, 8)),
            1e7,
            float(rng.uniform(0.001, 0.1)),
            0.2,
            0.2,
            uplink_rtt_correlation=-0.3,
        )
        for _ in range(decisions)
    ]
    decide(table, _conditions(links[0], facts), _RULES)
    spent_us = np.empty(decisions)
    for i, link in enumerate(links):
        started_ns = time.perf_counter_ns()
        decide(table, _conditions(link, plain_header(photograph)), _RULES)
        spent_us[i] = (time.perf_counter_ns() - started_ns) / 1e3
    conditions = [_conditions(link, facts) for link in links]
    started_ns = time.perf_counter_ns()
    for first in range(0, decisions, _BATCH):
        decide_many(table, conditions[first : first + _BATCH], _RULES)
    batched_us = (time.perf_counter_ns() - started_ns) / 1e3 / decisions
    p50, p99 = np.percentile(spent_us, (50, 99))
    return DecisionTimes(rows, len(table.columns), float(p50), float(p99), batched_us)


def _conditions(link: Link, facts: ImageFacts | None) -> Conditions:
    return Conditions(
        link, facts,
        device_slowdown_sd=0.05, server_slowdown_sd=0.1, window_bytes=INITIAL_WINDOW_BYTES,
    )  # fmt: skip


def random_table(rows: int, rng: np.random.Generator) -> PlanTable:
    """Return a table of so many plans with plausible figures."""
    entries = []
    for i in range(rows):
        family = FAMILIES[i % len(FAMILIES)]
        side: Mapping[str, float] = {
            "device": float(rng.uniform(0.001, 0.1)),
            "device.jpeg_samples": 4e-9,
        }
        terms: dict[str, Mapping[str, float]] = {"head": side}
        if family != "local":
            terms["server"] = {"server": float(rng.uniform(0.001, 0.02))}
            sent = float(rng.uniform(5e3, 5e5))
            terms |= link_terms(family, sent_bytes=sent, received_bytes=4000)
        if family == "returned":
            terms["tail"] = {"device": float(rng.uniform(0.001, 0.01))}
        # Networks that a device has are the less accurate ones, so that a hedge gives something up.
        accuracy = float(rng.uniform(0.5, 0.6) if family == "local" else rng.uniform(0.6, 0.8))
        row = PlanRow(f"variant-{i % 10}", family, unit="" if family == "local" else f"unit-{i}")
        entries.append(PlanEntry(row, terms, 0.001, accuracy=accuracy))
    return compile_table(entries, columns_for(_TARGETS))
