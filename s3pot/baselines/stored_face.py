"""What a baseline sees of one image: what the chain saw and stored, and no truth.

Tokens of the reference are taken from the store where it keeps them (`keep_reference_tokens`); otherwise the stored
reference, a JPEG, is encoded again. The picture itself is read from its file and cropped as it was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from s3pot.alignment import crop_face, resize_picture
from s3pot.head.records import PromptRecord
from s3pot.images import decode_image
from s3pot.locator import LocatedFace
from s3pot.parsing.classes import face_mask
from s3pot.places import read_place
from s3pot.prediction import OcclusionPrediction
from s3pot.sam.preprocess import valid_tokens
from s3pot.sam.promptable import PromptableSam
from s3pot.store.prompt_store import PromptStore, stored_parsing, stored_reference, stored_transform


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredFace:
    """One face of a store, aligned frame.

    Attributes:
        row: manifest row.
        record: image tokens and prompts.
        full_face: (H, W) bool, the completed face, which every method is clipped to.
        image_tokens: (C, h, w) float32.
        reference_tokens: (C, h, w) float32.
        valid: (h*w,) False in padding.
    """

    row: Any
    record: PromptRecord
    full_face: Bool[np.ndarray, "height width"]
    image_tokens: Float[Tensor, "c h w"]
    reference_tokens: Float[Tensor, "c h w"]
    valid: Bool[Tensor, " t"]

    @property
    def id(self) -> str:
        """Image id."""
        return self.record.id

    @property
    def face_ids(self) -> Int64[Tensor, " f"]:
        """Ids of the face tokens, sorted: whatever the selector was, its two sets of prompts are these."""
        return torch.cat([self.record.occlusion_prompts, self.record.face_prompts]).sort().values

    def picture(self) -> UInt8[np.ndarray, "height width 3"]:
        """Read the image and crop the face as it was when it was encoded; errors as `aligned_picture`."""
        return aligned_picture(self.row)

    def reference(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return the reference as it is stored."""
        return stored_reference(self.row)

    def prediction(self, occlusion: Bool[np.ndarray, "height width"]) -> OcclusionPrediction:
        """Wrap a mask of this face; its score is the share of the face that it marks."""
        share = int((occlusion & self.full_face).sum()) / max(1, int(self.full_face.sum()))
        return OcclusionPrediction(probability=occlusion.astype(np.float32), occlusion=occlusion, score=share)


def aligned_picture(row: Any) -> UInt8[np.ndarray, "height width 3"]:
    """Read the image of a manifest row and crop its face as it was when it was encoded.

    Raises:
        OSError: if the file is gone.
        ImageError: if it cannot be read any more.
    """
    image = decode_image(read_place(row.path), row.path)
    shape, matrix = stored_parsing(row).shape, stored_transform(row)
    size = max(shape)
    whole = resize_picture(image, size)
    if whole.image.shape[:2] == shape and np.allclose(whole.to_original, matrix):
        return whole.image
    return crop_face(image, _located(matrix, size), size).image


def read_faces(store: PromptStore, sam: PromptableSam, rows: Sequence[Any]) -> list[StoredFace]:
    """Read the faces of manifest rows; rows without any face tokens are left out.

    Raises:
        StoreError: if a shard is missing or damaged.
    """
    records = store.records({row.id for row in rows})
    by_id = {records.ids[place]: records[place] for place in range(len(records))}
    faces = []
    for row in (row for row in rows if row.id in by_id):
        full_face = face_mask(stored_parsing(row))
        faces.append(
            StoredFace(
                row=row,
                record=by_id[row.id],
                full_face=full_face,
                image_tokens=by_id[row.id].image_tokens.to(sam.device, torch.float32),
                reference_tokens=_reference_tokens(store, sam, row),
                valid=valid_tokens([full_face.shape], sam.image_size, sam.patch, sam.device)[0],
            )
        )
    return faces


def _reference_tokens(store: PromptStore, sam: PromptableSam, row: Any) -> Float[Tensor, "c h w"]:
    try:
        return store.reference_tokens(row).to(sam.device, torch.float32)
    except KeyError:  # a store that does not keep them
        return sam.encode([stored_reference(row)])[0][0]


def _located(to_original: np.ndarray, size: int) -> LocatedFace:
    """Undo `crop_face`: where a crop lies, from its map."""
    (across, _, _), (down, _, _) = to_original
    x, y = to_original @ [(size - 1) / 2, (size - 1) / 2, 1.0]
    return LocatedFace(x=float(x), y=float(y), side=math.hypot(across, down) * size, roll=math.atan2(down, across))
