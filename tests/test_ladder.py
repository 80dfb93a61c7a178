"""The oracle ladder: every rung replaces what it says and nothing else."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from s3pot.composite import compose, unoccluded
from s3pot.composite.drawn import drawn_cutouts
from s3pot.composite.rendering import NamedComposite, write_composites
from s3pot.ladder import RUNGS, LadderImage, climb, read_ladder_images
from s3pot.metrics.prompt_quality import token_share
from tests.faces import draw_face
from tests.stand_ins import drawn_prefix


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    face, parsing = draw_face(256)
    rng = np.random.default_rng(0)
    named = [
        NamedComposite(
            id=f"c{index}", face_id="drawn", composite=compose(face, parsing, [cutout], rng), parsing=parsing
        )
        for index, cutout in enumerate(drawn_cutouts()[:2])
    ]
    named.append(NamedComposite(id="clean", face_id="drawn", composite=unoccluded(face, parsing), parsing=parsing))
    return write_composites(named, tmp_path_factory.mktemp("ladder"))


@pytest.fixture(scope="module")
def images(manifest: pd.DataFrame) -> list[LadderImage]:
    return read_ladder_images(manifest, 256)


@pytest.fixture(scope="module")
def table(images: list[LadderImage]) -> pd.DataFrame:
    return climb(images, drawn_prefix(), {"none": None})


def test_every_rung_measures_every_image(table: pd.DataFrame) -> None:
    assert table.groupby("rung")["id"].apply(sorted).to_dict() == {rung: ["c0", "c1", "clean"] for rung in RUNGS}


def test_prompts_from_truth_are_perfect(table: pd.DataFrame) -> None:
    true = table[(table["rung"] == "true_prompts") & (table["truth_pixels"] > 0)]
    assert (true["prompt_precision"] == 1.0).all()
    assert (true["prompt_recall"] == 1.0).all()


def test_the_face_of_the_labels_is_perfect_with_the_true_face(table: pd.DataFrame) -> None:
    assert (table.loc[table["rung"] == "true_face", "face_iou"] == 1.0).all()


def test_random_prompts_are_as_many_and_repeatable(images: list[LadderImage], table: pd.DataFrame) -> None:
    counts = table.pivot_table(index="id", columns="rung", values="occlusion_prompt_count")
    assert (counts["random_prompts"] == counts["chain"]).all()
    again = climb(images, drawn_prefix(), {"none": None}, ["random_prompts"])
    first = table[table["rung"] == "random_prompts"].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, again)


def test_a_clean_reference_of_a_clean_face_has_no_contrast(images: list[LadderImage]) -> None:
    clean = [entry for entry in images if entry.row.id == "clean"]
    result = climb(clean, drawn_prefix(), {"none": None}, ["clean_reference"])
    assert result["occlusion_prompt_count"].tolist() == [0.0]
    assert result["false_positive_area"].tolist() == [0.0]


def test_other_prompts_are_those_of_the_next_image(images: list[LadderImage]) -> None:
    prefix = drawn_prefix()
    stages = prefix.run([entry.image for entry in images], [entry.row.id for entry in images])
    table = climb(images, prefix, {"none": None}, ["other_prompts"])
    # The drawn parser sees the same face everywhere, so the next image's prompts all fall into this face.
    wanted = [len(stages[(place + 1) % 3].occlusion_prompts) for place in range(3)]
    assert table["occlusion_prompt_count"].tolist() == wanted


def test_truth_share_of_tokens_is_what_the_oracle_uses(images: list[LadderImage]) -> None:
    truth = images[0].truth.occlusion
    assert truth is not None
    share = token_share(truth, (32, 32))
    assert torch.from_numpy(share).gt(0.5).any()


def test_a_manifest_without_oracles_is_one_sentence(manifest: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="the ladder needs clean_path"):
        read_ladder_images(manifest.drop(columns="clean_path"), 256)


def test_another_size_is_one_sentence(manifest: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="long side of 128"):
        read_ladder_images(manifest, 128)


def test_paths_are_read_as_written(images: list[LadderImage]) -> None:
    assert Path(images[0].row.path).is_absolute()
    assert images[0].image.shape == (256, 256, 3)
