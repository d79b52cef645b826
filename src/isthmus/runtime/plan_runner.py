"""PlanRunner: carries out one row of a plan table for one input and reports where the time went.

It does not choose rows, fall back or learn: ``device.client`` decides with it and
``profiling.profile`` measures with it, so what is measured is what will be run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import numpy as np

from isthmus.errors import BadReplyError, CodecError, NoPlanError, ProtocolError
from isthmus.runtime import codecs, image, protocol
from isthmus.runtime.clock import FULL_PACE, Pace, now_s
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.types.unit import IMAGE_INPUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

    from isthmus.runtime.heads import Heads
    from isthmus.runtime.transport import Exchange, Transport
    from isthmus.types.conditions import ImageFacts
    from isthmus.types.plan import PlanRow
    from isthmus.types.variant import InputPipeline, Variant

__all__ = ["Job", "PlanRunner", "Prepared", "Run", "StageTimes"]


class StageTimes:
    """Seconds by stage of one request, filled while it runs; stages may recur and add up."""

    def __init__(self, pace: Pace = FULL_PACE) -> None:
        self.seconds: dict[str, float] = {}
        self._pace = pace

    def add(self, stage: str, seconds: float) -> None:
        """Add ``seconds`` to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def copy(self) -> StageTimes:
        """Return the times so far, to go on with on their own."""
        other = StageTimes(self._pace)
        other.seconds = dict(self.seconds)
        return other

    @contextmanager
    def device(self, stage: str) -> Iterator[None]:
        """Time a stage of the device, at the device's pace."""
        begun_at_s = now_s()
        yield
        self._pace.after(now_s() - begun_at_s)
        self.add(stage, now_s() - begun_at_s)


class Job:
    """One input on its way through a plan: nothing is decoded or resized twice.

    A second plan for the same input (the fallback after a failure) goes on with what the first
    has made.
    """

    def __init__(self, data: bytes, times: StageTimes) -> None:
        """Take an image file as it is.

        Args:
            data: Bytes of a JPEG, PNG or WebP file.
            times: Where the stages' times go.
        """
        self.data = data
        self.times = times
        self._facts: ImageFacts | None = None
        self._decoded: dict[int, Image] = {}
        self._pixels: dict[InputPipeline, np.ndarray] = {}

    def again(self, times: StageTimes) -> Job:
        """Return a job for the same input that has all that was made so far, with new times."""
        other = Job(self.data, times)
        other._facts = self._facts
        other._decoded = self._decoded
        other._pixels = self._pixels
        return other

    @property
    def facts(self) -> ImageFacts:
        """What the image's header tells.

        Raises:
            ImageError: If the bytes are no image.
        """
        if self._facts is None:
            with self.times.device("decode"):
                self._facts = image.read_facts(self.data)
        return self._facts

    def pixels(self, pipeline: InputPipeline) -> np.ndarray:
        """Return the resized and cropped photograph, uint8 ``[H, W, 3]`` RGB.

        Raises:
            ImageError: If the bytes are no image that can be decoded.
        """
        if pipeline not in self._pixels:
            side_px = pipeline.resize_shorter_side_px
            if side_px not in self._decoded:
                with self.times.device("decode"):
                    self._decoded[side_px] = image.decode(self.data, shorter_side_px=side_px)
            with self.times.device("preprocess"):
                self._pixels[pipeline] = image.fit(self._decoded[side_px], pipeline)
        return self._pixels[pipeline]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A row with all of the device's work done; nothing has been sent.

    Attributes:
        row: What is carried out.
        outputs: The network's outputs that the device has computed: all of them for a local row.
        headers: Of the message to the server.
        body: The message to the server; empty for a local row.
        sent_as: As what the input crosses: ``file`` or the name of a codec; empty for a local
            row. A ``resized`` row sends the file itself where that is not larger than the
            image made of it.
    """

    row: PlanRow
    outputs: Mapping[str, np.ndarray]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent_as: str = ""

    @property
    def sent_bytes(self) -> int:
        """Bytes of the message that will be sent, without HTTP's own; 0 for a local row."""
        return len(self.body)


