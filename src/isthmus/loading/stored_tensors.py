"""The tensors stored in an ONNX file: their size, and whether they hold what they claim.

It reads external data, but computes nothing with the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from isthmus.errors import ModelError
from isthmus.loading.nodes import subgraphs

__all__ = [
    "bits_per_element",
    "check_claims",
    "constant_value",
    "load_external",
    "raw_bytes",
    "stored_tensors",
]

_NARROW_BITS = {
    getattr(onnx.TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(onnx.TensorProto, name)
}


def bits_per_element(elem_type: int) -> int:
    """Return the bits of one stored element of an ONNX element type; 0 for strings.

    Raises:
        ModelError: If the element type is not known.
    """
    if elem_type == onnx.TensorProto.STRING:
        return 0
    if elem_type in _NARROW_BITS:
        return _NARROW_BITS[elem_type]
    try:
        return int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type)).itemsize) * 8
    except (KeyError, TypeError) as error:
        raise ModelError(f"element type {elem_type} is not known; is onnx too old?") from error


def stored_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor stored in a graph: initializers and attributes, subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from stored_tensors(inner)


def constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the tensor that a ``Constant`` node holds; ``None`` for all other nodes."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    return next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)


def load_external(model: onnx.ModelProto, folder: Path, *, limit_bytes: int | None = None) -> None:
    """Read tensors stored beside the ONNX file into ``model``, in place.

    Args:
        model: The model as parsed.
        folder: Folder of the ONNX file; external data must lie inside it.
        limit_bytes: Leave tensors larger than this where they are, after checking that their
            file is there and long enough; ``None`` reads all.

    Raises:
        ModelError: If a file is missing, outside the folder, or shorter than is claimed.
    """
    for tensor in stored_tensors(model.graph):
        if not uses_external_data(tensor):
            continue
        claimed = _claimed_bytes(tensor)
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        try:
            file = (folder / location).resolve()
            if not location or not file.is_relative_to(folder.resolve()):
                raise ModelError(
                    f"tensor {tensor.name!r} is stored in {location!r}, outside the model's folder"
                )
            start, length = int(entries.get("offset", 0)), int(entries.get("length", claimed))
            if min(start, length) < 0 or start + claimed > file.stat().st_size:
                raise ModelError(
                    f"tensor {tensor.name!r} claims {claimed} bytes at {start} in {location!r}, "
                    f"which has {file.stat().st_size}; copy the whole file again"
                )
            if length != claimed:
                raise ModelError(
                    f"tensor {tensor.name!r} is stored in {length} bytes, its shape needs {claimed}"
                )
            if limit_bytes is None or claimed <= limit_bytes:
                load_external_data_for_tensor(tensor, str(folder))
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
        except FileNotFoundError as error:
            raise ModelError(
                f"the weights file {location!r} is not beside the model; copy it there"
            ) from error
        except (OSError, ValueError, onnx.checker.ValidationError, DecodeError) as error:
            raise ModelError(f"tensor {tensor.name!r} in {location!r}: {error}") from error


def check_claims(model: onnx.ModelProto) -> None:
    """Check that every stored tensor holds as many bytes as its shape says.

    Raises:
        ModelError: If one does not.
    """
    for tensor in stored_tensors(model.graph):
        claimed = _claimed_bytes(tensor)
        if uses_external_data(tensor) or not tensor.HasField("raw_data"):
            continue  # load_external checks the former, onnx.checker the typed fields
        if len(tensor.raw_data) != claimed:
            raise ModelError(
                f"stored tensor {tensor.name!r} of shape {list(tensor.dims)} needs {claimed} "
                f"bytes and has {len(tensor.raw_data)}; the file is damaged"
            )


def raw_bytes(tensor: onnx.TensorProto) -> bytes | None:
    """Return a stored tensor's elements as little-endian bytes; ``None`` if it has no such form.

    Strings and the narrow types in typed fields have none, nor has data not read yet.
    """
    if uses_external_data(tensor) or tensor.data_type == onnx.TensorProto.STRING:
        return None
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    if tensor.data_type in _NARROW_BITS:
        return None
    array = onnx.numpy_helper.to_array(tensor)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _claimed_bytes(tensor: onnx.TensorProto) -> int:
    if any(dimension < 0 for dimension in tensor.dims):
        raise ModelError(f"stored tensor {tensor.name!r} has a negative dimension; file damaged")
    bits = math.prod(int(size) for size in tensor.dims) * bits_per_element(tensor.data_type)
    return -(-bits // 8)
