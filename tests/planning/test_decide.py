import dataclasses
import gc
import math
import weakref

import numpy as np
import pytest

from isthmus.errors import ConditionsError, NoPlanError
from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide, decide_many, predict
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.types.conditions import NORMAL_SDS, Conditions, ImageFacts
from isthmus.types.link import Link
from isthmus.types.plan import FAMILIES, STAGES, PlanRow, Rules
from isthmus.types.power import Power

COLUMNS = columns_for([256])
FAST, SLOW = Link(1e8, 1e8, 0.001), Link(1e4, 1e4, 0.1)
PHOTO = ImageFacts("jpeg", 640, 480, 100_000)
PHOTOS = (None, PHOTO, ImageFacts("png", 64, 48, 9000), ImageFacts("jpeg", 800, 600, 7, True))
FASTEST = Rules("least_latency")
REMOTE = frozenset({"file", "resized", "tensor", "split"})


def entry(family, head_s, server_s=0.0, sent=0.0, *, name="net", unit=None, **figures):
    terms = {"head": {"device": head_s}}
    if family != "local":
        terms["server"] = {"server": server_s}
        terms |= link_terms(family, sent_bytes=sent, received_bytes=1000)
    unit = "" if family == "local" else unit or f"{name}.{family}"
    row = PlanRow(name, family, unit=unit, has_pixels=family in ("file", "resized", "tensor"))
    return PlanEntry(row, terms, sent_bytes=sent, **figures)


def table_of(*entries):
    return compile_table(entries, COLUMNS)


TABLE = table_of(
    entry("local", 0.100, accuracy=0.70),
    entry("file", 0.001, 0.02, 500.0, accuracy=0.70),
    entry("split", 0.040, 0.01, 20_000.0, accuracy=0.69),
    entry("local", 0.050, name="small", accuracy=0.60),
)


def test_it_offloads_on_a_fast_link_and_stays_on_a_slow_one():
    busy, absent = {"server_slowdown": 100.0}, {"is_server_available": False}
    assert decide(TABLE, Conditions(FAST, PHOTO), FASTEST).row.family == "file"
    assert decide(TABLE, Conditions(SLOW, PHOTO), FASTEST).row.variant == "small"
    assert decide(TABLE, Conditions(FAST, PHOTO, **busy), FASTEST).row.family == "local"
    assert decide(TABLE, Conditions(FAST, PHOTO, **absent), FASTEST).index == 3


def test_by_default_it_takes_the_most_accurate_network_by_its_fastest_plan():
    assert decide(TABLE, Conditions(FAST, PHOTO)).row.family == "file"
    assert decide(TABLE, Conditions(SLOW, PHOTO)).index == 0  # not the small one, though faster
    assert decide(TABLE, Conditions(SLOW, PHOTO, is_server_available=False)).index == 0
    plan = decide(TABLE, Conditions(SLOW, PHOTO), Rules(families=frozenset({"file", "split"})))
    assert (plan.index, plan.slack_s) == (1, math.inf)


def test_a_server_that_makes_other_pixels_is_sent_nothing_to_decode():
    """A resized row is one of them: it sends the file where that is the smaller one."""
    table = table_of(
        entry("local", 0.1),
        entry("file", 0.0, 0.01, 500.0),
        entry("resized", 0.0, 0.02, 500.0),
        entry("tensor", 0.0, 0.03, 500.0),
        entry("split", 0.0, 0.04, 500.0),
    )
    alike, other = Conditions(FAST, PHOTO), Conditions(FAST, PHOTO, decodes_alike=False)
    allowed = dataclasses.replace(FASTEST, allow_other_pixels=True)
    assert decide(table, alike, FASTEST).row.family == "file"
    assert [plan.row.family for plan in predict(table, other, FASTEST)] == [
        "local", "tensor", "split",
    ]  # fmt: skip
    assert decide(table, other, FASTEST).row.family == "tensor"
    assert decide(table, other, allowed).row.family == "file"
    found = decide_many(table, [alike, other, alike], FASTEST)
    assert [table.rows[index].family for index in found.index] == ["file", "tensor", "file"]
    only = dataclasses.replace(FASTEST, families=frozenset({"file"}))
    with pytest.raises(
        NoPlanError, match=r"to other pixels \(allow_other_pixels is off\) excludes 2"
    ):
        decide(table, other, only)


