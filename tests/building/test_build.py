import dataclasses
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from isthmus.building.build import build_bundle
from isthmus.building.selection import Tolerance
from isthmus.errors import BundleError, ImageError, ModelError, RepositoryError
from isthmus.loading.bundle import open_bundle, save_profile
from isthmus.loading.claims import claimed
from isthmus.loading.files import new_folder
from isthmus.loading.onnx_file import load_graph
from isthmus.planning.candidates import CandidateCuts
from isthmus.runtime.codecs import CODECS
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.runtime.session import Session
from isthmus.types.cut import Cut


def few(ratio=0.1):
    """A tolerance of its own for each build: it remembers counts."""
    return Tolerance(ratio=ratio, images=40)


class Recorder:
    """Progress that remembers, and may interrupt."""

    def __init__(self, interrupt_at=None):
        self.steps = 0
        self.done = []
        self.interrupt_at = interrupt_at

    def begin(self, task, steps):
        self.steps += steps

    def advance(self, detail=""):
        self.done.append(detail)
        if len(self.done) == self.interrupt_at:
            raise KeyboardInterrupt


@pytest.fixture
def save(tmp_path):
    def write(model, name):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def build(tmp_path, photograph_files):
    def call(models, name="app.isthmus", photographs=photograph_files, **options):
        options = {"calibration": photograph_files[:2], "tolerance": few(), **options}
        return build_bundle(models, tmp_path / name, photographs=photographs, **options)

    return call


@pytest.fixture(scope="module")
def built_once(small_model_path, photograph_files, tmp_path_factory):
    return build_bundle(
        {"small": small_model_path},
        tmp_path_factory.mktemp("built") / "app.isthmus",
        photographs=photograph_files,
        calibration=photograph_files[:2],
        tolerance=few(),
    )


@pytest.fixture
def built(built_once, tmp_path):
    """A bundle of the test's own."""
    path = tmp_path / "app.isthmus"
    shutil.copytree(built_once.path, path)
    return dataclasses.replace(built_once, path=path)


@pytest.fixture
def without_cuts(monkeypatch):
    """Builds are faster if nobody looks for cuts."""
    nothing = CandidateCuts((), 0.0, 0.0)
    monkeypatch.setattr("isthmus.building.build.candidates", lambda *_, **__: nothing)


def rows(report):
    return [candidate.row for candidate in report.candidates]


def test_a_bundle_is_complete(built, small_model_path, photograph_files):
    bundle = open_bundle(built.path)
    graph = load_graph(small_model_path, name="small")
    assert list(bundle.variants) == ["small"]
    assert bundle.variants["small"].graph_sha256 == graph.sha256
    assert bundle.variants["small"].labels[3] == "class 3"
    assert bundle.candidates == built.candidates
    assert bundle.photographs() == tuple(p.read_bytes() for p in photograph_files[:2])
    assert bundle.table is None
    families = {row.family for row in rows(built)}
    assert families == {"local", "file", "resized", "tensor", "split"}
    for row in rows(built):
        if row.family == "split":
            cut = Cut.of(graph.sha256, row.tensors)
            assert (row.cut_id, row.unit) == (cut.id, f"small.tail-{cut.id}")
            assert bundle.head_path("small", cut.id).is_file()
    assert {row.unit for row in rows(built) if row.family in ("file", "resized")} == {"small.image"}
    assert built.size_bytes == sum(p.stat().st_size for p in built.path.rglob("*") if p.is_file())


def test_what_sends_the_photograph_or_its_pixels_says_so(built):
    for row in rows(built):
        assert row.has_pixels == (row.family in ("file", "resized", "tensor"))


def test_the_parts_in_the_bundle_compute_what_the_file_does(built, small_model_path):
    bundle = open_bundle(built.path)
    feeds = {"image": np.random.default_rng(1).normal(size=(1, 3, 16, 16)).astype(np.float32)}
    with Session(small_model_path) as original:
        expected = original.run(feeds)
    with Session(bundle.head_path("small", "")) as whole:
        np.testing.assert_allclose(whole.run(feeds)["logits"], expected["logits"], atol=1e-5)
    whole_graph = onnx.load(small_model_path)
    for (_, cut_id), _ in bundle.heads.items():
        if cut_id:
            with Session(bundle.head_path("small", cut_id)) as head:
                names = [spec.name for spec in head.outputs]
                found = head.run(feeds)
            probe = onnx.ModelProto()
            probe.CopyFrom(whole_graph)
            del probe.graph.output[:]
            probe.graph.output.extend(
                helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names
            )
            reference = onnx.reference.ReferenceEvaluator(probe).run(None, feeds)
            for name, array in zip(names, reference, strict=True):
                np.testing.assert_allclose(found[name], array, atol=1e-4)


