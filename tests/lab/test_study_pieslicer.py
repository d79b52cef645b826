"""The PieSlicer study on made-up times, and its measuring and checking on tiny photographs."""

import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from isthmus.lab.studies import pieslicer, pieslicer_check
from isthmus.lab.studies.pieslicer import PieslicerStudy, judge
from isthmus.lab.studies.pieslicer_bed import (
    DEVICES,
    NETWORKS,
    Cell,
    Line,
    cells,
    fitted_device,
    line_through,
    published_figures,
    published_lines,
    requests_in,
)
from isthmus.lab.studies.pieslicer_check import check
from isthmus.lab.studies.pieslicer_measure import (
    FILE,
    ON_DEVICE,
    PLACEMENTS,
    SIDE_PX,
    TENSOR,
    Times,
    measure,
    prepare,
    receive,
)
from isthmus.lab.studies.pieslicer_methods import (
    METHODS,
    Placed,
    input_table,
    published_rule,
)
from isthmus.lab.studies.pieslicer_methods import (
    pieslicer as pieslicer_rule,
)
from isthmus.lab.studies.pieslicer_scores import break_even_bytes, scores_of
from isthmus.types.conditions import ImageFacts

NOISE = 0.02


def made_up(count=60, *, seed=1):
    """Costs that are lines over bytes, pixels and decoded pixels, with a little noise."""
    rng = np.random.default_rng(seed)
    sizes = (np.arange(count) + 0.5) / count * 1e7
    widths = np.sqrt(sizes / 0.45 * 1.5).astype(int)
    facts = tuple(
        ImageFacts("jpeg", int(width), int(width / 1.5), int(size), is_progressive=number % 10 == 9)
        for number, (width, size) in enumerate(zip(widths, sizes, strict=True))
    )
    decoded_px = np.array([one.decoded_pixels(SIDE_PX) for one in facts])
    decode_s = 0.0005 + sizes * 1e-8 + decoded_px * 2e-9
    decode_s *= np.array([2.0 if one.is_progressive else 1.0 for one in facts])

    def noisy(seconds):
        return seconds * rng.lognormal(0.0, NOISE, np.shape(seconds))

    file_decode_s, file_resize_s = noisy(decode_s), noisy(0.002 + decoded_px * 2e-9)
    received_s = noisy(np.tile([1, 0.003, 0.003, 0.003, 0.005, 0.001], (count, 1)))
    received_s[:, FILE] = file_decode_s + file_resize_s
    sent_bytes = np.tile([1, 60e3, 36e3, 26e3, 160e3, 3.0 * SIDE_PX**2], (count, 1))
    sent_bytes[:, FILE] = sizes
    return Times(
        facts,
        decode_s=noisy(decode_s),
        resize_s=noisy(0.0005 + decoded_px * 1e-9),
        encode_s=noisy(np.tile([0, 0.004, 0.003, 0.0025, 0.008, 0.0002], (count, 1))),
        file_decode_s=file_decode_s,
        file_resize_s=file_resize_s,
        received_s=received_s,
        sent_bytes=sent_bytes,
    )


@pytest.fixture(scope="module")
def judged():
    return judge(made_up(), made_up(seed=2), [number % 9 for number in range(60)])


@pytest.fixture(scope="module")
def with_residuals():
    groups = [number % 9 for number in range(60)]
    return judge(made_up(), made_up(seed=2), groups, residual_sd=0.1)


@pytest.fixture(scope="module")
def study(judged, with_residuals):
    regressors = {"linear": {"mape": 0.1, "train_ms": 1.0, "use_us": 2.0}}
    return PieslicerStudy(made_up(), judged, {0.1: with_residuals}, regressors, ())


def test_all_methods_are_judged_in_all_cells(judged):
    bed, scores, placed = judged.bed, judged.scores, judged.placed
    assert set(scores) == {f"{device}/{network}" for device in DEVICES for network in NETWORKS}
    for name, found in scores.items():
        assert tuple(found) == METHODS
        total = len(bed[name][1].photograph)
        assert all(sum(placed[name][method].values()) == total for method in METHODS)
        assert placed[name]["in_cloud"] == {"file": total}
        assert set(placed[name]["isthmus_two"]) <= {"file", PLACEMENTS[ON_DEVICE]}


def test_two_placements_are_decided_nearly_as_well_as_in_hindsight(judged):
    for found in judged.scores.values():
        assert found["optimal"]["accuracy"] == 1
        assert found["optimal"]["mean_regret_ms"] == pytest.approx(0)
        assert found["informed"]["accuracy"] >= 0.98
        assert found["isthmus_two"]["accuracy"] >= 0.97
        assert found["isthmus_two"]["regret_ratio"] < 0.005
        assert found["isthmus"]["p50_ms"] < found["optimal"]["p50_ms"]
        assert found["isthmus_two"]["sent_ratio"] < found["in_cloud"]["sent_ratio"] == 1


