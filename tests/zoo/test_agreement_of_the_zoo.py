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


@pytest.mark.parametrize("name", isthmus_zoo.model_names())
def test_a_build_with_the_defaults_has_nothing_to_count(name):
    graph = load_graph(isthmus_zoo.model_path(name), name=name)
    crops = Crops(isthmus_zoo.photograph_paths())
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
    assert {entry["images"] for entry in entries} == {1000}
    assert {entry["photographs"] for entry in entries} == {len(isthmus_zoo.photograph_paths())}
