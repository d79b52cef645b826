"""Every codec on real frontier tensors: how small, how fast, how far off, and does shuffling pay?

    python benchmarks/codecs.py [NETWORK ...] [--repeats N] [--json FILE]

For each of the zoo's networks and each cut that `isthmus build` would keep, a photograph goes
through the head and what crosses is encoded and decoded, all codecs taking turns. The median
counts. The error is the largest, over the largest magnitude of the tensor. `planes` is
zstd over the bytes sorted by significance, which no codec does; it shows what that would gain.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import isthmus_zoo
from isthmus.building.crops import Crops
from isthmus.building.selection import IMAGES
from isthmus.loading.onnx_file import load_graph, load_variant, read_model
from isthmus.loading.split import exposed_model
from isthmus.planning.candidates import candidates
from isthmus.runtime import codecs, image
from isthmus.runtime.session import Session
from isthmus.runtime.zstd import compress, decompress
from isthmus.types.codec import Payload


def main() -> None:
    """Print a line for each cut and codec."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(isthmus_zoo.model_names()))
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    found = []
    print(
        f"{'cut':60s} {'codec':16s} {'bytes':>9s} {'ratio':>6s} {'enc ms':>7s} {'dec ms':>7s} error"
    )
    for name in options.networks:
        for cut, arrays in frontier_tensors(name).items():
            for codec, figures in compared(arrays, options.repeats).items():
                label = f"{name} {'+'.join(cut)}"[-60:]
                print(
                    f"{label:60s} {codec:16s} {figures['bytes']:9d} {figures['ratio']:6.3f} "
                    f"{figures['encode_ms']:7.3f} {figures['decode_ms']:7.3f} "
                    f"{figures['error']:.1e}",
                    flush=True,
                )
                found.append({"network": name, "cut": cut, "codec": codec, **figures})
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


def frontier_tensors(name: str) -> dict[tuple[str, ...], list[np.ndarray]]:
    """Return the tensors that cross each cut of a zoo network, for one photograph."""
    path = isthmus_zoo.model_path(name)
    graph, variant = load_graph(path, name=name), load_variant(path, name=name)
    pipeline, photographs = variant.pipeline, isthmus_zoo.photograph_paths(task=variant.task)
    cuts = candidates(graph, limit=8).cuts
    model = exposed_model(read_model(path), graph, {tensor for cut in cuts for tensor in cut})
    pixels = image.fit(Crops(photographs, enough=IMAGES).image(0), pipeline)
    with Session(model.SerializeToString()) as session:
        tensor = image.normalise(image.planar(pixels, pipeline), pipeline)
        outputs = session.run({session.inputs[0].name: tensor})
    return {cut: [outputs[tensor] for tensor in cut] for cut in cuts}


def compared(arrays: Sequence[np.ndarray], repeats: int) -> dict[str, dict[str, Any]]:
    """Return the figures of every codec on the tensors of one cut."""
    ways: dict[str, tuple[Callable[[np.ndarray], Any], Callable[[Any], np.ndarray]]] = {
        name: (codec.encode, decoded)
        for name, codec in codecs.CODECS.items()
        if not (name.startswith("u8c") and any(array.ndim < 3 for array in arrays))
    }
    ways["zstd planes"] = (planes, unplanes)
    ways["fp16+zstd planes"] = (lambda array: planes(array.astype(np.float16)), unplanes)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    sent: dict[str, list[Any]] = {}
    back: dict[str, list[np.ndarray]] = {}
    for _ in range(repeats + 2):
        for name, (encode, decode) in ways.items():
            begun_at_s = time.perf_counter()
            sent[name] = [encode(array) for array in arrays]
            encoded_at_s = time.perf_counter()
            back[name] = [decode(payload) for payload in sent[name]]
            times[name][0].append(encoded_at_s - begun_at_s)
            times[name][1].append(time.perf_counter() - encoded_at_s)
    raw_bytes = sum(array.nbytes for array in arrays)
    return {
        name: {
            "bytes": (size := sum(size_of(payload) for payload in sent[name])),
            "ratio": size / raw_bytes,
            "encode_ms": statistics.median(times[name][0][2:]) * 1e3,
            "decode_ms": statistics.median(times[name][1][2:]) * 1e3,
            "error": max(error(a, b) for a, b in zip(arrays, back[name], strict=True)),
        }
        for name in ways
    }


def size_of(payload: Any) -> int:
    """Return the bytes that cross, those of the parameters included."""
    if isinstance(payload, tuple):
        return len(payload[0])
    return len(payload.data) + len(json.dumps(dict(payload.parameters)))


def decoded(payload: Payload) -> np.ndarray:
    """Decode as a server does."""
    return codecs.decode(payload, limit_bytes=1 << 30)


def planes(array: np.ndarray) -> tuple[bytes, np.dtype, tuple[int, ...]]:
    """Compress all first bytes, then all second ones, and so on."""
    parts = np.ascontiguousarray(array.reshape(-1).view(np.uint8).reshape(-1, array.itemsize).T)
    return compress(parts.data.cast("B")), array.dtype, array.shape


def unplanes(sent: tuple[bytes, np.dtype, tuple[int, ...]]) -> np.ndarray:
    """Undo ``planes``."""
    data, dtype, shape = sent
    size = int(np.prod(shape)) * dtype.itemsize
    parts = np.frombuffer(decompress(data, size), np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(parts.T).view(dtype).reshape(shape).astype(np.float32)


def error(array: np.ndarray, back: np.ndarray) -> float:
    """Return the largest error over the largest magnitude."""
    return float(np.abs(array - back).max()) / max(float(np.abs(array).max()), 1e-30)


if __name__ == "__main__":
    main()
