"""Writes MODELS.md and ORIGINS.md, so that every figure in them is the file's own.

Pure text from facts; it measures nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from .catalogue import FASHION_NETWORKS, NETWORKS, InputPipeline, Network
from .fetch import sha256_of
from .verify import DIFFERENCE_LIMIT_RATIO, Agreement

__all__ = [
    "FASHION_HEADING",
    "FASHION_ORIGINS",
    "fashion_cards",
    "model_cards",
    "photograph_origins",
]

MODELS_INTRODUCTION = """\
Written by `python -m tools.zoo` and, from "Fashion-MNIST" on, by `python -m tools.zoo.fashion`; do
not edit. Five ImageNet-1k classifiers in order of growing
accuracy, one input `input` (1 x 3 x height x width, float32), one output `logits` (1 x 1000,
float32, no softmax). Weights are stored as float16 and computed in float32. Layers are the nodes
that compute; the `Cast` of each weight is not counted. The accuracies are the ones that others
**published** for the float32 networks: there are no ImageNet images here to measure them again."""

FASHION_HEADING = "## Fashion-MNIST"

FASHION_INTRODUCTION = """\
Written by `python -m tools.zoo.fashion`, which trained them. Two classifiers of Fashion-MNIST's ten
kinds of clothing, one input `input` (1 x 3 x 32 x 32, float32), one output `logits` (1 x 10). They
are chains without branches, for comparisons on small inputs. Their accuracy was **measured** here
on the stored files and all 10,000 test images: each a PNG file of 28 x 28 grey pixels, through the
input pipeline of Isthmus (decode, resize to 32 x 32, three equal channels). They know pictures like
Fashion-MNIST's only, light on black and in the middle, and no photographs of clothes. Trained
on the 60,000 training images by AdamW; nothing was chosen by the test images, which do not tell the
two apart (95 % intervals of half a point to either side)."""

FASHION_ORIGINS = """\
# Origins of the images

Written by `python -m tools.zoo.fashion`; do not edit. The first {count} test images of
Fashion-MNIST (Han Xiao, Kashif Rasul, Roland Vollgraf, Zalando SE, 2017), as PNG files of the same
pixels, named by number and class. From the Debian package {package}
{version}. MIT License, Copyright (c) 2017 Zalando SE, <https://tech.zalando.com>; its text is in
`NOTICE`. The first {calibration} are for `calibration`, the others for `request`."""

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
                f"{network.published.ratio:.3f} *published*" if network.published else "",
                network.origin.license,
            )
        )
    head = ("model", "file", "input", "layers", "ImageNet top-1", "licence of the weights")
    sections = [_section(network, models, by_name[network.name]) for network in NETWORKS]
    parts = ["# Model cards", MODELS_INTRODUCTION, _table(head, rows), *sections]
    return "\n\n".join([*parts, _predictions(agreements)]) + "\n"


def fashion_cards(models: Path, measured: Mapping[str, int]) -> str:
    """Return the part of MODELS.md about the networks trained here.

    Args:
        models: Where their files are.
        measured: By network, how many of the 10,000 test images are right.
    """
    rows, sections = [], []
    for network in FASHION_NETWORKS:
        path = models / f"{network.name}.onnx"
        top1 = f"{measured[network.name] / 10_000:.4f}"
        side = "{} x {}".format(*network.pipeline.crop_px)
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        layers = str(sum(_layers(path).values()))
        rows.append(
            (
                f"[{network.name}](#{network.name})",
                size,
                side,
                layers,
                f"{top1} *measured*",
                network.origin.license,
            )
        )
        origin = network.origin
        facts = [
            *_file_facts(path),
            (
                "trained on",
                f"{origin.package} {origin.version}, `{origin.file}`, {network.epochs} epochs",
            ),
            ("SHA-256 of the training images", f"`{origin.sha256}`"),
            ("authors", origin.author),
            ("licence", origin.license),
            ("input pipeline", _pipeline_fact(network.pipeline)),
            ("accuracy", f"{top1} top-1, *measured* here on the 10,000 test images as PNG files"),
            ("layers", _layers_fact(path)),
        ]
        sections.append(f"### {network.name}\n\n" + _table((network.title, ""), facts))
    head = ("model", "file", "input", "layers", "Fashion-MNIST top-1", "licence of the weights")
    return (
        "\n\n".join([FASHION_HEADING, FASHION_INTRODUCTION, _table(head, rows), *sections]) + "\n"
    )


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
    origin, published = network.origin, network.published
    assert published is not None
    facts = [
        *_file_facts(path),
        ("origin of the weights", f"{origin.package} {origin.version}, `{origin.file}`"),
        ("SHA-256 of the weights", f"`{origin.sha256}`"),
        ("authors", origin.author),
        ("licence", origin.license),
        ("input pipeline", _pipeline_fact(network.pipeline)),
        (
            "accuracy",
            f"{published.ratio} top-1 on ImageNet-1k, *published*: {published.source}",
        ),
        ("layers", _layers_fact(path)),
        (
            "agreement with the original",
            f"measured on the {len(agreement.answers)} photographs: same top-1 on "
            f"{agreement.equal_top1_count}, logits differ by at most "
            f"{agreement.largest_difference_ratio:.1e} of the largest "
            f"(limit {DIFFERENCE_LIMIT_RATIO:.0e})",
        ),
    ]
    return f"## {network.name}\n\n" + _table((network.title, ""), facts)


def _file_facts(path: Path) -> list[tuple[str, str]]:
    return [
        ("file", f"`{path.name}`, {path.stat().st_size:,} bytes"),
        ("SHA-256 of the file", f"`{sha256_of(path)}`"),
    ]


def _pipeline_fact(pipeline: InputPipeline) -> str:
    return (
        f"shorter side to {pipeline.resize_shorter_side_px} px ({pipeline.interpolation}), "
        "centre crop {} x {}, ".format(*pipeline.crop_px)
        + f"{pipeline.channel_order}, (pixel - {_numbers(pipeline.mean)}) / "
        f"{_numbers(pipeline.std)}"
    )


def _layers_fact(path: Path) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in _layers(path).most_common())


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
