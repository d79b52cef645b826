"""What all tests share: chance that repeats, plain output, small networks and photographs.

And in the end nothing may be left of them: no process, no thread, no cgroup.
"""

import contextlib
import io
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

# A busy machine is neither slow code nor slow examples.
settings.register_profile(
    "isthmus", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("isthmus")

# Some terminals and CI systems ask for colours or a width, and rich obeys when it is imported.
for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "COLUMNS"):
    os.environ.pop(name, None)
os.environ["NO_COLOR"] = "1"

# Some tests import onnxruntime before the one module of ours that does, and it reports by default.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_profile_store(tmp_path_factory):
    """Keep what is measured in tests out of the user's data, also in processes they start."""
    with pytest.MonkeyPatch.context() as patch:
        store = tmp_path_factory.mktemp("store") / "profiles.sqlite"
        patch.setenv("ISTHMUS_PROFILES", str(store))
        _store.append(str(store))
        yield


_store = []
"""The store's path: processes of these tests have it in their environment, and no others."""
_first_seen_after = {}
"""The file after whose tests something that still runs was there for the first time."""
_GONE_WITHIN_S = 30.0
"""What has been told to end may need a while; nobody waits for it if nothing is left."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """After each file, note what runs; after the last, when no fixture is left, nothing may."""
    result = yield
    if nextitem is None or nextitem.path != item.path:
        for one in (*_threads(), *_children()):
            _first_seen_after.setdefault(one, item.location[0])
    if nextitem is None:
        until_s = time.monotonic() + _GONE_WITHIN_S
        while (left := [*_threads(), *_processes(), *_cgroups()]) and time.monotonic() < until_s:
            time.sleep(0.01)
        told = [f"{one}, first seen after {_first_seen_after.get(one, 'others')}" for one in left]
        if told:
            pytest.fail("the tests have left behind: " + "; ".join(told), pytrace=False)
    return result


def _threads():
    """Threads that Python would wait for."""
    others = set(threading.enumerate()) - {threading.main_thread()}
    return [f"thread {one.name}" for one in others if not one.daemon]


def _children():
    found = []
    for task in Path("/proc/self/task").glob("*/children"):  # there on Linux only
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found += [_process(Path("/proc", one)) for one in task.read_text().split()]
    return found


def _processes():
    """Processes that these tests have started, directly or not; ended ones have no environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:  # ended meanwhile, or somebody else's
            continue
        if any(store.encode() in environment for store in _store):
            found.append(_process(folder))
    return found


def _process(folder):
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        command = ""
    return f"process {folder.name} ({command[:80].strip()})"


def _cgroups():
    quota = sys.modules.get("isthmus.lab.real_bed_quota")
    found = quota.controller() if quota is not None else None
    return [] if found is None else [f"cgroup {one}" for one in found.glob(f"*-{os.getpid()}-*")]


@pytest.fixture(scope="session")
def pipeline16():
    """The input pipeline of ``small_network``: shorter side 20, crop 16 x 16."""
    from isthmus.types.variant import InputPipeline

    mean_std = ((120.0, 110.0, 100.0), (60.0, 61.0, 62.0))
    return InputPipeline(20, (16, 16), "bilinear", "RGB", *mean_std)


@pytest.fixture(scope="session")
def small_network(pipeline16):
    """Return a function that makes a classifier of 16 x 16 photographs, three convolutions deep.

    Its tensors are image (3, 16, 16) -> a -> x (8, 8, 8) -> b -> y (4, 4, 4) -> flat -> logits.
    ``outlier`` adds that value to the channel of ``x`` that nothing behind it reads, and
    ``two_answers`` makes ``x`` an output, too.
    """
    import dataclasses

    from onnx import TensorProto, helper, numpy_helper

    def make(*, seed=0, classes=10, outlier=0.0, two_answers=False, **metadata):
        rng = np.random.default_rng(seed)
        stored = {
            "w1": rng.normal(0, 0.3, (8, 3, 3, 3)),
            "b1": np.zeros(8),
            "w2": rng.normal(0, 0.3, (4, 8, 3, 3)),
            "w3": rng.normal(0, 0.3, (64, classes)),
        }
        stored["b1"][7] = outlier
        stored["w2"][:, 7] = 0
        conv = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        nodes = [
            helper.make_node("Conv", ["image", "w1", "b1"], ["a"], **conv),
            helper.make_node("Relu", ["a"], ["x"]),
            helper.make_node("Conv", ["x", "w2"], ["b"], **conv),
            helper.make_node("Relu", ["b"], ["y"]),
            helper.make_node("Flatten", ["y"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w3"], ["logits"]),
        ]
        outputs = {"logits": (1, classes)}
        if two_answers:
            outputs["x"] = (1, 8, 8, 8)
        graph = helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 16, 16))],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
            [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()],
        )
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
        known = {
            "task": "shapes",
            "input_pipeline": json.dumps(dataclasses.asdict(pipeline16)),
            "labels": json.dumps([f"class {i}" for i in range(classes)]),
            "accuracy": json.dumps({"metric": "top1", "ratio": 0.75, "status": "measured"}),
        }
        texts = {k: v for k, v in {**known, **metadata}.items() if v is not None}
        helper.set_model_props(model, {f"isthmus.{key}": text for key, text in texts.items()})
        return model

    return make


@pytest.fixture(scope="session")
def small_model_path(small_network, tmp_path_factory):
    """The file of the plain ``small_network``, named ``small.onnx``."""
    path = tmp_path_factory.mktemp("networks") / "small.onnx"
    path.write_bytes(small_network().SerializeToString())
    return path


@pytest.fixture(scope="session")
def make_photograph():
    """Return a function that makes the bytes of a smooth, coloured image."""

    def make(*, width=96, height=64, seed=0, file_format="JPEG"):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(buffer, file_format)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def photograph_files(make_photograph, tmp_path_factory):
    """Four JPEG files."""
    folder = tmp_path_factory.mktemp("photographs")
    paths = [folder / f"photograph-{seed}.jpg" for seed in range(4)]
    for seed, path in enumerate(paths):
        path.write_bytes(make_photograph(seed=seed))
    return tuple(paths)


@pytest.fixture
def elsewhere():
    """Return a function that enters a context manager as another process would: not as this thread.

    What a claim of a folder keeps out is every other open file, of whichever process.
    """

    @contextlib.contextmanager
    def enter(manager, *arguments):
        with ThreadPoolExecutor(1) as other:
            entered = manager(*arguments)
            found = other.submit(entered.__enter__).result()
            try:
                yield found
            finally:
                other.submit(entered.__exit__, None, None, None).result()

    return enter
