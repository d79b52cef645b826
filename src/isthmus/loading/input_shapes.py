"""Shapes of a network's inputs: as the file fixes them, or given where it leaves them open.

It changes no file and infers no shape but those of the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from isthmus.errors import ModelError
from isthmus.loading.shape_inference import TensorType, declared_type

__all__ = ["fixed_inputs", "open_shapes"]

_ADVICE_SIZE = 480  # of dimensions that advice has to make up, behind the batch and the channels
_ADVICE_SHAPE = (1, 3, _ADVICE_SIZE, _ADVICE_SIZE)


def fixed_inputs(
    inputs: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, Sequence[int]]
) -> list[onnx.ValueInfoProto]:
    """Return the inputs with static shapes.

    A symbolic dimension that the given shapes fix to one size has that size in the other inputs,
    too. One that they fix to several is none: exporters write ``?`` for any size.

    Args:
        inputs: As the file declares them; they are not changed.
        shapes: Shapes by input name, for inputs whose shape the file leaves open. A shape that
            only repeats the file's is accepted.

    Raises:
        ModelError: If a shape is for no input, contradicts the file or is not positive, or if
            an input's shape stays open; it says what to type.
    """
    types = {value.name: declared_type(value) for value in inputs}
    sizes: dict[str, set[int]] = {}
    for name, shape in shapes.items():
        if name not in types:
            raise ModelError(
                f"a shape is given for {name!r}, which is no input; "
                f"the inputs are {', '.join(map(repr, types))}"
            )
        _check_shape(name, shape, types[name])
        for size, dimension in zip(shape, types[name].dims or (), strict=False):
            if isinstance(dimension, str):
                sizes.setdefault(dimension, set()).add(size)
    known = {dimension: found.pop() for dimension, found in sizes.items() if len(found) == 1}
    fixed = {
        name: tuple(shapes[name]) if name in shapes else _resolved(type_, known)
        for name, type_ in types.items()
    }
    still_open = {name: types[name] for name, shape in fixed.items() if shape is None}
    if still_open:
        raise ModelError(_what_to_type(still_open))
    return [_declared(value, fixed[value.name] or ()) for value in inputs]


def open_shapes(inputs: Sequence[onnx.ValueInfoProto]) -> tuple[str, ...]:
    """Return the names of the inputs whose shapes the file leaves open."""
    return tuple(value.name for value in inputs if declared_type(value).static_shape is None)


def _check_shape(name: str, shape: Sequence[int], declared: TensorType) -> None:
    """Raise a ``ModelError`` if an input cannot have this shape."""
    if declared.static_shape == tuple(shape):
        return
    if any(size < 1 for size in shape):
        raise ModelError(f"the shape {_text(shape)} given for {name!r} has a size that is below 1")
    fits = declared.dims is None or (
        len(declared.dims) == len(shape)
        and all(
            not isinstance(dimension, int) or dimension == size
            for dimension, size in zip(declared.dims, shape, strict=True)
        )
    )
    if not fits:
        raise ModelError(
            f"the shape {_text(shape)} given for {name!r} does not fit the network's, "
            f"{_text(declared.dims or ())}"
        )


def _resolved(declared: TensorType, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    """Return a declared shape with the known symbols in place, or ``None`` if it stays open."""
    if declared.dims is None:
        return None
    dims = tuple(sizes.get(d) if isinstance(d, str) else d for d in declared.dims)
    return TensorType(declared.elem_type, dims).static_shape


def _declared(value: onnx.ValueInfoProto, shape: Sequence[int]) -> onnx.ValueInfoProto:
    declared = onnx.ValueInfoProto()
    declared.CopyFrom(value)
    dimensions = declared.type.tensor_type.shape
    dimensions.Clear()
    dimensions.SetInParent()
    for size in shape:
        dimensions.dim.add(dim_value=size)
    return declared


def _what_to_type(still_open: Mapping[str, TensorType]) -> str:
    whats, flags = [], []
    for name, declared in still_open.items():
        if not declared.elem_type:
            raise ModelError(f"input {name!r} is no tensor; only networks of tensors can be cut")
        what = "not given" if declared.dims is None else f"{_text(declared.dims)}"
        whats.append(f"the shape of input {name!r} is open: {what}")
        flags.append(f"`--shape {name}={','.join(map(str, _example(declared.dims)))}`")
    return (
        f"{'; '.join(whats)}. Fix the sizes when inspecting or splitting, for example with "
        f"{' '.join(flags)}; `isthmus split` at the input itself writes a file whose shapes are "
        f"fixed, for building and serving"
    )


def _example(dims: Sequence[int | str | None] | None) -> tuple[int, ...]:
    """Return a shape that fits: what the file fixes, and sizes made up for the rest."""
    if dims is None:
        return _ADVICE_SHAPE
    made_up = _ADVICE_SHAPE if len(dims) == len(_ADVICE_SHAPE) else (1, *[_ADVICE_SIZE] * len(dims))
    return tuple(d if isinstance(d, int) else made_up[i] for i, d in enumerate(dims))


def _text(dims: Sequence[int | str | None]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in dims) + ")"
