"""The counts that the zoo ships: of its networks, its photographs, all the cuts of a build."""

import json

import pytest

import isthmus_zoo
from isthmus.building.agreement import Loss
from isthmus.building.crops import Crops
from isthmus.building.ledger import Ledger
from isthmus.building.selection import Tolerance
from isthmus.loading.onnx_file import load_graph
from isthmus.planning.candidates import candidates
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.types.cut import Cut

TOLERANCE = Tolerance()
TASKS = {name: task for task in isthmus_zoo.tasks() for name in isthmus_zoo.model_names(task)}


@pytest.mark.parametrize("name", TASKS)
def test_a_build_with_the_defaults_has_nothing_to_count(name):
    graph = load_graph(isthmus_zoo.model_path(name), name=name)
    crops = Crops(isthmus_zoo.photograph_paths(task=TASKS[name]), enough=TOLERANCE.images)
    ledger = Ledger(known=isthmus_zoo.agreement_path())
    losses = [Loss(codec.name) for codec in IMAGE_CODECS.values() if not codec.is_lossless]
    for tensors in candidates(graph, limit=8).cuts:
        cut = Cut.of(graph.sha256, tensors, graph.fixed_shapes)
        has_channels = all(len(graph.tensors[tensor].shape) > 2 for tensor in cut.tensors)
        names = ("u8", "u8c", "fp16") if has_channels else ("u8", "fp16")
        losses += [Loss(codec, cut.id, cut.tensors) for codec in names]
    lacking = [
        loss
        for loss in losses
        if ledger.find(
            graph.sha256, crops, loss, images=TOLERANCE.images, may_differ=TOLERANCE.may_differ
        )
        is None
    ]
    assert not lacking, (
        "count them with: isthmus build MODELS -o app.isthmus "
        "--agreement zoo/src/isthmus_zoo/agreement.json"
    )


def test_all_was_counted_to_the_end():
    entries = json.loads(isthmus_zoo.agreement_path().read_text())["counts"]
    found = {(TASKS[e["network"]], e["photographs"], e["images"]) for e in entries}
    assert found == {
        ("imagenet-1k", 17, 1000),
        ("fashion-mnist", 1000, 1000),  # those that the zoo has
        ("fashion-mnist", 10_000, 10_000),  # all of the test images
    }
    assert len(isthmus_zoo.photograph_paths()) == 17
    assert len(isthmus_zoo.photograph_paths(task="fashion-mnist")) == 1000
