"""Profiles that build on earlier ones: what is kept is not measured again."""

import shutil

import pytest

from isthmus.building.build import build_bundle
from isthmus.building.selection import Tolerance
from isthmus.errors import StoreError
from isthmus.lab.server_process import ServerProcess
from isthmus.loading.bundle import open_bundle
from isthmus.profiling import input_runs
from isthmus.profiling.ladder import Rung
from isthmus.profiling.plans import Effort
from isthmus.profiling.profile import Kept, profile_bundle
from isthmus.profiling.shelf import server_runtime
from isthmus.profiling.store import ProfileStore
from isthmus.runtime.image import read_facts
from isthmus.runtime.plan_runner import PlanRunner
from isthmus.runtime.remote import RemoteServer
from isthmus.runtime.session import ONNXRUNTIME_VERSION

ONE_BLOCK = Effort(budget_s=0.0)


@pytest.fixture(autouse=True)
def _short_ladder(monkeypatch):
    """Measure the input pipeline on the photographs alone."""
    monkeypatch.setattr(
        input_runs,
        "image_ladder",
        lambda files, *_: [Rung(data, read_facts(data)) for data in files],
    )


@pytest.fixture(scope="module")
def server(small_model_path):
    with ServerProcess(small_model_path.parent) as process:
        yield process.url


