"""Images of half a kilobyte: whatever the network's input, nothing larger is ever sent for them."""

from __future__ import annotations

import contextlib
import itertools
import json

import pytest
from typer.testing import CliRunner

import isthmus_zoo
from isthmus import Rules
from isthmus.cli.main import application
from isthmus.lab.reference import Reference
from isthmus.lab.server_process import ServerProcess
from isthmus.loading.bundle import open_bundle
from isthmus.planning.decide import decide
from isthmus.profiling.plans import Effort
from isthmus.profiling.profile import profile_bundle
from isthmus.runtime import image
from isthmus.runtime.heads import Heads
from isthmus.runtime.plan_runner import Job, PlanRunner, StageTimes
from isthmus.runtime.transport import HttpTransport
from isthmus.types.conditions import Conditions
from isthmus.types.link import Link

TASK = "fashion-mnist"
_HEADER_BYTES = 400  # of a message, about


def run(*arguments):
    """Run a command and return what it prints."""
    app = application(arguments)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def images():
    return isthmus_zoo.photograph_paths("request", task=TASK)[:5]


@pytest.fixture(scope="module")
def server():
    folder = isthmus_zoo.model_path(isthmus_zoo.model_names(TASK)[0]).parent
    with ServerProcess(folder) as process:
        yield process


@pytest.fixture(scope="module")
def tiny_bundle(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    models, path = folder / "models", folder / "app.isthmus"
    for command in (
        ["zoo", "export", str(models), "--task", TASK],
        ["build", str(models), "-o", str(path)],
    ):
        run(*command)
    profile_bundle(open_bundle(path), server.url, effort=Effort(budget_s=0))
    return open_bundle(path)


def test_a_build_takes_the_images_of_the_task(tiny_bundle):
    calibration = isthmus_zoo.photograph_paths("calibration", task=TASK)
    assert tiny_bundle.photographs() == tuple(path.read_bytes() for path in calibration)
    lossy = [c for c in tiny_bundle.candidates if not c.row.is_lossless]
    assert lossy
    assert {c.checked for c in lossy} == {1000}


def test_every_plan_answers_as_the_network_and_sends_no_more_than_the_file(
    tiny_bundle, server, images
):
    heads, transport = Heads(tiny_bundle.head_path), HttpTransport(server.url)
    runner = PlanRunner(tiny_bundle.variants, heads, transport)
    same, rows = 0, tiny_bundle.profiled_table().rows
    with contextlib.closing(heads), contextlib.closing(transport):
        for name in isthmus_zoo.model_names(TASK):
            with Reference(isthmus_zoo.model_path(name), tiny_bundle.variants[name]) as reference:
                for path in images:
                    data = path.read_bytes()
                    job = Job(data, StageTimes())
                    for row in (row for row in rows if row.variant == name):
                        run = runner.run(row, job, timeout_s=30)
                        agrees, error = reference.compare(path.name, data, run.outputs)
                        same += agrees
                        if row.is_lossless:
                            assert agrees, row.label
                            assert error < 1e-3, row.label
                        if row.family in ("file", "resized"):
                            assert run.sent_as == "file"
                            assert run.sent_bytes < len(data) + _HEADER_BYTES, row.label
    assert same >= 0.97 * len(rows) * len(images)


def test_no_decision_resizes_and_none_sends_more_than_the_file(tiny_bundle, planted, images):
    table = planted(tiny_bundle).profiled_table()
    families = set()
    for rate_bits_per_s, rtt_s, slowdown, objective in itertools.product(
        (1e5, 1e6, 1e7, 1e9), (1e-4, 0.01, 0.1), (1, 30, 1000), ("least_latency", "most_accurate")
    ):
        conditions = Conditions(
            Link(rate_bits_per_s / 8, rate_bits_per_s / 8, rtt_s),
            image=image.read_facts(images[0].read_bytes()),
            device_slowdown=slowdown,
        )
        plan = decide(table, conditions, Rules(objective))
        families.add(plan.row.family)
        assert plan.row.family != "resized"
        assert plan.sent_bytes < images[0].stat().st_size + _HEADER_BYTES, plan.row.label
    assert {"local", "file"} <= families


def test_infer_names_the_class(tiny_bundle, server, images):
    arguments = ["infer", str(tiny_bundle.path), *map(str, images), "--server", server.url]
    outcomes = json.loads(run(*arguments, "--json", "-"))["outcomes"]
    labels = [o["label"].lower().replace("/", "-").replace(" ", "-") for o in outcomes]
    assert labels == [path.stem.partition("-")[2] for path in images]
