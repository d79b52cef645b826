import numpy as np
import pytest
from PIL import Image

from isthmus.edge.data_plane import DataPlane
from isthmus.edge.residency import Residency
from isthmus.errors import (
    BusyError,
    CodecError,
    CutError,
    GraphMismatchError,
    ImageError,
    ProtocolError,
    RepositoryError,
)
from isthmus.loading.onnx_file import load_variant
from isthmus.runtime import codecs, image
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.runtime.protocol import InferRequest, RequestedOutput, WireTensor, bytes_payload
from isthmus.runtime.session import Session
from isthmus.types.codec import Payload
from isthmus.types.cut import Cut

RAW, U8 = codecs.CODECS["raw"], codecs.CODECS["u8"]
SOME_INPUT = np.random.default_rng(3).normal(size=(1, 3, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def residency(repository):
    loaded = Residency(repository.directory, threads=1)
    loaded.load_all()
    return loaded


@pytest.fixture(scope="module")
def plane(residency):
    return DataPlane(residency, version="9.9")


@pytest.fixture(scope="module")
def reference(repository):
    with Session(repository.photo) as session:
        yield lambda array: session.run({"image_in": array})["scores"]


@pytest.fixture(scope="module")
def pipeline(repository):
    return load_variant(repository.photo).pipeline


def ask(plane, name, *tensors, outputs=(), version=""):
    answer = plane.infer(name, version, InferRequest(tensors, id="7", outputs=outputs))
    return answer, {
        tensor.name: codecs.decode(tensor.payload, limit_bytes=1 << 20)
        for tensor in answer.reply.outputs
    }


def a_photograph():
    rng = np.random.default_rng(4)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return IMAGE_CODECS["jpeg-85"].encode(
        np.asarray(coarse.resize((90, 60), Image.Resampling.BICUBIC))
    )


def test_a_tensor_is_answered_like_the_network_does(plane, reference):
    answer, outputs = ask(plane, "photo", WireTensor("image_in", RAW.encode(SOME_INPUT)))
    assert np.array_equal(outputs["scores"], reference(SOME_INPUT))
    assert (answer.reply.model_name, answer.reply.model_version) == ("photo", "3")
    assert answer.reply.id == "7"
    assert answer.reply.parameters == {"model_variant": "photo", "cache": "hit", "load_ms": 0}
    assert answer.decode_s > 0
    assert answer.infer_s > 0


@pytest.mark.parametrize("codec", ["u8", "u8+zstd", "zstd"])
def test_an_encoded_tensor_is_decoded_first(plane, reference, codec):
    payload = codecs.CODECS[codec].encode(SOME_INPUT)
    _, outputs = ask(plane, "photo", WireTensor("image_in", payload))
    expected = reference(codecs.decode(payload, limit_bytes=1 << 20))
    assert np.array_equal(outputs["scores"], expected)


def test_pixels_give_exactly_what_the_normalised_tensor_gives(plane, reference, pipeline):
    planes = np.random.default_rng(5).integers(0, 256, (1, 3, 12, 12), dtype=np.uint8)
    payload = codecs.encode_pixels(planes, pipeline)
    _, outputs = ask(plane, "photo", WireTensor("image_in", payload))
    assert np.array_equal(outputs["scores"], reference(image.normalise(planes, pipeline)))


def test_a_photograph_goes_through_the_whole_pipeline(plane, reference, pipeline):
    photograph = a_photograph()
    _, outputs = ask(plane, "photo.image", WireTensor("image", bytes_payload(photograph)))
    pixels = image.fit(image.decode(photograph, shorter_side_px=16), pipeline)
    expected = reference(image.normalise(image.planar(pixels, pipeline), pipeline))
    assert np.array_equal(outputs["scores"], expected)


def test_a_cropped_photograph_is_only_normalised(plane, reference, pipeline):
    pixels = image.fit(image.decode(a_photograph(), shorter_side_px=16), pipeline)
    small = IMAGE_CODECS["jpeg-85"].encode(pixels)
    sent = WireTensor("image", bytes_payload(small, cropped=True))
    _, outputs = ask(plane, "photo.image", sent)
    seen = image.decode_cropped(small, pipeline)
    expected = reference(image.normalise(image.planar(seen, pipeline), pipeline))
    assert np.array_equal(outputs["scores"], expected)
    whole = WireTensor("image", bytes_payload(a_photograph(), cropped=True))
    with pytest.raises(ImageError, match="must be 12 x 12"):
        ask(plane, "photo.image", whole)


def test_a_tail_continues_where_the_head_stopped(plane, repository, reference):
    cut = {"tensors": ["mid"], "graph_sha256": repository.photo_sha256}
    made = plane.make_cut("photo", cut)
    name = f"photo.tail-{Cut.of(repository.photo_sha256, ['mid']).id}"
    assert made == {
        "model": name,
        "inputs": [{"name": "mid", "datatype": "FP32", "shape": [1, 4, 12, 12]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 5]}],
    }
    assert plane.known_cut("photo", cut) == made
    assert plane.make_cut("photo", cut) == made
    mid = np.random.default_rng(6).random((1, 4, 12, 12), np.float32)
    _, outputs = ask(plane, name, WireTensor("mid", RAW.encode(mid)))
    assert outputs["scores"].shape == (1, 5)
    assert plane.model_metadata(name)["inputs"] == made["inputs"]


def test_the_tail_at_the_input_is_the_whole_network(plane, repository, reference):
    cut = {"tensors": ["image_in"], "graph_sha256": repository.photo_sha256}
    made = plane.make_cut("photo", cut)
    _, outputs = ask(plane, made["model"], WireTensor("image_in", RAW.encode(SOME_INPUT)))
    assert np.allclose(outputs["scores"], reference(SOME_INPUT), atol=1e-5)


def test_cuts_that_cannot_be_made(plane, repository):
    good = {"tensors": ["mid"], "graph_sha256": repository.photo_sha256}
    with pytest.raises(GraphMismatchError, match="same ONNX file"):
        plane.make_cut("photo", {**good, "graph_sha256": repository.plain_sha256})
    with pytest.raises(RepositoryError, match="no model 'nobody'"):
        plane.make_cut("nobody", good)
    with pytest.raises(RepositoryError, match="only a part"):
        plane.make_cut("photo.image", good)
    for tensors in ([], ["nothing"], ["scores"]):
        with pytest.raises(CutError):
            plane.make_cut("photo", {**good, "tensors": tensors})
    for strange in ({}, {"tensors": "mid"}, {"tensors": [1]}, {"graph_sha256": 5}):
        with pytest.raises(ProtocolError):
            plane.make_cut("photo", {**good, "tensors": None, **strange})


@pytest.mark.parametrize(
    ("tensor", "error", "says"),
    [
        (WireTensor("x", RAW.encode(SOME_INPUT)), ProtocolError, "expected the inputs"),
        (
            WireTensor("image_in", RAW.encode(SOME_INPUT[:, :2])),
            ProtocolError,
            r"must be FP32 \[1, 3, 12, 12\], got FP32 \[1, 2, 12, 12\]",
        ),
        (
            WireTensor("image_in", RAW.encode(SOME_INPUT.astype(np.int32))),
            ProtocolError,
            "got INT32",
        ),
        (
            WireTensor("image_in", RAW.encode(SOME_INPUT.astype(np.float64))),
            CodecError,
            "at most 1728",
        ),
        (
            WireTensor("image_in", Payload("FP32", (1, 3, 12, 12), b"", {"codec": "lz4"})),
            CodecError,
            "unknown codec",
        ),
        (
            WireTensor("image_in", Payload("BYTES", (1, 3, 12, 12), b"", {})),
            CodecError,
            "BYTES",
        ),
    ],
)
def test_wrong_inputs_are_told_what_was_expected(plane, tensor, error, says):
    with pytest.raises(error, match=says):
        ask(plane, "photo", tensor)


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (bytes_payload(b""), ImageError),
        (bytes_payload(b"no image"), ImageError),
        (RAW.encode(SOME_INPUT), ProtocolError),
        (Payload("BYTES", (2,), bytes(8), {}), ProtocolError),
    ],
)
def test_what_is_no_photograph(plane, payload, error):
    with pytest.raises(error):
        ask(plane, "photo.image", WireTensor("image", payload))


