"""Agreement and true accuracy side by side: what a codec's changed answers cost where labels are.

    python benchmarks/labelled_agreement.py [FOLDER] [--ledger FILE] [--json FILE]

FOLDER holds images named NUMBER-CLASS.png; by default the thousand Fashion-MNIST test images in the
zoo, while `python -m tools.zoo.fashion` leaves all ten thousand in its downloads. For each of the
zoo's networks for them, each cut that `isthmus build` would keep and each lossy codec, every image
is run without and with the codec: how often the first answer stays (95 % Wilson interval), how many
right ones are lost and how many wrong ones are put right. All are counted to the end; --ledger adds
the counts to a file as `isthmus build --agreement` reads it.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import isthmus_zoo
from isthmus.building.agreement import AgreementCounter, Loss
from isthmus.building.crops import Crops
from isthmus.building.ledger import Ledger
from isthmus.loading.onnx_file import load_graph, load_variant, read_model
from isthmus.loading.split import split_model
from isthmus.planning.candidates import candidates
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.types.proportion import Proportion

TASK = "fashion-mnist"


def main() -> None:
    """Print a line for each codec and cut."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--networks", nargs="+", default=isthmus_zoo.model_names(TASK))
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    files = isthmus_zoo.photograph_paths(task=TASK)
    if options.folder is not None:
        files = tuple(sorted(options.folder.glob("*.png")))
    ledger = Ledger(options.ledger)
    found = []
    for name in options.networks:
        found += counted(name, files, ledger, options.workers)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


def counted(name: str, files: Sequence[Path], ledger: Ledger, workers: int) -> list[dict[str, Any]]:
    """Count one network, print its lines and return them."""
    path = isthmus_zoo.model_path(name)
    graph, variant, model = load_graph(path, name=name), load_variant(path), read_model(path)
    cuts = [cut for cut in candidates(graph, limit=8).cuts if not {*cut} & {*graph.outputs}]
    splits = [split_model(model, graph, cut) for cut in cuts]
    losses = lossy(graph, splits)
    crops = Crops(files, enough=len(files))
    classes = [slug(label) for label in variant.labels]
    tally: dict[Loss, Counter[str]] = {loss: Counter() for loss in losses}
    right = 0
    with (
        AgreementCounter(variant, model, graph, splits) as counter,
        ThreadPoolExecutor(workers) as pool,
    ):
        answers = pool.map(partial(counter.answers, losses, crops), range(crops.photographs))
        for k, one in enumerate(answers):
            truth = classes.index(crops.path(k).stem.partition("-")[2])
            was_right = one.whole["logits"] == truth
            right += was_right
            for loss in losses:
                behind = one.behind[loss]
                is_right = behind is not None and behind["logits"] == truth
                tally[loss]["agreed"] += one.agree(loss)
                tally[loss]["lost"] += was_right and not is_right
                tally[loss]["won"] += is_right and not was_right
    of = crops.photographs
    counts = {loss: Proportion(tally[loss]["agreed"], of) for loss in losses}
    ledger.add(name, graph.sha256, crops, counts)
    print(f"{name}: {right} of {of} right")
    lines = []
    for loss, count in counts.items():
        low, high = count.interval
        lost, won = tally[loss]["lost"], tally[loss]["won"]
        where = "+".join(loss.tensors) or "photograph"
        print(
            f"  {where:32s} {loss.codec:8s} {count.ratio:.4f} ({low:.4f}-{high:.4f})"
            f"  right {right - lost + won} (-{lost}, +{won})"
        )
        lines.append(
            {
                "network": name,
                "cut": where,
                "codec": loss.codec,
                "images": of,
                "agreed": count.counted,
                "interval": [low, high],
                "right": right,
                "lost": lost,
                "won": won,
            }
        )
    return lines


def lossy(graph: Any, splits: Sequence[Any]) -> list[Loss]:
    """Return the image codecs, and for each cut the tensor codecs, that lose something."""
    losses = [Loss(codec.name) for codec in IMAGE_CODECS.values() if not codec.is_lossless]
    for split in splits:
        has_channels = all(len(graph.tensors[name].shape) > 2 for name in split.cut.tensors)
        for codec in ("fp16", "u8c", "u8") if has_channels else ("fp16", "u8"):
            losses.append(Loss(codec, split.cut.id, split.cut.tensors))
    return losses


def slug(label: str) -> str:
    """Return a class as it is in the names of the files."""
    return label.lower().replace("/", "-").replace(" ", "-")


if __name__ == "__main__":
    main()
