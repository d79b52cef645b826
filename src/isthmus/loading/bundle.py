"""Bundle: the folder that a device runs from; read and written here without onnx.

A bundle holds ``manifest.json``, the device's parts of each network under ``networks/``, a few
photographs under ``calibration/`` and, once profiled, one plan table under ``profiles/``. See
``docs/bundle.md``. Building one is ``building``'s work, profiling one ``profiling``'s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from isthmus.errors import BundleError, ConditionsError
from isthmus.loading.claims import claimed
from isthmus.loading.files import new_file
from isthmus.types.link import Link
from isthmus.types.plan import FAMILIES, STAGES, PlanRow, PlanTable
from isthmus.types.proportion import Proportion
from isthmus.types.variant import Accuracy, InputPipeline, Variant

__all__ = [
    "SCHEMA",
    "Bundle",
    "Candidate",
    "add_candidates",
    "changing",
    "open_bundle",
    "save_manifest",
    "save_profile",
]

SCHEMA = 1
"""Version of the bundle's format; a reader refuses any other."""

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What comes of a description that holds something else than it should."""

_MANIFEST = "manifest.json"
_NETWORKS = "networks"
_PROFILES = "profiles"
_PROFILE = "profile.json"
_ARRAYS = (
    "coefficients",
    "residual_s",
    "sent_bytes",
    "sent_bytes_sd",
    "accuracy",
    "agreement",
    "exit_probability",
)


@dataclass(frozen=True)
class Candidate:
    """A plan that may become a row: what it does, and what is known before any time is measured.

    Attributes:
        row: What it does.
        agreement: Share of the images on which its top-1 is the unsplit network's.
        checked: On how many images that was counted; 0 for lossless plans.

    Raises:
        ValueError: If these are no share and no count.
    """

    row: PlanRow
    agreement: float = 1.0
    checked: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.agreement <= 1:
            raise ValueError(f"agreement {self.agreement} is not between 0 and 1")
        _ = self.count  # refuses what is no count

    @property
    def count(self) -> Proportion:
        """On how many of the images the answer stays; none of none for lossless plans."""
        return Proportion(round(self.agreement * self.checked), self.checked)


@dataclass(frozen=True)
class Bundle:
    """What a device runs from.

    Attributes:
        path: The folder.
        variants: The networks, by name.
        heads: Files of the device's parts, relative to ``path``, by variant and cut id (empty for
            the whole network).
        candidates: The plans that a profile measures.
        calibration: Photographs to measure with, relative to ``path``.
        table: The plan table, or ``None`` before the bundle has been profiled.
        profile: How the table was measured (server, date, versions, link), JSON values; empty
            before.
        files: Size and SHA-256 of every file but the profile's, by its place.
    """

    path: Path
    variants: Mapping[str, Variant]
    heads: Mapping[tuple[str, str], str]
    candidates: tuple[Candidate, ...]
    calibration: tuple[str, ...]
    table: PlanTable | None
    profile: Mapping[str, Any]
    files: Mapping[str, Any]

    def head_path(self, variant: str, cut_id: str) -> Path:
        """Return the ONNX file of the device's part before a cut; ``""`` is the whole network.

        Raises:
            BundleError: If the bundle has no such part, or another one has taken its place.
        """
        try:
            place = self.heads[variant, cut_id]
        except KeyError:
            raise BundleError(
                f"{self.path} holds no part of {variant} for cut {cut_id!r}"
            ) from None
        files = _read_json(self.path / _MANIFEST, "it was there when it was opened").get("files")
        if not isinstance(files, dict) or not self.files.items() <= files.items():
            raise BundleError(f"{self.path} was built anew since it was opened: open it again")
        return self.path / place

    def photographs(self) -> tuple[bytes, ...]:
        """Read the calibration photographs."""
        return tuple((self.path / name).read_bytes() for name in self.calibration)

    def profiled_link(self) -> Link:
        """Return the link as it was while profiling.

        Raises:
            BundleError: If the bundle has not been profiled, or its profile does not say.
        """
        self.profiled_table()
        try:
            return Link(**self.profile["link"])
        except (KeyError, TypeError, ConditionsError) as error:
            raise BundleError(
                f"{self.path}: the profile has no usable link ({error}); profile the bundle again"
            ) from error

    def profiled_table(self) -> PlanTable:
        """Return the plan table.

        Raises:
            BundleError: If the bundle has not been profiled.
        """
        if self.table is None:
            raise BundleError(
                f"{self.path} has not been profiled on this device: "
                f"run `isthmus profile {self.path} --server URL`"
            )
        return self.table


def open_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check that it is whole.

    Args:
        path: The folder.

    Raises:
        BundleError: If it is missing, of another schema, or if a file is missing, unreadable,
            truncated or not as it was when written.
    """
    folder = Path(path)
    while True:
        manifest = _manifest(folder)
        try:
            return _bundle(folder, manifest)
        except BundleError:
            if _manifest(folder) == manifest:
                raise  # else another process has just replaced what was read


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if folder.is_dir() and not path.exists():  # of models, perhaps: not to be built over
        raise BundleError(f"{folder} is a folder, but no bundle: it has no {_MANIFEST}")
    return _read_json(path, f"`isthmus build MODELS -o {folder}` makes one")


