"""Variant: one of several networks for a task, and how its input is made. It reads no file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Accuracy", "InputPipeline", "Variant"]


@dataclass(frozen=True)
class Accuracy:
    """How often a network is right.

    Attributes:
        metric: Name of the metric, e.g. ``imagenet_top1``.
        ratio: 0 to 1.
        status: ``published`` (by somebody else) or ``measured`` (by us).
        source: Who says so, or on what data.

    Raises:
        ValueError: If the ratio is none, or the status another.
    """

    metric: str
    ratio: float
    status: Literal["published", "measured"]
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"accuracy ratio {self.ratio} is not between 0 and 1")
        if self.status not in ("published", "measured"):
            raise ValueError(f"accuracy status {self.status!r}: published or measured")


@dataclass(frozen=True)
class InputPipeline:
    """How a photograph becomes the network's input tensor.

    Decode, resize the shorter side, crop the centre, order the channels, ``(pixel - mean) / std``.

    Attributes:
        resize_shorter_side_px: Length of the shorter side after resizing.
        crop_px: Height and width of the centre crop.
        interpolation: ``bilinear`` or ``bicubic``.
        channel_order: ``RGB`` or ``BGR``.
        mean: Three values in pixel units 0 to 255, in the order of ``channel_order``.
        std: Three values in pixel units, positive, in the order of ``channel_order``.
    """

    resize_shorter_side_px: int
    crop_px: tuple[int, int]
    interpolation: Literal["bilinear", "bicubic"]
    channel_order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 1 <= min(self.crop_px) <= max(self.crop_px) <= self.resize_shorter_side_px:
            raise ValueError(
                f"crop {self.crop_px} does not fit into a shorter side of "
                f"{self.resize_shorter_side_px} pixels"
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation {self.interpolation!r}: bilinear or bicubic")
        if self.channel_order not in ("RGB", "BGR"):
            raise ValueError(f"channel order {self.channel_order!r}: RGB or BGR")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("mean and std need three values each, std positive")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite")

    @property
    def tensor_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input tensor: ``(1, 3, height, width)``."""
        return (1, 3, *self.crop_px)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> InputPipeline:
        """Read the JSON form that the ``isthmus.input_pipeline`` metadata key holds.

        Raises:
            ValueError: If a key is missing, or a value is of the wrong kind or out of range.
        """
        try:
            if value.get("layout", "NCHW") != "NCHW":
                raise ValueError(f"layout {value['layout']!r}: only NCHW is supported")
            height, width = value["crop_px"]
            mean, std = (tuple(float(x) for x in value[key]) for key in ("mean", "std"))
            return InputPipeline(
                resize_shorter_side_px=int(value["resize_shorter_side_px"]),
                crop_px=(int(height), int(width)),
                interpolation=value["interpolation"],
                channel_order=value["channel_order"],
                mean=mean,  # type: ignore[arg-type]
                std=std,  # type: ignore[arg-type]
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"input pipeline: missing or malformed {error}") from error


@dataclass(frozen=True)
class Variant:
    """One of several networks for the same task.

    Attributes:
        name: The model's name in the server's repository.
        graph_sha256: Digest of its ONNX file.
        task: What it answers, e.g. ``imagenet-1k``; variants of one bundle share it.
        accuracy: Of the whole network, or ``None`` if nobody says.
        pipeline: How its input is made from a photograph, or ``None`` if it takes tensors only.
        labels: Names of the classes, by index; may be empty.
    """

    name: str
    graph_sha256: str
    task: str
    accuracy: Accuracy | None
    pipeline: InputPipeline | None
    labels: tuple[str, ...] = ()
