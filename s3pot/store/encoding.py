"""Encode a batch of images into the store: read, align, run the frozen prefix, write a shard, return manifest rows.

Plain library code: the Ray actor around it only passes rows. A bad image becomes a row with status `failed` and loses
nothing else. Where all faces of a photograph are wanted, each is a row: the most prominent has the id of the image,
the others are `<id>#2`, `<id>#3` and so on; what is carried over from the input, truth included, is of the photograph.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s3pot.alignment import AlignedFace, FaceAligner, FaceChoice, id_of_face
from s3pot.images import ImageError, decode_image, encode_jpeg, encode_png
from s3pot.landmark_file import LandmarkError
from s3pot.prefix import FrozenPrefix, PrefixResult
from s3pot.store.manifest import CARRIED
from s3pot.store.shards import write_shard


def encode_images(
    prefix: FrozenPrefix,
    items: Sequence[Mapping[str, Any]],
    store: Path,
    aligner: FaceAligner,
    *,
    faces: FaceChoice = "main",
    keep_reference_tokens: bool = False,
) -> list[dict[str, Any]]:
    """Encode images and write their shard.

    Args:
        prefix: the frozen prefix.
        items: rows of an input manifest: `id`, `path` and whatever of `CARRIED` is known.
        store: folder of the store.
        aligner: crops the faces of an image.
        faces: encode the most prominent face of an image, or all of them.
        keep_reference_tokens: store reference tokens too (doubles the size; for ablations of selectors).

    Returns:
        One manifest row per item, in order; with all faces one per face, those of an image together.
    """
    started = time.monotonic()
    read = [pair for item in items for pair in _read_faces(item, aligner, prefix.size, faces)]
    found = [(row, face) for row, face in read if face is not None]
    # A batch of group photographs takes as much memory as any other batch.
    for first in range(0, len(found), max(1, len(items))):
        part = found[first : first + len(items)]
        encoded = _run(prefix, part)
        if not encoded:
            continue
        tensors = {"image_tokens": [result.image_tokens for _, _, result in encoded]}
        if keep_reference_tokens:
            tensors["reference_tokens"] = [result.reference_tokens for _, _, result in encoded]
        shard = write_shard(store / "shards", [result.id for _, _, result in encoded], tensors)
        for number, (row, face, result) in enumerate(encoded):
            row |= _result_columns(result, face) | {"shard": shard, "row": number}
    seconds = (time.monotonic() - started) / max(1, len(read))
    return [row | {"seconds": seconds} for row, _ in read]


def _run(
    prefix: FrozenPrefix, found: Sequence[tuple[dict[str, Any], AlignedFace]]
) -> list[tuple[dict[str, Any], AlignedFace, PrefixResult]]:
    """Run the prefix; a face whose precomputed reference cannot be used gets its error and is left out."""
    try:
        results = prefix.run([face.image for _, face in found], [row["id"] for row, _ in found])
    except ImageError as error:
        if len(found) == 1:
            found[0][0].update(status="failed", error=str(error))
            return []
        return [encoded for one in found for encoded in _run(prefix, [one])]
    return [(row, face, result) for (row, face), result in zip(found, results, strict=True)]


def _base_row(item: Mapping[str, Any]) -> dict[str, Any]:
    carried = {name: _text(item.get(name)) for name in CARRIED}
    return {"id": str(item["id"]), "path": str(item["path"]), "status": "no_face", "error": None} | carried


def _text(value: Any) -> str | None:
    # Absent values of a data frame come as None or NaN.
    return None if value is None or value != value else str(value)


def _read_faces(
    item: Mapping[str, Any], aligner: FaceAligner, size: int, faces: FaceChoice
) -> list[tuple[dict[str, Any], AlignedFace | None]]:
    """Return a row per face with its crop; a single row without one for an image that failed or shows no face."""
    row = _base_row(item)
    try:
        data = Path(row["path"]).read_bytes()
        image = decode_image(data, row["path"])
        if faces == "all":
            crops = aligner.align_all(image, size, row["id"])
        else:
            main = aligner.align(image, size, row["id"])
            crops = [] if main is None else [main]
    except (ImageError, LandmarkError, OSError) as error:
        return [(row | {"status": "failed", "error": str(error)}, None)]
    row |= {
        "image_sha256": hashlib.sha256(data).hexdigest(),
        "original_height": image.shape[0],
        "original_width": image.shape[1],
    }
    if not crops:
        if aligner.landmarks is not None:
            row["error"] = f"{aligner.landmarks.path}: no row for the image {row['id']!r}"
        return [(row, None)]
    return [(row | {"id": id_of_face(row["id"], number)}, crop) for number, crop in enumerate(crops, start=1)]


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