def _bundle(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    if manifest.get("schema") != SCHEMA:
        raise BundleError(
            f"{folder} has schema {manifest.get('schema')!r}, this version reads {SCHEMA}: "
            "build it again"
        )
    _check_files(folder, manifest)
    try:
        variants = {entry["name"]: _variant(entry) for entry in manifest["variants"]}
        heads = {
            (entry["name"], cut_id): file
            for entry in manifest["variants"]
            for cut_id, file in entry["heads"].items()
        }
        candidates = tuple(
            Candidate(_row(entry["row"]), entry["agreement"], entry["checked"])
            for entry in manifest["candidates"]
        )
        calibration, files = tuple(manifest["calibration"]), manifest["files"]
        _check_listed((*heads.values(), *calibration), files)
        profile_name = manifest["profile"]
        if profile_name is not None:
            _check_inside(folder, profile_name)
    except _MALFORMED as error:
        raise BundleError(
            f"{folder / _MANIFEST} is malformed: {error!r}; build it again"
        ) from error
    table, profile = (None, {}) if profile_name is None else _read_profile(folder / profile_name)
    return Bundle(folder, variants, heads, candidates, calibration, table, profile, files)


def save_manifest(
    folder: Path,
    *,
    variants: Mapping[str, Variant],
    heads: Mapping[tuple[str, str], str],
    candidates: tuple[Candidate, ...],
    calibration: tuple[str, ...],
) -> None:
    """Write the manifest of a bundle that has not been profiled, over the files in ``folder``."""
    manifest = {
        "schema": SCHEMA,
        "variants": [
            {
                **dataclasses.asdict(variant),
                "heads": {cut: file for (name, cut), file in heads.items() if name == key},
            }
            for key, variant in variants.items()
        ],
        "candidates": [dataclasses.asdict(candidate) for candidate in candidates],
        "calibration": list(calibration),
        "files": _digests(folder),
        "profile": None,
    }
    _write_json(folder / _MANIFEST, manifest)


def save_profile(folder: Path, table: PlanTable, profile: Mapping[str, Any]) -> None:
    """Give a bundle a plan table; the old one stays in force until the new one is complete.

    Args:
        folder: The bundle.
        table: The compiled table.
        profile: How it was measured, JSON values.

    Raises:
        BundleError: If the folder is no bundle, or another process is changing it.
        OSError: If it cannot be written (the bundle is then as it was).
    """
    with changing(folder):
        manifest = _read_json(folder / _MANIFEST, "a profile needs a bundle")
        name = f"{_PROFILES}/{uuid.uuid4().hex[:12]}"
        _write_profile(folder / name, table, profile)
        _write_json(folder / _MANIFEST, {**manifest, "profile": name})


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Keep other processes from changing a bundle; in the end what it does not name is removed.

    That are the profile that was in force before, and what was not written to its end: by this
    process, or by one that was killed.

    Raises:
        BundleError: If another process is changing it.
    """
    with claimed(folder) as is_alone:
        try:
            yield
        finally:
            if is_alone:
                _sweep(folder)


def add_candidates(
    folder: Path,
    candidates: Iterable[Candidate],
    heads: Mapping[tuple[str, str], str],
) -> None:
    """Let a bundle know more plans; the profile in force knows nothing of them.

    Args:
        folder: The bundle.
        candidates: The plans.
        heads: Places of their heads, which are in the bundle already, by variant and cut id.

    Raises:
        BundleError: If the folder is no bundle, or another process is changing it.
        OSError: If it cannot be written (the bundle is then as it was).
    """
    with changing(folder):
        manifest = _read_json(folder / _MANIFEST, "plans need a bundle")
        for entry in manifest["variants"]:
            entry["heads"] |= {cut: file for (name, cut), file in heads.items()
                               if name == entry["name"]}  # fmt: skip
        manifest["candidates"] += [dataclasses.asdict(candidate) for candidate in candidates]
        manifest["files"] |= {file: _digest(folder / file) for file in heads.values()}
        _write_json(folder / _MANIFEST, manifest)


def _write_profile(folder: Path, table: PlanTable, profile: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True)
    for array in _ARRAYS:
        with new_file(folder / f"{array}.f64") as file:
            file.write(getattr(table, array).astype("<f8").tobytes())
    content = {
        "stages": list(STAGES),
        "columns": list(table.columns),
        "rows": [dataclasses.asdict(row) for row in table.rows],
        "files": _digests(folder),
        "measured": dict(profile),
    }
    _write_json(folder / _PROFILE, content)


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file below a folder, by its relative POSIX path."""
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _MANIFEST
    }


