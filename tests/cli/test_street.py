"""``build``, ``profile`` and ``infer``, as a user runs them, with one small network."""

import json
import shutil
import sys

import pytest
import typer
from typer.testing import CliRunner

import isthmus.building
from isthmus.cli import build, infer, inspect, profile
from isthmus.errors import BundleError, ImageError, ServerUnreachableError
from isthmus.lab.server_process import ServerProcess
from isthmus.loading.bundle import open_bundle

NOBODY = "http://127.0.0.1:9"


def run(module, *arguments):
    """Run a command; errors that are not about the command line are raised."""
    app = typer.Typer()
    app.command()(module.command)
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def models(small_network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "small.onnx").write_bytes(small_network().SerializeToString())
    return folder


@pytest.fixture(scope="module")
def photographs(photograph_files):
    return photograph_files[0].parent


@pytest.fixture(scope="module")
def built(models, photographs, tmp_path_factory):
    """A bundle with brackets in its path, and what was said while it was built."""
    path = tmp_path_factory.mktemp("bundles") / "app [v1].isthmus"
    result = run(
        build, models, "-o", path, "--photographs", photographs, "--calibration", photographs,
        "--agreement-images", 20, "--tolerance", "20%",
    )  # fmt: skip
    return path, result


@pytest.fixture(scope="module")
def server(models):
    with ServerProcess(models) as process:
        yield process.url


@pytest.fixture(scope="module")
def profiled(built, server, tmp_path_factory):
    path = tmp_path_factory.mktemp("profiled") / "app [v1].isthmus"
    shutil.copytree(built[0], path)
    return path, run(profile, path, "--server", server, "--budget", "1ms")


def test_build_says_what_it_made_and_what_comes_next(built):
    path, result = built
    plans = len(open_bundle(path).candidates)
    *_, made, last = result.stdout.splitlines()
    assert made.startswith(f"{path}: {plans} plans, ")
    assert made.endswith(" MB")
    assert last == f"next, on the device: isthmus profile {path} --server http://HOST:8000"


def test_build_says_what_it_left_out_and_why(small_network, photographs, tmp_path):
    model = tmp_path / "net.onnx"
    model.write_bytes(small_network(outlier=1e5).SerializeToString())
    result = run(
        build, model, "-o", tmp_path / "app", "--photographs", photographs,
        "--calibration", photographs, "--json", "-", "--agreement-images", 20,
    )  # fmt: skip
    content = json.loads(result.stdout)
    assert (content["agreement_images"], content["tolerance"]) == (20, 0.005)
    assert "net split x raw" in content["plans"]
    assert ["x"] in content["cuts"]["net"]["tensors"]
    ((_, plans, cuts, *gaps),) = [
        cells for line in result.stderr.splitlines() if (cells := line.split())[:1] == ["net"]
    ]
    assert (int(plans), cuts) == (len(content["plans"]), "3")
    assert [f"{gap:.1%}" for gap in list(content["cuts"]["net"].values())[1:]] == gaps
    label = next(label for label in content["left_out"] if label.startswith("net split x u8"))
    count = content["left_out"][label]
    assert count["low"] <= count["agreement"] < count["high"]
    assert count["images"] == 20
    plan = label.removeprefix("net").strip()
    assert "left out of net, for the answers changed: " in result.stderr
    assert f"{plan} (" in result.stderr


def test_what_was_counted_once_need_not_be_counted_again(models, photographs, tmp_path):
    counts = tmp_path / "counts.json"
    options = [
        "--photographs", photographs, "--calibration", photographs, "--agreement-images", 20,
        "--tolerance", "20%", "--agreement", counts,
    ]  # fmt: skip
    run(build, models, "-o", tmp_path / "app", *options)
    entries = json.loads(counts.read_text())["counts"]
    assert {entry["images"] for entry in entries} == {20}
    first = counts.read_bytes()
    # A count that never was tells that the second build has not counted again.
    for entry in entries:
        entry["agreed"] = 7
    counts.write_text(json.dumps({"schema": 1, "counts": entries}))
    run(build, models, "-o", tmp_path / "app", *options)
    again = [c for c in open_bundle(tmp_path / "app").candidates if not c.row.is_lossless]
    assert not again  # 13 of 20 are beyond 20 %
    assert counts.read_bytes() != first


