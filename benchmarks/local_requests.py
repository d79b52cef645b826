"""How alike local requests are: `python benchmarks/local_requests.py demo/app.isthmus`.

It asserts nothing and needs no server, only a bundle that `isthmus demo` left. A device that may
do anything and one that may only run locally carry out the same plan here, in turns of random
order, on the same photographs. What is printed of them: the median ratio of pairs with its 95 %
interval, and how far the ratio of two medians of so few requests as the demo's strays when nothing
differs. And what a rest before a request costs, such as a method on a slow link has.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from isthmus.device.client import Device
from isthmus.lab.demo import read_settings
from isthmus.lab.emulation import SlowedPace
from isthmus.profiling.measure import median_interval
from isthmus.runtime.clock import FULL_PACE
from isthmus.types.plan import Rules
from isthmus_zoo import photograph_paths

SEED = 20261121
DRAWS = 4000
RESTS_S = (0.0, 0.35, 2.0)


def in_turns(
    ways: Sequence[object], names: Sequence[str], repeats: int
) -> Iterator[tuple[int, str]]:
    """Yield places of ``ways`` in random order, for every photograph."""
    rng = random.Random(SEED)
    for _ in range(repeats):
        for name in names:
            for place in rng.sample(range(len(ways)), len(ways)):
                yield place, name


def told(ratios: np.ndarray) -> str:
    """Return a median and its interval as text."""
    low, high = median_interval(ratios.tolist()) or (float("nan"),) * 2
    return f"{np.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Run both comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeats", type=int, default=20, help="of each photograph")
    parser.add_argument("--slowdown", type=float, default=1.0, help="emulated, as the demo's 10")
    wanted = parser.parse_args()
    settings = read_settings()
    files = {path.name: path.read_bytes() for path in photograph_paths()}
    names = settings.photographs
    network = frozenset({settings.parts[0].variant})
    rules = (
        Rules("least_latency", variants=network),
        Rules("least_latency", variants=network, families=frozenset({"local"})),
    )
    pace = FULL_PACE if wanted.slowdown == 1 else SlowedPace(wanted.slowdown)
    devices = [Device(wanted.bundle, rules=one, pace=pace, is_probing=False) for one in rules]

    def seconds(device: Device, name: str) -> float:
        begun_at_s = time.perf_counter()
        device.infer(files[name])
        return time.perf_counter() - begun_at_s

    for name in names:
        seconds(devices[0], name)
    times: dict[tuple[str, int], list[float]] = {}
    for place, name in in_turns(devices, names, wanted.repeats):
        times.setdefault((name, place), []).append(seconds(devices[place], name))
    ratios = np.concatenate([np.divide(times[n, 0], times[n, 1]) for n in names])
    print(f"any plan / local only, both local, {len(ratios)} pairs: {told(ratios)}")
    rng = np.random.default_rng(SEED)
    pools = np.array([times[n, 0] + times[n, 1] for n in names])
    chosen = rng.integers(pools.shape[1], size=(len(names), 2 * DRAWS * settings.repeats))
    drawn = np.take_along_axis(pools, chosen, axis=1).reshape(len(names), 2, DRAWS, -1)
    medians = np.median(drawn, axis=(0, 3))
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    count = len(names) * settings.repeats
    print(f"two medians of {count}, nothing differing: {low:.2f} to {high:.2f}")

    rested: dict[tuple[str, int], list[float]] = {}
    for place, name in in_turns(RESTS_S, names, max(wanted.repeats // 4, 1)):
        time.sleep(RESTS_S[place])
        rested.setdefault((name, place), []).append(seconds(devices[0], name))
    for place, rest_s in enumerate(RESTS_S[1:], start=1):
        ratios = np.concatenate([np.divide(rested[n, place], rested[n, 0]) for n in names])
        print(f"after a rest of {rest_s:g} s / after none: {told(ratios)}")
    for device in devices:
        device.close()


if __name__ == "__main__":
    main()
