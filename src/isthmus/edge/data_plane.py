"""DataPlane: what the server answers, in values. It knows no transport, thread or event loop.

``infer`` and ``make_cut`` take long and block; the caller says on which thread they run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.edge.residency import Residency
from isthmus.edge.unit import Unit, WireSpec
from isthmus.errors import ProtocolError
from isthmus.runtime.clock import now_s
from isthmus.runtime.codecs import CODECS
from isthmus.runtime.fingerprint import fingerprint
from isthmus.runtime.protocol import InferReply, InferRequest, WireTensor

__all__ = ["EXTENSIONS", "Answer", "DataPlane"]

EXTENSIONS = ("binary_tensor_data", "model_repository", "parameters", "isthmus")
"""What the server speaks beside the Open Inference Protocol itself."""

_PLATFORM = "onnxruntime_onnx"


@dataclass(frozen=True)
class Answer:
    """A reply and what it took.

    Attributes:
        reply: The reply.
        decode_s: From payloads to the network's inputs.
        infer_s: The network.
    """

    reply: InferReply
    decode_s: float
    infer_s: float


class DataPlane:
    """What the server answers."""

    def __init__(self, residency: Residency, *, version: str) -> None:
        """Answer with the models of ``residency``; ``version`` is the software's."""
        self._residency = residency
        self._version = version

    @property
    def is_ready(self) -> bool:
        """Whether every model of the repository is loaded and has run once."""
        return self._residency.is_ready

    def metadata(self) -> dict[str, Any]:
        """Return name, version and extensions, ``threads`` of an inference, and ``fingerprint``."""
        return {
            "name": "isthmus",
            "version": self._version,
            "extensions": list(EXTENSIONS),
            "threads": self._residency.threads,
            **fingerprint(),
        }

    def unit(self, name: str, version: str = "") -> Unit:
        """Return a unit, as ``Residency.unit``."""
        return self._residency.unit(name, version)

    def model_metadata(self, name: str, version: str = "") -> dict[str, Any]:
        """Return versions, inputs and outputs of a unit.

        Raises:
            RepositoryError: If there is none.
            BusyError: If it is still to be loaded.
        """
        unit = self.unit(name, version)
        return {
            "name": unit.name,
            "versions": [unit.version],
            "platform": _PLATFORM,
            "inputs": [_json_spec(spec) for spec in unit.door.inputs],
            "outputs": [_json_spec(spec) for spec in unit.outputs],
        }

    def index(self) -> list[dict[str, str]]:
        """Return every unit, and the models that are still to be loaded."""
        ready = {
            unit.name: {"name": unit.name, "version": unit.version, "state": "READY", "reason": ""}
            for unit in self._residency.units
        }
        coming = [
            {"name": m.name, "version": m.version, "state": "UNAVAILABLE", "reason": "loading"}
            for m in self._residency.models
            if m.name not in ready
        ]
        return [*ready.values(), *coming]

    def status(self) -> dict[str, Any]:
        """Return, for each model, whether it is warm and the seconds until it is."""
        models = {unit.name: {"is_warm": True, "load_s": 0.0} for unit in self._residency.units}
        for model in self._residency.models:
            if model.name not in models:
                left_s = self._residency.expected_load_s(model)
                models[model.name] = {"is_warm": False, "load_s": left_s}
        return models

    def infer(self, name: str, version: str, request: InferRequest) -> Answer:
        """Run one inference.

        Args:
            name: Of a unit.
            version: Of its model; empty for whichever is served.
            request: Raw or encoded tensors, or a photograph.

        Raises:
            RepositoryError: If there is no such unit.
            BusyError: If it is still to be loaded.
            ProtocolError: If inputs or outputs are not the unit's.
            CodecError: If a payload cannot be decoded.
            ImageError: If a photograph cannot be used.
            ModelError: If a layer fails.
        """
        unit = self.unit(name, version)
        known = [spec.name for spec in unit.outputs]
        wanted = [output.name for output in request.outputs] or known
        unknown = [output for output in wanted if output not in known]
        if unknown:
            raise ProtocolError(f"{name!r} has no output {unknown[0]!r}; it has {known}")
        started_at_s = now_s()
        feeds = unit.door.feeds({tensor.name: tensor.payload for tensor in request.inputs})
        decoded_at_s = now_s()
        results = unit.session.run(feeds)
        inferred_at_s = now_s()
        raw = CODECS["raw"]
        reply = InferReply(
            unit.name,
            tuple(WireTensor(output, raw.encode(results[output])) for output in wanted),
            model_version=unit.version,
            id=request.id,
            parameters={"model_variant": unit.variant, "cache": "hit", "load_ms": 0},
        )
        return Answer(reply, decoded_at_s - started_at_s, inferred_at_s - decoded_at_s)

    def known_cut(self, model: str, cut: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the description of a tail that is in memory, at once; raises as ``make_cut``."""
        unit = self._residency.tail(model, *_cut_request(cut))
        return None if unit is None else self._describe(unit)

    def make_cut(self, model: str, cut: Mapping[str, Any]) -> dict[str, Any]:
        """Return the description of a tail; made and loaded if it is new.

        Args:
            model: Name of a model of the repository.
            cut: ``{"tensors": [...], "graph_sha256": "..."}``.

        Raises:
            ProtocolError: If ``cut`` is malformed.
            IsthmusError: As ``Residency.make_tail``.
        """
        return self._describe(self._residency.make_tail(model, *_cut_request(cut)))

    def _describe(self, unit: Unit) -> dict[str, Any]:
        return {
            "model": unit.name,
            "inputs": [_json_spec(spec) for spec in unit.door.inputs],
            "outputs": [_json_spec(spec) for spec in unit.outputs],
        }


def _json_spec(spec: WireSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _cut_request(cut: Mapping[str, Any]) -> tuple[Sequence[str], str]:
    tensors, digest = cut.get("tensors"), cut.get("graph_sha256")
    if not isinstance(tensors, list) or not all(isinstance(name, str) for name in tensors):
        raise ProtocolError("tensors must be a list of names")
    try:
        "".join(tensors).encode()
    except UnicodeEncodeError as error:
        raise ProtocolError(f"tensors must be a list of names: {error}") from error
    if not isinstance(digest, str):
        raise ProtocolError("graph_sha256 must be the hex digest of the ONNX file")
    return tensors, digest
