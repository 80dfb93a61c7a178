"""From photographs to mask files, overlays and table rows: what one worker of `s3pot predict` does with a batch.

    <out>/masks/<id>.png        occluded = 255, else 0; one per photograph that could be read, all faces together
    <out>/overlays/<id>.jpg     when asked for

The models run over the faces of all photographs of a batch together, and nothing is stored between them. A file that
cannot be read is a row with its error and loses nothing else.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from s3pot.alignment import FaceChoice
from s3pot.chain import ChainConfig, chain_identity
from s3pot.data.run_lengths import encode_runs
from s3pot.embedded import file_hash, weights_path
from s3pot.head.face_fitting import FittingConfig, fitted_head
from s3pot.images import ImageError, decode_image, encode_jpeg, encode_png
from s3pot.overlay import draw_overlay
from s3pot.places import join_place, read_place, shown_place
from s3pot.prediction import predict_occlusion
from s3pot.segmenter import OcclusionSegmenter, SeenFace, SegmentationResult
from s3pot.store.back_off import BackOff, error_text
from s3pot.store.encoding import FaceUnderWay, read_images
from s3pot.store.place_files import remove_result, write_result


@dataclass(frozen=True, kw_only=True)
class PhotoWriting:
    """What becomes of photographs.

    Attributes:
        out: folder, a path or a URI.
        identity: what the rows say they were made by; see `prediction_identity`.
        faces: the most prominent face of a photograph, or all of them.
        overlays: write overlays.
        fitting: how the head is fitted to the faces that an item names under `fit`.
    """

    out: str
    identity: str
    faces: FaceChoice = "all"
    overlays: bool = False
    fitting: FittingConfig = field(default_factory=FittingConfig)


def prediction_identity(chain: ChainConfig, head: Path | None, *, abstain: bool) -> str:
    """Hash what decides a prediction besides the photograph: chain, head, and whether it may abstain; 16 hex digits.

    Raises:
        WeightsError: if weights are missing.
    """
    content = json.dumps([chain_identity(chain), file_hash(head or weights_path("reweighter")), abstain])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def predict_photographs(
    segmenter: OcclusionSegmenter, items: Sequence[Mapping[str, Any]], writing: PhotoWriting, back_off: BackOff
) -> list[list[dict[str, Any]]]:
    """Predict photographs and write their masks.

    Args:
        segmenter: models.
        items: `id` and `path` of each; under `fit`, numbers of the faces to fit the head to, such as "1,3".
        writing: where to.
        back_off: how many faces fit into memory; kept from batch to batch.

    Returns:
        Rows of `s3pot.prediction_table` for each item: one per face, or one of the photograph without any.

    Raises:
        StoreError: if a file cannot be written.
        torch.AcceleratorError: if the device is broken.
    """
    started = time.monotonic()
    photos = [_read(item, segmenter, writing.faces) for item in items]
    _see(segmenter, [face for photo in photos for face in photo if face.under_way.face is not None], back_off)
    for item, photo in zip(items, photos, strict=True):
        for number in (int(text) for text in str(item.get("fit") or "").split(",") if text):
            if number <= len(photo):
                photo[number - 1].fit(segmenter, writing.fitting)
    rows = [_finish(str(item["id"]), photo, segmenter, writing) for item, photo in zip(items, photos, strict=True)]
    seconds = (time.monotonic() - started) / max(1, len(items))
    return [[row | {"seconds": seconds} for row in of_photo] for of_photo in rows]


@dataclass(kw_only=True, eq=False)
class _Face:
    """A face of a photograph, or the photograph itself where it failed or shows none, and what its row holds so far."""

    number: int  # 0 = the photograph itself
    under_way: FaceUnderWay
    seen: SeenFace | None = None
    columns: dict[str, Any] = field(default_factory=dict)

    def fit(self, segmenter: OcclusionSegmenter, config: FittingConfig) -> None:
        """See it again with a head that was fitted to it; where that fails, what was seen before stays."""
        if self.seen is None or segmenter.reweighter is None:
            return
        (stages, before), sam = self.seen, segmenter.prefix.sam
        try:
            head = fitted_head(segmenter.reweighter, sam, stages.record(), config)
        except (FloatingPointError, torch.OutOfMemoryError) as error:
            self.columns["error"] = f"the head could not be fitted: {error_text(error)}"
            return
        [prediction] = predict_occlusion(sam, head, [stages.record()], [stages.face_mask])
        self.seen = SeenFace(stages, prediction)
        self.columns |= {
            "transductive": True,
            "fitting": config.identity,
            "score_before": before.score,
        }


def _read(item: Mapping[str, Any], segmenter: OcclusionSegmenter, faces: FaceChoice) -> list[_Face]:
    found = read_images([item], segmenter.aligner, segmenter.prefix.size, faces)
    return [_Face(number=0 if one.face is None else place, under_way=one) for place, one in enumerate(found, start=1)]


def _see(segmenter: OcclusionSegmenter, faces: Sequence[_Face], back_off: BackOff) -> None:
    def run(part: Sequence[_Face]) -> list[SeenFace]:
        crops = [face.under_way.face for face in part if face.under_way.face is not None]
        return segmenter.see(crops, [face.under_way.id for face in part])

    for face, seen in back_off.run(run, faces, lambda face, error: face.under_way.fail(error)):
        face.seen = seen


def _finish(
    photo_id: str, photo: Sequence[_Face], segmenter: OcclusionSegmenter, writing: PhotoWriting
) -> list[dict[str, Any]]:
    """Write the files of a photograph; returns its rows."""
    files = {"mask": f"masks/{photo_id}.png", "overlay": f"overlays/{photo_id}.jpg"}
    first = photo[0].under_way.row
    if all(face.under_way.row["status"] == "failed" for face in photo):
        for file in files.values():  # of what the photograph was before
            remove_result(join_place(writing.out, file))
        return [_row(photo_id, face, None, writing) for face in photo]
    size = (first["original_height"], first["original_width"])
    occlusion, inside = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    rows = []
    for face in photo:
        result = None
        if face.seen is not None and face.under_way.face is not None:
            result = segmenter.place(face.seen, face.under_way.face, size)
            occlusion |= result.occlusion
            inside |= result.face_mask
        rows.append(_row(photo_id, face, result, writing) | {"mask": files["mask"]})
    write_result(join_place(writing.out, files["mask"]), encode_png(occlusion.astype(np.uint8) * 255))
    if not writing.overlays:
        return rows
    try:
        picture = decode_image(read_place(first["path"]), first["path"])
    except (OSError, ImageError) as error:  # it was there a moment ago
        return [row | {"error": f"no overlay: {_shown(error_text(error), first['path'])}"} for row in rows]
    write_result(join_place(writing.out, files["overlay"]), encode_jpeg(draw_overlay(picture, occlusion, inside)))
    return [row | {"overlay": files["overlay"]} for row in rows]


def _shown(text: str, path: str) -> str:
    """Take what opens a bucket out of a message."""
    return text.replace(path, shown_place(path))


def _row(photo_id: str, face: _Face, result: SegmentationResult | None, writing: PhotoWriting) -> dict[str, Any]:
    row = face.under_way.row
    known = {
        "image": photo_id,
        "face": face.number,
        "path": shown_place(row["path"]),
        "status": row["status"],
        "error": row["error"] and _shown(row["error"], row["path"]),
        "height": row.get("original_height"),
        "width": row.get("original_width"),
        "image_sha256": row.get("image_sha256"),
        "identity": writing.identity,
        "transductive": False,
    }
    if face.under_way.face is not None:
        known["face_score"] = face.under_way.face.score
    return known | (_found(result) if result is not None else {}) | face.columns


def _found(result: SegmentationResult) -> dict[str, Any]:
    area, face_area = int(result.occlusion.sum()), int(result.face_mask.sum())
    corners = result.crop_corners
    return {
        "status": result.status,
        "score": result.score,
        "abstained": result.abstained,
        "area": area,
        "face_area": face_area,
        "share": area / max(1, face_area),
        "rle": encode_runs(result.occlusion)["counts"],
        "box": list(cv2.boundingRect(result.face_mask.astype(np.uint8))),
        "corners": None if corners is None else corners.ravel().tolist(),
    }
