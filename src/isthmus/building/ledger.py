"""Ledger: counts of agreement that need not be counted again, in a JSON file.

What is counted depends on the network, the cut, the codec and the images, and an entry is found
by the digests of all of them. It counts nothing and draws no conclusion.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from isthmus.building.agreement import Loss
from isthmus.building.crops import Crops
from isthmus.errors import BundleError
from isthmus.loading.files import check_file, new_file
from isthmus.runtime.session import ONNXRUNTIME_VERSION
from isthmus.types.proportion import Proportion

__all__ = ["Ledger"]

_SCHEMA = 1
_Key = tuple[str, str, str, str]  # network, images, cut, codec


class Ledger:
    """Counts by network, images and loss; saved after each addition if it has a file."""

    def __init__(self, path: Path | None = None, *, known: Path | None = None) -> None:
        """Read what is known.

        Args:
            path: Its file, which is made with the first addition if it is not there; ``None``
                keeps the counts in memory.
            known: Another file, whose counts are used and which is never written.

        Raises:
            BundleError: If a file is no ledger.
            OSError: If it is not there and cannot be made: told before anything is counted.
        """
        self._path = path
        self._entries: dict[_Key, dict[str, Any]] = {}
        self._known = _read(known) if known is not None else {}
        if path is not None:
            if path.exists():
                self._entries = _read(path)
            else:
                check_file(path)

    def find(
        self, graph_sha256: str, crops: Crops, loss: Loss, *, images: int, may_differ: int
    ) -> Proportion | None:
        """Return a count that settles whether at most so many of so many images differ.

        A count of fewer images settles it if too many of them differ already.
        """
        key = (graph_sha256, crops.digest, loss.cut_id, loss.codec)
        for entries in (self._entries, self._known):
            if key in entries:
                count = Proportion(entries[key]["agreed"], entries[key]["images"])
                if count.of >= images or count.of - count.counted > may_differ:
                    return count
        return None

    def add(
        self, network: str, graph_sha256: str, crops: Crops, counts: Mapping[Loss, Proportion]
    ) -> None:
        """Keep counts, and save the file if there is one.

        Args:
            network: Its name, for people.
            graph_sha256: What it is found by.
            crops: The images.
            counts: By loss.

        Raises:
            OSError: If the file cannot be written; it is then as it was.
        """
        told = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "versions": {
                "onnxruntime": ONNXRUNTIME_VERSION,
                "numpy": np.__version__,
                "pillow": PIL.__version__,
                "machine": platform.machine(),
            },
        }
        for loss, count in counts.items():
            self._entries[graph_sha256, crops.digest, loss.cut_id, loss.codec] = {
                "network": network,
                "graph_sha256": graph_sha256,
                "images_sha256": crops.digest,
                "photographs": crops.photographs,
                "seed": crops.seed,
                "cut_id": loss.cut_id,
                "tensors": list(loss.tensors),
                "codec": loss.codec,
                "agreed": count.counted,
                "images": count.of,
                **told,
            }
        if self._path is not None and counts:
            self._save(self._path)

    def _save(self, path: Path) -> None:
        lines = ",\n".join(json.dumps(entry) for _, entry in sorted(self._entries.items()))
        with new_file(path) as file:
            file.write(f'{{"schema": {_SCHEMA}, "counts": [\n{lines}\n]}}\n'.encode())


def _read(path: Path) -> dict[_Key, dict[str, Any]]:
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != _SCHEMA:
            raise ValueError(f"schema {content['schema']}, this version reads {_SCHEMA}")
        entries = {}
        for entry in content["counts"]:
            Proportion(entry["agreed"], entry["images"])
            key = (entry["graph_sha256"], entry["images_sha256"], entry["cut_id"], entry["codec"])
            entries[key] = dict(entry)
        return entries
    except FileNotFoundError as error:
        raise BundleError(f"{path} does not exist") from error
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{path} holds no counts of agreement ({error!r}): "
            "give another file, which is made if it does not exist"
        ) from error
