from types import SimpleNamespace

import pytest

from isthmus.profiling import input_runs
from isthmus.profiling.input_runs import measure_inputs
from isthmus.profiling.ladder import RUNGS_DIGEST, Rung
from isthmus.runtime.clock import FULL_PACE
from isthmus.runtime.image import read_facts
from isthmus.types.plan import PlanRow
from isthmus.types.progress import SILENT

ROW = PlanRow("net", "file", unit="net.image")


@pytest.fixture
def files(make_photograph):
    return [make_photograph(width=width, height=48, seed=width) for width in (50, 60, 70)]


@pytest.fixture
def runner():
    """A server that answers at once and keeps what it was sent."""
    sent = []

    def run(row, job, *, timeout_s):
        assert row is ROW
        job.times.add("server_decode", 0.001)
        sent.append(job.data)

    variants = {"net": SimpleNamespace(graph_sha256="f" * 64)}
    return SimpleNamespace(variants=variants, run=run, sent=sent)


class Shelf:
    """Keeps in memory."""

    def __init__(self):
        self.parts = {}

    def get(self, graph_sha256, part, *, sites):
        return self.parts.get(part)

    def put(self, graph_sha256, part, content, *, sites):
        self.parts[part] = content


def measured(runner, pipeline, files, shelf):
    return measure_inputs(runner, {pipeline: ROW}, files, FULL_PACE, shelf, SILENT)


def test_the_ladder_is_climbed_in_turns_and_large_rungs_once(
    runner, files, pipeline16, monkeypatch
):
    rungs = tuple(Rung(data, read_facts(data)) for data in files)
    large = rungs[1]
    monkeypatch.setattr(Rung, "is_large", property(lambda rung: rung is large))
    monkeypatch.setattr(input_runs, "image_ladder", lambda *_: rungs)
    costs = measured(runner, pipeline16, files, Shelf())
    first, _, last = files
    assert runner.sent == [*files, first, last, first, last]
    assert costs.runs == 7


def test_what_is_kept_is_of_this_ladder(runner, files, pipeline16, monkeypatch):
    rungs = tuple(Rung(data, read_facts(data)) for data in files)
    monkeypatch.setattr(input_runs, "image_ladder", lambda *_: rungs)
    shelf = Shelf()
    measured(runner, pipeline16, files, shelf)
    (part,) = shelf.parts
    assert RUNGS_DIGEST in part
    assert measured(runner, pipeline16, files, shelf).runs == 0
    monkeypatch.setattr(input_runs, "RUNGS_DIGEST", "another")
    assert measured(runner, pipeline16, files, shelf).runs == 9
