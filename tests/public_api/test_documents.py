"""README and docs: links lead somewhere, commands exist, examples run."""

import ast
import doctest
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from isthmus.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|`)isthmus ([a-z]+)", re.MULTILINE)
TARGET = re.compile(r"(?:^|`)make ([a-z]+)", re.MULTILINE)


def identify(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", DOCUMENTS, ids=identify)
def test_a_document_keeps_its_promises(path):
    text = path.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if "://" not in link:
            assert (path.parent / link).exists(), link
    assert set(COMMAND.findall(text)) <= set(COMMANDS)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(TARGET.findall(text)) <= set(targets)
    for language, code in BLOCK.findall(text):
        if language == "python" and ">>>" not in code:
            ast.parse(code)
    results = doctest.testfile(str(path), module_relative=False)
    assert results.failed == 0


def test_there_are_documents():
    assert {"README.md", "docs/tutorial.md"} <= set(map(identify, DOCUMENTS))


def test_every_decision_is_listed_and_short():
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "0001-record-decisions.md").read_text()
    for path in sorted(folder.glob("*.md"))[1:]:
        assert f"]({path.name})" in listed
        assert len(path.read_text().splitlines()) <= 40


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.svg")), ids=identify)
def test_pictures_are_well_formed_and_described(path):
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
    assert {"title", "desc"} <= tags
