"""Every plan of the table, run for real, gives the unsplit network's answer."""

from __future__ import annotations

import pytest

import isthmus_zoo
from isthmus.lab.reference import Reference
from isthmus.runtime.heads import Heads
from isthmus.runtime.plan_runner import Job, PlanRunner, StageTimes
from isthmus.runtime.transport import HttpTransport
from isthmus.types.plan import FAMILIES

_PHOTOGRAPHS = ("bee.jpg", "otter-8mp.jpg", "spaniels.jpg")


@pytest.mark.parametrize("name", isthmus_zoo.model_names())
def test_every_plan_answers_as_the_unsplit_network(name, bundle, server):
    files = {path.name: path.read_bytes() for path in isthmus_zoo.photograph_paths("request")}
    rows = [row for row in bundle.profiled_table().rows if row.variant == name]
    heads, transport = Heads(bundle.head_path), HttpTransport(server.url)
    runner = PlanRunner(bundle.variants, heads, transport)
    with Reference(isthmus_zoo.model_path(name), bundle.variants[name]) as reference:
        for photograph in _PHOTOGRAPHS:
            job = Job(files[photograph], StageTimes())
            for row in rows:
                run = runner.run(row, job, timeout_s=30)
                same, error = reference.compare(photograph, files[photograph], run.outputs)
                assert same, f"{row.label} changes the answer for {photograph}"
                if row.is_lossless:
                    assert error < 1e-3, f"{row.label} is off by {error} for {photograph}"
    heads.close()
    transport.close()


def test_the_table_has_every_family_of_every_variant(bundle):
    rows = bundle.profiled_table().rows
    for name in isthmus_zoo.model_names():
        lossless = {row.family for row in rows if row.variant == name and row.is_lossless}
        assert lossless == set(FAMILIES) - {"returned"}
