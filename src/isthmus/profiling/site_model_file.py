"""Site models as JSON files, and the presets that ship. It fits nothing and predicts nothing.

Every coefficient is stored under a name that says its unit; see ``docs/concepts/costs.md``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from isthmus.errors import SiteModelError
from isthmus.estimation.regression import FEATURES, LayerRegression, LinearModel
from isthmus.estimation.site_model import Loading, SiteModel
from isthmus.loading.files import new_file

__all__ = ["PRESETS", "SCHEMA", "load_site_model", "save_site_model"]

SCHEMA = 1
"""Version of the format; a reader refuses any other."""

PRESETS = ("desktop-2018", "raspberry-pi-3b")
"""Edgent's published coefficients."""

_COEFFICIENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "work": ("constant_s", "s_per_flop", "s_per_byte", "s_per_element"),
        "papers": ("constant_s", "s_per_input", "s_per_output"),
    }
)
_FOLDER = "presets"
_MALFORMED = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


def save_site_model(model: SiteModel, path: Path) -> None:
    """Write a site model.

    Raises:
        SiteModelError: If the file cannot be written.
    """
    regression = model.regression
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "name": model.name,
        "features": regression.features,
        "is_fused": model.is_fused,
        "kinds": {
            kind: _linear_json(found, regression.features)
            for kind, found in regression.models.items()
        },
        "pooled": _linear_json(regression.pooled, regression.features),
        "overhead_s": model.overhead_s,
        "scale_ratio": model.scale_ratio,
        "spread_ratio": model.spread_ratio,
        "errors": dict(model.errors),
        "limits": list(model.limits),
        "record": dict(model.record),
    }
    if model.loading is not None:
        content["loading"] = {
            "constant_s": model.loading.constant_s,
            "s_per_byte": model.loading.s_per_byte,
        }
    if model.largest_input_px is not None:
        content["largest_input_px"] = model.largest_input_px
    try:
        with new_file(path) as file:
            file.write(f"{json.dumps(content, indent=1, allow_nan=False)}\n".encode())
    except OSError as error:
        raise SiteModelError(f"{path} cannot be written: {error.strerror}") from error


def load_site_model(source: str | Path) -> SiteModel:
    """Read a site model from a file, or a preset by its name.

    Args:
        source: One of ``PRESETS``, or a file from ``isthmus profile --layers --save-model``.

    Raises:
        SiteModelError: If there is neither, or the file is no site model of this version.
    """
    if str(source) in PRESETS:
        text = (resources.files("isthmus.profiling") / _FOLDER / f"{source}.json").read_text(
            "utf-8"
        )
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise SiteModelError(
                f"{source}: no such file, and no preset (presets: {', '.join(PRESETS)}); make one "
                "with `isthmus profile --layers --save-model FILE` on the device"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise SiteModelError(f"{source} cannot be read: {error}") from error
    try:
        return _site_model(json.loads(text))
    except _MALFORMED as error:
        raise SiteModelError(
            f"{source} is no site model of schema {SCHEMA} ({error!r}); make one with `isthmus "
            "profile --layers --save-model FILE` on the device"
        ) from error


def _site_model(content: Mapping[str, Any]) -> SiteModel:
    if content["schema"] != SCHEMA:
        raise ValueError(f"its schema is {content['schema']!r}")
    features = str(content["features"])
    if features not in FEATURES:
        raise ValueError(f"unknown features {features!r}")
    loading, largest = content.get("loading"), content.get("largest_input_px")
    return SiteModel(
        name=str(content["name"]),
        regression=LayerRegression(
            features,
            {str(k): _linear(found, features) for k, found in content["kinds"].items()},
            _linear(content["pooled"], features),
        ),
        is_fused=bool(content["is_fused"]),
        overhead_s=_not_negative(content["overhead_s"]),
        scale_ratio=_not_negative(content["scale_ratio"]),
        spread_ratio=_not_negative(content["spread_ratio"]),
        errors={str(k): _not_negative(v) for k, v in content["errors"].items()},
        loading=Loading(_not_negative(loading["constant_s"]), _not_negative(loading["s_per_byte"]))
        if loading is not None
        else None,
        largest_input_px=int(largest) if largest is not None else None,
        limits=tuple(str(limit) for limit in content["limits"]),
        record=dict(content["record"]),
    )


def _linear_json(model: LinearModel, features: str) -> dict[str, float]:
    names = _COEFFICIENTS[features]
    return {
        **dict(zip(names, model.coefficients, strict=True)),
        "spread_ratio": model.spread_ratio,
        "rows": model.rows,
    }


def _linear(content: Mapping[str, Any], features: str) -> LinearModel:
    coefficients = tuple(_finite(content[name]) for name in _COEFFICIENTS[features])
    return LinearModel(coefficients, _not_negative(content["spread_ratio"]), int(content["rows"]))


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _not_negative(value: Any) -> float:
    if _finite(value) < 0:
        raise ValueError(f"{value!r} is negative")
    return float(value)
