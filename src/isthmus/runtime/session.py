"""Session: one network loaded into onnxruntime. The only module that imports onnxruntime.

It checks what goes in and names what goes wrong. It keeps no queue, cache or statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime

from isthmus.errors import ModelError
from isthmus.types.graph import TensorSpec

__all__ = ["ONNXRUNTIME_VERSION", "Session"]

ONNXRUNTIME_VERSION = str(onnxruntime.__version__)
"""Of the package that is loaded, under whichever distribution's name it was installed."""

_FATAL_ONLY = 4  # onnxruntime's severity: errors are raised too, and warnings help nobody here

_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


class Session:
    """One network, loaded and ready to run; a context manager.

    Several threads may call ``run`` at once.

    Attributes:
        inputs: The tensors that ``run`` needs.
        outputs: The tensors that it returns.
    """

    def __init__(self, model: Path | bytes, *, threads: int = 1) -> None:
        """Load a network.

        Args:
            model: An ONNX file, or the bytes of one (without external data).
            threads: Threads of one inference; they do not spin between inferences.

        Raises:
            ModelError: If it cannot be loaded, or a tensor's shape is not fixed.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._name = str(model) if isinstance(model, Path) else "the network"
        if isinstance(model, Path) and not model.is_file():
            raise ModelError(f"{model}: no such file")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(model) if isinstance(model, Path) else model,
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime's errors share no base class
            raise ModelError(f"{self._name}: onnxruntime cannot load it: {error}") from error
        self.inputs = tuple(self._spec(found) for found in self._session.get_inputs())
        self.outputs = tuple(self._spec(found) for found in self._session.get_outputs())
        self._by_name = {spec.name: spec for spec in self.inputs}
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one inference.

        Args:
            feeds: An array for every input, of exactly its shape and dtype.

        Returns:
            Every output by name.

        Raises:
            ModelError: If an array is missing, unknown, or of another shape or dtype; if the
                session is closed; if a layer fails.
        """
        if self._session is None:
            raise ModelError(f"{self._name}: the session is closed")
        self._check(feeds)
        try:
            results = self._session.run(self._output_names, dict(feeds))
        except Exception as error:  # onnxruntime's errors share no base class
            raise ModelError(f"{self._name}: the inference failed: {error}") from error
        return dict(zip(self._output_names, results, strict=True))

    def close(self) -> None:
        """Free the network's memory; may be called twice."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, feeds: Mapping[str, np.ndarray]) -> None:
        if feeds.keys() != self._by_name.keys():
            raise ModelError(
                f"{self._name}: expected the inputs {sorted(self._by_name)}, got {sorted(feeds)}"
            )
        for name, array in feeds.items():
            spec = self._by_name[name]
            if array.shape != spec.shape or array.dtype != spec.dtype:
                raise ModelError(
                    f"{self._name}: input {name!r} must be {spec.dtype} {list(spec.shape)}, "
                    f"got {array.dtype} {list(array.shape)}"
                )

    def _spec(self, found: Any) -> TensorSpec:
        dtype = _DTYPES.get(found.type)
        if dtype is None:
            raise ModelError(f"{self._name}: {found.name!r} is a {found.type}: not supported")
        if not all(isinstance(size, int) and size >= 0 for size in found.shape):
            raise ModelError(
                f"{self._name}: {found.name!r} has the shape {found.shape}; every dimension must "
                "be fixed (export the network with a batch of 1)"
            )
        return TensorSpec(found.name, dtype, tuple(found.shape))
