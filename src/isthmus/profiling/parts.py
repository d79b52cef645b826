"""What it takes to have a part of a network ready: seconds to load it, and memory.

It runs no plans. Heads are loaded here, tails were loaded by the server, which is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from isthmus.errors import BadReplyError, ServerRefusedError
from isthmus.profiling.shelf import Shelf
from isthmus.runtime.clock import Pace, now_s
from isthmus.runtime.heads import Heads
from isthmus.runtime.memory import resident_bytes
from isthmus.runtime.remote import RemoteServer
from isthmus.types.progress import Progress
from isthmus.types.variant import Variant

__all__ = ["PartCost", "head_costs", "unit_costs"]


@dataclass(frozen=True)
class PartCost:
    """What a part takes beside its runs.

    Attributes:
        load_s: From its file to the first answer, first runs included, seconds.
        resident_bytes: Memory that the process has more with it than without, 0 where unknown.
            What the first runs needed is in it, what was freed is not.
    """

    load_s: float
    resident_bytes: int


def head_costs(
    variant: Variant,
    cut_ids: Iterable[str],
    needed: Iterable[str],
    heads: Heads,
    pace: Pace,
    shelf: Shelf,
    progress: Progress,
) -> dict[str, PartCost]:
    """Load the device's parts of a network one by one, and say what each takes.

    Args:
        variant: The network.
        cut_ids: Ids of the cuts whose heads are wanted; empty for the whole network.
        needed: Those of them that will be run, and so are loaded even if they are known.
        heads: Where they are loaded; none of them is there yet.
        pace: How fast this device works.
        shelf: What is known already.
        progress: Told about each part.

    Raises:
        ModelError: If one cannot be loaded.
    """
    cut_ids, needed = tuple(dict.fromkeys(cut_ids)), frozenset(needed)
    progress.begin(f"loading {variant.name}", len(cut_ids))
    found = {}
    for cut_id in cut_ids:
        part = f"load head {cut_id}" if cut_id else "load whole"
        known = _known(shelf.get(variant.graph_sha256, part, sites="device"))
        if known is None or cut_id in needed:
            measured = _load(heads, variant.name, cut_id, pace)
            if known is None:
                shelf.put(variant.graph_sha256, part, asdict(measured), sites="device")
            known = known or measured
        found[cut_id] = known
        progress.advance(part)
    return found


def unit_costs(
    variant: Variant, units: Iterable[str], remote: RemoteServer, shelf: Shelf
) -> dict[str, PartCost]:
    """Ask the server what loading its units took; those of a server that cannot say are left out.

    Args:
        variant: The network whose units they are.
        units: Their names.
        remote: The server.
        shelf: What is known already.

    Raises:
        RemoteError: If the server fails otherwise.
    """
    found = {}
    for unit in dict.fromkeys(units):
        part = f"load unit {unit}"
        known = _known(shelf.get(variant.graph_sha256, part, sites="server"))
        if known is None:
            try:
                figures = remote.measure(unit)
            except (ServerRefusedError, BadReplyError):
                continue
            known = PartCost(figures.load_s, figures.resident_bytes)
            shelf.put(variant.graph_sha256, part, asdict(known), sites="server")
        found[unit] = known
    return found


def _load(heads: Heads, variant: str, cut_id: str, pace: Pace) -> PartCost:
    before_bytes, begun_at_s = resident_bytes(), now_s()
    heads.session(variant, cut_id)
    pace.after(now_s() - begun_at_s)
    load_s = now_s() - begun_at_s
    return PartCost(load_s, max(0, resident_bytes() - before_bytes))


def _known(content: Mapping[str, object] | None) -> PartCost | None:
    if content is None:
        return None
    load_s, size_bytes = content.get("load_s"), content.get("resident_bytes")
    if isinstance(load_s, int | float) and isinstance(size_bytes, int):
        return PartCost(float(load_s), size_bytes)
    return None
