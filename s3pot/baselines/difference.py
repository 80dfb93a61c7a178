"""The plainest contrasts of image and reference: difference of pixels, difference of tokens, each cut by Otsu.

- `pixel_difference`: mean absolute difference of the three colours, blurred a little (noise and a shift of a pixel are
  no occluder).
- `feature_difference`: one minus the cosine of SAM's tokens at the same place, brought to pixels bilinearly.

Otsu's threshold is taken over the face alone, per picture, as the paper selects prompts with it [S3POT §4.2]. It always
splits: a face with nothing on it gets something marked, which the area on clean faces shows. Nothing is trained; the
blur of 1 % of the picture was set beforehand, not tuned.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from s3pot.baselines.stored_face import StoredFace
from s3pot.matching.similarity import placewise_similarity
from s3pot.matching.threshold import otsu_threshold
from s3pot.sam.preprocess import mask_to_picture

_BLUR = 0.01


def pixel_difference(
    picture: UInt8[np.ndarray, "h w 3"], reference: UInt8[np.ndarray, "h w 3"], full_face: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """Mark the face pixels that differ from the reference by more than Otsu's threshold."""
    difference = np.abs(picture.astype(np.float32) - reference.astype(np.float32)).mean(axis=2)
    return _above_otsu(cv2.GaussianBlur(difference, (0, 0), _BLUR * max(difference.shape)), full_face)


def feature_difference(face: StoredFace, image_size: int) -> Bool[np.ndarray, "h w"]:
    """Mark the face pixels whose tokens differ from the reference's by more than Otsu's threshold.

    Args:
        face: the face.
        image_size: side of SAM's model frame.
    """
    tokens = dissimilarity(face)
    grid = tokens.reshape(1, *face.image_tokens.shape[1:])
    height, width = face.full_face.shape
    pixels = mask_to_picture(grid, (height, width), image_size)[0].cpu().numpy()
    if not len(face.face_ids):
        return np.zeros_like(face.full_face)
    return face.full_face & (pixels > otsu_threshold(tokens[face.face_ids]))


def dissimilarity(face: StoredFace) -> Float[torch.Tensor, " t"]:
    """Return one minus the cosine of image and reference token at every place of the grid."""
    return 1.0 - placewise_similarity(face.image_tokens[None], face.reference_tokens[None], face.valid[None])[0]


def _above_otsu(values: Float[np.ndarray, "h w"], full_face: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    if not full_face.any():
        return np.zeros_like(full_face)
    return full_face & (values > otsu_threshold(torch.from_numpy(values[full_face])))
