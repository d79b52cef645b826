import json
import os
import shutil
import socket

import numpy as np
import pytest

from isthmus.building.build import build_bundle
from isthmus.building.selection import Tolerance
from isthmus.errors import BundleError, ServerRefusedError, ServerUnreachableError
from isthmus.lab.server_process import ServerProcess
from isthmus.loading.bundle import Bundle, open_bundle, save_manifest
from isthmus.planning.decide import decide
from isthmus.profiling.plans import Effort
from isthmus.profiling.profile import profile_bundle
from isthmus.runtime.fingerprint import fingerprint
from isthmus.runtime.plan_runner import PlanRunner
from isthmus.types.conditions import Conditions
from isthmus.types.link import Link
from isthmus.types.plan import STAGES, Rules

ONE_BLOCK = Effort(budget_s=0.0)


class Recorder:
    """Progress that remembers, and may interrupt."""

    def __init__(self, interrupt_at=None):
        self.tasks = {}
        self.task = ""
        self.done = 0
        self.interrupt_at = interrupt_at

    def begin(self, task, steps):
        self.task = task
        self.tasks[task] = [steps, 0]

    def advance(self, detail=""):
        self.done += 1
        self.tasks[self.task][1] += 1
        if self.done == self.interrupt_at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def models(small_network, tmp_path_factory):
    """Two networks of the same input pipeline, the second wider."""
    folder = tmp_path_factory.mktemp("models")
    for name, options in {"small": {}, "wide": {"seed": 1, "classes": 500}}.items():
        (folder / f"{name}.onnx").write_bytes(small_network(**options).SerializeToString())
    return folder


@pytest.fixture(scope="module")
def server(models):
    with ServerProcess(models) as process:
        yield process


