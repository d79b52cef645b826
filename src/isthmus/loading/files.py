"""Files and folders that appear whole or not at all, and names that are safe in paths.

What is not complete lies beside its destination under a hidden name, locked by its process. If
that is killed, the next one that writes there removes it. It knows no formats.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from isthmus.errors import BundleError, RepositoryError
from isthmus.loading.claims import claimed, is_at, lock, locked

__all__ = ["check_file", "check_name", "is_safe_name", "new_file", "new_files", "new_folder"]

_LONGEST_NAME_BYTES = 200
_PARTIAL = ".isthmus-{}.partial"  # short: it fits wherever the destination's name does
_DIGITS = 12
_NO_FOLDER = os.strerror(errno.ENOTDIR)


def is_safe_name(name: str) -> bool:
    """Return whether ``name`` can be one component of a path on any system.

    Examples:
        >>> is_safe_name("mobilenet-v2"), is_safe_name("../etc"), is_safe_name("")
        (True, False, False)
    """
    return (
        bool(name)
        and not name.startswith(".")
        and name.isprintable()
        and not any(character in '/\\:*?"<>|' for character in name)
        and name == name.strip()
        and len(name.encode(errors="replace")) <= _LONGEST_NAME_BYTES
    )


def check_name(name: str) -> None:
    """Check that a model's name can be a folder's.

    Raises:
        RepositoryError: If it cannot.
    """
    if not is_safe_name(name):
        raise RepositoryError(
            f"{name!r} cannot be a model's name: use letters, digits, '-', '_' and '.', "
            f"no separators and no leading '.'"
        )


def check_file(path: Path) -> None:
    """Check that ``new_file`` can write there, before anything is computed that goes there.

    Raises:
        OSError: If it cannot; it says the path.
    """
    if path.is_file() or path.is_dir() or not path.exists():
        _Partial(path).close()


@contextlib.contextmanager
def new_file(path: Path, *, parents: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place at ``path`` only when all is written.

    As ``new_files``, for one.
    """
    with new_files(path, parents=parents) as (file,):
        yield file


@contextlib.contextmanager
def new_files(*paths: Path, parents: bool = False) -> Iterator[tuple[BinaryIO, ...]]:
    """Open files for writing that take their places only when all of them are written.

    What was there before is replaced and lends its permissions; if the block raises, it stays as
    it was. Links are followed. What is no plain file, such as a pipe, is written to directly.

    Args:
        paths: The files.
        parents: Whether missing folders are made; they go again if the block raises.

    Raises:
        OSError: If one cannot be written; it says the path.
    """
    with contextlib.ExitStack() as stack:
        if parents:
            for path in paths:
                stack.enter_context(_made(path.parent))
        partials = []
        for path in paths:
            partials.append(_Partial(path))
            stack.callback(partials[-1].close)
        yield tuple(partial.file for partial in partials)
        for partial in partials:
            partial.finish()
        for partial in partials:
            partial.put_in_place()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder that takes its place at ``path`` only when all in it is written.

    What was there before is replaced; if the block raises, it stays as it was. Only one process
    can do so at a time, and none while the folder is claimed. Missing parents are made.

    Raises:
        BundleError: If another process is doing so.
        OSError: If it cannot be written; it says the path below ``path``.
    """
    target = path.resolve()
    scratch = target.with_name(f".{target.name}.new")
    new, old = scratch / "new", scratch / "old"
    with contextlib.ExitStack() as stack:
        stack.enter_context(_placed(scratch, path))
        stack.enter_context(_made(target.parent))
        stack.enter_context(_owned(scratch, path))
        if old.exists() and not target.exists():  # killed between the two renamings
            old.rename(target)
        _empty(scratch)
        stack.enter_context(claimed(path))
        new.mkdir()
        yield new
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise


class _Named(io.FileIO):
    """A file whose errors of writing say where it is to be."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "wb")
        self._path = path

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        with _naming(self._path):
            return super().write(data)


class _Partial:
    """A file that is being written, and where it is to be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._target = Path(os.path.realpath(path))
        self._temporary: Path | None = None
        with _naming(path):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if path.exists() and not path.is_file():
                descriptor = os.open(path, os.O_WRONLY)
            else:
                descriptor, self._temporary = _temporary(self._target.parent)
        self.file = cast(BinaryIO, io.BufferedWriter(_Named(descriptor, path)))

    def finish(self) -> None:
        """Bring all of it to the disk."""
        self.file.flush()
        if self._temporary is not None:
            with _naming(self._path):
                os.fsync(self.file.fileno())
                if self._target.exists():
                    self._temporary.chmod(stat.S_IMODE(self._target.stat().st_mode))

    def put_in_place(self) -> None:
        """Let it appear."""
        if self._temporary is not None:
            if sys.platform == "win32":  # where files that are open keep their names
                self.file.close()
            with _naming(self._path):
                self._temporary.replace(self._target)

    def close(self) -> None:
        """Close it, and remove it if it was not put in place."""
        with contextlib.suppress(OSError):  # what could not be written cannot be now
            self.file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


def _temporary(folder: Path) -> tuple[int, Path]:
    """Make a locked file in a folder, and remove those that killed processes have left there."""
    for left in folder.glob(_PARTIAL.format("[0-9a-f]" * _DIGITS)):
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDWR)
            try:
                if lock(descriptor):
                    left.unlink()
            finally:
                os.close(descriptor)
    while True:
        path = folder / _PARTIAL.format(uuid.uuid4().hex[:_DIGITS])
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if lock(descriptor) is not False and is_at(descriptor, path):
            return descriptor, path
        os.close(descriptor)  # another one took it for left, before it was locked


@contextlib.contextmanager
def _owned(scratch: Path, path: Path) -> Iterator[None]:
    """Make a folder, or take over the one that a killed process left; it goes in the end."""
    try:
        scratch.mkdir()
        is_new = True
    except FileExistsError:
        is_new = False
    with locked(scratch) as is_locked:
        if is_locked is False:
            raise BundleError(f"another process is building {path}: wait until it is done")
        if is_locked is None and not is_new:
            raise BundleError(
                f"another process is building {path}, or was stopped: then remove {scratch}"
            )
        try:
            yield
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; they go again if the block raises."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, _NO_FOLDER, error.filename) from error
        yield
    except BaseException:
        for one in missing:
            with contextlib.suppress(OSError):  # some have others' files in them now
                one.rmdir()
        raise


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors say ``path`` instead of what stands in for it."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, why, str(path)) from error


@contextlib.contextmanager
def _placed(scratch: Path, path: Path) -> Iterator[None]:
    """Let errors say ``path`` instead of ``scratch/new``, which stands in for it."""
    try:
        yield
    except OSError as error:
        place = Path(error.filename) if isinstance(error.filename, str) else None
        if place is None or not place.is_relative_to(scratch):
            raise
        told = path.joinpath(*place.relative_to(scratch).parts[1:])
        raise OSError(error.errno, error.strerror, str(told)) from error
