"""``docs/python.md`` as a program: a server, a bundle, a profile, answers and an explanation."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from isthmus.types.outcome import Source

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
ADDRESS = "http://edge:8000"


@pytest.fixture
def here(tmp_path, monkeypatch, small_model_path, photograph_files):
    """A folder with what the page takes for granted."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / small_model_path.name).symlink_to(small_model_path)
    (tmp_path / "photographs").mkdir()
    for path in photograph_files:
        (tmp_path / "photographs" / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs_from_top_to_bottom(here, capsys):
    server, *programs = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    process = subprocess.Popen(
        [sys.executable, "-c", server],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ISTHMUS_PORT": "0"},
    )
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), "the server did not start"
        names = {}
        for program in programs:
            program = program.replace(ADDRESS, address).replace("budget_s=5", "budget_s=0")
            exec(compile(program, str(PAGE), "exec"), names)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
    assert process.returncode == 0
    said = capsys.readouterr().out
    answers = re.findall(r"^photograph-\d\.jpg class \d by (\w+)$", said, re.MULTILINE)
    assert len(answers) == len(names["photographs"]) == 4
    assert set(answers) <= set(get_args(Source))  # a busy machine may be too late for the server
    assert names["found"].why[0] in said