@pytest.fixture(scope="module")
def built(models, photograph_files, tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / "app.isthmus"
    build_bundle(
        {file.stem: file for file in sorted(models.iterdir())},
        path,
        photographs=photograph_files,
        calibration=photograph_files[:2],
        cuts_per_variant=2,
        tolerance=Tolerance(ratio=0.2, images=20),
    )
    return path


@pytest.fixture
def bundle(built, tmp_path):
    """A bundle of the test's own, not profiled."""
    shutil.copytree(built, tmp_path / "app.isthmus")
    return open_bundle(tmp_path / "app.isthmus")


@pytest.fixture(scope="module")
def profiled(built, server, tmp_path_factory):
    path = tmp_path_factory.mktemp("profiled") / "app.isthmus"
    shutil.copytree(built, path)
    progress = Recorder()
    report = profile_bundle(
        open_bundle(path), server.url, effort=ONE_BLOCK, progress=progress, notes={"place": "here"}
    )
    return open_bundle(path), report, progress


def test_there_is_a_row_for_every_candidate(profiled):
    bundle, report, _ = profiled
    assert bundle.table.rows == tuple(c.row for c in bundle.candidates) == report.table.rows
    assert {row.variant for row in bundle.table.rows} == {"small", "wide"}
    for field in ("coefficients", "residual_s", "sent_bytes"):
        np.testing.assert_array_equal(getattr(bundle.table, field), getattr(report.table, field))


def coefficients(table, row, stage):
    return dict(zip(table.columns, table.coefficients[row, STAGES.index(stage)], strict=True))


def test_every_row_costs_time_where_it_works_and_nowhere_else(profiled):
    table = profiled[0].table
    works = {
        "local": {"decode", "preprocess", "head"},
        "file": {"decode", "encode", "connect", "upload", "server_decode", "server", "download"},
    }
    remote = works["file"] | {"preprocess"}
    works |= {"resized": remote, "tensor": remote, "split": remote | {"head"}}
    for i, row in enumerate(table.rows):
        stages = {s for s in STAGES if table.coefficients[i, STAGES.index(s)].any()}
        assert stages == works[row.family], row.label


def test_rows_of_one_cut_share_the_times_of_its_head_and_tail(profiled):
    table = profiled[0].table
    by_cut = {}
    for i, row in enumerate(table.rows):
        if row.family == "split":
            device, server = coefficients(table, i, "head"), coefficients(table, i, "server")
            by_cut.setdefault(row.cut_id, []).append((device["device"], server["server"]))
    assert any(len(found) > 1 for found in by_cut.values())
    assert all(len(set(found)) == 1 for found in by_cut.values())
    assert len({found[0] for found in by_cut.values()}) == len(by_cut)


def test_predictions_for_its_own_photographs_are_positive_and_plausible(profiled):
    bundle, _, _ = profiled
    from isthmus.runtime.image import read_facts

    conditions = Conditions(Link(1e7, 1e7, 0.001), read_facts(bundle.photographs()[0]))
    for row in bundle.table.rows:
        rules = Rules(variants=frozenset({row.variant}), families=frozenset({row.family}))
        plan = decide(bundle.table, conditions, rules)
        assert 0 < plan.latency_s < float("inf")
        assert all(value >= 0 for value in plan.stages_s.values())


def test_what_is_sent_is_what_the_messages_hold(profiled):
    table = profiled[0].table
    sent = dict(zip(table.rows, table.sent_bytes, strict=True))
    for row, size in sent.items():
        if row.family == "local":
            assert size == 0
        elif row.family == "tensor":
            assert 768 < size < 768 + 1000  # 3 x 16 x 16 pixels and the head
        elif row.family == "file":
            assert 100 < size < 1000  # without the photograph itself
    for i, row in enumerate(table.rows):
        upload = coefficients(table, i, "upload")
        assert upload["uplink_file_s"] == (row.family == "file")
        assert upload["uplink_s_per_byte"] == table.sent_bytes[i]


def test_accuracy_is_the_published_one_times_agreement(profiled):
    table = profiled[0].table
    np.testing.assert_allclose(table.accuracy, 0.75 * table.agreement)


def test_the_profile_says_how_it_was_measured(profiled, server):
    bundle, report, _ = profiled
    assert bundle.profile["server"] == server.url
    assert bundle.profile["place"] == "here"
    assert bundle.profile["effort"] == {
        "precision_ratio": 0.05, "budget_s": 0.0, "pause_s": 0.0,
    }  # fmt: skip
    assert [plan["count"] + plan["warm_ups"] for plan in bundle.profile["plans"]] == [4] * len(
        bundle.table.rows
    )
    assert bundle.profile["onnxruntime"]
    assert report.disagreements == ()
    assert bundle.profile["disagreements"] == []
    libraries = bundle.profile["libraries"]
    assert libraries["device"] == libraries["server"] == fingerprint()["libraries"]
    for site in ("device", "server"):
        errors = bundle.profile["input_fit"][site]
        assert errors.keys() == {"jpeg", "progressive", "png", "webp", "webp-lossless"}
        assert all(0 <= e["median_ratio"] <= e["p95_ratio"] for e in errors.values())
    link = Link(**bundle.profile["link"])
    assert link == report.link.link
    assert report.elapsed_s > 0


def test_the_report_counts_every_run(built, server, tmp_path, monkeypatch):
    runs, run = [], PlanRunner.run
    monkeypatch.setattr(
        PlanRunner, "run", lambda self, row, *a, **o: runs.append(row) or run(self, row, *a, **o)
    )
    shutil.copytree(built, tmp_path / "app")
    bundle = open_bundle(tmp_path / "app")
    report = profile_bundle(bundle, server.url, effort=ONE_BLOCK)
    probe = len(runs) - report.runs
    assert 1 <= probe <= 3  # photographs sent to look at the link are no runs of a plan
    assert all(runs.count(c.row) >= 4 for c in bundle.candidates)  # a block of four


def test_progress_reaches_the_end_of_every_task(profiled):
    tasks = profiled[2].tasks
    assert next(iter(tasks)) == "tails on the server"
    assert {"input pipeline", "small", "wide"} <= tasks.keys()
    assert all(steps == done for steps, done in tasks.values())


@pytest.mark.parametrize("step", [2, 10, 22])
def test_an_interruption_leaves_the_old_profile_in_force(profiled, server, tmp_path, step):
    path = tmp_path / "app.isthmus"
    shutil.copytree(profiled[0].path, path)
    before = {p: p.is_file() and p.read_bytes() for p in path.rglob("*")}
    with pytest.raises(KeyboardInterrupt):
        profile_bundle(open_bundle(path), server.url, effort=ONE_BLOCK, progress=Recorder(step))
    assert {p: p.is_file() and p.read_bytes() for p in path.rglob("*")} == before
    assert open_bundle(path).profiled_table().rows == profiled[0].table.rows


def test_a_second_profile_replaces_the_first(profiled, server, tmp_path):
    path = tmp_path / "app.isthmus"
    shutil.copytree(profiled[0].path, path)
    profile_bundle(open_bundle(path), server.url, effort=ONE_BLOCK)
    assert open_bundle(path).profile["date"] >= profiled[0].profile["date"]
    assert len(list((path / "profiles").iterdir())) == 1


def test_no_server_is_unreachable(bundle):
    with socket.socket() as deaf:  # it keeps its port, and listens to nobody
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        with pytest.raises(ServerUnreachableError, match=str(port)):
            profile_bundle(bundle, f"http://127.0.0.1:{port}")
    assert open_bundle(bundle.path).table is None


def test_a_server_with_another_file_of_that_name_refuses_and_says_why(
    bundle, small_network, tmp_path
):
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("small", "wide"):
        (folder / f"{name}.onnx").write_bytes(small_network(seed=9).SerializeToString())
    with ServerProcess(folder) as other:
        with pytest.raises(ServerRefusedError) as caught:
            profile_bundle(bundle, other.url)
    assert caught.value.status == 409
    assert "small" in str(caught.value)
    assert open_bundle(bundle.path).table is None


def test_a_server_without_the_network_refuses(bundle, small_network, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "other.onnx").write_bytes(small_network().SerializeToString())
    with ServerProcess(folder) as other:
        with pytest.raises(ServerRefusedError, match="small") as caught:
            profile_bundle(bundle, other.url)
    assert caught.value.status == 404


def test_a_bundle_without_photographs_cannot_be_profiled(bundle):
    save_manifest(
        bundle.path,
        variants=bundle.variants,
        heads=bundle.heads,
        candidates=bundle.candidates,
        calibration=(),
    )
    opened = open_bundle(bundle.path)
    assert isinstance(opened, Bundle)
    with pytest.raises(BundleError, match="calibration"):
        profile_bundle(opened, "http://127.0.0.1:9")


def test_a_bundle_that_cannot_be_written_is_not_measured(bundle, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: (path, mode) != (bundle.path, os.W_OK))
    with pytest.raises(BundleError, match="cannot be written: copy it"):
        profile_bundle(bundle, "http://127.0.0.1:9")


def test_the_profile_is_plain_json(profiled):
    folder = (
        profiled[0].path / json.loads((profiled[0].path / "manifest.json").read_text())["profile"]
    )
    assert json.loads((folder / "profile.json").read_text())["stages"] == list(STAGES)
