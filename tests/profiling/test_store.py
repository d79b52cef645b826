import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.errors import StoreError
from isthmus.profiling import store as module
from isthmus.profiling.store import IN_MEMORY, Key, ProfileStore, Stored, default_path

KEY = Key("ab" * 32, "run local", "pi", "", "onnxruntime 1.20", "", 1, 1.0)


class Clock:
    time_s = 1000.0

    def __call__(self):
        return self.time_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "profiles.sqlite"


@pytest.fixture
def store(path, clock):
    with ProfileStore(path, now_s=clock) as opened:
        yield opened


def test_what_was_put_is_found_again_in_another_process_lifetime(path):
    with ProfileStore(path) as store:
        store.put(KEY, {"median_s": 0.25, "blocks": [[1, 2]]})
    with ProfileStore(path) as store:
        assert store.get(KEY) == {"median_s": 0.25, "blocks": [[1, 2]]}


@pytest.mark.parametrize(
    "change",
    [{"graph_sha256": "cd" * 32}, {"part": "run"}, {"device": "pie"}, {"server": "s"},
     {"runtime": "onnxruntime 1.21"}, {"server_runtime": "onnxruntime 1.19"}, {"threads": 2},
     {"pace": 3.0}],
)  # fmt: skip
def test_every_field_of_the_key_counts(store, change):
    store.put(KEY, {"x": 1})
    assert store.get(replace(KEY, **change)) is None


def test_what_is_too_old_is_not_found(store, clock):
    store.put(KEY, {"x": 1})
    assert store.get(KEY, since_s=1000.0) == {"x": 1}
    assert store.get(KEY, since_s=1000.1) is None
    clock.time_s = 2000.0
    store.put(KEY, {"x": 2})
    assert store.get(KEY, since_s=1500.0) == {"x": 2}
    assert len(store.stored()) == 1


def test_two_stores_on_one_file_see_each_other(path, store):
    with ProfileStore(path) as other:
        other.put(KEY, {"x": 1})
        assert store.get(KEY) == {"x": 1}
        store.put(KEY, {"x": 2})
        assert other.get(KEY) == {"x": 2}


def test_a_locked_store_is_named_and_keeps_what_it_had(path, store, monkeypatch):
    store.put(KEY, {"x": 1})
    monkeypatch.setattr(module, "_WAIT_S", 0.0)
    with ProfileStore(path) as other:
        store._connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="another process"):
            other.put(KEY, {"x": 2})
        store._connection.rollback()
        assert other.get(KEY) == {"x": 1}


def test_a_full_disk_is_named_and_keeps_what_was_there(store):
    store.put(KEY, {"x": 1})
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="make room"):
        store.put(KEY, {"x": "y" * 100_000})
    assert store.get(KEY) == {"x": 1}


def test_a_damaged_store_is_named_and_left_as_it_is(path):
    path.parent.mkdir()
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="move it away"):
        ProfileStore(path)
    assert path.read_bytes() == b"no database" * 100


def test_damaged_content_is_named(store):
    store.put(KEY, {"x": 1})
    with store._connection:
        store._connection.execute("UPDATE measurements SET content = '[1'")
    with pytest.raises(StoreError, match="damaged"):
        store.get(KEY)


def test_another_version_is_refused(path):
    ProfileStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(StoreError, match="version 7"):
        ProfileStore(path)


def test_another_programs_database_is_refused(path):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(StoreError, match="version 0"):
        ProfileStore(path)


def test_a_place_where_nothing_can_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made: Not a directory"):
        ProfileStore(tmp_path / "file" / "folder" / "profiles.sqlite")
    with pytest.raises(StoreError, match="cannot be made: File name too long"):
        ProfileStore(tmp_path / ("n" * 300))
    with pytest.raises(StoreError, match="cannot be opened"):
        ProfileStore(tmp_path)


def test_a_new_store_for_which_there_is_no_room_leaves_no_file(path, monkeypatch):
    class Full(sqlite3.Connection):
        def execute(self, *_):
            super().execute("PRAGMA user_version")  # makes the file
            assert path.exists()
            raise sqlite3.OperationalError("database or disk is full")

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Full, **k))
    with pytest.raises(StoreError, match=rf"{path.name}.*make room"):
        ProfileStore(path)
    assert not list(path.parent.iterdir())


def test_in_memory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ProfileStore(IN_MEMORY) as store:
        store.put(KEY, {"x": 1})
        assert store.get(KEY) == {"x": 1}
        assert not list(tmp_path.iterdir())