def test_residuals_are_beyond_what_anybody_knows(judged, with_residuals):
    cell = "pixel2/university"
    assert len(with_residuals.bed[cell][1].photograph) == 5 * len(judged.bed[cell][1].photograph)
    known, foreseen = judged.scores[cell]["informed"], with_residuals.scores[cell]["informed"]
    assert foreseen["accuracy"] < known["accuracy"]
    two = with_residuals.scores[cell]["isthmus_two"]
    assert foreseen["accuracy"] - 0.04 < two["accuracy"] < known["accuracy"]


def test_nobody_learns_from_what_he_is_judged_on(monkeypatch):
    seen = []

    def spy(cell, times, training, learnt, requests):
        seen.append((set(training.tolist()), set(requests.photograph.tolist())))
        assert set(learnt.photograph.tolist()) == set(training.tolist())
        count = len(requests.photograph)
        return {name: Placed(np.zeros(count, np.intp)) for name in METHODS}

    monkeypatch.setattr(pieslicer, "place", spy)
    groups = [number % 9 for number in range(60)]
    judge(made_up(), made_up(), groups)
    assert len(seen) == 2 * len(DEVICES) * len(NETWORKS)
    for training, judged_on in seen:
        assert training | judged_on == set(range(60))
        assert not {groups[one] for one in training} & {groups[one] for one in judged_on}


def test_figures_are_what_they_say():
    times = made_up(4)
    cell = Cell("nexus5", "university", 1.0, 0.0, Line(0.0, 0.0))
    requests = requests_in(cell, times, times, np.arange(4))
    total_s = np.full((4, len(PLACEMENTS)), 9.0)
    total_s[:, FILE] = [1.0, 3.0, 3.0, 3.0]
    total_s[:, ON_DEVICE] = [2.0, 2.0, 2.0, 2.0]
    second_s = total_s.copy()
    second_s[0, FILE] = 2.001  # near break-even, and the other way round when measured again
    requests = replace(requests, total_s=total_s, second_s=second_s)
    in_cloud = Placed(np.full(4, FILE))
    on_device = Placed(np.full(4, ON_DEVICE))
    mixed = Placed(np.array([FILE, ON_DEVICE, ON_DEVICE, FILE]), decision_s=0.01)
    found = scores_of(
        requests,
        {"in_cloud": in_cloud, "on_device": on_device, "mixed": mixed},
        slowdown=2.0,
    )
    assert [found[name]["accuracy"] for name in found] == [0.25, 0.75, 0.75]
    assert found["mixed"]["f1_device"] == pytest.approx(2 * 2 / (2 + 3))
    assert found["mixed"]["f1_cloud"] == pytest.approx(2 * 1 / (2 + 1))
    assert found["on_device"]["mean_regret_ms"] == pytest.approx(250)
    assert found["mixed"]["mean_regret_ms"] == pytest.approx(250 + 20)  # and its decision, slowed
    assert found["mixed"]["skill"] == pytest.approx(1 - 270 / 250)
    assert found["mixed"]["regret_ratio"] == pytest.approx(0.27 / 1.75)
    assert found["mixed"]["near_break_even_accuracy"] == 0
    assert found["on_device"]["near_break_even_accuracy"] == 1
    sizes = times.sent_bytes[:, FILE]
    sent_bytes = sizes[[0, 3]].sum() + 2 * 36e3
    assert found["mixed"]["sent_ratio"] == pytest.approx(sent_bytes / sizes.sum())


def test_pieslicer_is_as_published():
    cell = cells(made_up())[0]
    lines = published_rule(cell)
    assert lines.break_even_bytes == pytest.approx(0.270e6, abs=500)
    at_mb = {
        "motox4/university": 0.700, "pixel2/university": 0.726,
        "nexus5/residential": 0.173, "motox4/residential": 0.203, "pixel2/residential": 0.171,
    }  # fmt: skip
    for one in cells(made_up())[1:]:
        found = published_rule(one).break_even_bytes
        assert found == pytest.approx(at_mb[one.name] * 1e6, abs=600)
    facts = [
        ImageFacts("jpeg", 3000, 2000, 269_000),
        ImageFacts("jpeg", 3000, 2000, 271_000),
        ImageFacts("jpeg", 3000, SIDE_PX - 1, 5_000_000),  # short-circuit
    ]
    requests = requests_in(cell, made_up(3), made_up(3), np.arange(3))
    placed = pieslicer_rule(lines, replace(requests, facts=tuple(facts)))
    assert placed.tolist() == [FILE, ON_DEVICE, FILE]
    flat = replace(lines, on_device=Line(0.0, 0.0), transfer=Line(0.0, 1.0), in_cloud=Line(0, 1.0))
    assert pieslicer_rule(flat, requests).tolist() == [FILE] * 3  # ties go to the cloud


