"""What the recovery study makes of its observations; the requests themselves take a minute."""

import json

import pytest

from isthmus.lab.studies.recovery import FACTOR, PHASE, RecoveryStudy, Sample, draw


def sample(predicted_s, observed_s):
    return Sample(predicted_s, observed_s, device=1.0, server=1.0, uplink_bytes_per_s=1e6)


@pytest.fixture
def study():
    """Three requests at 0.1 s are predicted although they take 0.3 s, then all are right."""
    before = [sample(0.1, 0.1)] * PHASE
    during = [sample(0.1, 0.1 * FACTOR)] * 3 + [sample(0.1 * FACTOR, 0.1 * FACTOR)] * (PHASE - 3)
    after = [sample(0.1 * FACTOR, 0.1)] * 3 + [sample(0.1, 0.1)] * (PHASE - 3)
    return RecoveryStudy({"device": (*before, *during, *after)}, {"server": "one core"})


def test_the_record_tells_how_large_the_step_and_the_errors_were(study):
    record = json.loads(json.dumps(study.record()))
    found = record["terms"]["device"]
    assert found["latency_ratio"] == pytest.approx(FACTOR)
    assert found["error_ratio"] == pytest.approx(
        {
            "before": 0,
            "first_slowed": 1 - 1 / FACTOR,
            "after_ten": 0,
            "first_back": FACTOR - 1,
            "after_ten_back": 0,
        }
    )
    assert len(found["samples"]) == 3 * PHASE
    assert record["left_out"] == {"server": "one core"}


def test_the_figure_is_drawn(study, tmp_path):
    draw(study, tmp_path / "recovery.svg")
    text = (tmp_path / "recovery.svg").read_text()
    assert "the device, three times slower (emulated)" in text
