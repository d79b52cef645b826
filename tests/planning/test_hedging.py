"""Decisions with hedges, windows, energy and throughput, against trying the formulas one by one."""

import dataclasses
import math

import numpy as np
import pytest

from isthmus.errors import NoPlanError
from isthmus.planning.batch import choose_many
from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide, decide_many, intervals_s, predict, will_be_late
from isthmus.planning.hedging import SAFE_RATIO, late_ratio
from isthmus.planning.plan_table import PlanEntry, cloud_hop_terms, compile_table, link_terms
from isthmus.planning.view import view_of
from isthmus.types.conditions import CloudState, Conditions, ImageFacts
from isthmus.types.link import Link, stall_rounds
from isthmus.types.plan import FAMILIES, SITE_FAMILIES, PlanRow, Rules
from isthmus.types.power import Power

COLUMNS = columns_for([256])
LINK = Link(1e6, 1e7, 0.02, uplink_sd_ratio=0.2)
POWER = Power(compute_w=2.0, send_w=1.5, wait_w=0.25, receive_w=1.0, source="made up")
DEVICE = ("decode", "preprocess", "head", "encode")


def entry(family, head_s, server_s=0.0, sent=0.0, *, name="net", unit=None, **figures):
    terms = {"head": {"device": head_s}}
    if family != "local":
        terms["server"] = {"server": server_s}
        terms |= link_terms(family, sent_bytes=sent, received_bytes=1000)
    if family == "returned":
        terms["tail"] = {"device": 0.005}
    unit = "" if family == "local" else unit or f"{name}.{family}"
    return PlanEntry(PlanRow(name, family, unit=unit), terms, sent_bytes=sent, **figures)


def table_of(*entries):
    return compile_table(entries, COLUMNS)


REMOTE = entry("split", 0.010, 0.02, 50_000.0, name="big", accuracy=0.8)
# mean 0.010 + 0.02 + 0.05 + 0.02 + 0.0001, spread of the upload 0.01
MEAN_S, SD_S = 0.1001, 0.01
SMALL = entry("local", 0.040, name="small", accuracy=0.6, residual_s=0.002)
SMALLER = entry("local", 0.020, name="smaller", accuracy=0.5)
TABLE = table_of(REMOTE, SMALL, SMALLER)


def test_a_hedge_by_hand():
    rules = Rules(deadline_s=0.12, hedge_above_ratio=0.01)
    plan = decide(TABLE, Conditions(LINK), rules)
    late = 0.5 * math.erfc((0.12 - MEAN_S) / SD_S / math.sqrt(2))
    assert (plan.index, plan.late_ratio) == (0, pytest.approx(late))
    assert plan.hedge is not None
    assert (plan.hedge.index, plan.hedge.row.variant, plan.hedge.accuracy) == (1, "small", 0.6)
    assert plan.hedge.start_s == pytest.approx(0.12 - 0.040 - 1.64 * 0.002)
    assert plan.hedge.late_ratio == pytest.approx(late * 0.0505, rel=1e-3)
    assert decide(TABLE, Conditions(LINK), Rules(deadline_s=0.12)).hedge is None
    rarely = dataclasses.replace(rules, hedge_above_ratio=0.03)
    assert decide(TABLE, Conditions(LINK), rarely).hedge is None


def test_a_hedge_starts_after_the_devices_own_part():
    link = Link(1e6, 1e7, 0.002, uplink_sd_ratio=0.5)
    rules = Rules("least_latency", 0.115, hedge_above_ratio=0.0)
    for head_s, index in [(0.070, 1), (0.080, 2)]:
        busy = entry("split", head_s, 0.001, 20_000.0, name="big", accuracy=0.8)
        plan = _remote(table_of(busy, SMALL, SMALLER), Conditions(link), rules)
        assert plan.hedge is not None
        assert plan.hedge.index == index
        assert plan.hedge.start_s >= head_s


def _remote(table, conditions, rules):
    return next(p for p in predict(table, conditions, rules) if not p.row.is_local)


