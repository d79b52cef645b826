"""AgreementCounter: how often lossy plans give the unsplit network's answer, counted on images.

It measures no time, makes no images (``crops`` does) and decides nothing: what is too little
agreement is ``selection``'s. The plans are carried out without any server: encode, decode, run.
An image counts against a plan wherever the first answer differs, also where both are wrong.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx

from isthmus.building.crops import Crops
from isthmus.errors import CodecError, ModelError
from isthmus.loading.split import Split, exposed_model
from isthmus.runtime import codecs, image
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.runtime.session import Session
from isthmus.types.graph import ModelGraph
from isthmus.types.plan import PlanRow
from isthmus.types.progress import SILENT, Progress
from isthmus.types.proportion import Proportion
from isthmus.types.variant import InputPipeline, Variant

__all__ = ["AgreementCounter", "Answers", "Loss"]

_BLOCK = 50  # images after which plans that have failed are given up


@dataclass(frozen=True)
class Loss:
    """What happens to what crosses: plans that lose the same give the same answers.

    Attributes:
        codec: Without ``+zstd``, which loses nothing.
        cut_id: Where the network is cut; empty where the image is encoded.
        tensors: The frontier tensors; empty where the image is encoded.
    """

    codec: str
    cut_id: str = ""
    tensors: tuple[str, ...] = ()

    @staticmethod
    def of(row: PlanRow) -> Loss:
        """Return what a lossy plan loses."""
        tensors = row.tensors if row.family == "split" else ()
        return Loss(row.codec.removesuffix("+zstd"), row.cut_id, tensors)


@dataclass(frozen=True)
class Answers:
    """First answers of a network for one image, by the name of the output.

    Attributes:
        whole: Of the whole network.
        behind: By what was lost before; ``None`` where nothing could be encoded.
    """

    whole: Mapping[str, int]
    behind: Mapping[Loss, Mapping[str, int] | None]

    def agree(self, loss: Loss) -> bool:
        """Return whether every output that a loss leaves has the whole network's first answer."""
        answers = self.behind[loss]
        return answers is not None and answers.items() <= self.whole.items()


class AgreementCounter:
    """Runs lossy plans of one network beside the whole of it; a context manager.

    The network runs once for each image with the frontier tensors of all cuts as outputs; behind
    it, each loss costs its tail only.
    """

    def __init__(
        self,
        variant: Variant,
        model: onnx.ModelProto,
        graph: ModelGraph,
        splits: Sequence[Split],
        *,
        workers: int | None = None,
    ) -> None:
        """Load the network and nothing else; tails are loaded when they are asked for.

        Args:
            variant: The network; it must have an input pipeline.
            model: Its file, read.
            graph: The same as a graph.
            splits: Its heads and tails.
            workers: Images at a time; by default as many as there are cores.

        Raises:
            ModelError: If it has no pipeline, or cannot be loaded.
        """
        if variant.pipeline is None:
            raise ModelError(f"{variant.name} has no input pipeline")
        self.name = variant.name
        self.graph_sha256 = graph.sha256
        self._pipeline: InputPipeline = variant.pipeline
        self._outputs = graph.outputs
        self._splits = {split.cut.id: split for split in splits}
        tensors = {name for split in splits for name in split.cut.tensors}
        self._whole = Session(exposed_model(model, graph, tensors).SerializeToString())
        self._tails: dict[str, Session] = {}
        self._loading = threading.Lock()
        self._workers = workers or os.cpu_count() or 1

    def __enter__(self) -> AgreementCounter:
        """Return the counter itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Give the memory back."""
        for session in (self._whole, *self._tails.values()):
            session.close()

    def tensors(self, crops: Crops, k: int) -> dict[str, np.ndarray]:
        """Return the frontier tensors of all cuts, and the outputs, for image ``k``, by name."""
        return self._run(image.fit(crops.image(k), self._pipeline))

    def count(
        self,
        losses: Iterable[Loss],
        crops: Crops,
        *,
        images: int,
        may_differ: int | None = None,
        progress: Progress = SILENT,
    ) -> dict[Loss, Proportion]:
        """Return on how many images each loss keeps the first answer of every output.

        What cannot be encoded (values that are not finite, or too large) has not agreed.

        Args:
            losses: What to try.
            crops: The images; numbers 0 to ``images - 1`` are used.
            images: How many.
            may_differ: A loss is given up soon after more images than that differ: its count is
                then of fewer images. ``None`` counts all to the end.
            progress: Told about every block of images.

        Raises:
            ImageError: If a photograph cannot be decoded.
        """
        agreed = dict.fromkeys(losses, 0)
        tried = dict.fromkeys(agreed, 0)
        going = tuple(agreed)
        blocks = range(0, images, _BLOCK)
        progress.begin(f"{self.name}: agreement", len(blocks))
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                for first in blocks:
                    numbers = range(first, min(first + _BLOCK, images)) if going else ()
                    run = [pool.submit(self.answers, going, crops, k) for k in numbers]
                    for answers in (future.result() for future in run):
                        for loss in going:
                            agreed[loss] += answers.agree(loss)
                            tried[loss] += 1
                    if may_differ is not None:
                        going = tuple(k for k in going if tried[k] - agreed[k] <= may_differ)
                    progress.advance(f"{len(going)} of {len(agreed)} codecs go on")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return {loss: Proportion(agreed[loss], tried[loss]) for loss in agreed}

    def answers(self, losses: Iterable[Loss], crops: Crops, k: int) -> Answers:
        """Return the first answers for image ``k``, without and with each loss.

        Raises:
            ImageError: If its photograph cannot be decoded.
        """
        pixels = image.fit(crops.image(k), self._pipeline)
        found = self._run(pixels)
        behind: dict[Loss, Mapping[str, int] | None] = {}
        for loss in losses:
            try:
                outputs = self._through(loss, pixels, found)
            except CodecError:
                behind[loss] = None
                continue
            behind[loss] = {
                name: int(np.argmax(outputs[name])) for name in self._outputs if name in outputs
            }
        return Answers({name: int(np.argmax(found[name])) for name in self._outputs}, behind)

    def _through(
        self, loss: Loss, pixels: np.ndarray, found: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        """Return the network's outputs behind what was lost."""
        if not loss.cut_id:
            made = IMAGE_CODECS[loss.codec].encode(pixels)
            return self._run(image.decode_cropped(made, self._pipeline))
        codec = codecs.CODECS[loss.codec]
        arrived = {
            name: codecs.decode(codec.encode(found[name]), limit_bytes=found[name].nbytes)
            for name in loss.tensors
        }
        return self._tail(loss.cut_id).run(arrived)

    def _tail(self, cut_id: str) -> Session:
        with self._loading:
            if cut_id not in self._tails:
                tail = self._splits[cut_id].tail
                self._tails[cut_id] = Session(tail.SerializeToString())
            return self._tails[cut_id]

    def _run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        tensor = image.normalise(image.planar(pixels, self._pipeline), self._pipeline)
        return self._whole.run({self._whole.inputs[0].name: tensor})
