"""Writes MODELS.md and ORIGINS.md, so that every figure in them is the file's own.

Pure text from facts; it measures nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from .catalogue import NETWORKS, Network
from .fetch import sha256_of
from .verify import DIFFERENCE_LIMIT_RATIO, Agreement

__all__ = ["model_cards", "photograph_origins"]

MODELS_INTRODUCTION = """\
Written by `python -m tools.zoo`; do not edit. Five ImageNet-1k classifiers in order of growing
accuracy, one input `input` (1 x 3 x height x width, float32), one output `logits` (1 x 1000,
float32, no softmax). Weights are stored as float16 and computed in float32. Layers are the nodes
that compute; the `Cast` of each weight is not counted. The accuracies are the ones that others
**published** for the float32 networks: there are no ImageNet images here to measure them again."""

ORIGINS_INTRODUCTION = """\
Written by `python -m tools.zoo`; do not edit. `origins.json` says the same for programs. Nothing
was enlarged, and no two photographs come from one original. `calibration` photographs are used
when a device is profiled, `request` ones as requests, so that a prediction is never tested on
what it was fitted to. `cat.jpg` and `espresso.jpg` are small because their originals are; the
others have the size of a camera's or phone's photographs.

CC0-1.0: <https://creativecommons.org/publicdomain/zero/1.0/>. CC-BY-4.0:
<https://creativecommons.org/licenses/by/4.0/>; its attributions are also in `NOTICE`."""


def model_cards(models: Path, agreements: Sequence[Agreement]) -> str:
    """Return MODELS.md."""
    by_name = {agreement.network: agreement for agreement in agreements}
    rows = []
    for network in NETWORKS:
        path = models / f"{network.name}.onnx"
        rows.append(
            (
                f"[{network.name}](#{network.name.replace('.', '')})",
                f"{path.stat().st_size / 1e6:.1f} MB",
                "{} x {}".format(*network.pipeline.crop_px),
                str(sum(_layers(path).values())),
                f"{network.published.ratio:.3f} *published*",
                network.origin.license,
            )
        )
    head = ("model", "file", "input", "layers", "ImageNet top-1", "licence of the weights")
    sections = [_section(network, models, by_name[network.name]) for network in NETWORKS]
    parts = ["# Model cards", MODELS_INTRODUCTION, _table(head, rows), *sections]
    return "\n\n".join([*parts, _predictions(agreements)]) + "\n"


def photograph_origins(records: Sequence[Mapping[str, Any]]) -> str:
    """Return ORIGINS.md from the records of origins.json."""
    rows = [
        (
            f"`{record['file']}`",
            f"{record['bytes'] / 1000:.0f} kB",
            f"{record['width_px']} x {record['height_px']}",
            record["use"],
            f'"{record["title"]}"',
            record["author"],
            record["license"],
        )
        for record in records
    ]
    head = ("file", "size", "pixels", "use", "title", "author", "licence")
    details = [
        f"- `{record['file']}`: {record['changes']}. Source: {record['source']['package']} "
        f"{record['source']['version']}, `{record['source']['file']}` "
        f"({record['source']['width_px']} x {record['source']['height_px']}, SHA-256 "
        f"`{record['source']['sha256']}`). Licence stated in: {record['license_evidence']}."
        for record in records
    ]
    parts = ["# Origins of the photographs", ORIGINS_INTRODUCTION, _table(head, rows)]
    return "\n\n".join([*parts, "## What was done to each", "\n".join(details)]) + "\n"


def _section(network: Network, models: Path, agreement: Agreement) -> str:
    path = models / f"{network.name}.onnx"
    origin, pipeline = network.origin, network.pipeline
    kinds = ", ".join(f"{count} {kind}" for kind, count in _layers(path).most_common())
    facts = [
        ("file", f"`{path.name}`, {path.stat().st_size:,} bytes"),
        ("SHA-256 of the file", f"`{sha256_of(path)}`"),
        ("origin of the weights", f"{origin.package} {origin.version}, `{origin.file}`"),
        ("SHA-256 of the weights", f"`{origin.sha256}`"),
        ("authors", origin.author),
        ("licence", origin.license),
        (
            "input pipeline",
            f"shorter side to {pipeline.resize_shorter_side_px} px ({pipeline.interpolation}), "
            "centre crop {} x {}, ".format(*pipeline.crop_px)
            + f"{pipeline.channel_order}, (pixel - {_numbers(pipeline.mean)}) / "
            f"{_numbers(pipeline.std)}",
        ),
        (
            "accuracy",
            f"{network.published.ratio} top-1 on ImageNet-1k, *published*: "
            f"{network.published.source}",
        ),
        ("layers", kinds),
        (
            "agreement with the original",
            f"measured on the {len(agreement.answers)} photographs: same top-1 on "
            f"{agreement.equal_top1_count}, logits differ by at most "
            f"{agreement.largest_difference_ratio:.1e} of the largest "
            f"(limit {DIFFERENCE_LIMIT_RATIO:.0e})",
        ),
    ]
    return f"## {network.name}\n\n" + _table((network.title, ""), facts)


def _predictions(agreements: Sequence[Agreement]) -> str:
    head = ("photograph", *(agreement.network for agreement in agreements))
    rows = []
    for answers in zip(*(agreement.answers for agreement in agreements), strict=True):
        cells = (f"{a.label.partition(',')[0]} {a.probability:.2f}" for a in answers)
        rows.append((f"`{answers[0].photograph}`", *cells))
    text = (
        "Label and softmax of each network's first answer. ImageNet has no dandelion, the "
        "subject of `seeding-16mp.jpg`. A network's confidence is not comparable with another's."
    )
    return f"## What they answer\n\n{text}\n\n" + _table(head, rows)


def _layers(path: Path) -> Counter[str]:
    nodes = onnx.load(path).graph.node
    return Counter(node.op_type for node in nodes if node.op_type != "Cast")


def _numbers(values: Iterable[float]) -> str:
    distinct = list(dict.fromkeys(values))
    return f"{distinct[0]:g}" if len(distinct) == 1 else json.dumps(list(values))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