def test_published_numbers_are_all_there():
    assert published_lines()["transfer", "pixel2", "residential"].at(2e6) == pytest.approx(3.170746)
    figures = published_figures()
    assert len(figures) == len(DEVICES) * len(NETWORKS)
    assert figures["motox4/residential"]["pieslicer"] == {
        "p50": 0.973, "p95": 0.967, "p99": 0.835, "f1": 0.988,
    }  # fmt: skip


def test_a_device_is_as_slow_as_published():
    times = made_up()
    slowdown, overhead_s = fitted_device(times, "motox4")
    cell = Cell("motox4", "university", slowdown, overhead_s, Line(0.0, 0.0))
    device_s = cell.slowed(times).device_s
    line = line_through(times.sent_bytes[:, FILE], device_s[:, ON_DEVICE])
    assert tuple(line) == pytest.approx(tuple(published_lines()["on_device", "motox4", ""]))
    assert np.allclose(device_s[:, 1:], slowdown * times.device_s[:, 1:] + overhead_s)
    assert (device_s[:, FILE] == 0).all()


def test_break_even_parts_the_requests():
    times = made_up(6)
    cell = Cell("pixel2", "university", 1.0, 0.0, Line(0.0, 0.0))
    requests = requests_in(cell, times, times, np.arange(6))
    sizes = times.sent_bytes[:, FILE]
    total_s = np.zeros((6, len(PLACEMENTS)))
    total_s[:, FILE] = sizes

    def found(limit):
        total_s[:, ON_DEVICE] = limit
        return break_even_bytes(replace(requests, total_s=total_s))

    assert found((sizes[1] + sizes[2]) / 2 + 1) == pytest.approx((sizes[1] + sizes[2]) / 2)
    assert found(0.0) == 0
    assert found(1e9) == np.inf


def test_residuals_belong_to_requests_and_not_to_placements():
    times = made_up(6)
    cell = Cell("pixel2", "residential", 2.0, 0.03, Line(1e-6, 0.1))
    requests = requests_in(cell, times, times, np.arange(6), residual_sd=0.1, seed=3)
    again = requests_in(cell, times, times, np.arange(6), residual_sd=0.1, seed=3)
    assert np.array_equal(requests.link_s, again.link_s)
    constant_s = requests.link_s - requests.per_byte[:, None] * 1e-6 * requests.sent_bytes
    assert np.allclose(constant_s, 0.1 * requests.per_message[:, None])
    assert np.std(requests.per_byte) > 0
    server_only = requests.total_s[:, FILE] - requests.link_s[:, FILE]
    assert np.allclose(server_only, times.received_s[:, FILE])


def test_the_table_predicts_what_it_was_fitted_to():
    times = made_up()
    table = input_table(times, np.arange(60), range(len(PLACEMENTS)))
    assert [row.codec or "file" for row in table.rows] == ["file", *PLACEMENTS[1:]]
    assert [row.family for row in table.rows] == ["file", *["resized"] * 4, "tensor"]


def test_measuring_and_checking_run_for_real(photograph_files):
    ticks = iter(range(10**6))
    times, again = measure(photograph_files, repeats=2, seed=0, now_s=lambda: float(next(ticks)))
    count = len(photograph_files)
    assert all(np.array_equal(getattr(again, name), one) for name, one in vars(times).items())
    assert times.device_s.shape == (count, len(PLACEMENTS))
    assert (times.device_s[:, 1:] == 3).all()  # decode, resize, encode: a tick each
    assert (times.device_s[:, FILE] == 0).all()
    assert (times.received_s == [2, *[1] * (len(PLACEMENTS) - 1)]).all()
    files = [path.stat().st_size for path in photograph_files]
    assert times.sent_bytes[:, FILE].tolist() == files
    assert (times.sent_bytes[:, TENSOR] == 3 * SIDE_PX**2).all()
    assert [facts.file_bytes for facts in times.facts] == files

    real, _ = measure(photograph_files, repeats=1, seed=0)
    cell = Cell("pixel2", "university", 1.5, 0.01, Line(1e-8, 0.002))
    requests = requests_in(cell, real, real, np.arange(count))
    found = check([(cell, requests)], photograph_files, share=1.0, seed=0)
    assert sorted(one.placement for one in found) == sorted([FILE, ON_DEVICE] * count)
    assert all(one.observed_s > 0.002 * 0.5 for one in found)
    assert {one.cell for one in found} == {"pixel2/university"}


