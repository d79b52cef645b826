import math
from dataclasses import replace

import pytest

from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide
from isthmus.planning.midway import decide_midway, with_size
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.types.conditions import Conditions
from isthmus.types.link import Link, stall_rounds
from isthmus.types.plan import PlanRow, Rules

LINK = Link(1e6, 1e6, 0.020)
FASTEST = Rules("least_latency")


def entry(name, family, *, head=0.0, server=0.0, sent=0.0, accuracy=0.7, decode=0.010):
    terms = {"decode": {"device": decode}, "head": {"device": head}}
    if family != "local":
        terms |= {"server": {"server": server}}
        terms |= link_terms(family, sent_bytes=sent, received_bytes=0)
    unit = "" if family == "local" else f"{name}.{family}"
    row = PlanRow(name, family, unit=unit)
    return PlanEntry(row, terms, 0.001, sent, sent_bytes_sd=500, accuracy=accuracy)


@pytest.fixture(scope="module")
def table():
    """Local 110 ms; resized 20 + 20 + 10 + 40 ms for 10 kB."""
    return compile_table(
        [
            entry("net", "local", head=0.100),
            entry("net", "resized", head=0.010, server=0.040, sent=10_000),
            entry("small", "local", head=0.085, accuracy=0.6),
        ],
        columns_for([256]),
    )


def decided(table, rules, **conditions):
    now = Conditions(LINK, **conditions)
    return now, decide(table, now, rules)


@pytest.mark.parametrize("sent_bytes", [5_000, 10_000, 15_000])
def test_small_surprises_change_nothing_but_the_prediction(table, sent_bytes):
    now, plan = decided(table, FASTEST)
    assert plan.row.family == "resized"
    again = decide_midway(table, now, FASTEST, plan, sent_bytes=sent_bytes, spent_s=0.02)
    assert again.row is plan.row
    more_s = (sent_bytes - 10_000) / 1e6
    assert again.latency_s == pytest.approx(plan.latency_s + more_s)
    assert sum(again.stages_s.values()) == pytest.approx(again.latency_s)
    assert again.sent_bytes == sent_bytes
    in_time = replace(plan, slack_s=0.5)
    assert with_size(in_time, now, sent_bytes).slack_s == pytest.approx(0.5 - more_s)


def test_a_larger_message_waits_for_more_acknowledgements(table):
    now, plan = decided(table, Rules(families=frozenset({"resized"})), window_bytes=2_000)
    stalls_s = LINK.stalls_s(2_000)  # 20 kB fill a round trip: 2, 4, 8, 16 and 32 kB are sent
    larger = with_size(plan, now, 20_000)
    waits_s = stalls_s[stall_rounds(20_000, 2_000)] - stalls_s[stall_rounds(10_000, 2_000)]
    assert waits_s > 0
    assert larger.latency_s == pytest.approx(plan.latency_s + 0.010 + waits_s)


def test_a_message_much_too_large_is_not_sent(table):
    """Left over: 200 ms of sending and 60 more, against 95 ms of the smaller network, or 100."""
    now, plan = decided(table, FASTEST)
    large = {"sent_bytes": 200_000, "spent_s": 0.020}
    assert decide_midway(table, now, FASTEST, plan, **large).row.variant == "small"
    accurate = Rules()
    now, plan = decided(table, accurate)
    again = decide_midway(table, now, accurate, plan, **large)
    assert (again.row.variant, again.row.family) == ("net", "local")


def test_what_was_done_already_counts_for_the_plan(table):
    """At 60 kB: 60 + 20 + 40 = 120 ms are left, of local 100 (not 110: decoding is done)."""
    now, plan = decided(table, Rules())
    at = {"spent_s": 0.020}
    assert decide_midway(table, now, Rules(), plan, sent_bytes=60_000, **at).row.family == "local"
    assert decide_midway(table, now, Rules(), plan, sent_bytes=39_000, **at).row is plan.row
    assert decide_midway(table, now, Rules(), plan, sent_bytes=41_000, **at).row.family == "local"