def test_most_accurate_passes_over_what_is_never_ready():
    table = table_of(
        entry("file", 0.0, 0.02, 500.0, accuracy=0.8),
        entry("local", 0.1, accuracy=0.7),
        entry("local", 0.2, accuracy=0.7),
        entry("local", 0.01, accuracy=0.6),
    )
    never = {"net.file": math.inf}
    assert decide(table, Conditions(FAST)).index == 0
    assert decide(table, Conditions(FAST, unit_ready_s=never)).index == 1


def test_figures_of_a_plan_by_hand():
    link = Link(1e6, 2e6, 0.02, uplink_sd_ratio=0.1, downlink_sd_ratio=0.2, rtt_sd_s=0.003)
    conditions = Conditions(
        link, PHOTO, is_connected=False, device_slowdown=2.0, server_slowdown=3.0,
        device_slowdown_sd=0.5, server_slowdown_sd=0.25, unit_ready_s={"net.file": 0.5},
    )  # fmt: skip
    table = table_of(entry("file", 0.001, 0.02, 500.0, residual_s=0.004, sent_bytes_sd=50.0))
    plan = decide(table, conditions, Rules(deadline_s=1.0))
    arrival = 0.002 + 0.02 + 0.01 + 100_500 / 1e6
    expected = {
        "head": 0.002, "connect": 0.02, "upload": 0.01 + 0.1005, "wait": 0.5 - arrival,
        "server": 0.06, "download": 0.01 + 1000 / 2e6,
    }  # fmt: skip
    assert dict(plan.stages_s) == pytest.approx({s: expected.get(s, 0.0) for s in STAGES})
    assert tuple(plan.stages_s) == STAGES
    assert plan.latency_s == pytest.approx(0.5 + 0.06 + 0.0105)
    spreads = (0.001 * 0.5, 0.02 * 0.25, 0.1005 * 0.1, 0.0005 * 0.2, 2 * 0.003)
    variance = sum(s * s for s in spreads) + 0.004**2 + (50.0 * 1e-6) ** 2
    assert plan.latency_sd_s == pytest.approx(math.sqrt(variance))
    assert plan.slack_s == pytest.approx(1.0 - plan.latency_s - 1.64 * math.sqrt(variance))
    assert plan.sent_bytes == 100_500


def test_without_a_deadline_slack_is_infinite():
    assert decide(TABLE, Conditions(FAST, PHOTO)).slack_s == math.inf


def test_waiting_overlaps_with_the_head_and_the_upload():
    conditions = Conditions(FAST, unit_ready_s={"net.split": 0.03})
    split = table_of(entry("split", 0.040, 0.01, 20_000.0))
    assert decide(split, conditions).stages_s["wait"] == 0
    later = dataclasses.replace(conditions, unit_ready_s={"net.split": 1.0, "other": 9.0})
    assert decide(split, later).latency_s == pytest.approx(1.0 + 0.01 + 0.0005 + 1e-5)
    assert decide(TABLE, later, FASTEST).row.family != "split"


def test_a_local_row_does_not_wait():
    table = table_of(entry("local", 0.1))
    assert decide(table, Conditions(FAST, unit_ready_s={"": 5.0})).latency_s == pytest.approx(0.1)


def test_a_unit_that_is_never_ready_is_left_out():
    never = {"net.file": math.inf}
    assert decide(TABLE, Conditions(FAST, PHOTO, unit_ready_s=never)).row.family != "file"
    with pytest.raises(NoPlanError, match=r"never ready: net.file excludes 1"):
        decide(
            TABLE, Conditions(FAST, PHOTO, unit_ready_s=never), Rules(families=frozenset({"file"}))
        )


