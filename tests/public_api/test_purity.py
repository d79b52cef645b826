"""Planning, estimation and the nouns are pure: no file, socket, clock, log or chance.

import-linter holds the imports; it does not see builtins, nor what hides in ``numpy``.
"""

import ast
from pathlib import Path

import pytest

import isthmus.errors

PURE_PACKAGES = ("planning", "estimation", "types", "caching")
FORBIDDEN_MODULES = {
    "asyncio",
    "datetime",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
    "warnings",
}
FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
FORBIDDEN_OF_NUMPY = {
    "fromfile",
    "genfromtxt",
    "load",
    "loadtxt",
    "memmap",
    "save",
    "savetxt",
    "savez",
    "savez_compressed",
}

ROOT = Path(isthmus.errors.__file__).parent
PURE_MODULES = sorted(path for name in PURE_PACKAGES for path in (ROOT / name).rglob("*.py"))


def impurities(source):
    """Return what a module does that a pure one may not, one text each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            names = []
            text = ast.unparse(node)
            module, _, rest = text.partition(".")
            # A generator may be given; only its type may be named.
            if module in ("np", "numpy") and (
                rest in FORBIDDEN_OF_NUMPY
                or (rest.startswith("random.") and rest != "random.Generator")
            ):
                found.append(f"line {node.lineno}: {text}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = []
            if node.func.id in FORBIDDEN_CALLS:
                found.append(f"line {node.lineno}: {node.func.id}()")
        else:
            continue
        found += [
            f"line {node.lineno}: import {name}"
            for name in names
            if name.partition(".")[0] in FORBIDDEN_MODULES or name.startswith("numpy.random")
        ]
    return found


@pytest.mark.parametrize("path", PURE_MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_pure_module_does_nothing_impure(path):
    assert impurities(path.read_text(encoding="utf-8")) == []


def test_there_is_something_to_check():
    assert {path.parent.name for path in PURE_MODULES} >= {"planning", "estimation", "types"}


@pytest.mark.parametrize(
    "snippet",
    [
        "open('table.json')",
        "print(1)",
        "input()",
        "import time",
        "import os.path",
        "from datetime import datetime",
        "from pathlib import Path",
        "def f():\n    import random",
        "import numpy.random",
        "from numpy import random",
        "from numpy.random import default_rng",
        "import numpy as np\nnp.random.default_rng(0)",
        "import numpy as np\nnp.random.seed(0)",
        "import numpy as np\nnp.load('table.npy')",
        "import numpy\nnumpy.random.rand()",
    ],
)
def test_the_check_can_fail(snippet):
    assert impurities(snippet)


@pytest.mark.parametrize(
    "snippet",
    [
        "import math\nimport numpy as np\nnp.exp(1.0)",
        "import numpy as np\ndef draw(rng: np.random.Generator): return rng.random()",
        "from isthmus.types.plan import Plan",
        "def f(time_s, open_s): return time_s - open_s",
    ],
)
def test_the_check_leaves_pure_code_alone(snippet):
    assert impurities(snippet) == []
