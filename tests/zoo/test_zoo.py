"""The zoo holds what it says: models that run and answer, photographs with a known origin."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import isthmus_zoo

MODELS_LIMIT_BYTES = 45_000_000
PHOTOGRAPHS = isthmus_zoo.photograph_paths()
FOLDER = Path(isthmus_zoo.__file__).parent
LICENSES = {"CC0-1.0", "CC-BY-4.0", "public domain"}
RECORDS = {
    record["file"]: record
    for record in json.loads((FOLDER / "photographs/origins.json").read_text())["photographs"]
}

CLASSES = {"imagenet-1k": 1000, "fashion-mnist": 10}
ACCURACY = {
    "imagenet-1k": ("imagenet_top1", "published"),
    "fashion-mnist": ("fashion_mnist_top1", "measured"),
}
TASKS = {name: task for task in isthmus_zoo.tasks() for name in isthmus_zoo.model_names(task)}

every_model = pytest.mark.parametrize("name", TASKS)
every_imagenet_model = pytest.mark.parametrize("name", isthmus_zoo.model_names())
every_photograph = pytest.mark.parametrize("file", [path.name for path in PHOTOGRAPHS])


@cache
def model_of(name: str) -> onnx.ModelProto:
    return onnx.load(isthmus_zoo.model_path(name))


def metadata_of(name: str) -> dict[str, str]:
    return {entry.key: entry.value for entry in model_of(name).metadata_props}


@cache
def session_of(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = isthmus_zoo.model_path(name)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def input_of(photograph: Path, pipeline: Mapping[str, Any]) -> np.ndarray:
    with Image.open(photograph) as file:
        image = file.convert("RGB")
    scale = pipeline["resize_shorter_side_px"] / min(image.size)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, filters[pipeline["interpolation"]])
    height, width = pipeline["crop_px"]
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), dtype=np.float32)
    if pipeline["channel_order"] == "BGR":
        pixels = pixels[:, :, ::-1]
    x = (pixels - np.float32(pipeline["mean"])) / np.float32(pipeline["std"])
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None], dtype=np.float32)


@cache
def answer_of(name: str, file: str) -> str:
    """Return the first synonym of a model's top-1 label for a photograph."""
    metadata = metadata_of(name)
    x = input_of(FOLDER / "photographs" / file, json.loads(metadata["isthmus.input_pipeline"]))
    (logits,) = session_of(name).run(["logits"], {"input": x})
    assert logits.shape == (1, 1000)
    label: str = json.loads(metadata["isthmus.labels"])[int(logits[0].argmax())]
    return label.partition(",")[0]


