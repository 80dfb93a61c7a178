"""The store of frozen results: token shards and a Parquet manifest, one row per image [design 3, docs/store.md]."""

from s3pot.store.errors import StoreError
from s3pot.store.prompt_store import PromptStore

__all__ = ["PromptStore", "StoreError"]
