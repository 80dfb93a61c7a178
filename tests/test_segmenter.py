"""With random weights: frames, statuses and errors; whether masks are any good is for `evaluate` to say."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from s3pot.alignment import FaceAligner, to_original_frame
from s3pot.chain import ChainConfig
from s3pot.checkpoints.reading import WeightsError
from s3pot.embedded import load_locator, read_metadata, save_weights
from s3pot.head.head_file import ABSTAIN_BELOW, load_reweighter
from s3pot.images import ImageError, encode_jpeg, read_image, write_png
from s3pot.landmark_file import FIVE_POINTS, LandmarkFile
from s3pot.locator import LocatedFace
from s3pot.parsing.classes import face_mask
from s3pot.pretrain.portraits import list_portraits
from s3pot.segmenter import OcclusionSegmenter, SegmentationResult
from tests.faces import draw_face
from tests.stand_ins import (
    DrawnFaceParser,
    FixedLocator,
    astronaut_aligner,
    drawn_prefix,
    small_reweighter,
    textured_face,
    write_reweighter,
)


@pytest.fixture(scope="module")
def segmenter() -> OcclusionSegmenter:
    """Aligns photographs, always sees the drawn face, and has a head that does something."""
    return OcclusionSegmenter(drawn_prefix(), small_reweighter(trained_looking=True), astronaut_aligner())


@pytest.fixture(scope="module")
def aligned_segmenter() -> OcclusionSegmenter:
    return OcclusionSegmenter(drawn_prefix(), None, FaceAligner("none"))


@pytest.fixture(scope="module")
def found(segmenter: OcclusionSegmenter) -> SegmentationResult:
    return segmenter.predict(astronaut())


class TestPhotograph:
    def test_masks_lie_in_the_frame_of_the_photograph(self, found: SegmentationResult) -> None:
        assert found.status == "ok"
        assert found.occlusion.shape == found.probability.shape == found.face_mask.shape == (512, 512)
        assert found.probability.min() >= 0
        assert found.probability.max() <= 1
        np.testing.assert_array_equal(found.occlusion, (found.probability > 0.5) & found.face_mask)
        assert 0 <= found.score <= 1

    def test_the_face_mask_is_the_parsed_face_at_its_place(self, found: SegmentationResult) -> None:
        face = astronaut_aligner().align(astronaut(), 256)
        assert face is not None
        rows, cols = np.nonzero(face_mask(draw_face(256)[1]))
        expected = face.to_original @ [cols.mean(), rows.mean(), 1.0]
        rows, cols = np.nonzero(found.face_mask)
        np.testing.assert_allclose([cols.mean(), rows.mean()], expected, atol=0.2)
        assert found.face_mask.sum() == pytest.approx(
            face_mask(draw_face(256)[1]).sum() * face.to_original[0, 0] ** 2, rel=0.02
        )

    def test_outside_the_crop_nothing_is_found(self, found: SegmentationResult) -> None:
        assert not found.face_mask[300:].any()
        assert (found.probability[300:] == 0).all()

    def test_every_stage_is_there(self, found: SegmentationResult) -> None:
        assert found.aligned is not None
        assert found.parsing is not None
        assert found.reference is not None
        assert found.similarity is not None
        assert found.occlusion_prompts is not None
        assert found.face_prompts is not None
        assert found.aligned.shape == found.reference.shape == (256, 256, 3)
        assert found.parsing.shape == (256, 256)
        assert found.similarity.shape == (8, 8)
        assert len(found.occlusion_prompts) + len(found.face_prompts) == 20

    def test_a_file_is_what_its_pixels_are(
        self, segmenter: OcclusionSegmenter, found: SegmentationResult, tmp_path: Path
    ) -> None:
        write_png(tmp_path / "photo.png", astronaut())
        for name in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
            np.testing.assert_array_equal(segmenter.predict(name).probability, found.probability)

    def test_twice_is_the_same(self, segmenter: OcclusionSegmenter, found: SegmentationResult) -> None:
        again = segmenter.predict(astronaut())
        np.testing.assert_array_equal(again.probability, found.probability)
        assert again.score == found.score


class TestAlignedPicture:
    @pytest.mark.parametrize("size", [(256, 256), (400, 300), (90, 120)])
    def test_any_size(self, aligned_segmenter: OcclusionSegmenter, size: tuple[int, int]) -> None:
        picture = textured_face(size=512)[0][: size[0], : size[1]].copy()
        result = aligned_segmenter.predict(picture)
        assert result.occlusion.shape == result.probability.shape == result.face_mask.shape == size
        assert result.aligned is not None
        assert max(result.aligned.shape[:2]) == 256

    def test_whole_picture_is_face_to_its_corners(self) -> None:
        class SkinEverywhere(DrawnFaceParser):
            def forward(self, image: torch.Tensor) -> torch.Tensor:
                skin = torch.full((len(image), 256, 256), 6)
                return torch.nn.functional.one_hot(skin, 12).permute(0, 3, 1, 2).float()

        prefix = drawn_prefix()
        prefix.parser = SkinEverywhere()
        aligned = OcclusionSegmenter(prefix, None, FaceAligner("none"))
        assert aligned.predict(textured_face(size=512)[0][:, :400].copy()).face_mask.all()
        found = OcclusionSegmenter(prefix, None, astronaut_aligner()).predict(astronaut())
        assert 0.05 < found.face_mask.mean() < 0.15  # the crop, and not the rest of the photograph


@pytest.fixture(scope="module")
def pair(segmenter: OcclusionSegmenter) -> OcclusionSegmenter:
    """Sees two faces in every photograph: a small one at the left, a large one at the right."""
    faces = LocatedFace(x=0.25, y=0.2, side=0.2, score=0.9), LocatedFace(x=0.7, y=0.2, side=0.3, roll=0.2, score=0.9)
    return OcclusionSegmenter(
        segmenter.prefix, segmenter.reweighter, FaceAligner("detect", FixedLocator(*faces).eval())
    )


class TestSeveralFaces:
    @pytest.fixture
    def group(self) -> np.ndarray:
        return np.hstack([astronaut()[:, :500], astronaut()[:, ::-1]])

    def test_every_face_has_a_result_of_its_own_place(self, pair: OcclusionSegmenter, group: np.ndarray) -> None:
        results = pair.predict_all(group)
        assert [result.status for result in results] == ["ok", "ok"]
        middles = []
        for result in results:
            assert result.crop_corners is not None
            assert result.face_mask.shape == result.probability.shape == (512, 1012)
            rows, cols = np.nonzero(result.face_mask)
            middles.append([cols.mean(), rows.mean()])
            x, y = result.crop_corners.T
            assert x.min() < cols.min() < cols.max() < x.max()
            assert y.min() < rows.min() < rows.max() < y.max()
            assert not result.probability[:, : int(x.min()) - 1].any()
        assert middles[0][0] > 600, "the large face comes first"
        assert middles[1][0] < 300
        assert not (results[0].face_mask & results[1].face_mask).any()

    def test_the_first_is_what_predict_gives(self, pair: OcclusionSegmenter, group: np.ndarray) -> None:
        alone, first = pair.predict(group), pair.predict_all(group)[0]
        np.testing.assert_allclose(alone.probability, first.probability, atol=1e-4)
        np.testing.assert_array_equal(alone.face_mask, first.face_mask)
        assert alone.score == pytest.approx(first.score, abs=1e-4)

    def test_a_batch_is_what_each_photograph_is_alone(
        self, pair: OcclusionSegmenter, group: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        photos = [group, np.full((300, 200, 3), 128, np.uint8), astronaut(), astronaut()[:300, 100:]]
        alone = [pair.predict_all(photo) for photo in photos]
        names: list[list[str]] = []
        run = pair.prefix.run

        def noted(images: list[np.ndarray], ids: list[str]) -> object:
            names.append(list(ids))
            return run(images, ids)

        monkeypatch.setattr(pair.prefix, "run", noted)
        together = pair.predict_batch(photos, ["a", "b", "c", "d"])
        assert names == [["a", "a#2", "c", "c#2", "d", "d#2"]], "all faces at once"
        assert [len(results) for results in together] == [2, 0, 2, 2]
        for photo, mine, theirs in zip(photos, together, alone, strict=True):
            for one, other in zip(mine, theirs, strict=True):
                assert one.occlusion.shape == photo.shape[:2]
                np.testing.assert_allclose(one.probability, other.probability, atol=1e-4)
                np.testing.assert_array_equal(one.face_mask, other.face_mask)
                assert one.score == pytest.approx(other.score, abs=1e-4)
        assert len(pair.predict_batch(photos)) == 4, "ids are for those who need them"
        assert pair.predict_batch([]) == []

    def test_without_a_face_there_is_no_result(self, pair: OcclusionSegmenter) -> None:
        assert pair.predict_all(np.full((300, 200, 3), 128, np.uint8)) == []

    def test_a_crowd_is_taken_in_parts(self, segmenter: OcclusionSegmenter) -> None:
        faces = [LocatedFace(x=x, y=y, side=0.1 + 0.3 * x + 0.02 * y) for x in (0.1, 0.5, 0.9) for y in (0.1, 0.4, 0.9)]
        sizes: list[int] = []

        crowd = OcclusionSegmenter(drawn_prefix(), None, FaceAligner("detect", FixedLocator(*faces).eval()))
        run = crowd.prefix.run

        def counted(images: list[np.ndarray], ids: list[str]) -> object:
            sizes.append(len(images))
            return run(images, ids)

        crowd.prefix.run = counted
        results = crowd.predict_all(astronaut())
        assert sizes == [8, 1]
        sides = [np.linalg.norm(result.crop_corners[1] - result.crop_corners[0]) / 512 for result in results]
        assert sides == pytest.approx(sorted((face.side for face in faces), reverse=True), abs=1e-3)

    def test_the_way_back_brings_every_stage_to_its_place(self, found: SegmentationResult) -> None:
        assert found.parsing is not None
        assert found.to_original is not None
        back = to_original_frame(face_mask(found.parsing).astype(np.float32), found.to_original, (512, 512))
        np.testing.assert_array_equal(back > 0.5, found.face_mask)
        # The crop spans 152 pixels around (223.5, 108.5), from the outer edge of one pixel to that of another.
        expected = [[147.5, 32.5], [299.5, 32.5], [299.5, 184.5], [147.5, 184.5]]
        np.testing.assert_allclose(found.crop_corners, expected, atol=0.1)

    def test_people_side_by_side(self, shared_data: Path) -> None:
        """With the embedded models: portraits that no training saw, as one photograph, in two rows or one."""
        portraits = [read_image(path) for path in list_portraits(shared_data / "portraits", kept_aside=True)[:4]]
        everybody = OcclusionSegmenter.load()
        alone = [everybody.predict(portrait) for portrait in portraits]
        for columns in (2, 4):
            tiled = [np.hstack(portraits[first : first + columns]) for first in range(0, 4, columns)]
            places = set()
            for result in everybody.predict_all(np.vstack(tiled)):
                rows, cols = np.nonzero(result.face_mask)
                row, col = int(rows.mean()) // 512, int(cols.mean()) // 512
                expected = np.zeros_like(result.face_mask)
                own = slice(512 * row, 512 * (row + 1)), slice(512 * col, 512 * (col + 1))
                expected[own] = alone[row * columns + col].face_mask
                assert (result.face_mask & expected).sum() > 0.8 * (result.face_mask | expected).sum()
                assert result.occlusion[own].sum() == result.occlusion.sum()
                places.add((row, col))
            assert len(places) == 4


class TestLandmarkFile:
    @pytest.fixture
    def by_file(self, segmenter: OcclusionSegmenter, tmp_path: Path) -> OcclusionSegmenter:
        points = "205,105,243,105,209,143,239,143"
        (tmp_path / "marks.csv").write_text(f"id,{','.join(FIVE_POINTS)}\nastronaut.png,{points}\n")
        aligner = FaceAligner("landmarks", landmarks=LandmarkFile(tmp_path / "marks.csv"))
        return OcclusionSegmenter(segmenter.prefix, segmenter.reweighter, aligner)

    def test_a_photograph_is_known_by_the_name_of_its_file(self, by_file: OcclusionSegmenter, tmp_path: Path) -> None:
        write_png(tmp_path / "album" / "astronaut.png", astronaut())
        result = by_file.predict(tmp_path / "album" / "astronaut.png")
        assert result.status == "ok"
        assert result.crop_corners is not None
        # 38 between the eyes, 38 down to the mouth: a side of 152 around a place 3.8 below the eyes.
        np.testing.assert_allclose(result.crop_corners[0], [224 - 76, 108.8 - 76], atol=1e-6)
        [same] = by_file.predict_all(astronaut(), image_id="astronaut.png")
        np.testing.assert_array_equal(same.probability, result.probability)

    def test_pixels_alone_are_not_known(self, by_file: OcclusionSegmenter) -> None:
        with pytest.raises(ValueError, match=r"marks\.csv gives faces by image id"):
            by_file.predict(astronaut())

    def test_a_photograph_without_a_row_has_no_face_and_that_is_said(
        self, by_file: OcclusionSegmenter, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert by_file.predict(astronaut(), image_id="b.png").status == "no_face"
        assert by_file.predict_all(astronaut(), image_id="c.png") == []
        assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
            "no row for the image 'b.png'",
            "no row for the image 'c.png'",
        ]


class TestNothingFound:
    def test_no_face_in_the_photograph(self, segmenter: OcclusionSegmenter) -> None:
        result = segmenter.predict(np.full((300, 200, 3), 128, np.uint8))
        assert result.status == "no_face"
        assert result.score == 0.0
        assert result.occlusion.shape == (300, 200)
        assert not result.occlusion.any()
        assert not result.face_mask.any()
        assert (result.probability == 0).all()
        assert result.aligned is None
        assert result.parsing is None

    def test_a_face_that_equals_its_reference(self, segmenter: OcclusionSegmenter) -> None:
        class Copying(torch.nn.Module):
            def forward(self, image: torch.Tensor, parsing: torch.Tensor) -> torch.Tensor:
                return image

        prefix = drawn_prefix()
        prefix.generator.forward = Copying().forward
        result = OcclusionSegmenter(prefix, None, astronaut_aligner()).predict(astronaut())
        assert result.status == "no_occlusion_prompts"
        assert result.score == 0.0
        assert not result.occlusion.any()
        assert result.face_mask.any()
        assert result.aligned is not None


class TestAbstention:
    def test_below_the_threshold_nothing_is_marked_and_that_is_said(
        self, segmenter: OcclusionSegmenter, found: SegmentationResult
    ) -> None:
        assert found.occlusion.any()
        assert not found.abstained
        silent = OcclusionSegmenter(
            segmenter.prefix,
            segmenter.reweighter,
            segmenter.aligner,
            abstain_below=math.nextafter(found.score, 1.0),
        ).predict(astronaut())
        assert silent.abstained
        assert not silent.occlusion.any()
        assert silent.score == found.score
        np.testing.assert_array_equal(silent.probability, found.probability)

    def test_at_the_threshold_it_is_marked(self, segmenter: OcclusionSegmenter, found: SegmentationResult) -> None:
        speaking = OcclusionSegmenter(
            segmenter.prefix, segmenter.reweighter, segmenter.aligner, abstain_below=found.score
        ).predict(astronaut())
        assert not speaking.abstained
        np.testing.assert_array_equal(speaking.occlusion, found.occlusion)

    def test_the_threshold_comes_with_the_head(self, random_weights: Path, tmp_path: Path) -> None:
        head = write_reweighter(small_reweighter(128), tmp_path / "head.safetensors")
        assert OcclusionSegmenter.load(head=head).abstain_below == -np.inf
        save_weights(load_reweighter(head), head, read_metadata(head) | {ABSTAIN_BELOW: "0.0625"}, half=False)
        assert OcclusionSegmenter.load(head=head).abstain_below == 0.0625
        assert OcclusionSegmenter.load(head=head, abstain=False).abstain_below == -np.inf
        save_weights(load_reweighter(head), head, read_metadata(head) | {ABSTAIN_BELOW: "low"}, half=False)
        with pytest.raises(WeightsError, match=r"head\.safetensors: its abstain_below is no number: 'low'"):
            OcclusionSegmenter.load(head=head)


class TestErrors:
    @pytest.mark.parametrize(
        "image",
        [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)],
        ids=["grey", "alpha", "float"],
    )
    def test_anything_but_rgb_bytes(self, segmenter: OcclusionSegmenter, image: np.ndarray) -> None:
        # Without the shape checks of the tests, as a user runs it: the method itself must say what came.
        with pytest.raises(ValueError, match=r"expected an \(H, W, 3\) uint8 RGB picture, got \(8, 8"):
            OcclusionSegmenter.predict.__wrapped__(segmenter, image)

    def test_a_file_that_is_no_picture_is_named(self, segmenter: OcclusionSegmenter, tmp_path: Path) -> None:
        (tmp_path / "broken.jpg").write_bytes(encode_jpeg(astronaut())[:2000])
        for name in ("broken.jpg", "missing.jpg"):
            with pytest.raises(ImageError, match=name.replace(".", r"\.")):
                segmenter.predict(tmp_path / name)


class TestLoad:
    def test_without_arguments_the_embedded_models(self, random_weights: Path) -> None:
        locator = OcclusionSegmenter.load().aligner.locator
        assert locator is not None
        for name, tensor in load_locator(random_weights / "face_locator.safetensors").state_dict().items():
            assert torch.equal(locator.state_dict()[name], tensor)
        result = OcclusionSegmenter.load(ChainConfig(alignment="none")).predict(astronaut())
        assert result.status in ("ok", "no_face_prompts", "no_occlusion_prompts", "no_face")
        assert result.occlusion.shape == (512, 512)
        assert result.similarity is not None
        assert result.similarity.shape == (32, 32)

    def test_a_head_of_ones_own(self, random_weights: Path, tmp_path: Path) -> None:
        path = write_reweighter(small_reweighter(128, seed=4), tmp_path / "head.safetensors")
        reweighter = OcclusionSegmenter.load(head=path).reweighter
        assert reweighter is not None
        expected = small_reweighter(128, seed=4).state_dict()
        for name, tensor in reweighter.state_dict().items():
            assert torch.equal(tensor, expected[name].half().float())

    def test_a_head_of_another_width(self, random_weights: Path, tmp_path: Path) -> None:
        path = write_reweighter(small_reweighter(256), tmp_path / "head.safetensors")
        with pytest.raises(WeightsError, match=r"head\.safetensors: made for prompts of width 256.*nano have 128"):
            OcclusionSegmenter.load(head=path)

    @pytest.mark.parametrize(
        "missing", ["face_locator", "face_parser", "reference_generator", "nano_sam", "reweighter"]
    )
    def test_missing_weights_name_the_file_and_the_remedy(
        self, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
    ) -> None:
        for file in random_weights.iterdir():
            if file.stem != missing:
                (tmp_path / file.name).symlink_to(file)
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        with pytest.raises(WeightsError, match=rf"{missing}\.safetensors.*are missing.*S3POT_WEIGHTS"):
            OcclusionSegmenter.load()

    def test_other_sams_have_no_embedded_head(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no embedded head for vit_b"):
            OcclusionSegmenter.load(ChainConfig(sam="vit_b", sam_checkpoint=tmp_path / "sam.pth"))
