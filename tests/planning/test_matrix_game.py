import numpy as np
import pytest

from isthmus.planning.matrix_game import solve_game


def test_rock_paper_scissors_is_mixed_evenly():
    costs = np.array([[2.0, 3.0, 1.0], [1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    rows, columns = solve_game(costs)
    np.testing.assert_allclose(rows, 1 / 3)
    np.testing.assert_allclose(columns, 1 / 3)


def test_a_row_that_is_never_worse_is_played_alone():
    rows, _ = solve_game(np.array([[5.0, 6.0], [1.0, 2.0], [2.0, 2.0]]))
    assert rows.tolist() == [0, 1, 0]


@pytest.mark.parametrize("seed", range(40))
def test_neither_side_can_do_better(seed):
    rng = np.random.default_rng(seed)
    m, n = int(rng.integers(1, 60)), int(rng.integers(1, 6))
    costs = 10.0 ** rng.uniform(0, rng.choice([0.01, 1, 3]), (m, n))
    if seed % 2:  # ties
        costs = np.ceil(costs)
    rows, columns = solve_game(costs)
    for mixture in (rows, columns):
        assert (mixture >= 0).all()
        assert mixture.sum() == pytest.approx(1)
    assert (rows @ costs).max() == pytest.approx((costs @ columns).min(), rel=1e-7)
    assert np.count_nonzero(rows) <= n
