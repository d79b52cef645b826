"""Unit: one name under which the server answers: a network, its tail, or its photograph door.

A unit turns payloads into arrays and runs its network. It knows no queue, message or transport.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from isthmus.errors import ProtocolError
from isthmus.runtime import codecs, image
from isthmus.runtime.datatypes import datatype_of
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.runtime.protocol import bytes_element, bytes_payload
from isthmus.runtime.session import Session
from isthmus.types.codec import Payload
from isthmus.types.graph import TensorSpec
from isthmus.types.unit import IMAGE_INPUT
from isthmus.types.variant import InputPipeline

__all__ = ["Door", "ImageDoor", "TensorDoor", "Unit", "WireSpec"]

_SAMPLE_SIZE_PX = (1280, 960)  # of the made-up photograph that a door is measured with


@dataclass(frozen=True)
class WireSpec:
    """Name, Open Inference Protocol datatype and shape of an input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @staticmethod
    def of(spec: TensorSpec) -> WireSpec:
        """Return the spec of a tensor as messages name it."""
        datatype = datatype_of(spec.dtype)
        assert datatype is not None  # a session has no others
        return WireSpec(spec.name, datatype, spec.shape)


class Door(Protocol):
    """How payloads become the arrays that a network is fed with."""

    @property
    def inputs(self) -> tuple[WireSpec, ...]:
        """What has to be sent."""

    def feeds(self, payloads: Mapping[str, Payload]) -> dict[str, np.ndarray]:
        """Return the network's inputs.

        Raises:
            ProtocolError: If the inputs are not those asked for.
            CodecError: If a payload cannot be decoded.
            ImageError: If a photograph cannot be used.
        """

    def samples(self) -> dict[str, Payload]:
        """Return made-up payloads to measure with, the same each time."""


@dataclass(frozen=True)
class TensorDoor:
    """Tensors, raw or encoded, as the network names them."""

    specs: tuple[TensorSpec, ...]

    @property
    def inputs(self) -> tuple[WireSpec, ...]:
        """What has to be sent."""
        return tuple(WireSpec.of(spec) for spec in self.specs)

    def feeds(self, payloads: Mapping[str, Payload]) -> dict[str, np.ndarray]:
        """Return the network's inputs, as ``Door.feeds``."""
        _check_names(self.inputs, payloads)
        feeds = {}
        for spec in self.specs:
            payload = payloads[spec.name]
            if payload.shape != spec.shape:
                raise ProtocolError(_expected(WireSpec.of(spec), payload))
            array = codecs.decode(payload, limit_bytes=spec.size_bytes)
            if array.dtype != spec.dtype:
                raise ProtocolError(_expected(WireSpec.of(spec), payload))
            feeds[spec.name] = array
        return feeds

    def samples(self) -> dict[str, Payload]:
        """Return random tensors: standard normal floats, zeros of other kinds."""
        rng = np.random.default_rng(0)
        raw = codecs.CODECS["raw"]
        payloads = {}
        for spec in self.specs:
            array = np.zeros(spec.shape, spec.dtype)
            if array.dtype.kind == "f":
                array += rng.standard_normal(spec.shape).astype(spec.dtype)
            payloads[spec.name] = raw.encode(array)
        return payloads


@dataclass(frozen=True)
class ImageDoor:
    """A photograph's file, or one that was resized and cropped before (``"cropped": true``).

    Attributes:
        tensor: The network's input.
        pipeline: How it is made from a photograph.
        max_pixels: Photographs with more are refused.
    """

    tensor: str
    pipeline: InputPipeline
    max_pixels: int = image.MAX_PIXELS

    @property
    def inputs(self) -> tuple[WireSpec, ...]:
        """One file."""
        return (WireSpec(IMAGE_INPUT, "BYTES", (1,)),)

    def feeds(self, payloads: Mapping[str, Payload]) -> dict[str, np.ndarray]:
        """Return the network's input, as ``Door.feeds``."""
        _check_names(self.inputs, payloads)
        payload = payloads[IMAGE_INPUT]
        data = bytes_element(payload)
        if payload.parameters.get("cropped", False) is True:
            pixels = image.decode_cropped(data, self.pipeline)
        else:
            side_px = self.pipeline.resize_shorter_side_px
            decoded = image.decode(data, shorter_side_px=side_px, max_pixels=self.max_pixels)
            pixels = image.fit(decoded, self.pipeline)
        return {self.tensor: image.normalise(image.planar(pixels, self.pipeline), self.pipeline)}

    def samples(self) -> dict[str, Payload]:
        """Return a JPEG of smooth random colours with a little noise, as a photograph has."""
        rng = np.random.default_rng(0)
        width, height = _SAMPLE_SIZE_PX
        coarse = rng.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize(_SAMPLE_SIZE_PX, Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth) + rng.normal(0, 4, (height, width, 3))
        photograph = IMAGE_CODECS["jpeg-85"].encode(noisy.clip(0, 255).astype(np.uint8))
        return {IMAGE_INPUT: bytes_payload(photograph)}


@dataclass(frozen=True)
class Unit:
    """One name under which the server answers.

    Attributes:
        name: The name.
        variant: The stored network that it is, or is a part of.
        version: That network's version.
        door: How payloads become arrays.
        session: The loaded network; a photograph door shares its network's.
        load_s: Seconds that loading and the first run took.
        resident_bytes: Memory that the process took more afterwards.
    """

    name: str
    variant: str
    version: str
    door: Door
    session: Session
    load_s: float
    resident_bytes: int

    @property
    def outputs(self) -> tuple[WireSpec, ...]:
        """What is answered."""
        return tuple(WireSpec.of(spec) for spec in self.session.outputs)

    def sample_run(self) -> Callable[[], None]:
        """Return a function that does once, with made-up inputs, what a request does."""
        payloads = self.door.samples()

        def run() -> None:
            self.session.run(self.door.feeds(payloads))

        return run


def _check_names(specs: tuple[WireSpec, ...], payloads: Mapping[str, Payload]) -> None:
    names = [spec.name for spec in specs]
    if sorted(names) != sorted(payloads):
        raise ProtocolError(f"expected the inputs {names}, got {list(payloads)}")


def _expected(spec: WireSpec, payload: Payload) -> str:
    found = f"{payload.parameters.get('original_datatype', payload.datatype)} {list(payload.shape)}"
    return f"input {spec.name!r} must be {spec.datatype} {list(spec.shape)}, got {found}"
