import json
import shutil

import numpy as np
import pytest

from isthmus.building import complete as module
from isthmus.building.build import build_bundle
from isthmus.building.complete import complete_bundle, profile_until_complete
from isthmus.building.selection import Tolerance
from isthmus.errors import BundleError
from isthmus.loading.bundle import open_bundle, save_profile
from isthmus.loading.claims import claimed
from isthmus.loading.onnx_file import load_graph
from isthmus.planning.columns import columns_for
from isthmus.planning.plan_table import PlanEntry, compile_table
from isthmus.runtime.session import Session
from isthmus.types.cut import device_layers
from isthmus.types.plan import PlanRow

TOLERANCE = Tolerance(ratio=0.2, images=20)


@pytest.fixture(scope="module")
def built(small_model_path, photograph_files, tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / "app.isthmus"
    build_bundle(
        {"small": small_model_path},
        path,
        photographs=photograph_files,
        calibration=photograph_files[:2],
        cuts_per_variant=0,
        tolerance=TOLERANCE,
    )
    return path


def profiled(path):
    """Give a bundle a profile in which layers take as long as their number, less on the server."""
    bundle = open_bundle(path)
    table = compile_table([PlanEntry(PlanRow("small", "local"), {})], columns_for([20]))
    graph = load_graph(bundle.head_path("small", ""))
    plans = []
    for row in {c.row.cut_id: c.row for c in bundle.candidates}.values():
        here = len(device_layers(graph, row.tensors)) if row.family == "split" else 0
        stages = {"head": 1e-3 * here, "server": 1e-4 * (6 - here)}
        plans.append(_plan(row.family, row.cut_id, stages))
    plans.append(_plan("local", "", {"head": 6e-3, "server": 0.0}))
    plans.append(_plan("tensor", "", {"head": 0.0, "server": 6e-4}))
    save_profile(path, table, {"plans": plans})
    return open_bundle(path)


def _plan(family, cut_id, stages):
    return {"variant": "small", "family": family, "cut_id": cut_id, "stages_s": stages}


@pytest.fixture
def bundle(built, tmp_path):
    shutil.copytree(built, tmp_path / "app.isthmus")
    return profiled(tmp_path / "app.isthmus")


def test_cuts_that_measured_times_call_for_are_added_with_their_heads(bundle):
    before = bundle.candidates
    found = complete_bundle(bundle, tolerance=TOLERANCE)
    after = open_bundle(bundle.path)
    new = [c.row for c in after.candidates[len(before) :]]
    assert after.candidates[: len(before)] == before
    assert len(new) == found.plans > 0
    assert {row.family for row in new} == {"split"}
    assert {row.tensors for row in new} == set(found.found["small"].cuts)
    assert found.cuts == len(found.found["small"].cuts)
    assert after.table.rows == bundle.table.rows  # the old profile stays in force


def test_a_new_head_gives_what_the_whole_network_has_inside(bundle):
    complete_bundle(bundle, tolerance=TOLERANCE)
    after = open_bundle(bundle.path)
    image = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    cuts = {c.row.cut_id: c.row.tensors for c in after.candidates if c.row.family == "split"}
    import onnx

    whole = onnx.load(after.head_path("small", ""))
    for tensors in cuts.values():
        whole.graph.output.extend(onnx.helper.make_empty_tensor_value_info(t) for t in tensors)
    with Session(after.head_path("small", "")) as session:
        assert session.run({"image": image})
    import onnxruntime

    inside = onnxruntime.InferenceSession(whole.SerializeToString())
    for cut_id, tensors in cuts.items():
        expected = inside.run(list(tensors), {"image": image})
        with Session(after.head_path("small", cut_id)) as head:
            found = head.run({"image": image})
        for name, array in zip(tensors, expected, strict=True):
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_no_weights_are_written_twice(bundle):
    weights = bundle.path / "networks" / "small" / "weights.bin"
    before = weights.read_bytes()
    complete_bundle(bundle, tolerance=TOLERANCE)
    assert weights.read_bytes() == before
    assert not [p for p in bundle.path.rglob("*") if p.suffix == ".bin" and p != weights]


def test_where_nothing_is_missing_nothing_changes(bundle):
    complete_bundle(bundle, tolerance=TOLERANCE)
    complete = profiled(bundle.path)
    before = {p: p.is_file() and p.read_bytes() for p in bundle.path.rglob("*")}
    found = complete_bundle(complete, cuts_per_variant=0, tolerance=TOLERANCE)
    assert (found.cuts, found.plans) == (0, 0)
    assert {p: p.is_file() and p.read_bytes() for p in bundle.path.rglob("*")} == before


def test_a_failure_leaves_the_bundle_as_it_was(bundle, monkeypatch):
    before = {p: p.is_file() and p.read_bytes() for p in bundle.path.parent.rglob("*")}

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "add_candidates", fail)
    with pytest.raises(OSError, match="No space"):
        complete_bundle(bundle, tolerance=TOLERANCE)
    assert {p: p.is_file() and p.read_bytes() for p in bundle.path.parent.rglob("*")} == before


def test_an_interruption_once_the_new_cuts_are_known_does_not_take_them_away(bundle, monkeypatch):
    add = module.add_candidates

    def interrupted(*arguments):
        add(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "add_candidates", interrupted)
    with pytest.raises(KeyboardInterrupt):
        complete_bundle(bundle, tolerance=TOLERANCE)
    assert len(open_bundle(bundle.path).candidates) > len(bundle.candidates)


def test_a_device_that_has_the_bundle_open_goes_on_while_cuts_are_added(bundle):
    complete_bundle(bundle, tolerance=TOLERANCE)
    image = np.zeros((1, 3, 16, 16), np.float32)
    with Session(bundle.head_path("small", "")) as session:
        assert session.run({"image": image})


def test_what_another_process_is_changing_is_left_alone(bundle, elsewhere):
    before = {p: p.is_file() and p.read_bytes() for p in bundle.path.rglob("*")}
    with elsewhere(claimed, bundle.path):
        with pytest.raises(BundleError, match="another process"):
            complete_bundle(bundle, tolerance=TOLERANCE)
        with pytest.raises(BundleError, match="another process"):
            profile_until_complete(bundle.path, lambda _: pytest.fail("it has begun"))
    assert {p: p.is_file() and p.read_bytes() for p in bundle.path.rglob("*")} == before


def test_a_bundle_without_a_profile_is_refused(built):
    with pytest.raises(BundleError, match="has not been profiled"):
        complete_bundle(open_bundle(built))


def test_profiling_and_completing_take_turns_until_no_cut_is_missing(bundle):
    seen = []

    def profile(opened):
        seen.append(len(opened.candidates))
        profiled(opened.path)
        return len(seen)

    last, rounds = profile_until_complete(bundle.path, profile)
    assert last == len(seen) == len(rounds)
    assert [r.plans > 0 for r in rounds] == [True] * (len(rounds) - 1) + [False]
    assert seen == sorted(seen)
    assert len(open_bundle(bundle.path).candidates) == seen[-1] > seen[0]
    assert json.loads((bundle.path / "manifest.json").read_text())["profile"]
