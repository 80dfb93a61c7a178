"""Screen without a model to ask: our own occlusion score, image by image [design 5.12]."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from s3pot.alignment import FaceChoice
from s3pot.screening.rows import ANSWERED, FAILED, Row, new_row
from s3pot.segmenter import OcclusionSegmenter, SeenFace
from s3pot.store.back_off import BackOff
from s3pot.store.encoding import FaceUnderWay, read_images


def score_images(
    items: Sequence[Mapping[str, Any]], segmenter: OcclusionSegmenter, faces: FaceChoice, back_off: BackOff
) -> list[Row]:
    """Score images; which label follows is decided later, by a threshold.

    Args:
        items: `id` and `path` of each.
        segmenter: finds what covers a face.
        faces: the most prominent face of an image, or the most occluded of all.
        back_off: how many faces fit into memory; kept from batch to batch.

    Returns:
        A row of `SCHEMA` for each, without label: its score (null without a face), or its error.

    Raises:
        torch.AcceleratorError: if the device is broken.
    """
    started = time.monotonic()
    read = [read_images([item], segmenter.aligner, segmenter.prefix.size, faces) for item in items]

    def see(part: Sequence[FaceUnderWay]) -> list[SeenFace]:
        return segmenter.see([one.face for one in part if one.face is not None], [one.id for one in part])

    crops = [one for found in read for one in found if one.face is not None]
    scores = {one.id: seen.prediction.score for one, seen in back_off.run(see, crops, FaceUnderWay.fail)}
    seconds = (time.monotonic() - started) / max(1, len(items))
    return [
        _row(item, found, scores) | {"attempts": 1, "seconds": seconds} for item, found in zip(items, read, strict=True)
    ]


def _row(item: Mapping[str, Any], found: Sequence[FaceUnderWay], scores: Mapping[str, float]) -> Row:
    errors = [one.row["error"] for one in found if one.row["status"] == FAILED]
    if errors:
        return new_row(item, status=FAILED, error=errors[0])
    known = [scores[one.id] for one in found if one.id in scores]
    return new_row(item, status=ANSWERED, score=max(known, default=None))
