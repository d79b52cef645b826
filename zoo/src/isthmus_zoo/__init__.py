"""Trained classifiers as ONNX files, and photographs to try them with.

It finds files and nothing else: no network is loaded and no image decoded here.
"""

import json
from pathlib import Path
from typing import Final

__all__ = ["agreement_path", "model_names", "model_path", "photograph_paths", "tasks"]

__version__: Final = "0.1.0"

_FOLDER: Final = Path(__file__).parent
_IMAGENET: Final = "imagenet-1k"
_FOLDERS: Final = {_IMAGENET: _FOLDER, "fashion-mnist": _FOLDER / "fashion_mnist"}
_MODEL_NAMES: Final = {
    _IMAGENET: (
        "squeezenet-1.1",
        "mobilenet-v2",
        "efficientnet-lite0",
        "efficientnet-lite1",
        "efficientnet-lite2",
    ),
    "fashion-mnist": ("fashion-lenet", "fashion-alexnet"),
}


def tasks() -> tuple[str, ...]:
    """Return what the models answer; those of one task can be variants of one another.

    Examples:
        >>> tasks()
        ('imagenet-1k', 'fashion-mnist')
    """
    return tuple(_FOLDERS)


def model_names(task: str = _IMAGENET) -> tuple[str, ...]:
    """Return the names of a task's models in order of growing accuracy.

    Args:
        task: One of ``tasks()``.

    Raises:
        ValueError: If there is no such task.

    Examples:
        >>> model_names()[0]
        'squeezenet-1.1'
        >>> model_names("fashion-mnist")
        ('fashion-lenet', 'fashion-alexnet')
    """
    _folder(task)
    return _MODEL_NAMES[task]


def model_path(name: str) -> Path:
    """Return the path of a model's ONNX file.

    Args:
        name: One of ``model_names()``, of any task.

    Raises:
        ValueError: If there is no model of that name.

    Examples:
        >>> model_path("mobilenet-v2").name
        'mobilenet-v2.onnx'
    """
    for task, names in _MODEL_NAMES.items():
        if name in names:
            return _FOLDERS[task] / "models" / f"{name}.onnx"
    known = ", ".join(known for names in _MODEL_NAMES.values() for known in names)
    raise ValueError(f"no model {name!r} in the zoo; there are {known}")


def agreement_path() -> Path:
    """Return the path of what was counted on the photographs, for ``isthmus build --agreement``.

    It is JSON: for each network, cut and lossy codec, on how many of the images the first answer
    stays what it was. The images are 1000 made of the photographs, or 1000 photographs.

    Examples:
        >>> agreement_path().name
        'agreement.json'
    """
    return _FOLDER / "agreement.json"


def photograph_paths(use: str | None = None, *, task: str = _IMAGENET) -> tuple[Path, ...]:
    """Return the paths of a task's photographs, sorted by name.

    Args:
        use: ``"calibration"`` for the ones meant for profiling, ``"request"`` for the ones meant
            as requests, None for all. No photograph has both uses.
        task: One of ``tasks()``.

    Raises:
        ValueError: If no photograph has that use, or there is no such task.

    Examples:
        >>> [path.name for path in photograph_paths("calibration")]
        ['heron.jpg', 'osprey.jpg', 'paintbrushes.jpg', 'tea-gardens.jpg']
        >>> photograph_paths(task="fashion-mnist")[0].name
        '00000-ankle-boot.png'
    """
    folder = _folder(task) / "photographs"
    records = json.loads((folder / "origins.json").read_text(encoding="utf-8"))["photographs"]
    uses = sorted({str(record["use"]) for record in records})
    if use is not None and use not in uses:
        raise ValueError(f"no photograph is for {use!r}; the uses are {', '.join(uses)}")
    return tuple(
        sorted(folder / str(record["file"]) for record in records if use in (None, record["use"]))
    )


def _folder(task: str) -> Path:
    if task not in _FOLDERS:
        raise ValueError(f"no task {task!r} in the zoo; there are {', '.join(_FOLDERS)}")
    return _FOLDERS[task]
