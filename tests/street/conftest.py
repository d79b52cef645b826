"""One server process, and one profiled bundle of all zoo networks, for the whole street.

What a busy machine makes of times is no test's business: where a decision depends on them, they
are planted into a copy of the profile.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import isthmus_zoo
from isthmus.building.build import build_bundle
from isthmus.building.ledger import Ledger
from isthmus.building.selection import Tolerance
from isthmus.lab.server_process import ServerProcess
from isthmus.loading.bundle import Bundle, open_bundle, save_profile
from isthmus.profiling import input_runs
from isthmus.profiling.plans import Effort
from isthmus.profiling.profile import profile_bundle
from isthmus.types.plan import STAGES, PlanRow

_PLANTED_S = {
    "device": {"decode": 0.005, "preprocess": 0.002, "head": 0.020, "encode": 0.001},
    "server": {"server_decode": 0.005, "server": 0.010},
}
_SPLIT_HEAD_S = 0.002


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(input_runs, "_LADDER_ROUNDS", 1)  # 30 s less, and times that no test is about
        profile_bundle(open_bundle(path), server.url, effort=Effort(budget_s=0))
    return open_bundle(path)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """Return a function that copies a profiled bundle and plants what its parts take.

    A device that has measured some heads as ten thousand times slower than they are, those of the
    rows that ``is_slow`` picks, goes to the server for them over any link.
    """

    def plant(bundle: Bundle, is_slow: Callable[[PlanRow], bool] = lambda row: False) -> Bundle:
        path = tmp_path_factory.mktemp("planted") / "app.isthmus"
        shutil.copytree(bundle.path, path, copy_function=os.link)
        table = bundle.profiled_table()
        coefficients = table.coefficients.copy()
        for site, stages in _PLANTED_S.items():
            for stage, planted_s in stages.items():
                of_stage = coefficients[:, STAGES.index(stage)]
                has_stage = of_stage.any(axis=1)
                of_stage[:] = 0.0
                of_stage[has_stage, table.columns.index(site)] = planted_s
        heads = coefficients[:, STAGES.index("head"), table.columns.index("device")]
        for place, row in enumerate(table.rows):
            if row.family == "split":
                heads[place] = _SPLIT_HEAD_S
            if is_slow(row):
                heads[place] *= 10_000
        known = np.full(len(table.rows), 0.001)
        table = replace(table, coefficients=coefficients, residual_s=known)
        save_profile(path, table, bundle.profile)
        return open_bundle(path)

    return plant


@pytest.fixture(scope="session")
def slow_bundle(bundle: Bundle, planted: Callable[..., Bundle]) -> Bundle:
    """The bundle of a device that believes all its heads to be slow."""
    return planted(bundle, lambda row: True)
