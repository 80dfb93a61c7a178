"""Crops compared by hand, scenes of one set or the other, and quantiles with intervals."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from s3pot.data.folds import fold_of_cutouts, fold_of_face
from s3pot.locator import FaceLocator, LocatedFace
from s3pot.pretrain.locator_scenes import Scene, read_backgrounds
from s3pot.scorecard import locator as measured
from s3pot.scorecard.dev_scenes import DevScene, LocatorMaterial, Picture, draw_dev_scenes, load_dev_material
from s3pot.scorecard.estimates import quantile_of
from s3pot.scorecard.locator import compare_faces, estimate_locator, measure_photographs, measure_scenes
from tests.faces import draw_face, draw_faces, make_cutout
from tests.ray_jobs.test_data_composite import SKIN_TO_CELEBAMASK
from tests.stand_ins import FixedLocator

BLUE = make_cutout("objects", "disc", (0, 0, 255), (90, 90))
TEXTURED = np.tile(np.array([0, 255], np.uint8), (80, 60)).repeat(3).reshape(80, 120, 3)


def material(**changes: object) -> LocatorMaterial:
    known: dict[str, object] = {
        "faces": draw_faces(3, 128),
        "cutouts": [BLUE],
        "photographs": {"grey": np.full((120, 180, 3), 100, np.uint8)},
        "scenes": 6,
    }
    return LocatorMaterial(**(known | changes))  # type: ignore[arg-type]


class TestCompare:
    true = LocatedFace(x=80.0, y=60.0, side=100.0, roll=math.radians(5))

    def test_by_hand(self) -> None:
        answer = LocatedFace(x=83.0, y=64.0, side=80.0, roll=math.radians(-3), score=0.7)
        found = compare_faces([answer], self.true)
        # 3 and 4 px aside are 5 of 100; a side of 80 for 100 is 1.25 times too small.
        expected = {"center": 0.05, "side_factor": 1.25, "roll": 8.0, "score": 0.7, "found": 1.0}
        assert found == pytest.approx(expected)
        larger = compare_faces([LocatedFace(x=83.0, y=64.0, side=125.0)], self.true)
        assert larger["side_factor"] == pytest.approx(1.25)

    def test_the_nearest_answer_counts_not_the_surest(self) -> None:
        sure, near = (
            LocatedFace(x=10.0, y=60.0, side=100.0, score=0.9),
            LocatedFace(x=70.0, y=60.0, side=100.0, score=0.4),
        )
        assert compare_faces([sure, near], self.true)["score"] == 0.4

    @pytest.mark.parametrize(
        ("answer", "found"),
        [
            (LocatedFace(x=94.9, y=60.0, side=100.0), 1.0),
            (LocatedFace(x=95.1, y=60.0, side=100.0), 0.0),
            (LocatedFace(x=80.0, y=60.0, side=129.0), 1.0),
            (LocatedFace(x=80.0, y=60.0, side=131.0), 0.0),
            (LocatedFace(x=80.0, y=60.0, side=76.5), 0.0),
        ],
    )
    def test_what_is_found(self, answer: LocatedFace, found: float) -> None:
        assert compare_faces([answer], self.true)["found"] == found

    def test_no_answer_is_not_found_and_has_no_error(self) -> None:
        found = compare_faces([], self.true)
        assert found.pop("found") == 0.0
        assert all(math.isnan(value) for value in found.values())

    def test_a_whole_turn_is_no_error(self) -> None:
        answer = LocatedFace(x=80.0, y=60.0, side=100.0, roll=math.radians(359))
        assert compare_faces([answer], self.true)["roll"] == pytest.approx(6.0)


class TestScenes:
    @pytest.mark.parametrize("picture", ["clean", "occluded"])
    def test_one_face_each_with_an_occluder_or_without(self, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("s3pot.pretrain.locator_scenes._photograph", lambda canvas, rng: canvas)
        source = material(scenes=12)
        scenes = draw_dev_scenes(source, picture)
        assert len(scenes) == 12
        assert all(len(drawn.scene.faces) == 1 for drawn in scenes)
        assert all(drawn.face_id == source.faces.ids[drawn.index % 3] for drawn in scenes)
        assert len({drawn.face_id for drawn in scenes}) == 3
        blue = [_blue(drawn.scene) for drawn in scenes]
        if picture == "clean":
            assert not any(blue)
            assert {drawn.cutout for drawn in scenes} == {None}
        else:
            assert sum(blue) >= 9, "now and then it lies beyond the edge"
            assert all(drawn.cutout is BLUE for drawn in scenes)

    def test_they_come_again(self) -> None:
        first, again = draw_dev_scenes(material(), "occluded"), draw_dev_scenes(material(scenes=3), "occluded")
        for one, other in zip(first, again, strict=False):
            np.testing.assert_array_equal(one.scene.image, other.scene.image)
        other_seed = draw_dev_scenes(material(), "occluded", seed=1)
        assert not np.array_equal(first[0].scene.image, other_seed[0].scene.image)

    def test_labels_without_a_face_are_an_error(self) -> None:
        faces = draw_faces(1, 128)
        faces.parsings[...] = 0
        with pytest.raises(ValueError, match="only 0 of 2 occluded scenes"):
            draw_dev_scenes(material(faces=faces, scenes=2), "occluded")

    def test_a_known_crop_gives_known_errors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A locator that answers x = 80, y = 40, side = 80 of 160 px wherever it looks, level."""
        true = {
            "clean": LocatedFace(x=79.5, y=39.5, side=80.0, roll=math.radians(-4)),
            "occluded": LocatedFace(x=79.5, y=59.5, side=100.0),
        }
        image = np.tile(np.array([0, 255], np.uint8), 160 * 80 * 3).reshape(160, 160, 3)

        def drawn(source: LocatorMaterial, picture: Picture, seed: int) -> list[DevScene]:
            scene = Scene(image=image, faces=(true[picture],))
            return [DevScene(index=4, scene=scene, face_id="a", cutout=None if picture == "clean" else BLUE)]

        monkeypatch.setattr(measured, "draw_dev_scenes", drawn)
        answers = FixedLocator(LocatedFace(x=0.5, y=0.25, side=0.5, score=0.8)).eval()
        clean, occluded = measure_scenes(material(), answers).to_dict("records")
        assert (clean["picture"], clean["face_id"], clean["cutout_id"], clean["kind"]) == ("clean", "a", "", "")
        assert (clean["side"], clean["answers"], clean["found"]) == (0.5, 1, 1.0)
        assert clean["center"] == pytest.approx(0.0, abs=1e-5)
        assert (clean["roll"], clean["score"]) == pytest.approx((4.0, 0.8), abs=1e-5)
        assert (occluded["cutout_id"], occluded["kind"], occluded["found"]) == ("objects/disc", "objects", 0.0)
        assert (occluded["center"], occluded["side_factor"]) == pytest.approx((0.2, 1.25), abs=1e-5)

    def test_a_blind_locator_finds_nobody(self) -> None:
        table = measure_scenes(material(scenes=2), FixedLocator().eval())
        assert table["answers"].tolist() == [0] * 4
        found = estimate_locator(table, measure_photographs(material(), FixedLocator().eval()))
        assert found["locator/clean_found"].mean == 0.0
        assert math.isnan(found["locator/clean_center_median"].mean)


