import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest

from isthmus.errors import NoPlanError
from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide, will_be_late
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.planning.sweep import sweep, value_of, with_value
from isthmus.types.conditions import Conditions, ImageFacts
from isthmus.types.link import Link
from isthmus.types.plan import FAMILIES, PlanRow, Rules

COLUMNS = columns_for([256])
PHOTO = ImageFacts("jpeg", 640, 480, 100_000)
NOW = Conditions(Link(1e6, 1e7, 0.02), PHOTO)
AXES = ("uplink_bytes_per_s", "server_slowdown", "device_slowdown")


def entry(family, head_s, server_s=0.0, sent=0.0, **figures):
    terms = {"head": {"device": head_s}}
    if family != "local":
        terms["server"] = {"server": server_s}
        terms |= link_terms(family, sent_bytes=sent, received_bytes=1000)
    unit = "" if family == "local" else f"net.{family}"
    return PlanEntry(PlanRow("net", family, unit=unit), terms, sent_bytes=sent, **figures)


def test_two_plans_meet_where_their_lines_do():
    table = compile_table([entry("local", 0.1), entry("split", 0.01, 0.01, 1e4)], COLUMNS)
    slow, fast = sweep(table, NOW, Rules(), "uplink_bytes_per_s", 1e3, 1e9)
    left_s = 0.1 - 0.01 - 0.01 - 0.02 - 1000 / 1e7  # for the upload, when both take 0.1
    assert (slow.low, fast.high) == (1e3, 1e9)
    assert slow.high == fast.low == pytest.approx(1e4 / left_s, rel=1e-12)
    assert (slow.plan.row.family, fast.plan.row.family) == ("local", "split")


@pytest.mark.parametrize("ratio", [0.0, 0.2])
@pytest.mark.parametrize("deadline_s", [0.2, 0.23, 0.31])
def test_a_deadline_is_met_where_mean_and_spread_say(ratio, deadline_s):
    link = dataclasses.replace(NOW.link, uplink_sd_ratio=ratio)
    rows = [entry("local", 0.1, accuracy=0.6), entry("split", 0.0, 0.01, 1e4, accuracy=0.7)]
    table = compile_table(rows, COLUMNS)
    now, rules = dataclasses.replace(NOW, link=link), Rules(deadline_s=deadline_s)
    slow, fast = sweep(table, now, rules, "uplink_bytes_per_s", 1e4, 1e9)
    left_s = deadline_s - 0.01 - 0.02 - 1000 / 1e7
    assert slow.high == pytest.approx(1e4 * (1 + 1.64 * ratio) / left_s, rel=1e-12)
    assert (slow.plan.index, fast.plan.index) == (0, 1)
    slow, *_ = sweep(table, now, Rules(deadline_s=0.05), "device_slowdown", 1.0, 100.0)
    assert (slow.is_late, slow.plan.slack_s > 0) == (False, True)


def random_case(rng):
    rows = [
        entry(
            FAMILIES[i % 5], rng.uniform(0, 0.1) + 0.3 * (i % 5 == 0), rng.uniform(0, 0.1),
            rng.uniform(1, 1e6), accuracy=float(rng.choice([0.5, 0.6, 0.7])),
            residual_s=rng.uniform(0, 0.01), sent_bytes_sd=rng.uniform(0, 1e4),
            exit_probability=float(rng.choice([0.0, 0.0, 0.3])),
        )
        for i in range(12)
    ]  # fmt: skip
    return compile_table(rows, COLUMNS), Conditions(
        Link(10.0 ** rng.uniform(4, 8), 1e7, 0.01, 0.3, 0.2, 0.001),
        PHOTO,
        device_slowdown_sd=0.1,
        server_slowdown_sd=0.1,
        unit_ready_s={"net.split": rng.uniform(0, 1), "net.file": rng.uniform(0, 1)},
    )


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(
    "rules",
    [
        Rules("least_latency"), Rules(), Rules(deadline_s=0.3),
        Rules(mode="prefer_device"), Rules("least_latency", mode="prefer_edge"),
        Rules(deadline_s=0.3, mode="prefer_device"),
        Rules(deadline_s=0.3, hedge_above_ratio=0.0), Rules("least_energy", 0.3),
        Rules("greatest_throughput"),
    ],
)  # fmt: skip
def test_it_is_what_deciding_says_everywhere(axis, rules):
    rng = np.random.default_rng(11)
    changes = 0
    for _ in range(8):
        table, now = random_case(rng)
        low, high = (1e4, 1e9) if axis == AXES[0] else (0.05, 50.0)
        stretches = sweep(table, now, rules, axis, low, high)
        assert (stretches[0].low, stretches[-1].high) == (low, high)
        changes += len(stretches) - 1
        for one, following in pairwise(stretches):
            assert one.high == following.low
            assert (one.plan.index, one.is_late) != (following.plan.index, following.is_late)
        values = [*np.geomspace(low, high, 300)]
        values += [s.low * (1 + d) for s in stretches[1:] for d in (-1e-6, 1e-6)]
        for value in values:
            plan = decide(table, with_value(now, axis, value), rules)
            (stretch,) = [
                s for s in stretches if s.low <= value < s.high or value == high == s.high
            ]
            assert (plan.index, will_be_late(plan)) == (stretch.plan.index, stretch.is_late)
    assert changes > 0


@pytest.mark.parametrize("axis", AXES)
def test_a_value_is_put_where_it_is_read(axis):
    moved = with_value(NOW, axis, 7.0)
    assert value_of(moved, axis) == 7.0
    assert with_value(moved, axis, value_of(NOW, axis)) == NOW


def test_what_cannot_be_swept_is_refused():
    table = compile_table([entry("local", 0.1)], COLUMNS)
    for low, high in [(0, 1), (2, 1), (1, math.inf)]:
        with pytest.raises(ValueError, match="0 < low < high"):
            sweep(table, NOW, Rules(), "server_slowdown", low, high)
    with pytest.raises(NoPlanError):
        sweep(table, NOW, Rules(mode="only_edge"), "server_slowdown", 1, 2)
