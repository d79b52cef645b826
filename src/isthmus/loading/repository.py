"""Folders of models, laid out as Triton does: ``<name>/<version>/model.onnx``.

Flat ``<name>.onnx`` files are accepted as version 1. It reads no model and loads none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import RepositoryError
from isthmus.loading.files import check_name, is_safe_name

__all__ = ["RepositoryModel", "place_of", "scan_repository"]

_FILE_NAME = "model.onnx"
_VERSION = re.compile(r"[1-9][0-9]{0,17}")  # as Triton: no leading zero
_EXPECTED = f"<name>/<version>/{_FILE_NAME} or <name>.onnx"


@dataclass(frozen=True)
class RepositoryModel:
    """A model in a repository.

    Attributes:
        name: Its name.
        version: The highest version there is, a positive integer as text.
        path: Its ONNX file.
    """

    name: str
    version: str
    path: Path


def scan_repository(directory: Path) -> tuple[RepositoryModel, ...]:
    """Return the models of a repository, sorted by name, the highest version of each.

    Versions are positive integers without leading zeros; other folders, hidden entries and
    entries whose names cannot be a model's are passed over.

    Args:
        directory: The repository's folder.

    Raises:
        RepositoryError: If the folder is missing or has no models, or one name stands for both
            a folder and a file.
    """
    try:
        entries = sorted(directory.iterdir())
        found: dict[str, RepositoryModel] = {}
        for entry in entries:
            model = _model_at(entry)
            if model is None:
                continue
            if model.name in found:
                raise RepositoryError(
                    f"{directory} has both a folder and a file for {model.name!r}; remove one"
                )
            found[model.name] = model
    except FileNotFoundError as error:
        raise RepositoryError(f"there is no folder {directory}; expected {_EXPECTED}") from error
    except NotADirectoryError as error:
        raise RepositoryError(
            f"{directory} is not a folder; give the folder that has {_EXPECTED} in it"
        ) from error
    except (OSError, ValueError) as error:
        raise RepositoryError(f"{directory} cannot be read: {error}") from error
    if not found:
        raise RepositoryError(f"{directory} has no models in it; expected {_EXPECTED}")
    return tuple(found[name] for name in sorted(found))


def place_of(directory: Path, name: str) -> Path:
    """Return where a model's file goes in a repository, as version 1.

    Args:
        directory: The repository's folder.
        name: The model's name.

    Raises:
        RepositoryError: If the name is not allowed.
    """
    check_name(name)
    return directory / name / "1" / _FILE_NAME


def _model_at(entry: Path) -> RepositoryModel | None:
    """Return the model that an entry of a repository's folder holds."""
    if entry.is_dir():
        if not is_safe_name(entry.name):
            return None
        versions = [
            int(folder.name)
            for folder in entry.iterdir()
            if _VERSION.fullmatch(folder.name) and (folder / _FILE_NAME).is_file()
        ]
        if not versions:
            return None
        version = str(max(versions))
        return RepositoryModel(entry.name, version, entry / version / _FILE_NAME)
    if entry.suffix == ".onnx" and is_safe_name(entry.stem) and is_safe_name(entry.name):
        return RepositoryModel(entry.stem, "1", entry)
    return None
