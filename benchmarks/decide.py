"""How long a decision takes: `python benchmarks/decide.py`. Prints figures, asserts nothing."""

from __future__ import annotations

import argparse
import time

import numpy as np

from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide, decide_many
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.types.conditions import Conditions, ImageFacts
from isthmus.types.link import Link
from isthmus.types.plan import FAMILIES, PlanRow, PlanTable, Rules

SEED = 20260728
TARGETS = (224, 240, 256, 320, 384)


def random_table(rows: int, rng: np.random.Generator) -> PlanTable:
    """Return a table of ``rows`` plans with plausible figures."""
    entries = []
    for i in range(rows):
        family = FAMILIES[i % len(FAMILIES)]
        side = {"device": float(rng.uniform(0.001, 0.1)), "device.jpeg_pixels": 4e-9}
        terms = {"head": side}
        if family != "local":
            terms["server"] = {"server": float(rng.uniform(0.001, 0.02))}
            sent = float(rng.uniform(5e3, 5e5))
            terms |= link_terms(family, sent_bytes=sent, received_bytes=4000)
        row = PlanRow(f"variant-{i % 10}", family, unit="" if family == "local" else f"unit-{i}")
        entries.append(PlanEntry(row, terms, 0.001, accuracy=float(rng.uniform(0.6, 0.8))))
    return compile_table(entries, columns_for(TARGETS))


def random_conditions(count: int, rng: np.random.Generator) -> list[Conditions]:
    """Return ``count`` instants, a third of them with a unit that still loads."""
    return [
        Conditions(
            Link(float(10 ** rng.uniform(4, 8)), 1e7, float(rng.uniform(0.001, 0.1)), 0.2, 0.2),
            ImageFacts("jpeg", 4000, 3000, int(rng.integers(10**6, 5 * 10**6))),
            device_slowdown_sd=0.05,
            server_slowdown_sd=0.1,
            unit_ready_s={"unit-1": 0.5} if i % 3 == 0 else {},
        )
        for i in range(count)
    ]


def main() -> None:
    """Print p50 and p99 of one decision, and the mean of a batched one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=5000)
    count = parser.parse_args().decisions
    rng = np.random.default_rng(SEED)
    conditions = random_conditions(count, rng)
    print("rows columns objective       p50_us  p99_us  batched_us")
    for rows in (20, 200, 1000):
        table = random_table(rows, rng)
        for rules in (Rules(), Rules("most_accurate", deadline_s=0.1)):
            decide(table, conditions[0], rules)
            spent = np.empty(count)
            for i, one in enumerate(conditions):
                started = time.perf_counter_ns()
                decide(table, one, rules)
                spent[i] = (time.perf_counter_ns() - started) / 1e3
            started = time.perf_counter_ns()
            for first in range(0, count, 100):
                decide_many(table, conditions[first : first + 100], rules)
            batched = (time.perf_counter_ns() - started) / 1e3 / count
            p50, p99 = np.percentile(spent, (50, 99))
            print(
                f"{rows:4d} {len(table.columns):7d} {rules.objective:14s}"
                f"{p50:8.1f}{p99:8.1f}{batched:12.1f}"
            )


if __name__ == "__main__":
    main()
