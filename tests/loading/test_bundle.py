import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from isthmus.errors import BundleError
from isthmus.loading import bundle as bundle_module
from isthmus.loading.bundle import (
    Candidate,
    add_candidates,
    open_bundle,
    save_manifest,
    save_profile,
)
from isthmus.loading.claims import claimed
from isthmus.planning.columns import columns_for
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.types.cut import Cut
from isthmus.types.plan import STAGES, PlanRow
from isthmus.types.variant import Accuracy, InputPipeline, Variant

DOCUMENT = Path(__file__).parents[2] / "docs" / "bundle.md"
PIPELINE = InputPipeline(256, (224, 200), "bicubic", "BGR", (103.5, 116.3, 123.7), (1.0, 1.5, 2.0))
VARIANTS = {
    "a": Variant("a", "0a" * 32, "imagenet-1k", Accuracy("top1", 0.7, "published", "a paper"),
                 PIPELINE, ("Fuchs", "Gänse")),
    "b": Variant("b", "0b" * 32, "imagenet-1k", None, None),
}  # fmt: skip
HEADS = {
    ("a", ""): "networks/a/whole.onnx",
    ("a", "0123456789ab"): "networks/a/head-0123456789ab.onnx",
    ("b", ""): "networks/b/whole.onnx",
}
CANDIDATES = (
    Candidate(PlanRow("a", "local")),
    Candidate(PlanRow("a", "file", unit="a.image", has_pixels=True)),
    Candidate(
        PlanRow("a", "split", ("x", "y"), "0123456789ab", "u8+zstd", "a.tail-0123456789ab",
                is_lossless=False), 0.95, 20,
    ),
)  # fmt: skip
MEASURED = {"server": "http://edge:8000", "link": {"rtt_s": 0.01}}


def made_table(scale=1.0):
    entries = [
        PlanEntry(CANDIDATES[0].row, {"head": {"device": 0.1 * scale}}, 0.001, accuracy=0.7),
        PlanEntry(
            CANDIDATES[2].row,
            {
                "head": {"device": 0.03 * scale},
                "server": {"server": 0.004},
                **link_terms("split", sent_bytes=5e4, received_bytes=4e3),
            },
            0.002, 5e4, 300.0, 0.69, 0.95, 0.25,
        ),
    ]  # fmt: skip
    return compile_table(entries, columns_for([256]))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "app.isthmus"
    for name in (*HEADS.values(), "networks/a/weights.bin", "calibration/photo.jpg"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode() * 50)
    return save(path)


def save(path):
    """Write the manifest over the files in a folder."""
    save_manifest(
        path,
        variants=VARIANTS,
        heads=HEADS,
        candidates=CANDIDATES,
        calibration=("calibration/photo.jpg",),
    )
    return path


@pytest.fixture
def profiled(folder):
    save_profile(folder, made_table(), MEASURED)
    return folder


def edit(path, change):
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def profile_folder(folder):
    return folder / json.loads((folder / "manifest.json").read_text())["profile"]


