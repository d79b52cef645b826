"""Five trained ImageNet classifiers as ONNX files, and photographs to try them with.

It finds files and nothing else: no network is loaded and no image decoded here.
"""

import json
from pathlib import Path
from typing import Final

__all__ = ["agreement_path", "model_names", "model_path", "photograph_paths"]

__version__: Final = "0.1.0"

_FOLDER: Final = Path(__file__).parent
_MODEL_NAMES: Final = (
    "squeezenet-1.1",
    "mobilenet-v2",
    "efficientnet-lite0",
    "efficientnet-lite1",
    "efficientnet-lite2",
)


def model_names() -> tuple[str, ...]:
    """Return the names of the models in order of growing published accuracy.

    Examples:
        >>> model_names()[0]
        'squeezenet-1.1'
    """
    return _MODEL_NAMES


def model_path(name: str) -> Path:
    """Return the path of a model's ONNX file.

    Args:
        name: One of ``model_names()``.

    Raises:
        ValueError: If there is no model of that name.

    Examples:
        >>> model_path("mobilenet-v2").name
        'mobilenet-v2.onnx'
    """
    if name not in _MODEL_NAMES:
        raise ValueError(f"no model {name!r} in the zoo; there are {', '.join(_MODEL_NAMES)}")
    return _FOLDER / "models" / f"{name}.onnx"


def agreement_path() -> Path:
    """Return the path of what was counted on the photographs, for ``isthmus build --agreement``.

    It is JSON: for each network, cut and lossy codec, on how many of 1000 images made of the
    photographs the first answer stays what it was.

    Examples:
        >>> agreement_path().name
        'agreement.json'
    """
    return _FOLDER / "agreement.json"


def photograph_paths(use: str | None = None) -> tuple[Path, ...]:
    """Return the paths of the photographs, sorted by name.

    Args:
        use: ``"calibration"`` for the ones meant for profiling, ``"request"`` for the ones meant
            as requests, None for all. No photograph has both uses.

    Raises:
        ValueError: If no photograph has that use.

    Examples:
        >>> [path.name for path in photograph_paths("calibration")]
        ['heron.jpg', 'osprey.jpg', 'paintbrushes.jpg', 'tea-gardens.jpg']
    """
    folder = _FOLDER / "photographs"
    records = json.loads((folder / "origins.json").read_text(encoding="utf-8"))["photographs"]
    uses = sorted({str(record["use"]) for record in records})
    if use is not None and use not in uses:
        raise ValueError(f"no photograph is for {use!r}; the uses are {', '.join(uses)}")
    return tuple(
        sorted(folder / str(record["file"]) for record in records if use in (None, record["use"]))
    )
