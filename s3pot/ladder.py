"""Controls and oracle ladder: which part of the chain limits the result on given data [design 6].

Every rung replaces one thing and leaves the rest, on the same images:

    random_prompts      control: the same number of occlusion prompts, anywhere in the face
    other_prompts       control: the occlusion prompts of the next image, where they fall into this face
    chain               the chain as it is
    clean_reference     oracle: the clean image as reference
    true_face           oracle: the clean labels as parsing, for face mask and generation
    true_prompts        oracle: prompts from truth inside the predicted face
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never, get_args

import numpy as np
import pandas as pd
from torch import nn

from s3pot.evaluation import ImageTruth, read_truth
from s3pot.head.records import PromptRecord
from s3pot.images import decode_png, read_image
from s3pot.metrics import measure_image
from s3pot.parsing.classes import face_mask
from s3pot.prediction import predict_occlusion
from s3pot.prefix import FrozenPrefix, PrefixResult
from s3pot.prompt_controls import other_prompts, random_prompts, true_prompts

Rung = Literal["random_prompts", "other_prompts", "chain", "clean_reference", "true_face", "true_prompts"]
RUNGS: tuple[Rung, ...] = get_args(Rung)
_BATCH = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class LadderImage:
    """A composite with everything the oracles need, in the aligned frame.

    Attributes:
        row: manifest row: id, kind, face_id, cutout_id.
        image: occluded picture.
        clean: the picture without occluder.
        parsing: clean labels.
        truth: occlusion and region.
    """

    row: Any
    image: np.ndarray
    clean: np.ndarray
    parsing: np.ndarray
    truth: ImageTruth


def read_ladder_images(manifest: pd.DataFrame, size: int) -> list[LadderImage]:
    """Read the composites of a manifest that `write_composites` made at the working size.

    Raises:
        ValueError: if the manifest lacks clean pictures, truth or labels, or has another size.
    """
    needed = ["path", "clean_path", "parsing_path", "truth_path", "region_path"]
    missing = [name for name in needed if name not in manifest or manifest[name].isna().any()]
    if missing:
        raise ValueError(f"the ladder needs {', '.join(missing)} of every image: use those of `s3pot data composite`")
    images = []
    for row in manifest.itertuples(index=False):
        image, clean = read_image(str(row.path)), read_image(str(row.clean_path))
        if max(image.shape[:2]) != size:
            raise ValueError(f"{row.path}: the ladder needs pictures with a long side of {size}, got {image.shape}")
        parsing = decode_png(Path(str(row.parsing_path)).read_bytes(), str(row.parsing_path))
        images.append(LadderImage(row=row, image=image, clean=clean, parsing=parsing, truth=read_truth(row)))
    return images


def climb(
    images: Sequence[LadderImage],
    prefix: FrozenPrefix,
    heads: dict[str, nn.Module | None],
    rungs: Sequence[Rung] = RUNGS,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure every rung with every head on every image.

    Args:
        images: composites.
        prefix: the chain's frozen prefix.
        heads: by name; None = prompts as they are.
        rungs: which rungs.
        seed: of random prompts.

    Returns:
        One row per rung, head and image: rung, head, id, status, kind, face_id, cutout_id, the metrics, and `face_iou`
        of the predicted face mask with that of the clean labels.
    """
    rows: list[dict[str, Any]] = []
    for first in range(0, len(images), _BATCH):
        batch = images[first : first + _BATCH]
        chain = prefix.run([entry.image for entry in batch], [entry.row.id for entry in batch])
        for rung in rungs:
            stages, records = _rung(rung, batch, chain, prefix, seed)
            masks = [stage.face_mask for stage in stages]
            for head, reweighter in heads.items():
                predictions = predict_occlusion(prefix.sam, reweighter, records, masks)
                for entry, record, mask, prediction in zip(batch, records, masks, predictions, strict=True):
                    metrics = measure_image(
                        prediction.occlusion,
                        mask,
                        true_occlusion=entry.truth.occlusion,
                        true_region=entry.truth.region,
                        occlusion_score=prediction.score,
                        occlusion_prompts=record.occlusion_prompts.numpy(),
                        face_prompts=record.face_prompts.numpy(),
                        token_grid=prefix.sam.token_grid,
                    )
                    known = {name: getattr(entry.row, name) for name in ("id", "kind", "face_id", "cutout_id")}
                    clean_face = face_mask(entry.parsing)
                    metrics["face_iou"] = float((mask & clean_face).sum() / max(1, (mask | clean_face).sum()))
                    rows.append({"rung": rung, "head": head, "status": "ok", **known, **metrics})
    return pd.DataFrame(rows)


def _rung(
    rung: Rung, batch: Sequence[LadderImage], chain: list[PrefixResult], prefix: FrozenPrefix, seed: int
) -> tuple[list[PrefixResult], list[PromptRecord]]:
    images, ids = [entry.image for entry in batch], [entry.row.id for entry in batch]
    match rung:
        case "chain":
            stages = chain
        case "clean_reference":
            parsings = [stage.parsing for stage in chain]
            stages = prefix.run(images, ids, parsings=parsings, references=[entry.clean for entry in batch])
        case "true_face":
            stages = prefix.run(images, ids, parsings=[entry.parsing for entry in batch])
        case "true_prompts":
            return chain, [_true_prompts(entry, stage, prefix) for entry, stage in zip(batch, chain, strict=True)]
        case "random_prompts":
            return chain, [random_prompts(stage.record(), seed) for stage in chain]
        case "other_prompts":
            records = [stage.record() for stage in chain]
            others = [*records[1:], records[0]]
            return chain, [other_prompts(record, other) for record, other in zip(records, others, strict=True)]
        case _:
            assert_never(rung)
    return stages, [stage.record() for stage in stages]


def _true_prompts(entry: LadderImage, stage: PrefixResult, prefix: FrozenPrefix) -> PromptRecord:
    truth = entry.truth.occlusion
    if truth is None:
        raise ValueError(f"{entry.row.id}: prompts from truth need a truth")
    return true_prompts(stage.record(), truth, prefix.sam.token_grid)
