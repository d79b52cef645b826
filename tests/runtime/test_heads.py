import pytest

from isthmus.errors import ModelError
from isthmus.runtime.heads import Heads
from isthmus.types.plan import PlanRow


@pytest.fixture
def asked():
    return []


@pytest.fixture
def heads(small_model_path, asked):
    def path_of(variant, cut_id):
        asked.append((variant, cut_id))
        return small_model_path

    opened = Heads(path_of)
    yield opened
    opened.close()


def test_nothing_is_loaded_before_it_is_needed(heads, asked):
    assert asked == []


def test_a_head_is_loaded_once(heads, asked):
    assert heads.session("small") is heads.session("small")
    assert asked == [("small", "")]


def test_a_new_head_has_been_warmed_up(heads, monkeypatch):
    from isthmus.runtime.session import Session

    runs = []
    run = Session.run
    monkeypatch.setattr(Session, "run", lambda self, feeds: runs.append(self) or run(self, feeds))
    session = heads.session("small")
    heads.session("small")
    assert runs == [session, session]


def test_load_takes_what_the_rows_need_on_the_device_and_no_more(heads, asked):
    heads.load(
        [
            PlanRow("a", "file", unit="a.image"),
            PlanRow("b", "resized", unit="b.image"),
            PlanRow("c", "tensor", ("image",), unit="c"),
            PlanRow("d", "local"),
            PlanRow("d", "split", ("x",), cut_id="0123", codec="raw"),
            PlanRow("d", "split", ("x",), cut_id="0123", codec="u8+zstd"),
        ]
    )
    assert asked == [("d", ""), ("d", "0123")]


def test_close_gives_everything_back_and_a_later_use_loads_again(heads, asked):
    session = heads.session("small")
    heads.close()
    with pytest.raises(ModelError, match="closed"):
        session.run({})
    assert heads.session("small") is not session
    assert len(asked) == 2


def test_a_file_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ModelError, match="nothing"):
        Heads(lambda *_: tmp_path / "nothing.onnx").session("small")
