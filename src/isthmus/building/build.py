"""Build a bundle on a workstation: networks -> candidate cuts -> heads -> bundle.

It measures no time of layers (``profiling`` does, on the device), but it does run the lossy plans
on images, to leave out those that change too many answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from isthmus.building.agreement import AgreementCounter
from isthmus.building.crops import Crops
from isthmus.building.selection import Tolerance, select
from isthmus.errors import BundleError, ImageError, ModelError
from isthmus.loading.bundle import Candidate, save_manifest
from isthmus.loading.files import check_name, is_safe_name, new_file, new_folder
from isthmus.loading.onnx_file import load_graph, load_variant, read_model
from isthmus.loading.shared_weights import save_sharing_weights
from isthmus.loading.split import Split, split_model
from isthmus.planning.candidates import CandidateCuts, candidates
from isthmus.planning.pixels import has_pixels
from isthmus.runtime import image
from isthmus.runtime.codecs import CODECS
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.types.graph import ModelGraph
from isthmus.types.plan import PlanRow
from isthmus.types.progress import SILENT, Progress
from isthmus.types.unit import image_name, tail_name
from isthmus.types.variant import Variant

__all__ = ["CUTS_PER_VARIANT", "BuildReport", "build_bundle", "split_rows"]

CUTS_PER_VARIANT = 8
"""Cuts kept per network: each costs the device a head and the server a tail in memory."""


@dataclass(frozen=True)
class BuildReport:
    """What a build made.

    Attributes:
        path: The bundle.
        size_bytes: Of all its files.
        cuts: Those of each network, by its name, and what is lost by having no others.
        candidates: The plans that it holds.
        dropped: The lossy plans left out since they changed too many answers.
        unasked: The plans left out since no link would ask for their codec: another one of the
            same cut is faster and loses no more, or it cannot carry these tensors.
        images: On how many images that was counted.
    """

    path: Path
    size_bytes: int
    cuts: Mapping[str, CandidateCuts]
    candidates: tuple[Candidate, ...]
    dropped: tuple[Candidate, ...]
    unasked: tuple[PlanRow, ...]
    images: int


def build_bundle(
    models: Mapping[str, Path],
    output: Path,
    *,
    photographs: Sequence[Path] = (),
    calibration: Sequence[Path] = (),
    cuts_per_variant: int = CUTS_PER_VARIANT,
    tolerance: Tolerance | None = None,
    progress: Progress = SILENT,
) -> BuildReport:
    """Write the bundle of some networks for the same task.

    The bundle appears complete or not at all; an existing one is replaced at the end. Only one
    process can build or profile it at a time.

    Args:
        models: ONNX files by the name under which the server has them.
        output: The folder to write.
        photographs: On images made of these (``crops``) the answers of lossy plans are compared
            with those of the whole network, or on themselves if they are as many as the tolerance
            asks for; without any, no lossy plan is kept.
        calibration: Photographs that go into the bundle, to be measured with on the device.
        cuts_per_variant: At most so many cuts inside each network.
        tolerance: How much lossy plans may change, and counts that are known already.
        progress: Told about each step.

    Raises:
        ModelError: If a file is no network with one image input, or tasks differ.
        RepositoryError: If a name cannot be a folder's.
        BundleError: If ``output`` is something else than a bundle, another process is building or
            profiling it, or there is nothing to build.
        ImageError: If a photograph cannot be decoded.
        OSError: If the bundle cannot be written; what was there stays.
    """
    if not models:
        raise BundleError("no models to build a bundle from")
    if not calibration:
        raise BundleError(
            "no calibration photographs: the device measures its input pipeline with them; "
            "give a few camera-sized ones with --calibration"
        )
    if output.exists() and not _is_bundle(output):
        raise BundleError(f"{output} exists and is no bundle: move it away or choose another name")
    variants = {name: _photograph_variant(path, name) for name, path in models.items()}
    _check_tasks(variants)
    tolerance = tolerance or Tolerance()
    if not photographs:
        tolerance = replace(tolerance, images=0)
    crops = Crops(photographs or calibration, enough=tolerance.images or None)
    with new_folder(output) as folder:
        photographs_here = _copy_calibration(folder, calibration)
        progress.begin("build", len(models) * 2)
        heads: dict[tuple[str, str], str] = {}
        cuts: dict[str, CandidateCuts] = {}
        kept: list[Candidate] = []
        dropped: list[Candidate] = []
        unasked: list[PlanRow] = []
        for name, path in models.items():
            model = read_model(path)
            graph = _classifier_graph(path, variants[name])
            cuts[name] = candidates(graph, limit=cuts_per_variant)
            splits = tuple(split_model(model, graph, tensors) for tensors in cuts[name].cuts)
            heads |= _save_heads(folder, model, name, splits)
            progress.advance(f"{name}: {len(splits)} cuts")
            rows = _rows(variants[name], graph, splits)
            with AgreementCounter(variants[name], model, graph, splits) as counter:
                good, bad = select(rows, counter, crops, tolerance, progress)
            progress.advance(f"{name}: {len(good)} plans")
            kept += good
            dropped += bad
            told = {candidate.row for candidate in (*good, *bad)}
            unasked += (row for row in rows if row not in told)
        save_manifest(
            folder,
            variants=variants,
            heads=heads,
            candidates=tuple(kept),
            calibration=photographs_here,
        )
    size_bytes = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    return BuildReport(
        output, size_bytes, cuts, tuple(kept), tuple(dropped), tuple(unasked), tolerance.images
    )


def _is_bundle(folder: Path) -> bool:
    """Return whether a folder is a bundle, of any schema: other programs have manifests, too."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"schema", "variants", "files"} <= manifest.keys()


