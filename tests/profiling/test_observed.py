import json
import math

import pytest

from isthmus.profiling.observed import Observed, RowRuns
from isthmus.types.plan import PlanRow

LOCAL, FILE = PlanRow("net", "local"), PlanRow("net", "file", unit="net.image")
RUN = Observed({"head": 0.5, "server_decode": 0.25, "server": 1.0}, 9, 8, 7, sent_file=True)


def test_what_is_kept_comes_back():
    runs = RowRuns(FILE, ((RUN, RUN), (RUN,)), 0.05, True)
    assert RowRuns.from_json(FILE, json.loads(json.dumps(runs.to_json()))) == runs


def test_decoding_a_photograph_on_the_server_is_no_steady_time():
    assert RUN.steady_s(LOCAL) == 1.75
    assert RUN.steady_s(FILE) == 1.5


def test_a_precision_once_reached_is_not_asked_for_again():
    known = RowRuns(LOCAL, ((RUN,),) * 6, 0.05, True)
    assert known.is_known
    assert known.satisfies(0.05)
    assert known.satisfies(0.01)  # all runs were alike
    unknown = RowRuns(LOCAL, ((RUN,),), 0.05, True)
    assert not unknown.is_known
    assert unknown.satisfies(0.05)  # the time was spent: more of it would be, too
    assert not unknown.satisfies(0.01)
    assert not RowRuns(LOCAL, ((RUN,),) * 6, 0.05, False).satisfies(0.05)


@pytest.mark.parametrize("key", ["seconds", "sent_bytes", "received_bytes", "file_bytes"])
@pytest.mark.parametrize("wrong", [None, "much", {"head": -1.0}, math.inf, math.nan, []])
def test_runs_that_are_none_are_not_known(key, wrong):
    content = RowRuns(LOCAL, ((RUN,),), 0.05, True).to_json()
    content["blocks"][0][0][key] = wrong
    assert RowRuns.from_json(LOCAL, content) is None


@pytest.mark.parametrize("wrong", [{}, {"blocks": [], "precision_ratio": 1, "is_complete": True}])
def test_nothing_is_no_run(wrong):
    assert RowRuns.from_json(LOCAL, wrong) is None