def test_an_exit_counts_the_later_stages_by_how_often_they_are_taken():
    conditions = Conditions(FAST, unit_ready_s={"net.split": 0.5})
    plain = decide(table_of(entry("split", 0.04, 0.2, 10.0)), conditions)
    leaving = decide(table_of(entry("split", 0.04, 0.2, 10.0, exit_probability=0.75)), conditions)
    assert leaving.latency_s == pytest.approx(0.75 * 0.04 + 0.25 * plain.latency_s)
    assert sum(leaving.stages_s.values()) == pytest.approx(leaving.latency_s)
    always = decide(table_of(entry("split", 0.04, 0.2, 10.0, exit_probability=1.0)), conditions)
    assert always.latency_s == pytest.approx(0.04)


def test_most_accurate_takes_the_best_that_fits():
    conditions = Conditions(SLOW, PHOTO)
    for deadline_s, index in [(20.0, 0), (0.11, 0), (0.09, 3), (0.01, 3)]:
        rules = Rules("most_accurate", deadline_s=deadline_s)
        plan = decide(TABLE, conditions, rules)
        assert plan.index == index
        assert (plan.slack_s < 0) == (deadline_s == 0.01)


def test_most_accurate_keeps_its_distance_from_the_deadline():
    table = table_of(
        entry("local", 0.100, accuracy=0.7, residual_s=0.01),
        entry("local", 0.05, accuracy=0.6, residual_s=0.01),
    )
    bound = 0.1 + NORMAL_SDS * 0.01
    rules = [Rules("most_accurate", deadline_s=bound + d) for d in (1e-6, -1e-6)]
    assert [decide(table, Conditions(FAST), r).index for r in rules] == [0, 1]


def test_ties_go_to_less_latency_then_fewer_bytes_then_the_earlier_row():
    link = Link(1e300, 1e300, 0.0)  # bytes take no time, so rows tie
    rows = [
        entry("split", 0.5, 0.25, 300.0, accuracy=0.5, unit="a"),
        entry("split", 0.25, 0.5, 200.0, accuracy=0.5, unit="b"),
        entry("split", 0.25, 0.5, 200.0, accuracy=0.5, unit="c"),
        entry("split", 0.75, 0.5, 10.0, accuracy=0.5, unit="d"),
    ]
    assert decide(table_of(*rows), Conditions(link)).index == 1
    assert decide(table_of(*rows), Conditions(link), FASTEST).index == 1
    rules = Rules("most_accurate", deadline_s=2.0)
    assert decide(table_of(*rows), Conditions(link), rules).index == 1
    file = entry("file", 0.25, 0.5, 0.0, accuracy=0.5)
    assert decide(table_of(file, rows[0]), Conditions(link, PHOTO)).index == 1
    assert decide(table_of(file, rows[0]), Conditions(link)).index == 0


@pytest.mark.parametrize("objective", ["least_energy", "greatest_throughput"])
def test_costs_that_differ_by_rounding_alone_tie(objective):
    power = Power(compute_w=1.0, send_w=0.0, wait_w=0.0, receive_w=0.0, source="made up")
    for beyond, index in [(1e-12, 0), (1e-6, 1)]:
        table = table_of(entry("split", 0.5 * (1 + beyond), 0.2), entry("split", 0.5, 0.3))
        rules = Rules(objective, deadline_s=2.0, power=power)
        assert decide(table, Conditions(FAST), rules).index == index  # the first one is faster
        assert decide_many(table, [Conditions(FAST)], rules).index == index


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        (Rules(variants=frozenset({"small"})), {3}),
        (Rules(families=frozenset({"file", "split"})), {1, 2}),
        (Rules(no_pixels_leave=True), {0, 2, 3}),
        (Rules(variants=frozenset({"net"}), no_pixels_leave=True), {0, 2}),
    ],
)
def test_rules_exclude_rows(rules, allowed):
    rng = np.random.default_rng(5)
    for _ in range(50):
        link = Link(*(10.0 ** rng.uniform(3, 9, 2)), 10.0 ** rng.uniform(-4, 0))
        conditions = Conditions(link, PHOTO, device_slowdown=10.0 ** rng.uniform(-1, 1))
        plan = decide(TABLE, conditions, rules)
        assert plan.index in allowed
        assert plan.latency_s >= decide(TABLE, conditions, FASTEST).latency_s * (1 - 1e-12)


