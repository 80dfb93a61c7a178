"""Answers of results that were made by hand."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ray_jobs.serve_answers import photograph_answer
from ray_jobs.serve_messages import Wanted
from s3pot.data.run_lengths import decode_runs
from s3pot.images import decode_png
from s3pot.segmenter import SegmentationResult
from tests.faces import draw_face

PHOTOGRAPH = np.full((60, 90, 3), 120, dtype=np.uint8)


def result(columns: slice, status: str = "ok") -> SegmentationResult:
    """A face of 20 x 20 pixels with half of it occluded."""
    face = np.zeros((60, 90), dtype=bool)
    face[10:30, columns] = True
    occlusion = face & (np.arange(60) < 20)[:, None]
    aligned, parsing = draw_face(64)
    return SegmentationResult(
        occlusion=occlusion,
        probability=occlusion.astype(np.float32),
        face_mask=face,
        score=0.5,
        status=status,
        aligned=aligned,
        to_original=np.array([[0.5, 0.0, float(columns.start)], [0.0, 0.5, 10.0]]),
        parsing=parsing,
        reference=aligned,
        similarity=np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8),
        occlusion_prompts=np.array([3, 4]),
        face_prompts=np.array([9]),
    )


RESULTS = [result(slice(5, 25)), result(slice(50, 70), "no_face_prompts")]


def test_every_face_has_its_own_mask_and_numbers() -> None:
    body, statuses = photograph_answer(PHOTOGRAPH, RESULTS, Wanted())
    assert isinstance(body, dict)
    assert (body["width"], body["height"], body["status"]) == (90, 60, "ok")
    assert statuses == ["ok", "no_face_prompts"]
    assert [face["face"] for face in body["faces"]] == [1, 2]
    for face, expected in zip(body["faces"], RESULTS, strict=True):
        assert face["occluded_share"] == 0.5
        assert (decode_runs(face["mask"], (60, 90)) == expected.occlusion).all()
        assert "stages" not in face
    json.dumps(body)


def test_forms_of_the_mask() -> None:
    as_png, _ = photograph_answer(PHOTOGRAPH, RESULTS, Wanted(mask="png"))
    none, _ = photograph_answer(PHOTOGRAPH, RESULTS, Wanted(mask="none"))
    assert isinstance(as_png, dict)
    assert isinstance(none, dict)
    mask = decode_png(base64.b64decode(as_png["faces"][1]["mask"]["png"]))
    assert ((mask == 255) == RESULTS[1].occlusion).all()
    assert set(np.unique(mask)) == {0, 255}
    assert "mask" not in none["faces"][0]
    united, _ = photograph_answer(PHOTOGRAPH, RESULTS, Wanted(picture=True))
    assert isinstance(united, bytes)
    assert ((decode_png(united) == 255) == (RESULTS[0].occlusion | RESULTS[1].occlusion)).all()


def test_no_face_is_an_answer() -> None:
    body, statuses = photograph_answer(PHOTOGRAPH, [], Wanted(overlay=True, stages=True))
    assert isinstance(body, dict)
    assert (body["status"], body["faces"], statuses) == ("no_face", [], ["no_face"])
    assert opened(body["overlay"]).size == (90, 60)
    empty, _ = photograph_answer(PHOTOGRAPH, [], Wanted(picture=True))
    assert isinstance(empty, bytes)
    assert not decode_png(empty).any()


def test_an_overlay_is_no_larger_than_a_screen_and_tints_what_is_covered() -> None:
    large = np.full((2000, 3000, 3), 120, dtype=np.uint8)
    faces = np.zeros((2000, 3000), dtype=bool)
    faces[500:1500, 1000:2000] = True
    whole = replace(RESULTS[0], occlusion=faces, face_mask=faces, probability=faces.astype(np.float32))
    drawn, _ = photograph_answer(large, [whole], Wanted(picture=True, overlay=True))
    assert isinstance(drawn, bytes)
    picture = decode_png(drawn)
    assert picture.shape == (1067, 1600, 3)
    assert picture[533, 800].tolist() != [120, 120, 120]
    assert picture[20, 20].tolist() == [120, 120, 120]


def test_stages_are_pictures_and_prompts() -> None:
    body, _ = photograph_answer(PHOTOGRAPH, RESULTS, Wanted(stages=True))
    assert isinstance(body, dict)
    stages = body["faces"][0]["stages"]
    for name in ("aligned", "parsing", "reference", "similarity", "mask"):
        assert opened(stages[name]).size == (320, 320)
    assert stages["similarity_limits"] == [0.0, 1.0]
    assert stages["grid"] == {"rows": 8, "cols": 8, "shown_rows": 8, "shown_cols": 8}
    assert (stages["occlusion_prompts"], stages["face_prompts"]) == ([3, 4], [9])
    json.dumps(body)


def test_a_picture_that_is_wide_shows_the_part_of_the_grid_that_is_not_padding() -> None:
    aligned, parsing = draw_face(64)
    wide = replace(RESULTS[0], aligned=aligned[:40], parsing=parsing[:40], reference=aligned[:40])
    body, _ = photograph_answer(PHOTOGRAPH, [wide], Wanted(stages=True))
    assert isinstance(body, dict)
    stages = body["faces"][0]["stages"]
    assert opened(stages["similarity"]).size == (320, 200)
    assert stages["grid"]["shown_rows"] == pytest.approx(5.0)
    assert stages["similarity_limits"][1] < 1.0


def opened(url: str) -> Image.Image:
    assert url.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
