import itertools

import numpy as np

from isthmus.building.coding import FIDELITY, CodingCost, coding_costs, worth_having
from isthmus.runtime.codecs import CODECS


def ticking(step_s=1.0):
    ticks = itertools.count()
    return lambda: next(ticks) * step_s


def test_every_codec_has_a_rank():
    assert FIDELITY.keys() == CODECS.keys()


def test_costs_are_of_all_that_crosses():
    array = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)
    costs = coding_costs([[array, array], [array, array]], now_s=ticking())
    assert costs.keys() == CODECS.keys()
    assert costs["raw"].sent_bytes >= 2 * array.nbytes
    assert costs["u8"].sent_bytes < costs["u8c"].sent_bytes < costs["raw"].sent_bytes
    assert {cost.seconds for cost in costs.values()} == {1.0}


def test_codecs_that_cannot_carry_a_tensor_cost_nothing_since_they_are_not_there():
    integers = coding_costs([[np.arange(12).reshape(1, 3, 4)]])
    assert integers.keys() == {"raw", "zstd"}
    flat = coding_costs([[np.ones((1, 10), np.float32)]])
    assert flat.keys() == CODECS.keys() - {"u8c", "u8c+zstd"}


def costs(**figures):
    return {name: CodingCost(*figure) for name, figure in figures.items()}


def test_what_is_larger_and_slower_than_something_as_faithful_goes():
    found = costs(raw=(1000, 0.0), zstd=(1001, 1e-6))
    assert worth_having(found, FIDELITY) == ("raw",)


def test_what_is_smaller_stays_for_slow_links_and_what_is_faster_for_fast_ones():
    found = costs(raw=(100_000, 0.0), zstd=(50_000, 3e-3))
    assert worth_having(found, FIDELITY) == ("raw", "zstd")


def test_a_tenth_has_to_be_gained():
    assert worth_having(costs(raw=(100_000, 0.0), zstd=(91_000, 0.0)), FIDELITY) == ("raw",)
    assert worth_having(costs(raw=(100_000, 0.0), zstd=(89_000, 0.0)), FIDELITY) == ("raw", "zstd")


def test_what_gains_only_beyond_the_rates_of_links_goes():
    found = costs(raw=(10_000, 0.0), zstd=(5_000, 0.1))  # break-even below 1 Mbit/s
    assert worth_having(found, FIDELITY) == ("raw",)


def test_a_more_faithful_codec_is_never_beaten_by_a_less_faithful_one():
    found = costs(raw=(100_000, 1e-3), u8=(25_000, 0.0))
    assert worth_having(found, FIDELITY) == ("raw", "u8")
    assert worth_having(found, {"raw": 0, "u8": 0}) == ("u8",)


def test_what_was_the_fastest_goes_when_something_smaller_makes_it_needless():
    found = costs(raw=(10_000, 0.0), fp16=(5_000, 1e-6), u8=(2_500, 2e-6))
    assert worth_having(found, {"raw": 2, "fp16": 1, "u8": 1}) == ("raw", "u8")
    assert worth_having(found, {"raw": 2, "fp16": 1, "u8": 0}) == ("raw", "fp16", "u8")


def test_the_first_stays_for_servers_that_understand_nothing_else():
    found = costs(raw=(1_000_000, 0.0), zstd=(500_000, 1e-6))
    assert worth_having(found, FIDELITY) == ("raw", "zstd")
    found = costs(raw=(1_000_000, 0.0), u8=(250_000, 1e-6))
    assert worth_having(found, {"raw": 0, "u8": 1}) == ("u8",)
