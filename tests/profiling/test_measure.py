import math

import numpy as np
import pytest

from isthmus.profiling.measure import measure_in_turn, measurement_of


class Machine:
    """A clock that tasks move on, and the order in which they ran."""

    def __init__(self):
        self.time_s = 0.0
        self.ran = []
        self.slept_s = []

    def now_s(self):
        return self.time_s

    def sleep(self, seconds):
        self.slept_s.append(seconds)
        self.time_s += seconds

    def task(self, name, seconds):
        """Return a task; ``seconds`` is a function of how often it ran before."""
        ran = 0

        def run():
            nonlocal ran
            took_s = seconds(ran) if callable(seconds) else seconds
            ran += 1
            self.time_s += took_s
            self.ran.append(name)
            return took_s

        return run

    def measure(self, tasks, **options):
        made = {name: self.task(name, seconds) for name, seconds in tasks.items()}
        wanted = {"precision_ratio": 0.02, "budget_s": 1000.0, **options}
        return measure_in_turn(made, **wanted, now_s=self.now_s, sleep=self.sleep)


def blocks_of(ran):
    """Return the names of consecutive runs, and how many there were."""
    found = []
    for name in ran:
        if found and found[-1][0] == name:
            found[-1][1] += 1
        else:
            found.append([name, 1])
    return found


def test_the_interval_of_the_median_is_between_order_statistics():
    # Of 20 values the 6th and the 15th hold the median with 95.9 % (tables of the sign test).
    blocks = [[x] for x in np.arange(1.0, 21.0)]
    assert measurement_of(blocks).half_width_ratio == (15 - 6) / 2 / 10.5
    assert measurement_of(blocks[:6]).half_width_ratio == (6 - 1) / 2 / 3.5
    assert measurement_of(blocks[:5]).half_width_ratio == math.inf


def test_what_takes_no_time_is_known():
    assert measurement_of([[0.0] * 4] * 6).half_width_ratio == 0.0
    assert measurement_of([[0.0] * 4] * 5 + [[1.0] * 4]).half_width_ratio == math.inf


def test_runs_of_a_block_count_as_one_for_the_interval():
    blocks = [[x, x, x] for x in np.arange(1.0, 21.0)]
    assert measurement_of(blocks).half_width_ratio == (15 - 6) / 2 / 10.5


def test_the_interval_covers_the_median_of_machines_whose_speed_wanders():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(500):
        moments = rng.lognormal(0.0, 0.14, (25, 1))
        found = measurement_of(moments * rng.lognormal(0.0, 0.05, (25, 4)))
        held += abs(found.median_s - 1.0) <= found.half_width_ratio * found.median_s
    assert 0.92 < held / 500 < 0.99


