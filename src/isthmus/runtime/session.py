"""Session: one network loaded into onnxruntime. The only module that imports onnxruntime.

It checks what goes in and names what goes wrong. It keeps no queue, cache or statistics, and lets
onnxruntime report none (decision 0030).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from isthmus.errors import ModelError
from isthmus.types.graph import TensorSpec

# It reads this once, while it is imported; who wants its telemetry says ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["ONNXRUNTIME_VERSION", "Kernel", "Session", "profiled_runs"]

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

_KERNEL_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Kernel:
    """One node of the optimised graph, in one run.

    Attributes:
        name: The node's, as onnxruntime's optimiser calls it.
        op_type: Its operator, which the file's may not have: ``FusedConv``, ``ReorderInput``.
        output_shapes: Shapes of what it writes, as laid out.
        seconds: What it took, to the microsecond.
    """

    name: str
    op_type: str
    output_shapes: tuple[tuple[int, ...], ...]
    seconds: float


class Session:
    """One network, loaded and ready to run; a context manager.

    Several threads may call ``run`` at once.

    Attributes:
        inputs: The tensors that ``run`` needs.
        outputs: The tensors that it returns.
    """

    def __init__(
        self, model: Path | bytes, *, threads: int = 1, profile_prefix: str | None = None
    ) -> None:
        """Load a network.

        Args:
            model: An ONNX file, or the bytes of one (without external data).
            threads: Threads of one inference; they do not spin between inferences.
            profile_prefix: Where onnxruntime's profiler may write; see ``profiled_runs``.

        Raises:
            ModelError: If it cannot be loaded, or a tensor's shape is not fixed.
        """
        options = _options(threads)
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
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

    def __exit__(self, *_: object) -> None:
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


def profiled_runs(
    model: Path | bytes, feeds: Mapping[str, np.ndarray], *, runs: int, threads: int = 1
) -> tuple[tuple[Kernel, ...], ...]:
    """Run a network and return the kernels of each run in the order in which they ran.

    onnxruntime's own profiler times them, which costs a microsecond or two for each.

    Args:
        model: An ONNX file, or the bytes of one (without external data).
        feeds: An array for every input.
        runs: How many, at least 1; the first ones are slower.
        threads: Threads of one inference.

    Raises:
        ModelError: As ``Session`` and its ``run``; if the profiler reports something unknown.
    """
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        prefix = str(Path(folder, "kernels"))
        with Session(model, threads=threads, profile_prefix=prefix) as session:
            for _ in range(runs):
                session.run(feeds)
            events = json.loads(Path(session._session.end_profiling()).read_text())
    found: list[tuple[Kernel, ...]] = []
    kernels: list[Kernel] = []
    try:
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_SUFFIX):
                kernels.append(_kernel(event))
            elif event["name"] == "model_run":  # written when a run is over
                found.append(tuple(kernels))
                kernels = []
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"onnxruntime's profiler reports something unknown: {error!r}") from error
    return tuple(found)


def _kernel(event: Mapping[str, Any]) -> Kernel:
    told = event["args"]
    shapes = [
        tuple(map(int, size)) for output in told["output_type_shape"] for size in output.values()
    ]
    name = event["name"].removesuffix(_KERNEL_SUFFIX)
    return Kernel(name, str(told["op_name"]), tuple(shapes), float(event["dur"]) * 1e-6)


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
