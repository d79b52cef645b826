"""Time tasks that take turns, until each median is known well enough or the time is spent.

It knows nothing of networks: a task is a function that does something once and returns what it
took. Nor does it keep anything: ``profiling.store`` does.

Which runs follow one another matters (decision 0006). Tasks that take turns run by run throw each
other's data out of the processor's caches, and one that runs alone for long meets one moment of
the machine only. So a task runs a few times in a row (a *block*), and the blocks of all tasks
are interleaved in random order. What a block loses to its predecessor shows in its first runs:
they are found as warm-ups and not counted, however many they are.

Runs of one block resemble each other far more than those of different blocks (on a shared machine
by 5 % and 14 %), so what is not known of a median is told by how the blocks differ. An interval
that takes all runs to be independent promised 3 % there, where two measurements were 8 % apart.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import TypeVar

import numpy as np

from isthmus.runtime import clock

__all__ = [
    "BLOCK_RUNS",
    "QUANTILES",
    "Measurement",
    "measure_in_turn",
    "measurement_of",
    "median_interval",
]

BLOCK_RUNS = 4
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_MISSED_RATIO = 0.025  # of the median's interval, on each side: 95 % hold it
_FENCE = 1.5
"""Tukey's: runs beyond the third quartile by more than so many interquartile ranges stand out."""

K = TypeVar("K", bound=Hashable)
Block = Sequence[float]


@dataclass(frozen=True)
class Measurement:
    """What the runs of one task took.

    Attributes:
        blocks_s: Every run, warm-ups too, in blocks of consecutive ones, seconds.
        warm_ups_by_block: How many runs at the beginning of each block are not counted.
        median_s: Of the counted runs, seconds, as all below.
        mean_s: Their mean.
        sd_s: Their standard deviation; 0 for a single run.
        quantiles_s: Their quantiles at ``QUANTILES``.
        half_width_ratio: Half the width of the median's 95 % confidence interval, as a share of
            the median; infinite for less than 6 blocks, which have no such interval.
    """

    blocks_s: tuple[tuple[float, ...], ...]
    warm_ups_by_block: tuple[int, ...]
    median_s: float
    mean_s: float
    sd_s: float
    quantiles_s: tuple[float, ...]
    half_width_ratio: float

    @property
    def count(self) -> int:
        """How many runs are counted."""
        return sum(map(len, self.blocks_s)) - self.warm_ups

    @property
    def warm_ups(self) -> int:
        """How many runs are not counted."""
        return sum(self.warm_ups_by_block)


