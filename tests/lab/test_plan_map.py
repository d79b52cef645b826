from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from isthmus.lab.plan_map import UPLINKS_BYTES_PER_S, draw_map, map_plans
from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.planning.sweep import with_value
from isthmus.types.conditions import Conditions, ImageFacts
from isthmus.types.link import Link
from isthmus.types.plan import PlanRow, Rules

NOW = Conditions(Link(1e6, 1e7, 0.02), ImageFacts("jpeg", 640, 480, 100_000))


def entry(family, head_s, server_s=0.0, sent=0.0, *, name="net", **figures):
    terms = {"head": {"device": head_s}}
    if family != "local":
        terms["server"] = {"server": server_s}
        terms |= link_terms(family, sent_bytes=sent, received_bytes=1000)
    tensors = ("/blocks.4/Conv_output_0",) if family == "split" else ()
    unit = "" if family == "local" else f"{name}.{family}"
    return PlanEntry(PlanRow(name, family, tensors, unit=unit), terms, sent_bytes=sent, **figures)


TABLE = compile_table(
    [
        entry("local", 0.120, accuracy=0.7),
        entry("file", 0.001, 0.02, 500.0, accuracy=0.7),
        entry("split", 0.03, 0.02, 20_000.0, accuracy=0.7),
        entry("local", 0.05, name="small", accuracy=0.6),
    ],
    columns_for([256]),
)
FASTEST = Rules("least_latency")


@pytest.mark.parametrize(
    ("rules", "vertical"), [(Rules(), "deadline_s"), (FASTEST, "device_slowdown")]
)
def test_a_map_is_what_deciding_says(rules, vertical):
    made = map_plans(TABLE, NOW, rules)
    assert made.vertical == vertical
    values = [row.value for row in made.rows]
    assert values == sorted(set(values))
    for row in made.rows[:: len(made.rows) // 15]:
        for part in row.stretches:
            now = with_value(NOW, "uplink_bytes_per_s", (part.low * part.high) ** 0.5)
            if vertical == "deadline_s":
                plan = decide(TABLE, now, Rules(deadline_s=row.value))
            else:
                plan = decide(TABLE, with_value(now, "device_slowdown", row.value), rules)
            assert (plan.index, plan.slack_s < 0) == (part.plan.index, part.is_late)
    for one, other in pairwise(made.rows):
        assert one.keys == other.keys or other.value / one.value < 1.003


def test_it_reaches_from_too_early_to_early_enough():
    made = map_plans(TABLE, NOW, Rules())
    assert all(part.is_late for part in made.rows[0].stretches)
    last = made.rows[-1].stretches
    assert {part.plan.accuracy for part in last} == {0.7}
    assert (last[0].low, last[-1].high) == UPLINKS_BYTES_PER_S
    assert [part.plan.row.family for part in last] == ["local", "split", "file"]


@pytest.mark.parametrize("rules", [Rules(), FASTEST])
def test_the_picture_names_its_areas_and_is_the_same_again(rules, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    import matplotlib as mpl
    from matplotlib.axes import Axes

    made, written = map_plans(TABLE, NOW, rules), []
    text = Axes.text
    monkeypatch.setattr(
        Axes, "text", lambda self, x, y, s, **k: (written.append(s), text(self, x, y, s, **k))[1]
    )
    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "path")
    for name in ("one.svg", "two.svg", "one.png"):
        draw_map(made, tmp_path / name, title="20 ms & more", now=(1e6, 0.1))
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    tags = {e.tag.rpartition("}")[2] for e in ElementTree.parse(tmp_path / "one.svg").iter()}
    assert {"title", "desc"} <= tags
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    names = " ".join(written).replace("\n", " ")
    families = {p.plan.row.family for row in made.rows for p in row.stretches if not p.is_late}
    words = {"local": ("all on the device",), "file": ("send the file",), "split": ("cut", "split")}
    assert all(any(word in names for word in words[family]) for family in families)
    assert ("no plan is in time" in names) == (rules.objective == "most_accurate")


def test_a_map_of_one_plan_is_one_area(tmp_path):
    table = compile_table([entry("local", 0.1)], columns_for([256]))
    made = map_plans(table, NOW, FASTEST)
    assert {row.keys for row in made.rows} == {((0, False),)}
    draw_map(made, tmp_path / "map.svg", title="")
    assert np.isfinite([row.value for row in made.rows]).all()


def test_cuts_are_named_in_full_where_short_names_would_be_the_same():
    from isthmus.lab.plan_map import _cut_names

    def row(name, codec="raw", variant="net"):
        return PlanRow(variant, "split", (name,), cut_id=name, codec=codec)

    a, b = row("/stem/Clip_output_0"), row("/stem/Clip_output_0", "u8")
    assert _cut_names({1: a, 2: b, 3: PlanRow("net", "local")}) == {1: "stem", 2: "stem"}
    named = _cut_names({1: a, 4: row("/stem/Add_output_0"), 5: row("/stem/x", variant="other")})
    assert named == {1: "stem/Clip", 4: "stem/Add", 5: "stem"}
