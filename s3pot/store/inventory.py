"""What a store holds, and what it costs."""

import shutil
from dataclasses import dataclass
from typing import Any

from s3pot.store.compaction import read_all_rows
from s3pot.store.manifest import read_consistently
from s3pot.store.prompt_store import PromptStore


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Numbers of one store; sizes are in bytes.

    Attributes:
        root: its folder.
        schema_version: of manifest and shards.
        identity: of the chain that made it.
        tokens: fp16 or int8.
        images: rows by status.
        superseded_rows: rows that do not count any more; `prune` removes them.
        shards: number of shard files.
        parts: number of manifest parts.
        token_bytes: size of all shards.
        manifest_bytes: size of all manifest parts.
        token_bytes_per_image: over images that have tokens.
        manifest_bytes_per_image: over all rows.
        disk_free: on the file system of the store.
        chain: configuration of the chain.
    """

    root: str
    schema_version: int
    identity: str
    tokens: str
    images: dict[str, int]
    superseded_rows: int
    shards: int
    parts: int
    token_bytes: int
    manifest_bytes: int
    token_bytes_per_image: float
    manifest_bytes_per_image: float
    disk_free: int
    chain: dict[str, Any]


def take_inventory(store: PromptStore) -> Inventory:
    """Count what a store holds; tokens and pictures are not read.

    Raises:
        StoreError: if a manifest part is damaged.
    """

    def count(parts: list[Any]) -> tuple[list[int], Any]:
        return [part.stat().st_size for part in parts], read_all_rows(parts, ["shard"])

    part_sizes, rows = read_consistently(store.manifest, count)
    live = rows[rows["counts"]]
    shard_sizes = [path.stat().st_size for path in store.shards.glob("[!.]*")] if store.shards.is_dir() else []
    with_tokens = int(live["shard"].notna().sum())
    return Inventory(
        root=str(store.root),
        schema_version=store.description["schema_version"],
        identity=store.description["identity"],
        tokens=store.tokens,
        images={str(status): int(number) for status, number in live["status"].value_counts().items()},
        superseded_rows=len(rows) - len(live),
        shards=len(shard_sizes),
        parts=len(part_sizes),
        token_bytes=sum(shard_sizes),
        manifest_bytes=sum(part_sizes),
        token_bytes_per_image=sum(shard_sizes) / max(1, with_tokens),
        manifest_bytes_per_image=sum(part_sizes) / max(1, len(rows)),
        disk_free=shutil.disk_usage(store.root).free,
        chain=store.description["chain"],
    )