def test_a_hedge_that_starts_at_once_is_better_than_none():
    tight = entry("split", 0.090, 0.001, 5_000.0, name="big", accuracy=0.8)
    noisy = entry("local", 0.020, name="noisy", accuracy=0.4, residual_s=0.02)
    slow = entry("local", 0.028, name="slow", accuracy=0.7, residual_s=0.02)
    table = table_of(tight, noisy, slow, entry("local", 0.2, accuracy=0.9))
    rules = Rules(deadline_s=0.12, hedge_above_ratio=0.0)
    plan = _remote(table, Conditions(LINK), rules)
    assert plan.hedge is not None
    assert (plan.hedge.index, plan.hedge.start_s) == (1, pytest.approx(0.090))
    local_late = late_ratio(0.020, 0.02, 0.030)
    assert plan.hedge.late_ratio == pytest.approx(plan.late_ratio * local_late)
    hopeless = table_of(tight, entry("local", 0.031))
    assert _remote(hopeless, Conditions(LINK), rules).hedge is None


def test_no_hedge_without_a_local_row_or_where_the_device_is_needed():
    rules = Rules("least_latency", 0.12, hedge_above_ratio=0.0)
    returned = entry("returned", 0.01, 0.02, 50_000.0)
    assert _remote(table_of(returned, SMALL), Conditions(LINK), rules).hedge is None
    for families in (frozenset({"split"}), SITE_FAMILIES["edge"] | {"split"}):
        only = dataclasses.replace(rules, families=families)
        assert decide(TABLE, Conditions(LINK), only).hedge is None
    assert decide(table_of(SMALL), Conditions(LINK), rules).hedge is None


def test_a_more_accurate_remote_row_is_taken_for_what_it_adds_with_its_hedge():
    # Late with 16 %: 0.84 of 0.8 and 0.16 of 0.6 is 0.768.
    deadline_s = MEAN_S + SD_S
    for accuracy, index in [(0.767, 0), (0.769, 2)]:
        other = entry("local", 0.105, name="other", accuracy=accuracy)
        table = table_of(REMOTE, SMALL, other)
        rules = Rules(deadline_s=deadline_s, hedge_above_ratio=0.05)
        plan = decide(table, Conditions(LINK), rules)
        assert plan.index == index  # `other` has no time left after the remote row's head
        assert decide(table, Conditions(LINK), Rules(deadline_s=deadline_s)).index == 2
        if index == 0:
            assert (plan.hedge.index, plan.slack_s < 0, will_be_late(plan)) == (1, True, False)
    # Its mean has to be in time, and it has to be late often enough for a hedge.
    late = Rules(deadline_s=MEAN_S - 1e-6, hedge_above_ratio=0.05)
    assert decide(TABLE, Conditions(LINK), late).index == 1
    seldom = Rules(deadline_s=deadline_s, hedge_above_ratio=0.2)
    assert decide(TABLE, Conditions(LINK), seldom).index == 1


def test_late_is_late_for_both_by_drawing():
    rng = np.random.default_rng(2)
    rules = Rules(deadline_s=MEAN_S + SD_S, hedge_above_ratio=0.05)
    plan = decide(TABLE, Conditions(LINK), rules)
    rates = rng.normal(0.05, 0.01, 1_000_000)
    remote_s = 0.0501 + rates
    local_s = plan.hedge.start_s + rng.normal(0.040, 0.002, len(rates))
    late = remote_s > rules.deadline_s
    assert late.mean() == pytest.approx(plan.late_ratio, rel=0.01)
    both = late & (local_s > rules.deadline_s)
    assert both.mean() == pytest.approx(plan.hedge.late_ratio, rel=0.04)
    assert plan.hedge.late_ratio < SAFE_RATIO


