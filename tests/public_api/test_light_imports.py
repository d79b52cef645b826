"""What a fresh interpreter has loaded after an import."""

import os
import subprocess
import sys

import pytest

NOT_ON_A_DEVICE = {
    "onnx",
    "scipy",
    "starlette",
    "uvicorn",
    "pydantic",
    "pydantic_settings",
    "typer",
    "rich",
    "matplotlib",
    "torch",
}
NOT_AT_ONCE = NOT_ON_A_DEVICE | {"numpy", "onnxruntime", "PIL", "zstandard"}


def loaded_by(statement):
    """Return the top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing():
    assert not loaded_by("import isthmus") & NOT_AT_ONCE


def test_its_nouns_load_no_runtime():
    loaded = loaded_by("from isthmus import Conditions, Link, Plan, Rules")
    assert not loaded & (NOT_ON_A_DEVICE | {"onnxruntime", "PIL"})


def test_its_list_of_names_loads_nothing():
    assert not loaded_by("import isthmus; assert 'Device' in dir(isthmus)") & NOT_AT_ONCE


@pytest.mark.parametrize(
    "statement",
    [
        "import isthmus.device.client",
        "from isthmus import Device",
        "import isthmus.profiling.profile",
        "import isthmus.planning.decide",
        "import isthmus.loading.bundle",
    ],
)
def test_a_device_loads_no_workstation_or_server_package(statement):
    assert not loaded_by(statement) & NOT_ON_A_DEVICE


def test_the_check_can_fail():
    assert loaded_by("import rich") & NOT_ON_A_DEVICE == {"rich"}
