"""Which of the known plans is best where, and which differences are but rounding."""

import pytest

from isthmus.planning.envelope import STATED_CONE, Cone, Envelope, cost_s

CONE = Cone(s_per_byte=(0.0, 1.0), server_slowdown=(0.5, 2.0))
ROUNDED = (0.1 + 0.2, 0.7 + 0.1, 3 * 0.4)  # each an ulp beside the next line's
EXACT = (0.3, 0.8, 1.2)


SCALES = [2.0**-30, 1.0, 2.0**30]


def times(scale, costs):
    return tuple(scale * value for value in costs)


@pytest.mark.parametrize("scale", SCALES)
def test_plans_that_differ_by_rounding_are_one(scale):
    rounded, exact = times(scale, ROUNDED), times(scale, EXACT)
    assert all(one != other for one, other in zip(rounded, exact, strict=True))
    for first, second in ((rounded, exact), (exact, rounded)):
        envelope = Envelope(CONE)
        assert envelope.add(0, first)
        assert not envelope.add(1, second)
        assert envelope.members == (0,)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("better", [1e-10, 1e-6, 1e-3])
def test_a_plan_that_is_better_by_more_than_rounding_takes_the_cell(better, scale):
    envelope = Envelope(CONE)
    envelope.add(0, times(scale, EXACT))
    assert envelope.add(1, times(scale * (1 - better), EXACT))
    assert envelope.members == (1,)


@pytest.mark.parametrize("better", [1e-10, 1e-6, 1e-3])
def test_a_plan_that_is_better_by_little_in_one_place_has_a_cell_there(better):
    envelope = Envelope(CONE)
    envelope.add(0, (1.0, 0.0, 1.0))
    envelope.add(1, (0.5, 0.0, 1.5))  # equal where the server's slowdown is 1
    # Better than both just there: by `better` of what they cost.
    assert envelope.add(2, (0.75, 0.0, 1.25 - 2 * better))
    assert envelope.members == (0, 1, 2)
    at = envelope.middle(2)
    assert cost_s((0.75, 0.0, 1.25 - 2 * better), at) < min(
        cost_s((1.0, 0.0, 1.0), at), cost_s((0.5, 0.0, 1.5), at)
    )


def test_a_plan_on_the_line_between_two_others_has_no_cell():
    envelope = Envelope(STATED_CONE)
    envelope.add(0, (0.1 * 3, 3e5, 0.1))
    envelope.add(1, (0.7, 1e5, 0.1))
    middle = ((0.1 * 3 + 0.7) / 2, 2e5, 0.1)
    assert not envelope.add(2, middle)
    assert envelope.add(3, (middle[0] * (1 - 1e-6), *middle[1:]))
