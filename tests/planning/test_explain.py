import dataclasses
import math

import pytest

from isthmus.errors import NoPlanError
from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide
from isthmus.planning.explain import RANGES, explain
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.planning.sweep import with_value
from isthmus.types.conditions import Conditions, ImageFacts
from isthmus.types.link import Link
from isthmus.types.plan import PlanRow, Rules

PHOTO = ImageFacts("jpeg", 640, 480, 100_000)
NOW = Conditions(Link(4e6, 1e7, 0.02), PHOTO)
UPLINK, SERVER = RANGES


def entry(family, head_s, server_s=0.0, sent=0.0, *, name="net", cut="", **figures):
    terms = {"head": {"device": head_s}}
    if family != "local":
        terms["server"] = {"server": server_s}
        terms |= link_terms(family, sent_bytes=sent, received_bytes=1000)
    pixels = family in ("file", "resized", "tensor")
    unit = "" if family == "local" else f"{name}.{family}{cut}"
    return PlanEntry(
        PlanRow(name, family, cut_id=cut, unit=unit, has_pixels=pixels),
        terms, sent_bytes=sent, **figures,
    )  # fmt: skip


TABLE = compile_table(
    [
        entry("local", 0.120, accuracy=0.7),
        entry("file", 0.001, 0.02, 500.0, accuracy=0.7),
        entry("resized", 0.03, 0.02, 20_000.0, accuracy=0.7),
        entry("split", 0.08, 0.01, 400_000.0, cut="c", accuracy=0.7),
        entry("local", 0.05, name="small", accuracy=0.6),
    ],
    columns_for([256]),
)


def test_the_chosen_plan_is_that_of_deciding_and_the_others_follow():
    for rules in (Rules(), Rules("least_latency"), Rules(deadline_s=0.1)):
        found = explain(TABLE, NOW, rules)
        assert found.plan == decide(TABLE, NOW, rules)
        order = [found.plan.index, *(r.plan.index for r in found.runners_up)]
        assert sorted(order) == [0, 1, 2, 3, 4]
    assert explain(TABLE, NOW, Rules()).plan.row.family == "file"
    order = [r.plan.index for r in explain(TABLE, NOW, Rules()).runners_up]
    assert order == [2, 0, 3, 4]  # the less accurate network last, though it is fast
    first, *_ = explain(TABLE, NOW, Rules()).runners_up
    late = [r.plan.index for r in explain(TABLE, NOW, Rules(deadline_s=0.1)).runners_up]
    assert late == [2, 4, 0, 3]
    assert first.later_s == pytest.approx(0.05 - 0.021 - 80_500 / 4e6)


@pytest.mark.parametrize("axis", [UPLINK, SERVER])
@pytest.mark.parametrize("rules", [Rules(), Rules("least_latency"), Rules(deadline_s=0.1)])
def test_a_runner_up_wins_where_it_says_and_no_nearer(axis, rules):
    found = explain(TABLE, NOW, rules)
    now = 4e6 if axis == UPLINK else 1.0
    for other in found.runners_up:
        value = other.wins_at[axis]
        if value is None:
            continue
        index = other.plan.index
        beyond = value * (1 + 1e-6 * math.copysign(1, value - now))
        assert decide(TABLE, with_value(NOW, axis, beyond), rules).index == index
        for share in (0.01, 0.5, 0.99, 1 - 1e-6):
            nearer = now * (value / now) ** share
            assert decide(TABLE, with_value(NOW, axis, nearer), rules).index != index


def test_what_would_have_to_change_by_hand():
    found = explain(TABLE, NOW, Rules())
    wins = {r.plan.index: r.wins_at for r in found.runners_up}
    assert wins[2][UPLINK] == pytest.approx(80_500 / (0.05 - 0.021))
    assert wins[0][UPLINK] == pytest.approx(20_000 / (0.120 - 0.05 - 0.0201))
    assert wins[0][SERVER] == pytest.approx((0.120 - 0.001 - 0.0201 - 100_500 / 4e6) / 0.02)
    assert wins[2][SERVER] is None  # it needs the server as much
    assert wins[4] == {UPLINK: None, SERVER: None}
    assert found.alternative is found.runners_up[0]


def test_exclusions_are_counted_and_nothing_left_is_an_error():
    found = explain(TABLE, NOW, Rules(no_pixels_leave=True, variants=frozenset({"net"})))
    assert found.excluded == {"variants net": 1, "no_pixels_leave": 2}
    assert explain(TABLE, NOW, Rules()).excluded == {}


def test_it_says_that_a_server_makes_other_pixels():
    elsewhere = dataclasses.replace(NOW, decodes_alike=False)
    (why,) = explain(TABLE, elsewhere, Rules()).excluded
    assert why == "the server decodes photographs to other pixels (allow_other_pixels is off)"
    assert explain(TABLE, elsewhere, Rules(allow_other_pixels=True)).excluded == {}
    with pytest.raises(NoPlanError):
        explain(TABLE, NOW, Rules(variants=frozenset({"none"})))
    alone = explain(TABLE, NOW, Rules(mode="only_device", variants=frozenset({"small"})))
    assert (alone.runners_up, alone.alternative) == ((), None)


def test_reasons_in_words():
    def why(**rules):
        return " ".join(explain(TABLE, NOW, Rules(**rules)).why)

    assert "net is the most accurate network allowed (70.0%)" in why()
    assert "fastest of its 4 plans" in why()
    assert "Least latency is asked for, of 5 plans" in why(objective="least_latency")
    assert "1 of 5 plans will be done within 60.0 ms" in why(deadline_s=0.06)
    assert "is more accurate (70.0%), but needs" in why(deadline_s=0.06)
    assert "No plan will be, so the fastest is taken" in why(deadline_s=0.01)
    preferring = why(mode="prefer_device", deadline_s=0.2)
    assert "prefer device: it is in time, so it is taken before net file" in preferring


def test_reasons_of_the_other_objectives_and_hedges_in_words():
    def why(now=NOW, **rules):
        return " ".join(explain(TABLE, now, Rules(**rules)).why)

    energy = why(objective="least_energy", deadline_s=0.2)
    assert "least of the device's energy in time: " in energy
    assert "mJ, net resized" in energy
    assert "(power: illustrative)" in energy
    found = explain(TABLE, NOW, Rules("greatest_throughput"))
    assert found.plan.row.family == "file"
    assert found.intervals_s[2] == pytest.approx(0.03)
    said = "Of a stream it answers the most allowed: 39.8 a second, net resized 33.3 a second."
    assert said in found.why
    unsure = dataclasses.replace(NOW, link=dataclasses.replace(NOW.link, uplink_sd_ratio=0.4))
    hedged = why(unsure, deadline_s=0.115, hedge_above_ratio=0.0)
    assert "If there is no answer after 65.0 ms, small local starts on the device" in hedged
    assert "so it needs no hedge (from 10.0%)" in why(
        unsure, deadline_s=0.115, hedge_above_ratio=0.1
    )
    only = {"deadline_s": 0.06, "hedge_above_ratio": 0.01, "variants": frozenset({"net"})}
    assert "no local plan would be done in time beside it" in why(unsure, **only)
    chosen = why(unsure, deadline_s=0.075, hedge_above_ratio=0.01)
    assert "Alone it is late in" in chosen
    assert "more than small local's 60.0%" in chosen


def test_the_present_is_always_within_the_range():
    fast = dataclasses.replace(NOW, link=dataclasses.replace(NOW.link, uplink_bytes_per_s=1e12))
    found = explain(TABLE, fast, Rules())
    assert any(s.low < 1e12 < s.high for s in found.stretches[UPLINK])
