"""Compares every stored file with the original network, on every photograph of the zoo.

Accepted is a file whose top-1 is the original's on all photographs and whose logits differ by at
most 1e-2 of the largest one. Accuracy on ImageNet is not measured: no images of it are at hand.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from PIL import Image

from .catalogue import NETWORKS, InputPipeline, Network
from .fetch import Downloads
from .originals import original_of

__all__ = ["Agreement", "Answer", "input_tensor", "verify_all"]

DIFFERENCE_LIMIT_RATIO = 1e-2
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the stored and the original network say about one photograph."""

    photograph: str
    label: str
    probability: float
    original_label: str
    difference_ratio: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """A network's answers on all photographs."""

    network: str
    answers: tuple[Answer, ...]

    @property
    def largest_difference_ratio(self) -> float:
        """The largest ``max|stored - original| / max|original|`` of any photograph."""
        return max(answer.difference_ratio for answer in self.answers)

    @property
    def equal_top1_count(self) -> int:
        """Photographs with the original's top-1."""
        return sum(answer.label == answer.original_label for answer in self.answers)

    @property
    def is_accepted(self) -> bool:
        """Whether the stored file may be shipped."""
        small = self.largest_difference_ratio <= DIFFERENCE_LIMIT_RATIO
        return small and self.equal_top1_count == len(self.answers)


def verify_all(
    downloads: Downloads, models: Path, photographs: Sequence[Path]
) -> tuple[Agreement, ...]:
    """Return the agreement of every network's file in ``models`` with its original."""
    return tuple(_verify(network, downloads, models, photographs) for network in NETWORKS)


def input_tensor(photograph: Path, pipeline: InputPipeline) -> Array:
    """Return a photograph as the network's input, shape ``(1, 3, h, w)``.

    Full decode, resize of the shorter side, centre crop, channel order, ``(pixel - mean) / std``.
    """
    with Image.open(photograph) as file:
        image = file.convert("RGB")
    scale = pipeline.resize_shorter_side_px / min(image.size)
    resized = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(resized, _FILTERS[pipeline.interpolation])
    height, width = pipeline.crop_px
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), dtype=np.float32)
    if pipeline.channel_order == "BGR":
        pixels = pixels[:, :, ::-1]
    mean, std = (np.asarray(v, dtype=np.float32) for v in (pipeline.mean, pipeline.std))
    normal = (pixels - mean) / std
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], dtype=np.float32)


def _verify(
    network: Network, downloads: Downloads, models: Path, photographs: Sequence[Path]
) -> Agreement:
    path = models / f"{network.name}.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    original = original_of(network, downloads)
    labels = _labels_in(path)
    answers = []
    for photograph in photographs:
        x = input_tensor(photograph, network.pipeline)
        stored = np.asarray(session.run(["logits"], {"input": x})[0])[0]
        reference = original(x)
        difference = np.abs(stored - reference).max() / np.abs(reference).max()
        exponentials = np.exp(stored - stored.max())
        answers.append(
            Answer(
                photograph=photograph.name,
                label=labels[int(stored.argmax())],
                probability=float(exponentials.max() / exponentials.sum()),
                original_label=labels[int(reference.argmax())],
                difference_ratio=float(difference),
            )
        )
    return Agreement(network.name, tuple(answers))


def _labels_in(path: Path) -> list[str]:
    model = onnx.load(path, load_external_data=False)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    labels: list[str] = json.loads(texts["isthmus.labels"])
    return labels