def test_a_slow_minute_spoils_neither_measurement(photograph_files):
    calls = 0

    def now_s():
        nonlocal calls
        calls += 1
        return float(calls)

    measure(photograph_files, repeats=1, seed=0, now_s=now_s)
    slow = calls // 2  # the first pass of both
    calls = 0
    times, again = measure(
        photograph_files, repeats=3, seed=0, now_s=lambda: now_s() * (10 if calls < slow else 1)
    )
    assert (times.decode_s == 1).all()
    assert (again.decode_s == 1).all()


def test_a_server_that_ends_is_told(photograph_files, monkeypatch):
    def broken(data, placement):
        raise ConnectionError("gone")

    monkeypatch.setattr(pieslicer_check, "receive", broken)
    times = made_up(4)
    cell = Cell("pixel2", "university", 1.5, 0.01, Line(1e-8, 0.002))
    requests = requests_in(cell, times, times, np.arange(4))
    with pytest.raises(OSError):  # noqa: PT011  reset or ended, as it comes
        check([(cell, requests)], photograph_files, share=0.1, seed=0)


@pytest.mark.parametrize("opened", ["before", "after"])
def test_an_interruption_waits_for_no_photograph(opened, photograph_files, monkeypatch):
    class Interrupting:
        def begin(self, task, steps):
            pass

        def advance(self, detail=""):
            raise KeyboardInterrupt

    is_broken_off = threading.Event()
    check_cell, break_off = pieslicer_check._check_cell, pieslicer_check._Connections.break_off

    def check_slow_late(cell, *arguments, **options):
        if cell.network == "university":
            assert is_broken_off.wait(60)
        return check_cell(cell, *arguments, **options)

    def break_off_and_tell(connections):
        break_off(connections)
        is_broken_off.set()

    if opened == "after":
        monkeypatch.setattr(pieslicer_check, "_check_cell", check_slow_late)
        monkeypatch.setattr(pieslicer_check._Connections, "break_off", break_off_and_tell)
    times = made_up(4)
    size_bytes = photograph_files[0].stat().st_size
    slow = Cell("pixel2", "university", 1.5, 0.01, Line(1000 / size_bytes, 0.0))
    fast = Cell("pixel2", "residential", 1.5, 0.01, Line(1e-9, 0.0))
    bed = [(cell, requests_in(cell, times, times, np.arange(4))) for cell in (fast, slow, slow)]
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        check(bed, photograph_files, share=0.2, seed=0, progress=Interrupting())
    assert time.monotonic() - before < 100  # else what times out at last takes 120


def test_every_placement_arrives_as_the_same_input(photograph_files):
    data = photograph_files[0].read_bytes()
    inputs = [receive(prepare(data, place), place) for place in range(len(PLACEMENTS))]
    assert all(one.shape == (1, 3, SIDE_PX, SIDE_PX) for one in inputs)
    lossless = [PLACEMENTS.index("webp-lossless"), TENSOR]
    assert all(np.array_equal(inputs[FILE], inputs[place]) for place in lossless)


def test_the_record_is_json_and_the_figure_is_drawn(study, tmp_path):
    pytest.importorskip("matplotlib")
    from isthmus.lab.studies.pieslicer_figure import draw

    record = json.loads(json.dumps(study.record()))
    assert set(record["cells"]["nexus5/university"]["isthmus_two"]) >= {
        "p50_ms", "p95_ms", "p99_ms", "accuracy", "f1_device", "f1_cloud", "mean_regret_ms",
        "p99_regret_ms", "skill", "near_break_even_accuracy", "sent_ratio",
    }  # fmt: skip
    assert record["checked_for_real"] == {"cells": 0, "median_error": None}
    assert record["factors"]["pixel2/residential"]["p50"] > 1
    draw(study, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert "break-even" in drawn
    assert "<desc>" in drawn


def test_the_command_prints_it_all(study, monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from isthmus.cli.study import command

    asked = {}

    def fake(count, **options):
        asked.update(options, count=count)
        return study

    monkeypatch.setattr(pieslicer, "study_pieslicer", fake)
    target = tmp_path / "out.json"
    result = CliRunner().invoke(command, ["pieslicer", "--quick", "--json", str(target)])
    assert result.exit_code == 0, result.output
    assert asked["count"] == 30
    assert asked["is_checked"] is False
    for words in ("isthmus_two", "break-even", "[0.980]", "linear", "10%"):
        assert words in result.output
    assert json.loads(target.read_text())["settings"]["photographs"] == 60
