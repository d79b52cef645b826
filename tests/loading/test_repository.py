import onnx
import pytest

from isthmus.errors import RepositoryError
from isthmus.loading.repository import RepositoryModel, place_of, scan_repository
from isthmus.loading.saving import save_model


@pytest.fixture
def model(build):
    return build([("Relu", "x", "y")], inputs="x", outputs="y")


def put(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"onnx")


def test_finds_the_highest_version_of_each(tmp_path):
    put(
        tmp_path,
        "b/9/model.onnx",
        "b/10/model.onnx",
        "b/11/weights.bin",
        "a.onnx",
        "c/1/model.onnx",
    )
    assert scan_repository(tmp_path) == (
        RepositoryModel("a", "1", tmp_path / "a.onnx"),
        RepositoryModel("b", "10", tmp_path / "b" / "10" / "model.onnx"),
        RepositoryModel("c", "1", tmp_path / "c" / "1" / "model.onnx"),
    )


def test_passes_over_what_is_no_model(tmp_path):
    put(tmp_path, "a.onnx", "README.md", ".hidden.onnx", ".git/1/model.onnx", "empty/config.pbtxt")
    put(tmp_path, "old/01/model.onnx", "old/0/model.onnx", "old/-1/model.onnx", "old/x/model.onnx")
    put(tmp_path, "odd/\N{SUPERSCRIPT TWO}/model.onnx", ".onnx")
    (tmp_path / "folder" / "1" / "model.onnx").mkdir(parents=True)
    assert [found.name for found in scan_repository(tmp_path)] == ["a"]


def test_one_name_for_a_folder_and_a_file_is_refused(tmp_path):
    put(tmp_path, "a.onnx", "a/1/model.onnx")
    with pytest.raises(RepositoryError, match="both a folder and a file for 'a'"):
        scan_repository(tmp_path)


def test_says_what_was_expected(tmp_path):
    expected = r"expected <name>/<version>/model.onnx or <name>.onnx"
    with pytest.raises(RepositoryError, match=f"no folder .*nowhere; {expected}"):
        scan_repository(tmp_path / "nowhere")
    with pytest.raises(RepositoryError, match=f"no models in it; {expected}"):
        scan_repository(tmp_path)
    put(tmp_path, "file")
    with pytest.raises(RepositoryError, match="is not a folder"):
        scan_repository(tmp_path / "file")
    with pytest.raises(RepositoryError, match="cannot be read"):
        scan_repository(tmp_path / "a\0b")


def test_a_model_saved_at_its_place_is_found(model, tmp_path):
    path = place_of(tmp_path / "models", "net.tail-01")
    assert path == tmp_path / "models" / "net.tail-01" / "1" / "model.onnx"
    save_model(model, path)
    assert onnx.load(path) == model
    model.producer_name = "second"
    save_model(model, path)
    assert onnx.load(path).producer_name == "second"
    (found,) = scan_repository(tmp_path / "models")
    assert (found.name, found.version) == ("net.tail-01", "1")
    assert not [p for p in path.parent.iterdir() if p.name != "model.onnx"]


def test_a_failed_write_leaves_what_was_there(model, tmp_path, monkeypatch):
    path = save_model(model, place_of(tmp_path, "net"))
    before = path.read_bytes()

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    model.producer_name = "second"
    with pytest.raises(OSError, match=r"No space .*model\.onnx"):
        save_model(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "/etc", "../x", ".hidden", "a\nb", "a\0b", " a", "x" * 300],
)
def test_unsafe_names_are_refused(tmp_path, name):
    with pytest.raises(RepositoryError, match="cannot be a model's name"):
        place_of(tmp_path, name)
