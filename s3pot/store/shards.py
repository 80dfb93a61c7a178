"""Token shards: safetensors files with the embeddings of a batch of images, read by memory map.

<store>/shards/<SHA-256 of the file>.safetensors
    image_tokens (n, C, h, w) fp16 or int8 [token_format.py]    reference_tokens, likewise, when they were asked for
    metadata `ids`: the images of rows 0 .. n-1, a JSON list
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from jaxtyping import Float16
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from s3pot.store.atomic_files import sha256_of_bytes, write_file
from s3pot.store.errors import StoreError
from s3pot.store.token_format import OFFSET, SCALE, TokenFormat, pack, restore

_SUFFIX = ".safetensors"


def write_shard(
    folder: Path, ids: Sequence[str], tensors: dict[str, list[Tensor]], tokens: TokenFormat = "fp16"
) -> str:
    """Write one shard and return its file name, the hash of its content.

    A reader sees the whole file or none. What is written depends on the arguments alone, so writing it again changes
    nothing.

    Args:
        folder: shard folder, made when missing.
        ids: images in the order of their rows.
        tensors: by name, one (C, h, w) tensor per image.
        tokens: how they are stored.

    Raises:
        StoreError: if tokens are not finite in fp16, or the file cannot be written, the disk being full above all.
    """
    packed: dict[str, Tensor] = {}
    for name, rows in tensors.items():
        stacked = torch.stack([row.half() for row in rows])
        for image_id, row in zip(ids, stacked, strict=True):
            # The range is not finite where any value is not, and ten times as fast to find.
            if not torch.stack(row.aminmax()).isfinite().all():
                raise StoreError(f"{image_id}: {name} are not finite in fp16: wrong weights, or an overflow in SAM")
        packed |= pack(name, stacked, tokens)
    return _write(folder, ids, packed)


def read_row(path: Path, key: str, row: int) -> Float16[Tensor, "c h w"]:
    """Read one image's embedding without reading the rest of the shard; fp16, however it is stored.

    Raises:
        KeyError: if the shard holds no such embedding.
        StoreError: if the shard is missing, cut short or otherwise unreadable, or has no such row.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            names = opened.keys()
            if key not in names:
                raise KeyError(f"{path}: holds no {key}; encode with keep_reference_tokens=true")
            tensor: Tensor = opened.get_slice(key)[row]
            if key + SCALE not in names:
                return tensor
            return restore(tensor, opened.get_slice(key + SCALE)[row], opened.get_slice(key + OFFSET)[row])
    except (SafetensorError, OSError, IndexError) as error:
        _refuse(path, error)


def read_shard_ids(path: Path) -> list[str]:
    """Read which images a shard holds, by row; only its header is read.

    Raises:
        StoreError: if the shard is missing, cut short or otherwise unreadable.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            ids: list[str] = json.loads(opened.metadata()["ids"])
            return ids
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        _refuse(path, error)


def keep_rows(path: Path, rows: Sequence[int]) -> str:
    """Write a shard of some rows of another, unchanged, beside it; returns its file name.

    Raises:
        StoreError: if the shard is not what was written, or the new one cannot be written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        _refuse(path, error)
    if sha256_of_bytes(data) != path.stem:
        _refuse(path, ValueError("its bytes are not those that were written"))
    ids, chosen = read_shard_ids(path), list(rows)
    kept = {name: tensor[chosen].contiguous() for name, tensor in load(data).items()}
    return _write(path.parent, [ids[row] for row in chosen], kept)


def _write(folder: Path, ids: Sequence[str], tensors: dict[str, Tensor]) -> str:
    # One entry of metadata: safetensors writes several in any order, and the same shard must be the same bytes.
    data = save(tensors, {"ids": json.dumps(list(ids), ensure_ascii=False)})
    name = sha256_of_bytes(data) + _SUFFIX
    write_file(folder, name, data)
    return name


def _refuse(path: Path, error: Exception) -> NoReturn:
    raise StoreError(
        f"{path}: shard missing or damaged ({error}): `s3pot store verify --repair {path.parent.parent}` marks its "
        "images, then `s3pot encode` makes them again"
    ) from error
