"""Residency: which models are in memory. All of the repository, and the tails asked for.

It loads and finds units; it evicts none, and does not say when or on which thread work runs.
``load_all`` and ``make_tail`` are called on one thread at a time, the others on any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.edge.unit import ImageDoor, TensorDoor, Unit
from isthmus.errors import (
    BusyError,
    CutError,
    GraphMismatchError,
    IsthmusError,
    ModelError,
    RepositoryError,
)
from isthmus.loading.onnx_file import load_graph, load_variant, read_model
from isthmus.loading.repository import RepositoryModel, scan_repository
from isthmus.loading.split import split_model
from isthmus.runtime.clock import now_s
from isthmus.runtime.image import MAX_PIXELS
from isthmus.runtime.memory import resident_bytes
from isthmus.runtime.session import Session
from isthmus.types.cut import Cut
from isthmus.types.progress import SILENT, Progress
from isthmus.types.unit import image_name, tail_name
from isthmus.types.variant import InputPipeline

__all__ = ["Residency"]

_MOST_TAILS = 64  # of one network: each keeps memory until the server ends
_ASSUMED_LOAD_BYTES_PER_S = 50e6  # until a model is loaded, its file's size must do


@dataclass(frozen=True)
class _Stored:
    """A loaded model of the repository."""

    model: RepositoryModel
    graph_sha256: str


class Residency:
    """The models in memory."""

    def __init__(
        self, directory: Path, *, threads: int, max_image_pixels: int = MAX_PIXELS
    ) -> None:
        """Find the models of a repository; none is loaded yet.

        Args:
            directory: The repository.
            threads: Threads of one inference.
            max_image_pixels: Photographs with more pixels are refused.

        Raises:
            RepositoryError: If it cannot be read or has no models.
        """
        self._threads = threads
        self._max_image_pixels = max_image_pixels
        self._models = {model.name: model for model in scan_repository(directory)}
        self._size_bytes = {model.name: model.path.stat().st_size for model in self.models}
        self._stored: dict[str, _Stored] = {}
        self._units: dict[str, Unit] = {}
        self._is_stopped = False

    @property
    def threads(self) -> int:
        """Threads of one inference."""
        return self._threads

    @property
    def is_ready(self) -> bool:
        """Whether every model of the repository is loaded and has run once."""
        return len(self._stored) == len(self._models)

    @property
    def models(self) -> tuple[RepositoryModel, ...]:
        """The models of the repository, loaded or not, sorted by name."""
        return tuple(self._models.values())

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units in memory, sorted by name."""
        return tuple(unit for _, unit in sorted(self._units.copy().items()))

    def expected_load_s(self, model: RepositoryModel) -> float:
        """Return the seconds until a model of the repository can work; 0 if it is loaded."""
        if model.name in self._units:
            return 0.0
        return self._size_bytes[model.name] / _ASSUMED_LOAD_BYTES_PER_S

    def load_all(self, progress: Progress = SILENT) -> None:
        """Load every model of the repository and run each once.

        Raises:
            ModelError: If one cannot be loaded; it is named.
            RepositoryError: If a model's name is one that a unit of another would have.
        """
        progress.begin("loading models", len(self._models))
        for model in self.models:
            if self._is_stopped:
                return
            self._load(model)
            progress.advance(model.name)

    def stop(self) -> None:
        """Have ``load_all`` return after the model that it is at."""
        self._is_stopped = True

    def unit(self, name: str, version: str = "") -> Unit:
        """Return a unit by name.

        Raises:
            RepositoryError: If there is none, or not of that version.
            BusyError: If it is still to be loaded.
        """
        unit = self._units.get(name)
        if unit is not None and version in ("", unit.version):
            return unit
        if unit is not None:
            raise RepositoryError(f"{name!r} is served in version {unit.version}, not {version!r}")
        if not self.is_ready:
            raise BusyError(f"models are still being loaded, {name!r} may be among them")
        known = ", ".join(sorted(self._models))
        raise RepositoryError(f"there is no model {name!r}; the repository has {known}")

    def tail(self, model: str, tensors: Sequence[str], graph_sha256: str) -> Unit | None:
        """Return the tail of a model behind a cut if it is in memory.

        Raises:
            RepositoryError: If there is no such model in the repository.
            GraphMismatchError: If the digest is not the stored file's.
            BusyError: If the model is still to be loaded.
        """
        stored = self._stored.get(model)
        if stored is None:
            self.unit(model)
            raise RepositoryError(f"{model!r} is no model of the repository, only a part of one")
        if stored.graph_sha256 != graph_sha256:
            raise GraphMismatchError(
                f"the cut is of {graph_sha256[:12]!r}, the server has {stored.graph_sha256[:12]} "
                f"as {model!r}: use the same ONNX file on both sides"
            )
        return self._units.get(tail_name(model, Cut.of(graph_sha256, tensors).id))

    def make_tail(self, model: str, tensors: Sequence[str], graph_sha256: str) -> Unit:
        """Return the tail of a model behind a cut; made, loaded and run once if it is new.

        Args:
            model: Name of a model of the repository.
            tensors: Names of the frontier tensors.
            graph_sha256: Digest of the ONNX file that the caller has cut.

        Raises:
            CutError: If the tensors do not cut the network, or there are too many tails.
            GraphMismatchError: If the digest is not the stored file's.
            RepositoryError: If there is no such model in the repository, or its file is gone.
            BusyError: If the model is still to be loaded.
            ModelError: If the tail cannot be loaded.
        """
        found = self.tail(model, tensors, graph_sha256)
        if found is not None:
            return found
        stored = self._stored[model].model
        tails = [name for name in self._units if name.startswith(tail_name(model, ""))]
        if len(tails) >= _MOST_TAILS:
            raise CutError(f"{model!r} has {len(tails)} tails already, the most that are kept")
        if not stored.path.is_file():
            raise RepositoryError(
                f"{stored.path} is gone since it was loaded, and no new part can be cut from it"
            )
        graph = load_graph(stored.path, name=model)
        if graph.sha256 != graph_sha256:
            raise GraphMismatchError(
                f"{stored.path} has changed since it was loaded; restart the server"
            )
        split = split_model(read_model(stored.path), graph, tensors)
        return self._add(
            tail_name(model, split.cut.id), stored, split.tail.SerializeToString(), None
        )

    def _load(self, model: RepositoryModel) -> None:
        try:
            variant = load_variant(model.path, name=model.name)
            self._add(model.name, model, model.path, variant.pipeline)
        except RepositoryError:
            raise
        except IsthmusError as error:
            raise ModelError(f"model {model.name!r} cannot be served: {error}") from error
        self._stored[model.name] = _Stored(model, variant.graph_sha256)

    def _add(
        self,
        name: str,
        model: RepositoryModel,
        source: Path | bytes,
        pipeline: InputPipeline | None,
    ) -> Unit:
        """Load a network and offer it, and its photograph door if it has a pipeline."""
        before_bytes, started_at_s = resident_bytes(), now_s()
        session = Session(source, threads=self._threads)
        session.run({spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs})
        load_s = now_s() - started_at_s
        grown_bytes = max(0, resident_bytes() - before_bytes)
        shared = (model.name, model.version)
        unit = Unit(name, *shared, TensorDoor(session.inputs), session, load_s, grown_bytes)
        added = [unit]
        if pipeline is not None:
            specs = [(spec.dtype, spec.shape) for spec in session.inputs]
            if specs != [("float32", pipeline.tensor_shape)]:
                raise ModelError(
                    f"its input pipeline makes float32 {list(pipeline.tensor_shape)}, "
                    f"its inputs are {specs}"
                )
            door = ImageDoor(session.inputs[0].name, pipeline, self._max_image_pixels)
            added.append(Unit(image_name(name), *shared, door, session, load_s, grown_bytes))
        for new in added:
            if new.name in self._units or (new is not unit and new.name in self._models):
                raise RepositoryError(f"two models would answer as {new.name!r}; rename one")
        self._units |= {new.name: new for new in added}
        return unit
