"""ProfileStore: measurements kept from one profile to the next, in one file of the user's.

It knows what was measured by name only, and measures nothing. What it keeps belongs to the
parts of networks, not to bundles: two bundles of the same network share it.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from isthmus.errors import StoreError
from isthmus.loading.files import check_file

__all__ = ["IN_MEMORY", "STORE_VARIABLE", "Key", "ProfileStore", "Stored", "default_path"]

STORE_VARIABLE = "ISTHMUS_PROFILES"
"""Environment variable that says where the user's store is."""

IN_MEMORY = Path(":memory:")
"""In place of a file: a store that goes with its process."""

_VERSION = 2
_WAIT_S = 5.0  # for another process that writes
_KIND = "isthmus-profiles"


@dataclass(frozen=True)
class Key:
    """What was measured, and where.

    Attributes:
        graph_sha256: Digest of the network's ONNX file.
        part: Of the network, as ``profiling`` names it.
        device: Name of the device; empty if only a server took part.
        server: Name and address of the server; empty if only the device took part.
        runtime: Versions of what ran it on the device, onnxruntime's before all; empty if the
            device took no part.
        server_runtime: The same of the server and its threads, as it tells them; empty if it does
            not, or took no part.
        threads: Of one inference on the device; 0 if it took no part.
        pace: How many times slower the device was made by the lab; 1 is as it is.
    """

    graph_sha256: str
    part: str
    device: str
    server: str
    runtime: str
    server_runtime: str
    threads: int
    pace: float


_COLUMNS = tuple(field.name for field in fields(Key))
_KINDS = {field.name: {"int": int, "float": (int, float)}.get(str(field.type), str)
          for field in fields(Key)}  # fmt: skip
_TABLE = f"""
CREATE TABLE measurements (
  graph_sha256 TEXT NOT NULL, part TEXT NOT NULL, device TEXT NOT NULL, server TEXT NOT NULL,
  runtime TEXT NOT NULL, server_runtime TEXT NOT NULL, threads INTEGER NOT NULL,
  pace REAL NOT NULL,
  measured_at_s REAL NOT NULL, content TEXT NOT NULL,
  PRIMARY KEY ({", ".join(_COLUMNS)})
) WITHOUT ROWID
"""
_MATCHES = " AND ".join(f"{column} = :{column}" for column in _COLUMNS)
_ALL = f"SELECT {', '.join(_COLUMNS)}, measured_at_s, content FROM measurements"
_PUT = (
    f"INSERT OR REPLACE INTO measurements ({', '.join(_COLUMNS)}, measured_at_s, content) "
    f"VALUES ({', '.join(f':{column}' for column in _COLUMNS)}, :measured_at_s, :content)"
)


