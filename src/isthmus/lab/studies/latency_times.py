"""What the latency study measured of a network: medians of its parts, in two processes.

A value that is kept as JSON between measuring and scoring. It measures and scores nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from isthmus.profiling.layers import FusedUnit
from isthmus.types.cut import device_layers
from isthmus.types.graph import ModelGraph

__all__ = ["CADENCES", "Cadence", "NetworkTimes", "PartTimes", "Side"]

Cadence = Literal["busy", "idle"]
"""One run after the other, or each after half a second without work."""

CADENCES: tuple[Cadence, ...] = get_args(Cadence)

Side = Literal["head", "tail"]

SCHEMA = 1


@dataclass(frozen=True)
class PartTimes:
    """Medians over the runs of one process in one cadence, seconds.

    Attributes:
        whole_s: Of the whole network.
        heads_s: Of each cut's head; ``None`` for cuts that were not run.
        tails_s: Of each cut's tail, run right after its head.
        runs: How often each was run at least, warm-ups not counted.
    """

    whole_s: float
    heads_s: tuple[float | None, ...]
    tails_s: tuple[float | None, ...]
    runs: int

    def of(self, cut: int, side: Side) -> float | None:
        """Return what one side of a cut took."""
        return (self.heads_s if side == "head" else self.tails_s)[cut]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return what ``asdict`` made values of."""
        heads_s, tails_s = tuple(content["heads_s"]), tuple(content["tails_s"])
        return cls(content["whole_s"], heads_s, tails_s, content["runs"])


@dataclass(frozen=True)
class NetworkTimes:
    """What was measured of one network.

    Attributes:
        name: The network's.
        graph_sha256: Its digest.
        cuts: Frontier tensors of each cut that was built, by depth.
        is_every_cut_vertex: Whether every cut at one tensor behind a cut vertex is among them.
        candidates: Numbers of the cuts that a bundle would have.
        scored: Numbers of those that predictions are fitted to and scored on, by depth.
        units: Layers that onnxruntime runs as one, as its profiler timed them, and seconds.
        network_s: The whole network beside it, without the profiler.
        first: Measured by the process that predictions are fitted to, by cadence.
        second: Measured by the process that they are scored on.
        made: Versions, date and settings; JSON values.
    """

    name: str
    graph_sha256: str
    cuts: tuple[tuple[str, ...], ...]
    is_every_cut_vertex: bool
    candidates: tuple[int, ...]
    scored: tuple[int, ...]
    units: tuple[FusedUnit, ...]
    network_s: float
    first: Mapping[Cadence, PartTimes]
    second: Mapping[Cadence, PartTimes]
    made: Mapping[str, Any]

    @property
    def fitted(self) -> tuple[int, ...]:
        """Every second of the scored cuts by depth, the shortest and the deepest among them."""
        return self.scored[::2]

    @property
    def held_out(self) -> tuple[int, ...]:
        """The scored cuts between them, that nothing is fitted to."""
        return self.scored[1::2]

    def layers(self, graph: ModelGraph, cut: int, side: Side) -> frozenset[int]:
        """Return the layers of one side of a cut."""
        head = device_layers(graph, self.cuts[cut])
        return head if side == "head" else frozenset(range(len(graph.layers))) - head

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return what ``to_json`` made values of.

        Raises:
            ValueError: If it is of another schema, or malformed.
        """
        try:
            if content["schema"] != SCHEMA:
                raise ValueError(f"schema {content['schema']} instead of {SCHEMA}")
            return cls(
                name=content["name"],
                graph_sha256=content["graph_sha256"],
                cuts=tuple(map(tuple, content["cuts"])),
                is_every_cut_vertex=content["is_every_cut_vertex"],
                candidates=tuple(content["candidates"]),
                scored=tuple(content["scored"]),
                units=tuple(FusedUnit(tuple(u["layers"]), u["seconds"]) for u in content["units"]),
                network_s=content["network_s"],
                first={
                    cadence: PartTimes.from_json(content["first"][cadence]) for cadence in CADENCES
                },
                second={
                    cadence: PartTimes.from_json(content["second"][cadence]) for cadence in CADENCES
                },
                made=content["made"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no times of a network: {error!r}") from error
