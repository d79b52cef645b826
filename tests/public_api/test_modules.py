"""What every module has: a docstring, a list of public names that exist, and a bounded length."""

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

import isthmus.errors

ROOT = Path(isthmus.errors.__file__).parent
LINES = 500
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")
PACKAGES = sorted(path for path in ROOT.rglob("__init__.py") if path.parent != ROOT)


def identify(path):
    return path.relative_to(ROOT).as_posix()


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", [ROOT / "__init__.py", *MODULES], ids=identify)
def test_a_module_is_told_listed_and_short(path):
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "no docstring"
    assert len(source.splitlines()) <= LINES
    module = importlib.import_module(module_name(path))
    assert len(module.__all__) == len(set(module.__all__))
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert missing == []


@pytest.mark.parametrize("path", PACKAGES, ids=identify)
def test_a_package_imports_nothing(path):
    assert path.read_text(encoding="utf-8") == ""


def test_the_version_is_told_alike_everywhere():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert importlib.import_module("isthmus").__version__ == project["version"]