@pytest.mark.parametrize(
    ("mode", "allowed"), [("only_device", {0, 3}), ("only_edge", {1}), ("auto", {0, 1, 3})]
)
def test_only_one_site_is_a_rule_on_families(mode, allowed):
    found = {
        decide(TABLE, Conditions(link, PHOTO), Rules(objective, mode=mode)).index
        for link in (FAST, SLOW)
        for objective in ("least_latency", "most_accurate")
    }
    assert found <= allowed
    with pytest.raises(NoPlanError, match="families"):
        decide(TABLE, Conditions(FAST), Rules(mode=mode, families=frozenset()))


def test_a_preferred_site_needs_to_be_in_time():
    table = table_of(
        entry("local", 0.100, accuracy=0.7), entry("file", 0.0, 0.04, 0.0, accuracy=0.7)
    )
    now = Conditions(FAST)
    latency_s = 0.04 + 0.001 + 1e-5
    for mode, site, other, needed_s in [
        ("prefer_device", 0, 1, 0.1), ("prefer_edge", 1, 0, latency_s),
    ]:  # fmt: skip
        in_time, late = (
            decide(table, now, Rules(mode=mode, deadline_s=needed_s * factor))
            for factor in (1.0001, 0.9999)
        )
        assert (in_time.index, in_time.slack_s > 0) == (site, True)
        assert late.index == (other if mode == "prefer_device" else 1)  # else the least latency


def test_without_a_deadline_a_preferred_site_needs_to_be_nearly_as_good():
    for factor, index in [(1.199, 1), (1.201, 0)]:
        table = table_of(
            entry("file", 0.0, 0.099 - 1e-5, 0.0, accuracy=0.7),
            entry("local", 0.1 * factor, accuracy=0.7),
            entry("local", 0.1 * factor, accuracy=0.6, name="small"),
        )
        for objective in ("most_accurate", "least_latency"):
            rules = Rules(objective, mode="prefer_device")
            assert decide(table, Conditions(FAST), rules).index == index


def test_a_preferred_site_costs_no_accuracy_unless_latency_alone_is_asked_for():
    table = table_of(entry("file", 0.0, 0.1, 0.0, accuracy=0.7), entry("local", 0.11, accuracy=0.6))
    found = [
        decide(table, Conditions(FAST), Rules(objective, mode="prefer_device")).index
        for objective in ("most_accurate", "least_latency")
    ]
    assert found == [0, 1]


def test_a_preferred_site_that_is_not_there_is_passed_over():
    away = Conditions(FAST, PHOTO, is_server_available=False)
    assert decide(TABLE, away, Rules(mode="prefer_edge")).index == 0
    only = Rules(mode="prefer_device", families=frozenset({"file"}))
    assert decide(TABLE, Conditions(FAST, PHOTO), only).index == 1


def test_a_byte_budget_counts_the_photograph():
    cheap = Rules("least_latency", max_sent_bytes=100_500)
    assert decide(TABLE, Conditions(FAST, PHOTO), cheap).row.family == "file"
    larger = dataclasses.replace(PHOTO, file_bytes=100_001)
    assert decide(TABLE, Conditions(FAST, larger), cheap).row.family == "local"
    assert decide(TABLE, Conditions(FAST, PHOTO), cheap).row.family == "file"
    assert decide(TABLE, Conditions(FAST), Rules(max_sent_bytes=500)).row.family == "file"
    none = Rules("least_latency", max_sent_bytes=0)
    assert decide(TABLE, Conditions(FAST, PHOTO), none).row.family == "local"
    with pytest.raises(NoPlanError, match="max_sent_bytes 0 excludes 2"):
        decide(TABLE, Conditions(FAST, PHOTO), dataclasses.replace(none, mode="only_edge"))


def test_predictions_are_those_of_deciding():
    rng = np.random.default_rng(3)
    for _ in range(30):
        table, now = random_table(rng, 20), random_conditions(rng)
        for rules in (FASTEST, Rules(), Rules(deadline_s=0.2)):
            plans = predict(table, now, rules)
            assert [p.index for p in plans] == sorted(p.index for p in plans)
            chosen = decide(table, now, rules)
            (found,) = [p for p in plans if p.index == chosen.index]
            assert (found.row, found.accuracy) == (chosen.row, chosen.accuracy)
            assert found.latency_s == pytest.approx(chosen.latency_s)
            assert found.latency_sd_s == pytest.approx(chosen.latency_sd_s)
            assert dict(found.stages_s) == pytest.approx(dict(chosen.stages_s))


