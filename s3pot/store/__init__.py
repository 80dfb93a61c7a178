"""The store of frozen results: fp16 token shards plus a Parquet manifest with one row per image [design 3]."""

from s3pot.store.prompt_store import PromptStore, StoreError

__all__ = ["PromptStore", "StoreError"]
