import dataclasses
import math

import numpy as np
import pytest

from isthmus.errors import NoPlanError
from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide, decide_many, predict
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.planning.small_files import small_files_of, with_file_sent
from isthmus.types.conditions import Conditions, ImageFacts
from isthmus.types.link import Link
from isthmus.types.plan import PlanRow, Rules

COLUMNS = columns_for([256])
IMAGE_BYTES = {"jpeg-75": 12_000.0, "jpeg-95": 31_000.0, "webp": 77_000.0}
FRAME_BYTES = 500.0
MAKES = {
    "decode": {"device": 0.001, "device.jpeg_decoded_px.256": 2e-8},
    "preprocess": {"device": 0.002},
    "encode": {"device": 0.003},
}
UNPACKS = {
    "server_decode": {"server": 0.001, "server.jpeg_bytes": 1e-8},
    "server": {"server": 0.010},
}


def entry(codec, *, sends_file=False, name="net"):
    """What a row costs, or what it costs where it sends the file as it is."""
    family = "resized" if codec else "file"
    row = PlanRow(name, family, codec=codec, unit=f"{name}.image", is_lossless=not codec)
    sent = FRAME_BYTES if sends_file or not codec else FRAME_BYTES + IMAGE_BYTES[codec]
    terms = dict(MAKES) if codec else {}
    if sends_file or not codec:
        terms |= UNPACKS
    else:
        terms |= {"server_decode": {"server": 0.0005}, "server": {"server": 0.010}}
    terms |= link_terms(family, sent_bytes=sent, received_bytes=900, sends_file=sends_file)
    if sends_file or not codec:
        figures = {"sent_bytes_sd": 0.0, "accuracy": 0.7, "residual_s": 0.002}
    else:
        lost = {"jpeg-75": 0.04, "jpeg-95": 0.01, "webp": 0.0}[codec]
        figures = {"sent_bytes_sd": 3000.0, "accuracy": 0.7 - lost, "agreement": 1 - lost}
        figures["residual_s"] = 0.001
    return PlanEntry(row, terms, sent_bytes=sent, **figures)


def local(name="net"):
    terms = {**MAKES, "head": {"device": 0.06}}
    return PlanEntry(PlanRow(name, "local"), terms, accuracy=0.7)


def table_of(*sending_file):
    """All rows; those that send the file are told apart by hand."""
    made = [entry(codec, sends_file=codec in sending_file) for codec in IMAGE_BYTES]
    return compile_table([local(), entry(""), *made], COLUMNS)


TABLE = table_of()
FASTEST = Rules("least_latency")


def by_hand(file_bytes):
    """The table for one photograph, with no rows left that might send the file."""
    table = table_of(*(c for c, size in IMAGE_BYTES.items() if file_bytes <= size))
    units = [dataclasses.replace(row, unit=f"{row.unit} {row.codec}") for row in table.rows]
    return dataclasses.replace(table, rows=tuple(units))


def conditions(file_bytes, rng, unit_ready_s=None):
    return Conditions(
        Link(*(10.0 ** rng.uniform(4, 7, 2)), float(rng.uniform(0.001, 0.1)), 0.2, 0.1, 0.002),
        ImageFacts("jpeg", 640, 480, file_bytes),
        is_connected=rng.random() < 0.7,
        device_slowdown=float(rng.uniform(0.5, 8)),
        device_slowdown_sd=0.1,
        window_bytes=float(rng.choice([math.inf, 14_480.0])),
        unit_ready_s=unit_ready_s or {},
    )


def figures(plan):
    return (
        plan.latency_s, plan.latency_sd_s, plan.accuracy, plan.sent_bytes, plan.slack_s,
        plan.late_ratio, *plan.stages_s.values(),
    )  # fmt: skip


@pytest.mark.parametrize("file_bytes", [0, 900, 12_000, 12_001, 31_000, 31_001, 77_000, 4_000_000])
def test_rows_that_resize_are_predicted_as_what_they_send(file_bytes):
    rng = np.random.default_rng(file_bytes)
    now = conditions(file_bytes, rng)
    rules = Rules("least_latency", deadline_s=0.2)
    plans, expected = predict(TABLE, now, rules), predict(by_hand(file_bytes), now, rules)
    for plan, other in zip(plans, expected, strict=True):
        assert plan.row is TABLE.rows[plan.index]
        assert figures(plan) == pytest.approx(figures(other), rel=1e-12)
        assert plan.row.is_local or plan.sent_bytes <= FRAME_BYTES + file_bytes
    assert plans[2].sent_bytes == FRAME_BYTES + min(file_bytes, 12_000)


def test_without_a_photograph_or_a_file_row_nothing_is_known_to_be_small():
    now = conditions(900, np.random.default_rng(0))
    without = dataclasses.replace(now, image=None)
    assert predict(TABLE, without, FASTEST)[2].sent_bytes == FRAME_BYTES + 12_000
    alone = compile_table([local(), entry("jpeg-75"), entry("", name="other")], COLUMNS)
    assert len(small_files_of(alone).rows) == 0
    assert predict(alone, now, FASTEST)[1].sent_bytes == FRAME_BYTES + 12_000


def test_a_table_in_which_all_send_images_is_the_table():
    assert with_file_sent(TABLE, small_files_of(TABLE), 3) is TABLE
    assert with_file_sent(TABLE, small_files_of(TABLE), 2) is not TABLE


def test_a_byte_budget_counts_what_is_sent():
    rules = Rules("least_latency", max_sent_bytes=20_000, families=frozenset({"resized"}))
    rng = np.random.default_rng(1)
    assert [p.row.codec for p in predict(TABLE, conditions(900, rng), rules)] == list(IMAGE_BYTES)
    assert [p.row.codec for p in predict(TABLE, conditions(50_000, rng), rules)] == ["jpeg-75"]
    narrow = dataclasses.replace(rules, max_sent_bytes=1000)
    with pytest.raises(NoPlanError, match="max_sent_bytes 1000 excludes 4"):
        decide(TABLE, conditions(900, rng), narrow)
    assert decide(TABLE, conditions(400, rng), narrow).sent_bytes == 900


@pytest.mark.parametrize("deadline_s", [None, 0.1, 0.3])
@pytest.mark.parametrize("objective", ["least_latency", "most_accurate", "least_energy"])
@pytest.mark.parametrize("above_ratio", [None, 0.05])
def test_one_and_many_decide_alike_about_photographs_of_all_sizes(
    deadline_s, objective, above_ratio
):
    rng = np.random.default_rng(7)
    families = frozenset({"local", "resized"})  # or the file itself would win
    rules = Rules(objective, deadline_s, families=families, hedge_above_ratio=above_ratio)
    instants = [
        conditions(
            round(10.0 ** rng.uniform(3, 5.5)),
            rng,
            {"net.image": float(rng.uniform(0, 0.2))} if rng.random() < 0.3 else None,
        )
        for _ in range(150)
    ]
    many = decide_many(TABLE, instants, rules)
    seen = set()
    for n, now in enumerate(instants):
        plan = decide(TABLE, now, rules)
        seen.add(plan.index)
        assert plan.index == many.index[n]
        assert plan.latency_s == pytest.approx(many.latency_s[n], rel=1e-12)
        assert plan.latency_sd_s == pytest.approx(many.latency_sd_s[n], rel=1e-12)
        hedge = plan.hedge.index if plan.hedge else -1
        assert hedge == many.hedge_index[n]
    assert len(seen) > 1