def test_all_parts_of_a_network_share_one_copy_of_its_weights(build, save, small_network):
    path = save(small_network(classes=4000), "wide")
    report = build({"wide": path})
    folder = report.path / "networks" / "wide"
    assert len(list(folder.glob("*.onnx"))) > 1
    total = sum(file.stat().st_size for file in folder.iterdir())
    assert total < 1.05 * path.stat().st_size + 10_000


def test_progress_is_told_every_step_that_was_announced(build, without_cuts, small_model_path):
    progress = Recorder()
    build({"small": small_model_path, "other": small_model_path}, progress=progress)
    assert len(progress.done) == progress.steps == 2 * 2 + 1  # a network is counted once


def test_at_most_so_many_cuts(build, small_model_path):
    report = build({"small": small_model_path}, cuts_per_variant=1)
    assert len({row.cut_id for row in rows(report) if row.family == "split"}) == 1
    report = build({"small": small_model_path}, cuts_per_variant=0)
    assert {row.family for row in rows(report)} == {"local", "file", "resized", "tensor"}


def codecs_at(candidates, tensor):
    return {c.row.codec: c for c in candidates if c.row.tensors == (tensor,)}


def test_lossy_plans_that_change_answers_are_left_out_and_reported(build, save, small_network):
    # One channel that nothing reads is so large that one byte cannot hold the others beside it,
    # and 1e5 is beyond half precision; with a map of its own for each channel all is well.
    report = build({"net": save(small_network(outlier=1e5), "net")})
    kept, left_out = codecs_at(report.candidates, "x"), codecs_at(report.dropped, "x")
    assert "raw" in kept
    assert not {"u8", "u8+zstd", "fp16", "fp16+zstd"} & kept.keys()
    assert {"u8c", "u8c+zstd"} & kept.keys()
    count = next(left_out[codec].count for codec in ("u8", "u8+zstd") if codec in left_out)
    assert count.of == report.images == 40
    assert count.of - count.counted > 4
    assert open_bundle(report.path).candidates == report.candidates


def test_the_same_plans_are_kept_without_the_outlier(build, save, small_network):
    report = build({"net": save(small_network(), "net")})
    assert {"raw", "u8"} & codecs_at(report.candidates, "x").keys()
    assert not codecs_at(report.dropped, "x")
    assert all(c.checked == (0 if c.row.is_lossless else 40) for c in report.candidates)


def test_what_the_user_tolerates_decides(build, save, small_network):
    models = {"net": save(small_network(), "net")}
    strict = build(models, tolerance=few(ratio=0.0))
    lenient = build(models, tolerance=few(ratio=1.0))
    assert all(c.agreement == 1 for c in strict.candidates)
    assert any(c.agreement < 1 for c in lenient.candidates)
    assert not lenient.dropped


def test_tensors_that_a_codec_cannot_carry_leave_its_plans_out(build, save, small_network):
    report = build({"net": save(small_network(outlier=float("inf")), "net")})
    kept = codecs_at(report.candidates, "x").keys()
    assert "raw" in kept
    assert kept <= {"raw", "zstd", "fp16", "fp16+zstd"}  # the others hold finite values only


def test_every_plan_is_kept_or_its_leaving_is_told(build, small_model_path):
    report = build({"small": small_model_path}, tolerance=few(ratio=0.0))
    told = [*rows(report), *(c.row for c in report.dropped), *report.unasked]
    assert len(set(told)) == len(told)
    for cut_id in {row.cut_id for row in told if row.family == "split"}:
        assert {row.codec for row in told if row.cut_id == cut_id} == set(CODECS)
    assert {row.codec for row in told if row.family == "resized"} == set(IMAGE_CODECS)
    assert report.unasked