class TestModels:
    def test_all_together_are_small(self):
        paths = [isthmus_zoo.model_path(name) for name in TASKS]
        assert sum(path.stat().st_size for path in paths) <= MODELS_LIMIT_BYTES

    @pytest.mark.parametrize("task", isthmus_zoo.tasks())
    def test_no_file_is_unlisted(self, task):
        names = isthmus_zoo.model_names(task)
        files = {path.name for path in isthmus_zoo.model_path(names[0]).parent.iterdir()}
        assert files == {f"{name}.onnx" for name in names}

    @pytest.mark.parametrize("task", isthmus_zoo.tasks())
    def test_names_are_in_order_of_growing_accuracy(self, task):
        names = isthmus_zoo.model_names(task)
        ratios = [json.loads(metadata_of(name)["isthmus.accuracy"])["ratio"] for name in names]
        assert ratios == sorted(set(ratios))

    @every_model
    def test_is_plain_onnx_of_static_shape(self, name):
        model = model_of(name)
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version <= 10
        assert [(entry.domain, entry.version <= 17) for entry in model.opset_import] == [("", True)]
        (x,), (y,) = model.graph.input, model.graph.output
        height, width = json.loads(metadata_of(name)["isthmus.input_pipeline"])["crop_px"]
        assert (x.name, y.name) == ("input", "logits")
        assert [d.dim_value for d in x.type.tensor_type.shape.dim] == [1, 3, height, width]
        assert [d.dim_value for d in y.type.tensor_type.shape.dim] == [1, CLASSES[TASKS[name]]]

    @every_model
    def test_has_compute_nodes_only(self, name):
        kinds = {node.op_type for node in model_of(name).graph.node}
        assert kinds <= {
            "Add", "Cast", "Clip", "Concat", "Conv", "Flatten", "Gemm",
            "GlobalAveragePool", "MaxPool", "Relu",
        }  # fmt: skip

    @every_model
    def test_stores_weights_as_float16_behind_a_cast_and_biases_as_float32(self, name):
        graph = model_of(name).graph
        cast = {node.input[0] for node in graph.node if node.op_type == "Cast"}
        assert cast == {tensor.name for tensor in graph.initializer if len(tensor.dims) >= 2}
        for tensor in graph.initializer:
            is_weight = len(tensor.dims) >= 2
            expected = onnx.TensorProto.FLOAT16 if is_weight else onnx.TensorProto.FLOAT
            assert tensor.data_type == expected, tensor.name

    @every_model
    def test_names_are_readable_and_unique(self, name):
        nodes = [node.name for node in model_of(name).graph.node]
        assert len(set(nodes)) == len(nodes)
        assert all(re.fullmatch(r"(/[A-Za-z0-9_.]+){2,4}", node) for node in nodes)
        assert max(map(len, nodes)) <= 60

    @every_model
    def test_metadata_is_complete(self, name):
        model, metadata = model_of(name), metadata_of(name)
        assert model.producer_name == "isthmus-zoo"
        assert model.producer_version
        assert model.domain
        assert model.doc_string
        assert metadata["model_author"]
        assert metadata["Image.ColorSpaceGamma"] == "SRGB"
        assert metadata["Image.NominalPixelRange"] == "NominalRange_0_255"
        assert metadata["isthmus.task"] == TASKS[name]
        origin = json.loads(metadata["isthmus.origin"])
        assert set(origin) == {"package", "version", "file", "sha256", "license"}
        assert origin["license"] == metadata["model_license"]
        assert re.fullmatch("[0-9a-f]{64}", origin["sha256"])
        accuracy = json.loads(metadata["isthmus.accuracy"])
        assert (accuracy["metric"], accuracy["status"]) == ACCURACY[TASKS[name]]
        assert accuracy["source"]
        assert len(json.loads(metadata["isthmus.labels"])) == CLASSES[TASKS[name]]

    @every_model
    def test_pipeline_is_complete(self, name):
        metadata = metadata_of(name)
        pipeline = json.loads(metadata["isthmus.input_pipeline"])
        assert pipeline["layout"] == "NCHW"
        assert pipeline["interpolation"] in {"bilinear", "bicubic"}
        assert len(pipeline["mean"]) == len(pipeline["std"]) == 3
        share = 0.875 if TASKS[name] == "imagenet-1k" else 1
        assert pipeline["resize_shorter_side_px"] == round(pipeline["crop_px"][0] / share)
        formats = {"RGB": "Rgb8", "BGR": "Bgr8"}
        assert metadata["Image.BitmapPixelFormat"] == formats[pipeline["channel_order"]]

    @every_model
    def test_input_is_denoted_an_image(self, name):
        kind = model_of(name).graph.input[0].type
        assert kind.denotation == "IMAGE"
        assert [dimension.denotation for dimension in kind.tensor_type.shape.dim] == [
            "DATA_BATCH",
            "DATA_CHANNEL",
            "DATA_FEATURE",
            "DATA_FEATURE",
        ]

    @every_imagenet_model
    def test_answers_a_sensible_label(self, name):
        wanted = {file: record["expected_labels"] for file, record in RECORDS.items()}
        wrong = {
            file
            for file, labels in wanted.items()
            if labels and answer_of(name, file) not in labels
        }
        # SqueezeNet, the least accurate one, takes these for a gong, a strawberry and a spindle.
        known = {"drum.jpg", "fig.jpg", "paintbrushes.jpg"} if name == "squeezenet-1.1" else set()
        assert wrong <= known

    @every_model
    def test_card_is_of_this_file(self, name):
        cards = FOLDER.parents[1] / "MODELS.md"
        if not cards.exists():
            pytest.skip("the cards lie beside the sources, not in an installed package")
        digest = hashlib.sha256(isthmus_zoo.model_path(name).read_bytes()).hexdigest()
        assert digest in cards.read_text()