def test_a_preferred_site_gets_its_hedge_too():
    rules = Rules(deadline_s=0.12, hedge_above_ratio=0.001, mode="prefer_edge")
    file = entry("file", 0.010, 0.02, 50_000.0, name="big", accuracy=0.8)
    plan = decide(table_of(file, SMALL), Conditions(LINK), rules)
    assert (plan.index, plan.hedge.index) == (0, 1)


def test_larger_errors_than_predicted_make_late_more_often():
    assert late_ratio(0.1, 0.01, 0.1 + 0.02, safety_sds=2.0) == pytest.approx(SAFE_RATIO)
    assert late_ratio(0.1, 0.0, 0.1) == 0.0
    assert late_ratio(0.1, 0.0, 0.0999) == 1.0
    slow = Conditions(LINK, safety_sds=3.0)
    plan, usual = (_remote(TABLE, c, Rules(deadline_s=0.12)) for c in (slow, Conditions(LINK)))
    assert plan.late_ratio > usual.late_ratio
    assert plan.slack_s == pytest.approx(0.12 - MEAN_S - 3 * SD_S)


# Slow start, energy and throughput.


def test_slow_start_is_paid_in_the_upload():
    link = Link(1e6, 1e7, 0.1)
    stalls_s = link.stalls_s(15_000)
    rows = [entry("split", 0.0, 0.0, size) for size in (100.0, 15_000.0, 15_001.0, 50e3, 1e6)]
    rows += [entry("file", 0.0, 0.0, size, unit="u") for size in (300.0, 20_000.0)]
    rows.append(entry("split", 0.0, 0.0, 50e3, exit_probability=0.5))
    photo = ImageFacts("jpeg", 640, 480, 40_000)
    plans = predict(table_of(*rows, SMALL), Conditions(link, photo, window_bytes=15_000))
    free = predict(table_of(*rows, SMALL), Conditions(link, photo))
    lost_s = [p.latency_s - f.latency_s for p, f in zip(plans, free, strict=True)]
    file_s = [stalls_s[stall_rounds(size, 15_000)] for size in (40_300, 60_000)]
    expected = [0.0, 0.0, stalls_s[1], stalls_s[2], stalls_s[3], *file_s, stalls_s[2] / 2, 0.0]
    assert file_s[0] != file_s[1]
    assert lost_s == pytest.approx(expected)
    for plan, other in zip(plans, free, strict=True):
        moved_s = plan.stages_s["upload"] - other.stages_s["upload"]
        assert moved_s == pytest.approx(plan.latency_s - other.latency_s)


def test_what_stalls_arrives_later_and_waits_less():
    link, table = Link(1e6, 1e7, 0.1), table_of(entry("split", 0.01, 0.02, 50e3))
    now = Conditions(link, window_bytes=15_000, unit_ready_s={"net.split": 0.4})
    plan = decide(table, now)
    arrival_s = 0.01 + 0.05 + 0.05 + link.stalls_s(15_000)[2]
    assert plan.stages_s["wait"] == pytest.approx(0.4 - arrival_s)
    assert decide_many(table, [now]).latency_s[0] == pytest.approx(plan.latency_s)


def test_spread_by_moving_rate_and_round_trip():
    """The variance is that of the latency itself, to first order: stalls and rates together."""
    table = table_of(entry("split", 0.01, 0.02, 50e3))
    rho, step = -0.6, 1e-6
    link = Link(1e6, 1e7, 0.1, uplink_sd_ratio=0.1, rtt_sd_s=0.01, uplink_rtt_correlation=rho)
    for window_bytes in (math.inf, 15_000):
        now = Conditions(link, window_bytes=window_bytes)
        base = decide(table, now).latency_s
        slower = dataclasses.replace(link, uplink_bytes_per_s=1e6 / (1 + 0.1 * step))
        longer = dataclasses.replace(link, rtt_s=0.1 + 0.01 * step)
        up, rtt = (
            (decide(table, dataclasses.replace(now, link=x)).latency_s - base) / step
            for x in (slower, longer)
        )
        expected = math.sqrt(up * up + rtt * rtt + 2 * rho * up * rtt)
        assert decide(table, now).latency_sd_s == pytest.approx(expected, rel=1e-4)


