"""Cut: a partition of a network into a device side and a server side, told by its tensors.

It does not choose cuts (``planning`` does) and makes no files of them (``loading.split`` does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from isthmus.errors import CutError
from isthmus.types.graph import ModelGraph

__all__ = ["Cut", "device_layers"]

_ID_LENGTH = 12


@dataclass(frozen=True)
class Cut:
    """A partition of a network, named by the tensors that cross it.

    The device runs every layer that the frontier tensors depend on, the server all the others.

    Attributes:
        graph_sha256: Digest of the ONNX file that is cut.
        tensors: Names of the frontier tensors, sorted, without repeats.
        shapes: Name and shape of each input whose shape the file leaves open, sorted by name.
    """

    graph_sha256: str
    tensors: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @staticmethod
    def of(
        graph_sha256: str,
        tensors: Iterable[str],
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> Cut:
        """Return the cut at ``tensors`` for these input shapes, whatever their order."""
        fixed = tuple(sorted((name, tuple(shape)) for name, shape in (shapes or {}).items()))
        return Cut(graph_sha256, tuple(sorted(set(tensors))), fixed)

    @cached_property
    def id(self) -> str:
        """First 12 hex digits of SHA-256 over the graph's digest and the sorted tensor names.

        The hashed text is UTF-8: the digest and then each name, joined by single line feeds. If
        there are ``shapes``, an empty line and a line ``name=1,3,480,480`` for each follow.
        """
        lines = [self.graph_sha256, *self.tensors]
        if self.shapes:
            lines += ["", *(f"{name}={','.join(map(str, shape))}" for name, shape in self.shapes)]
        text = "\n".join(lines)
        return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]


def device_layers(graph: ModelGraph, tensors: Iterable[str]) -> frozenset[int]:
    """Return the layers that run on the device when ``graph`` is cut at ``tensors``.

    These are the layers that the frontier tensors depend on. All other layers run on the
    server and may read nothing but frontier tensors and each other's outputs.

    Args:
        graph: The network.
        tensors: Names of the frontier tensors.

    Returns:
        Indices into ``graph.layers``.

    Raises:
        CutError: If a tensor is unknown, or if the server's layers would need a tensor that is
            not sent.
    """
    sent = frozenset(tensors)
    unknown = sorted(name for name in sent if name not in graph.tensors)
    if unknown:
        raise CutError(f"{graph.name} has no tensor {unknown[0]!r}; `isthmus inspect` lists them")
    if not sent:
        raise CutError("a cut needs at least one tensor")
    device: set[int] = set()
    pending = [graph.producers[name] for name in sent if name in graph.producers]
    while pending:
        layer = pending.pop()
        if layer not in device:
            device.add(layer)
            names = graph.layers[layer].inputs
            pending += [graph.producers[name] for name in names if name in graph.producers]
    here = {name for i in device for name in graph.layers[i].outputs} | set(graph.inputs)
    for i, other in enumerate(graph.layers):
        missing = [name for name in other.inputs if name in here and name not in sent]
        if i not in device and missing:
            raise CutError(
                f"{sorted(sent)} do not cut {graph.name} in two: layer {other.name!r} on the "
                f"server's side also reads {missing[0]!r}; add it to the cut"
            )
    return frozenset(device)
