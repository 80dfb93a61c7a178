import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from s3pot.store import StoreError, shards
from s3pot.store.shards import keep_rows, read_row, read_shard_ids, write_shard
from s3pot.store.token_format import TokenFormat
from tests.stored_images import flip_bit, names_in

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


def test_the_name_is_the_hash_of_the_content(tmp_path: Path) -> None:
    write = partial(write_shard, tmp_path)
    names = [write(ids, {"image_tokens": tokens()}) for ids in (IDS, IDS, ["a", "c", "b"])]
    names += [write(IDS, {"image_tokens": tokens(5)}), write(IDS, {"image_tokens": tokens()}, "int8")]
    assert names[0] == names[1], "the same content is the same file"
    assert len(set(names)) == 4, "another content is another file: a shard never changes"
    assert names_in(tmp_path) == sorted(set(names)), "something else was left behind"
    for name in names:
        assert name == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() + ".safetensors"


def test_a_shard_says_which_images_it_holds(tmp_path: Path) -> None:
    ids = ["a/b #2", "ä", '"']
    assert read_shard_ids(tmp_path / write_shard(tmp_path, ids, {"image_tokens": tokens()})) == ids


class TestInt8:
    def test_rows_come_back_as_fp16_within_half_a_step(self, tmp_path: Path) -> None:
        name = write_shard(tmp_path, IDS, {"image_tokens": tokens(0), "reference_tokens": tokens(1)}, "int8")
        for key, seed in (("image_tokens", 0), ("reference_tokens", 1)):
            for row, exact in enumerate(tokens(seed)):
                found = read_row(tmp_path / name, key, row)
                assert found.dtype == torch.float16
                step = (exact.amax((1, 2)) - exact.amin((1, 2))) / 255
                wrong = (found.float() - exact).abs().amax((1, 2))
                assert (wrong <= 0.5 * step + 4e-3).all()
                assert not torch.equal(found, exact.half()), "was it rounded at all?"

    def test_takes_half_the_bytes(self, tmp_path: Path) -> None:
        large = {"image_tokens": [torch.randn(64, 16, 16) for _ in IDS]}
        sizes = [(tmp_path / write_shard(tmp_path, IDS, large, form)).stat().st_size for form in ("fp16", "int8")]
        assert sizes[1] < 0.53 * sizes[0]


class TestKeepRows:
    @pytest.mark.parametrize("form", ["fp16", "int8"])
    def test_the_rows_are_those_of_the_shard(self, tmp_path: Path, form: TokenFormat) -> None:
        tensors = {"image_tokens": tokens(0), "reference_tokens": tokens(1)}
        whole = tmp_path / write_shard(tmp_path, IDS, tensors, form)
        kept = tmp_path / keep_rows(whole, [2, 0])
        assert read_shard_ids(kept) == ["c", "a"]
        for key in tensors:
            for row, old in enumerate([2, 0]):
                assert torch.equal(read_row(kept, key, row), read_row(whole, key, old))
        assert whole.is_file()

    def test_a_damaged_shard_gets_no_good_name(self, tmp_path: Path) -> None:
        whole = tmp_path / write_shard(tmp_path, IDS, {"image_tokens": tokens()})
        flip_bit(whole, -1)
        with pytest.raises(StoreError, match=f"{whole.name}.*not those that were written"):
            keep_rows(whole, [0])
        assert names_in(tmp_path) == [whole.name]


def test_tokens_that_overflow_are_refused(tmp_path: Path) -> None:
    rows = tokens()
    rows[1][0, 0, 0] = 1e6
    with pytest.raises(StoreError, match=r"^b: image_tokens are not finite in fp16"):
        write_shard(tmp_path / "shards", IDS, {"image_tokens": rows})
    assert not (tmp_path / "shards").exists()


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

    def test_a_missing_shard_is_named_with_the_remedy(self, tmp_path: Path) -> None:
        shards_folder = tmp_path / "store" / "shards"
        with pytest.raises(StoreError, match=rf"gone\.safetensors.*verify --repair {tmp_path / 'store'}.*encode"):
            read_row(shards_folder / "gone.safetensors", "image_tokens", 0)

    @pytest.mark.parametrize("length", [0, 5, 60, -1, -100])
    def test_a_truncated_shard_is_named_with_the_remedy(self, tmp_path: Path, length: int) -> None:
        path = tmp_path / write_shard(tmp_path, IDS, {"image_tokens": tokens()})
        path.write_bytes(path.read_bytes()[:length])
        for read in (lambda: read_row(path, "image_tokens", 0), lambda: read_shard_ids(path)):
            with pytest.raises(StoreError, match=f"{path.name}.*verify --repair"):
                read()

    def test_a_shard_without_the_row(self, tmp_path: Path) -> None:
        path = tmp_path / write_shard(tmp_path, IDS, {"image_tokens": tokens()})
        with pytest.raises(StoreError, match=f"{path.name}.*verify --repair"):
            read_row(path, "image_tokens", 3)
