"""Encode a batch of images into the store: read, align, run the frozen prefix, write a shard, return manifest rows.

Plain library code: the Ray actor around it only passes rows. A bad image becomes a row with status `failed` and loses
nothing else.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s3pot.alignment import AlignedFace, FaceAligner
from s3pot.images import ImageError, decode_image, encode_jpeg, encode_png
from s3pot.prefix import FrozenPrefix, PrefixResult
from s3pot.store.manifest import CARRIED
from s3pot.store.shards import write_shard


def encode_images(
    prefix: FrozenPrefix,
    items: Sequence[Mapping[str, Any]],
    store: Path,
    aligner: FaceAligner,
    *,
    keep_reference_tokens: bool = False,
) -> list[dict[str, Any]]:
    """Encode images and write their shard.

    Args:
        prefix: the frozen prefix.
        items: rows of an input manifest: `id`, `path` and whatever of `CARRIED` is known.
        store: folder of the store.
        aligner: crops the face of an image.
        keep_reference_tokens: store reference tokens too (doubles the size; for ablations of selectors).

    Returns:
        One manifest row per item, in order.
    """
    started = time.monotonic()
    rows = [_base_row(item) for item in items]
    aligned = [_read_aligned(row, aligner, prefix.size) for row in rows]
    found = [place for place, face in enumerate(aligned) if face is not None]
    faces = [face for face in aligned if face is not None]
    if faces:
        results = prefix.run([face.image for face in faces], [rows[place]["id"] for place in found])
        tensors = {"image_tokens": [result.image_tokens for result in results]}
        if keep_reference_tokens:
            tensors["reference_tokens"] = [result.reference_tokens for result in results]
        shard = write_shard(store / "shards", [result.id for result in results], tensors)
        for number, (place, face, result) in enumerate(zip(found, faces, results, strict=True)):
            rows[place] |= _result_columns(result, face) | {"shard": shard, "row": number}
    seconds = (time.monotonic() - started) / max(1, len(rows))
    return [row | {"seconds": seconds} for row in rows]


def _base_row(item: Mapping[str, Any]) -> dict[str, Any]:
    carried = {name: _text(item.get(name)) for name in CARRIED}
    return {"id": str(item["id"]), "path": str(item["path"]), "status": "no_face", "error": None} | carried


def _text(value: Any) -> str | None:
    # Absent values of a data frame come as None or NaN.
    return None if value is None or value != value else str(value)


def _read_aligned(row: dict[str, Any], aligner: FaceAligner, size: int) -> AlignedFace | None:
    try:
        data = Path(row["path"]).read_bytes()
        image = decode_image(data, row["path"])
    except (ImageError, OSError) as error:
        row |= {"status": "failed", "error": str(error)}
        return None
    row |= {
        "image_sha256": hashlib.sha256(data).hexdigest(),
        "original_height": image.shape[0],
        "original_width": image.shape[1],
    }
    return aligner.align(image, size)


def _result_columns(result: PrefixResult, face: AlignedFace) -> dict[str, Any]:
    return {
        "status": result.status,
        "to_original": face.to_original.ravel().tolist(),
        "initial_prompt": result.initial_prompt,
        "occlusion_prompts": result.occlusion_prompts.tolist(),
        "face_prompts": result.face_prompts.tolist(),
        "similarity": result.similarity.numpy().astype(np.dtype("<f2")).tobytes(),
        "parsing_png": encode_png(result.parsing),
        "reference_jpeg": encode_jpeg(result.reference),
    }