def test_energy_by_hand():
    table = table_of(entry("file", 0.01, 0.04, 1000.0), entry("returned", 0.01, 0.04, 1000.0))
    now = Conditions(
        Link(1e6, 1e7, 0.02), ImageFacts("jpeg", 64, 48, 9000), is_connected=False,
        unit_ready_s={"net.file": 0.1},
    )  # fmt: skip
    file, returned = predict(table, now, Rules(power=POWER))
    upload_s, arrival_s = 0.01 + 0.01, 0.01 + 0.02 + 0.01 + 0.01
    joules = 2.0 * 0.01 + 1.5 * (0.02 + upload_s) + 0.25 * (0.1 - arrival_s + 0.04) + 0.0101
    assert file.energy_j == pytest.approx(joules)
    assert returned.energy_j == pytest.approx(
        2.0 * (0.01 + 0.005) + 1.5 * (0.02 + 0.011) + 0.25 * 0.04 + 0.0101
    )


def test_least_energy_within_the_deadline():
    table = table_of(
        entry("local", 0.10, accuracy=0.7),
        entry("split", 0.01, 0.2, 1000.0, accuracy=0.7),
        entry("local", 0.05, name="small", accuracy=0.6),
    )
    now = Conditions(Link(1e7, 1e7, 0.02))
    for deadline_s, index in [(None, 1), (0.5, 1), (0.2, 2), (0.01, 2)]:
        plan = decide(table, now, Rules("least_energy", deadline_s, power=POWER))
        assert plan.index == index
    costly = dataclasses.replace(POWER, wait_w=2.0)
    assert decide(table, now, Rules("least_energy", power=costly)).index == 2


def test_greatest_throughput_is_the_least_bottleneck():
    table = table_of(
        entry("local", 0.10), entry("split", 0.04, 0.03, 50e3), entry("split", 0.02, 0.06, 20e3),
        entry("split", 0.04, 0.02, 50e3, exit_probability=0.5),
    )  # fmt: skip
    now = Conditions(Link(1e6, 1e7, 0.5), is_connected=False, unit_ready_s={"net.split": 9.0})
    assert intervals_s(table, now) == pytest.approx({0: 0.10, 1: 0.05, 2: 0.06, 3: 0.04})
    assert decide(table, now, Rules("greatest_throughput")).index == 3
    assert decide(table, now, Rules("greatest_throughput", 0.2)).index == 0  # the only one in time


def test_equal_bottlenecks_and_energies_go_to_less_latency():
    link = Link(1e6, 1e7, 0.001)
    for rows in (1, 2, 3, 5, 9):  # wherever the row is in the table
        table = table_of(
            *(entry("split", 0.02 + 0.001 * i, 0.01, 90_000.0) for i in range(rows)),
            entry("split", 0.001, 0.01, 90_000.0, unit="the one"),
        )
        plan = decide(table, Conditions(link), Rules("greatest_throughput"))
        assert plan.row.unit == "the one"
        still = Power(0.0, 1.0, 0.0, 1.0, source="made up")
        plan = decide(table, Conditions(link), Rules("least_energy", power=still))
        assert plan.row.unit == "the one"


# Everything at once, at random.


