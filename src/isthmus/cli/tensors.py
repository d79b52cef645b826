"""How commands show tensors, to people and as JSON. It reads no files."""

from __future__ import annotations

from typing import Any

from isthmus.types.graph import TensorSpec

__all__ = ["shape_text", "size_text", "tensor_record", "tensor_text"]


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as people read it.

    Examples:
        >>> shape_text((1, 3, 224, 224)), shape_text(())
        ('1x3x224x224', 'scalar')
    """
    return "x".join(map(str, shape)) if shape else "scalar"


def size_text(size_bytes: int) -> str:
    """Return bytes as people read them, in decimal units.

    Examples:
        >>> size_text(602112), size_text(4000000), size_text(12)
        ('602.1 KB', '4.00 MB', '12 B')
    """
    if size_bytes >= 1e6:
        return f"{size_bytes / 1e6:.2f} MB"
    return f"{size_bytes / 1e3:.1f} KB" if size_bytes >= 1e3 else f"{size_bytes} B"


def tensor_text(spec: TensorSpec) -> str:
    """Return a tensor's name, type, shape and size in one line."""
    return f"{spec.name}  {spec.dtype} {shape_text(spec.shape)}  {size_text(spec.size_bytes)}"


def tensor_record(spec: TensorSpec) -> dict[str, Any]:
    """Return a tensor's spec as JSON values, its size in bytes."""
    return {
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "size_bytes": spec.size_bytes,
    }