def rows_of_codecs(family, cut_id, **sent):
    """Local 500 ms, and a row of 50 ms and its bytes for each codec."""
    entries = [entry("net", "local", head=0.5)]
    for codec, sent_bytes in sent.items():
        made = entry("net", family, server=0.050, sent=sent_bytes)
        codec = codec.replace("_", "+")
        row = replace(made.row, codec=codec, cut_id=cut_id, tensors=("t",) if cut_id else ())
        entries.append(replace(made, row=row))
    return compile_table(entries, columns_for([256]))


@pytest.mark.parametrize(
    ("family", "cut_id", "sent"),
    [("resized", "", {"small": 10_000, "large": 16_000}),
     ("split", "c", {"u8_zstd": 10_000, "fp16_zstd": 16_000})],
)  # fmt: skip
def test_what_makes_one_image_large_makes_the_others_large(family, cut_id, sent):
    """60 kB instead of 10: the other codec is expected to make 96, not the 16 it has on average."""
    table = rows_of_codecs(family, cut_id, **sent)
    now, plan = decided(table, FASTEST)
    assert plan.sent_bytes == 10_000
    again = decide_midway(table, now, FASTEST, plan, sent_bytes=60_000, spent_s=0.02)
    assert again.row is plan.row
    far = decide_midway(table, now, FASTEST, plan, sent_bytes=600_000, spent_s=0.02)
    assert far.row.family == "local"


def test_a_message_whose_size_is_known_is_what_remains():
    """60 kB of 10 compressed ones: the 20 kB that are not compressed are what they always are."""
    table = rows_of_codecs("split", "c", u8_zstd=10_000, fp16_zstd=16_000, u8=20_000)
    now, plan = decided(table, FASTEST)
    again = decide_midway(table, now, FASTEST, plan, sent_bytes=60_000, spent_s=0.02)
    assert again.row.codec == "u8"


@pytest.mark.parametrize("objective", ["least_latency", "most_accurate", "least_energy"])
def test_a_message_beyond_the_users_limit_gives_way(table, objective):
    """14 kB instead of 10 are no surprise, but more than the user allows."""
    rules = Rules(objective, max_sent_bytes=12_000)
    now, plan = decided(table, Rules())
    at = {"spent_s": 0.020}
    assert plan.row.family == "resized"
    assert decide_midway(table, now, rules, plan, sent_bytes=12_000, **at).row is plan.row
    assert decide_midway(table, now, rules, plan, sent_bytes=14_000, **at).row.family == "local"


def test_a_message_beyond_the_limit_is_sent_where_there_is_nothing_else(table):
    rules = Rules(max_sent_bytes=12_000, families=frozenset({"resized"}))
    now, plan = decided(table, rules)
    again = decide_midway(table, now, rules, plan, sent_bytes=14_000, spent_s=0.02)
    assert again.row is plan.row


def test_a_deadline_counts_from_what_is_left(table):
    rules = Rules(deadline_s=0.150)
    now, plan = decided(table, rules)
    assert plan.row.family == "resized"
    # 105 ms of sending, 60 more, of 130 that are left: local takes 100.
    again = decide_midway(table, now, rules, plan, sent_bytes=105_000, spent_s=0.020)
    assert (again.row.variant, again.row.family) == ("net", "local")
    # Of 100 ms that are left only the smaller network's 95 are enough (it decodes anew).
    again = decide_midway(table, now, rules, plan, sent_bytes=105_000, spent_s=0.050)
    assert again.row.variant == "small"
    # Nothing is in time: the least that remains.
    again = decide_midway(table, now, rules, plan, sent_bytes=105_000, spent_s=0.140)
    assert again.row.variant == "small"


def test_objectives_without_bytes_keep_their_plan(table):
    rules = Rules("greatest_throughput")
    now = Conditions(LINK)
    plan = decide(table, now, FASTEST)
    again = decide_midway(table, now, rules, plan, sent_bytes=10**6, spent_s=0.0)
    assert again.row is plan.row


def test_slow_start_is_part_of_the_new_prediction(table):
    now, plan = decided(table, FASTEST, window_bytes=14_480)
    larger = with_size(plan, now, 15_000)
    assert larger.latency_s - plan.latency_s == pytest.approx(0.005 + 0.020 - 0.01448)
    assert with_size(plan, replace(now, window_bytes=math.inf), 15_000).latency_s == pytest.approx(
        plan.latency_s + 0.005
    )