def _photograph_variant(path: Path, name: str) -> Variant:
    check_name(name)
    variant = load_variant(path, name=name)
    if variant.pipeline is None:
        raise ModelError(
            f"{path} does not say how its input is made from a photograph: "
            "set the metadata key isthmus.input_pipeline"
        )
    return variant


def _classifier_graph(path: Path, variant: Variant) -> ModelGraph:
    """Load a graph and check that the pipeline makes its one input."""
    graph = load_graph(path, name=variant.name)
    if len(graph.inputs) != 1:
        raise ModelError(f"{path} has inputs {graph.inputs}: one image input was expected")
    spec = graph.tensors[graph.inputs[0]]
    assert variant.pipeline is not None  # checked before
    if (spec.dtype, spec.shape) != ("float32", variant.pipeline.tensor_shape):
        raise ModelError(
            f"{path} takes {spec.dtype} {list(spec.shape)}, but its isthmus.input_pipeline makes "
            f"float32 {list(variant.pipeline.tensor_shape)}: correct the one that is wrong"
        )
    return graph


def _save_heads(
    folder: Path, model: onnx.ModelProto, name: str, splits: Sequence[Split]
) -> dict[tuple[str, str], str]:
    """Write the whole network and its heads with one weights file; return their places."""
    target = folder / "networks" / name
    target.mkdir(parents=True)
    parts = {"whole": model}
    places = {(name, ""): f"networks/{name}/whole.onnx"}
    for split in splits:
        if split.head is not None:
            parts[f"head-{split.cut.id}"] = split.head
            places[name, split.cut.id] = f"networks/{name}/head-{split.cut.id}.onnx"
    save_sharing_weights(parts, target)
    return places


def _rows(variant: Variant, graph: ModelGraph, splits: Sequence[Split]) -> tuple[PlanRow, ...]:
    name, as_file = variant.name, image_name(variant.name)
    rows = [
        PlanRow(name, "local"),
        PlanRow(name, "file", unit=as_file, has_pixels=True),
        *(
            PlanRow(
                name,
                "resized",
                codec=codec.name,
                unit=as_file,
                has_pixels=True,
                is_lossless=codec.is_lossless,
            )
            for codec in IMAGE_CODECS.values()
        ),
        PlanRow(name, "tensor", graph.inputs, codec="u8", unit=name, has_pixels=True),
    ]
    for split in splits:
        rows += split_rows(name, graph, split)
    return tuple(rows)


def split_rows(name: str, graph: ModelGraph, split: Split) -> list[PlanRow]:
    """Return the plans that cut a network there, one for each codec.

    Args:
        name: The network's, on the server.
        graph: The network.
        split: Its head and tail.
    """
    return [
        PlanRow(
            name,
            "split",
            split.cut.tensors,
            cut_id=split.cut.id,
            codec=codec.name,
            unit=tail_name(name, split.cut.id),
            has_pixels=has_pixels(graph, split.cut.tensors),
            is_lossless=codec.is_lossless,
        )
        for codec in CODECS.values()
    ]


def _check_tasks(variants: Mapping[str, Variant]) -> None:
    tasks = {variant.task for variant in variants.values()}
    if len(tasks) > 1:
        raise ModelError(f"the models answer different tasks: {sorted(tasks)}; build them apart")


def _copy_calibration(folder: Path, calibration: Sequence[Path]) -> tuple[str, ...]:
    (folder / "calibration").mkdir()
    names = []
    for number, photograph in enumerate(calibration, 1):  # two may be called alike, or "12:30.jpg"
        numbered = f"{number}{photograph.suffix}"
        name = f"calibration/{numbered if is_safe_name(numbered) else number}"
        data = photograph.read_bytes()
        try:
            image.decode(data, shorter_side_px=1)
        except ImageError as error:
            raise ImageError(f"{photograph}: {error}") from error
        with new_file(folder / name) as file:
            file.write(data)
        names.append(name)
    return tuple(names)