def random_table(rng, rows):
    entries = [
        entry(
            FAMILIES[i % len(FAMILIES)], float(rng.uniform(0, 0.1)), float(rng.uniform(0, 0.1)),
            float(rng.choice([10.0 ** rng.uniform(1, 6), 40_000.0])), unit=f"u{i % 7}",
            name=f"net{i % 3}", accuracy=float(rng.choice([0.5, 0.6, rng.uniform(0.5, 0.9)])),
            residual_s=float(rng.uniform(0, 0.01)), sent_bytes_sd=float(rng.uniform(0, 1e4)),
            exit_probability=float(rng.choice([0.0, 0.0, 0.3])),
        )
        for i in range(rows)
    ]  # fmt: skip
    return table_of(*entries, *entries[: rows // 3])  # some twice: ties


def random_conditions(rng):
    return Conditions(
        Link(
            *(10.0 ** rng.uniform(4, 8, 2)), 10.0 ** rng.uniform(-4, -0.5), *rng.uniform(0, 0.4, 2),
            rng.uniform(0, 0.02), float(rng.choice([0.0, rng.uniform(-1, 1)])),
        ),
        rng.choice([None, ImageFacts("jpeg", 640, 480, int(rng.integers(100, 10**6)))]),
        is_connected=rng.random() < 0.5,
        is_server_available=rng.random() < 0.9,
        device_slowdown=10.0 ** rng.uniform(-0.5, 0.5),
        server_slowdown=10.0 ** rng.uniform(-0.5, 0.5),
        device_slowdown_sd=rng.uniform(0, 0.3),
        server_slowdown_sd=rng.uniform(0, 0.3),
        unit_ready_s={
            f"u{i}": float(rng.choice([rng.uniform(0, 0.5), math.inf]))
            for i in range(4)
            if rng.random() < 0.2
        },
        window_bytes=float(rng.choice([math.inf, 1460.0, 14_480.0, 10.0 ** rng.uniform(3, 6)])),
        safety_sds=float(rng.choice([1.64, 1.64, 2.5, 0.0])),
    )  # fmt: skip


def brute_force(table, conditions, rules):
    """The stated rules, tried on every plan; plans as predicted one by one without a hedge."""
    plans = predict(table, conditions, dataclasses.replace(rules, hedge_above_ratio=None))
    z, deadline_s = conditions.safety_sds, rules.deadline_s
    limit_s = math.inf if deadline_s is None else deadline_s

    def margin_s(plan):
        return z * plan.latency_sd_s

    def order(plan):
        return plan.latency_s, plan.sent_bytes, plan.index

    def hedge_of(plan):
        if plan.row.is_local or plan.row.family == "returned":
            return None
        q = table.exit_probability[plan.index]
        assert 0 <= q <= 1
        free_s = sum(plan.stages_s[stage] for stage in DEVICE)
        own = [p for p in plans if p.row.is_local]
        timely = [p for p in own if free_s + p.latency_s + margin_s(p) <= limit_s]
        if timely:
            best = min(timely, key=lambda p: (-p.accuracy, p.latency_s, p.index))
            ratio = late_ratio(best.latency_s, best.latency_sd_s, best.latency_s + margin_s(best),
                               safety_sds=z)  # fmt: skip
            return best, limit_s - best.latency_s - margin_s(best), plan.late_ratio * ratio, True
        at_once = [
            (late_ratio(free_s + p.latency_s, p.latency_sd_s, limit_s, safety_sds=z), p)
            for p in own
            if free_s + p.latency_s <= limit_s
        ]
        if not at_once:
            return None
        ratio, best = min(at_once, key=lambda f: (f[0], -f[1].accuracy, f[1].latency_s, f[1].index))
        return best, free_s, plan.late_ratio * ratio, False

    timely = [p for p in plans if p.latency_s + margin_s(p) <= limit_s]
    if rules.objective == "least_latency" or not timely:
        chosen = min(plans, key=order)
    elif rules.objective == "most_accurate":
        chosen = min(timely, key=lambda p: (-p.accuracy, *order(p)))
    else:
        costs = {p.index: p.energy_j for p in plans}
        if rules.objective == "greatest_throughput":
            costs = intervals_s(table, conditions, rules)
        least = min(costs[p.index] for p in timely)
        chosen = min((p for p in timely if costs[p.index] <= least * (1 + 1e-9)), key=order)
    above = rules.hedge_above_ratio
    if above is None or deadline_s is None:
        return chosen, None
    if rules.objective == "most_accurate":
        score = chosen.accuracy if timely else -1.0
        for plan in sorted(plans, key=order):
            hedge = hedge_of(plan)
            if plan in timely or plan.latency_s > limit_s or plan.late_ratio < above or not hedge:
                continue
            mixed = (1 - plan.late_ratio) * plan.accuracy + plan.late_ratio * hedge[0].accuracy
            if hedge[3] and plan.accuracy > score and mixed > score:
                chosen, score = plan, mixed
    return chosen, hedge_of(chosen) if chosen.late_ratio >= above else None


@pytest.mark.parametrize(
    "objective", ["least_latency", "most_accurate", "least_energy", "greatest_throughput"]
)
@pytest.mark.parametrize("deadline_s", [None, 0.06, 0.2])
@pytest.mark.parametrize("above", [None, 0.0, 0.03, 0.2])
def test_one_or_many_is_the_stated_rule(objective, deadline_s, above):
    rules = Rules(objective, deadline_s, power=POWER, hedge_above_ratio=above)
    rng = np.random.default_rng(7)
    hedged = taken = 0
    for rows in (3, 12, 40):
        table = random_table(rng, rows)
        cases = []
        for conditions in [random_conditions(rng) for _ in range(25)]:
            try:
                plan = decide(table, conditions, rules)
            except NoPlanError:
                continue
            chosen, hedge = brute_force(table, conditions, rules)
            assert plan.index == chosen.index
            assert (plan.hedge is None) == (hedge is None)
            if hedge is not None:
                assert plan.hedge.index == hedge[0].index
                assert plan.hedge.start_s == pytest.approx(hedge[1])
                assert plan.hedge.late_ratio == pytest.approx(hedge[2])
                hedged += 1
                taken += plan.slack_s < 0 and not will_be_late(plan)
            cases.append((conditions, plan))
        many = decide_many(table, [conditions for conditions, _ in cases], rules)
        for n, (_, plan) in enumerate(cases):
            assert many.index[n] == plan.index
            assert many.latency_s[n] == pytest.approx(plan.latency_s, rel=1e-12)
            assert many.latency_sd_s[n] == pytest.approx(plan.latency_sd_s, rel=1e-9, abs=1e-12)
            late = plan.late_ratio if plan.hedge is None else plan.hedge.late_ratio
            assert many.late_ratio[n] == pytest.approx(late, abs=1e-9)
            assert many.hedge_index[n] == (-1 if plan.hedge is None else plan.hedge.index)
            if plan.hedge is not None:
                assert many.hedge_start_s[n] == pytest.approx(plan.hedge.start_s)
    if objective == "most_accurate" and deadline_s == 0.2 and above == 0.0:
        assert hedged > taken > 0


@pytest.mark.parametrize("mode", ["prefer_device", "prefer_edge", "only_edge", "only_device"])
def test_many_follow_every_mode_and_budget(mode):
    rng = np.random.default_rng(9)
    for budget in (None, 50_000):
        rules = Rules(deadline_s=0.15, mode=mode, max_sent_bytes=budget, hedge_above_ratio=0.02)
        table = random_table(rng, 30)
        cases = [random_conditions(rng) for _ in range(30)]
        cases = [dataclasses.replace(c, is_server_available=True, unit_ready_s={}) for c in cases]
        many = decide_many(table, cases, rules)
        assert many.index.tolist() == [decide(table, c, rules).index for c in cases]


def test_each_photographs_size_says_how_many_rounds_it_stalls():
    link, window = Link(1e7, 1e7, 0.1), 15_000.0  # full after seven rounds
    table = table_of(*(entry("file", 0.0, 0.01, sent) for sent in (500.0, 40_000.0)))
    stalls_s = link.stalls_s(window)
    for size in (1_000, 14_500, 14_501, 44_500, 44_501, 700_000, 5_000_000, 1_000):
        now = Conditions(link, ImageFacts("jpeg", 640, 480, size), window_bytes=window)
        for plan, sent in zip(predict(table, now), (500.0, 40_000.0), strict=True):
            rounds = min(stall_rounds(size + sent, window), len(stalls_s) - 1)
            expected_s = 0.05 + (size + sent) / 1e7 + stalls_s[rounds]
            assert plan.stages_s["upload"] == pytest.approx(expected_s)
            assert sum(plan.stages_s.values()) == pytest.approx(plan.latency_s)


def test_many_at_once_decide_themselves_but_for_ties():
    """Else ``decide`` would decide, and agree with itself."""
    rng = np.random.default_rng(5)
    entries = [
        entry(
            FAMILIES[i % len(FAMILIES)], float(rng.uniform(0, 0.1)), float(rng.uniform(0, 0.1)),
            float(10.0 ** rng.uniform(1, 6)), name=f"net{i}", accuracy=float(rng.uniform(0.5, 0.9)),
            residual_s=float(rng.uniform(0, 0.01)),
        )
        for i in range(30)
    ]  # fmt: skip
    table = table_of(*entries)
    cases = [random_conditions(rng) for _ in range(60)]
    cases = [dataclasses.replace(c, is_server_available=True, unit_ready_s={}) for c in cases]
    for rules in (Rules("least_latency"), Rules(deadline_s=0.2, hedge_above_ratio=0.03)):
        chosen, is_clear = choose_many(view_of(table, cases[0], rules), cases, rules)
        assert is_clear.mean() > 0.9
        for n in np.flatnonzero(is_clear):
            plan = decide(table, cases[n], rules)
            assert chosen.index[n] == plan.index
            assert chosen.hedge_index[n] == (-1 if plan.hedge is None else plan.hedge.index)


@pytest.mark.parametrize("doublings", range(6))
def test_a_round_that_just_fills_the_link_is_one_or_many_alike(doublings):
    """Round figures meet the very limit; the spread jumps there by a round trip's."""
    table = table_of(entry("split", 0.0, 0.01, 7_500_000.0))
    for rate in (1e4, 1e5, 3e5, 1e6, 7e6, 1e7):
        link = Link(rate, rate, 12_500 / rate * 2**doublings, 0.1, 0.1, 0.005)
        now = Conditions(link, window_bytes=12_500.0)
        many = decide_many(table, [now])
        assert many.latency_sd_s[0] == pytest.approx(decide(table, now).latency_sd_s, rel=1e-12)


def test_a_cloud_behind_the_server_is_one_or_many_alike():
    rng = np.random.default_rng(11)
    entries = [entry("local", 0.1, accuracy=0.7)]
    for i in range(12):
        row = PlanRow("net", "split", ("t",), "id", "raw", f"tail{i}", cloud_tensors=("u",))
        behind = cloud_hop_terms(sent_bytes=float(rng.uniform(1e3, 1e5)), received_bytes=1000)
        server = {"server": 0.01, "cloud": float(rng.uniform(0.001, 0.05)), **behind}
        terms = {"server": server, **link_terms("split", sent_bytes=9e3, received_bytes=900)}
        entries.append(PlanEntry(row, terms, 0.001, accuracy=float(rng.uniform(0.6, 0.8))))
    table = compile_table(entries, columns_for([256], has_cloud=True))
    cases = [
        dataclasses.replace(
            random_conditions(rng),
            unit_ready_s={},
            cloud=CloudState(
                random_conditions(rng).link, float(rng.uniform(0.5, 2)), float(rng.uniform(0, 0.3))
            ),
        )
        for _ in range(60)
    ]
    for rules in (Rules("least_latency"), Rules(deadline_s=0.3, hedge_above_ratio=0.03)):
        many = decide_many(table, cases, rules)
        plans = [decide(table, case, rules) for case in cases]
        assert many.index.tolist() == [plan.index for plan in plans]
        assert many.latency_s == pytest.approx([plan.latency_s for plan in plans], rel=1e-12)
        assert many.latency_sd_s == pytest.approx([plan.latency_sd_s for plan in plans], rel=1e-9)
        assert len(set(many.index.tolist())) > 2
