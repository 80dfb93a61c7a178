"""From segmentation results to what `s3pot serve` answers: numbers, masks and pictures of the stages.

Masks lie in the frame of the photograph after EXIF rotation; the pictures of stages in that of the aligned face.
"""

import base64
from collections.abc import Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from analysis import stage_pictures
from analysis.stage_pictures import BoolMask, Picture
from ray_jobs.serve_messages import MaskForm, Wanted
from s3pot.data.run_lengths import encode_runs
from s3pot.images import encode_jpeg, encode_png
from s3pot.overlay import draw_overlay
from s3pot.parsing.classes import face_mask
from s3pot.segmenter import SegmentationResult

# An overlay is to be looked at: more pixels than a screen has would only be slow.
_OVERLAY_SIDE = 1600


class Content(NamedTuple):
    """The body of an answer: a mapping for JSON, or a picture."""

    body: dict[str, Any] | bytes
    statuses: list[str]


def photograph_answer(photograph: Picture, results: Iterable[SegmentationResult], wanted: Wanted) -> Content:
    """Answer for all faces of a photograph.

    Args:
        photograph: (H, W, 3) uint8 RGB, upright.
        results: one per face, the most prominent first; taken one by one, for each holds maps of the whole photograph.
        wanted: what the answer is to hold.
    """
    height, width = photograph.shape[:2]
    occlusion, inside = np.zeros((height, width), dtype=bool), np.zeros((height, width), dtype=bool)
    faces = []
    for number, result in enumerate(results, start=1):
        occlusion |= result.occlusion
        inside |= result.face_mask
        faces.append({"face": number} | face_answer(result, wanted))
    statuses = [str(face["status"]) for face in faces] or ["no_face"]
    if wanted.picture:
        drawn = _overlay(photograph, occlusion, inside) if wanted.overlay else _black_and_white(occlusion)
        return Content(encode_png(drawn), statuses)
    body: dict[str, Any] = {"width": width, "height": height, "status": statuses[0], "faces": faces}
    if wanted.overlay:
        body["overlay"] = data_url(_overlay(photograph, occlusion, inside))
    return Content(body, statuses)


def face_answer(result: SegmentationResult, wanted: Wanted) -> dict[str, Any]:
    """Answer for one face."""
    corners = result.crop_corners
    answer: dict[str, Any] = {
        "status": result.status,
        "score": round(result.score, 6),
        "abstained": result.abstained,
        "occluded_share": round(float(result.occlusion.sum() / max(1, int(result.face_mask.sum()))), 6),
        "crop_corners": None if corners is None else np.round(corners, 2).tolist(),
    }
    if wanted.mask != "none" and not wanted.picture:
        answer["mask"] = mask_answer(result.occlusion, wanted.mask)
    if wanted.stages and not wanted.picture and result.aligned is not None:
        answer["stages"] = _stages(result)
    return answer


def mask_answer(occlusion: BoolMask, form: MaskForm) -> dict[str, Any]:
    """Encode a mask: as COCO's run lengths, `{"size": [height, width], "counts": text}`, or as `{"png": base64}`."""
    if form == "rle":
        return encode_runs(occlusion)
    return {"png": base64.b64encode(encode_png(_black_and_white(occlusion))).decode()}


def mask_picture(result: SegmentationResult) -> str:
    """Draw the occlusion over the aligned face; returns a data URL."""
    assert result.aligned is not None
    assert result.parsing is not None
    assert result.to_original is not None
    frame = stage_pictures.panel_frame(result.aligned.shape[:2], result.to_original)
    inside = stage_pictures.enlarge_mask(face_mask(result.parsing), frame)
    # What was found, on a face where the server abstains, too: the page says so beside it.
    found = stage_pictures.warp_mask(result.probability > 0.5, frame) & inside
    base = stage_pictures.resize_picture(result.aligned, frame)
    return data_url(stage_pictures.draw_mask(base, found, inside, stage_pictures.OCCLUSION))


def data_url(picture: Picture) -> str:
    """Return a picture as a JPEG in a data URL."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(picture, chroma_subsampling=False)).decode()


def _stages(result: SegmentationResult) -> dict[str, Any]:
    assert result.aligned is not None
    assert result.parsing is not None
    assert result.reference is not None
    assert result.similarity is not None
    assert result.to_original is not None
    assert result.occlusion_prompts is not None
    assert result.face_prompts is not None
    frame = stage_pictures.panel_frame(result.aligned.shape[:2], result.to_original)
    base = stage_pictures.resize_picture(result.aligned, frame)
    rows, cols = result.similarity.shape
    seen = result.similarity[stage_pictures.valid_tokens(rows, frame.size)]
    limits = (float(seen.min()), float(seen.max()))
    similarity = stage_pictures.draw_similarity(result.similarity.ravel(), result.parsing, frame, limits)
    return {
        "aligned": data_url(base),
        "parsing": data_url(stage_pictures.draw_parsing(base, result.parsing, frame)),
        "reference": data_url(stage_pictures.resize_picture(result.reference, frame)),
        "similarity": data_url(similarity),
        "similarity_limits": [round(limit, 3) for limit in limits],
        "mask": mask_picture(result),
        # The picture covers this share of the token grid, which is square and padded at the bottom and right.
        "grid": {
            "rows": rows,
            "cols": cols,
            "shown_rows": rows * frame.size[0] / stage_pictures.PANEL_SIDE,
            "shown_cols": cols * frame.size[1] / stage_pictures.PANEL_SIDE,
        },
        "occlusion_prompts": result.occlusion_prompts.tolist(),
        "face_prompts": result.face_prompts.tolist(),
    }


def _black_and_white(region: BoolMask) -> npt.NDArray[np.uint8]:
    return region.astype(np.uint8) * 255


def _overlay(photograph: Picture, occlusion: BoolMask, inside: BoolMask) -> Picture:
    scale = min(1.0, _OVERLAY_SIDE / max(photograph.shape[:2]))
    if scale < 1:
        size_xy = tuple(max(1, round(side * scale)) for side in photograph.shape[1::-1])
        photograph = cv2.resize(photograph, size_xy, interpolation=cv2.INTER_AREA)
        shrunk = [
            cv2.resize(_black_and_white(one), size_xy, interpolation=cv2.INTER_AREA) for one in (occlusion, inside)
        ]
        occlusion, inside = (one > 127 for one in shrunk)
    return draw_overlay(photograph, occlusion, inside)
