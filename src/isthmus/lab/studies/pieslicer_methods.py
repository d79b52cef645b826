"""How each method places a request: static ones, PieSlicer's rule, and Isthmus's plan table.

A method learns from the training photographs and then sees a request's header and what it observed
of earlier ones, never the recorded times of the one it places; only the two limits do, ``optimal``
and ``informed``. It computes no figure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from isthmus.estimation.link import LinkEstimate
from isthmus.lab.studies.pieslicer_bed import (
    Cell,
    Line,
    Requests,
    line_through,
    published_lines,
)
from isthmus.lab.studies.pieslicer_measure import FILE, ON_DEVICE, PLACEMENTS, SIDE_PX, Times
from isthmus.planning.columns import columns_for
from isthmus.planning.decide import decide
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.profiling.input_costs import Sample, Terms, decode_terms, resize_terms
from isthmus.types.conditions import Conditions
from isthmus.types.plan import Family, PlanRow, PlanTable, Rules

__all__ = ["METHODS", "Lines", "Placed", "fitted_lines", "input_table", "place", "published_rule"]

METHODS = (
    "optimal", "informed", "in_cloud", "on_device", "pieslicer", "pieslicer_published",
    "isthmus_two", "isthmus",
)  # fmt: skip
"""The best of two in hindsight; the better of two by what each photograph took when it was measured
again, and by the link's line, which is all that anybody could know beforehand; always the file;
always resized; PieSlicer with lines fitted to the training photographs and with its published ones;
Isthmus with the same two placements and with all.
"""

_SHORT_CIRCUIT_BYTES = 53_982
_PUBLISHED_RESIZED_BYTES = 127_000
_TWO = (FILE, ON_DEVICE)
_RULES = Rules("least_latency")

_Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Lines:
    """PieSlicer's estimator.

    Attributes:
        on_device: Preprocessing there, f.
        transfer: Of so many bytes, g.
        in_cloud: Preprocessing there, h.
        resized_bytes: Size of every preprocessed photograph.
    """

    on_device: Line
    transfer: Line
    in_cloud: Line
    resized_bytes: float

    @property
    def break_even_bytes(self) -> float:
        """File size from which preprocessing on the device is faster; infinite if it never is."""
        gained = self.transfer.s_per_byte + self.in_cloud.s_per_byte
        slope = gained - self.on_device.s_per_byte
        paid_s = self.on_device.constant_s + self.resized_bytes * gained
        return max(paid_s, 0.0) / slope if slope > 0 else np.inf


@dataclass(frozen=True, eq=False)
class Placed:
    """Where a method placed each request.

    Attributes:
        placement: Of ``PLACEMENTS``, int ``[R]``.
        decision_s: What deciding one request takes on this machine, seconds; 0 where it was not
            measured.
    """

    placement: _Indices
    decision_s: float = 0.0


def place(
    cell: Cell, times: Times, training: _Indices, learnt: Requests, judged: Requests
) -> dict[str, Placed]:
    """Return where each method places the judged requests of a cell.

    Args:
        cell: The device and the network.
        times: What photographs took with that device; only the training ones are looked at.
        training: The training photographs.
        learnt: Requests about those.
        judged: Requests about others.
    """
    fitted = fitted_lines(times, training, learnt)
    count = len(judged.photograph)
    two = np.array(_TWO)
    estimate = _link_of(learnt)
    foreseen_s = judged.second_s - judged.link_s + cell.link.at(judged.sent_bytes)
    return {
        "optimal": Placed(two[judged.total_s[:, two].argmin(axis=1)]),
        "informed": Placed(two[foreseen_s[:, two].argmin(axis=1)]),
        "in_cloud": Placed(np.full(count, FILE)),
        "on_device": Placed(np.full(count, ON_DEVICE)),
        "pieslicer": Placed(pieslicer(fitted, judged)),
        "pieslicer_published": Placed(pieslicer(published_rule(cell), judged)),
        "isthmus_two": isthmus(input_table(times, training, _TWO), estimate, judged),
        "isthmus": isthmus(input_table(times, training, range(len(PLACEMENTS))), estimate, judged),
    }


def fitted_lines(times: Times, training: _Indices, learnt: Requests) -> Lines:
    """Return PieSlicer's lines, least squares over the training photographs.

    Args:
        times: What photographs took with the device.
        training: Those to fit to.
        learnt: Requests about them, with the link's part.
    """
    sizes = times.sent_bytes[training, FILE]
    return Lines(
        line_through(sizes, times.device_s[training, ON_DEVICE]),
        line_through(learnt.sent_bytes[:, FILE], learnt.link_s[:, FILE]),
        line_through(sizes, times.received_s[training, FILE]),
        float(times.sent_bytes[training, ON_DEVICE].mean()),
    )


def published_rule(cell: Cell) -> Lines:
    """Return the estimator with the published coefficients, size of preprocessed ones included.

    As the formulas mean it: the published code truncates that size to 0 MB.
    """
    lines = published_lines()
    return Lines(
        lines["on_device", cell.device, ""],
        cell.link,
        lines["in_cloud", "", ""],
        _PUBLISHED_RESIZED_BYTES,
    )


def pieslicer(lines: Lines, requests: Requests) -> _Indices:
    """Place requests by three lines; ties go to the cloud, and so do small files.

    Args:
        lines: The estimator.
        requests: Of which headers are looked at.

    References:
        Ogden, Kong, Guo, "PieSlicer", ICPE 2021, with the short-circuit and its constants, without
        the correction of transfers, which the published code starts anew for every request.
    """
    sizes = np.array([facts.file_bytes for facts in requests.facts], dtype=float)
    shorter_px = np.array([min(facts.width, facts.height) for facts in requests.facts])
    resized = lines.resized_bytes
    on_device_s = (
        lines.on_device.at(sizes) + lines.transfer.at(resized) + lines.in_cloud.at(resized)
    )
    in_cloud_s = lines.transfer.at(sizes) + lines.in_cloud.at(sizes)
    is_small = (sizes < _SHORT_CIRCUIT_BYTES) | (shorter_px < SIDE_PX)
    return np.where((in_cloud_s > on_device_s) & ~is_small, ON_DEVICE, FILE)


def input_table(times: Times, training: _Indices, placements: Sequence[int]) -> PlanTable:
    """Return a plan table of the input pipeline's placements, fitted as when profiling.

    Args:
        times: What photographs took with the device.
        training: Those to fit to.
        placements: The rows, of ``PLACEMENTS``.
    """
    chosen = [(number, times.facts[number]) for number in training.tolist()]

    def samples(seconds: NDArray[np.float64]) -> list[Sample]:
        return [Sample(facts, float(seconds[number])) for number, facts in chosen]

    decode = decode_terms("device", {SIDE_PX: samples(times.decode_s)})[SIDE_PX]
    resize = resize_terms("device", SIDE_PX, samples(times.resize_s))
    of_file = _sum(
        decode_terms("server", {SIDE_PX: samples(times.file_decode_s)})[SIDE_PX],
        resize_terms("server", SIDE_PX, samples(times.file_resize_s)),
    )
    entries = []
    for placement in placements:
        codec, is_file = PLACEMENTS[placement], placement == FILE
        family: Family = "file" if is_file else "tensor" if codec == "tensor" else "resized"
        sizes = times.sent_bytes[training, placement]
        sent_bytes = 0.0 if is_file else float(sizes.mean())
        terms = {
            **link_terms(family, sent_bytes=sent_bytes, received_bytes=0.0),
            "server_decode": of_file
            if is_file
            else {"server": float(times.received_s[training, placement].mean())},
        }
        if not is_file:
            encode_s = float(times.encode_s[training, placement].mean())
            terms |= {"decode": decode, "preprocess": resize, "encode": {"device": encode_s}}
        row = PlanRow("input", family, codec="" if is_file else codec, unit="input")
        sd_bytes = 0.0 if is_file else float(sizes.std())
        entries.append(PlanEntry(row, terms, sent_bytes=sent_bytes, sent_bytes_sd=sd_bytes))
    return compile_table(entries, columns_for([SIDE_PX]))


def isthmus(table: PlanTable, estimate: LinkEstimate, requests: Requests) -> Placed:
    """Decide each request by a plan table, and learn the link from what was sent before.

    Args:
        table: Of ``input_table``.
        estimate: Of the link, before the first request.
        requests: In the order in which they come.
    """
    positions = [0 if not row.codec else PLACEMENTS.index(row.codec) for row in table.rows]
    placed, deciding_s = [], []
    for number, facts in enumerate(requests.facts):
        conditions = Conditions(estimate.link, facts)
        begun_at_s = time.perf_counter()
        plan = decide(table, conditions, _RULES)
        deciding_s.append(time.perf_counter() - begun_at_s)
        placement = positions[plan.index]
        placed.append(placement)
        sent_bytes = int(requests.sent_bytes[number, placement])
        estimate = estimate.observe(sent_bytes, 0, float(requests.link_s[number, placement]))
    return Placed(np.array(placed, dtype=np.intp), median(deciding_s))


def _link_of(learnt: Requests) -> LinkEstimate:
    """Return the link as the training requests tell it: each sent once as a file, once resized."""
    exchanges = [
        (int(sent_bytes), 0, float(link_s))
        for sizes, seconds in zip(learnt.sent_bytes[:, _TWO], learnt.link_s[:, _TWO], strict=True)
        for sent_bytes, link_s in zip(sizes, seconds, strict=True)
    ]
    return LinkEstimate.from_probe(exchanges)


def _sum(one: Terms, other: Terms) -> Terms:
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {**one, **other}}
