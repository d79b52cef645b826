import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from isthmus.estimation.segments import Part, calibrated_layer_s, part_overhead_s


def heads(sizes, seconds):
    return [Part(frozenset(range(n)), float(s)) for n, s in zip(sizes, seconds, strict=True)]


def time_of(layer_s, part):
    return layer_s[list(part.layers)].sum()


@st.composite
def nested(draw):
    """Estimates over three decades, and growing heads of growing times."""
    n = draw(st.integers(1, 40))
    estimated = draw(st.lists(st.floats(1e-5, 1e-2) | st.just(0.0), min_size=n, max_size=n))
    sizes = sorted(draw(st.sets(st.integers(1, n), min_size=1)))
    steps = draw(st.lists(st.floats(1e-5, 1e-2), min_size=len(sizes), max_size=len(sizes)))
    return np.array(estimated), sizes, np.cumsum(steps)


@given(nested(), st.booleans())
def test_nested_parts_come_out_as_measured_and_what_lies_between_in_proportion(case, are_tails):
    estimated, sizes, seconds = case
    n = len(estimated)
    parts = heads(sizes, seconds)
    if are_tails:
        parts = [Part(frozenset(n - 1 - i for i in p.layers), p.seconds) for p in parts]
    layer_s = calibrated_layer_s(estimated, parts)
    assert (layer_s >= 0).all()
    for part in parts:
        assert time_of(layer_s, part) == pytest.approx(part.seconds, rel=1e-6)
    for shorter, longer in zip([Part(frozenset(), 0), *parts[:-1]], parts, strict=True):
        between = sorted(longer.layers - shorter.layers)
        if estimated[between].min() > 0:
            ratios = layer_s[between] / estimated[between]
            np.testing.assert_allclose(ratios, ratios[0], rtol=1e-5)


@given(nested(), st.integers(0, 2**32 - 1))
def test_noise_gives_no_negative_times_but_isotonic_regression(case, seed):
    estimated, sizes, seconds = case
    noisy = seconds * np.random.default_rng(seed).lognormal(0, 0.5, len(seconds))
    layer_s = calibrated_layer_s(np.maximum(estimated, 1e-5), heads(sizes, noisy))
    assert (layer_s >= 0).all()
    expected = isotonic_regression(noisy, weights=noisy**-2.0).x
    np.testing.assert_allclose(layer_s.cumsum()[np.array(sizes) - 1], expected, rtol=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_parts_that_cross_are_met_where_layers_of_positive_times_can_meet_them(seed):
    rng = np.random.default_rng(seed)
    true_s = rng.uniform(1, 2, 12)
    parts = []
    for _ in range(rng.integers(1, 8)):
        layers = frozenset(np.flatnonzero(rng.random(12) < 0.6).tolist() or [0])
        parts.append(Part(layers, float(true_s[list(layers)].sum())))
    layer_s = calibrated_layer_s(true_s * rng.uniform(0.9, 1.1, 12), parts)
    assert (layer_s >= 0).all()
    for part in parts:
        assert time_of(layer_s, part) == pytest.approx(part.seconds, rel=0.02)


def test_a_held_out_part_between_measured_ones_is_better_than_the_sum_of_layers():
    rng = np.random.default_rng(7)
    true_s = rng.uniform(1, 3, 60)
    estimated = true_s * np.linspace(0.6, 1.6, 60) * rng.uniform(0.9, 1.1, 60)
    ends = true_s.cumsum()
    layer_s = calibrated_layer_s(estimated, heads(range(6, 61, 6), ends[5::6]))
    error = np.abs(layer_s.cumsum() / ends - 1)
    assert np.median(error) < 0.01
    assert error[6:].max() < 0.05
    assert np.median(np.abs(estimated.cumsum() / ends - 1)) > 0.1


def test_without_parts_and_outside_of_them_the_estimates_stand():
    assert calibrated_layer_s([1, 2], []).tolist() == [1, 2]
    part = [Part(frozenset({1}), 4.0)]
    np.testing.assert_allclose(calibrated_layer_s([1, 2, 3], part), [2, 4, 6])
    np.testing.assert_allclose(calibrated_layer_s([1, 2, 3], part, overhead_s=1.0), [1.5, 3, 4.5])


def test_layers_estimated_at_nothing_share_what_their_part_takes():
    layer_s = calibrated_layer_s([1, 0, 0], heads([1, 3], [1.0, 2.0]))
    np.testing.assert_allclose(layer_s, [1, 0.5, 0.5])
    np.testing.assert_allclose(calibrated_layer_s([0, 0], heads([2], [1.0])), [0.5, 0.5])


@given(nested(), st.floats(0, 1e-3))
def test_the_overhead_is_found_from_heads_and_tails_that_make_the_whole(case, overhead_s):
    estimated, sizes, seconds = case
    whole = seconds[-1] + 1e-3
    n = len(estimated) + 1
    everything = frozenset(range(n))
    parts = [Part(everything, whole + overhead_s)]
    for head in heads(sizes, seconds):
        parts.append(Part(head.layers, head.seconds + overhead_s))
        parts.append(Part(everything - head.layers, whole - head.seconds + overhead_s))
    assert part_overhead_s([*estimated, 1e-3], parts) == pytest.approx(overhead_s, abs=1e-12)


def test_the_overhead_of_heads_alone_is_the_intercept_and_never_negative():
    parts = heads([1, 2, 4], [1.5, 2.5, 4.5])
    assert part_overhead_s([1, 1, 1, 1], parts) == pytest.approx(0.5)
    assert part_overhead_s([1, 1, 1, 1], parts[:1]) == 0
    assert part_overhead_s([1, 1, 1, 1], heads([1, 2, 4], [0.5, 1.6, 4.0])) == 0


@pytest.mark.parametrize(
    ("estimated", "part", "overhead_s"),
    [
        ([-1.0, 1.0], Part(frozenset({0}), 1.0), 0.0),
        ([float("nan"), 1.0], Part(frozenset({0}), 1.0), 0.0),
        ([1.0, 1.0], Part(frozenset(), 1.0), 0.0),
        ([1.0, 1.0], Part(frozenset({2}), 1.0), 0.0),
        ([1.0, 1.0], Part(frozenset({-1}), 1.0), 0.0),
        ([1.0, 1.0], Part(frozenset({0}), 0.0), 0.0),
        ([1.0, 1.0], Part(frozenset({0}), 1.0), -0.1),
    ],
)
def test_what_makes_no_sense_is_refused(estimated, part, overhead_s):
    with pytest.raises(ValueError, match="must"):
        calibrated_layer_s(estimated, [part], overhead_s=overhead_s)
