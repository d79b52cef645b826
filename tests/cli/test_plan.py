import json
import re

import pytest
import typer
from typer.testing import CliRunner

from isthmus.building.build import build_bundle
from isthmus.cli.plan import command
from isthmus.errors import BundleError, ConditionsError, NoPlanError
from isthmus.loading.bundle import open_bundle, save_profile
from isthmus.planning.columns import columns_for
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms

LINK = {"uplink_bytes_per_s": 1e6, "downlink_bytes_per_s": 1e7, "rtt_s": 0.01}
COSTS = {"local": (0.100, 0.0, 0.0), "file": (0.0, 0.02, 300.0), "resized": (0.03, 0.02, 2000.0),
         "tensor": (0.03, 0.02, 3000.0), "split": (0.05, 0.01, 20_000.0)}  # fmt: skip


@pytest.fixture(scope="module")
def bundle_path(small_model_path, photograph_files, tmp_path_factory):
    """A bundle that nothing was measured with: each family has made-up costs."""
    path = tmp_path_factory.mktemp("bundles") / "app.isthmus"
    build_bundle({"small": small_model_path}, path, calibration=photograph_files)
    return path


@pytest.fixture(scope="module")
def profiled_path(bundle_path, tmp_path_factory):
    import shutil

    path = tmp_path_factory.mktemp("profiled") / "app.isthmus"
    shutil.copytree(bundle_path, path)
    entries = []
    for candidate in open_bundle(path).candidates:
        device_s, server_s, sent = COSTS[candidate.row.family]
        terms = {"head": {"device": device_s}, "server": {"server": server_s}}
        if candidate.row.is_local:
            del terms["server"]
        link = link_terms(candidate.row.family, sent_bytes=sent, received_bytes=1000)
        entries.append(PlanEntry(candidate.row, terms | link, sent_bytes=sent, accuracy=0.75))
    save_profile(path, compile_table(entries, columns_for([20])), {"link": LINK})
    return path


@pytest.fixture
def run(profiled_path):
    app = typer.Typer()
    app.command()(command)

    def call(*arguments, bundle=profiled_path):
        return CliRunner().invoke(app, [str(bundle), *map(str, arguments)])

    return call


def test_it_prints_plan_timeline_reasons_and_runners_up(run):
    result = run("--uplink", "10mbit", "--rtt", "20ms", "--size", "1600x1200", "--file-bytes", 9000,
                 "--runners-up", 20)  # fmt: skip
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "uplink 10 Mbit/s, downlink 10 Mbit/s, round trip 20.0 ms" in text
    assert "jpeg 1600 x 1200, 9 KB" in text
    assert "small file" in text
    latency_ms = 20 + 20 + (300 + 9000) / 1.25e6 * 1e3 + 1000 / 1.25e6 * 1e3
    assert f"{latency_ms:.1f} ms, accuracy 75.0%, 9.3 KB sent" in text
    assert re.search(r"link +upload +17.4 ms", text)
    assert re.search(r"server +server +20.0 ms", text)
    local_from = 2000 / (0.100 - 0.05 - 0.02 - 0.0008) * 8 / 1e3  # against a resized photograph
    assert f"{local_from:.3g} kbit/s" in text
    assert "never" in text


@pytest.mark.parametrize(
    ("options", "family"),
    [
        (["--uplink", "10mbit"], "file"),
        (["--uplink", "10kbit"], "local"),
        (["--uplink", "10mbit", "--no-pixels-leave", "--device-slowdown", "9"], "split"),
        (["--uplink", "10mbit", "--server-slowdown", "20"], "local"),
        (["--uplink", "10mbit", "--mode", "only_device"], "local"),
        (["--uplink", "10kbit", "--mode", "only_edge", "--fastest"], None),
        (["--uplink", "10mbit", "--deadline", "1s", "--mode", "prefer_device"], "local"),
        (["--uplink", "10mbit", "--max-sent-bytes", "0"], "local"),
        ([], "file"),
    ],
)
def test_conditions_and_rules_decide(run, options, family):
    record = json.loads(run(*options, "--json", "-").stdout)
    assert record["plan"]["family"] == family or (family is None and record["plan"]["sent_bytes"])


def test_all_of_it_as_json(run, tmp_path, photograph_files):
    target = tmp_path / "plan.json"
    result = run("--image", photograph_files[0], "--rtt", "30ms", "--json", target)
    assert "small" in result.stdout
    record = json.loads(target.read_text())
    assert record["conditions"]["uplink_bytes_per_s"] == 1e6
    assert record["conditions"]["rtt_s"] == pytest.approx(0.03)
    assert record["conditions"]["image"]["file_bytes"] == photograph_files[0].stat().st_size
    assert sum(record["plan"]["stages_s"].values()) == pytest.approx(record["plan"]["latency_s"])
    assert all(r["later_s"] >= 0 for r in record["runners_up"])
    parts = record["along"]["uplink_bytes_per_s"]
    assert [p["high"] for p in parts[:-1]] == [p["low"] for p in parts[1:]]
    assert record["plan"]["label"] in [p["plan"] for p in parts]


