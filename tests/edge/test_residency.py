import pytest

from isthmus.edge.residency import Residency
from isthmus.errors import CutError, GraphMismatchError, ModelError, RepositoryError


class Steps:
    """Records the progress that it is told."""

    def __init__(self):
        self.told = []

    def begin(self, task, steps):
        self.told.append((task, steps))

    def advance(self, detail=""):
        self.told.append(detail)


def test_loading_tells_its_progress_and_measures_itself(repository):
    residency, steps = Residency(repository.directory, threads=1), Steps()
    residency.load_all(steps)
    assert steps.told == [("loading models", 2), "photo", "plain"]
    assert [unit.name for unit in residency.units] == ["photo", "photo.image", "plain"]
    assert all(unit.load_s > 0 for unit in residency.units)
    assert residency.unit("photo").session is residency.unit("photo.image").session


def test_loading_stops_when_told(repository):
    residency = Residency(repository.directory, threads=1)
    residency.stop()
    residency.load_all()
    assert not residency.units
    assert not residency.is_ready


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="model 'broken' cannot be served"):
        Residency(tmp_path, threads=1).load_all()


def test_a_pipeline_must_make_what_the_network_takes(tmp_path, small_network, write_model):
    write_model(tmp_path / "odd.onnx", small_network(side=10))
    with pytest.raises(ModelError, match=r"pipeline makes float32 \[1, 3, 12, 12\]"):
        Residency(tmp_path, threads=1).load_all()


def test_two_models_cannot_answer_under_one_name(tmp_path, small_network, write_model):
    write_model(tmp_path / "a.onnx", small_network())
    image = tmp_path / "a.image" / "1" / "model.onnx"
    write_model(image, small_network(pipeline=None))
    with pytest.raises(RepositoryError, match=r"two models would answer as 'a\.image'"):
        Residency(tmp_path, threads=1).load_all()


def test_a_file_that_changed_on_disk_makes_no_tail(tmp_path, small_network, write_model):
    path = tmp_path / "a.onnx"
    before = write_model(path, small_network())
    residency = Residency(tmp_path, threads=1)
    residency.load_all()
    after = write_model(path, small_network(seed=9))
    with pytest.raises(GraphMismatchError, match="has changed"):
        residency.make_tail("a", ["mid"], before)
    with pytest.raises(GraphMismatchError, match="same ONNX file"):
        residency.make_tail("a", ["mid"], after)


def test_a_repository_that_disappears_takes_nothing_that_is_loaded_along(
    tmp_path, small_network, write_model
):
    """What is in memory is served; what would have to be read again is refused by name, as 404."""
    path = tmp_path / "a.onnx"
    digest = write_model(path, small_network())
    residency = Residency(tmp_path, threads=1)
    residency.load_all()
    known = residency.make_tail("a", ["mid"], digest)
    path.unlink()
    assert residency.make_tail("a", ["mid"], digest) is known
    assert residency.unit("a").name == "a"
    with pytest.raises(RepositoryError, match="is gone since it was loaded"):
        residency.make_tail("a", ["conv"], digest)


def test_tails_are_bounded(tmp_path, monkeypatch, small_network, write_model):
    digest = write_model(tmp_path / "a.onnx", small_network())
    residency = Residency(tmp_path, threads=1)
    residency.load_all()
    monkeypatch.setattr("isthmus.edge.residency._MOST_TAILS", 2)
    residency.make_tail("a", ["mid"], digest)
    residency.make_tail("a", ["flat"], digest)
    residency.make_tail("a", ["mid", "mid"], digest)
    with pytest.raises(CutError, match="2 tails already"):
        residency.make_tail("a", ["pooled"], digest)


def test_a_repository_must_be_there(tmp_path):
    with pytest.raises(RepositoryError):
        Residency(tmp_path / "nowhere", threads=1)