@dataclass(frozen=True)
class Run:
    """What carrying out one row gave.

    Attributes:
        outputs: The network's outputs by name.
        sent_bytes: Bytes written to the server.
        received_bytes: Bytes of the reply's body.
        network_s: The exchange without the server's own time, seconds; 0 for local rows.
        was_cold: Whether the server loaded a model for it.
        sent_as: As what the input crossed, see ``Prepared``.
    """

    outputs: Mapping[str, np.ndarray]
    sent_bytes: int = 0
    received_bytes: int = 0
    network_s: float = 0.0
    was_cold: bool = False
    sent_as: str = ""


@dataclass(frozen=True)
class PlanRunner:
    """Carries out rows with this device's heads and one server.

    Attributes:
        variants: The networks by name.
        heads: The device's parts of them.
        transport: The way to the server, or ``None`` without one.
        download_s: Predicts the seconds that a reply of so many bytes takes to come back, by
            which an exchange is told apart into ``upload`` and ``download``.
    """

    variants: Mapping[str, Variant]
    heads: Heads
    transport: Transport | None = None
    download_s: Callable[[int], float] = field(default=lambda _: 0.0)

    def run(self, row: PlanRow, job: Job, *, timeout_s: float) -> Run:
        """Carry out one row: prepare and send; raises as both of them."""
        return self.send(self.prepare(row, job), job, timeout_s=timeout_s)

    def prepare(self, row: PlanRow, job: Job) -> Prepared:
        """Do all of the device's work of a row, up to the message that is ready to be sent.

        Args:
            row: What to do.
            job: The input; its stage times are added to.

        Raises:
            ImageError: If the input cannot be decoded on the device.
            CodecError: If what should cross cannot be encoded.
            NoPlanError: If the row needs a server and there is none, or takes no photographs.
        """
        if row.is_local:
            feeds = self._input_tensor(row, job)
            with job.times.device("head"):
                return Prepared(row, self.heads.session(row.variant).run(feeds))
        if row.family == "returned" or row.cloud_tensors:
            raise NoPlanError(f"{row.label} can only be planned: no server of ours takes part")
        if self.transport is None:
            raise NoPlanError(f"{row.label} needs a server and none was given")
        message = self._message(row, job)
        with job.times.device("encode"):
            request = protocol.InferRequest(inputs=message.tensors)
            headers, body = protocol.pack_request(request)
        return Prepared(row, message.outputs, headers, body, message.sent_as)

    def send(self, prepared: Prepared, job: Job, *, timeout_s: float) -> Run:
        """Have the server do the rest; a local row is done already.

        Args:
            prepared: What ``prepare`` made of the same job.
            job: The input; its stage times are added to.
            timeout_s: Longest time that the exchange with the server may take.

        Raises:
            RemoteError: If the server fails; the time lost is booked as ``wait``.
            NoPlanError: If the row needs a server and there is none.
        """
        row = prepared.row
        if row.is_local:
            return Run(prepared.outputs)
        if self.transport is None:
            raise NoPlanError(f"{row.label} needs a server and none was given")
        path = f"v2/models/{quote(row.unit, safe='')}/infer"
        begun_at_s = now_s()
        try:
            exchange = self.transport.exchange(
                "POST", path, headers=prepared.headers, body=prepared.body, timeout_s=timeout_s
            )
            outputs = _outputs(exchange)
        except Exception:
            job.times.add("wait", now_s() - begun_at_s)
            raise
        return self._book(prepared, exchange, outputs, job.times)

    def _input_tensor(self, row: PlanRow, job: Job) -> dict[str, np.ndarray]:
        pipeline = self._pipeline(row)
        pixels = job.pixels(pipeline)
        with job.times.device("preprocess"):
            tensor = image.normalise(image.planar(pixels, pipeline), pipeline)
        return {self.heads.session(row.variant, row.cut_id).inputs[0].name: tensor}

    def _message(self, row: PlanRow, job: Job) -> _Message:
        if row.family == "split":
            feeds = self._input_tensor(row, job)
            with job.times.device("head"):
                crossing = self.heads.session(row.variant, row.cut_id).run(feeds)
            with job.times.device("encode"):
                codec = codecs.CODECS[row.codec]
                sent = tuple(
                    protocol.WireTensor(name, codec.encode(crossing.pop(name)))
                    for name in row.tensors
                )
            return _Message(sent, row.codec, crossing)
        if row.family == "file":
            with job.times.device("encode"):
                return _file_message(job.data)
        pipeline = self._pipeline(row)
        pixels = job.pixels(pipeline)
        with job.times.device("encode"):
            if row.family == "resized":
                made = IMAGE_CODECS[row.codec].encode(pixels)
                if len(made) >= len(job.data):
                    return _file_message(job.data)
                payload = protocol.bytes_payload(made, cropped=True)
                return _Message((protocol.WireTensor(IMAGE_INPUT, payload),), row.codec)
            payload = codecs.encode_pixels(image.planar(pixels, pipeline), pipeline)
            return _Message((protocol.WireTensor(row.tensors[0], payload),), row.codec)

    def _pipeline(self, row: PlanRow) -> InputPipeline:
        pipeline = self.variants[row.variant].pipeline
        if pipeline is None:
            raise NoPlanError(f"{row.variant} has no input pipeline, so it takes no photographs")
        return pipeline

    def _book(
        self,
        prepared: Prepared,
        exchange: Exchange,
        outputs: Mapping[str, np.ndarray],
        times: StageTimes,
    ) -> Run:
        """Split an exchange into stages; a server that tells no times counts as link."""
        server = protocol.parse_server_timing(exchange.headers.get("server-timing", ""))
        total_s = min(server.get("total", 0.0), exchange.elapsed_s)
        network_s = exchange.elapsed_s - total_s
        download_s = min(self.download_s(exchange.received_bytes), network_s)
        load_s = server.get("load", 0.0)
        wait_s = min(server.get("queue", 0.0) + load_s, total_s)
        decode_s = min(server.get("decode", 0.0), total_s - wait_s)
        times.add("connect", exchange.connect_s)
        times.add("upload", network_s - download_s)
        times.add("wait", wait_s)
        times.add("server_decode", decode_s)
        times.add("server", total_s - wait_s - decode_s)
        times.add("download", download_s)
        return Run(
            outputs={**prepared.outputs, **outputs},
            sent_bytes=exchange.sent_bytes,
            received_bytes=exchange.received_bytes,
            network_s=network_s,
            was_cold=load_s > 0,
            sent_as=prepared.sent_as,
        )


class _Message(NamedTuple):
    """What is to be sent, as what, and the network's outputs that the head has computed."""

    tensors: tuple[protocol.WireTensor, ...]
    sent_as: str
    outputs: Mapping[str, np.ndarray] = MappingProxyType({})


def _file_message(data: bytes) -> _Message:
    tensor = protocol.WireTensor(IMAGE_INPUT, protocol.bytes_payload(data))
    return _Message((tensor,), "file")


def _outputs(exchange: Exchange) -> dict[str, np.ndarray]:
    try:
        reply = protocol.unpack_reply(exchange.headers, exchange.body)
        return {  # replies are raw, so no tensor is larger than its bytes
            tensor.name: codecs.decode(tensor.payload, limit_bytes=len(tensor.payload.data))
            for tensor in reply.outputs
        }
    except (ProtocolError, CodecError) as error:
        raise BadReplyError(f"reply could not be understood: {error}") from error
