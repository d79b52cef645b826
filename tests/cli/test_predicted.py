import json

import pytest
import typer
from typer.testing import CliRunner

from isthmus.building.build import build_bundle
from isthmus.cli import plan, profile
from isthmus.errors import BundleError, SiteModelError

PRESET = "desktop-2018"
LINK = ["--uplink", "10mbit", "--rtt", "20ms"]


@pytest.fixture(scope="module")
def bundle_path(small_model_path, photograph_files, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "app.isthmus"
    build_bundle({"small": small_model_path}, path, calibration=photograph_files)
    return path


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_a_plan_for_an_absent_device_is_marked_as_predicted(bundle_path):
    models = ["--device-model", "raspberry-pi-3b", "--server-model", PRESET]
    result = run(plan.command, bundle_path, *LINK, *models)
    assert result.exit_code == 0, result.output
    assert "predicted, not measured: times of the device raspberry-pi-3b" in result.stdout
    assert "desktop-2018 (predicted)" in result.stdout
    assert "its error is unknown" in result.stdout
    record = json.loads(run(plan.command, bundle_path, *LINK, *models, "--json", "-").stdout)
    assert record["predicted"]["device"] == "raspberry-pi-3b"
    assert record["plan"]["status"] == "predicted"
    assert all(other["status"] == "predicted" for other in record["runners_up"])


def test_what_is_missing_is_told(bundle_path):
    result = run(plan.command, bundle_path, *LINK, "--device-model", PRESET)
    assert isinstance(result.exception, BundleError)
    assert "--server-model" in str(result.exception)
    result = run(plan.command, bundle_path, *LINK, "--device-model", "no-such-site")
    assert isinstance(result.exception, SiteModelError)
    assert run(plan.command, bundle_path, *LINK, "--server-model", PRESET).exit_code == 2
    assert run(profile.command, bundle_path).exit_code == 2
    assert run(profile.command, "--layers", "--networks", bundle_path / "x.onnx").exit_code == 2


def test_a_site_model_is_fitted_and_planned_with(
    bundle_path, small_network, tmp_path_factory, photograph_files
):
    folder = tmp_path_factory.mktemp("networks")
    for index in range(3):
        data = small_network(classes=10 + index).SerializeToString()
        (folder / f"n{index}.onnx").write_bytes(data)
    saved = folder / "site.json"
    result = run(
        profile.command, "--layers", "--networks", folder, "--save-model", saved, "--json", "-"
    )
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert set(record["networks"]) == {"n0", "n1", "n2"}
    assert record["errors"]["network_median_ratio"] >= 0
    models = ["--device-model", saved, "--server-model", saved]
    assert run(plan.command, bundle_path, *LINK, *models).exit_code == 0
