import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from isthmus.errors import BundleError
from isthmus.loading import claims, files
from isthmus.loading.claims import claimed
from isthmus.loading.files import new_file, new_files, new_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, data=b"new", **options):
    with new_file(path, **options) as file:
        file.write(data)


def break_off(new, error, act):
    with new as made:
        act(made)
        raise error


@contextmanager
def room_for(size_bytes):
    """Let no file of this process grow beyond a size, as on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def killed(folder, code):
    """Run a program, and kill it as soon as it has said that it is in the middle of writing."""
    code = f"import time\nfrom pathlib import Path\nfrom isthmus.loading.files import *\n{code}"
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=-1) as process:
        assert process.stdout.readline() == b"writing\n"
        during = names(folder)
        process.kill()
    return during


def test_a_file_appears_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "file"
    with new_file(path) as file:
        file.write(b"some")
        assert not path.exists()
        file.write(b"thing")
    assert path.read_bytes() == b"something"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, RuntimeError])
def test_a_file_that_was_there_stays_if_its_successor_is_not_finished(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error):
        break_off(new_file(path), error, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("size", [2_000, 2_000_000])  # noticed when closed; when written
def test_a_full_disk_is_said_with_the_path_and_leaves_what_was_there(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with room_for(1000), pytest.raises(OSError, match=r"File too large.*/file'") as raised:
        write(path, bytes(size))
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_every_other_reason_is_said_with_the_path_too(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    reasons = {
        tmp_path / "folder": errno.EISDIR,
        tmp_path / "missing" / "file": errno.ENOENT,
        tmp_path / "file" / "file": errno.ENOTDIR,
        tmp_path / ("n" * 300): errno.ENAMETOOLONG,
    }
    for path, reason in reasons.items():
        with pytest.raises(OSError, match=path.name) as raised:
            write(path)
        assert (raised.value.errno, raised.value.filename) == (reason, str(path))
    assert names(tmp_path) == ["file", "folder"]


def test_an_error_about_something_else_stays_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError) as raised, new_file(tmp_path / "file"):
        (tmp_path / "source").read_bytes()
    assert raised.value.filename == str(tmp_path / "source")


def test_the_longest_name_that_there_is_can_be_written(tmp_path):
    write(tmp_path / ("n" * 255))
    assert names(tmp_path) == ["n" * 255]


def test_permissions_are_those_of_the_file_before_or_the_users_usual_ones(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "file")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
        (tmp_path / "file").chmod(0o600)
        write(tmp_path / "file")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_link_goes_on_to_lead_to_the_file(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "file"
    link.symlink_to(target)
    for data in (b"first", b"second"):
        write(link, data)
        assert link.is_symlink()
        assert target.read_bytes() == data
    assert names(tmp_path) == ["elsewhere", "link"]


def test_what_is_no_plain_file_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join()
    assert found == [b"new"]
    assert pipe.is_fifo()
    write(Path(os.devnull))
    assert Path(os.devnull).is_char_device()


def test_missing_folders_are_made_if_wanted_and_go_with_a_failure(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    with pytest.raises(RuntimeError), new_file(path, parents=True):
        raise RuntimeError
    assert not names(tmp_path)
    write(path, parents=True)
    assert path.read_bytes() == b"new"
    with pytest.raises(IsADirectoryError):
        write(path.parent, parents=True)
    assert path.read_bytes() == b"new"


def test_all_files_appear_or_none(tmp_path):
    paths = [tmp_path / "one", tmp_path / "two"]
    paths[0].write_bytes(b"old")
    with room_for(1000), pytest.raises(OSError, match="two"), new_files(*paths) as opened:
        opened[1].write(bytes(2000))
    assert names(tmp_path) == ["one"]
    assert paths[0].read_bytes() == b"old"
    paths[1].mkdir()
    with pytest.raises(IsADirectoryError), new_files(*paths):
        pytest.fail("known before")
    assert paths[0].read_bytes() == b"old"
    paths[1].rmdir()
    with new_files(*paths) as (one, two):
        one.write(b"1")
        two.write(b"2")
    assert [path.read_bytes() for path in paths] == [b"1", b"2"]


def test_what_a_killed_process_has_left_goes_with_the_next_file_there(tmp_path):
    code = "with new_file(Path('file')):\n print('writing', flush=True)\n time.sleep(60)"
    assert killed(tmp_path, code) == names(tmp_path) != []
    (tmp_path / ".isthmus-notes").write_bytes(b"a user's own")
    write(tmp_path / "other")
    assert names(tmp_path) == [".isthmus-notes", "other"]


def test_what_a_living_process_is_writing_is_left_alone(tmp_path, elsewhere):
    with elsewhere(new_file, tmp_path / "file") as file:
        write(tmp_path / "file", b"between")
        file.write(b"last")
    assert (tmp_path / "file").read_bytes() == b"last"
    assert names(tmp_path) == ["file"]


def test_a_file_taken_for_a_leftover_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    lock, sweeps = files.lock, []

    def swept(descriptor):
        if not sweeps:
            sweeps.extend(tmp_path.iterdir())
            for path in sweeps:
                path.unlink()
        return lock(descriptor)

    monkeypatch.setattr(files, "lock", swept)
    write(tmp_path / "file")
    assert len(sweeps) == 1
    assert (tmp_path / "file").read_bytes() == b"new"


def fill(path, data="new"):
    with new_folder(path) as folder:
        (folder / "file").write_text(data)
        (folder / "inner").mkdir()


def test_a_folder_appears_when_all_in_it_is_written(tmp_path):
    path = tmp_path / "missing" / "folder"
    with new_folder(path) as folder:
        (folder / "file").write_text("new")
        assert not path.exists()
    assert names(path) == ["file"]
    assert names(path.parent) == ["folder"]


def test_a_folder_is_replaced_whole(tmp_path):
    fill(tmp_path / "folder", "old")
    (tmp_path / "folder" / "more").write_text("old")
    fill(tmp_path / "folder")
    assert names(tmp_path / "folder") == ["file", "inner"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_folder_that_was_there_stays_if_its_successor_is_not_finished(tmp_path, error):
    fill(tmp_path / "folder", "old")
    with pytest.raises(error):
        break_off(new_folder(tmp_path / "folder"), error, lambda f: (f / "file").write_text("new"))
    assert (tmp_path / "folder" / "file").read_text() == "old"
    with pytest.raises(error), new_folder(tmp_path / "a" / "folder"):
        raise error
    assert names(tmp_path) == ["folder"]


def test_an_error_in_a_folder_is_said_with_the_path_where_it_was_to_be(tmp_path):
    path = tmp_path / "folder"
    with pytest.raises(OSError, match="missing") as raised, new_folder(path) as folder:
        write(folder / "missing" / "file")
    assert raised.value.filename == str(path / "missing" / "file")
    with pytest.raises(OSError, match="long") as raised:
        fill(tmp_path / "missing" / ("n" * 300))
    assert raised.value.filename == str(tmp_path / "missing" / ("n" * 300))
    with pytest.raises(FileNotFoundError) as raised, new_folder(path):
        (tmp_path / "source").read_bytes()
    assert raised.value.filename == str(tmp_path / "source")
    assert not names(tmp_path)


def test_only_one_process_makes_a_folder(tmp_path, elsewhere):
    path = tmp_path / "folder"
    with elsewhere(new_folder, path) as other:
        (other / "file").write_text("first")
        with pytest.raises(BundleError, match=r"another process .*/folder"):
            fill(path)
    assert (path / "file").read_text() == "first"


def test_a_claimed_folder_is_not_replaced(tmp_path, elsewhere):
    path = tmp_path / "folder"
    fill(path, "old")
    with elsewhere(claimed, path), pytest.raises(BundleError, match="another process"):
        fill(path)
    assert (path / "file").read_text() == "old"
    assert names(tmp_path) == ["folder"]


IN_FOLDER = """
with new_folder(Path('folder')) as folder:
    (folder / 'inner').mkdir()
    (folder / 'inner' / 'file').write_text('half')
    print('writing', flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_has_left_of_a_folder_goes_with_the_next(tmp_path):
    assert killed(tmp_path, IN_FOLDER) == names(tmp_path) == [".folder.new"]
    fill(tmp_path / "folder")
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["file", "inner"]


IN_BETWEEN = """
rename = Path.rename
def stop(self, target):
    rename(self, target)
    print('writing', flush=True)
    time.sleep(60)
Path.rename = stop
with new_folder(Path('folder')):
    pass
"""


def test_a_folder_whose_successor_was_killed_in_between_comes_back(tmp_path):
    fill(tmp_path / "folder", "old")
    assert killed(tmp_path, IN_BETWEEN) == [".folder.new"]
    with pytest.raises(RuntimeError), new_folder(tmp_path / "folder"):
        raise RuntimeError
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert names(tmp_path) == ["folder"]


def test_without_locks_a_leftover_is_taken_for_anothers_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "lock", lambda _: None)
    fill(tmp_path / "folder")
    (tmp_path / ".folder.new").mkdir()
    with pytest.raises(BundleError, match=r"then remove .*\.folder\.new"):
        fill(tmp_path / "folder")
    assert names(tmp_path) == [".folder.new", "folder"]