def test_without_photographs_no_lossy_plan_is_kept(build, small_model_path):
    report = build({"small": small_model_path}, photographs=(), tolerance=None)
    assert all(row.is_lossless for row in rows(report))
    assert report.dropped
    assert all((c.agreement, c.checked) == (0.0, 0) for c in report.dropped)


def test_a_network_is_not_cut_at_its_own_outputs(build, save, small_network):
    report = build({"net": save(small_network(two_answers=True), "net")})
    splits = [row for row in rows(report) if row.family == "split"]
    assert splits
    assert all("x" not in row.tensors for row in splits)


def test_an_existing_bundle_is_replaced_whole(build, built, without_cuts, save, small_network):
    other = save(small_network(seed=7), "other")
    build({"other": other})
    bundle = open_bundle(built.path)
    assert list(bundle.variants) == ["other"]
    assert not (built.path / "networks" / "small").exists()


def test_a_folder_that_is_no_bundle_is_left_alone(build, tmp_path, small_model_path):
    precious = tmp_path / "website"
    precious.mkdir()
    (precious / "index.html").write_text("precious")
    for manifest in (None, '{"name": "my site", "icons": []}', "not json", "[1]"):
        if manifest is not None:
            (precious / "manifest.json").write_text(manifest)
        with pytest.raises(BundleError, match="is no bundle"):
            build({"small": small_model_path}, name="website")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(BundleError, match="is no bundle"):
        build({"small": small_model_path}, name="file")
    assert (precious / "index.html").read_text() == (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_interrupted_build_leaves_the_old_bundle_and_no_debris(
    build, built, without_cuts, tmp_path, small_model_path, step
):
    before = {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}
    with pytest.raises(KeyboardInterrupt):
        build({"other": small_model_path}, progress=Recorder(interrupt_at=step))
    assert {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")} == before
    assert list(open_bundle(built.path).variants) == ["small"]


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("is_before", [True, False])
def test_an_interrupted_replacement_leaves_one_whole_bundle(
    build, built, without_cuts, tmp_path, small_model_path, monkeypatch, error, at, is_before
):
    from pathlib import Path

    rename, calls = Path.rename, []

    def interrupted(self, target):
        calls.append(self)
        if len(calls) == at and is_before:
            raise error
        rename(self, target)
        if len(calls) == at:
            raise error

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(type(error)):
        build({"other": small_model_path})
    monkeypatch.undo()
    expected = ["other"] if (at, is_before) == (2, False) else ["small"]
    assert list(open_bundle(built.path).variants) == expected
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_only_one_process_builds_a_bundle_and_none_while_it_is_profiled(
    build, built, without_cuts, tmp_path, small_model_path, elsewhere
):
    for manager in (claimed, new_folder):
        with elsewhere(manager, built.path) as entered:
            with pytest.raises(BundleError, match=r"another process .*app\.isthmus"):
                build({"other": small_model_path})
            if manager is new_folder:
                shutil.copytree(built.path, entered, dirs_exist_ok=True)
    assert list(open_bundle(built.path).variants) == ["small"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_who_has_the_old_bundle_open_is_told(build, built, without_cuts, save, small_network):
    opened = open_bundle(built.path)
    build({"small": save(small_network(seed=7), "small")})
    with pytest.raises(BundleError, match="built anew"):
        opened.head_path("small", "")


def test_a_full_disk_is_said_with_the_file_that_did_not_fit(
    build, built, without_cuts, tmp_path, small_model_path, monkeypatch
):
    before = {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}

    room_for = iter(["calibration/1.jpg", "calibration/2.jpg"])

    def full(_):
        if not next(room_for, None):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space") as raised:
        build({"other": small_model_path})
    assert raised.value.filename == str(built.path / "networks" / "other" / "weights.bin")
    assert {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")} == before


def test_a_failed_first_build_leaves_nothing(build, without_cuts, save, tmp_path, small_network):
    good = save(small_network(), "good")
    bad = save(small_network(input_pipeline=None), "bad")
    with pytest.raises(ModelError):
        build({"good": good, "bad": bad})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.onnx", "good.onnx"]


def test_a_network_without_pipeline_is_named(build, save, small_network):
    with pytest.raises(ModelError, match=r"bad\.onnx.*isthmus\.input_pipeline"):
        build({"bad": save(small_network(input_pipeline=None), "bad")})


def test_a_pipeline_of_another_size_is_named(build, save, small_network):
    pipeline = json.dumps(
        {
            "resize_shorter_side_px": 40,
            "crop_px": [32, 32],
            "interpolation": "bilinear",
            "channel_order": "RGB",
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
        }
    )
    with pytest.raises(ModelError, match=r"\[1, 3, 16, 16\].*\[1, 3, 32, 32\]"):
        build({"bad": save(small_network(input_pipeline=pipeline), "bad")}, photographs=())


def test_networks_for_different_tasks_are_refused_before_any_work(build, save, small_network):
    progress = Recorder()
    models = {
        "a": save(small_network(), "a"),
        "b": save(small_network(task="other"), "b"),
    }
    with pytest.raises(ModelError, match="different tasks.*other.*shapes"):
        build(models, progress=progress)
    assert progress.done == []


def test_a_network_of_two_inputs_is_named(build, save, small_network):
    model = small_network()
    node = helper.make_node("Add", ["logits", "bias"], ["sum"])
    model.graph.node.append(node)
    model.graph.input.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, (1, 10)))
    model.graph.output[0].name = "sum"
    with pytest.raises(ModelError, match=r"two\.onnx.*one image input"):
        build({"two": save(model, "two")})


@pytest.mark.parametrize("name", ["../escape", "", ".hidden", "a/b"])
def test_a_name_that_is_no_folders_is_refused(build, small_model_path, name):
    with pytest.raises(RepositoryError, match="cannot be a model's name"):
        build({name: small_model_path})


def test_nothing_to_build_is_refused(build, small_model_path):
    with pytest.raises(BundleError, match="no models"):
        build({})
    with pytest.raises(BundleError, match="--calibration"):
        build({"small": small_model_path}, calibration=())


def test_photographs_that_are_none_are_named(
    build, without_cuts, small_model_path, tmp_path, make_photograph
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(make_photograph()[:200])
    for options in ({"calibration": [broken]}, {"photographs": [broken]}):
        with pytest.raises(ImageError, match=r"broken\.jpg"):
            build({"small": small_model_path}, **options)


def test_photographs_may_be_called_anything(
    build, without_cuts, small_model_path, tmp_path, make_photograph
):
    names = ["one/a.jpg", "two/a.jpg", "Screenshot 12:30.png", "back\\slash.jpg", "Gänse.j:g", "b"]
    for seed, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(make_photograph(seed=seed))
    paths = [tmp_path / name for name in names]
    bundle = open_bundle(build({"small": small_model_path}, calibration=paths).path)
    assert bundle.photographs() == tuple(path.read_bytes() for path in paths)
    assert bundle.calibration[:3] == tuple(f"calibration/{n}" for n in ("1.jpg", "2.jpg", "3.png"))


def test_a_profile_can_be_given_to_what_was_built(built):
    from isthmus.planning.columns import columns_for
    from isthmus.planning.plan_table import PlanEntry, compile_table

    row = next(row for row in rows(built) if row.is_local)
    table = compile_table([PlanEntry(row, {"head": {"device": 0.1}})], columns_for([20]))
    save_profile(built.path, table, {})
    assert open_bundle(built.path).table.rows == (row,)


def test_as_many_photographs_as_are_asked_for_are_not_cropped(
    build, small_model_path, photograph_files, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        "isthmus.building.build.select",
        lambda rows, counter, crops, *rest: seen.append(crops) or ((), ()),
    )
    for images in (4, 5, 0):
        build({"small": small_model_path}, tolerance=Tolerance(images=images))
    assert [crops.are_photographs for crops in seen] == [True, False, False]
    assert seen[0].photographs == len(photograph_files) == 4


def test_a_zoo_network_keeps_its_answers(build):
    isthmus_zoo = pytest.importorskip("isthmus_zoo")
    report = build(
        {"squeezenet-1.1": isthmus_zoo.model_path("squeezenet-1.1")},
        photographs=isthmus_zoo.photograph_paths()[:3],
        cuts_per_variant=2,
    )
    assert report.images == 40
    assert sum(row.family == "split" for row in rows(report)) >= 2
    assert open_bundle(report.path).candidates == report.candidates
    assert report.size_bytes < 6e6