def snapshot(folder):
    return {p.relative_to(folder): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def same_tables(one, other):
    assert one.rows == other.rows
    assert one.columns == other.columns
    for field in dataclasses.fields(one):
        if field.name not in ("rows", "columns"):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_what_is_written_is_what_is_read(folder):
    bundle = open_bundle(folder)
    assert bundle.path == folder
    assert bundle.variants == VARIANTS
    assert bundle.heads == HEADS
    assert bundle.candidates == CANDIDATES
    assert bundle.calibration == ("calibration/photo.jpg",)
    assert (bundle.table, bundle.profile) == (None, {})
    assert bundle.photographs() == (b"calibration/photo.jpg" * 50,)
    assert bundle.head_path("a", "0123456789ab") == folder / HEADS["a", "0123456789ab"]


def test_a_table_comes_back_bit_for_bit(profiled):
    bundle = open_bundle(profiled)
    same_tables(bundle.table, made_table())
    assert bundle.profile == MEASURED
    assert bundle.profiled_table() is bundle.table


def test_a_second_profile_takes_the_place_of_the_first(profiled):
    save_profile(profiled, made_table(2.0), {"server": "other"})
    bundle = open_bundle(profiled)
    same_tables(bundle.table, made_table(2.0))
    assert bundle.profile == {"server": "other"}
    assert list((profiled / "profiles").iterdir()) == [profile_folder(profiled)]


def test_what_a_killed_process_has_left_is_removed_by_the_next_that_writes(profiled):
    (profiled / "profiles" / "0123456789ab").mkdir()
    (profiled / "profiles" / "0123456789ab" / "accuracy.f64").write_bytes(b"half")
    (profiled / "networks" / "a" / "head-ffffffffffff.onnx").write_bytes(b"nobody's")
    (profiled / "notes.txt").write_text("a user's own")
    named = {path for path in every_file(profiled) if "ffff" not in path.name} - {
        profiled / "profiles" / "0123456789ab" / "accuracy.f64"
    }
    before = profile_folder(profiled)
    save_profile(profiled, made_table(2.0), {})
    after = {p for p in every_file(profiled) if p.parent != profile_folder(profiled)}
    assert after == {path for path in named if path.parent != before}
    assert list((profiled / "profiles").iterdir()) == [profile_folder(profiled)]


def test_only_one_process_at_a_time_gives_a_bundle_a_profile(profiled, elsewhere):
    before = snapshot(profiled)
    with elsewhere(claimed, profiled), pytest.raises(BundleError, match="another process"):
        save_profile(profiled, made_table(2.0), {})
    assert snapshot(profiled) == before
    save_profile(profiled, made_table(2.0), {})


def test_a_reader_sees_the_bundle_before_or_after_whatever_comes_in_between(profiled, monkeypatch):
    tables = [made_table(3.0), made_table(2.0)]
    read = bundle_module._read_profile

    def overtaken(folder):
        if tables:
            save_profile(profiled, tables.pop(), {})
        return read(folder)

    monkeypatch.setattr(bundle_module, "_read_profile", overtaken)
    same_tables(open_bundle(profiled).table, made_table(3.0))
    assert not tables


def test_a_bundle_that_another_one_has_replaced_says_so(profiled):
    bundle = open_bundle(profiled)
    save_profile(profiled, made_table(2.0), {})
    assert bundle.head_path("a", "") == profiled / HEADS["a", ""]  # a new profile is no new bundle
    (profiled / "networks/a/weights.bin").write_bytes(b"others")
    save(profiled)
    with pytest.raises(BundleError, match="built anew"):
        bundle.head_path("a", "")
    open_bundle(profiled).head_path("a", "")


def test_plans_that_are_added_are_read_like_the_others(profiled):
    head = "networks/b/head-00112233aabb.onnx"
    (profiled / head).write_bytes(b"a head")
    row = PlanRow("b", "split", ("z",), "00112233aabb", "raw", "b.tail-00112233aabb")
    before = open_bundle(profiled)
    add_candidates(profiled, [Candidate(row)], {("b", "00112233aabb"): head})
    after = open_bundle(profiled)
    assert after.candidates == (*CANDIDATES, Candidate(row))
    assert after.heads == {**HEADS, ("b", "00112233aabb"): head}
    assert after.head_path("b", "00112233aabb") == before.path / head
    assert before.head_path("b", "") == before.path / HEADS["b", ""]  # who has it open goes on
    same_tables(after.table, before.table)
    (profiled / head).write_bytes(b"another")
    with pytest.raises(BundleError, match="00112233aabb"):
        open_bundle(profiled)


def test_a_bundle_may_be_moved(profiled, tmp_path):
    shutil.move(profiled, tmp_path / "elsewhere")
    same_tables(open_bundle(tmp_path / "elsewhere").table, made_table())


def test_an_unprofiled_bundle_says_what_to_do(folder):
    with pytest.raises(BundleError, match=r"isthmus profile .*app\.isthmus --server URL"):
        open_bundle(folder).profiled_table()


@pytest.mark.parametrize("link", [{}, {"uplink_bytes_per_s": 0.0}, {"speed": 3}, None])
def test_a_profile_without_a_usable_link_says_what_to_do(folder, link):
    save_profile(folder, made_table(), {"link": link} if link is not None else {})
    with pytest.raises(BundleError, match="profile the bundle again"):
        open_bundle(folder).profiled_link()


def test_an_unknown_part_is_named(folder):
    with pytest.raises(BundleError, match="'ffff'"):
        open_bundle(folder).head_path("a", "ffff")


def test_no_bundle_says_how_one_is_made(tmp_path):
    with pytest.raises(BundleError, match="isthmus build MODELS -o"):
        open_bundle(tmp_path / "nothing")


def test_another_folder_is_not_told_to_be_built_over(tmp_path):
    (tmp_path / "models").mkdir()
    with pytest.raises(BundleError, match="models is a folder, but no bundle") as told:
        open_bundle(tmp_path / "models")
    assert "isthmus build" not in str(told.value)


def test_a_file_is_no_bundle(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(BundleError, match="is a file"):
        open_bundle(tmp_path / "file")


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_another_schema_is_refused(folder, schema):
    edit(folder / "manifest.json", lambda content: content.update(schema=schema))
    with pytest.raises(BundleError, match="build it again"):
        open_bundle(folder)


def every_file(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_any_missing_file_is_named(profiled):
    for path in every_file(profiled):
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(BundleError, match=path.name):
            open_bundle(profiled)
        path.write_bytes(data)
    open_bundle(profiled)


def test_any_truncated_file_is_named(profiled):
    for path in every_file(profiled):
        data = path.read_bytes()
        for kept in (0, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:kept])
            with pytest.raises(BundleError, match=path.name):
                open_bundle(profiled)
        path.write_bytes(data)
    open_bundle(profiled)


def test_one_changed_byte_is_noticed_in_every_file_with_a_digest(profiled):
    for path in every_file(profiled):
        if path.suffix != ".json":
            data = path.read_bytes()
            for at in (0, len(data) // 2, len(data) - 1):
                path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
                with pytest.raises(BundleError, match=rf"{path.name} was changed"):
                    open_bundle(profiled)
            path.write_bytes(data)
    open_bundle(profiled)


@pytest.mark.parametrize("name", ["manifest.json", "profile.json"])
@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b"[" * 100_000, b"9" * 5000]
)
def test_a_description_that_is_none_is_refused(profiled, name, text):
    path = profiled / name if name == "manifest.json" else profile_folder(profiled) / name
    path.write_bytes(text)
    with pytest.raises(BundleError, match=re.escape(str(path.parent))):
        open_bundle(profiled)


def spoiled(value):
    """Yield copies of a JSON value, each with one part removed or of another kind."""
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            for other in (None, 5, "text", [1], {"x": 1}, math.inf, 10**400, "long" * 99):
                yield {**value, key: other}
            for part in spoiled(value[key]):
                yield {**value, key: part}
    elif isinstance(value, list) and value:
        for other in (None, 5, "text"):
            yield [other, *value[1:]]
        for part in spoiled(value[0]):
            yield [part, *value[1:]]


@pytest.mark.parametrize("name", ["manifest.json", "profile.json"])
def test_no_foreign_error_escapes_whatever_a_description_holds(profiled, name):
    path = profiled / name if name == "manifest.json" else profile_folder(profiled) / name
    content = json.loads(path.read_text())
    refused = 0
    for broken in spoiled(content):
        path.write_text(json.dumps(broken))
        try:
            bundle = open_bundle(profiled)
        except BundleError:
            refused += 1
        else:
            assert all(0 <= candidate.count.ratio <= 1 for candidate in bundle.candidates)
    assert refused > 50


@pytest.mark.parametrize("name", ["manifest.json", "profile.json", "weights.bin"])
def test_a_file_that_cannot_be_read_is_named(profiled, monkeypatch, name):
    def read(self, *arguments, **options):
        if self.name == name:
            raise PermissionError(13, "Permission denied", str(self))
        return open(self, *arguments, **options)  # noqa: PTH123

    monkeypatch.setattr(Path, "open", read)
    with pytest.raises(BundleError, match=f"{name}.*Permission denied"):
        open_bundle(profiled)


OUTSIDE = ["../secret", "/etc/passwd", "networks/../../secret", "..\\secret", "C:/secret"]


@pytest.mark.parametrize("outside", OUTSIDE)
def test_no_file_outside_of_the_bundle_is_read(profiled, outside):
    manifest = profiled / "manifest.json"
    before = manifest.read_bytes()

    def as_file(content):
        content["files"][outside] = {"bytes": 1, "sha256": "00" * 32}

    def as_head(content):
        content["variants"][0]["heads"][""] = outside

    def as_photograph(content):
        content["calibration"] = [outside]

    def as_profile(content):
        content["profile"] = outside

    for change in (as_file, as_head, as_photograph, as_profile):
        manifest.write_bytes(before)
        edit(manifest, change)
        with pytest.raises(BundleError, match=r"outside of itself|not among its files"):
            open_bundle(profiled)
    manifest.write_bytes(before)
    edit(profile_folder(profiled) / "profile.json", as_file)
    with pytest.raises(BundleError, match="outside of itself"):
        open_bundle(profiled)


@pytest.mark.parametrize("array", ["coefficients", "residual_s", "exit_probability"])
def test_a_profile_without_one_of_its_arrays_is_refused(profiled, array):
    folder = profile_folder(profiled)
    (folder / f"{array}.f64").unlink()
    with pytest.raises(BundleError, match=array):
        open_bundle(profiled)
    edit(folder / "profile.json", lambda content: content["files"].pop(f"{array}.f64"))
    with pytest.raises(BundleError, match=array):
        open_bundle(profiled)


def test_an_array_of_another_size_is_refused(profiled):
    folder = profile_folder(profiled)
    edit(folder / "profile.json", lambda content: content["rows"].pop())
    with pytest.raises(BundleError, match="malformed"):
        open_bundle(profiled)


def test_stages_of_another_order_are_refused(profiled):
    edit(profile_folder(profiled) / "profile.json", lambda content: content["stages"].reverse())
    with pytest.raises(BundleError, match="stages"):
        open_bundle(profiled)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("written", range(9))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_profile_that_cannot_be_written_leaves_the_bundle_as_it_was(
    folder, monkeypatch, is_first, written, error
):
    if not is_first:
        save_profile(folder, made_table(), MEASURED)
    before = snapshot(folder)
    left = iter([None] * written + [error])  # seven arrays, profile.json, the manifest

    def fail(_):
        if (one := next(left)) is not None:
            raise one

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(type(error)) as raised:
        save_profile(folder, made_table(2.0), {})
    monkeypatch.undo()
    assert next(left, "reached") == "reached"
    if isinstance(error, OSError):
        file = Path(raised.value.filename)
        names = [f"{array}.f64" for array in bundle_module._ARRAYS]
        assert file.name == [*names, "profile.json", "manifest.json"][written]
    assert snapshot(folder) == before
    open_bundle(folder)


def test_an_interruption_once_the_profile_is_in_force_does_not_take_it_away(folder, monkeypatch):
    replace = Path.replace

    def interrupted(self, target):
        replace(self, target)
        if Path(target).name == "manifest.json":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_profile(folder, made_table(), MEASURED)
    monkeypatch.undo()
    same_tables(open_bundle(folder).table, made_table())


def test_only_a_bundle_can_be_given_a_profile(tmp_path):
    with pytest.raises(BundleError, match="needs a bundle"):
        save_profile(tmp_path, made_table(), {})
    assert not list(tmp_path.iterdir())


# What docs/bundle.md says, checked: a client in another language relies on it.


def test_the_document_names_every_key_that_is_written(profiled):
    text = DOCUMENT.read_text(encoding="utf-8")
    described = set(re.findall(r"`([^`\n]+)`", text))

    def keys(value, skip=("files", "measured", "heads")):
        if isinstance(value, dict):
            for key, item in value.items():
                yield key
                if key not in skip:
                    yield from keys(item)
        elif isinstance(value, list):
            for item in value:
                yield from keys(item)

    for path in (profiled / "manifest.json", profile_folder(profiled) / "profile.json"):
        missing = set(keys(json.loads(path.read_text()))) - described
        assert not missing, f"docs/bundle.md does not explain {missing}"
    assert {f"{name}.f64" for name in bundle_module._ARRAYS} <= described
    assert set(STAGES) <= described


def test_the_documents_test_vector_of_a_cut_id():
    text = DOCUMENT.read_text(encoding="utf-8")
    vector = json.loads(re.search(r"```json vector\n(.*?)```", text, re.DOTALL)[1])
    cut = Cut.of(vector["graph_sha256"], vector["tensors"])
    assert cut.id == vector["cut_id"]
    assert cut.tensors == tuple(vector["sorted"])


def test_arrays_are_little_endian_float64_in_the_documents_order(profiled):
    folder = profile_folder(profiled)
    content = json.loads((folder / "profile.json").read_text())
    rows, stages, columns = content["rows"], content["stages"], content["columns"]
    array = np.frombuffer((folder / "coefficients.f64").read_bytes(), "<f8")
    array = array.reshape(len(rows), len(stages), len(columns))

    def coefficient(row, stage, column):
        return array[row, stages.index(stage), columns.index(column)]

    assert coefficient(0, "head", "device") == 0.1
    assert coefficient(1, "head", "device") == 0.03
    assert coefficient(1, "upload", "uplink_s_per_byte") == 5e4
    assert coefficient(1, "upload", "rtt_s") == 0.5
    agreement = np.frombuffer((folder / "agreement.f64").read_bytes(), "<f8")
    assert agreement.tolist() == [1.0, 0.95]