def test_moments_and_quantiles_are_of_the_counted_runs():
    found = measurement_of([[9.0, 1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    counted = [1, 2, 3, 4, 1, 2, 3, 4, 5]
    assert found.warm_ups_by_block == (1, 0)
    assert (found.count, found.warm_ups) == (9, 1)
    assert found.mean_s == pytest.approx(np.mean(counted))
    assert found.sd_s == pytest.approx(np.std(counted, ddof=1))
    assert found.median_s == 3
    assert found.quantiles_s == pytest.approx(np.quantile(counted, [0.05, 0.25, 0.5, 0.75, 0.95]))


@pytest.mark.parametrize("slow", [0, 1, 2, 3])
def test_as_many_warm_ups_are_found_as_there_are(slow):
    steady = [1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99]
    blocks = np.array([steady, steady, steady])
    blocks[0, :slow] *= np.linspace(1.5, 1.2, slow)
    assert measurement_of(blocks).warm_ups_by_block == (slow, 0, 0)


def test_warm_ups_are_told_from_slow_moments():
    slow_moment = [[1.3, 1.0, 1.01, 0.99], [2.6, 2.0, 2.02, 1.98], [1.0, 0.99, 1.0, 1.01]]
    assert measurement_of(slow_moment).warm_ups_by_block == (1, 1, 0)


def test_a_slow_run_late_in_a_block_is_no_warm_up():
    assert measurement_of([[1.0, 1.0, 1.0, 1.0, 7.0]]).warm_ups == 0


@pytest.mark.parametrize("blocks", [[], [[]], [[1.0], []], [[-1.0]], [[math.nan]], [[math.inf]]])
def test_what_is_no_time_is_refused(blocks):
    with pytest.raises(ValueError, match="must be"):
        measurement_of(blocks)


def test_steady_tasks_take_six_blocks_each_in_random_order():
    machine = Machine()
    found = machine.measure(dict.fromkeys("abcdefgh", 1.0))
    blocks = blocks_of(machine.ran)
    assert {count for _, count in blocks} <= {4, 8}  # the last of a round may begin the next
    names = "".join(machine.ran[::4])
    rounds = [names[i : i + 8] for i in range(0, 48, 8)]
    assert [sorted(one) for one in rounds] == [list("abcdefgh")] * 6
    assert len({*rounds, "abcdefgh"}) == 7
    assert list(found) == list("abcdefgh")
    assert {m.half_width_ratio for m in found.values()} == {0.0}


def test_the_same_seed_gives_the_same_order():
    orders = []
    for seed in (0, 0, 1):
        machine = Machine()
        machine.measure(dict.fromkeys("abcdefgh", 1.0), seed=seed)
        orders.append(machine.ran)
    assert orders[0] == orders[1] != orders[2]


def test_all_go_on_until_the_last_is_known_so_that_all_meet_the_same_moments():
    rng = np.random.default_rng(3)
    machine = Machine()
    found = machine.measure(
        {"noisy": lambda _: rng.lognormal(0.0, 0.1), "steady": 1.0},
        precision_ratio=0.02,
        budget_s=1e9,
    )
    assert len(found["steady"].blocks_s) == len(found["noisy"].blocks_s) > 25
    assert found["noisy"].half_width_ratio <= 0.02
    assert found["noisy"].median_s == pytest.approx(1.0, rel=0.04)


def test_the_budget_ends_it_but_every_task_gets_one_block():
    machine = Machine()
    rng = np.random.default_rng(0)
    noisy = {name: lambda _: rng.uniform(0.5, 1.5) for name in "abc"}
    found = machine.measure(noisy, precision_ratio=0.0, budget_s=0.0)
    assert [len(m.blocks_s) for m in found.values()] == [1, 1, 1]
    machine = Machine()
    found = machine.measure(noisy, precision_ratio=0.0, budget_s=100.0)
    assert 100.0 <= machine.time_s < 106.0
    counts = [len(m.blocks_s) for m in found.values()]
    assert max(counts) - min(counts) <= 1


def test_pauses_are_the_cadence_and_count_to_the_budget():
    machine = Machine()
    machine.measure({"a": lambda ran: 0.1 + 0.01 * (ran % 7)}, pause_s=0.5, budget_s=9.0)
    assert machine.slept_s == [0.5] * len(machine.ran)
    assert machine.time_s < 9.0 + 5 * 0.7


def test_it_goes_on_from_earlier_blocks():
    machine = Machine()
    earlier = {"a": [[1.0] * 4] * 5, "b": [[1.0] * 4] * 6}
    told = []
    found = machine.measure(
        {"a": 1.0, "b": 1.0, "c": 1.0},
        earlier=earlier,
        on_block=lambda key, so_far: told.append((key, so_far.count)),
    )
    assert sorted(machine.ran) == ["a"] * 24 + ["b"] * 24 + ["c"] * 24
    assert sorted(told)[:2] == [("a", 24), ("a", 28)]
    assert [len(found[key].blocks_s) for key in "abc"] == [11, 12, 6]
    assert earlier == {"a": [[1.0] * 4] * 5, "b": [[1.0] * 4] * 6}


def test_where_all_is_known_nothing_is_run():
    machine = Machine()
    machine.measure({"a": 1.0}, earlier={"a": [[1.0] * 4] * 6})
    assert machine.ran == []


@pytest.mark.parametrize(
    "options",
    [{"block_runs": 0}, {"pause_s": -1.0}, {"budget_s": math.nan}, {"precision_ratio": -0.1}],
)
def test_impossible_wishes_are_refused(options):
    with pytest.raises(ValueError, match="block_runs"):
        Machine().measure({"a": 1.0}, **options)
