"""ONNX models to plain files, checked first. Models that share weights are ``shared_weights``'s."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError

from isthmus.errors import ModelError
from isthmus.loading.files import new_files

__all__ = ["check_model", "save_model", "save_models"]


def check_model(model: onnx.ModelProto, *, called: str) -> None:
    """Check a model with onnx's checker, its types and shapes included.

    Args:
        model: With its weights.
        called: What messages call it.

    Raises:
        ModelError: If the checker rejects it, or it is larger than an ONNX file can be.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        EncodeError,
        ValueError,
    ) as error:
        raise ModelError(f"onnx's checker rejects the {called}: {error}") from error


def save_model(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model to one file, whole or not at all, and return its path.

    Missing folders are made; a file that is there is replaced.

    Raises:
        ModelError: If it is larger than an ONNX file can be.
        OSError: If it cannot be written.
    """
    save_models({path: model})
    return path


def save_models(models: Mapping[Path, onnx.ModelProto]) -> None:
    """Write models to files, all or none of them; else as ``save_model``."""
    with new_files(*models, parents=True) as files:
        for (path, model), file in zip(models.items(), files, strict=True):
            try:
                data = model.SerializeToString(deterministic=True)
            except (ValueError, EncodeError) as error:
                raise ModelError(f"{path} would be no ONNX file: {error}") from error
            file.write(data)