@dataclass(frozen=True)
class Stored:
    """One measurement of the store.

    Attributes:
        key: What was measured, and where.
        measured_at_s: When, seconds since 1970.
        content: What was found, JSON values.
    """

    key: Key
    measured_at_s: float
    content: Mapping[str, Any]


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the user's store is: ``ISTHMUS_PROFILES``, or in the user's data folder.

    Args:
        environment: The process's environment variables.
    """
    if named := environment.get(STORE_VARIABLE):
        return Path(named)
    home = Path.home()
    if sys.platform == "win32":
        folder = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        folder = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    return folder / "isthmus" / "profiles.sqlite"


class ProfileStore:
    """Measurements by key; a context manager. Two processes may use one store at once.

    Every call is a transaction: it is carried out as a whole or, with a ``StoreError``, not at
    all, and what was there before stays.
    """

    def __init__(self, path: Path, *, now_s: Callable[[], float] = time.time) -> None:
        """Open a store; it is made if there is none.

        Args:
            path: Its file, or ``IN_MEMORY``.
            now_s: The time of day, seconds since 1970.

        Raises:
            StoreError: If it cannot be opened, is damaged or of another version.
        """
        self.path = path
        self._now_s = now_s
        try:
            is_new = path != IN_MEMORY and not path.exists()
            if is_new:
                path.parent.mkdir(parents=True, exist_ok=True)
                check_file(path)  # SQLite would not say why it cannot
            self._connection = sqlite3.connect(path, timeout=_WAIT_S)
        except OSError as error:
            raise StoreError(f"{path}: the store cannot be made: {error.strerror}") from error
        except sqlite3.Error as error:
            raise StoreError(f"{path}: the store cannot be opened: {error}") from error
        try:
            with self._transaction() as connection:
                # Readers and a writer do not wait for each other, and a crash loses nothing.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("BEGIN IMMEDIATE")
                self._check_version(connection)
        except BaseException:
            self.close()
            if is_new:
                self._remove_empty()
            raise

    def get(self, key: Key, *, since_s: float = -math.inf) -> Mapping[str, Any] | None:
        """Return what was measured, or ``None`` if it was not, or only before ``since_s``.

        Args:
            key: What and where.
            since_s: Seconds since 1970.

        Raises:
            StoreError: If the store cannot be read.
        """
        query = f"SELECT measured_at_s, content FROM measurements WHERE {_MATCHES}"
        with self._transaction() as connection:
            row = connection.execute(query, asdict(key)).fetchone()
        if row is None or row[0] < since_s:
            return None
        return self._content(row[1])

    def put(self, key: Key, content: Mapping[str, Any]) -> None:
        """Keep what was measured now, in place of what was known.

        Args:
            key: What and where.
            content: JSON values.

        Raises:
            StoreError: If it cannot be written; what was known then stays.
        """
        with self._transaction() as connection:
            connection.execute(_PUT, _row(Stored(key, self._now_s(), content)))

    def stored(self) -> tuple[Stored, ...]:
        """Return all measurements, sorted by key.

        Raises:
            StoreError: If the store cannot be read.
        """
        with self._transaction() as connection:
            rows = connection.execute(_ALL).fetchall()
        count = len(_COLUMNS)
        return tuple(
            Stored(Key(*row[:count]), row[count], self._content(row[count + 1])) for row in rows
        )

    def forget(self, keys: Iterable[Key]) -> int:
        """Remove measurements; return how many were there.

        Raises:
            StoreError: If the store cannot be written; it is then as it was.
        """
        statement = f"DELETE FROM measurements WHERE {_MATCHES}"
        with self._transaction() as connection:
            return sum(connection.execute(statement, asdict(key)).rowcount for key in keys)

    def exported(self) -> dict[str, Any]:
        """Return all measurements as JSON values, for ``import_json``.

        Raises:
            StoreError: If the store cannot be read.
        """
        found = [
            {**asdict(one.key), "measured_at_s": one.measured_at_s, "content": one.content}
            for one in self.stored()
        ]
        return {"kind": _KIND, "schema": _VERSION, "measurements": found}

    def import_json(self, exported: Any, *, device: str | None = None) -> tuple[int, int]:
        """Take measurements from another store; of two for one key the later one stays.

        Args:
            exported: What ``exported`` returned.
            device: Name that stands in for the devices that they were made on, because this
                one is of the same kind; ``None`` to keep their names.

        Returns:
            How many were taken, and how many were not since later ones are known.

        Raises:
            StoreError: If they are no exported measurements, or of another schema, or if the
                store cannot be written; it is then as it was.
        """
        offered = _checked(exported)
        if device is not None:
            offered = [
                replace(one, key=replace(one.key, device=device if one.key.device else ""))
                for one in offered
            ]
        query = f"SELECT measured_at_s FROM measurements WHERE {_MATCHES}"
        taken = 0
        with self._transaction() as connection:
            for one in offered:
                known = connection.execute(query, asdict(one.key)).fetchone()
                if known is None or known[0] < one.measured_at_s:
                    connection.execute(_PUT, _row(one))
                    taken += 1
        return taken, len(offered) - taken

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Do it as a whole or not at all, and name what went wrong."""
        try:
            with self._connection:
                yield self._connection
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {_told(error)}") from error

    def _remove_empty(self) -> None:
        """Remove a file in which nothing has been written, unless others are about to."""
        with suppress(OSError):
            others = [*self.path.parent.glob(f"{self.path.name}-*")]  # SQLite's log and journal
            if not others and not self.path.stat().st_size:
                self.path.unlink()

    def _check_version(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise StoreError(
                f"{self.path}: the store has version {version}, this software uses {_VERSION}; "
                f"{_AWAY}, or name another one with {STORE_VARIABLE}"
            )

    def _content(self, text: str) -> Mapping[str, Any]:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{self.path}: the store is damaged ({error}); {_AWAY}") from error
        if not isinstance(content, dict):
            raise StoreError(f"{self.path}: the store is damaged (no JSON object); {_AWAY}")
        return content


_AWAY = "move it away, and the next profile measures anew"


def _told(error: sqlite3.Error) -> str:
    """Return in plain words what SQLite says, and what to do."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return f"another process has held the store for over {_WAIT_S:.0f} s ({text})"
    if "full" in text:
        return f"the store cannot grow ({text}): make room on the disk"
    if "readonly" in text or "unable to open" in text:
        return f"the store cannot be written ({text}): name another one with {STORE_VARIABLE}"
    return f"the store is damaged or no store ({text}); {_AWAY}"


def _row(stored: Stored) -> dict[str, Any]:
    return {
        **asdict(stored.key),
        "measured_at_s": stored.measured_at_s,
        "content": json.dumps(stored.content, allow_nan=False, separators=(",", ":")),
    }


def _checked(exported: Any) -> list[Stored]:
    """Return the measurements of an export.

    Raises:
        StoreError: If it is none.
    """
    if not isinstance(exported, dict) or exported.get("kind") != _KIND:
        raise StoreError("this is no file of `isthmus profiles export`")
    if exported.get("schema") != _VERSION:
        raise StoreError(
            f"the exported profiles have schema {exported.get('schema')!r}, "
            f"this version reads {_VERSION}: export them with the same version"
        )
    measurements = exported.get("measurements")
    if not isinstance(measurements, list):
        raise StoreError("the exported profiles are malformed: measurements must be a list")
    found = []
    for index, entry in enumerate(measurements):
        if not (
            isinstance(entry, dict)
            and entry.keys() == {*_COLUMNS, "measured_at_s", "content"}
            and all(_is_of(entry[column], _KINDS[column]) for column in _COLUMNS)
            and _is_of(entry["measured_at_s"], (int, float))
            and math.isfinite(entry["measured_at_s"])
            and isinstance(entry["content"], dict)
        ):
            raise StoreError(f"the exported profiles are malformed at measurement {index}")
        key = Key(**{column: entry[column] for column in _COLUMNS})
        found.append(Stored(key, float(entry["measured_at_s"]), entry["content"]))
    return found


def _is_of(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
