"""What ONNX nodes read and write, which are needed, and their order. It knows no shapes."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Sequence

import onnx

from isthmus.errors import ModelError

__all__ = ["described", "needed_nodes", "reads", "sorted_nodes", "subgraphs", "writers", "writes"]


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node holds as attributes: the branches of ``If``, a loop's body."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def reads(node: onnx.NodeProto) -> tuple[str, ...]:
    """Return the tensors that a node reads, without repeats.

    Optional inputs left empty are skipped; outer tensors that subgraphs capture are included.
    """
    names = dict.fromkeys(name for name in node.input if name)
    for graph in subgraphs(node):
        names.update(dict.fromkeys(_captured(graph)))
    return tuple(names)


def writes(node: onnx.NodeProto) -> tuple[str, ...]:
    """Return the tensors that a node writes; outputs left empty are skipped."""
    return tuple(name for name in node.output if name)


def described(node: onnx.NodeProto) -> str:
    """Return how messages call a node: its operator, and its name or first output."""
    return f"{node.op_type} node {node.name or next(iter(writes(node)), '(unnamed)')!r}"


def writers(nodes: Iterable[onnx.NodeProto]) -> dict[str, int]:
    """Return the index of the node that writes each tensor."""
    return {name: i for i, node in enumerate(nodes) for name in writes(node)}


def needed_nodes(
    nodes: Sequence[onnx.NodeProto], outputs: Iterable[str], *, given: Iterable[str] = ()
) -> list[onnx.NodeProto]:
    """Return the nodes that ``outputs`` depend on, in their present order.

    Args:
        nodes: Nodes in any order.
        outputs: Names of the tensors wanted.
        given: Names of tensors that need not be computed, even if a node writes them.
    """
    known = frozenset(given)
    writer = writers(nodes)
    wanted: set[int] = set()
    pending = [name for name in outputs if name not in known]
    while pending:
        index = writer.get(pending.pop())
        if index is not None and index not in wanted:
            wanted.add(index)
            pending += [name for name in reads(nodes[index]) if name not in known]
    return [node for i, node in enumerate(nodes) if i in wanted]


def sorted_nodes(nodes: Sequence[onnx.NodeProto], known: Container[str]) -> list[onnx.NodeProto]:
    """Return the nodes in topological order; nodes already in order keep their places.

    Args:
        nodes: Nodes in any order.
        known: The names that nodes may read without a node writing them.

    Raises:
        ModelError: If a node reads a tensor that nothing provides, or nodes wait for each other.
    """
    writer = writers(nodes)
    waits: list[int] = []
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        sources = set()
        for name in reads(node):
            if name in writer:
                sources.add(writer[name])
            elif name not in known:
                raise ModelError(
                    f"{described(node)} reads {name!r}, which no node writes and which is neither "
                    f"an input nor a stored tensor; export the network again"
                )
        waits.append(len(sources))
        for source in sources:
            readers.setdefault(source, []).append(i)
    ready = [i for i, count in enumerate(waits) if count == 0]
    order: list[onnx.NodeProto] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for reader in readers.get(index, ()):
            waits[reader] -= 1
            if waits[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = next(node for node, count in zip(nodes, waits, strict=True) if count > 0)
        raise ModelError(
            f"{described(stuck)} is part of a cycle, or depends on one; export the network again"
        )
    return order


def _captured(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the outer tensors that a subgraph uses."""
    local = {value.name for value in graph.input}
    local |= {tensor.name for tensor in graph.initializer}
    local |= {tensor.values.name for tensor in graph.sparse_initializer}
    local |= {name for node in graph.node for name in writes(node)}
    for node in graph.node:
        yield from (name for name in reads(node) if name not in local)
    yield from (value.name for value in graph.output if value.name not in local)
