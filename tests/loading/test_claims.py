import errno
import os

import pytest

from isthmus.errors import BundleError
from isthmus.loading import claims
from isthmus.loading.claims import claimed, lock


def test_a_claimed_folder_is_refused_to_others_until_it_is_given_back(tmp_path, elsewhere):
    with (
        elsewhere(claimed, tmp_path),
        pytest.raises(BundleError, match=rf"another process .*{tmp_path.name}"),
        claimed(tmp_path),
    ):
        pytest.fail("two had it")
    with claimed(tmp_path) as is_alone:
        assert is_alone


def test_who_has_it_may_claim_it_again_and_keeps_it_afterwards(tmp_path, elsewhere):
    with claimed(tmp_path):
        with claimed(tmp_path) as is_alone:
            assert is_alone
        with pytest.raises(BundleError), elsewhere(claimed, tmp_path):
            pytest.fail("two had it")


def test_other_folders_may_be_claimed_at_once(tmp_path, elsewhere):
    (tmp_path / "other").mkdir()
    with elsewhere(claimed, tmp_path), claimed(tmp_path / "other") as is_alone:
        assert is_alone


def test_a_claim_leaves_nothing_behind_and_goes_with_an_error(tmp_path):
    with pytest.raises(RuntimeError), claimed(tmp_path):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with claimed(tmp_path):
        pass


def test_what_is_not_there_cannot_be_claimed(tmp_path):
    with claimed(tmp_path / "nothing") as is_alone:
        assert not is_alone


def test_a_folder_that_was_replaced_while_it_was_locked_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()

    def overtaken(descriptor):
        folder.rename(tmp_path / "old")
        folder.mkdir()
        return lock(descriptor)

    monkeypatch.setattr(claims, "lock", overtaken)
    with pytest.raises(BundleError), claimed(folder):
        pytest.fail("it has the old one")


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, elsewhere, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(claims.fcntl, "flock", unsupported)
    with elsewhere(claimed, tmp_path) as first, claimed(tmp_path) as second:
        assert not first
        assert not second
