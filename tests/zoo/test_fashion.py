"""The Fashion-MNIST networks and images of the zoo: what is said of them is counted here again."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import isthmus_zoo
from isthmus.building.agreement import AgreementCounter, Loss
from isthmus.building.crops import Crops
from isthmus.building.ledger import Ledger
from isthmus.loading.onnx_file import load_graph, load_variant, read_model
from isthmus.loading.split import split_model

TASK = "fashion-mnist"
IMAGES = isthmus_zoo.photograph_paths(task=TASK)
RECORDS = json.loads((IMAGES[0].parent / "origins.json").read_text())["photographs"]
LABELS = {record["file"]: record["expected_labels"][0] for record in RECORDS}

every_model = pytest.mark.parametrize("name", isthmus_zoo.model_names(TASK))


class TestImages:
    def test_no_file_is_unlisted(self):
        files = {path.name for path in IMAGES[0].parent.iterdir()}
        assert files == {*LABELS, "origins.json", "ORIGINS.md"}

    def test_are_grey_png_files_of_half_a_kilobyte(self):
        for path in IMAGES:
            with Image.open(path) as image:
                assert (image.format, image.mode, image.size) == ("PNG", "L", (28, 28))
            assert path.stat().st_size < 1000

    def test_names_tell_number_and_class(self):
        for k, path in enumerate(IMAGES):
            number, _, name = path.stem.partition("-")
            assert int(number) == k
            assert name == LABELS[path.name].lower().replace("/", "-").replace(" ", "-")

    def test_all_classes_are_there(self):
        counts = Counter(LABELS.values())
        assert len(counts) == 10
        assert min(counts.values()) >= 80

    def test_uses_divide_them(self):
        calibration, request = (
            isthmus_zoo.photograph_paths(use, task=TASK) for use in ("calibration", "request")
        )
        assert len(calibration) == 4
        assert sorted(calibration + request) == list(IMAGES)

    def test_origin_and_licence_are_told(self):
        origins = (IMAGES[0].parent / "ORIGINS.md").read_text()
        assert "Zalando" in origins
        assert "MIT License" in origins
        notice = Path(isthmus_zoo.__file__).parents[2] / "NOTICE"
        if notice.exists():
            assert "Fashion-MNIST" in notice.read_text()


class TestModels:
    @every_model
    def test_the_three_channels_weigh_the_same(self, name):
        graph = onnx.load(isthmus_zoo.model_path(name)).graph
        first = next(t for t in graph.initializer if t.name == "conv1.weight")
        weight = numpy_helper.to_array(first)
        assert weight.shape[1] == 3
        assert np.array_equal(weight[:, :1].repeat(3, axis=1), weight)

    @every_model
    def test_are_as_accurate_on_the_images_here_as_on_all(self, name):
        path = isthmus_zoo.model_path(name)
        graph, variant = load_graph(path, name=name), load_variant(path)
        crops = Crops(IMAGES, enough=len(IMAGES))
        with AgreementCounter(variant, read_model(path), graph, []) as counter:
            right = sum(
                variant.labels[counter.answers([], crops, k).whole["logits"]]
                == LABELS[crops.path(k).name]
                for k in range(len(IMAGES))
            )
        assert variant.accuracy.ratio > 0.9
        assert right / len(IMAGES) == pytest.approx(variant.accuracy.ratio, abs=0.025)

    def test_the_counts_are_what_counting_gives(self):
        name = "fashion-lenet"
        path = isthmus_zoo.model_path(name)
        graph, model = load_graph(path, name=name), read_model(path)
        split = split_model(model, graph, ["/pool1/MaxPool_output_0"])
        losses = [Loss("jpeg-75"), Loss("u8", split.cut.id, split.cut.tensors)]
        crops = Crops(IMAGES, enough=len(IMAGES))
        ledger = Ledger(known=isthmus_zoo.agreement_path())
        with AgreementCounter(load_variant(path), model, graph, [split]) as counter:
            counted = counter.count(losses, crops, images=len(IMAGES))
        for loss in losses:
            kept = ledger.find(graph.sha256, crops, loss, images=1000, may_differ=1000)
            assert kept is not None
            # Another processor adds up in another order: ties may fall the other way.
            assert abs(counted[loss].counted - kept.counted) <= 2
        assert counted[losses[0]].counted < counted[losses[1]].counted < len(IMAGES) + 1
