import hashlib
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from s3pot.alignment import FaceAligner
from s3pot.images import decode_image, encode_jpeg, write_png
from s3pot.landmark_file import FIVE_POINTS, LandmarkFile
from s3pot.locator import LocatedFace
from s3pot.parsing.classes import CLASSES
from s3pot.prefix import FrozenPrefix
from s3pot.reference.precomputed import PrecomputedReferences
from s3pot.store.back_off import BackOff
from s3pot.store.encoding import StoreWriting, encode_images, imagine_references, read_images, store_contrast
from s3pot.store.manifest import PROMPTED, SCHEMA, append_part, read_manifest
from s3pot.store.prompt_store import stored_parsing, stored_reference, stored_similarity
from s3pot.store.shards import read_row
from tests.photo_files import write_every_kind
from tests.stand_ins import DrawnFaceParser, FixedLocator, astronaut_aligner, drawn_prefix, textured_face

AS_IT_IS = FaceAligner("none")


@pytest.fixture(scope="module")
def prefix() -> FrozenPrefix:
    return drawn_prefix()


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, Any]]:
    """Two faces of the working size with a broken file between them."""
    for number in range(2):
        write_png(tmp_path / f"{number}.png", textured_face(number)[0])
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
    return [{"id": name, "path": str(tmp_path / f"{name}.png")} for name in ("0", "broken", "1")]


def as_row(values: dict[str, Any]) -> Any:
    return SimpleNamespace(**values)


