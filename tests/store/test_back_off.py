"""Through the encoding of images, with a prefix that does not fit into memory."""

from pathlib import Path
from typing import Any

import pytest
import torch

from s3pot.alignment import FaceAligner
from s3pot.images import write_png
from s3pot.prefix import FrozenPrefix
from s3pot.store.back_off import BackOff
from s3pot.store.encoding import encode_images
from tests.stand_ins import drawn_prefix, textured_face

AS_IT_IS = FaceAligner("none")


@pytest.fixture(scope="module")
def prefix() -> FrozenPrefix:
    return drawn_prefix()


class Clumsy(FrozenPrefix):
    """A prefix that cannot do more than so many pictures at once, nor one of them at all."""

    def __init__(self, fits: int, cannot: str | None = None) -> None:
        plain = drawn_prefix()
        super().__init__(plain.parser, plain.generator, plain.sam, plain.config)
        self.fits, self.cannot = fits, cannot
        self.tried: list[int] = []

    def run(self, images: Any, ids: Any, **known: Any) -> Any:
        self.tried.append(len(ids))
        if len(ids) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        if self.cannot in ids:
            raise ZeroDivisionError("of the kernel\nand more")
        return super().run(images, ids, **known)


@pytest.fixture
def many(tmp_path: Path) -> list[dict[str, Any]]:
    for number in range(7):
        write_png(tmp_path / f"{number}.png", textured_face(number)[0])
    return [{"id": str(number), "path": str(tmp_path / f"{number}.png")} for number in range(7)]


def test_out_of_memory_halves_the_batch_and_changes_no_result(
    prefix: FrozenPrefix, many: list[dict[str, Any]], tmp_path: Path
) -> None:
    clumsy, back_off = Clumsy(fits=2), BackOff(7)
    rows = encode_images(clumsy, many, tmp_path / "store", AS_IT_IS, back_off=back_off)
    assert clumsy.tried == [7, 4, 2, 2, 2, 1]
    expected = encode_images(prefix, many, tmp_path / "expected", AS_IT_IS)
    for row, wanted in zip(rows, expected, strict=True):
        assert (row["id"], row["status"], row["row"]) == (wanted["id"], wanted["status"], wanted["row"])
        mine, theirs = set(row["occlusion_prompts"]), set(wanted["occlusion_prompts"])
        assert len(mine & theirs) >= 0.97 * len(mine | theirs)  # design 5.3: across batch sizes
    assert len({row["shard"] for row in rows}) == 1
    encode_images(clumsy, many, tmp_path / "store", AS_IT_IS, back_off=back_off)
    assert clumsy.tried[6:] == [2, 2, 2, 1], "what was learnt holds for the next batch"


def test_an_image_that_fits_nowhere_is_a_failed_row(many: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = encode_images(Clumsy(fits=0), many[:2], tmp_path / "store", AS_IT_IS)
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert rows[0]["error"].startswith("OutOfMemoryError: CUDA out of memory")
    assert not (tmp_path / "store").exists()


def test_a_bug_met_by_one_image_loses_no_other(many: list[dict[str, Any]], tmp_path: Path) -> None:
    clumsy, back_off = Clumsy(fits=7, cannot="3"), BackOff(7)
    rows = encode_images(clumsy, many, tmp_path / "store", AS_IT_IS, back_off=back_off)
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["failed"] + ["ok"] * 3
    assert rows[3]["error"] == "ZeroDivisionError: of the kernel"
    assert [row["row"] for row in rows if row["status"] == "ok"] == list(range(6))
    assert back_off.largest == 7, "memory was not what failed"


def test_a_broken_device_is_no_failure_of_an_image(many: list[dict[str, Any]], tmp_path: Path) -> None:
    prefix = drawn_prefix()

    def broken(*given: Any, **known: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    prefix.run = broken  # type: ignore[method-assign]
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        encode_images(prefix, many, tmp_path / "store", AS_IT_IS)


def test_tokens_that_are_no_numbers_lose_their_own_image_only(many: list[dict[str, Any]], tmp_path: Path) -> None:
    prefix = drawn_prefix()
    encode = prefix.sam.encode

    def overflow(images: Any) -> Any:
        tokens, valid = encode(images)
        bad = [row for row, image in enumerate(images) if (image == textured_face(1)[0]).all()]
        tokens[bad] = 1e6  # more than fp16 holds
        return tokens, valid

    prefix.sam.encode = overflow  # type: ignore[method-assign]
    rows = encode_images(prefix, many[:3], tmp_path / "store", AS_IT_IS)
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert "not finite in fp16" in rows[1]["error"]
