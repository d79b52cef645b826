"""Linear models of layers' times by kind, fitted on some networks, to predict those of others.

After Neurosurgeon and Edgent, whose features are one of two sets; coefficients are not negative
here, so that no prediction is. It measures nothing, and does not know which layers run as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from isthmus.estimation.fit import fit_symmetric, spread
from isthmus.estimation.units import Work, paper_kind

__all__ = ["FEATURES", "KINDS", "LayerRegression", "LinearModel", "fit_layers"]

FEATURES: Mapping[str, Callable[[Work], tuple[float, ...]]] = MappingProxyType(
    {
        "work": lambda work: (1.0, work.flops, work.moved_bytes, work.output_elements),
        "papers": lambda work: (1.0, work.inputs, work.outputs),
    }
)
"""What a kind's model is linear in: ours, and that of Neurosurgeon and Edgent, the baseline."""

KINDS: Mapping[str, Callable[[Work], str]] = MappingProxyType(
    {"work": lambda work: work.kind, "papers": paper_kind}
)
"""What has a model of its own: with our features operators, with the papers' their layer types."""

_LEAST_ROWS = 4
"""A kind seen less often than this is predicted by the pooled model."""


@dataclass(frozen=True)
class LinearModel:
    """Seconds, linear in the features of one kind.

    Attributes:
        coefficients: One for each feature, seconds per unit of it.
        spread_ratio: Robust standard deviation of the relative errors that the fit left.
        rows: How many measurements it was fitted to; 0 if it was published.
    """

    coefficients: tuple[float, ...]
    spread_ratio: float = 0.0
    rows: int = 0

    def predicted_s(self, features: Sequence[float]) -> float:
        """Return the predicted seconds, at least 0 (published coefficients may be negative)."""
        terms = zip(self.coefficients, features, strict=True)
        return max(0.0, sum(per_unit * amount for per_unit, amount in terms))


@dataclass(frozen=True)
class LayerRegression:
    """A model for each kind of layer, and one for all others.

    Attributes:
        features: Key of ``FEATURES`` and ``KINDS``.
        models: By kind.
        pooled: For kinds without a model of their own.
    """

    features: str
    models: Mapping[str, LinearModel]
    pooled: LinearModel

    def predicted_s(self, work: Work) -> float:
        """Return the predicted time of a unit, seconds, at least 0."""
        return self.model_of(work).predicted_s(FEATURES[self.features](work))

    def model_of(self, work: Work) -> LinearModel:
        """Return the model that predicts a unit."""
        return self.models.get(KINDS[self.features](work), self.pooled)


def fit_layers(
    work: Sequence[Work], seconds: Sequence[float], *, features: str = "work"
) -> LayerRegression:
    """Fit one model to each kind of unit that was measured often enough, and one to all.

    Least squares of errors relative to the larger of measured and predicted time, no coefficient
    negative. Units that took no time, since they
    were not run, are left out.

    Args:
        work: What the measured units do.
        seconds: What each took.
        features: Key of ``FEATURES``.

    Raises:
        ValueError: If the sequences do not fit, or nothing took any time.

    References:
        Kang et al., "Neurosurgeon", ASPLOS 2017; Li et al., "Edgent", 2018. *Departs*: what is
        fused is one unit; relative errors count; coefficients are not negative.
    """
    rows = [(w, s) for w, s in zip(work, seconds, strict=True) if s > 0]
    by_kind: dict[str, list[tuple[Work, float]]] = {}
    for unit, unit_s in rows:
        by_kind.setdefault(KINDS[features](unit), []).append((unit, unit_s))
    models = {
        kind: _fitted(found, features)
        for kind, found in sorted(by_kind.items())
        if len(found) >= _LEAST_ROWS
    }
    return LayerRegression(features, models, _fitted(rows, features))


def _fitted(rows: Sequence[tuple[Work, float]], features: str) -> LinearModel:
    x = np.array([FEATURES[features](work) for work, _ in rows])
    y = np.array([seconds for _, seconds in rows])
    coefficients = fit_symmetric(x, y)
    return LinearModel(tuple(coefficients.tolist()), spread(x @ coefficients / y - 1.0), len(rows))
