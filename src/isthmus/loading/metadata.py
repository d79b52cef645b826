"""What an ONNX file says of itself in its ``isthmus.*`` metadata. It checks no claim of accuracy.

All keys are optional: ``isthmus.task`` (text), ``isthmus.input_pipeline``, ``isthmus.accuracy``,
``isthmus.labels`` and ``isthmus.origin`` (JSON).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx

from isthmus.errors import ModelError
from isthmus.types.variant import Accuracy, InputPipeline, Variant

__all__ = ["head_metadata", "licence_of", "metadata_of", "tail_metadata", "variant_from_metadata"]

_PREFIX = "isthmus."
_PIPELINE = "isthmus.input_pipeline"
_OF_THE_OUTPUTS = frozenset({"isthmus.accuracy", "isthmus.labels"})


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return a model's metadata by key."""
    return {entry.key: entry.value for entry in model.metadata_props}


def variant_from_metadata(metadata: Mapping[str, str], *, name: str, sha256: str) -> Variant:
    """Return the variant that a file's metadata describes.

    Args:
        metadata: Values by key.
        name: The variant's name.
        sha256: Hex digest of its ONNX file.

    Returns:
        The variant; ``task`` is empty where the file does not say.

    Raises:
        ModelError: If a value is malformed.
    """
    pipeline, accuracy, labels = (
        _parsed(metadata, key) for key in (_PIPELINE, "isthmus.accuracy", "isthmus.labels")
    )
    try:
        return Variant(
            name=name,
            graph_sha256=sha256,
            task=metadata.get("isthmus.task", ""),
            accuracy=None if accuracy is None else _accuracy(accuracy),
            pipeline=None if pipeline is None else InputPipeline.from_json(pipeline),
            labels=() if labels is None else _labels(labels),
        )
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ModelError(
            f"{name}: malformed isthmus.* metadata: {error}; correct it in the file"
        ) from error


def licence_of(metadata: Mapping[str, str]) -> str:
    """Return the licence that a file states for its weights; empty if it states none.

    It is read from ``model_license``, the key that ONNX knows, or from ``isthmus.origin``.

    Raises:
        ModelError: If ``isthmus.origin`` is not JSON.
    """
    stated = metadata.get("model_license", "")
    origin = _parsed(metadata, "isthmus.origin")
    if not stated and isinstance(origin, dict):
        stated = str(origin.get("license", ""))
    return stated


def head_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what still holds of a network's head: nothing that is said of the outputs."""
    return {key: value for key, value in metadata.items() if key not in _OF_THE_OUTPUTS}


def tail_metadata(metadata: Mapping[str, str], *, takes_inputs: bool) -> dict[str, str]:
    """Return what still holds of a network's tail.

    Args:
        metadata: Of the whole network.
        takes_inputs: Whether the tail takes the network's own inputs.
    """
    return {key: value for key, value in metadata.items() if takes_inputs or key != _PIPELINE}


def _parsed(metadata: Mapping[str, str], key: str) -> Any:
    if key not in metadata:
        return None
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        raise ModelError(f"metadata key {key!r} is not JSON: {error}") from error


def _accuracy(value: Mapping[str, Any]) -> Accuracy:
    metric, source = str(value["metric"]), str(value.get("source", ""))
    return Accuracy(metric, float(value["ratio"]), value["status"], source)


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"labels must be a list, not {type(value).__name__}")
    return tuple(str(label) for label in value)
