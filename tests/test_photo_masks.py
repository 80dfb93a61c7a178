"""With random weights: files, rows and statuses of batches; `OcclusionSegmenter` says what is to come of each photo."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.data import astronaut

from s3pot.alignment import FaceAligner
from s3pot.chain import ChainConfig
from s3pot.data.run_lengths import decode_runs
from s3pot.head.face_fitting import FittingConfig
from s3pot.images import decode_png, read_image, write_png
from s3pot.locator import LocatedFace
from s3pot.photo_masks import PhotoWriting, predict_photographs, prediction_identity
from s3pot.prediction_table import PredictionTable
from s3pot.segmenter import OcclusionSegmenter
from s3pot.store.back_off import BackOff
from tests.photo_files import write_every_kind
from tests.stand_ins import FixedLocator, drawn_prefix, small_reweighter, write_reweighter


@pytest.fixture(scope="module")
def segmenter() -> OcclusionSegmenter:
    """Sees two faces, a small one at the left and a large one at the right, where a picture is not of one colour."""
    faces = LocatedFace(x=0.25, y=0.2, side=0.2, score=0.9), LocatedFace(x=0.7, y=0.2, side=0.3, roll=0.2, score=0.9)
    aligner = FaceAligner("detect", FixedLocator(*faces).eval())
    return OcclusionSegmenter(drawn_prefix(), small_reweighter(trained_looking=True), aligner)


@pytest.fixture
def photos(tmp_path: Path) -> list[dict[str, Any]]:
    """A group, one without a face, one that is broken and another of other size in a sub-folder."""
    write_png(tmp_path / "in" / "group.png", np.hstack([astronaut()[:, :500], astronaut()[:, ::-1]]))
    write_png(tmp_path / "in" / "wall.png", np.full((40, 60, 3), 128, np.uint8))
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no picture")
    write_png(tmp_path / "in" / "sub" / "other.png", astronaut()[:300, 100:])
    names = ("group.png", "wall.png", "broken.jpg", "sub/other.png")
    return [{"id": name, "path": str(tmp_path / "in" / name)} for name in names]


@pytest.fixture
def writing(tmp_path: Path) -> PhotoWriting:
    return PhotoWriting(out=str(tmp_path / "out"), identity="chain", fitting=FittingConfig(steps=20))


def mask_of(writing: PhotoWriting, name: str) -> np.ndarray:
    mask = decode_png((Path(writing.out) / "masks" / f"{name}.png").read_bytes())
    assert set(np.unique(mask)) <= {0, 255}
    return mask == 255


def test_rows_and_masks_say_what_the_segmenter_says(
    segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting
) -> None:
    rows = predict_photographs(segmenter, photos, writing, BackOff(8))
    assert [[row["face"] for row in of_photo] for of_photo in rows] == [[1, 2], [0], [0], [1, 2]]
    for item, of_photo in zip(photos, rows, strict=True):
        if item["id"] == "broken.jpg":
            assert (of_photo[0]["status"], of_photo[0].get("mask")) == ("failed", None)
            assert item["path"] in of_photo[0]["error"]
            continue
        pixels = read_image(item["path"])
        results = segmenter.predict_all(pixels)
        union = np.zeros(pixels.shape[:2], bool)
        for row, result in zip(of_photo, results, strict=False):
            assert result.crop_corners is not None
            assert row["status"] == result.status == "ok"
            assert row["score"] == pytest.approx(result.score, abs=1e-4)
            assert row["face_score"] == pytest.approx(0.9)
            found = decode_runs({"size": list(pixels.shape[:2]), "counts": row["rle"]}, pixels.shape[:2])
            assert (found ^ result.occlusion).sum() <= 2, "another batch size may round a pixel to the other side"
            assert row["area"] == found.sum() > 100
            assert row["face_area"] == result.face_mask.sum()
            assert row["share"] == pytest.approx(row["area"] / row["face_area"])
            left, top, width, height = row["box"]
            assert result.face_mask.sum() == result.face_mask[top : top + height, left : left + width].sum()
            assert result.face_mask[top].any()
            assert result.face_mask[:, left].any()
            assert result.face_mask[top + height - 1].any()
            assert result.face_mask[:, left + width - 1].any()
            assert row["corners"] == pytest.approx(result.crop_corners.ravel().tolist())
            union |= found
        np.testing.assert_array_equal(mask_of(writing, item["id"]), union)
        first = of_photo[0]
        assert (first["height"], first["width"]) == pixels.shape[:2]
        assert first["image_sha256"] == hashlib.sha256(Path(item["path"]).read_bytes()).hexdigest()
        assert (first["image"], first["path"], first["identity"]) == (item["id"], item["path"], "chain")
        assert first["mask"] == f"masks/{item['id']}.png"
        assert not first["transductive"]
        assert first["seconds"] > 0
    assert rows[1][0]["status"] == "no_face"
    assert not (Path(writing.out) / "overlays").exists()
    PredictionTable(writing.out).append([row for of_photo in rows for row in of_photo])  # the table knows every column


def test_batches_and_parts_of_any_size_give_the_same(
    segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting
) -> None:
    together = predict_photographs(segmenter, photos, writing, BackOff(3))
    for item, expected in zip(photos, together, strict=True):
        [alone] = predict_photographs(segmenter, [item], writing, BackOff(1))
        for one, other in zip(alone, expected, strict=True):
            assert one.keys() == other.keys()
            assert (one["status"], one["face"]) == (other["status"], other["face"])
            assert one.get("score") == pytest.approx(other.get("score"), abs=1e-4)


def test_only_the_main_face(segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting) -> None:
    main = PhotoWriting(out=writing.out, identity="chain", faces="main")
    [rows] = predict_photographs(segmenter, [photos[0] | {"id": "group#2"}], main, BackOff(8))
    [expected] = [segmenter.predict(photos[0]["path"])]
    assert [(row["image"], row["face"]) for row in rows] == [("group#2", 1)]
    assert (mask_of(writing, "group#2") ^ expected.occlusion).sum() <= 2


def test_a_face_that_fails_loses_nothing_else(
    segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = segmenter.prefix.run

    def fail_at_the_second(images: list[np.ndarray], ids: list[str]) -> object:
        if "group.png#2" in ids:
            raise ValueError("a face that breaks the models")
        return run(images, ids)

    monkeypatch.setattr(segmenter.prefix, "run", fail_at_the_second)
    rows = predict_photographs(segmenter, photos, writing, BackOff(8))
    assert [row["status"] for row in rows[0]] == ["ok", "failed"]
    assert [row["face"] for row in rows[0]] == [1, 2]
    assert "breaks the models" in rows[0][1]["error"]
    assert rows[3][0]["status"] == "ok"
    assert mask_of(writing, "group.png").sum() == rows[0][0]["area"]


def test_what_a_broken_photograph_was_before_is_gone(
    segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting
) -> None:
    with_overlays = PhotoWriting(out=writing.out, identity="chain", overlays=True)
    predict_photographs(segmenter, photos[:2], with_overlays, BackOff(8))
    files = [Path(writing.out) / name for name in ("masks/group.png.png", "overlays/group.png.jpg")]
    assert all(file.is_file() for file in files)
    Path(photos[0]["path"]).write_bytes(b"broken meanwhile")
    [rows, _] = predict_photographs(segmenter, photos[:2], with_overlays, BackOff(8))
    assert [row["status"] for row in rows] == ["failed"]
    assert not any(file.exists() for file in files)
    assert (Path(writing.out) / "masks/wall.png.png").is_file()


def test_overlays_show_where_the_mask_is(
    segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting
) -> None:
    with_overlays = PhotoWriting(out=writing.out, identity="chain", overlays=True)
    [rows, empty] = predict_photographs(segmenter, photos[:2], with_overlays, BackOff(8))
    assert [row["overlay"] for row in rows] == ["overlays/group.png.jpg"] * 2
    overlay = read_image(Path(writing.out) / "overlays/group.png.jpg").astype(int)
    change = np.abs(overlay - read_image(photos[0]["path"])).sum(axis=2)
    mask = mask_of(writing, "group.png")
    assert change[mask].mean() > 60
    assert change[400:].mean() < 10
    assert empty[0]["overlay"] == "overlays/wall.png.jpg"


def test_a_photograph_that_is_gone_before_its_overlay_is_drawn(
    segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(place: str) -> bytes:
        if place == photos[0]["path"]:
            raise FileNotFoundError(2, "No such file or directory", place)
        return Path(place).read_bytes()

    monkeypatch.setattr("s3pot.photo_masks.read_place", gone)
    with_overlays = PhotoWriting(out=writing.out, identity="chain", overlays=True)
    [rows, wall] = predict_photographs(segmenter, photos[:2], with_overlays, BackOff(8))
    assert [(row["status"], row.get("overlay")) for row in rows] == [("ok", None)] * 2
    assert all(row["error"].startswith("no overlay: ") and "group.png" in row["error"] for row in rows)
    assert mask_of(writing, "group.png").any()
    assert wall[0]["overlay"] == "overlays/wall.png.jpg"


def test_files_of_every_kind_are_rows(segmenter: OcclusionSegmenter, tmp_path: Path, writing: PhotoWriting) -> None:
    kinds = write_every_kind(tmp_path / "kinds")
    items = [{"id": name, "path": str(tmp_path / "kinds" / name)} for name in kinds]
    rows = predict_photographs(segmenter, items, writing, BackOff(8))
    failed = {item["id"]: of_photo[0]["status"] == "failed" for item, of_photo in zip(items, rows, strict=True)}
    assert failed == {name: status == "failed" for name, status in kinds.items()}
    turned = rows[list(kinds).index("rotated.jpg")][0]
    assert mask_of(writing, "rotated.jpg").shape == (turned["height"], turned["width"]) == (192, 256)


def test_faces_that_are_named_are_fitted(
    segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting
) -> None:
    [before] = predict_photographs(segmenter, photos[:1], writing, BackOff(8))
    mask_before = mask_of(writing, "group.png")
    [after] = predict_photographs(segmenter, [photos[0] | {"fit": "2"}], writing, BackOff(8))
    assert [row["transductive"] for row in after] == [False, True]
    assert [row.get("fitting") for row in after] == [None, writing.fitting.identity]
    assert after[0]["rle"] == before[0]["rle"]
    assert after[1]["score_before"] == before[1]["score"] != after[1]["score"], "what it was chosen by stays"
    assert after[0].get("score_before") is None
    assert after[1]["rle"] != before[1]["rle"]
    changed = mask_of(writing, "group.png") ^ mask_before
    left, top, width, height = after[1]["box"]
    assert changed.sum() == changed[top : top + height, left : left + width].sum() > 0


def test_a_fitting_that_fails_leaves_what_was_there(
    segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*arguments: object) -> None:
        raise FloatingPointError("the objective is not finite")

    [before] = predict_photographs(segmenter, photos[:1], writing, BackOff(8))
    monkeypatch.setattr("s3pot.photo_masks.fitted_head", diverge)
    [after] = predict_photographs(segmenter, [photos[0] | {"fit": "1"}], writing, BackOff(8))
    assert "could not be fitted: FloatingPointError: the objective is not finite" in after[0]["error"]
    assert (after[0]["status"], after[0]["transductive"], after[0]["rle"]) == ("ok", False, before[0]["rle"])


def test_faces_below_the_threshold_are_left_unmarked(
    segmenter: OcclusionSegmenter, photos: list[dict[str, Any]], writing: PhotoWriting
) -> None:
    [rows] = predict_photographs(segmenter, photos[:1], writing, BackOff(8))
    threshold = math.nextafter(max(row["score"] for row in rows), 0.0)
    silent = OcclusionSegmenter(segmenter.prefix, segmenter.reweighter, segmenter.aligner, abstain_below=threshold)
    [rows] = predict_photographs(silent, photos[:1], writing, BackOff(8))
    assert sorted(row["abstained"] for row in rows) == [False, True]
    [withheld] = [row for row in rows if row["abstained"]]
    assert (withheld["area"], withheld["share"]) == (0, 0.0)
    assert 0 < withheld["score"] < threshold
    assert mask_of(writing, "group.png").sum() == sum(row["area"] for row in rows)


def test_identity_is_of_chain_head_and_abstention(random_weights: Path, tmp_path: Path) -> None:
    chain = ChainConfig(faces="all")
    head = write_reweighter(small_reweighter(128, seed=4), tmp_path / "head.safetensors")
    embedded = prediction_identity(chain, None, abstain=True)
    assert embedded == prediction_identity(chain, random_weights / "reweighter.safetensors", abstain=True)
    others = [
        prediction_identity(chain, head, abstain=True),
        prediction_identity(chain, None, abstain=False),
        prediction_identity(ChainConfig(), None, abstain=True),
    ]
    assert len({embedded, *others}) == 4
