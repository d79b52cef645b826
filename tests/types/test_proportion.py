import math

import pytest

from isthmus.types.proportion import Proportion


@pytest.mark.parametrize(("counted", "of"), [(995, 1000), (5, 10), (0, 10), (1, 1), (17, 400)])
def test_the_bounds_are_the_shares_from_which_the_count_is_1_96_deviations_away(counted, of):
    low, high = Proportion(counted, of).interval  # Wilson's definition, solved for nothing
    for bound in (low, high):
        if bound not in (0.0, 1.0):
            deviation = math.sqrt(bound * (1 - bound) / of)
            assert abs(counted / of - bound) == pytest.approx(1.959964 * deviation, rel=1e-6)
    assert 0 <= low <= counted / of <= high <= 1
    assert (low == 0) == (counted == 0)
    assert (high == 1) == (counted == of)


def test_nothing_is_known_before_counting():
    assert Proportion(0, 0).interval == (0.0, 1.0)
    assert Proportion(0, 0).ratio == 0.0


@pytest.mark.parametrize(("counted", "of"), [(-1, 3), (4, 3)])
def test_what_is_no_share_is_refused(counted, of):
    with pytest.raises(ValueError, match="no proportion"):
        Proportion(counted, of)