def measurement_of(blocks_s: Sequence[Block]) -> Measurement:
    """Summarise the runs of a task.

    The later half of each block is taken to be warmed up, and every run is compared with the
    median of its block's later half. A run is a warm-up if that ratio is above the upper fence of
    all later halves (third quartile and 1.5 interquartile ranges), and so are all runs of its
    block before it. The median is that of all counted runs. Its interval is between order
    statistics of the blocks' medians, so that it holds for any distribution and for runs of a
    block that depend on each other; it takes blocks to be independent.

    Args:
        blocks_s: Seconds of every run, in blocks of consecutive ones; no block is empty.

    Returns:
        The summary.

    Raises:
        ValueError: If there is no run, or a time is negative or not finite.

    References:
        Tukey, "Exploratory Data Analysis", 1977, for the fence; David and Nagaraja, "Order
        Statistics", 2003, section 7.1, for the interval.

    Examples:
        >>> m = measurement_of([[9, 4, 4, 4]] * 6)
        >>> m.median_s, m.warm_ups_by_block, m.count, m.half_width_ratio
        (4.0, (1, 1, 1, 1, 1, 1), 18, 0.0)
    """
    blocks = tuple(tuple(map(float, block)) for block in blocks_s)
    if not blocks or not all(blocks):
        raise ValueError("there must be a run in every block, and a block")
    if not all(math.isfinite(run_s) and run_s >= 0 for block in blocks for run_s in block):
        raise ValueError("times must be finite and not negative")
    warm_ups = _warm_ups(blocks)
    kept = [block[skip:] for block, skip in zip(blocks, warm_ups, strict=True)]
    counted = [run_s for block in kept for run_s in block]
    quantiles = tuple(np.quantile(counted, QUANTILES).tolist())
    median_s = quantiles[QUANTILES.index(0.5)]
    return Measurement(
        blocks,
        warm_ups,
        median_s,
        fmean(counted),
        stdev(counted) if len(counted) > 1 else 0.0,
        quantiles,
        _half_width_ratio(list(map(median, kept)), median_s),
    )


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a median, whatever the distribution.

    It is between the innermost two order statistics that hold the median that often.

    Args:
        values: Independent samples, in any order.

    Returns:
        Its two ends; ``None`` for less than 6 samples, which have no such interval.

    References:
        David and Nagaraja, "Order Statistics", 2003, section 7.1.

    Examples:
        >>> median_interval([3, 1, 2, 6, 5, 4, 7, 8, 9])
        (2, 8)
    """
    count = len(values)
    outside, missed = 0, 0.5**count  # P(Binomial(count, 1/2) <= outside) = missed
    if missed > _MISSED_RATIO:
        return None
    while (more := missed + math.comb(count, outside + 1) * 0.5**count) <= _MISSED_RATIO:
        outside, missed = outside + 1, more
    ordered = sorted(values)
    return ordered[outside], ordered[count - 1 - outside]


def measure_in_turn(
    tasks: Mapping[K, Callable[[], float]],
    *,
    precision_ratio: float,
    budget_s: float,
    block_runs: int = BLOCK_RUNS,
    pause_s: float = 0.0,
    seed: int = 0,
    earlier: Mapping[K, Sequence[Block]] | None = None,
    on_block: Callable[[K, Measurement], None] | None = None,
    now_s: Callable[[], float] = clock.now_s,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[K, Measurement]:
    """Run tasks in interleaved blocks until each median is known to ``precision_ratio``.

    A round gives one block to each task, in random order. After six rounds at the earliest it
    ends, as soon as half the width of every median's interval is within ``precision_ratio``.
    Tasks that are known go on with the others: a task that stopped after a fast moment of the
    machine would look better than one that went on into a slow one. When the budget is spent
    no block begins but the first of each task.

    Args:
        tasks: Functions that do something once and return the seconds it took (or any other
            positive figure).
        precision_ratio: How well each median is to be known, as a share of it; 0.03 is 3 %.
        budget_s: Seconds that all may take together, pauses and what the tasks do aside included.
        block_runs: Runs in a row.
        pause_s: Seconds of idleness before each run: the cadence that is measured. A processor
            that was idle is slower, one in a hot loop faster than in use.
        seed: Of the random order.
        earlier: Blocks of an earlier call to go on from, by task.
        on_block: Told the task and its measurement so far after each block.
        now_s: The clock of the budget, seconds.
        sleep: Waits for some seconds.

    Returns:
        A measurement of every task, in their order.

    Raises:
        ValueError: If ``block_runs`` is less than 1, or a number is negative or not a number.
    """
    if block_runs < 1 or not all(x >= 0 for x in (precision_ratio, budget_s, pause_s)):
        raise ValueError(
            f"block_runs {block_runs} must be at least 1, precision_ratio {precision_ratio}, "
            f"budget_s {budget_s} and pause_s {pause_s} not negative"
        )
    begun_at_s = now_s()
    rng, order = random.Random(seed), list(tasks)
    blocks: dict[K, list[Block]] = {key: list((earlier or {}).get(key, ())) for key in tasks}
    found = {key: measurement_of(known) for key, known in blocks.items() if known}

    def is_spent() -> bool:
        return now_s() - begun_at_s >= budget_s

    def is_known(key: K) -> bool:
        return key in found and found[key].half_width_ratio <= precision_ratio

    while not all(map(is_known, order)) and not (found.keys() >= tasks.keys() and is_spent()):
        rng.shuffle(order)
        for key in order:
            if key in found and is_spent():
                continue
            blocks[key].append([_paced(tasks[key], pause_s, sleep) for _ in range(block_runs)])
            found[key] = measurement_of(blocks[key])
            if on_block is not None:
                on_block(key, found[key])
    return {key: found[key] for key in tasks}


def _paced(task: Callable[[], float], pause_s: float, sleep: Callable[[float], None]) -> float:
    if pause_s > 0:
        sleep(pause_s)
    return task()


def _warm_ups(blocks: Sequence[Block]) -> tuple[int, ...]:
    """Return how many runs at the beginning of each block are warm-ups."""
    settled_s = [median(block[len(block) // 2 :]) or 1.0 for block in blocks]
    ratios = [
        run_s / scale_s
        for block, scale_s in zip(blocks, settled_s, strict=True)
        for run_s in block[len(block) // 2 :]
    ]
    low, high = np.quantile(ratios, [0.25, 0.75])
    fence = float(high + _FENCE * (high - low))
    return tuple(
        max((i + 1 for i in range(len(block) // 2) if block[i] > fence * scale_s), default=0)
        for block, scale_s in zip(blocks, settled_s, strict=True)
    )


def _half_width_ratio(medians_s: Sequence[float], median_s: float) -> float:
    interval = median_interval(medians_s)
    if interval is None:
        return math.inf
    width_s = interval[1] - interval[0]
    if width_s == 0:
        return 0.0
    return width_s / 2 / median_s if median_s > 0 else math.inf