def _digest(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sweep(folder: Path) -> None:
    with contextlib.suppress(BundleError, OSError):
        manifest = _read_json(folder / _MANIFEST, "")
        profiles = folder / _PROFILES
        for profile in profiles.glob("*"):
            if f"{_PROFILES}/{profile.name}" != manifest.get("profile"):
                shutil.rmtree(profile, ignore_errors=True)
        for head in folder.glob(f"{_NETWORKS}/*/head-*.onnx"):
            if head.relative_to(folder).as_posix() not in manifest.get("files", ()):
                head.unlink()
        if manifest.get("profile") is None:
            profiles.rmdir()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_inside(folder: Path, name: str) -> None:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name:
        raise BundleError(f"{folder} names a file outside of itself: {name}")


def _check_listed(names: Iterable[str], files: Mapping[str, Any]) -> None:
    for name in names:
        if name not in files:
            raise ValueError(f"{name} is not among its files")


def _check_files(folder: Path, description: Mapping[str, Any]) -> None:
    files = description.get("files")
    if not isinstance(files, dict):
        raise BundleError(f"{folder} is malformed: its list of files is missing")
    for name, expected in files.items():
        _check_inside(folder, name)
        if not (isinstance(expected, dict) and expected.keys() >= {"bytes", "sha256"}):
            raise BundleError(f"{folder} is malformed: size and digest of {name} are missing")
        path = folder / name
        try:
            if not path.is_file():
                raise BundleError(f"{path} is missing: build or profile the bundle again")
            size_bytes, sha256 = path.stat().st_size, _sha256(path)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from error
        if size_bytes != expected["bytes"]:
            raise BundleError(
                f"{path} has {size_bytes} bytes instead of {expected['bytes']}: "
                "it is truncated or was changed; build or profile the bundle again"
            )
        if sha256 != expected["sha256"]:
            raise BundleError(f"{path} was changed since it was written: build the bundle again")


def _read_profile(folder: Path) -> tuple[PlanTable, Mapping[str, Any]]:
    content = _read_json(folder / _PROFILE, "profile the bundle again")
    _check_files(folder, content)
    try:
        if tuple(content["stages"]) != STAGES:
            raise ValueError(f"stages {content['stages']}, expected {STAGES}")
        _check_listed([f"{name}.f64" for name in _ARRAYS], content["files"])
        rows, columns = content["rows"], tuple(content["columns"])
        arrays = {
            name: np.frombuffer((folder / f"{name}.f64").read_bytes(), dtype="<f8").astype(float)
            for name in _ARRAYS
        }
        shape = (len(rows), len(STAGES), len(columns))
        arrays["coefficients"] = arrays["coefficients"].reshape(shape)
        table = PlanTable(rows=tuple(_row(row) for row in rows), columns=columns, **arrays)
        return table, dict(content["measured"])
    except _MALFORMED as error:
        raise BundleError(
            f"{folder / _PROFILE} is malformed: {error!r}; profile it again"
        ) from error


def _variant(entry: Mapping[str, Any]) -> Variant:
    return Variant(
        name=entry["name"],
        graph_sha256=entry["graph_sha256"],
        task=entry["task"],
        accuracy=Accuracy(**entry["accuracy"]) if entry["accuracy"] else None,
        pipeline=InputPipeline.from_json(entry["pipeline"]) if entry["pipeline"] else None,
        labels=tuple(entry["labels"]),
    )


def _row(entry: Mapping[str, Any]) -> PlanRow:
    if entry["family"] not in FAMILIES:
        raise ValueError(f"unknown family {entry['family']!r}")
    crossing = {key: tuple(entry[key]) for key in ("tensors", "cloud_tensors")}
    return PlanRow(**{**entry, **crossing})


def _read_json(path: Path, advice: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{path} does not exist: {advice}") from error
    except NotADirectoryError as error:
        raise BundleError(f"{path.parent} is a file, not a bundle's folder") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is truncated or no JSON ({error}): {advice}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} is malformed: a JSON object was expected")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with new_file(path) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode())
