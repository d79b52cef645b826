"""How long a decision takes: `python benchmarks/decide.py`. Prints figures, asserts nothing.

A program decides once a request, after a network ran or while it slept: by then the processor's
caches hold something else, and code and data come back from memory. So beside a loop of nothing
but decisions (`hot`), each decision is timed alone, after something else was done: memory swept,
a network of the zoo run, or the processor left alone.

`--against FOLDER` compares with another tree, whose `src` that is: both take turns, so that the
ratio means something where the machine's speed does not.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from isthmus.lab.studies.decision_times import random_table
from isthmus.planning.decide import decide, decide_many
from isthmus.types.conditions import Conditions, ImageFacts
from isthmus.types.link import INITIAL_WINDOW_BYTES, Link
from isthmus.types.plan import Rules

SEED = 20260728
NETWORK = "efficientnet-lite0"
SWEPT_BYTES = 32 * 2**20
SLEEP_S = 0.020
RULES = (
    Rules("least_latency"),
    Rules(),
    Rules(deadline_s=0.1),
    Rules(deadline_s=0.1, hedge_above_ratio=0.01),
    Rules("least_energy", 0.1),
    Rules("greatest_throughput", 0.1),
)


def random_conditions(count: int, rng: np.random.Generator) -> list[Conditions]:
    """Return ``count`` instants: a third has a unit that still loads, a half starts slowly."""
    return [
        Conditions(
            Link(float(10 ** rng.uniform(4, 8)), 1e7, float(rng.uniform(0.001, 0.1)), 0.2, 0.2),
            ImageFacts("jpeg", 4000, 3000, int(rng.integers(10**6, 5 * 10**6))),
            device_slowdown_sd=0.05,
            server_slowdown_sd=0.1,
            unit_ready_s={"unit-1": 0.5} if i % 3 == 0 else {},
            window_bytes=INITIAL_WINDOW_BYTES if i % 2 == 0 else math.inf,
        )
        for i in range(count)
    ]


def nothing() -> None:
    """Leave the caches as they are."""


def sweeping() -> Callable[[], object]:
    """Return a function that reads and writes more memory than the caches hold."""
    memory = np.zeros(SWEPT_BYTES // 8)
    return lambda: np.add(memory, 1.0, out=memory)


def sleeping() -> None:
    """Leave the processor to others, as a program does that waits for a photograph."""
    time.sleep(SLEEP_S)


def inferring() -> Callable[[], object] | None:
    """Return a function that runs a network of the zoo; None where there is none."""
    try:
        import isthmus_zoo
        from isthmus.runtime.session import Session

        session = Session(isthmus_zoo.model_path(NETWORK))
    except ImportError:
        return None
    feeds = {spec.name: np.zeros(spec.shape, np.float32) for spec in session.inputs}
    return lambda: session.run(feeds)


def spent_us(
    call: Callable[[Conditions], object],
    conditions: list[Conditions],
    before_each: Callable[[], object],
) -> tuple[float, float]:
    """Return the median and the 99th percentile of single calls, microseconds."""
    spent = np.empty(len(conditions))
    call(conditions[0])
    for i, one in enumerate(conditions):
        before_each()
        started_ns = time.perf_counter_ns()
        call(one)
        spent[i] = (time.perf_counter_ns() - started_ns) / 1e3
    p50, p99 = np.percentile(spent, (50, 99))
    return float(p50), float(p99)


def anew(one: Conditions) -> Conditions:
    """Return equal conditions, made as a device makes them for each request."""
    return Conditions(
        link=one.link,
        image=one.image,
        is_connected=one.is_connected,
        is_server_available=one.is_server_available,
        device_slowdown=one.device_slowdown,
        server_slowdown=one.server_slowdown,
        device_slowdown_sd=one.device_slowdown_sd,
        server_slowdown_sd=one.server_slowdown_sd,
        unit_ready_s=one.unit_ready_s,
        window_bytes=one.window_bytes,
    )


def name_of(rules: Rules) -> str:
    """Return rules in a word or two."""
    if rules.objective != "most_accurate" or rules.deadline_s is None:
        return rules.objective
    hedged = "" if rules.hedge_above_ratio is None else ", hedged"
    return f"in {rules.deadline_s * 1e3:g} ms{hedged}"


def print_hot(count: int) -> None:
    """Print p50 and p99 of one decision in a loop, and the mean of many at once."""
    rng = np.random.default_rng(SEED)
    conditions = random_conditions(count, rng)
    print("rows columns rules                 p50_us  p99_us many_us")
    for rows in (20, 200, 1000):
        table = random_table(rows, rng)
        for rules in RULES:
            p50, p99 = spent_us(lambda one: decide(table, one, rules), conditions, nothing)  # noqa: B023
            started_ns = time.perf_counter_ns()
            for first in range(0, count, 100):
                decide_many(table, conditions[first : first + 100], rules)
            many = (time.perf_counter_ns() - started_ns) / 1e3 / count
            name = name_of(rules)
            print(f"{rows:4d} {len(table.columns):7d} {name:20s}{p50:8.1f}{p99:8.1f}{many:8.1f}")


def print_cold(count: int) -> None:
    """Print p50 and p99 of one decision among 20 plans, after something else was done."""
    rng = np.random.default_rng(SEED)
    table = random_table(20, rng)
    conditions = [c for c in random_conditions(3 * count, rng) if not c.unit_ready_s][:count]
    before = {"hot": nothing, "memory swept": sweeping(), "slept 20 ms": sleeping}
    network = inferring()
    if network is None:
        print(f"(no {NETWORK} here: decisions after an inference are left out)")
    else:
        before[f"{NETWORK} run"] = network
    print(f"{'':44s}{'decide alone':>18s}{'conditions too':>18s}")
    print(f"{'after':24s}{'rules':20s}" + 2 * "   p50_us   p99_us")
    for name, before_each in before.items():
        for rules in RULES:
            alone = spent_us(lambda one: decide(table, one, rules), conditions, before_each)  # noqa: B023
            both = spent_us(lambda one: decide(table, anew(one), rules), conditions, before_each)  # noqa: B023
            figures = "".join(f"{figure:9.1f}" for figure in (*alone, *both))
            print(f"{name:24s}{name_of(rules):20s}{figures}")


def figures_once() -> dict[str, float]:
    """Return what is compared, microseconds of a decision in the median or on the mean."""
    rng = np.random.default_rng(SEED)
    large, small = random_table(200, rng), random_table(20, rng)
    rules, links = Rules(deadline_s=0.1, hedge_above_ratio=0.01), random_conditions(3000, rng)
    alike = [  # one photograph, as a study has
        Conditions(c.link, links[0].image, window_bytes=INITIAL_WINDOW_BYTES) for c in links
    ]
    found = {"one of 200": spent_us(lambda one: decide(large, one, rules), alike, nothing)[0]}
    started_ns = time.perf_counter_ns()
    for first in range(0, len(alike), 100):
        decide_many(large, alike[first : first + 100], rules)
    found["a hundred, of 200"] = (time.perf_counter_ns() - started_ns) / 1e3 / len(alike)
    network = inferring()
    if network is not None:
        cold = [c for c in links if not c.unit_ready_s][:30]
        spent = spent_us(lambda one: decide(small, anew(one), rules), cold, network)
        found["one of 20, cold"] = spent[0]
    return found


def print_against(folder: Path, turns: int) -> None:
    """Print figures of this tree and of another one, and their ratio turn by turn."""
    trees = (folder, Path(__file__).resolve().parent.parent / "src")
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker"],
            env=os.environ | {"PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )
        for tree in trees
    ]  # fmt: skip

    def asked(worker: subprocess.Popen[str]) -> dict[str, float]:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("again\n")
        return dict(json.loads(worker.stdout.readline()))

    seen = [[asked(worker) for worker in workers] for _ in range(turns)]
    print(f"{'medians of ' + str(turns):20s} before_us   now_us   ratio")
    for name in seen[0][0]:
        before, now = ([turn[i][name] for turn in seen] for i in (0, 1))
        ratio = statistics.median(b / a for a, b in zip(before, now, strict=True))
        medians = statistics.median(before), statistics.median(now)
        print(f"{name:20s}{medians[0]:10.1f}{medians[1]:9.1f}{ratio:8.2f}")
    for worker in workers:
        worker.communicate()


def main() -> None:
    """Print what a decision takes, in a loop and once a request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=5000, help="how many of them in a loop")
    parser.add_argument("--cold", type=int, default=200, help="how many of them one at a time")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another tree's src")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        for _ in sys.stdin:
            print(json.dumps(figures_once()), flush=True)
        return
    if arguments.against is not None:
        print_against(arguments.against, turns=15)
        return
    print_hot(arguments.decisions)
    print_cold(arguments.cold)


if __name__ == "__main__":
    main()
