"""Encode a batch of images into the store: read, align, parse and imagine the reference, contrast, write a shard.

    read_images -> imagine_references -> store_contrast      in one go: `encode_images`

Plain library code: the Ray actors around it only pass what these functions return. A bad image becomes a row with
status `failed` and loses nothing else. Where all faces of a photograph are wanted, each is a row: the most prominent
has the id of the image, the others are `<id>#2`, `<id>#3` and so on; what is carried over from the input, truth
included, is of the photograph.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from s3pot.alignment import AlignedFace, FaceAligner, FaceChoice, id_of_face
from s3pot.images import decode_image, encode_jpeg, encode_png
from s3pot.places import read_place
from s3pot.prefix import FrozenPrefix, PrefixConfig, PrefixResult, ReferenceStage, contrast
from s3pot.sam.promptable import PromptableSam
from s3pot.store.back_off import BackOff, error_text
from s3pot.store.manifest import CARRIED
from s3pot.store.shards import write_shard
from s3pot.store.token_format import TokenFormat


@dataclass(kw_only=True, eq=False)
class FaceUnderWay:
    """A face on its way into the store, or an image that failed or shows none.

    Attributes:
        row: what its manifest row holds so far.
        face: its crop; None for an image that failed or shows no face, which has only its row to go.
        parsing: (H, W) uint8 completed parsing, once known.
        reference: (H, W, 3) uint8, once known.
    """

    row: dict[str, Any]
    face: AlignedFace | None = None
    parsing: UInt8[np.ndarray, "h w"] | None = None
    reference: UInt8[np.ndarray, "h w 3"] | None = None

    @property
    def id(self) -> str:
        """Id of its row."""
        name: str = self.row["id"]
        return name

    @property
    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """Its crop, of one that has any."""
        assert self.face is not None
        return self.face.image

    def fail(self, error: Exception) -> None:
        """Note that nothing more will come of it, and why."""
        self.row |= {"status": "failed", "error": error_text(error)}
        self.face = self.parsing = self.reference = None


@dataclass(frozen=True, kw_only=True)
class StoreWriting:
    """Where and how token shards are written.

    Attributes:
        store: folder of the store.
        tokens: how tokens are stored.
        keep_reference_tokens: store reference tokens too (doubles the size; for ablations of selectors).
        per_shard: most images per shard.
    """

    store: Path
    tokens: TokenFormat = "fp16"
    keep_reference_tokens: bool = False
    per_shard: int = 8


def encode_images(
    prefix: FrozenPrefix,
    items: Sequence[Mapping[str, Any]],
    store: Path,
    aligner: FaceAligner,
    *,
    faces: FaceChoice = "main",
    keep_reference_tokens: bool = False,
    tokens: TokenFormat = "fp16",
    back_off: BackOff | None = None,
) -> list[dict[str, Any]]:
    """Encode images and write their shard.

    Args:
        prefix: the frozen prefix.
        items: rows of an input manifest: `id`, `path` and whatever of `CARRIED` is known.
        store: folder of the store.
        aligner: crops the faces of an image.
        faces: encode the most prominent face of an image, or all of them.
        keep_reference_tokens: store reference tokens too (doubles the size; for ablations of selectors).
        tokens: how tokens are stored.
        back_off: how many faces fit into memory; kept from batch to batch. Given nothing, as many as there are items.

    Returns:
        One manifest row per item, in order; with all faces one per face, those of an image together.

    Raises:
        StoreError: if a shard cannot be written.
        torch.AcceleratorError: if the device is broken.
    """
    started = time.monotonic()
    # A batch of group photographs takes as much memory as any other batch.
    size = max(1, len(items))
    writing = StoreWriting(store=store, tokens=tokens, keep_reference_tokens=keep_reference_tokens, per_shard=size)
    under_way = read_images(items, aligner, prefix.size, faces)

    def run(part: Sequence[FaceUnderWay]) -> list[PrefixResult]:
        return prefix.run([one.picture for one in part], [one.id for one in part])

    _store(run, under_way, writing, back_off or BackOff(size))
    return _rows(under_way, started)


def read_images(
    items: Iterable[Mapping[str, Any]], aligner: FaceAligner, size: int, faces: FaceChoice = "main"
) -> list[FaceUnderWay]:
    """Read images and cut out their faces; one entry per face, or per image that failed or shows none.

    Args:
        items: rows of an input manifest.
        aligner: crops the faces of an image.
        size: working size in pixels.
        faces: the most prominent face of an image, or all of them.
    """
    return [one for item in items for one in _read_image(item, aligner, size, faces)]


def imagine_references(stage: ReferenceStage, under_way: Sequence[FaceUnderWay], back_off: BackOff) -> None:
    """Add parsing and reference to every face; a face that cannot have them becomes a failed row."""

    def imagine(part: Sequence[FaceUnderWay]) -> list[tuple[np.ndarray, np.ndarray]]:
        made = stage.imagine([one.picture for one in part], [one.id for one in part])
        return list(zip(*made, strict=True))

    for one, (parsing, reference) in back_off.run(imagine, _faces(under_way), FaceUnderWay.fail):
        one.parsing, one.reference = parsing, reference


def store_contrast(
    sam: PromptableSam,
    config: PrefixConfig,
    under_way: Sequence[FaceUnderWay],
    writing: StoreWriting,
    back_off: BackOff,
) -> list[dict[str, Any]]:
    """Encode faces that have parsing and reference, draw their prompts and write shards; returns manifest rows.

    Raises:
        StoreError: if a shard cannot be written.
        torch.AcceleratorError: if the device is broken.
    """
    started = time.monotonic()

    def run(part: Sequence[FaceUnderWay]) -> list[PrefixResult]:
        known = [(one.parsing, one.reference) for one in part]
        parsings = [parsing for parsing, _ in known if parsing is not None]
        references = [reference for _, reference in known if reference is not None]
        return contrast(sam, config, [one.picture for one in part], [one.id for one in part], parsings, references)

    _store(run, under_way, writing, back_off)
    return _rows(under_way, started)


def _store(
    run: Callable[[Sequence[FaceUnderWay]], list[PrefixResult]],
    under_way: Sequence[FaceUnderWay],
    writing: StoreWriting,
    back_off: BackOff,
) -> None:
    found = _faces(under_way)
    for first in range(0, len(found), writing.per_shard):
        part = found[first : first + writing.per_shard]
        encoded = back_off.run(lambda some: _checked(run(some)), part, FaceUnderWay.fail)
        if not encoded:
            continue
        tensors = {"image_tokens": [result.image_tokens for _, result in encoded]}
        if writing.keep_reference_tokens:
            tensors["reference_tokens"] = [result.reference_tokens for _, result in encoded]
        ids = [result.id for _, result in encoded]
        shard = write_shard(writing.store / "shards", ids, tensors, writing.tokens)
        for number, (one, result) in enumerate(encoded):
            one.row |= _result_columns(one, result) | {"shard": shard, "row": number}


def _checked(results: list[PrefixResult]) -> list[PrefixResult]:
    for result in results:
        for name, tokens in (("image", result.image_tokens), ("reference", result.reference_tokens)):
            if not tokens.half().isfinite().all():
                raise ValueError(f"{result.id}: its {name} tokens are not finite in fp16")
    return results


def _faces(under_way: Sequence[FaceUnderWay]) -> list[FaceUnderWay]:
    return [one for one in under_way if one.face is not None]


def _rows(under_way: Sequence[FaceUnderWay], started: float) -> list[dict[str, Any]]:
    seconds = (time.monotonic() - started) / max(1, len(under_way))
    return [one.row | {"seconds": one.row.get("seconds", 0.0) + seconds} for one in under_way]


def _base_row(item: Mapping[str, Any]) -> dict[str, Any]:
    carried = {name: _text(item.get(name)) for name in CARRIED}
    return {"id": str(item["id"]), "path": str(item["path"]), "status": "no_face", "error": None} | carried


def _text(value: Any) -> str | None:
    # Absent values of a data frame come as None or NaN.
    return None if value is None or value != value else str(value)


def _read_image(item: Mapping[str, Any], aligner: FaceAligner, size: int, faces: FaceChoice) -> list[FaceUnderWay]:
    row = _base_row(item)
    try:
        data = read_place(row["path"])
        row["image_sha256"] = hashlib.sha256(data).hexdigest()
        image = decode_image(data, row["path"])
        row |= {"original_height": image.shape[0], "original_width": image.shape[1]}
        if faces == "all":
            crops = aligner.align_all(image, size, row["id"])
        else:
            main = aligner.align(image, size, row["id"])
            crops = [] if main is None else [main]
    except Exception as error:  # whatever is wrong with one image, the others go on
        return [FaceUnderWay(row=row | {"status": "failed", "error": error_text(error)})]
    if not crops:
        if aligner.landmarks is not None:
            row["error"] = f"{aligner.landmarks.path}: no row for the image {row['id']!r}"
        return [FaceUnderWay(row=row)]
    return [
        FaceUnderWay(row=row | {"id": id_of_face(row["id"], number)}, face=crop)
        for number, crop in enumerate(crops, start=1)
    ]


def _result_columns(one: FaceUnderWay, result: PrefixResult) -> dict[str, Any]:
    assert one.face is not None
    return {
        "status": result.status,
        "to_original": one.face.to_original.ravel().tolist(),
        "initial_prompt": result.initial_prompt,
        "occlusion_prompts": result.occlusion_prompts.tolist(),
        "face_prompts": result.face_prompts.tolist(),
        "similarity": result.similarity.numpy().astype(np.dtype("<f2")).tobytes(),
        "parsing_png": encode_png(result.parsing),
        "reference_jpeg": encode_jpeg(result.reference),
    }
