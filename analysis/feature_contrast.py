"""What feature enhancement does to the contrast of image and reference, from a store that keeps reference tokens.

The data of the paper's Fig. 9 [S3POT 4.2]: for every image the place-wise similarity and the greedy prompts, on the
tokens as SAM gives them ("before") and on the enhanced ones ("after"). The truth only sorts tokens into face and
occlusion and judges prompts, to *show* what happens; it touches neither tokens nor prompts.

Legend: t = h * w tokens of the grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.stage_pictures import panel_frame, warp_mask
from s3pot.evaluation import read_truth
from s3pot.matching.selector import SelectorConfig
from s3pot.metrics import prompt_quality, token_share
from s3pot.parsing.classes import face_mask
from s3pot.prefix import DrawnPrompts, draw_prompts
from s3pot.sam.preprocess import valid_tokens
from s3pot.sam.promptable import PromptableSam
from s3pot.store.errors import StoreError
from s3pot.store.prompt_store import PROMPTED, PromptStore, stored_parsing, stored_transform
from s3pot.store.shards import read_row

_BATCH = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrast:
    """Similarity and prompts of one image on one kind of tokens.

    Attributes:
        similarity: (t,) float32 cosine of image and reference, place by place.
        occlusion_prompts: full-grid ids.
        face_prompts: full-grid ids.
        precision: share of the occlusion prompts that lie on the true occluder; NaN without prompts or occluder.
    """

    similarity: npt.NDArray[np.float32]
    occlusion_prompts: npt.NDArray[np.int64]
    face_prompts: npt.NDArray[np.int64]
    precision: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageContrast:
    """Before and after feature enhancement.

    Attributes:
        id: image id.
        kind: kind of occluder; empty when unknown.
        occluded: (t,) bool, tokens of the face that the true occluder covers by more than half.
        visible: (t,) bool, tokens of the visible face.
        before: on image tokens.
        after: on enhanced tokens.
    """

    id: str
    kind: str
    occluded: npt.NDArray[np.bool_]
    visible: npt.NDArray[np.bool_]
    before: Contrast
    after: Contrast


def compare_features(store: PromptStore, sam: PromptableSam) -> list[ImageContrast]:
    """Contrast the images of a store before and after feature enhancement.

    Args:
        store: with reference tokens; images without truth or face are left out.
        sam: the one that made the store.

    Raises:
        StoreError: if the store keeps no reference tokens, or no image of it has a known truth.
        ImageError: if a truth cannot be read.
    """
    rows = store.rows()
    rows = rows[rows["status"].isin(PROMPTED) & rows["truth_path"].notna()]
    if rows.empty:
        raise StoreError(f"{store.root}: no image with a known truth, so feature enhancement cannot be shown on it")
    every = list(rows.itertuples(index=False))
    found: list[ImageContrast] = []
    for first in range(0, len(every), _BATCH):
        found += _compare(store, sam, every[first : first + _BATCH])
    return found


def _compare(store: PromptStore, sam: PromptableSam, rows: Sequence[Any]) -> Iterator[ImageContrast]:
    tokens = [_read(store, rows, name).to(sam.device) for name in ("image_tokens", "reference_tokens")]
    masks = [face_mask(stored_parsing(row)) for row in rows]
    valid = valid_tokens([(mask.shape[0], mask.shape[1]) for mask in masks], sam.image_size, sam.patch, sam.device)
    stored = replace(store.chain.prefix, selector=SelectorConfig(kind="greedy"), most_prompts=None)
    before, after = (
        draw_prompts(
            sam, replace(stored, feature_enhancement=enhanced), [row.id for row in rows], masks, *tokens, valid
        )
        for enhanced in (False, True)
    )
    for place, row in enumerate(rows):
        yield _judge(row, masks[place].shape, sam.token_grid, before[place], after[place])


def _judge(
    row: Any, aligned_size: tuple[int, int], grid: tuple[int, int], before: DrawnPrompts, after: DrawnPrompts
) -> ImageContrast:
    """Sort the tokens of one image by its truth, brought to the aligned frame."""
    truth, frame = read_truth(row), panel_frame(aligned_size, stored_transform(row))
    inside = np.zeros(grid, dtype=bool)
    # Greedy prompts of both signs together are the tokens of the face.
    inside.flat[np.concatenate([before.occlusion_prompts.numpy(), before.face_prompts.numpy()])] = True
    occlusion = warp_mask(truth.occlusion, frame)
    region = np.ones_like(occlusion) if truth.region is None else warp_mask(truth.region, frame)
    occluded_share, visible_share = token_share(occlusion & region, grid), token_share(region & ~occlusion, grid)

    def judged(drawn: DrawnPrompts) -> Contrast:
        ids = drawn.occlusion_prompts.numpy()
        quality = prompt_quality(ids, true_share=occluded_share, face_share=inside.astype(float))
        return Contrast(
            similarity=drawn.similarity.numpy(),
            occlusion_prompts=ids,
            face_prompts=drawn.face_prompts.numpy(),
            precision=quality.precision if occluded_share.any() else float("nan"),
        )

    return ImageContrast(
        id=row.id,
        kind=row.kind if isinstance(row.kind, str) else "",
        occluded=(inside & (occluded_share > 0.5)).ravel(),
        visible=(inside & (visible_share > 0.5)).ravel(),
        before=judged(before),
        after=judged(after),
    )


def _read(store: PromptStore, rows: Sequence[Any], name: str) -> Tensor:
    """Read tokens of images, (B, C, h, w) float32."""
    try:
        return torch.stack([read_row(store.shard_file(row.shard), name, int(row.row)) for row in rows]).float()
    except KeyError as error:
        raise StoreError(f"{store.root}: {error.args[0]}, into a new folder") from error
