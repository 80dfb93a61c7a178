"""Our own score of a batch is that of the segmenter, image by image."""

from pathlib import Path

import numpy as np
import pytest

from s3pot.alignment import FaceAligner
from s3pot.chain import ChainConfig
from s3pot.images import write_png
from s3pot.locator import LocatedFace
from s3pot.screening.rows import SCHEMA
from s3pot.screening.scoring import score_images
from s3pot.segmenter import OcclusionSegmenter
from s3pot.store.back_off import BackOff
from tests.faces import draw_face
from tests.stand_ins import FixedLocator, textured_face


@pytest.fixture
def segmenter(random_weights: Path) -> OcclusionSegmenter:
    return OcclusionSegmenter.load(ChainConfig(alignment="none"), abstain=False)


def test_scores_are_those_of_the_segmenter(segmenter: OcclusionSegmenter, tmp_path: Path) -> None:
    pictures = {"a": textured_face(1)[0], "b": textured_face(2)[0], "c": draw_face(256)[0]}
    for name, picture in pictures.items():
        write_png(tmp_path / f"{name}.png", picture)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    items = [{"id": name, "path": str(tmp_path / f"{name}.png")} for name in ("a", "broken", "b", "c")]
    # One by one: with random weights, matching differs from batch size to batch size [design 5.3].
    rows = score_images(items, segmenter, "main", BackOff(1))
    assert [row["id"] for row in rows] == ["a", "broken", "b", "c"]
    assert all(set(row) == set(SCHEMA.names) for row in rows)
    scores = {row["id"]: row["score"] for row in rows}
    assert rows[1]["status"] == "failed"
    assert "broken.png" in rows[1]["error"]
    assert scores.pop("broken") is None
    assert len(set(scores.values())) == 3, "pictures that cannot be told apart show nothing"
    for name, score in scores.items():
        assert score == pytest.approx(segmenter.predict(pictures[name]).score, abs=1e-6)


def test_of_several_faces_the_most_occluded_speaks(random_weights: Path, tmp_path: Path) -> None:
    loaded = OcclusionSegmenter.load(ChainConfig(alignment="none"), abstain=False)
    left, right = LocatedFace(x=0.25, y=0.25, side=0.4, score=0.9), LocatedFace(x=0.75, y=0.25, side=0.4, score=0.8)
    aligner = FaceAligner("detect", FixedLocator(left, right).eval())
    segmenter = OcclusionSegmenter(loaded.prefix, loaded.reweighter, aligner)
    picture = np.concatenate([textured_face(3)[0], textured_face(4)[0]], axis=1)
    write_png(tmp_path / "two.png", picture)
    write_png(tmp_path / "grey.png", np.full((100, 100, 3), 90, dtype=np.uint8))
    items = [{"id": name, "path": str(tmp_path / name)} for name in ("two.png", "grey.png")]
    two, grey = score_images(items, segmenter, "all", BackOff(1))
    faces = aligner.align_all(picture, segmenter.prefix.size)
    each = [segmenter.see([face], ["x"])[0].prediction.score for face in faces]
    assert len(set(each)) == 2
    assert two["score"] == pytest.approx(max(each), abs=1e-6)
    [main, _] = score_images(items, segmenter, "main", BackOff(1))
    assert main["score"] == pytest.approx(each[0], abs=1e-6)
    assert (grey["status"], grey["score"]) == ("ok", None)
