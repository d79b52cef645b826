"""``isthmus inspect BUNDLE``: what a bundle holds and how it was measured. It only prints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli.output import console, write_json
from isthmus.cli.rows import print_rows
from isthmus.cli.units import megabits, milliseconds

if TYPE_CHECKING:
    from isthmus.loading.bundle import Bundle

__all__ = ["inspect_bundle"]


def inspect_bundle(path: Path, json_target: str | None) -> None:
    """Print the networks, plans, heads and tails of a bundle, and its profile.

    Args:
        path: The bundle.
        json_target: A file for all of it as JSON, ``-`` for standard output alone.

    Raises:
        BundleError: If it is none.
    """
    from isthmus.loading.bundle import open_bundle

    bundle = open_bundle(path)
    write_json(_record(bundle), json_target)
    if json_target == "-":
        return
    out = console()
    for name, variant in bundle.variants.items():
        families = Counter(c.row.family for c in bundle.candidates if c.row.variant == name)
        plans = ", ".join(f"{count} {family}" for family, count in families.items())
        accuracy = variant.accuracy
        told = f", {accuracy.ratio:.1%} {accuracy.metric} ({accuracy.status})" if accuracy else ""
        out.print(f"{name}: {plans}{told}", markup=False, soft_wrap=True)
    profile = bundle.profile
    if not profile:
        out.print(
            f"not profiled yet: isthmus profile {path} --server URL", markup=False, soft_wrap=True
        )
        return
    link = bundle.profiled_link()
    out.print(
        f"profiled {profile.get('date')} on {profile.get('device')} with "
        f"{profile.get('server')} ({profile.get('runtime', profile.get('onnxruntime'))}); "
        f"link then {megabits(link.uplink_bytes_per_s)} up, round trip {milliseconds(link.rtt_s)}",
        markup=False,
        soft_wrap=True,
    )
    for what in profile.get("disagreements", ()):
        out.print(f"warning: {what}", markup=False, soft_wrap=True)
    if profile.get("heads"):
        headings = ("head", "load", "memory", "tail there", "load there", "memory there", "runs")
        print_rows(out, ("network, cut behind", *headings), _parts(bundle))


def _parts(bundle: Bundle) -> list[tuple[str, ...]]:
    """Return one row a head: what runs there, what loading it and its tail takes."""
    rows: list[tuple[str, ...]] = []
    tensors = {(c.row.variant, c.row.cut_id): c.row.tensors for c in bundle.candidates}
    units = {(c.row.variant, c.row.cut_id): c.row.unit for c in bundle.candidates if c.row.unit}
    measured: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for plan in bundle.profile["plans"]:
        if plan["family"] in ("local", "split"):
            measured.setdefault((plan["variant"], plan["cut_id"]), []).append(plan)
    for head in bundle.profile["heads"]:
        key = (head["variant"], head["cut_id"])
        plans = measured.get(key, [])
        stages = plans[0]["stages_s"] if plans else {}
        is_whole = not head["cut_id"]
        unit = {} if is_whole else bundle.profile["units"].get(units.get(key, ""), {})
        name = head["variant"] if is_whole else "  " + ", ".join(tensors.get(key, key))
        rows.append(
            (
                name,
                _time(stages.get("head")),
                _time(head["load_s"]),
                _size(head["resident_bytes"]),
                "" if is_whole else _time(stages.get("server")),
                _time(unit.get("load_s")),
                _size(unit.get("resident_bytes")),
                str(sum(plan["count"] for plan in plans)),
            )
        )
    return rows


def _time(seconds: float | None) -> str:
    return "" if seconds is None else milliseconds(seconds)


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{size_bytes / 1e6:.1f} MB"


def _record(bundle: Bundle) -> dict[str, Any]:
    return {
        "bundle": str(bundle.path),
        "networks": {
            name: {
                "graph_sha256": variant.graph_sha256,
                "task": variant.task,
                "accuracy": None if variant.accuracy is None else vars(variant.accuracy),
            }
            for name, variant in bundle.variants.items()
        },
        "plans": [
            {"plan": c.row.label, "agreement": c.agreement, "checked": c.checked}
            for c in bundle.candidates
        ],
        "profile": dict(bundle.profile) or None,
    }
