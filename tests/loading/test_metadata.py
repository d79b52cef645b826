import json

import onnx
import pytest

from isthmus.errors import ModelError
from isthmus.loading.metadata import licence_of
from isthmus.loading.onnx_file import load_metadata, load_variant

PIPELINE = {
    "resize_shorter_side_px": 8,
    "crop_px": [4, 6],
    "interpolation": "bilinear",
    "channel_order": "RGB",
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
}
ACCURACY = {"metric": "top1", "ratio": 0.5, "status": "measured", "source": "us"}


@pytest.fixture
def saved(build, tmp_path):
    def save(**metadata):
        model = build([("Relu", "x", "y")], inputs="x", outputs="y")
        onnx.helper.set_model_props(model, {f"isthmus.{k}": v for k, v in metadata.items()})
        path = tmp_path / "lite" / "3" / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())
        return path

    return save


def test_a_file_that_says_nothing(saved):
    variant = load_variant(saved())
    assert (variant.name, variant.task, variant.labels) == ("lite", "", ())
    assert variant.accuracy is None
    assert variant.pipeline is None


def test_a_file_that_says_all(saved):
    path = saved(
        task="animals",
        input_pipeline=json.dumps(PIPELINE),
        accuracy=json.dumps(ACCURACY),
        labels='["cat", "dog"]',
        origin='{"license": "MIT"}',
    )
    variant = load_variant(path, name="other")
    assert (variant.name, variant.task, variant.labels) == ("other", "animals", ("cat", "dog"))
    assert vars(variant.accuracy) == ACCURACY
    assert variant.pipeline.tensor_shape == (1, 3, 4, 6)
    assert licence_of(load_metadata(path)) == "MIT"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", "[cat"),
        ("labels", '"cat"'),
        ("accuracy", "0.7"),
        ("accuracy", json.dumps(ACCURACY | {"ratio": 70})),
        ("accuracy", json.dumps(ACCURACY | {"status": "guessed"})),
        ("accuracy", "{}"),
        ("input_pipeline", "[]"),
        ("input_pipeline", json.dumps(PIPELINE | {"layout": "NHWC"})),
        ("input_pipeline", json.dumps(PIPELINE | {"std": [1, 1, 0]})),
        ("input_pipeline", json.dumps(PIPELINE | {"resize_shorter_side_px": float("inf")})),
        ("input_pipeline", json.dumps(PIPELINE | {"mean": [10**400, 0, 0]})),
        ("labels", "[" * 100_000),
    ],
)
def test_malformed_values_are_refused(saved, key, value):
    with pytest.raises(ModelError, match="model.onnx"):
        load_variant(saved(**{key: value}))