@pytest.fixture(scope="module")
def built(small_model_path, photograph_files, tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / "app.isthmus"
    build_bundle(
        {"small": small_model_path},
        path,
        photographs=photograph_files,
        calibration=photograph_files[:2],
        cuts_per_variant=1,
        tolerance=Tolerance(ratio=0.2, images=20),
    )
    return path


@pytest.fixture
def bundle(built, tmp_path):
    shutil.copytree(built, tmp_path / "app.isthmus")
    return open_bundle(tmp_path / "app.isthmus")


@pytest.fixture
def store(tmp_path):
    with ProfileStore(tmp_path / "profiles.sqlite") as opened:
        yield opened


@pytest.fixture
def runs(monkeypatch):
    """Every row that was run."""
    found, run = [], PlanRunner.run

    def counted(self, row, *arguments, **options):
        found.append(row)
        return run(self, row, *arguments, **options)

    monkeypatch.setattr(PlanRunner, "run", counted)
    return found


def profile(bundle, server, store, *, effort=ONE_BLOCK, since_s=0.0, **options):
    return profile_bundle(bundle, server, effort=effort, kept=Kept(store, since_s), **options)


def test_a_second_profile_measures_only_the_link(bundle, server, store, runs):
    first = profile(bundle, server, store)
    del runs[:]
    second = profile(bundle, server, store)
    assert (first.kept, second.kept) == (0, len(bundle.candidates))
    assert second.runs == 0
    assert {row.family for row in runs} == {"file"}
    assert len(runs) <= 3  # the probe's photographs
    assert (second.table.coefficients == first.table.coefficients).all()
    assert (second.table.residual_s == first.table.residual_s).all()
    assert second.heads == first.heads
    assert second.units == first.units
    assert open_bundle(bundle.path).profile["kept"] == len(bundle.candidates)


def test_another_bundle_of_the_same_network_profits(bundle, server, store, runs, tmp_path):
    profile(bundle, server, store)
    shutil.copytree(bundle.path, tmp_path / "copy")
    assert profile(open_bundle(tmp_path / "copy"), server, store).runs == 0


@pytest.mark.parametrize("change", [{"onnxruntime": "99.1"}, {"threads": 64}])
def test_what_another_server_version_answered_is_measured_again(
    bundle, server, store, monkeypatch, change
):
    profile(bundle, server, store)
    metadata = RemoteServer.metadata

    def other(self):
        told = metadata(self)
        if "threads" in change:
            return {**told, **change}
        return {**told, "libraries": {**told["libraries"], **change}}

    monkeypatch.setattr(RemoteServer, "metadata", other)
    report = profile(bundle, server, store)
    local = [c.row for c in bundle.candidates if c.row.is_local]
    assert report.kept == len(local) > 0  # they took no server
    told = {one.key.server_runtime for one in store.stored() if one.key.server}
    assert len(told) == 2
    (name, value), now = next(iter(change.items())), f"onnxruntime {ONNXRUNTIME_VERSION}"
    assert sum(f"{name} {value}" in one for one in told) == 1
    assert sum(now in one for one in told) == (2 if "threads" in change else 1)
    assert open_bundle(bundle.path).profile["server_threads"] == change.get("threads", 1)
    assert {one.key.server_runtime for one in store.stored() if not one.key.server} == {""}


def test_a_server_that_tells_no_versions_is_one_of_its_own():
    assert server_runtime({"name": "triton", "version": "2.50"}) == ""
    assert server_runtime({"libraries": ["onnxruntime"]}) == ""
    assert server_runtime({"libraries": {"pillow": "11", "zlib": "1.3"}}) == "pillow 11"
    assert server_runtime({"libraries": {"pillow": "11"}, "threads": 4}) == "pillow 11, threads 4"


def test_fresh_measures_all_again(bundle, server, store):
    profile(bundle, server, store)
    assert profile(bundle, server, store, since_s=float("inf")).kept == 0


def test_other_threads_or_precision_are_measured(bundle, server, store):
    profile(bundle, server, store)
    assert profile(bundle, server, store, threads=2).kept == 0
    assert profile(bundle, server, store, effort=Effort(0.04, 0.0)).kept == 0
    assert profile(bundle, server, store, effort=Effort(0.04, 0.0)).kept == len(bundle.candidates)


class Stop:
    """Progress that interrupts after some steps of the network's plans."""

    def __init__(self, steps):
        self.left = steps
        self.task = ""

    def begin(self, task, steps):
        self.task = task

    def advance(self, detail=""):
        if self.task == "small":
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


@pytest.mark.parametrize("steps", [1, 3])
def test_an_interrupted_profile_is_gone_on_with(bundle, server, store, runs, steps):
    with pytest.raises(KeyboardInterrupt):
        profile(bundle, server, store, progress=Stop(steps))
    assert open_bundle(bundle.path).table is None
    assert len([one for one in store.stored() if one.key.part.startswith("run ")]) == steps
    before = [row for row in runs if row.family != "file"]
    del runs[:]
    report = profile(bundle, server, store)
    # Blocks that were there are not run again (one block is all the budget allows).
    rows = [c.row for c in bundle.candidates if c.row.family != "file"]
    assert sorted(row.label for row in (*before, *runs) if row.family != "file") == sorted(
        row.label for row in rows for _ in range(4)
    )
    assert report.kept == 0  # nothing was complete
    assert [len(plan.blocks) for plan in report.plans] == [1] * len(bundle.candidates)


def test_a_begun_plan_keeps_its_blocks(bundle, server, store):
    profile(bundle, server, store)
    more = profile(bundle, server, store, effort=Effort(1e-9, 0.05))
    assert all(len(plan.blocks) >= 1 for plan in more.plans)
    assert any(len(plan.blocks) > 1 for plan in more.plans)
    assert len(more.unknown) == len(bundle.candidates)


@pytest.mark.parametrize("method", ["get", "put"])
def test_a_store_that_fails_is_left_out_and_named(bundle, server, store, monkeypatch, method):
    def fail(*_, **__):
        raise StoreError("profiles.sqlite: make room on the disk")

    monkeypatch.setattr(ProfileStore, method, fail)
    report = profile(bundle, server, store)
    assert report.store_failure == "profiles.sqlite: make room on the disk"
    assert open_bundle(bundle.path).profiled_table().rows


def test_what_another_version_kept_is_measured_again(bundle, server, store):
    profile(bundle, server, store)
    for one in store.stored():
        store.put(one.key, {"something": "else"})
    report = profile(bundle, server, store)
    assert report.kept == 0
    assert report.store_failure == ""


def test_loading_and_memory_of_heads_and_units_are_told(bundle, server, store):
    report = profile(bundle, server, store)
    cuts = {c.row.cut_id for c in bundle.candidates}
    assert set(report.heads) == {("small", cut) for cut in cuts}
    assert set(report.units) == {c.row.unit for c in bundle.candidates} - {""}
    for cost in (*report.heads.values(), *report.units.values()):
        assert cost.load_s > 0
        assert 0 <= cost.resident_bytes < 1e9
    recorded = open_bundle(bundle.path).profile
    assert {(h["variant"], h["cut_id"]) for h in recorded["heads"]} == set(report.heads)
    assert recorded["units"].keys() == report.units.keys()
