"""Names that are safe in paths, and writing a file whole or not at all. It knows no formats."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isthmus.errors import RepositoryError

__all__ = ["check_name", "is_safe_name", "new_file"]

_LONGEST_NAME_BYTES = 200


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


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place at ``path`` only when all is written.

    What was at ``path`` before is replaced; if the block raises, it stays as it was.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
