import math

import pytest

from isthmus.types.plan import Rules


def test_the_most_accurate_is_asked_for_by_default_with_a_deadline_or_without():
    assert Rules().objective == Rules(deadline_s=0.1).objective == "most_accurate"
    assert Rules().deadline_s is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "cheapest"}, "one of least_latency, most_accurate"),
        ({"deadline_s": 0.0}, "deadline_s must be a positive number, got 0.0"),
        ({"deadline_s": -1.0}, "deadline_s"),
        ({"deadline_s": math.inf}, "deadline_s"),
        ({"deadline_s": math.nan}, "deadline_s"),
        ({"mode": "only_cloud"}, "prefer_device"),
        ({"max_sent_bytes": -1}, "max_sent_bytes must not be negative, got -1"),
        ({"hedge_above_ratio": 1.5}, "hedge_above_ratio must be from 0 to 1"),
        ({"families": frozenset({"local", "cloud"})}, r"unknown families \['cloud'\]"),
    ],
)
def test_rules_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Rules(**wrong)


def test_only_one_site_narrows_the_families():
    assert Rules(mode="only_device").families == {"local"}
    both = frozenset({"file", "split"})
    assert Rules(mode="only_edge", families=both).families == {"file"}
    assert Rules(mode="prefer_edge", families=both).families == both