class TestPhotographs:
    # Sees a face in every photograph that is not of one colour.
    locator = FixedLocator(LocatedFace(x=0.5, y=0.25, side=0.3, score=0.6)).eval()

    def test_training_and_others_are_counted_apart(self) -> None:
        grey = np.full((80, 80, 3), 127, np.uint8)
        photographs = {"a": grey, "b": TEXTURED, "c": grey, "d": grey}
        source = material(photographs=photographs, others={"e": TEXTURED, "f": grey})
        table = measure_photographs(source, self.locator)
        assert table[table["answered"] == 1.0]["face_id"].tolist() == ["b", "e"]
        assert table["score"].max() == pytest.approx(0.6)
        found = estimate_locator(pd.DataFrame({"picture": []}), table)
        assert {key: (made.mean, made.n) for key, made in found.items()} == {
            "locator/answered_training": (0.25, 4),
            "locator/answered_other": (0.5, 2),
        }

    def test_without_others_they_are_not_measured(self) -> None:
        table = measure_photographs(material(), self.locator)
        assert set(estimate_locator(pd.DataFrame({"picture": []}), table)) == {"locator/answered_training"}


class TestQuantile:
    def test_by_hand(self) -> None:
        values = [*range(1, 11), math.nan]
        table = pd.DataFrame({"x": values, "face_id": [f"f{row}" for row in range(11)]})
        median = quantile_of(table, "x", 0.5, 0)
        assert (median.mean, median.n) == (5.5, 10)
        # Ten of ten faces resampled: the share below varies by 1.96 x sqrt(0.25 / 10) = 0.31, so the interval runs
        # from about the 19 % to the 81 % quantile.
        assert (median.low, median.high) == pytest.approx((1 + 9 * 0.19, 1 + 9 * 0.81), abs=1.0)
        assert quantile_of(table, "x", 0.9, 0).mean == pytest.approx(9.1)

    def test_rows_of_one_face_do_not_count_as_many(self) -> None:
        values = np.arange(1.0, 101.0)
        table = pd.DataFrame({"x": values, "face_id": [f"f{row}" for row in range(100)]})
        alone = quantile_of(table, "x", 0.5, 0)
        shared = quantile_of(table.assign(face_id=[f"f{row // 10}" for row in range(100)]), "x", 0.5, 0)
        assert shared.mean == alone.mean == 50.5
        assert shared.high - shared.low > 2 * (alone.high - alone.low)

    def test_nothing_defined(self) -> None:
        assert math.isnan(quantile_of(pd.DataFrame({"x": [math.nan], "face_id": ["a"]}), "x", 0.5, 0).mean)


