"""A store with other prompts from the tokens of one that is there: nothing is encoded again [design 3].

Feature enhancement, initial prompt, selector and number of prompts come after the encoder. Chains that differ in those
alone share image tokens, reference tokens and parsings; only prompts and similarity are computed anew, by the functions
of the prefix itself. The shards are shared by hard link (copied to another file system): they never change.

Stored tokens are fp16 and a fresh encoding contrasts fp32, so a prompt may change sides where two scores nearly tie.
Measured on 200 composites and the nano SAM, without and with feature enhancement, as a share of all prompts: greedy
0.01 and 0.02 %, Otsu 0.04 and 0.06 %, a fixed threshold 0.000 and 0.005 %. An image takes 4 to 20 ms, encoding it 180.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from s3pot.chain import ChainConfig, load_sam
from s3pot.matching.selector import SelectorConfig
from s3pot.parsing.classes import face_mask
from s3pot.prompt_drawing import draw_prompts
from s3pot.sam.preprocess import valid_tokens
from s3pot.sam.promptable import PromptableSam
from s3pot.store.atomic_files import share_file
from s3pot.store.errors import StoreError
from s3pot.store.manifest import SCHEMA
from s3pot.store.prompt_store import PromptStore, stored_parsing
from s3pot.store.shards import read_row

_BATCH = 16


def token_chain(chain: ChainConfig) -> ChainConfig:
    """Return the chain with prompting as it is by default; chains that agree in this one share their tokens."""
    prefix = replace(
        chain.prefix,
        feature_enhancement=None,
        initial_prompt="most_similar",
        selector=SelectorConfig(),
        most_prompts=None,
        seed=chain.prefix.seed if chain.prefix.fresh_noise else 0,
    )
    return replace(chain, enhance_point_only=False, prefix=prefix)


def reprompt_images(source: PromptStore, target: Path, chain: ChainConfig, images: Collection[str]) -> PromptStore:
    """Draw the prompts of a chain from the tokens of another store; what the target holds of the same files stays.

    Args:
        source: store with reference tokens, made by a chain with the same tokens.
        target: folder of the new store, made when missing.
        chain: whose prompts.
        images: ids of the images; those that are not in the source are left out.

    Raises:
        StoreError: if the chains' tokens differ, the source keeps no reference tokens, or nothing can be written.
    """
    if token_chain(source.chain) != token_chain(replace(chain, device="auto")):
        raise StoreError(f"{source.root}: its tokens are not those of this chain: encode into a new store")
    store = PromptStore.create(target, chain, source.tokens)
    known = store.rows(["image_sha256"])
    done = set(zip(known["id"], known["image_sha256"], strict=True))
    wanted = set(images)
    rows: list[Any] = list(source.rows().itertuples(index=False))
    todo = [row for row in rows if row.id in wanted and (row.id, row.image_sha256) not in done]
    if not todo:
        return store
    source.check_made_by(source.chain)  # by the weights that are installed now: they are to read its tokens
    sam = load_sam(chain)
    for first in range(0, len(todo), _BATCH):
        part = todo[first : first + _BATCH]
        for name in sorted({row.shard for row in part if row.shard is not None}):
            share_file(source.shards / name, store.shards / name)
        store.append(_new_rows(source, sam, chain, part))
    return store


def _new_rows(source: PromptStore, sam: PromptableSam, chain: ChainConfig, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the manifest rows: what the source says, and new prompts of every image that has tokens."""
    encoded = [row for row in rows if row.shard is not None]
    drawn = dict(zip([row.id for row in encoded], _draw(source, sam, chain, encoded), strict=True))
    return [_plain(row) | drawn.get(row.id, {}) for row in rows]


def _draw(source: PromptStore, sam: PromptableSam, chain: ChainConfig, rows: Sequence[Any]) -> list[dict[str, Any]]:
    if not rows:
        return []
    image_tokens, reference_tokens = (
        torch.stack([_tokens(source, row, name) for row in rows]).to(sam.device, torch.float32)
        for name in ("image_tokens", "reference_tokens")
    )
    masks = [face_mask(stored_parsing(row)) for row in rows]
    valid = valid_tokens([(mask.shape[0], mask.shape[1]) for mask in masks], sam.image_size, sam.patch, sam.device)
    ids = [row.id for row in rows]
    return [
        {
            "status": prompts.status,
            "initial_prompt": prompts.initial_prompt,
            "occlusion_prompts": prompts.occlusion_prompts.tolist(),
            "face_prompts": prompts.face_prompts.tolist(),
            "similarity": prompts.similarity.numpy().astype(np.dtype("<f2")).tobytes(),
        }
        for prompts in draw_prompts(sam, chain.prefix, ids, masks, image_tokens, reference_tokens, valid)
    ]


def _tokens(source: PromptStore, row: Any, name: str) -> torch.Tensor:
    try:
        return read_row(source.shard_file(row.shard), name, int(row.row))
    except KeyError as error:
        raise StoreError(f"{source.root}: {error.args[0]}, into a new folder") from error


def _plain(row: Any) -> dict[str, Any]:
    """Turn a row of a data frame into one of the manifest; its key is the new store's to say."""
    values = {}
    for field in SCHEMA:
        value = getattr(row, field.name)
        if value is None or (isinstance(value, float) and value != value):
            value = None
        elif pa.types.is_integer(field.type):
            value = int(value)  # a column with gaps comes as floating point
        values[field.name] = value
    del values["key"]
    return values
