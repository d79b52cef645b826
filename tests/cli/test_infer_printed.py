"""What ``isthmus infer`` prints of one outcome, and writes as JSON."""

import io

import numpy as np
import pytest
from rich.console import Console

from isthmus.cli.infer import _line, _record
from isthmus.types.outcome import Outcome, Timeline
from isthmus.types.plan import STAGES, Plan, PlanRow


def plan(family, codec=""):
    row = PlanRow("net", family, codec=codec)
    return Plan(row, 0, 0.1, 0.01, 0.7, 1000.0, 1.0, dict.fromkeys(STAGES, 0.0))


class Device:
    def labels(self, variant):
        return ("bee", "cat")


def printed(source, *replaced, error=""):
    """Return the record of an outcome, and the lines that are printed of it."""
    outputs = {"logits": np.array([3.0, 1.0])}
    timeline = Timeline(head_s=0.05, unaccounted_s=0.01)
    outcome = Outcome(outputs, source, plan("local"), timeline, error=error, replaced=replaced)
    record = _record("a/bee.jpg", outcome, Device())
    out = Console(file=io.StringIO(), width=120)
    out.print(_line(record), soft_wrap=True)
    return record, [line.strip() for line in out.file.getvalue().splitlines()]


def test_a_plan_that_was_kept_is_printed_alone():
    record, lines = printed("device")
    assert record["replaced"] == []
    assert lines == [
        "bee.jpg: bee 0.88  60.0 ms (predicted 100 ms)",
        "device: net local, 0 bytes sent",
        "head 50.0 ms, unaccounted 10.0 ms",
    ]


@pytest.mark.parametrize(
    ("source", "replaced", "because"),
    [
        ("device", [plan("resized", "jpeg-85")], ["its message came out too large"]),
        ("fallback", [plan("file")], ["it failed"]),
        ("fallback", [plan("resized", "jpeg-85"), plan("file")],
         ["its message came out too large", "it failed"]),
    ],
)  # fmt: skip
def test_plans_that_were_given_up_are_told_with_the_reason(source, replaced, because):
    record, lines = printed(source, *replaced)
    labels = [one.row.label for one in replaced]
    assert record["replaced"] == [
        {"plan": label, "because": why} for label, why in zip(labels, because, strict=True)
    ]
    assert lines[2:-1] == [
        f"decided before: {label}, but {why}" for label, why in zip(labels, because, strict=True)
    ]
