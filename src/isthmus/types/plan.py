"""Plan and PlanTable: all plans worth having, as arrays. Deciding is ``planning.decide``'s."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from isthmus.types.power import ILLUSTRATIVE_POWER, Power

__all__ = [
    "FAMILIES", "MODES", "OBJECTIVES", "SITE_FAMILIES", "STAGES",
    "Family", "Hedge", "Mode", "Objective", "Plan", "PlanRow", "PlanTable", "Rules",
]  # fmt: skip

Family = Literal["local", "file", "resized", "tensor", "split", "returned"]
FAMILIES: tuple[Family, ...] = get_args(Family)

Objective = Literal["least_latency", "most_accurate", "least_energy", "greatest_throughput"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

Mode = Literal["auto", "prefer_device", "prefer_edge", "only_device", "only_edge"]
MODES: tuple[Mode, ...] = get_args(Mode)

SITE_FAMILIES: Mapping[str, frozenset[Family]] = {
    "device": frozenset({"local"}),
    "edge": frozenset({"file", "resized", "tensor"}),
}
"""Families of plans that run all of the network's layers at one site."""

STAGES = (
    "decode",  # device: file to pixels
    "preprocess",  # device: resize, crop, normalise
    "head",  # device: layers before the cut
    "encode",  # device: tensor or pixels to bytes
    "connect",  # a round trip if no connection is open
    "upload",  # last byte leaves to last byte arrives
    "wait",  # the server's queue and what remains of loading
    "server_decode",  # server: bytes to tensors, input pipeline included
    "server",  # server: layers after the cut
    "download",  # the answer's way back
    "tail",  # device: layers after the server's answer
)
"""Stages of a plan in the order in which they happen; a row of zeros is a stage not taken."""


