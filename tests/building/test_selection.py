import pytest

from isthmus.building.selection import Tolerance


@pytest.mark.parametrize("wrong", [{"ratio": -0.1}, {"ratio": 1.1}, {"ratio": float("nan")}])
def test_a_tolerance_is_a_share(wrong):
    with pytest.raises(ValueError, match="tolerance"):
        Tolerance(**wrong)