def test_no_plan_says_which_rule_excluded_what():
    rules = Rules(
        variants=frozenset({"net"}), families=frozenset({"file"}), no_pixels_leave=True
    )  # fmt: skip
    with pytest.raises(NoPlanError) as caught:
        decide(TABLE, Conditions(FAST, is_server_available=False), rules)
    assert str(caught.value) == (
        "none of 4 plans is left: variants net excludes 1; families file excludes 3; "
        "no_pixels_leave excludes 1; the server is not available excludes 2"
    )


def test_conditions_that_make_no_number_are_refused():
    table = table_of(entry("local", 1e300))
    with pytest.raises(ConditionsError):
        decide(table, Conditions(FAST, device_slowdown=1e300))


def random_table(rng, rows):
    return table_of(
        *(
            entry(
                FAMILIES[i % 5], float(rng.uniform(0, 0.1)) + 0.3 * (i % 5 == 0),
                float(rng.uniform(0, 0.1)),
                float(rng.uniform(1, 1e6)), unit=f"u{i % 7}",
                accuracy=float(rng.choice([0.5, 0.6, 0.7])),
                residual_s=float(rng.uniform(0, 0.01)), sent_bytes_sd=float(rng.uniform(0, 1e4)),
                exit_probability=float(rng.choice([0.0, 0.0, 0.3])),
            )
            for i in range(rows)
        )
    )  # fmt: skip


def random_conditions(rng):
    return Conditions(
        Link(*(10.0 ** rng.uniform(3, 9, 2)), 10.0 ** rng.uniform(-4, 0), *rng.uniform(0, 0.5, 3)),
        PHOTOS[rng.integers(4)],
        is_connected=rng.random() < 0.5,
        is_server_available=rng.random() < 0.8,
        device_slowdown=10.0 ** rng.uniform(-1, 1),
        server_slowdown=10.0 ** rng.uniform(-1, 1),
        device_slowdown_sd=rng.uniform(0, 0.5),
        server_slowdown_sd=rng.uniform(0, 0.5),
        unit_ready_s={
            f"u{i}": float(rng.choice([rng.uniform(0, 2), math.inf]))
            for i in range(4)
            if rng.random() < 0.4
        },
    )