def test_outputs_can_be_chosen(plane):
    sent = WireTensor("image_in", RAW.encode(SOME_INPUT))
    _, outputs = ask(plane, "photo", sent, outputs=(RequestedOutput("scores"),))
    assert list(outputs) == ["scores"]
    with pytest.raises(ProtocolError, match="no output 'other'"):
        ask(plane, "photo", sent, outputs=(RequestedOutput("other"),))


def test_models_and_versions_are_found_by_name(plane):
    assert plane.unit("photo", "3").name == "photo"
    with pytest.raises(RepositoryError, match="served in version 3"):
        plane.unit("photo", "1")
    with pytest.raises(RepositoryError, match="the repository has photo, plain"):
        plane.unit("nobody")
    with pytest.raises(RepositoryError):
        plane.unit("plain.image")


def test_metadata(plane):
    assert plane.metadata()["name"] == "isthmus"
    assert plane.metadata()["threads"] == 1
    assert {"binary_tensor_data", "parameters", "isthmus"} <= set(plane.metadata()["extensions"])
    assert plane.model_metadata("photo.image") == {
        "name": "photo.image",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 5]}],
    }


def test_before_loading_models_are_cold_and_requests_wait(repository):
    residency = Residency(repository.directory, threads=1)
    plane = DataPlane(residency, version="9.9")
    assert not plane.is_ready
    assert {entry["state"] for entry in plane.index()} == {"UNAVAILABLE"}
    assert plane.status()["photo"]["is_warm"] is False
    assert plane.status()["photo"]["load_s"] > 0
    with pytest.raises(BusyError, match="still being loaded"):
        plane.infer("photo", "", InferRequest(()))
    with pytest.raises(BusyError):
        plane.make_cut("photo", {"tensors": ["mid"], "graph_sha256": "0"})
    residency.load_all()
    assert plane.is_ready
    assert plane.status()["photo"] == {"is_warm": True, "load_s": 0.0}
    names = {entry["name"]: entry["state"] for entry in plane.index()}
    assert names == {"photo": "READY", "photo.image": "READY", "plain": "READY"}
