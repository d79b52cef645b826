import dataclasses
import doctest
import math
from pathlib import Path

import numpy as np
import pytest

from isthmus.planning.columns import columns_for
from isthmus.planning.plan_table import (
    PlanEntry,
    cloud_hop_terms,
    compile_table,
    link_terms,
)
from isthmus.types.plan import FAMILIES, STAGES, PlanRow

COLUMNS = columns_for([256])


def local(head_s=0.1, **figures):
    variant = figures.pop("variant", "net")
    return PlanEntry(PlanRow(variant, "local"), {"head": {"device": head_s}}, **figures)


def split(head_s=0.01, server_s=0.01, sent=1000.0, *, row=None, **figures):
    row = row or PlanRow("net", "split", ("t",), "id", "raw", "net.tail-id")
    terms = {
        "head": {"device": head_s},
        "server": {"server": server_s},
        **link_terms("split", sent_bytes=sent, received_bytes=4000),
    }
    return PlanEntry(row, terms, sent_bytes=sent, **figures)


def test_terms_land_at_their_stage_and_column():
    table = compile_table([local(0.25), split(0.03, 0.04, 700.0)], COLUMNS)
    expected = np.zeros((2, len(STAGES), len(COLUMNS)))
    for row, stage, column, value in [
        (0, "head", "device", 0.25),
        (1, "head", "device", 0.03),
        (1, "connect", "connect_s", 1.0),
        (1, "upload", "rtt_s", 0.5),
        (1, "upload", "uplink_s_per_byte", 700.0),
        (1, "server", "server", 0.04),
        (1, "download", "rtt_s", 0.5),
        (1, "download", "downlink_s_per_byte", 4000.0),
    ]:
        expected[row, STAGES.index(stage), COLUMNS.index(column)] = value
    np.testing.assert_array_equal(table.coefficients, expected)
    assert table.sent_bytes.tolist() == [0, 700]
    assert [row.family for row in table.rows] == ["local", "split"]


def test_figures_are_kept_and_arrays_cannot_be_written():
    figures = {
        "residual_s": 0.1,
        "sent_bytes": 0.0,
        "sent_bytes_sd": 3.0,
        "accuracy": 0.7,
        "agreement": 0.9,
        "exit_probability": 0.2,
    }
    table = compile_table([local(**figures)], COLUMNS)
    for name, value in figures.items():
        assert getattr(table, name).tolist() == [value]
        with pytest.raises(ValueError, match="read-only"):
            getattr(table, name)[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        table.coefficients[0, 0, 0] = 1.0


def test_link_terms_of_each_family():
    assert link_terms("local", sent_bytes=5, received_bytes=6) == {}
    for family in FAMILIES[1:]:
        terms = link_terms(family, sent_bytes=5, received_bytes=6)
        assert terms["connect"] == {"connect_s": 1.0}
        assert terms["upload"]["uplink_s_per_byte"] == 5
        assert terms["upload"].get("uplink_file_s", 0) == (1 if family == "file" else 0)
        assert terms["download"] == {"rtt_s": 0.5, "downlink_s_per_byte": 6}


def with_terms(entry, **stages):
    return dataclasses.replace(entry, terms={**entry.terms, **stages})


def test_a_returned_row_may_send_the_photograph():
    terms = link_terms("returned", sent_bytes=5, received_bytes=6, sends_file=True)
    assert terms["upload"] == {"rtt_s": 0.5, "uplink_s_per_byte": 5, "uplink_file_s": 1.0}


def clouded(**change):
    row = PlanRow("net", "split", ("t",), "id", "raw", "net.tail-id", cloud_tensors=("u",))
    entry = split(row=row)
    server = {"server": 0.01, "cloud": 0.002} | cloud_hop_terms(sent_bytes=50, received_bytes=9)
    return with_terms(entry, **{"server": server, **change})


def test_the_second_hop_is_part_of_the_stage_server():
    columns = columns_for([256], has_cloud=True)
    table = compile_table([local(), clouded()], columns)
    stage = dict(zip(columns, table.coefficients[1, STAGES.index("server")].tolist(), strict=True))
    assert {name: value for name, value in stage.items() if value} == {
        "server": 0.01, "cloud": 0.002, "cloud_rtt_s": 1.0,
        "cloud_uplink_s_per_byte": 50, "cloud_downlink_s_per_byte": 9,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (clouded(server={"server": 1.0}), r"needs the cloud's columns.*got \[\]"),
        (clouded(upload={"rtt_s": 1.0, "cloud_rtt_s": 1.0}), r"got \['server', 'upload'\]"),
        (split(row=PlanRow("net", "returned", ("t",))), "needs terms in `tail`"),
    ],
)
def test_rows_have_the_terms_of_the_sites_that_they_use(entry, message):
    with pytest.raises(ValueError, match=message):
        compile_table([entry], columns_for([256], has_cloud=True))
    two_sites = with_terms(split(), server={"server": 0.1, "cloud": 0.1})
    with pytest.raises(ValueError, match="and no other"):
        compile_table([two_sites], columns_for([256], has_cloud=True))
    with pytest.raises(ValueError, match="and no other"):
        compile_table([with_terms(split(), tail={"device": 0.1})], COLUMNS)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (with_terms(local(), launch={"device": 1.0}), "'launch' is no stage"),
        (with_terms(local(), wait={"device": 1.0}), "'wait' is no stage"),
        (with_terms(local(), head={"gpu": 1.0}), "no column 'gpu'"),
        (with_terms(local(), head={"device": math.nan}), "head device must be finite"),
        (with_terms(local(), head={"device": math.inf}), "head device must be finite"),
        (with_terms(local(), head={"device": -1e-9}), "head device must be finite"),
        (with_terms(local(), upload={"rtt_s": 0.5}), "pays nothing to the link"),
        (with_terms(split(), connect={}), "see link_terms"),
        (with_terms(split(), upload={"rtt_s": 0.0}), "see link_terms"),
        (local(residual_s=-1.0), "residual_s must be from 0"),
        (local(sent_bytes_sd=math.nan), "sent_bytes_sd must be from 0"),
        (local(accuracy=1.01), "accuracy must be from 0 to 1"),
        (local(agreement=-0.1), "agreement must be from 0 to 1"),
        (local(exit_probability=math.inf), "exit_probability must be from 0 to 1"),
    ],
)
def test_wrong_entries_are_refused_by_name(entry, message):
    with pytest.raises(ValueError, match=f"^net .*{message}"):
        compile_table([local(), entry], COLUMNS)


def test_a_table_needs_rows_and_distinct_columns():
    with pytest.raises(ValueError, match="at least one row"):
        compile_table([], COLUMNS)
    with pytest.raises(ValueError, match="twice"):
        compile_table([local()], (*COLUMNS, "device"))


def test_the_documented_example_runs():
    page = Path(__file__).parents[2] / "docs" / "plan-table.md"
    failed, tried = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert tried > 10
    assert failed == 0


def test_the_page_names_every_stage_and_column():
    page = (Path(__file__).parents[2] / "docs" / "plan-table.md").read_text("utf-8")
    columns = columns_for([256], has_cloud=True)
    names = [name.replace("256", "T") for name in columns if not name.startswith("server.")]
    assert [name for name in (*STAGES, *names) if f"`{name}`" not in page] == []