class TestPhotographs:
    def test_no_photograph_is_unlisted(self):
        images = {path.name for path in (FOLDER / "photographs").iterdir()}
        assert images == {*RECORDS, "origins.json", "ORIGINS.md"}

    @every_photograph
    def test_is_the_file_that_its_record_describes(self, file):
        record, path = RECORDS[file], FOLDER / "photographs" / file
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]
        assert path.stat().st_size == record["bytes"]
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert image.size == (record["width_px"], record["height_px"])

    @every_photograph
    def test_has_an_origin_and_a_licence_that_allows_shipping(self, file):
        record = RECORDS[file]
        assert record["license"] in LICENSES
        assert record["license_evidence"]
        assert record["author"]
        assert record["changes"]
        assert all(record["source"][key] for key in ("package", "version", "file", "sha256"))
        assert file in (FOLDER / "photographs/ORIGINS.md").read_text()

    @every_photograph
    def test_was_not_enlarged(self, file):
        record = RECORDS[file]
        left, top, right, bottom = record["crop_px"]
        assert 0 <= left < right <= record["source"]["width_px"]
        assert 0 <= top < bottom <= record["source"]["height_px"]
        assert record["width_px"] <= right - left
        assert record["height_px"] <= bottom - top
        assert record["quality"] is None or record["quality"] <= 97

    @every_photograph
    def test_untouched_original_is_byte_for_byte_its_source(self, file):
        record = RECORDS[file]
        assert (record["quality"] is None) == (record["sha256"] == record["source"]["sha256"])

    def test_each_has_an_original_of_its_own(self):
        assert len({record["source"]["sha256"] for record in RECORDS.values()}) == len(RECORDS)

    def test_attributions_are_in_the_notice(self):
        notice = FOLDER.parents[1] / "NOTICE"
        if not notice.exists():
            pytest.skip("the notice lies beside the sources, not in an installed package")
        text = notice.read_text()
        for file, record in RECORDS.items():
            if record["license"] == "CC-BY-4.0":
                entry = text[text.index(f"  {file} ") :]
                assert f'"{record["title"]}" by {record["author"]}' in entry.splitlines()[0]
                assert record["changes"] == entry.splitlines()[1].strip()

    def test_sizes_are_spread_as_promised(self):
        large = [r for r in RECORDS.values() if r["width_px"] * r["height_px"] >= 8_000_000]
        camera = [r for r in RECORDS.values() if r not in large and r["width_px"] >= 1200]
        assert len(large) == 2
        assert all(record["bytes"] <= 2_000_000 for record in large)
        assert len(camera) >= 12
        assert all(50_000 <= record["bytes"] <= 400_000 for record in camera)

    def test_both_uses_span_the_sizes(self):
        for use in ("calibration", "request"):
            sizes = [path.stat().st_size for path in isthmus_zoo.photograph_paths(use)]
            assert min(sizes) < 150_000
            assert max(sizes) > 300_000


class TestPublicNames:
    def test_unknown_model_is_refused_with_the_known_names(self):
        with pytest.raises(ValueError, match=r"'resnet'.*squeezenet-1\.1.*efficientnet-lite2"):
            isthmus_zoo.model_path("resnet")

    def test_a_path_is_not_a_model_name(self):
        with pytest.raises(ValueError, match="no model"):
            isthmus_zoo.model_path("../models/mobilenet-v2")

    def test_uses_divide_the_photographs(self):
        calibration = isthmus_zoo.photograph_paths("calibration")
        request = isthmus_zoo.photograph_paths("request")
        assert len(calibration) == 4
        assert tuple(sorted(calibration + request)) == PHOTOGRAPHS

    def test_unknown_task_is_refused_with_the_known_tasks(self):
        for asked in (
            isthmus_zoo.model_names,
            lambda task: isthmus_zoo.photograph_paths(task=task),
        ):
            with pytest.raises(ValueError, match=r"'mnist'.*imagenet-1k, fashion-mnist"):
                asked("mnist")

    def test_unknown_use_is_refused_with_the_known_uses(self):
        with pytest.raises(ValueError, match="calibration, request"):
            isthmus_zoo.photograph_paths("training")


def test_readme_tells_the_truth():
    readme = FOLDER.parents[1] / "README.md"
    if not readme.exists():
        pytest.skip("the README lies beside the sources, not in an installed package")
    text = readme.read_text()
    assert f"{len(PHOTOGRAPHS)} real\nphotographs" in text
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(readme), "exec"), names)
    for name in TASKS:
        size = isthmus_zoo.model_path(name).stat().st_size
        accuracy = json.loads(metadata_of(name)["isthmus.accuracy"])["ratio"]
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        assert f"{size / 1e6:.1f} MB" in row
        assert f"{accuracy:.{3 if TASKS[name] == 'imagenet-1k' else 4}f}" in row