def test_what_the_prefix_finds_is_stored(prefix: FrozenPrefix, items: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = encode_images(prefix, [items[0], items[2]], tmp_path / "store", AS_IT_IS)
    results = prefix.run([textured_face(number)[0] for number in range(2)], ["0", "1"])
    for number, (row, result) in enumerate(zip(rows, results, strict=True)):
        assert (row["id"], row["status"], row["error"], row["row"]) == (str(number), "ok", None, number)
        assert row["occlusion_prompts"] == result.occlusion_prompts.tolist()
        assert row["face_prompts"] == result.face_prompts.tolist()
        assert row["initial_prompt"] == result.initial_prompt
        np.testing.assert_array_equal(stored_parsing(as_row(row)), result.parsing)
        expected = decode_image(encode_jpeg(result.reference), "reference")
        np.testing.assert_array_equal(stored_reference(as_row(row)), expected)
        np.testing.assert_allclose(stored_similarity(as_row(row)), result.similarity, atol=1e-3)
        tokens = read_row(tmp_path / "store" / "shards" / row["shard"], "image_tokens", row["row"])
        assert torch.equal(tokens, result.image_tokens.half())
        assert row["to_original"] == [1, 0, 0, 0, 1, 0]
        assert (row["original_height"], row["original_width"]) == (256, 256)
        assert row["image_sha256"] == hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest()
        assert row["seconds"] > 0
    assert rows[0]["shard"] == rows[1]["shard"]


def test_rows_fit_the_manifest(prefix: FrozenPrefix, items: list[dict[str, Any]], tmp_path: Path) -> None:
    items = [item | {"kind": "hands", "truth_path": "truth.png", "not_a_column": 3} for item in items]
    rows = encode_images(prefix, items, tmp_path / "store", AS_IT_IS)
    assert all(set(row) <= set(SCHEMA.names) for row in rows)
    append_part(tmp_path / "manifest", rows)
    frame = read_manifest(tmp_path / "manifest")
    assert frame["status"].tolist() == ["ok", "ok", "failed"]
    assert frame["kind"].tolist() == ["hands"] * 3
    assert frame["truth_path"].tolist() == ["truth.png"] * 3
    assert frame["cutout_id"].isna().all()


class TestBadImages:
    def test_become_rows_and_lose_nothing_else(
        self, prefix: FrozenPrefix, items: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        missing = {"id": "missing", "path": str(tmp_path / "missing.png")}
        rows = encode_images(prefix, [*items, missing], tmp_path / "store", AS_IT_IS)
        assert [row["id"] for row in rows] == ["0", "broken", "1", "missing"]
        assert [row["status"] for row in rows] == ["ok", "failed", "ok", "failed"]
        assert "broken.png" in rows[1]["error"]
        assert "missing.png" in rows[3]["error"]
        assert "shard" not in rows[1]
        fine = encode_images(prefix, [items[0], items[2]], tmp_path / "fine", AS_IT_IS)
        for row, expected in ((rows[0], fine[0]), (rows[2], fine[1])):
            assert row["occlusion_prompts"] == expected["occlusion_prompts"]
            assert row["shard"] == expected["shard"]
            assert row["row"] == expected["row"]

    def test_alone_write_no_shard(self, prefix: FrozenPrefix, items: list[dict[str, Any]], tmp_path: Path) -> None:
        [row] = encode_images(prefix, [items[1]], tmp_path / "store", AS_IT_IS)
        assert row["status"] == "failed"
        assert not (tmp_path / "store").exists()

    def test_of_nothing_nothing_is_made(self, prefix: FrozenPrefix, tmp_path: Path) -> None:
        assert encode_images(prefix, [], tmp_path / "store", AS_IT_IS) == []


class TestFacelessImages:
    def test_a_photograph_without_a_face(self, prefix: FrozenPrefix, tmp_path: Path) -> None:
        write_png(tmp_path / "wall.png", np.full((300, 200, 3), 90, np.uint8))
        (tmp_path / "astronaut.jpg").write_bytes(encode_jpeg(astronaut()))
        items = [{"id": name, "path": str(tmp_path / name)} for name in ("wall.png", "astronaut.jpg")]
        wall, face = encode_images(prefix, items, tmp_path / "store", astronaut_aligner())
        assert (wall["status"], wall["error"]) == ("no_face", None)
        assert (wall["original_height"], wall["original_width"]) == (300, 200)
        assert "shard" not in wall
        assert (face["status"], face["row"]) == ("ok", 0)
        assert face["to_original"] == pytest.approx([152 / 256, 0, 147.8, 0, 152 / 256, 32.8], abs=0.1)

    def test_a_parser_that_sees_no_face(self, items: list[dict[str, Any]], tmp_path: Path) -> None:
        class Blind(DrawnFaceParser):
            def forward(self, image: torch.Tensor) -> torch.Tensor:
                return (
                    torch.nn.functional.one_hot(torch.zeros(len(image), 256, 256).long(), 12).permute(0, 3, 1, 2) * 1.0
                )

        prefix = drawn_prefix()
        prefix.parser = Blind()
        [row] = encode_images(prefix, items[:1], tmp_path / "store", AS_IT_IS)
        assert row["status"] == "no_face"
        assert row["occlusion_prompts"] == row["face_prompts"] == []
        assert row["initial_prompt"] is None
        assert (stored_parsing(as_row(row)) == CLASSES.index("background")).all()


class TestSeveralFaces:
    @pytest.fixture
    def aligner(self) -> FaceAligner:
        """Sees a small face at the left of every photograph and a large one at the right."""
        faces = (LocatedFace(x=0.2, y=0.3, side=0.3, score=0.9), LocatedFace(x=0.7, y=0.4, side=0.4, score=0.9))
        return FaceAligner("detect", FixedLocator(*faces).eval())

    @pytest.fixture
    def photographs(self, tmp_path: Path) -> list[dict[str, Any]]:
        """Two photographs of the same two faces, and between them a wall and no picture at all."""
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / name).write_bytes(encode_jpeg(astronaut()))
        write_png(tmp_path / "wall.png", np.full((300, 200, 3), 90, np.uint8))
        (tmp_path / "broken.png").write_bytes(b"no picture")
        return [
            {"id": name, "path": str(tmp_path / name), "truth_path": f"{name}.truth", "face_id": name}
            for name in ("a.jpg", "wall.png", "broken.png", "b.jpg")
        ]

    def test_each_is_a_row_beside_those_of_its_photograph(
        self, prefix: FrozenPrefix, aligner: FaceAligner, photographs: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        rows = encode_images(prefix, photographs, tmp_path / "store", aligner, faces="all")
        assert [row["id"] for row in rows] == ["a.jpg", "a.jpg#2", "wall.png", "broken.png", "b.jpg", "b.jpg#2"]
        assert [row["status"] for row in rows] == ["ok", "ok", "no_face", "failed", "ok", "ok"]
        sides = [row["to_original"][0] * 256 / 512 for row in rows if row["status"] == "ok"]
        assert sides == pytest.approx([0.4, 0.3, 0.4, 0.3], abs=1e-3)
        for first, second in ((rows[0], rows[1]), (rows[4], rows[5])):
            for name in ("path", "truth_path", "face_id", "image_sha256", "original_height", "original_width"):
                assert first[name] == second[name]
        append_part(tmp_path / "manifest", rows)
        assert len(read_manifest(tmp_path / "manifest")) == 6

    def test_tokens_are_those_of_their_own_face(
        self, prefix: FrozenPrefix, aligner: FaceAligner, photographs: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        """One photograph is a batch of one, and its faces are run one by one: the second is in a shard of its own."""
        rows = encode_images(prefix, photographs[:1], tmp_path / "store", aligner, faces="all")
        for row, face in zip(rows, aligner.align_all(astronaut_as_read(tmp_path), 256), strict=True):
            [result] = prefix.run([face.image], [row["id"]])
            tokens = read_row(tmp_path / "store" / "shards" / row["shard"], "image_tokens", row["row"])
            assert torch.equal(tokens, result.image_tokens.half())
        assert rows[0]["shard"] != rows[1]["shard"]

    def test_the_main_face_is_the_first_of_all(
        self, prefix: FrozenPrefix, aligner: FaceAligner, photographs: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        rows = encode_images(prefix, photographs, tmp_path / "store", aligner)
        assert [row["id"] for row in rows] == ["a.jpg", "wall.png", "broken.png", "b.jpg"]
        every = encode_images(prefix, photographs, tmp_path / "all", aligner, faces="all")
        assert rows[0]["to_original"] == every[0]["to_original"]


def astronaut_as_read(folder: Path) -> np.ndarray:
    return decode_image((folder / "a.jpg").read_bytes(), "a.jpg")


class TestLandmarkFile:
    @pytest.fixture
    def aligner(self, tmp_path: Path) -> FaceAligner:
        lines = [
            f"id,{','.join(FIVE_POINTS)}",
            "0,100,100,160,100,110,170,150,170",
            "1,900,100,960,100,910,170,950,170",
        ]
        (tmp_path / "marks.csv").write_text("\n".join(lines))
        return FaceAligner("landmarks", landmarks=LandmarkFile(tmp_path / "marks.csv"))

    def test_says_where_the_face_is_or_why_there_is_none(
        self, prefix: FrozenPrefix, items: list[dict[str, Any]], aligner: FaceAligner, tmp_path: Path
    ) -> None:
        write_png(tmp_path / "2.png", textured_face(2)[0])
        rows = encode_images(prefix, [*items, items[0] | {"id": "2"}], tmp_path / "store", aligner)
        assert [row["status"] for row in rows] == ["ok", "failed", "failed", "no_face"]
        # A side of 252 around (130, 107); the middle of the crop is its place 127.5.
        scale = 252 / 256
        expected = [scale, 0, 130 - 127.5 * scale, 0, scale, 107 - 127.5 * scale]
        assert rows[0]["to_original"] == pytest.approx(expected)
        assert "marks.csv" in rows[2]["error"]
        assert "outside its 256 x 256 pixels" in rows[2]["error"]
        assert rows[3]["error"].endswith("marks.csv: no row for the image '2'")


def test_a_missing_reference_loses_its_own_image_only(items: list[dict[str, Any]], tmp_path: Path) -> None:
    write_png(tmp_path / "references" / "1.png", textured_face(1)[0])
    prefix = drawn_prefix()
    prefix.generator = PrecomputedReferences(tmp_path / "references")
    rows = encode_images(prefix, items, tmp_path / "store", AS_IT_IS)
    assert [row["status"] for row in rows] == ["failed", "failed", "no_occlusion_prompts"]
    assert "0: no reference in" in rows[0]["error"]
    assert "shard" not in rows[0]
    tokens = read_row(tmp_path / "store" / "shards" / rows[2]["shard"], "image_tokens", rows[2]["row"])
    [result] = prefix.run([textured_face(1)[0]], ["1"])
    assert torch.equal(tokens, result.image_tokens.half())


def test_reference_tokens_are_kept_when_asked_for(
    prefix: FrozenPrefix, items: list[dict[str, Any]], tmp_path: Path
) -> None:
    [row] = encode_images(prefix, items[:1], tmp_path / "lean", AS_IT_IS)
    with pytest.raises(KeyError, match="keep_reference_tokens"):
        read_row(tmp_path / "lean" / "shards" / row["shard"], "reference_tokens", 0)
    [row] = encode_images(prefix, items[:1], tmp_path / "full", AS_IT_IS, keep_reference_tokens=True)
    [result] = prefix.run([textured_face(0)[0]], ["0"])
    kept = read_row(tmp_path / "full" / "shards" / row["shard"], "reference_tokens", 0)
    assert torch.equal(kept, result.reference_tokens.half())


def test_missing_values_of_a_data_frame_are_absent(
    prefix: FrozenPrefix, items: list[dict[str, Any]], tmp_path: Path
) -> None:
    item = items[1] | {"kind": float("nan"), "face_id": None, "cutout_id": 7}
    [row] = encode_images(prefix, [item], tmp_path / "store", AS_IT_IS)
    assert (row["kind"], row["face_id"], row["cutout_id"]) == (None, None, "7")


class TestFilesOfEveryKind:
    @pytest.fixture
    def kinds(self, tmp_path: Path) -> dict[str, str]:
        return write_every_kind(tmp_path / "in")

    @pytest.fixture
    def encoded(self, prefix: FrozenPrefix, kinds: dict[str, str], tmp_path: Path) -> dict[str, dict[str, Any]]:
        items = [{"id": name, "path": str(tmp_path / "in" / name)} for name in kinds]
        return {row["id"]: row for row in encode_images(prefix, items, tmp_path / "store", AS_IT_IS)}

    def test_each_is_read_or_a_row_that_names_it(
        self, encoded: dict[str, dict[str, Any]], kinds: dict[str, str]
    ) -> None:
        # The parser of the stand-in sees a face in every picture, so what was read has prompts of some kind.
        read = {name: row["status"] in PROMPTED for name, row in encoded.items()}
        assert read == {name: status == "ok" for name, status in kinds.items()}
        for name, row in encoded.items():
            if kinds[name] == "failed":
                assert row["status"] == "failed"
                assert name in row["error"]
                assert "shard" not in row
        said = {name: row["error"] for name, row in encoded.items()}
        assert "exceeds limit" in said["bomb.png"]
        assert "runcated" in said["truncated.jpg"]
        assert "is empty" in said["empty.png"]
        assert "no image that Pillow knows" in said["text.jpg"]
        assert "Is a directory" in said["folder.png"]
        assert "No such file" in said["gone.png"]

    def test_what_was_read_is_the_picture(self, kinds: dict[str, str], tmp_path: Path) -> None:
        picture = textured_face(0)[0].astype(float)
        upright = np.asarray(Image.fromarray(textured_face(0)[0]).resize((256, 192))).astype(float)
        grey = np.asarray(Image.fromarray(textured_face(0)[0]).convert("L").convert("RGB")).astype(float)
        wanted = {"cmyk.jpg": picture, "palette.png": picture, "rotated.jpg": upright, "grey16.png": grey}
        for name, expected in wanted.items():
            [one] = read_images([{"id": name, "path": str(tmp_path / "in" / name)}], AS_IT_IS, 256)
            # The palette of the test file is coarse; its indices read as grey would be off by 60 and more.
            assert np.abs(one.picture - expected).mean() < (12 if name == "palette.png" else 8), name
            assert (one.row["original_height"], one.row["original_width"]) == expected.shape[:2]


def test_an_unreadable_file_is_a_row(
    prefix: FrozenPrefix, items: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system says of a file without permission; root may read everything, so it is said for it."""
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    rows = encode_images(prefix, items, tmp_path / "store", AS_IT_IS)
    assert [row["status"] for row in rows] == ["ok", "failed", "failed"]
    assert "Permission denied" in rows[2]["error"]
    assert "1.png" in rows[2]["error"]


class TestStages:
    """What is encoded in two steps is what is encoded in one."""

    def test_give_the_same_rows(self, prefix: FrozenPrefix, items: list[dict[str, Any]], tmp_path: Path) -> None:
        at_once = encode_images(prefix, items, tmp_path / "store", AS_IT_IS)
        under_way = read_images(items, AS_IT_IS, prefix.size)
        imagine_references(prefix, under_way, BackOff(3))
        under_way = pickle.loads(pickle.dumps(under_way))  # as they travel
        rows = store_contrast(prefix.sam, prefix.config, under_way, StoreWriting(store=tmp_path / "store"), BackOff(3))
        assert [row | {"seconds": 0} for row in rows] == [row | {"seconds": 0} for row in at_once]
        assert rows[0]["seconds"] > 0

    def test_a_reference_that_is_missing_is_known_before(self, items: list[dict[str, Any]], tmp_path: Path) -> None:
        write_png(tmp_path / "references" / "1.png", textured_face(1)[0])
        prefix = drawn_prefix()
        prefix.generator = PrecomputedReferences(tmp_path / "references")
        under_way = read_images(items, AS_IT_IS, prefix.size)
        imagine_references(prefix, under_way, BackOff(3))
        assert [one.row["status"] for one in under_way] == ["failed", "failed", "no_face"]
        assert under_way[2].reference is not None