def columns_by_name(table, conditions):
    """Each column's value and how far each of the five bases moves it, after the document."""
    link, image = conditions.link, conditions.image
    bases = {
        "device": (conditions.device_slowdown, conditions.device_slowdown_sd),
        "server": (conditions.server_slowdown, conditions.server_slowdown_sd),
        "up": (1 / link.uplink_bytes_per_s, link.uplink_sd_ratio / link.uplink_bytes_per_s),
        "down": (1 / link.downlink_bytes_per_s, link.downlink_sd_ratio / link.downlink_bytes_per_s),
        "rtt": (link.rtt_s, link.rtt_sd_s),
    }
    size, pixels = (image.file_bytes, image.width * image.height) if image else (0, 0)
    group = "jpeg" if image and image.format == "jpeg" else "other"
    sizes = {f"{group}_bytes": size, f"{group}_pixels": pixels}
    if image and image.is_progressive:
        sizes |= {"progressive_bytes": size, "progressive_samples": 1.5 * pixels}
    if group == "jpeg":
        sizes["jpeg_samples"] = 1.5 * sizes.pop("jpeg_pixels")
        sizes["jpeg_decoded_px.256"] = (image.width // 2) * (image.height // 2)  # see ``PHOTOS``
    found = {
        "uplink_s_per_byte": ("up", 1), "uplink_file_s": ("up", size),
        "downlink_s_per_byte": ("down", 1), "rtt_s": ("rtt", 1),
        "connect_s": ("rtt", 0 if conditions.is_connected else 1),
        "device": ("device", 1), "server": ("server", 1),
    }  # fmt: skip
    found |= {f"{site}.{k}": (site, v) for site in ("device", "server") for k, v in sizes.items()}
    values, moves = np.zeros(len(table.columns)), np.zeros((len(table.columns), len(bases)))
    for k, name in enumerate(table.columns):
        base, feature = found.get(name, ("device", 0))
        values[k] = bases[base][0] * feature
        moves[k, list(bases).index(base)] = bases[base][1] * feature
    return values, moves


def naive(table, conditions, rules):
    """The formula, one row and one stage at a time."""
    values, moves = columns_by_name(table, conditions)
    found = []
    for p, row in enumerate(table.rows):
        ready_s = 0.0 if row.is_local else conditions.unit_ready_s.get(row.unit, 0.0)
        if (
            not (row.is_local or conditions.is_server_available)
            or ready_s == math.inf
            or (rules.families is not None and row.family not in rules.families)
            or (rules.no_pixels_leave and row.has_pixels)
        ):
            continue
        q = table.exit_probability[p]
        clock, head_end, spread = 0.0, 0.0, np.zeros(5)
        for s, stage in enumerate(STAGES):
            if stage == "wait":
                clock = max(clock, ready_s)
            clock += table.coefficients[p, s] @ values
            later = s > STAGES.index("head")
            spread += (1 - q if later else 1.0) * (table.coefficients[p, s] @ moves)
            head_end = head_end if later else clock
        mean = q * head_end + (1 - q) * clock
        sent_s = table.sent_bytes_sd[p] / conditions.link.uplink_bytes_per_s
        sd = math.sqrt((spread**2).sum() + table.residual_s[p] ** 2 + sent_s**2)
        found.append((p, mean, sd))
    if rules.objective == "most_accurate":
        deadline_s = math.inf if rules.deadline_s is None else rules.deadline_s
        fits = [f for f in found if f[1] + NORMAL_SDS * f[2] <= deadline_s]
        best = max((table.accuracy[f[0]] for f in fits), default=0.0)
        found = [f for f in fits if table.accuracy[f[0]] == best] or found
    return min(found, key=lambda f: f[1]) if found else None


@pytest.mark.parametrize("objective", ["least_latency", "most_accurate"])
@pytest.mark.parametrize("deadline_s", [None, 0.15, 0.6])
@pytest.mark.parametrize("filters", [{}, {"no_pixels_leave": True}, {"families": REMOTE}])
def test_it_is_the_formula_row_by_row_and_one_or_many_is_the_same(objective, deadline_s, filters):
    rules = Rules(objective, deadline_s, **filters)
    rng = np.random.default_rng(20)
    for rows in (1, 5, 40):
        table = random_table(rng, rows)
        expected = []
        for conditions in [random_conditions(rng) for _ in range(100)]:
            found = naive(table, conditions, rules)
            if found is not None:
                expected.append((conditions, *found))
                continue
            with pytest.raises(NoPlanError):
                decide(table, conditions, rules)
        decisions = decide_many(table, [conditions for conditions, *_ in expected], rules)
        for n, (conditions, index, mean, sd) in enumerate(expected):
            plan = decide(table, conditions, rules)
            assert plan.index == decisions.index[n] == index
            assert plan.row is table.rows[index]
            assert plan.latency_s == pytest.approx(mean, rel=1e-9)
            assert plan.latency_sd_s == pytest.approx(sd, rel=1e-9)
            assert decisions.latency_s[n] == pytest.approx(plan.latency_s, rel=1e-12)
            assert decisions.latency_sd_s[n] == pytest.approx(plan.latency_sd_s, rel=1e-12)
            assert decisions.slack_s[n] == pytest.approx(plan.slack_s, rel=1e-9)
            assert sum(plan.stages_s.values()) == pytest.approx(plan.latency_s)
    assert len({index for _, index, _, _ in expected}) >= 3  # of the last table


def test_many_of_none():
    assert decide_many(TABLE, []).index.shape == (0,)


def test_tables_are_forgotten():
    table = random_table(np.random.default_rng(0), 5)
    decide(table, Conditions(FAST), Rules(no_pixels_leave=True))
    alive = weakref.ref(table)
    del table
    gc.collect()
    assert alive() is None
