import dataclasses
import json
import math

import pytest

from isthmus.types.variant import Accuracy, InputPipeline

GOOD = {
    "resize_shorter_side_px": 256,
    "crop_px": [224, 200],
    "interpolation": "bicubic",
    "channel_order": "BGR",
    "mean": [103.5, 116, 123.7],
    "std": [1, 57.1, 57.4],
}


def test_json_round_trip():
    pipeline = InputPipeline.from_json(GOOD)
    assert pipeline.crop_px == (224, 200)
    assert pipeline.tensor_shape == (1, 3, 224, 200)
    again = json.loads(json.dumps(dataclasses.asdict(pipeline)))
    assert InputPipeline.from_json(again) == pipeline
    assert hash(pipeline) == hash(InputPipeline.from_json(again))


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(key):
    with pytest.raises(ValueError, match=key):
        InputPipeline.from_json({k: v for k, v in GOOD.items() if k != key})


@pytest.mark.parametrize(
    "change",
    [
        {"crop_px": [300, 200]},
        {"crop_px": [0, 200]},
        {"crop_px": [224]},
        {"crop_px": 224},
        {"resize_shorter_side_px": 0},
        {"resize_shorter_side_px": "large"},
        {"interpolation": "nearest"},
        {"channel_order": "GBR"},
        {"mean": [1, 2]},
        {"std": [1, 2, 0]},
        {"std": [1, 2, -3]},
        {"std": None},
        {"mean": ["a", "b", "c"]},
        {"layout": "NHWC"},
        {"mean": [float("nan"), 0, 0]},
        {"std": [float("nan"), 1, 1]},
        {"std": [1, 1, float("inf")]},
    ],
)
def test_what_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match=r"\w"):
        InputPipeline.from_json({**GOOD, **change})


def test_nchw_may_be_said():
    assert InputPipeline.from_json({**GOOD, "layout": "NCHW"}) == InputPipeline.from_json(GOOD)


@pytest.mark.parametrize(
    "wrong", [{"ratio": 70}, {"ratio": -0.1}, {"ratio": math.nan}, {"status": "guessed"}]
)
def test_an_accuracy_is_a_share_and_says_whose(wrong):
    with pytest.raises(ValueError, match="accuracy (ratio|status)"):
        Accuracy(**{"metric": "top1", "ratio": 0.7, "status": "measured"} | wrong)
