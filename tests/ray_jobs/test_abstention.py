"""Choosing when a head keeps silent."""

import math
from pathlib import Path

import pytest
import torch

from ray_jobs.abstention import AbstentionConfig, choose
from s3pot.chain import load_sam
from s3pot.embedded import load_nano_sam
from s3pot.evaluation import evaluate_store
from s3pot.head.head_file import load_reweighter, read_abstention_threshold
from s3pot.store.prompt_store import PromptStore
from tests.stand_ins import small_reweighter, write_reweighter


@pytest.fixture
def head(tmp_path: Path) -> Path:
    return write_reweighter(small_reweighter(128, trained_looking=True), tmp_path / "head.safetensors")


@pytest.mark.parametrize(("max_share", "silent"), [(1.0, False), (0.0, True)])
def test_the_threshold_keeps_to_the_share_and_leaves_the_head(
    astronaut_store: PromptStore,
    head: Path,
    max_share: float,
    silent: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = load_reweighter(head).state_dict()
    config = AbstentionConfig(store=astronaut_store.root, head=head, occluded=astronaut_store.root, max_share=max_share)
    choice = choose(config)
    after = load_reweighter(head)
    for name, tensor in after.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert read_abstention_threshold(head) == choice.threshold
    table = evaluate_store(astronaut_store, load_sam(astronaut_store.chain), after)
    clean, occluded = table[table["truth_pixels"] == 0], table[table["truth_pixels"] > 0]
    wrong = (clean["occlusion_score"] >= choice.threshold) & (clean["false_positive_area"] > 1.0)
    assert choice.faces == len(clean) == 1
    assert choice.share_marked == wrong.mean() <= max_share
    if not silent or choice.share_marked_before == 0:
        assert choice.threshold == -math.inf
    printed = capsys.readouterr().out
    kept = occluded["iou_face_mask"].where(occluded["occlusion_score"] >= choice.threshold, 0.0)
    assert f"counting those as 0: {kept.mean():.3f}" in printed
    assert f"on {len(occluded)} occluded faces" in printed


def test_a_store_without_clean_faces_is_an_error(
    astronaut_store: PromptStore, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_store(astronaut_store, load_nano_sam(), None)
    monkeypatch.setattr("ray_jobs.abstention.evaluate_store", lambda *given: whole[whole["truth_pixels"] > 0])
    with pytest.raises(ValueError, match="holds no face that is known to be clean"):
        choose(AbstentionConfig(store=astronaut_store.root, head=head))


def test_the_share_is_checked() -> None:
    with pytest.raises(ValueError, match=r"max_share must lie in \[0, 1\], got 1.5"):
        AbstentionConfig(store=Path("s"), head=Path("h"), max_share=1.5)
