import sys

import numpy as np
import pytest

from isthmus.runtime import memory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory it has")
def test_the_difference_is_what_was_allocated():
    before_bytes = memory.resident_bytes()
    kept = np.ones(40_000_000, np.uint8)
    with_it_bytes = memory.resident_bytes()
    assert with_it_bytes - before_bytes == pytest.approx(kept.nbytes, rel=0.2)
    del kept
    assert memory.resident_bytes() - before_bytes < 8_000_000


def test_a_system_that_does_not_say(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "nothing")
    assert memory.resident_bytes() == 0
