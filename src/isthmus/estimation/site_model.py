"""SiteModel: what any network would take on a site, predicted from what some networks took there.

A prediction is worth what its error is: every model carries that of networks it was not fitted
on, and every prediction a spread. It measures nothing and reads no file: that is
``profiling.site_model_file``'s.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from isthmus.estimation.fit import fit_nonnegative
from isthmus.estimation.regression import LayerRegression, fit_layers
from isthmus.estimation.units import Work, fused_units, work_of
from isthmus.types.graph import ModelGraph

__all__ = ["Loading", "MeasuredNetwork", "Predicted", "SiteModel", "fit_site_model"]


@dataclass(frozen=True)
class Predicted:
    """A time that nobody measured.

    Attributes:
        seconds: At least 0.
        sd_s: Standard deviation of its error, as far as the model knows; 0 if it says nothing.
    """

    seconds: float
    sd_s: float


@dataclass(frozen=True)
class Loading:
    """Time to load a network's weights, linear in their size.

    Attributes:
        constant_s: For any network.
        s_per_byte: Beside that.
    """

    constant_s: float
    s_per_byte: float


@dataclass(frozen=True)
class SiteModel:
    """What predicts the time of any part of any network on one site.

    Attributes:
        name: The site's.
        regression: Of single units.
        is_fused: Whether units are what onnxruntime fuses; else single layers.
        overhead_s: What running any part costs beside its units.
        scale_ratio: Time of a network over the sum of its predicted units, overhead aside.
        spread_ratio: Root mean square of the relative errors for whole networks left out of the
            fit; 0 if unknown.
        errors: Absolute relative errors on networks left out: median and 95 % quantile, of units
            and of whole networks. Empty if unknown.
        loading: Of a network that is not in memory, if known.
        largest_input_px: Longest side of images for which the convolutions are valid, if limited.
        limits: What must be known about the figures, as sentences.
        record: How it was made: versions, date, networks; JSON values.
    """

    name: str
    regression: LayerRegression
    is_fused: bool = True
    overhead_s: float = 0.0
    scale_ratio: float = 1.0
    spread_ratio: float = 0.0
    errors: Mapping[str, float] = field(default_factory=dict)
    loading: Loading | None = None
    largest_input_px: int | None = None
    limits: tuple[str, ...] = ()
    record: Mapping[str, object] = field(default_factory=dict)

    def part(
        self, graph: ModelGraph, layers: Collection[int], *, is_loaded: bool = True
    ) -> Predicted:
        """Predict a part of a network: a head, a tail, or all of it.

        Args:
            graph: The network.
            layers: Indices of the part's layers; none take no time.
            is_loaded: Whether it is in memory; else loading it is part of the time, where the
                model knows (Edgent's table has it in every inference).
        """
        if not layers:
            return Predicted(0.0, 0.0)
        work = [work_of(graph, unit) for unit in self._units(graph, layers)]
        sum_s = sum(map(self.regression.predicted_s, work))
        seconds = self.overhead_s + self.scale_ratio * sum_s
        if not is_loaded and self.loading is not None:
            weights = sum(graph.layers[index].weight_bytes for index in layers)
            seconds += self.loading.constant_s + self.loading.s_per_byte * weights
        return Predicted(seconds, self.spread_ratio * seconds)

    def warnings(self, graph: ModelGraph) -> tuple[str, ...]:
        """Return why predictions for a network are not to be believed, as sentences."""
        found = []
        longest = max((s for n in graph.inputs for s in graph.tensors[n].shape[2:]), default=0)
        convolves = any(layer.kernel for layer in graph.layers)
        if self.largest_input_px is not None and longest > self.largest_input_px and convolves:
            found.append(
                f"{self.name}: its convolutions carry no image size and hold for inputs of "
                f"{self.largest_input_px} pixels; {graph.name} takes {longest}, so its times are "
                "far too low"
            )
        work = [work_of(graph, unit) for unit in self._units(graph, range(len(graph.layers)))]
        unknown = {unit.kind for unit in work if unit.flops and self._is_pooled(unit)}
        if unknown:
            found.append(
                f"{self.name}: knows nothing of {', '.join(sorted(unknown))} in {graph.name}; "
                "predicted as an average layer"
            )
        return tuple(found)

    def _units(self, graph: ModelGraph, layers: Collection[int]) -> Sequence[tuple[int, ...]]:
        return fused_units(graph, layers) if self.is_fused else [(index,) for index in layers]

    def _is_pooled(self, work: Work) -> bool:
        return self.regression.model_of(work) is self.regression.pooled


@dataclass(frozen=True)
class MeasuredNetwork:
    """What one network did and took on the site.

    Attributes:
        name: The network's.
        units: Work of the units that ran.
        seconds: What each of them took.
        network_s: What the whole network took.
        predictable: Work of the units that a prediction would go by (``fused_units``).
    """

    name: str
    units: tuple[Work, ...]
    seconds: tuple[float, ...]
    network_s: float
    predictable: tuple[Work, ...]


def fit_site_model(
    name: str,
    networks: Sequence[MeasuredNetwork],
    *,
    features: str = "work",
    record: Mapping[str, object] | None = None,
) -> SiteModel:
    """Fit a site's model, and find its error on networks that it has not seen.

    Each network is left out once: layers' models, overhead and scale are fitted to the others.

    Args:
        name: The site's.
        networks: What was measured there, at least three networks.
        features: Key of ``regression.FEATURES``.
        record: To be kept with the model.

    Raises:
        ValueError: If there are less than three networks.
    """
    if len(networks) < 3:
        raise ValueError(
            f"{len(networks)} networks are too few to fit a site model: measure at least 3"
        )
    unit_errors: list[float] = []
    network_errors: list[float] = []
    for left_out in networks:
        others = [network for network in networks if network is not left_out]
        regression, overhead_s, scale = _fitted(others, features)
        predicted_s = overhead_s + scale * _sum_s(regression, left_out)
        network_errors.append(predicted_s / left_out.network_s - 1.0)
        unit_errors += [
            regression.predicted_s(work) / seconds - 1.0
            for work, seconds in zip(left_out.units, left_out.seconds, strict=True)
            if seconds > 0
        ]
    regression, overhead_s, scale = _fitted(networks, features)
    return SiteModel(
        name,
        regression,
        overhead_s=overhead_s,
        scale_ratio=scale,
        spread_ratio=math.sqrt(float(np.mean(np.square(network_errors)))),
        errors={
            "unit_median_ratio": float(np.median(np.abs(unit_errors))),
            "unit_p95_ratio": float(np.quantile(np.abs(unit_errors), 0.95)),
            "network_median_ratio": float(np.median(np.abs(network_errors))),
            "network_p95_ratio": float(np.quantile(np.abs(network_errors), 0.95)),
        },
        record={**(record or {}), "networks": [network.name for network in networks]},
    )


def _fitted(
    networks: Sequence[MeasuredNetwork], features: str
) -> tuple[LayerRegression, float, float]:
    """Return models of units, what a run costs beside them, and the scale of their sum."""
    work = [unit for network in networks for unit in network.units]
    seconds = [unit_s for network in networks for unit_s in network.seconds]
    regression = fit_layers(work, seconds, features=features)
    sums = [[1.0, _sum_s(regression, network)] for network in networks]
    overhead_s, scale = fit_nonnegative(sums, [network.network_s for network in networks])
    return regression, float(overhead_s), float(scale)


def _sum_s(regression: LayerRegression, network: MeasuredNetwork) -> float:
    return sum(regression.predicted_s(work) for work in network.predictable)
