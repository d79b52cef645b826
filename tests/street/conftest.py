"""One server process, and one profiled bundle of all zoo networks, for the whole street."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import isthmus_zoo
from isthmus.building.build import build_bundle
from isthmus.building.ledger import Ledger
from isthmus.building.selection import Tolerance
from isthmus.lab.server_process import ServerProcess
from isthmus.loading.bundle import Bundle, open_bundle
from isthmus.profiling.plans import Effort
from isthmus.profiling.profile import profile_bundle


@pytest.fixture(scope="session")
def zoo_folder() -> Path:
    return isthmus_zoo.model_path("efficientnet-lite0").parent


@pytest.fixture(scope="session")
def server(zoo_folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(zoo_folder) as process:
        yield process


@pytest.fixture(scope="session")
def bundle(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("street") / "app.isthmus"
    build_bundle(
        {name: isthmus_zoo.model_path(name) for name in isthmus_zoo.model_names()},
        path,
        photographs=isthmus_zoo.photograph_paths(),
        calibration=isthmus_zoo.photograph_paths("calibration"),
        cuts_per_variant=4,
        tolerance=Tolerance(ledger=Ledger(known=isthmus_zoo.agreement_path())),
    )
    profile_bundle(open_bundle(path), server.url, effort=Effort(budget_s=0))
    return open_bundle(path)
