"""``python -m tools.zoo``: fetch, convert, make the photographs, verify, write the cards."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from .cards import FASHION_HEADING, model_cards, photograph_origins
from .convert import convert_all
from .fetch import Downloads, sha256_of
from .photographs import make_photographs
from .verify import Agreement, verify_all

ZOO = Path(__file__).parents[2] / "zoo"


def main() -> int:
    """Run all steps; exit status 1 if a network does not agree with its original."""
    parser = argparse.ArgumentParser(prog="python -m tools.zoo", description=__doc__)
    default = Path(tempfile.gettempdir()) / "isthmus-zoo-downloads"
    parser.add_argument("--downloads", type=Path, default=default, help="kept between runs")
    parser.add_argument("--zoo", type=Path, default=ZOO, help="the distribution's folder")
    parser.add_argument("--models-only", action="store_true", help="leave the photographs alone")
    arguments = parser.parse_args()
    downloads = Downloads(arguments.downloads.resolve())
    models = arguments.zoo / "src/isthmus_zoo/models"
    photographs = arguments.zoo / "src/isthmus_zoo/photographs"
    torch.set_num_threads(1)

    downloads.fetch_python()
    convert_all(downloads, models)
    if not arguments.models_only:
        downloads.fetch_debian()
        make_photographs(downloads, photographs)
    agreements = verify_all(downloads, models, sorted(photographs.glob("*.jpg")))
    for agreement in agreements:
        _print(agreement, models)
    cards = arguments.zoo / "MODELS.md"
    kept = cards.read_text(encoding="utf-8") if cards.exists() else ""
    _, heading, fashion = kept.partition(FASHION_HEADING)
    text = model_cards(models, agreements) + (f"\n{heading}{fashion}" if heading else "")
    cards.write_text(text, encoding="utf-8")
    records = json.loads((photographs / "origins.json").read_text(encoding="utf-8"))["photographs"]
    (photographs / "ORIGINS.md").write_text(photograph_origins(records), encoding="utf-8")
    return 0 if all(agreement.is_accepted for agreement in agreements) else 1


def _print(agreement: Agreement, models: Path) -> None:
    path = models / f"{agreement.network}.onnx"
    verdict = "accepted" if agreement.is_accepted else "REFUSED"
    print(f"{agreement.network}: {path.stat().st_size:,} bytes, SHA-256 {sha256_of(path)}")
    for answer in agreement.answers:
        stored, original = (
            label.partition(",")[0] for label in (answer.label, answer.original_label)
        )
        print(
            f"  {answer.photograph:20} {answer.difference_ratio:.1e}  "
            f"{answer.probability:.2f}  {stored} (original: {original})"
        )
    count = f"{agreement.equal_top1_count} of {len(agreement.answers)}"
    print(
        f"  {verdict}: same top-1 on {count}, "
        f"largest difference {agreement.largest_difference_ratio:.1e}"
    )


if __name__ == "__main__":
    sys.exit(main())
