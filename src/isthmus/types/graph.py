"""ModelGraph: what a network is made of, without its weights. It reads no files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

__all__ = ["Layer", "ModelGraph", "TensorSpec"]


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and static shape of one tensor.

    Attributes:
        name: The tensor's name in the ONNX file.
        dtype: NumPy's name of the element type, e.g. ``float32``.
        shape: Static shape, every entry at least 0.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of the raw tensor."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Layer:
    """One node of the graph, with its constants absorbed.

    Attributes:
        name: The node's name, unique in its graph.
        op_type: ONNX operator, e.g. ``Conv``.
        inputs: Names of the *data* tensors it reads; constants and weights are not among them.
        outputs: Names of the tensors it writes.
        flops: Floating point operations of one inference (a multiply-add counts two).
        weight_bytes: Bytes of the weights and constants absorbed, as used (fp16 storage counts
            as the float32 that it becomes).
        kernel: Spatial shape of the window of a convolution or pooling; empty for others.
        strides: Its steps, 1 for each axis where the file says nothing; empty for others.
        groups: Groups of a convolution; as many as channels if it is depthwise.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    flops: int
    weight_bytes: int
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True)
class ModelGraph:
    """A directed acyclic graph of layers joined by tensors, in topological order, without weights.

    Attributes:
        name: The network's name.
        sha256: Hex digest of the ONNX file that it was loaded from.
        inputs: Names of the graph's inputs.
        outputs: Names of the graph's outputs.
        layers: In topological order; every layer is needed by some output.
        tensors: Specs of every graph input and layer output, by name.
        fixed_shapes: Shapes given while loading, of those inputs whose shapes the file leaves
            open, by name.
    """

    name: str
    sha256: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    tensors: Mapping[str, TensorSpec] = field(repr=False)
    fixed_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def producers(self) -> Mapping[str, int]:
        """Index of the layer that writes each tensor; graph inputs are absent."""
        return {name: i for i, layer in enumerate(self.layers) for name in layer.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of the layers that read each tensor, ascending; unread tensors have ``()``."""
        readers: dict[str, list[int]] = {name: [] for name in self.tensors}
        for i, layer in enumerate(self.layers):
            for name in dict.fromkeys(layer.inputs):
                readers[name].append(i)
        return {name: tuple(found) for name, found in readers.items()}

    @property
    def flops(self) -> int:
        """Floating point operations of one inference."""
        return sum(layer.flops for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, as used."""
        return sum(layer.weight_bytes for layer in self.layers)