def test_build_refuses_counts_that_are_none(models, photographs, tmp_path):
    (tmp_path / "counts.json").write_text("[]")
    with pytest.raises(BundleError, match="holds no counts of agreement"):
        run(
            build, models, "-o", tmp_path / "app", "--photographs", photographs,
            "--agreement", tmp_path / "counts.json",
        )  # fmt: skip


@pytest.mark.parametrize("text", ["-1%", "lots", "200%"])
def test_build_refuses_a_tolerance_that_is_no_share(models, photographs, tmp_path, text):
    result = run(
        build, models, "-o", tmp_path / "app", "--photographs", photographs,
        f"--tolerance={text}",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "no share" in result.stderr


def test_build_without_cuts(models, photographs, tmp_path):
    run(
        build, models, "-o", tmp_path / "app", "--photographs", photographs,
        "--calibration", photographs, "--cuts", 0, "--agreement-images", 5,
    )  # fmt: skip
    rows = [candidate.row for candidate in open_bundle(tmp_path / "app").candidates]
    assert all(row.family != "split" for row in rows)


def test_build_refuses_a_folder_without_images(models, tmp_path):
    with pytest.raises(BundleError, match="holds no image"):
        run(build, models, "-o", tmp_path / "app", "--photographs", tmp_path)


def test_build_refuses_what_is_no_folder(models, tmp_path):
    with pytest.raises(BundleError, match="no folder of images"):
        run(build, models, "-o", tmp_path / "app", "--photographs", tmp_path / "nothing")


def test_a_file_of_a_repository_has_its_folders_name(small_network, photographs, tmp_path):
    path = tmp_path / "models" / "my-net" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(small_network().SerializeToString())
    options = ("-o", tmp_path / "app", "--photographs", photographs, "--calibration", photographs)
    run(build, path, *options, "--cuts", 0)
    assert list(open_bundle(tmp_path / "app").variants) == ["my-net"]
    with pytest.raises(BundleError, match="two models are named my-net"):
        run(build, tmp_path / "models", path, *options)


def test_profile_says_what_it_measured_and_what_comes_next(profiled, server):
    path, result = profiled
    table = open_bundle(path).profiled_table()
    *_, first, last = result.stdout.splitlines()
    count = len(table.rows)
    assert first.startswith(f"{path}: {count} plans, {count} measured; ")
    assert "bit/s up, round trip " in first
    assert last == f"next: isthmus infer {path} PHOTO.jpg --server {server}"


def test_inspect_tells_what_a_bundle_holds_and_what_its_parts_take(profiled, built):
    output = run(inspect, profiled[0]).stdout
    assert "small: 1 local, 1 file, " in output
    assert "profiled 20" in output
    assert "load there" in output
    content = json.loads(run(inspect, profiled[0], "--json", "-").stdout)
    assert content["networks"]["small"]["accuracy"]["ratio"] == 0.75
    assert content["profile"]["heads"][0]["load_s"] > 0
    assert "not profiled yet" in run(inspect, built[0]).stdout


def test_a_second_profile_says_that_all_was_known(profiled, server):
    output = run(profile, profiled[0], "--server", server, "--budget", "1ms").stdout
    count = len(open_bundle(profiled[0]).candidates)
    assert f"0 measured, {count} known already" in output
    assert "cuts: " in output


def test_an_interrupted_profile_says_that_it_can_be_gone_on_with(built, server, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("isthmus.profiling.profile.profile_bundle", interrupt)
    result = run(profile, built[0], "--server", server)
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    result = run(profile, built[0], "--server", server, "--fresh")
    assert "the same command without --fresh goes on" in result.stderr


def test_a_store_that_cannot_be_is_named_and_profiling_goes_on(built, server, tmp_path):
    shutil.copytree(built[0], tmp_path / "app")
    (tmp_path / "store").write_text("no database" * 200)
    result = run(
        profile, tmp_path / "app", "--server", server, "--budget", "1ms", "--no-complete",
        "--store", tmp_path / "store",
    )  # fmt: skip
    assert "nothing will be kept: " in result.stdout
    assert "cuts: not completed (--no-complete)" in result.stdout
    assert open_bundle(tmp_path / "app").profiled_table().rows


def test_without_onnx_the_cuts_are_left_as_they_are(built, server, tmp_path, monkeypatch):
    shutil.copytree(built[0], tmp_path / "app")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(isthmus, "building", isthmus.building)  # is there again afterwards
    for name in [name for name in sys.modules if name.startswith("isthmus.building")]:
        monkeypatch.delitem(sys.modules, name)
    result = run(profile, tmp_path / "app", "--server", server, "--budget", "1ms")
    assert "cuts: not completed, onnx is not installed here" in result.stdout


def test_profile_as_json(built, server, tmp_path):
    shutil.copytree(built[0], tmp_path / "app")
    target = tmp_path / "figures.json"
    run(profile, tmp_path / "app", "--server", server, "--budget", "1ms", "--json", target)
    content = json.loads(target.read_text())
    assert content["rows"] == len(open_bundle(tmp_path / "app").table.rows)
    assert content["link"]["uplink_bytes_per_s"] > 0
    assert content["elapsed_s"] > 0


@pytest.mark.parametrize("address", ["edge:8000", "https://edge", "nonsense"])
def test_a_malformed_address_is_the_command_lines_fault(profiled, photograph_files, address):
    path, _ = profiled
    for arguments in ((profile, path), (infer, path, photograph_files[0])):
        result = run(*arguments, "--server", address)
        assert result.exit_code == 2
        assert "http://host:port" in " ".join(result.output.split())


def test_profile_without_a_server_is_an_error(built):
    with pytest.raises(ServerUnreachableError, match="127"):
        run(profile, built[0], "--server", NOBODY)


def test_infer_tells_answer_plan_and_where_the_time_went(profiled, server, photograph_files):
    result = run(infer, profiled[0], *photograph_files[:2], "--server", server)
    lines = result.stdout.splitlines()
    assert len(lines) == 2 * 3
    assert lines[0].startswith("photograph-0.jpg: class ")
    assert "(predicted " in lines[0]
    assert "small" in lines[1]
    assert lines[1].endswith(" bytes sent")
    assert "ms" in lines[2]


def test_infer_as_json(profiled, photograph_files):
    result = run(infer, profiled[0], photograph_files[0], "--json", "-", "--deadline", "10s")
    (record,) = json.loads(result.stdout)["outcomes"]
    assert record["source"] == "device"
    assert record["label"] == f"class {record['class']}"
    assert 0 < record["probability"] <= 1
    assert record["deadline_met"] is True
    assert record["sent_bytes"] == 0
    assert sum(record["timeline_s"].values()) == pytest.approx(record["total_s"])


def test_infer_works_without_the_server_and_says_so(profiled, photograph_files):
    result = run(infer, profiled[0], photograph_files[0], "--server", NOBODY)
    assert f"{NOBODY} does not answer: everything runs here" in result.stdout
    assert "device: small local, 0 bytes sent" in result.stdout


def test_a_missed_deadline_is_said(profiled, photograph_files):
    result = run(infer, profiled[0], photograph_files[0], "--deadline", "1us")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].endswith(" late")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--deadline", "80"), "such as 80ms"),
        (("--variant", "large"), "no large in"),
    ],
)
def test_wrong_options_are_the_command_lines_fault(profiled, photograph_files, arguments, text):
    result = run(infer, profiled[0], photograph_files[0], *arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())


def test_infer_before_profile_says_what_to_do(built, photograph_files):
    with pytest.raises(BundleError, match="isthmus profile"):
        run(infer, built[0], photograph_files[0])


def test_a_file_that_is_no_image_is_named(profiled, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ImageError, match=r"notes\.txt"):
        run(infer, profiled[0], tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["[red].jpg", "a[/b].jpg".replace("/", ""), "[1].jpg"])
def test_names_are_printed_as_they_are(profiled, photograph_files, tmp_path, name):
    shutil.copy(photograph_files[0], tmp_path / name)
    result = run(infer, profiled[0], tmp_path / name)
    assert result.stdout.startswith(f"{name}: class ")


def test_no_pixels_leave_when_they_must_not(profiled, server, photograph_files):
    result = run(
        infer, profiled[0], photograph_files[0], "--server", server, "--no-pixels-leave",
        "--json", "-",
    )  # fmt: skip
    (record,) = json.loads(result.stdout)["outcomes"]
    assert record["plan"].split()[1] in ("local", "split")
