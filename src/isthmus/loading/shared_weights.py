"""Several ONNX models over one weights file, each distinct tensor stored once.

It shares what is on the disk; sessions that load the models still copy, unless told otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import EncodeError

from isthmus.errors import ModelError
from isthmus.loading.files import check_name, new_file
from isthmus.loading.stored_tensors import constant_value, raw_bytes

__all__ = ["save_sharing_weights"]

_INLINE_BYTES = 1024
_ALIGNMENT_BYTES = 64


def save_sharing_weights(
    models: Mapping[str, onnx.ModelProto], directory: Path, *, weights_name: str = "weights.bin"
) -> None:
    """Write ``<directory>/<key>.onnx`` for each model, and their weights to one file beside them.

    Stored tensors of the same bytes are written once, whatever their names and shapes, raw and
    little-endian, at offsets that are multiples of 64. Tensors of less than 1 KiB and those of
    strings stay in the ONNX files. Large ``Constant`` nodes become stored tensors. Each file
    appears whole or not at all, the weights first.

    Args:
        models: Models with their weights read, by file stem; they are not changed.
        directory: An existing folder.
        weights_name: Name of the weights file.

    Raises:
        RepositoryError: If a name cannot be a file's.
        ModelError: If a model is larger than an ONNX file can be.
        OSError: If a file cannot be written.
    """
    for name in (*models, weights_name):
        check_name(name)
    slots: dict[bytes, tuple[int, int]] = {}
    try:
        with new_file(directory / weights_name) as weights:
            outlines = {
                name: _outline(model, weights, weights_name, slots)
                for name, model in models.items()
            }
        for name, outline in outlines.items():
            with new_file(directory / f"{name}.onnx") as file:
                file.write(outline.SerializeToString(deterministic=True))
    except (ValueError, EncodeError) as error:
        raise ModelError(f"the models for {directory} would be no ONNX files: {error}") from error


def _outline(
    model: onnx.ModelProto,
    weights: BinaryIO,
    weights_name: str,
    slots: dict[bytes, tuple[int, int]],
) -> onnx.ModelProto:
    """Return ``model`` with its weights in the file ``weights``, which grows by the new ones."""
    outline = onnx.ModelProto()
    outline.CopyFrom(model)
    _store_constants(outline.graph)
    for tensor in outline.graph.initializer:
        data = raw_bytes(tensor)
        if data is None or len(data) < _INLINE_BYTES:
            continue
        digest = hashlib.sha256(data).digest()
        if digest not in slots:
            weights.write(bytes(-weights.tell() % _ALIGNMENT_BYTES))
            slots[digest] = (weights.tell(), len(data))
            weights.write(data)
        offset, length = slots[digest]
        slim = onnx.TensorProto(
            name=tensor.name,
            data_type=tensor.data_type,
            dims=tensor.dims,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for key, value in (("location", weights_name), ("offset", offset), ("length", length)):
            slim.external_data.add(key=key, value=str(value))
        tensor.CopyFrom(slim)
    return outline


def _store_constants(graph: onnx.GraphProto) -> None:
    """Turn large ``Constant`` nodes of a graph into initializers, in place, but for its outputs."""
    kept = []
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        value = constant_value(node)
        is_large = value is not None and value.ByteSize() >= _INLINE_BYTES
        if value is not None and is_large and node.output[0] not in outputs:
            graph.initializer.append(value)
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)