def test_an_interrupted_writer_leaves_the_store_whole(path):
    with ProfileStore(path) as store:
        store.put(KEY, {"x": 1})
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from isthmus.profiling.store import Key, ProfileStore\n"
        "store = ProfileStore(Path(sys.argv[1]))\n"
        f"store.put({replace(KEY, part='late')!r}, {{'x': 2}})\n"
        "store._connection.execute('BEGIN IMMEDIATE')\n"
        "store._connection.execute('DELETE FROM measurements')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, env=dict(os.environ))
    with ProfileStore(path) as store:
        assert {one.key.part: one.content["x"] for one in store.stored()} == {
            "late": 2, "run local": 1,
        }  # fmt: skip


def test_forgetting_removes_what_is_named_and_says_how_much(store):
    keys = [replace(KEY, part=part) for part in "abc"]
    for key in keys:
        store.put(key, {})
    assert store.forget([keys[0], keys[2], replace(KEY, part="d")]) == 2
    assert [one.key.part for one in store.stored()] == ["b"]


def test_an_export_comes_back_as_it_was(store, clock, tmp_path):
    store.put(KEY, {"x": [1, 2.5, None]})
    store.put(replace(KEY, part="other", pace=3.0), {})
    exported = json.loads(json.dumps(store.exported()))
    clock.time_s = 9000.0
    with ProfileStore(tmp_path / "other.sqlite") as other:
        assert other.import_json(exported) == (2, 0)
        assert other.stored() == store.stored()


def test_of_two_for_one_key_the_later_one_stays(store, clock, tmp_path):
    store.put(KEY, {"x": "old"})
    old = store.exported()
    clock.time_s = 2000.0
    store.put(KEY, {"x": "new"})
    assert store.import_json(old) == (0, 1)
    assert store.get(KEY) == {"x": "new"}
    with ProfileStore(tmp_path / "other.sqlite", now_s=lambda: 5.0) as other:
        other.put(KEY, {"x": "oldest"})
        assert other.import_json(store.exported()) == (1, 0)
        assert other.stored() == (Stored(KEY, 2000.0, {"x": "new"}),)


def test_a_device_of_the_same_kind_takes_it_under_its_own_name(store, tmp_path):
    store.put(KEY, {"x": 1})
    server_only = replace(KEY, part="load unit", device="", server="edge")
    store.put(server_only, {"x": 2})
    with ProfileStore(tmp_path / "other.sqlite") as other:
        other.import_json(store.exported(), device="pi-2")
        assert other.get(replace(KEY, device="pi-2")) == {"x": 1}
        assert other.get(KEY) is None
        assert other.get(server_only) == {"x": 2}


def _broken():
    entry = {
        **vars(KEY), "measured_at_s": 1.0, "content": {},
    }  # fmt: skip
    whole = {"kind": "isthmus-profiles", "schema": 2, "measurements": [entry]}
    yield "isthmus profiles export", []
    yield "isthmus profiles export", {**whole, "kind": "other"}
    yield "schema 1", {**whole, "schema": 1}
    yield "list", {**whole, "measurements": {}}
    for change in (
        {"threads": "1"}, {"threads": True}, {"pace": None}, {"content": []}, {"more": 1},
        {"measured_at_s": float("nan")}, {"part": 3},
    ):  # fmt: skip
        yield "measurement 1", {**whole, "measurements": [entry, {**entry, **change}]}


@pytest.mark.parametrize(("told", "exported"), list(_broken()))
def test_what_is_no_export_is_refused_and_changes_nothing(store, told, exported):
    with pytest.raises(StoreError, match=told):
        store.import_json(exported)
    assert store.stored() == ()


def test_the_users_store_is_where_they_say_or_in_their_data_folder(monkeypatch):
    assert default_path({"ISTHMUS_PROFILES": "/x/y"}) == Path("/x/y")
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert default_path({"XDG_DATA_HOME": "/d"}) == Path("/d/isthmus/profiles.sqlite")
    home = Path.home()
    assert default_path({}) == home / ".local/share/isthmus/profiles.sqlite"
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert default_path({}) == home / "Library/Application Support/isthmus/profiles.sqlite"
    monkeypatch.setattr(module.sys, "platform", "win32")
    assert default_path({"LOCALAPPDATA": "/l"}) == Path("/l/isthmus/profiles.sqlite")
