"""LossyChecker: does a lossy plan give the unsplit network's answer on these photographs?

It measures no time. The plans are carried out without any server: encode, decode, run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from isthmus.errors import CodecError, ImageError, ModelError
from isthmus.loading.bundle import Candidate
from isthmus.loading.split import Split
from isthmus.runtime import codecs, image
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.runtime.session import Session
from isthmus.types.plan import PlanRow
from isthmus.types.progress import Progress
from isthmus.types.variant import Variant

__all__ = ["LossyChecker"]


class LossyChecker:
    """Runs the lossy plans of one variant beside the whole network."""

    def __init__(self, variant: Variant, path: Path, splits: Sequence[Split]) -> None:
        """Remember the parts; nothing is loaded yet.

        Args:
            variant: The network.
            path: Its ONNX file.
            splits: Its heads and tails.
        """
        if variant.pipeline is None:
            raise ModelError(f"{variant.name} has no input pipeline")
        self._pipeline = variant.pipeline
        self._path = path
        self._splits = {split.cut.id: split for split in splits}

    def check(
        self, rows: Iterable[PlanRow], photographs: Sequence[Path], progress: Progress
    ) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
        """Return the candidates kept and those left out.

        Lossless rows are kept. A lossy row is kept if there are photographs and the top-1 of each
        of its outputs is the whole network's on all of them. One that cannot be encoded (a codec
        for floats, values that are not finite) has not agreed.

        Args:
            rows: The plans, in the order to be kept.
            photographs: Image files.
            progress: Told about each photograph.

        Raises:
            ImageError: If a photograph cannot be decoded.
        """
        rows = tuple(rows)
        lossy = [row for row in rows if not row.is_lossless]
        agreed = dict.fromkeys(lossy, 0)
        with Session(self._path) as whole:
            tails = {
                cut: Session(part.tail.SerializeToString()) for cut, part in self._parts(lossy)
            }
            heads = {
                cut: Session(part.head.SerializeToString())
                for cut, part in self._parts(lossy)
                if part.head is not None
            }
            for photograph in photographs:
                for row, same in self._compare(photograph, lossy, whole, heads, tails):
                    agreed[row] += same
                progress.advance(photograph.stem)
            for session in (*heads.values(), *tails.values()):
                session.close()
        count = len(photographs)
        candidates = [
            Candidate(row)
            if row.is_lossless
            else Candidate(row, agreed[row] / count if count else 0.0, count)
            for row in rows
        ]
        kept = tuple(c for c in candidates if c.agreement == 1.0)
        return kept, tuple(c for c in candidates if c.agreement < 1.0)

    def _parts(self, rows: Iterable[PlanRow]) -> list[tuple[str, Split]]:
        cuts = dict.fromkeys(row.cut_id for row in rows if row.family == "split")
        return [(cut, self._splits[cut]) for cut in cuts]

    def _compare(
        self,
        photograph: Path,
        rows: Sequence[PlanRow],
        whole: Session,
        heads: Mapping[str, Session],
        tails: Mapping[str, Session],
    ) -> Iterable[tuple[PlanRow, bool]]:
        """Yield for every row whether its top-1 is the whole network's."""
        pixels = self._pixels(photograph)
        feeds = {whole.inputs[0].name: self._tensor(pixels)}
        expected = whole.run(feeds)
        crossing = {cut: head.run(feeds) for cut, head in heads.items()}
        for row in rows:
            if row.family == "split":
                sent = crossing[row.cut_id]
                try:
                    arrived = {name: _through(sent[name], row.codec) for name in row.tensors}
                except CodecError:
                    yield row, False
                    continue
                outputs = tails[row.cut_id].run(arrived)
            else:
                made = IMAGE_CODECS[row.codec].encode(pixels)
                again = image.decode_cropped(made, self._pipeline)
                outputs = whole.run({whole.inputs[0].name: self._tensor(again)})
            yield row, _same_top1(outputs, expected)

    def _pixels(self, photograph: Path) -> np.ndarray:
        side_px = self._pipeline.resize_shorter_side_px
        try:
            decoded = image.decode(photograph.read_bytes(), shorter_side_px=side_px)
        except ImageError as error:
            raise ImageError(f"{photograph}: {error}") from error
        return image.fit(decoded, self._pipeline)

    def _tensor(self, pixels: np.ndarray) -> np.ndarray:
        return image.normalise(image.planar(pixels, self._pipeline), self._pipeline)


def _through(array: np.ndarray, codec: str) -> np.ndarray:
    return codecs.decode(codecs.CODECS[codec].encode(array), limit_bytes=array.nbytes)


def _same_top1(outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> bool:
    return all(np.argmax(array) == np.argmax(expected[name]) for name, array in outputs.items())
