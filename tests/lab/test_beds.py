"""Beds and the study of them: figures from planted requests, and a small network on both beds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from isthmus.errors import LabError
from isthmus.lab.beds import bed_of
from isthmus.lab.demo import Request, prepare, read_settings, run_part
from isthmus.lab.device_side import Devices
from isthmus.lab.real_bed import missing
from isthmus.lab.studies.beds import BedsStudy
from isthmus.types.plan import Rules

needs_bed = pytest.mark.skipif(bool(missing()), reason=missing())


def _settings(**values):
    settings = read_settings()
    own = replace(settings.parts[0], own=("isthmus",))
    return replace(settings, parts=(own,), **values)


def _study(seconds):
    settings = _settings(links_mbit_per_s=(4.0,))
    part = settings.parts[0]
    requests = {
        kind: [
            Request(part.name, 4.0, method, "a.jpg", found[method], None, False, float("nan"))
            for method in part.methods
        ]
        for kind, found in seconds.items()
    }
    return BedsStudy(part, settings, requests).record()


@pytest.mark.parametrize(
    ("file_s", "winner", "agree"),
    [
        (0.30, "edge_resized", True),
        (0.195, "edge_file", True),  # equal on either bed
        (0.15, "edge_file", False),
    ],
)
def test_the_study_says_whether_the_beds_agree(file_s: float, winner: str, agree: bool):
    emulated = {"device_only": 0.5, "edge_file": 0.205, "edge_resized": 0.2, "isthmus": 0.2}
    record = _study({"emulated": emulated, "real": {**emulated, "edge_file": file_s}})
    link = record["links"]["4"]
    assert link["winner"] == {"emulated": "edge_resized", "real": winner}
    assert link["agree"] is agree
    assert (record["agree"], record["of"]) == (int(agree), 1)
    assert link["real_over_emulated"]["edge_file"] == pytest.approx(file_s / 0.205)
    assert link["p50_ms"]["real"]["device_only"] == pytest.approx(500)
    json.dumps(record, allow_nan=False)


@pytest.fixture(scope="module")
def models(small_model_path, tmp_path_factory):
    """A repository of one small network."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "small.onnx").write_bytes(small_model_path.read_bytes())
    return folder


@needs_bed
def test_the_demo_runs_with_real_limits(models, photograph_files, tmp_path):
    part = replace(_settings().parts[0], variant="small", static=("device_only", "edge_file"))
    settings = _settings(links_mbit_per_s=(32.0,), repeats=1, profile_budget_s=0.0)
    settings = replace(settings, parts=(part,), device_slowdown=2.0, round_trip_s=0.03)
    settings = replace(settings, request_limit_s=100.0)  # never waited for
    images = {path.name: path.read_bytes() for path in photograph_files[:2]}
    requests: list[Request] = []
    with bed_of("real", models, threads=1, device_slowdown=2.0) as bed:
        setup = prepare(
            tmp_path,
            models,
            bed,
            settings,
            photographs=photograph_files,
            calibration=photograph_files,
        )
        run_part(part, settings, setup, bed, images, on_request=requests.append)
        with (
            pytest.raises(LabError, match="device's process: NoPlanError"),
            bed.direct() as url,
            bed.device.opened(
                Devices(setup.bundle.path, url, {"one": Rules()}, images, threads=1, limit_s=5.0)
            ) as ask,
        ):
            ask("one", photograph_files[0].name, Rules(variants=frozenset({"another"})))
    assert setup.bed == "real"
    assert setup.bundle.profile["lab"]["bed"] == "real"
    assert len(requests) == 2 * 3
    assert all(request.same_top1 for request in requests)
    by_method = {request.method: request for request in requests}
    assert by_method["edge_file"].outcome.source == "edge"
    assert by_method["edge_file"].seconds > 0.03
    assert by_method["device_only"].outcome.source == "device"
