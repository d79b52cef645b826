import numpy as np
import pytest

from isthmus.estimation.rate import Memory, Rate, Share


def test_a_memory_that_believes_all_and_forgets_nothing_is_nearly_a_mean():
    rates = np.random.default_rng(0).uniform(1e6, 3e6, 400)
    memory = Memory(1e6, 0.5)
    for rate in rates:
        memory = memory.observe(rate, expected=2e6, trust=1.0, shared=0.0, least=1 / 400)
    assert memory.bytes_per_s == pytest.approx(np.mean(rates), rel=0.03)


def test_a_memory_weighs_by_what_is_told():
    steady = Memory(1e6, 0.1)
    told = steady.observe(2e6, expected=1e6, trust=1.0, shared=0.0, least=0.0)
    hardly = steady.observe(1.02e6, expected=1e6, trust=0.02, shared=0.0, least=0.0)
    assert told.bytes_per_s == pytest.approx(1.1e6)
    assert told.weight == pytest.approx(0.09)
    assert hardly.bytes_per_s == pytest.approx(1.002e6)
    assert hardly.weight == pytest.approx(0.1 * (1 - 0.002))
    # Where the round trip could be meant as well, the average waits for an exchange that tells.
    shared = steady.observe(1.02e6, expected=1e6, trust=0.02, shared=-0.2, least=0.0)
    assert shared == steady


@pytest.mark.parametrize(("kept", "low", "high"), [(0.0, 0.0, 0.2), (0.9, 0.7, 0.95)])
def test_a_share_is_found(kept, low, high):
    rng = np.random.default_rng(2)
    share, at = Share(), 0.0
    for _ in range(300):
        after = kept * at + 0.1 * rng.normal()
        share, at = share.observe(at, after), after
    assert low <= share.given(0.01) <= high
    assert Share().given(0.01) == 0.5


def test_without_noise_a_rate_is_found_and_what_was_last_fades():
    rate = Rate.known(1e6, 0.01)
    assert rate.expected_bytes_per_s == pytest.approx(1e6)
    for _ in range(30):
        rate = rate.observe(rate.mean_bytes_per_s / 2e6 - 1, 1.0, 0.0)
    assert rate.mean_bytes_per_s == pytest.approx(2e6, rel=0.01)
    average = rate.average_bytes_per_s
    rate = rate.observe(1.0, 1.0, 3.0)
    for _ in range(150):
        rate = rate.observe(0.3, 0.0, 0.0)
    assert rate.last_bytes_per_s == pytest.approx(rate.average_bytes_per_s, rel=0.02)
    assert rate.average_bytes_per_s == pytest.approx(average, rel=0.2)
