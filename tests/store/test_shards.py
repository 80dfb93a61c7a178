from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from s3pot.store import shards
from s3pot.store.shards import read_row, write_shard

IDS = ["a", "b", "c"]


def tokens(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 2, 3, generator=generator) for _ in IDS]


def test_rows_come_back_as_fp16(tmp_path: Path) -> None:
    name = write_shard(tmp_path / "shards", IDS, {"image_tokens": tokens(0), "reference_tokens": tokens(1)})
    for key, seed in (("image_tokens", 0), ("reference_tokens", 1)):
        for row, expected in enumerate(tokens(seed)):
            found = read_row(tmp_path / "shards" / name, key, row)
            assert found.dtype == torch.float16
            assert torch.equal(found, expected.half())


def test_tokens_may_be_views_of_one_batch(tmp_path: Path) -> None:
    """As the prefix returns them: rows of one tensor, not contiguous."""
    batch = torch.arange(48.0).reshape(2, 3, 4, 2).permute(0, 3, 1, 2)
    name = write_shard(tmp_path, ["a", "b"], {"image_tokens": [batch[0], batch[1]]})
    assert torch.equal(read_row(tmp_path / name, "image_tokens", 1), batch[1].half())


def test_the_name_is_decided_by_the_ids(tmp_path: Path) -> None:
    names = [write_shard(tmp_path, ids, {"image_tokens": tokens()}) for ids in (IDS, IDS, ["a", "c", "b"])]
    assert names[0] == names[1] != names[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(names)), "something else was left behind"


def test_writing_again_replaces_the_whole_shard(tmp_path: Path) -> None:
    write_shard(tmp_path, IDS, {"image_tokens": tokens(0)})
    name = write_shard(tmp_path, IDS, {"image_tokens": tokens(5)})
    assert torch.equal(read_row(tmp_path / name, "image_tokens", 2), tokens(5)[2].half())


def test_an_interrupted_writer_leaves_the_old_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write_shard(tmp_path, IDS, {"image_tokens": tokens(0)})

    def breaks_off(stacked: Any, path: Path) -> None:
        path.write_bytes(b"half a shard")
        raise OSError("no space left on device")

    monkeypatch.setattr(shards, "save_file", breaks_off)
    with pytest.raises(OSError, match="no space"):
        write_shard(tmp_path, IDS, {"image_tokens": tokens(5)})
    assert torch.equal(read_row(tmp_path / name, "image_tokens", 0), tokens(0)[0].half())
    assert [path.name for path in tmp_path.iterdir()] == [name], "half a shard was left behind"


def test_one_row_is_read_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = write_shard(tmp_path, IDS, {"image_tokens": tokens()})

    class OnlySlices:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.opened = safe_open(*arguments, **options)

        def __enter__(self) -> "OnlySlices":
            return self

        def __exit__(self, *_: Any) -> None: ...

        def keys(self) -> list[str]:
            return list(self.opened.keys())

        def get_slice(self, key: str) -> Any:
            return self.opened.get_slice(key)

    monkeypatch.setattr(shards, "safe_open", OnlySlices)  # it has no get_tensor
    assert torch.equal(read_row(tmp_path / name, "image_tokens", 1), tokens()[1].half())


class TestErrors:
    def test_embeddings_that_were_not_kept(self, tmp_path: Path) -> None:
        name = write_shard(tmp_path, IDS, {"image_tokens": tokens()})
        with pytest.raises(KeyError, match=f"{name}.*reference_tokens.*keep_reference_tokens"):
            read_row(tmp_path / name, "reference_tokens", 0)

    def test_a_missing_shard_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
            read_row(tmp_path / "gone.safetensors", "image_tokens", 0)
