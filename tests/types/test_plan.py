import numpy as np
import pytest

from isthmus.types.plan import FAMILIES, STAGES, PlanRow, PlanTable

ROWS = (PlanRow("net", "local"), PlanRow("net", "file", unit="net.image"))
COLUMNS = ("device", "server", "rtt_s")
SCALARS = (
    "residual_s", "sent_bytes", "sent_bytes_sd", "accuracy", "agreement", "exit_probability",
)  # fmt: skip


def arrays(**changes):
    found = {
        "coefficients": np.zeros((2, len(STAGES), 3)),
        **{name: np.zeros(2) for name in SCALARS},
    }
    return {**found, **changes}


def test_arrays_that_fit_make_a_table():
    assert PlanTable(ROWS, COLUMNS, **arrays()).rows == ROWS


def test_a_table_cannot_be_written_to():
    table = PlanTable(ROWS, COLUMNS, **arrays())
    for name in arrays():
        with pytest.raises(ValueError, match="read-only"):
            getattr(table, name)[...] = 1.0


def test_coefficients_of_another_shape_are_refused():
    for shape in [(1, len(STAGES), 3), (2, len(STAGES), 4), (2, 3, 3), (2, 3)]:
        with pytest.raises(ValueError, match="coefficients"):
            PlanTable(ROWS, COLUMNS, **arrays(coefficients=np.zeros(shape)))


@pytest.mark.parametrize("name", SCALARS)
def test_other_arrays_of_another_shape_are_refused_by_name(name):
    for shape in [(1,), (3,), (2, 1), ()]:
        with pytest.raises(ValueError, match=name):
            PlanTable(ROWS, COLUMNS, **arrays(**{name: np.zeros(shape)}))


@pytest.mark.parametrize("name", ["coefficients", *SCALARS])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(name, value):
    broken = arrays()[name].copy()
    broken.flat[-1] = value
    with pytest.raises(ValueError, match=f"{name}.*not finite"):
        PlanTable(ROWS, COLUMNS, **arrays(**{name: broken}))


def test_labels_tell_rows_apart():
    rows = [
        PlanRow("net", "local"),
        PlanRow("net", "local", exit="early"),
        PlanRow("net", "split", ("x", "y"), "0123", "raw"),
        PlanRow("net", "split", ("x", "y"), "0123", "u8+zstd"),
        PlanRow("net", "split", ("x",), "0456", "raw"),
    ]
    assert rows[2].label == "net split x y raw"
    assert len({row.label for row in rows}) == len(rows)


def test_only_local_rows_need_no_server():
    assert [family for family in FAMILIES if PlanRow("net", family).is_local] == ["local"]
