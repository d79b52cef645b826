"""Shelf: the store as one profile sees it: its own device, server and versions, and no failures.

A store that fails is left out from then on, and the profile says so and goes on without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import PIL

from isthmus import __version__
from isthmus.errors import StoreError
from isthmus.profiling.store import Key, ProfileStore
from isthmus.runtime.session import ONNXRUNTIME_VERSION

__all__ = ["RUNTIME", "Shelf", "server_runtime"]

RUNTIME = f"onnxruntime {ONNXRUNTIME_VERSION}, pillow {PIL.__version__}, isthmus {__version__}"
"""Versions of what a device runs its parts with."""


def server_runtime(metadata: Mapping[str, Any]) -> str:
    """Return versions and threads of what a server runs its parts with, as far as it tells them.

    Args:
        metadata: The server's, from its handshake.
    """
    libraries, threads = metadata.get("libraries"), metadata.get("threads")
    told = []
    if isinstance(libraries, Mapping):
        told = [f"{n} {libraries[n]}" for n in ("onnxruntime", "pillow") if n in libraries]
    if type(threads) is int:
        told.append(f"threads {threads}")
    return ", ".join(told)


class Shelf:
    """What one profile finds in a store, and puts there."""

    def __init__(
        self,
        store: ProfileStore | None,
        *,
        device: str,
        server: str,
        server_runtime: str,
        threads: int,
        pace: float,
        since_s: float = -math.inf,
    ) -> None:
        """Look at a store from one device and server.

        Args:
            store: ``None`` for none: then nothing is found or kept.
            device: Name of the device.
            server: Name and address of the server.
            server_runtime: What the server runs its parts with.
            threads: Threads of one inference here.
            pace: How many times slower the device was made by the lab.
            since_s: Older measurements are not found, seconds since 1970.
        """
        self._store = store
        self._device = device
        self._server = server
        self._server_runtime = server_runtime
        self._threads = threads
        self._pace = pace
        self._since_s = since_s
        self.failure = ""

    def get(self, graph_sha256: str, part: str, *, sites: str) -> Mapping[str, Any] | None:
        """Return what is known of a part, or ``None``.

        Args:
            graph_sha256: Digest of the network.
            part: Name of the part.
            sites: Who takes part: ``device``, ``server`` or ``both``.
        """
        if self._store is None:
            return None
        try:
            return self._store.get(self._key(graph_sha256, part, sites), since_s=self._since_s)
        except StoreError as error:
            self._leave_out(error)
            return None

    def put(self, graph_sha256: str, part: str, content: Mapping[str, Any], *, sites: str) -> None:
        """Keep what was found of a part; arguments as ``get``'s."""
        if self._store is None:
            return
        try:
            self._store.put(self._key(graph_sha256, part, sites), content)
        except StoreError as error:
            self._leave_out(error)

    def _leave_out(self, error: StoreError) -> None:
        self._store = None
        self.failure = str(error)

    def _key(self, graph_sha256: str, part: str, sites: str) -> Key:
        has_device, has_server = sites != "server", sites != "device"
        return Key(
            graph_sha256,
            part,
            self._device if has_device else "",
            self._server if has_server else "",
            RUNTIME if has_device else "",
            self._server_runtime if has_server else "",
            self._threads if has_device else 0,
            self._pace if has_device else 1.0,
        )
