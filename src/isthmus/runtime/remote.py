"""RemoteServer: what a device asks of an edge server besides inference.

It carries out no plans (``plan_runner`` does) and repeats nothing that fails.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from isthmus.errors import BadReplyError
from isthmus.runtime.transport import Transport
from isthmus.types.plan import PlanRow

__all__ = ["RemoteServer", "UnitFigures"]

_ASK_TIMEOUT_S = 10.0
_LOAD_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class UnitFigures:
    """What a unit costs the server.

    Attributes:
        samples_s: Decoding of its inputs and its network, seconds, each time that it was run.
        load_s: What loading it took, seconds.
        resident_bytes: Memory that it keeps.
    """

    samples_s: tuple[float, ...]
    load_s: float
    resident_bytes: int


class RemoteServer:
    """An edge server's administrative side."""

    def __init__(self, transport: Transport) -> None:
        """Ask over this transport."""
        self._transport = transport

    def metadata(self) -> Mapping[str, Any]:
        """Return name, version and extensions of the server.

        Raises:
            RemoteError: If it does not answer as an Open Inference Protocol server.
        """
        return self._ask("GET", "v2")

    def check_ready(self) -> None:
        """Return if the server takes requests.

        Raises:
            RemoteError: If it does not (yet).
        """
        self._transport.exchange("GET", "v2/health/ready", timeout_s=_ASK_TIMEOUT_S)

    def check_model(self, unit: str) -> None:
        """Return if the server knows a model.

        Raises:
            RemoteError: If it does not, or does not say so.
        """
        path = f"v2/models/{quote(unit, safe='')}/ready"
        self._transport.exchange("GET", path, timeout_s=_ASK_TIMEOUT_S)

    def register_tail(self, row: PlanRow, graph_sha256: str) -> None:
        """Have the server make the tail that a split row needs; at once if it has it.

        Args:
            row: A row of the family ``split``.
            graph_sha256: Digest of the network's ONNX file, which must be the server's.

        Raises:
            RemoteError: If the server has another file of that name, does not know it, or cannot
                cut it there.
        """
        wanted = {"tensors": list(row.tensors), "graph_sha256": graph_sha256}
        path = f"v2/isthmus/models/{quote(row.variant, safe='')}/cuts"
        reply = self._ask("POST", path, wanted, timeout_s=_LOAD_TIMEOUT_S)
        if reply.get("model") != row.unit:
            raise BadReplyError(f"the server calls the tail {reply.get('model')!r}, not {row.unit}")

    def measure(self, unit: str, *, repetitions: int = 1) -> UnitFigures:
        """Have the server run one of its units on made-up inputs, between the requests of others.

        Raises:
            RemoteError: If the server does not say what that took.
        """
        path = f"v2/isthmus/models/{quote(unit, safe='')}/measure"
        wanted = {"repetitions": repetitions, "budget_s": 1.0}
        reply = self._ask("POST", path, wanted, timeout_s=_LOAD_TIMEOUT_S)
        try:
            samples_s = tuple(float(seconds) for seconds in reply["samples_s"])
            load_s, resident_bytes = float(reply["load_s"]), int(reply["resident_bytes"])
            if not all(0 <= seconds < math.inf for seconds in (*samples_s, load_s)):
                raise ValueError("no time that something could take")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadReplyError(f"{path}: the reply lacks figures: {error!r}") from error
        return UnitFigures(samples_s, load_s, resident_bytes)

    def _ask(
        self,
        method: str,
        path: str,
        content: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = _ASK_TIMEOUT_S,
    ) -> Mapping[str, Any]:
        body = b"" if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"} if body else {}
        exchange = self._transport.exchange(
            method, path, headers=headers, body=body, timeout_s=timeout_s
        )
        try:
            reply = json.loads(exchange.body)
        except (ValueError, RecursionError) as error:
            raise BadReplyError(f"{path}: the reply is no JSON") from error
        if not isinstance(reply, dict):
            raise BadReplyError(f"{path}: the reply is no JSON object")
        return reply
