from dataclasses import fields

import pytest

from isthmus.types.outcome import Timeline
from isthmus.types.plan import STAGES


def test_the_total_is_the_sum_of_all_stages():
    names = [part.name for part in fields(Timeline)]
    timeline = Timeline(**{name: 2.0**i for i, name in enumerate(names)})
    assert timeline.total_s == 2.0 ** len(names) - 1
    assert Timeline().total_s == 0
    assert Timeline(head_s=0.5, unaccounted_s=-0.1).total_s == pytest.approx(0.4)


def test_every_stage_of_a_plan_has_its_place_in_the_timeline():
    names = {part.name for part in fields(Timeline)}
    assert {f"{stage}_s" for stage in STAGES} < names
