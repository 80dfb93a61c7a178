"""A replica without Serve around it: batches whose photographs do not harm each other, and decoding again."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from ray_jobs.serve_config import ServeConfig
from ray_jobs.serve_example import example_photograph
from ray_jobs.serve_limits import ServeLimits
from ray_jobs.serve_messages import Answer, Refused, Wanted
from ray_jobs.serve_model import ModelReplica
from s3pot.data.run_lengths import decode_runs
from s3pot.images import decode_image, decode_png
from tests.stand_ins import astronaut_aligner

EXAMPLE = decode_image(example_photograph(), "example")


@pytest.fixture(scope="module")
def replica(random_weight_files: Path) -> ModelReplica:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3POT_WEIGHTS", str(random_weight_files))
        made = ModelReplica(ServeConfig(batch_size=2, limits=ServeLimits(faces=1), abstain=False))
    made._segmenter.aligner = astronaut_aligner()
    made._never_silent.aligner = astronaut_aligner()
    return made


def answer_of(replica: ModelReplica, photograph: np.ndarray, wanted: Wanted) -> Answer:
    [computed] = replica._compute([photograph])
    assert not isinstance(computed, Refused)
    return replica._answer(photograph, computed, wanted)


def test_a_photograph_gets_what_the_library_says(replica: ModelReplica) -> None:
    answer = answer_of(replica, EXAMPLE, Wanted())
    [expected] = replica._segmenter.predict_all(EXAMPLE)
    assert isinstance(answer.body, dict)
    [face] = answer.body["faces"]
    assert face["score"] == pytest.approx(expected.score, abs=1e-6)
    assert face["status"] == expected.status
    assert (decode_runs(face["mask"], EXAMPLE.shape[:2]) == expected.occlusion).all()
    assert face["crop_corners"] == pytest.approx(expected.crop_corners, abs=0.01)


def test_one_photograph_that_cannot_be_computed_harms_only_itself(replica: ModelReplica) -> None:
    broken = np.zeros((10, 10), dtype=np.uint8)  # what no decoder gives
    answers = replica._compute([EXAMPLE, broken, data.astronaut()])
    assert isinstance(answers[1], Refused)
    assert answers[1].status == 500
    for answer, photograph in ((answers[0], EXAMPLE), (answers[2], data.astronaut())):
        assert not isinstance(answer, Refused)
        [face] = replica._segmenter.aligner.align_all(photograph, 256)
        assert (answer.faces[0].image == face.image).all()


def test_a_batch_gives_each_photograph_its_own_answer(replica: ModelReplica) -> None:
    wall = np.full((64, 48, 3), 90, dtype=np.uint8)
    mirrored = np.ascontiguousarray(EXAMPLE[:, ::-1])
    batch = replica._compute([EXAMPLE, wall, mirrored])
    assert [0 if isinstance(one, Refused) else len(one.faces) for one in batch] == [1, 0, 1]
    for photograph, computed in zip((EXAMPLE, mirrored), (batch[0], batch[2]), strict=True):
        assert not isinstance(computed, Refused)
        [alone] = replica._compute([photograph])
        assert not isinstance(alone, Refused)
        assert computed.batch == 3
        assert alone.batch == 1
        assert (computed.faces[0].image == alone.faces[0].image).all()
        # Another batch size rounds otherwise.
        probabilities = [one.seen[0].prediction.probability for one in (computed, alone)]
        np.testing.assert_allclose(*probabilities, atol=0.03)


def test_other_prompts_give_another_mask_and_the_same_ones_the_same(replica: ModelReplica) -> None:
    answer = answer_of(replica, EXAMPLE, Wanted(stages=True, mask="png"))
    assert isinstance(answer.body, dict)
    [face] = answer.body["faces"]
    stages = face["stages"]
    same = replica._decode(answer.states[1], stages["occlusion_prompts"], stages["face_prompts"], Wanted(mask="png"))
    assert same["mask"] == face["mask"]
    assert same["score"] == face["score"]
    assert same["picture"] == stages["mask"]
    nothing = replica._decode(answer.states[1], [], stages["face_prompts"], Wanted())
    assert (nothing["status"], nothing["score"]) == ("no_occlusion_prompts", 0.0)
    swapped = replica._decode(answer.states[1], stages["face_prompts"], stages["occlusion_prompts"], Wanted(mask="png"))
    assert swapped["score"] != face["score"]
    with pytest.raises(Refused) as refused:
        replica._decode(answer.states[1], [1024], [], Wanted())
    assert refused.value.status == 422


def test_a_mask_from_chosen_prompts_is_never_withheld(replica: ModelReplica) -> None:
    replica._segmenter.abstain_below = 2.0
    answer = answer_of(replica, EXAMPLE, Wanted(stages=True))
    assert isinstance(answer.body, dict)
    [face] = answer.body["faces"]
    assert (face["abstained"], face["occluded_share"]) == (True, 0.0)
    stages = face["stages"]
    again = replica._decode(answer.states[1], stages["occlusion_prompts"], stages["face_prompts"], Wanted())
    replica._segmenter.abstain_below = -np.inf
    assert not again["abstained"]
    assert again["occluded_share"] > 0


def test_what_is_held_of_a_face_does_not_hold_its_batch(replica: ModelReplica) -> None:
    sizes = []
    for photographs in ([EXAMPLE], [EXAMPLE] * 4):
        computed = replica._compute(photographs)[0]
        assert not isinstance(computed, Refused)
        sizes.append(len(replica._answer(EXAMPLE, computed, Wanted(stages=True)).states[1]))
    assert sizes[1] < 1.05 * sizes[0]


def test_only_the_most_prominent_faces_are_looked_at(replica: ModelReplica) -> None:
    two = [*replica._segmenter.aligner.align_all(EXAMPLE, 256)] * 2

    class Twice:
        def align_all(self, *_: object) -> list[object]:
            return [*two]

    aligner, replica._segmenter.aligner = replica._segmenter.aligner, Twice()  # type: ignore[assignment]
    [computed] = replica._compute([EXAMPLE])
    replica._segmenter.aligner = aligner
    assert not isinstance(computed, Refused)
    assert len(computed.faces) == 1


def test_a_picture_that_ends_early_is_refused_with_its_reason(replica: ModelReplica) -> None:
    answer = asyncio.run(replica.segment(example_photograph()[:9000], Wanted()))
    assert isinstance(answer, Refused)
    assert answer.status == 400
    assert "truncated" in answer.sentence


def test_answers_as_pictures(replica: ModelReplica) -> None:
    mask = answer_of(replica, EXAMPLE, Wanted(picture=True)).body
    overlay = answer_of(replica, EXAMPLE, Wanted(picture=True, overlay=True)).body
    assert isinstance(mask, bytes)
    assert isinstance(overlay, bytes)
    [expected] = replica._segmenter.predict_all(EXAMPLE)
    assert ((decode_png(mask) == 255) == expected.occlusion).all()
    assert Image.open(io.BytesIO(overlay)).size == (512, 512)
