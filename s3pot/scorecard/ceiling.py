"""The decoder's ceiling: what its low-resolution masks could reach at best.

The truth is averaged over the decoder's grid (4 times the token grid) and comes back as every mask does
(`mask_to_picture`), cut at one half. Thin things do not survive that: no prompt and no head can win them back.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from scipy.ndimage import distance_transform_edt

from s3pot.sam.preprocess import mask_to_picture
from s3pot.sam.promptable import PromptableSam
from s3pot.scorecard.targets import TargetPicture

# Side of the decoder's mask in tokens.
_MASK_PER_TOKEN = 4


def measure_ceilings(pictures: Sequence[TargetPicture], sam: PromptableSam) -> pd.DataFrame:
    """Return one row per target: kind, name, id, face_id, cutout_id, iou of the reduced truth with the truth."""
    rows = [
        {
            "kind": target.kind,
            "name": target.name,
            "id": picture.id,
            "face_id": picture.face_id,
            "cutout_id": picture.cutout_id,
            "iou": ceiling_iou(target.inside, target.counted, sam.token_grid[0] * _MASK_PER_TOKEN, sam.image_size),
        }
        for picture in pictures
        for target in picture.targets
    ]
    return pd.DataFrame(rows, columns=["kind", "name", "id", "face_id", "cutout_id", "iou"])


def ceiling_of_occlusion(
    occlusion: Bool[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"], sam: PromptableSam
) -> float:
    """Return the ceiling of an occlusion that is counted inside the face region only; see `ceiling_iou`."""
    return ceiling_iou(occlusion, region, sam.token_grid[0] * _MASK_PER_TOKEN, sam.image_size)


def ceiling_iou(
    inside: Bool[np.ndarray, "h w"], counted: Bool[np.ndarray, "h w"], mask_side: int, image_size: int
) -> float:
    """Return the IoU, within `counted`, of a truth and the same truth through the decoder's grid.

    Args:
        inside: (H, W) bool truth.
        counted: (H, W) bool; beyond it a mask may go on as it likes, so the truth is continued there.
        mask_side: side of the decoder's mask.
        image_size: side of the model frame.

    Returns:
        In [0, 1]; NaN without truth.
    """
    truth = inside & counted
    if not truth.any():
        return float("nan")
    rows, cols = distance_transform_edt(~counted, return_distances=False, return_indices=True)
    height, width = truth.shape
    side = max(height, width)
    square = np.zeros((side, side), dtype=np.float32)
    square[:height, :width] = truth[rows, cols]
    share = cv2.resize(square, (mask_side, mask_side), interpolation=cv2.INTER_AREA)
    back = mask_to_picture(torch.from_numpy(share)[None] - 0.5, (height, width), image_size)[0].numpy() > 0
    reached = back & counted
    return float((reached & truth).sum() / (reached | truth).sum())
