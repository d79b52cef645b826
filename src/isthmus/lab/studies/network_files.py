"""Networks that are on this machine, for studies to choose from. It loads none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.lab.photographs import cache_folder
from isthmus.types.graph import ModelGraph

__all__ = ["NetworkFile", "available_networks"]

_PUBLISHED = {  # file in the cache that the tests fill, and the shape that it leaves open
    "text-detector": (
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        (1, 3, 480, 480),
    ),
    "text-recogniser": (
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        (1, 3, 48, 320),
    ),
    "text-direction": (
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        (1, 3, 48, 192),
    ),
    "layout-detector": (
        "25b1f27ec56aa932a48f30cbd6293c358a156280f4b20b0a973bab210c39f62c",
        None,
    ),
}


@dataclass(frozen=True)
class NetworkFile:
    """Where a network is.

    Attributes:
        name: What it is called.
        path: Its ONNX file.
        shapes: Of the inputs whose shape the file leaves open, by name.
    """

    name: str
    path: Path
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def graph(self) -> ModelGraph:
        """Load it, without weights.

        Raises:
            ModelError: If the file is damaged.
        """
        from isthmus.loading.onnx_file import load_graph

        return load_graph(self.path, name=self.name, shapes=self.shapes)


def available_networks() -> tuple[dict[str, NetworkFile], dict[str, str]]:
    """Return the networks that are on this machine, by name, and why others are left out.

    The ``light_*`` networks that come with onnx, the zoo's, and text and layout networks if the
    tests have put them into the user's cache.
    """
    import onnx

    left_out: dict[str, str] = {}
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    found = [NetworkFile(path.stem, path) for path in sorted(light.glob("light_*.onnx"))]
    try:
        import isthmus_zoo

        found += [NetworkFile(n, isthmus_zoo.model_path(n)) for n in isthmus_zoo.model_names()]
    except ImportError:
        left_out["zoo"] = "isthmus-zoo is not installed"
    for name, (sha256, shape) in _PUBLISHED.items():
        path = cache_folder() / "tests" / f"{sha256}.onnx"
        if path.is_file():
            found.append(NetworkFile(name, path, {"x": shape} if shape else {}))
        else:
            left_out[name] = "its file is not in the cache that the tests fill"
    return {network.name: network for network in found}, left_out
