"""Token shards: safetensors files of fp16 embeddings, written atomically and read by memory map.

<store>/shards/<name>.safetensors    image_tokens (n, C, h, w) fp16    reference_tokens (n, C, h, w) fp16, when asked
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_shard(folder: Path, ids: Sequence[str], tensors: dict[str, list[Tensor]]) -> str:
    """Write one shard and return its file name, a hash of its ids.

    A reader sees the whole file or none: it is written beside and moved into place.

    Args:
        folder: shard folder, made when missing.
        ids: images in the order of their rows.
        tensors: by name, one (C, h, w) tensor per image; stored as fp16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:24] + ".safetensors"
    stacked = {key: torch.stack([row.half() for row in rows]).contiguous() for key, rows in tensors.items()}
    part = folder / f".{name}.{os.getpid()}.part"
    try:
        save_file(stacked, part)
        os.replace(part, folder / name)
    finally:
        part.unlink(missing_ok=True)  # of a write that broke off: a full disk must not fill with remains
    return name


def read_row(path: Path, key: str, row: int) -> Float[Tensor, "c h w"]:
    """Read one image's embedding without reading the rest of the shard.

    Raises:
        KeyError: if the shard holds no such embedding.
    """
    with safe_open(path, framework="pt") as opened:
        if key not in opened.keys():
            raise KeyError(f"{path}: holds no {key}; encode with keep_reference_tokens=true")
        tensor: Tensor = opened.get_slice(key)[row]
    return tensor