@dataclass(frozen=True)
class PlanRow:
    """What one row of a plan table does.

    Attributes:
        variant: Name of the network.
        family: ``local`` (all on the device), ``file`` (the photograph as it is), ``resized``
            (resized on the device, sent as an image), ``tensor`` (the input tensor), ``split`` (cut
            inside the network), ``returned`` (the server runs the first layers and the device
            the rest: Edgent's order).
        tensors: Frontier tensors of the cut, sorted; for ``tensor`` the network's input; empty for
            the other families.
        cut_id: Id of that cut; empty unless ``split`` or ``returned``.
        codec: Name of the codec of what crosses; empty for ``local`` and ``file``.
        unit: The server's model that answers (its resident unit); empty for ``local``.
        exit: Name of the exit at which the network is pruned or left; empty for the last.
        has_pixels: Whether what crosses is the photograph or computed without any weight.
        is_lossless: Whether the answer equals the unsplit network's within float tolerance.
        cloud_tensors: Frontier tensors of a second cut, behind which a third site works, sorted;
            empty where there are two sites.
    """

    variant: str
    family: Family
    tensors: tuple[str, ...] = ()
    cut_id: str = ""
    codec: str = ""
    unit: str = ""
    exit: str = ""
    has_pixels: bool = False
    is_lossless: bool = True
    cloud_tensors: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether no server takes part."""
        return self.family == "local"

    @property
    def label(self) -> str:
        """What people read, e.g. ``efficientnet-lite0 split 3f2a.. u8+zstd``."""
        behind = (">", *self.cloud_tensors) if self.cloud_tensors else ()
        parts = [self.variant, self.family, *self.tensors, *behind, self.codec, self.exit]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, eq=False)
class PlanTable:
    """All plans worth having, as arrays; compiled when profiled, decided online.

    The arrays cannot be written to any more.

    The time of stage ``s`` of plan ``p`` under conditions ``x`` is
    ``coefficients[p, s] @ x`` (only ``wait`` is not linear). The columns of ``x`` are looked up
    by name. Row ``p`` of every array describes ``rows[p]``.

    Attributes:
        rows: What each plan does, length ``P``.
        columns: Names of the conditions' columns, length ``K``.
        coefficients: float64 ``[P, S, K]``, seconds per unit of the column; ``S`` is ``STAGES``.
        residual_s: float64 ``[P]``, standard deviation of the latency that the conditions do not
            explain, seconds.
        sent_bytes: float64 ``[P]``, mean bytes sent, the file's own size not included.
        sent_bytes_sd: float64 ``[P]``, their standard deviation.
        accuracy: float64 ``[P]``, 0 to 1, agreement included; 0 where nobody says.
        agreement: float64 ``[P]``, share of inputs on which a lossy plan gives the lossless
            plan's answer; 1 for lossless plans.
        exit_probability: float64 ``[P]``, how often the plan leaves at its exit after the stage
            ``head``, so that the later stages are not taken; 0 where it has none.
    """

    rows: tuple[PlanRow, ...]
    columns: tuple[str, ...]
    coefficients: NDArray[np.float64] = field(repr=False)
    residual_s: NDArray[np.float64] = field(repr=False)
    sent_bytes: NDArray[np.float64] = field(repr=False)
    sent_bytes_sd: NDArray[np.float64] = field(repr=False)
    accuracy: NDArray[np.float64] = field(repr=False)
    agreement: NDArray[np.float64] = field(repr=False)
    exit_probability: NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        count = len(self.rows)
        expected = (count, len(STAGES), len(self.columns))
        if self.coefficients.shape != expected:
            raise ValueError(f"coefficients are {self.coefficients.shape}, expected {expected}")
        arrays = {
            name: getattr(self, name)
            for name in (
                "coefficients", "residual_s", "sent_bytes", "sent_bytes_sd",
                "accuracy", "agreement", "exit_probability",
            )
        }  # fmt: skip
        for name, array in arrays.items():
            if name != "coefficients" and array.shape != (count,):
                raise ValueError(f"{name} has shape {array.shape}, expected ({count},)")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds values that are not finite")
            array.flags.writeable = False


@dataclass(frozen=True)
class Rules:
    """What the user asks of a decision.

    Attributes:
        objective: ``most_accurate`` among the plans whose mean plus 1.64 standard deviations is
            within the deadline (without one: among all plans), ``least_latency``,
            ``least_energy`` of the device among the plans that are within the deadline, or
            ``greatest_throughput`` of a stream of requests.
        deadline_s: Seconds from the request to the answer; ``None`` for none.
        variants: Networks that may be used; ``None`` for all.
        families: Families of plans that may be used; ``None`` for all.
        no_pixels_leave: Whether plans that send the photograph, or anything computed from it
            without any weight, are excluded. This promises no privacy: what leaves a network's
            inside can be inverted too.
        mode: ``auto`` for the best plan anywhere. ``only_device`` and ``only_edge`` narrow
            ``families`` to those that run all layers there (``SITE_FAMILIES``).
            ``prefer_device`` and ``prefer_edge`` take such a plan where it is good enough:
            ``planning.decide`` says when.
        max_sent_bytes: Plans that are predicted to send more, on the mean and with the
            photograph if it is sent, are excluded, and a message that comes out larger gives way
            to another plan where there is one; ``None`` for no limit.
        power: What the device draws, for ``least_energy``.
        hedge_above_ratio: A remote plan that is late with at least this probability gets a hedge,
            if one helps: 0 hedges all of them. Needs a deadline; ``None`` for no hedges.
        allow_other_pixels: Whether photographs may be decoded by a server that is known to make
            other pixels of them than the device; else such plans are excluded.
    """

    objective: Objective = "most_accurate"
    deadline_s: float | None = None
    variants: frozenset[str] | None = None
    families: frozenset[Family] | None = None
    no_pixels_leave: bool = False
    mode: Mode = "auto"
    max_sent_bytes: float | None = None
    power: Power = ILLUSTRATIVE_POWER
    hedge_above_ratio: float | None = None
    allow_other_pixels: bool = False

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective {self.objective!r}: one of {', '.join(OBJECTIVES)}")
        if self.deadline_s is not None and not (
            math.isfinite(self.deadline_s) and self.deadline_s > 0
        ):
            raise ValueError(f"deadline_s must be a positive number, got {self.deadline_s}")
        unknown = (self.families or frozenset()) - frozenset(FAMILIES)
        if unknown:
            raise ValueError(f"unknown families {sorted(unknown)}, known are {FAMILIES}")
        if self.mode not in MODES:
            raise ValueError(f"mode {self.mode!r}: one of {', '.join(MODES)}")
        if self.max_sent_bytes is not None and not self.max_sent_bytes >= 0:
            raise ValueError(f"max_sent_bytes must not be negative, got {self.max_sent_bytes}")
        if self.hedge_above_ratio is not None and not 0 <= self.hedge_above_ratio <= 1:
            raise ValueError(f"hedge_above_ratio must be from 0 to 1, got {self.hedge_above_ratio}")
        if self.mode.startswith("only_"):
            families = SITE_FAMILIES[self.mode.removeprefix("only_")]
            if self.families is not None:
                families &= self.families
            object.__setattr__(self, "families", families)


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second, local plan, started while the first is still on its way.

    Attributes:
        row: What it does.
        index: Its row in the table.
        start_s: Seconds after the request at which it starts, unless the answer is there.
        accuracy: Of its answer, 0 to 1.
        late_ratio: Probability that neither answer is within the deadline, 0 to 1.
    """

    row: PlanRow
    index: int
    start_s: float
    accuracy: float
    late_ratio: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One row of a plan table, decided.

    Attributes:
        row: What it does.
        index: Its row in the table.
        latency_s: Predicted mean latency, seconds.
        latency_sd_s: Predicted standard deviation, seconds.
        accuracy: Expected accuracy, 0 to 1.
        sent_bytes: Predicted bytes sent.
        slack_s: Deadline minus mean minus 1.64 standard deviations, negative if it will probably
            be late; infinite without a deadline.
        stages_s: Predicted seconds by stage, in the order of ``STAGES``.
        energy_j: What the device draws for it beyond its rest, joules, by the rules' power.
        late_ratio: Probability that it is late, 0 to 1; 0 without a deadline.
        hedge: A local plan beside it, if the rules ask for one and it helps.
    """

    row: PlanRow
    index: int
    latency_s: float
    latency_sd_s: float
    accuracy: float
    sent_bytes: float
    slack_s: float
    stages_s: Mapping[str, float]
    energy_j: float = 0.0
    late_ratio: float = 0.0
    hedge: Hedge | None = None
