import math

import pytest

from isthmus.errors import ConditionsError
from isthmus.lab.emulation import SlowedPace


class LateClock:
    """A clock that only sleeping moves; each sleep lasts a little longer than was asked."""

    def __init__(self, late_s: float) -> None:
        self.now = 100.0
        self.late_s = late_s
        self.asked: list[float] = []

    def now_s(self) -> float:
        return self.now

    def sleep(self, duration_s: float) -> None:
        self.asked.append(duration_s)
        self.now += duration_s + self.late_s


@pytest.mark.parametrize(("factor", "busy_s"), [(3.0, 0.040), (1.5, 0.010), (10.0, 0.0002)])
def test_a_stage_takes_factor_times_as_long(factor: float, busy_s: float) -> None:
    clock = LateClock(late_s=0.0001)
    SlowedPace(factor, sleep=clock.sleep, now_s=clock.now_s).after(busy_s)
    waited_s = clock.now - 100.0
    assert waited_s >= (factor - 1) * busy_s - 1e-9
    assert waited_s <= (factor - 1) * busy_s + clock.late_s + 1e-9
    assert min(clock.asked) >= 0


@pytest.mark.parametrize(("factor", "busy_s"), [(1.0, 0.040), (3.0, 0.0)])
def test_nothing_to_wait_for_does_not_sleep(factor: float, busy_s: float) -> None:
    clock = LateClock(late_s=0.0001)
    SlowedPace(factor, sleep=clock.sleep, now_s=clock.now_s).after(busy_s)
    assert clock.asked == []


@pytest.mark.parametrize("factor", [0.99, 0.0, -1.0, math.nan, math.inf])
def test_refuses_factors_below_one(factor: float) -> None:
    with pytest.raises(ConditionsError, match="slower"):
        SlowedPace(factor)
