"""Every baseline in the box by name: what predicts from a store, with the same tokens, reference and face masks.

persam, persam_f, gfsam             reference segmenters: the visible face after one example     [S3POT Tab. 1]
parser_hole                         a face parser's face against the completed one               [S3POT Tab. 1]
pixel_difference, feature_difference, automatic_masks       plain uses of the contrast
supervised                          a network that was shown where the occluders are: the only one that saw truth
random_prompts, other_prompts       controls: the decoder and head of the chain, prompts that mean nothing
true_prompts                        upper bound: prompts from truth
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Bool
from torch import Tensor, nn

from s3pot.baselines.automatic_masks import contrasting_masks
from s3pot.baselines.difference import feature_difference, pixel_difference
from s3pot.baselines.gfsam import visible_face_gfsam
from s3pot.baselines.parser_hole import parser_holes
from s3pot.baselines.persam import visible_face_persam, visible_face_persam_f
from s3pot.baselines.stored_face import StoredFace, read_faces
from s3pot.baselines.supervised import SUPERVISED_SIZE, SupervisedSegmenter
from s3pot.chain import load_reference_stage
from s3pot.embedded import load_weights
from s3pot.evaluation import Predict, read_truth
from s3pot.head.records import PromptRecord
from s3pot.prediction import OcclusionPrediction, predict_occlusion
from s3pot.prompt_controls import other_prompts, random_prompts, true_prompts
from s3pot.sam.preprocess import mask_to_picture
from s3pot.sam.promptable import PromptableSam
from s3pot.store.prompt_store import PromptStore, stored_transform

BaselineName = Literal[
    "persam",
    "persam_f",
    "gfsam",
    "parser_hole",
    "pixel_difference",
    "feature_difference",
    "automatic_masks",
    "supervised",
    "random_prompts",
    "other_prompts",
    "true_prompts",
]
DECODES_PROMPTS = ("random_prompts", "other_prompts", "true_prompts")
_Segment = Callable[[StoredFace], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineParts:
    """What some baselines need beside the store.

    Attributes:
        sam: that of the store.
        reweighter: head of the controls; None = prompts as they are.
        supervised_weights: file of the supervised network.
        seed: of random prompts.
    """

    sam: PromptableSam
    reweighter: nn.Module | None = None
    supervised_weights: Path | None = None
    seed: int = 0


def baseline_predictor(name: BaselineName, store: PromptStore, parts: BaselineParts) -> Predict:
    """Return what predicts with a baseline, for `s3pot.evaluation.evaluate_with`.

    Raises:
        WeightsError: if weights are missing.
        ValueError: if the supervised network comes without its weights.
    """
    if name in DECODES_PROMPTS:
        return _prompts_predictor(name, store, parts)
    segment = _segmenter(name, store, parts)

    def predict(rows: Sequence[Any]) -> Mapping[str, OcclusionPrediction]:
        return {face.id: face.prediction(segment(face)) for face in read_faces(store, parts.sam, rows)}

    return predict


def _segmenter(name: BaselineName, store: PromptStore, parts: BaselineParts) -> _Segment:
    """Return a function from a face to its occlusion, aligned frame."""
    sam = parts.sam
    match name:
        case "persam":
            return lambda face: _without(face, visible_face_persam(sam, face), sam)
        case "persam_f":
            return lambda face: _without(face, visible_face_persam_f(sam, face), sam)
        case "gfsam":
            return lambda face: _without(face, visible_face_gfsam(sam, face), sam)
        case "automatic_masks":
            return lambda face: _on_picture(face, contrasting_masks(sam, face), sam)
        case "pixel_difference":
            return lambda face: pixel_difference(face.picture(), face.reference(), face.full_face)
        case "feature_difference":
            return lambda face: feature_difference(face, sam.image_size)
        case "parser_hole":
            parser = load_reference_stage(store.chain).parser
            return lambda face: parser_holes(parser, [face.picture()], [face.full_face])[0]
        case "supervised":
            return _supervised(parts)
        case _:
            raise ValueError(f"{name} decodes prompts")


def _without(face: StoredFace, visible_face: Bool[Tensor, "hm wm"], sam: PromptableSam) -> np.ndarray:
    return face.full_face & ~_on_picture(face, visible_face, sam)


def _on_picture(face: StoredFace, mask: Bool[Tensor, "hm wm"], sam: PromptableSam) -> np.ndarray:
    """Bring a mask from the decoder's grid to the aligned picture."""
    height, width = face.full_face.shape
    large = mask_to_picture(mask[None].float() - 0.5, (height, width), sam.image_size)
    above: np.ndarray = (large[0] > 0).cpu().numpy()
    return above


def _supervised(parts: BaselineParts) -> _Segment:
    if parts.supervised_weights is None:
        raise ValueError("baseline=supervised needs weights=FILE of `ray_jobs/pretrain.py supervised`")
    network = SupervisedSegmenter()
    load_weights(network, parts.supervised_weights)
    network.to(parts.sam.device).eval()

    def segment(face: StoredFace) -> np.ndarray:
        picture = face.picture()
        height, width = picture.shape[:2]
        scale = SUPERVISED_SIZE / max(height, width)
        size_xy = (max(1, round(width * scale)), max(1, round(height * scale)))
        seen = picture if scale == 1 else cv2.resize(picture, size_xy, interpolation=cv2.INTER_AREA)
        probability = network.predict([seen])[0]
        return cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5

    return segment


def _prompts_predictor(name: BaselineName, store: PromptStore, parts: BaselineParts) -> Predict:
    def predict(rows: Sequence[Any]) -> Mapping[str, OcclusionPrediction]:
        faces = read_faces(store, parts.sam, rows)
        if name == "true_prompts":
            faces = [face for face in faces if face.row.truth_path is not None]
        if not faces:
            return {}
        records = _other_records(name, faces, parts)
        made = predict_occlusion(parts.sam, parts.reweighter, records, [face.full_face for face in faces])
        return {face.id: prediction for face, prediction in zip(faces, made, strict=True)}

    return predict


def _other_records(name: BaselineName, faces: Sequence[StoredFace], parts: BaselineParts) -> list[PromptRecord]:
    match name:
        case "random_prompts":
            return [random_prompts(face.record, parts.seed) for face in faces]
        case "other_prompts":
            # As on the ladder: of the next image of the batch.
            others = [*faces[1:], faces[0]]
            return [other_prompts(face.record, other.record) for face, other in zip(faces, others, strict=True)]
        case "true_prompts":
            return [true_prompts(face.record, _aligned_truth(face), parts.sam.token_grid) for face in faces]
        case _:
            raise ValueError(f"{name} decodes no prompts")


def _aligned_truth(face: StoredFace) -> np.ndarray:
    truth = read_truth(face.row).occlusion
    assert truth is not None  # rows without truth are left out above
    height, width = face.full_face.shape
    matrix = stored_transform(face.row)
    warped = cv2.warpAffine(
        truth.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    return warped > 0