class TestMaterial:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        for folder in ("celebamask/train/images", "celebamask/train/labels", "natural/train/images"):
            (tmp_path / folder).mkdir(parents=True)
        face, parsing = draw_face(64)
        for index in range(40):
            Image.fromarray(face).save(tmp_path / "celebamask/train/images" / f"face{index}.jpg")
            Image.fromarray(SKIN_TO_CELEBAMASK[parsing]).save(tmp_path / "celebamask/train/labels" / f"face{index}.png")
        (tmp_path / "occluders/train/objects").mkdir(parents=True)
        for index in range(4):
            Image.new("RGBA", (20, 20), (200, 0, 0, 255)).save(tmp_path / f"occluders/train/objects/thing{index}.png")
        for name in ("hill", "crowd"):
            Image.fromarray(TEXTURED).save(tmp_path / "natural/train/images" / f"{name}.jpg")
        return tmp_path

    def test_only_fold_dev_and_nobody(self, data: Path) -> None:
        dev = [f"face{index}" for index in range(40) if fold_of_face(f"face{index}") == "dev"]
        loaded = load_dev_material(data, excluded=dev[:1], with_people=["crowd"], scenes=5)
        assert set(loaded.faces.ids) == set(dev[1:])
        folds = fold_of_cutouts("objects", [f"thing{index}" for index in range(4)])
        assert [cutout.id for cutout in loaded.cutouts] == [
            f"objects/{name}" for name, fold in folds.items() if fold == "dev"
        ]
        assert set(loaded.photographs) == {"hill"}
        assert (loaded.others, loaded.scenes) == ({}, 5)

    def test_photographs_that_training_never_saw_are_kept_apart(self, data: Path) -> None:
        (data / "natural/val/images").mkdir(parents=True)
        for name in ("lake", "party"):
            Image.fromarray(TEXTURED).save(data / "natural/val/images" / f"{name}.jpg")
        loaded = load_dev_material(data, excluded=[], with_people=["crowd", "party"])
        assert (set(loaded.photographs), set(loaded.others)) == ({"hill"}, {"lake"})

    def test_only_photographs_of_people_are_an_error(self, data: Path) -> None:
        with pytest.raises(FileNotFoundError, match="without people"):
            read_backgrounds(data / "natural" / "train", ["hill", "crowd"])


def test_untrained_it_answers_nowhere() -> None:
    assert measure_photographs(material(), FaceLocator().eval())["answers"].tolist() == [0]


def _blue(scene: Scene) -> bool:
    pixels = scene.image.astype(int)
    return bool(((pixels[..., 2] - pixels[..., :2].max(axis=2)) > 80).sum() > 5)