def test_a_map_is_drawn_and_its_break_points_are_in_the_json(run, tmp_path):
    target, numbers = tmp_path / "map.svg", tmp_path / "map.json"
    result = run("--deadline", "80ms", "--map", target, "--json", numbers)
    assert result.exit_code == 0, result.output
    told = target.read_text().split("<desc>")[1].split("</desc>")[0]
    assert told.endswith("; server as profiled; device as profiled")
    record = json.loads(numbers.read_text())["map"]
    assert record["vertical"] == "deadline_s"
    local, file = record["rows"][-1]["uplink_bytes_per_s"]
    assert (local["plan"], file["plan"]) == ("small local", "small file")
    size = json.loads(numbers.read_text())["conditions"]["image"]["file_bytes"]
    assert local["high"] == file["low"] == pytest.approx((300 + size) / (0.100 - 0.02 - 0.0101))
    by_slowdown = run("--fastest", "--map", tmp_path / "map.png", "--json", "-")
    assert json.loads(by_slowdown.stdout)["map"]["vertical"] == "device_slowdown"
    assert run("--device-slowdown", 10, "--map", target).exit_code == 0
    assert "; device at 10 times its profiled time</desc>" in target.read_text()


def test_runners_up_can_be_left_out(run):
    assert "runner-up" in run().stdout
    assert "runner-up" not in run("--runners-up", 0).stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--uplink", "10"],
        ["--uplink", "0mbit"],
        ["--rtt", "20"],
        ["--size", "1600x1200"],
        ["--size", "wide", "--file-bytes", "9"],
        ["--file-bytes", "9"],
        ["--mode", "cloud"],
        ["--map", "map.txt"],
        ["--variant", "other"],
        ["--deadline", "soon"],
        ["--deadline", "80ms", "--fastest"],
        ["--objective", "cheapest"],
        ["--objective", "least_energy", "--fastest"],
        ["--power", "compute=1"],
        ["--power", "compute=1,send=2,wait=x,receive=1"],
        ["--power", "compute=1,send=2,wait=-1,receive=1"],
        ["--hedge", "5%"],
        ["--hedge", "often", "--deadline", "80ms"],
        ["--connection", "cold"],
    ],
)
def test_what_means_nothing_is_refused(run, options):
    assert run(*options).exit_code == 2


def test_errors_are_left_to_the_caller(run, bundle_path):
    result = run(bundle=bundle_path)
    assert isinstance(result.exception, BundleError)
    assert "has not been profiled" in str(result.exception)
    assert isinstance(run("--server-slowdown", 0).exception, ConditionsError)
    nothing = run("--mode", "only_edge", "--max-sent-bytes", 0)
    assert isinstance(nothing.exception, NoPlanError)


def test_energy_and_pace_of_a_plan(run):
    result = run("--objective", "least_energy", "--uplink", "10mbit", "--rtt", "20ms")
    assert re.search(
        r"mJ of the device \(illustrative power\); at most [0-9.]+ a second", result.stdout
    )
    assert "least of the device's energy allowed" in result.stdout
    watts = "compute=1,send=0,wait=0,receive=0"
    options = ["--uplink", "10mbit", "--rtt", "20ms", "--power", watts, "--json", "-"]
    record = json.loads(run(*options, "--objective", "least_energy", "--max-sent-bytes", 0).stdout)
    assert record["plan"]["energy_j"] == pytest.approx(0.100)
    assert record["power"]["source"] == "given by --power"
    quick = json.loads(run(*options, "--objective", "greatest_throughput").stdout)["plan"]
    assert quick["interval_s"] == min(
        [
            quick["interval_s"],
            *(r["interval_s"] for r in json.loads(run(*options).stdout)["runners_up"]),
        ]
    )


def test_a_hedge_is_told(run):
    options = [
        "--deadline",
        "250ms",
        "--uplink",
        "10mbit",
        "--rtt",
        "20ms",
        "--mode",
        "prefer_edge",
    ]
    record = json.loads(run(*options, "--json", "-").stdout)["plan"]
    assert (record["hedge"], record["late_ratio"]) == (None, 0.0)
    text = run(*options, "--hedge", "5%").stdout
    assert "late in 0.0%" in text
    assert "so it needs no hedge (from 5.0%)" in text


@pytest.mark.parametrize(("state", "stalls"), [("warm", 0), ("idle", 1), ("new", 1)])
def test_a_connection_starts_slowly(run, state, stalls):
    options = ["--uplink", "10mbit", "--rtt", "20ms", "--size", "640x480", "--file-bytes", 20_000]
    record = json.loads(
        run(*options, "--mode", "only_edge", "--connection", state, "--json", "-").stdout
    )
    (file,) = [p for p in [record["plan"], *record["runners_up"]] if p["family"] == "file"]
    stalled_s = stalls * (0.02 - 14_480 / 1.25e6) + 0.02 * (state == "new")
    assert file["latency_s"] == pytest.approx(0.04 + 20_300 / 1.25e6 + 1000 / 1.25e6 + stalled_s)
    assert record["conditions"]["window_bytes"] == (14_480 if stalls else None)
