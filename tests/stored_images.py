"""Small stores written by hand: random tokens, no models."""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from s3pot.store.prompt_store import PromptStore, create_empty
from s3pot.store.shards import write_shard
from s3pot.store.token_format import TokenFormat
from tests.stand_ins import random_record


def empty_store(root: Path, *, identity: str = "feedc0de", tokens: TokenFormat = "fp16", **chain: Any) -> PromptStore:
    return create_empty(root, identity, chain, tokens)


def content_of(image_id: str, version: int = 0) -> bytes:
    """What the file of an image holds."""
    return f"{image_id} {version}".encode()


def add_images(store: PromptStore, *names: str, version: int = 0, **values: Any) -> str:
    """Add images as one shard and one part; tokens follow from id and version. Returns the shard's name."""
    tokens = [tokens_of(name, version) for name in names]
    shard = write_shard(store.shards, names, {"image_tokens": tokens}, store.tokens)
    rows = [
        {
            "id": name,
            "path": f"/nowhere/{name}.png",
            "status": "ok",
            "shard": shard,
            "row": row,
            "image_sha256": hashlib.sha256(content_of(name, version)).hexdigest(),
            "occlusion_prompts": [version],
            "face_prompts": [],
            "reference_jpeg": content_of(name, version),
        }
        | values
        for row, name in enumerate(names)
    ]
    store.append(rows)
    return shard


def tokens_of(image_id: str, version: int = 0) -> torch.Tensor:
    """Return the tokens that `add_images` stores, (32, 8, 8) fp16."""
    return random_record(f"{image_id}/{version}", 1, 1).image_tokens


def names_in(folder: Path) -> list[str]:
    """Return the names of all files of a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def make_old(*files: Path) -> None:
    """Set files back by a day."""
    for file in files:
        stat = file.stat()
        os.utime(file, (stat.st_atime - 86400, stat.st_mtime - 86400))


def flip_bit(file: Path, place: int) -> None:
    """Turn over one bit of a file; negative places count from its end."""
    data = bytearray(file.read_bytes())
    data[place] ^= 0x10
    file.write_bytes(bytes(data))
