"""Choose, on faces without occluder, below which score a head's results are withheld, and write that into the head.

python ray_jobs/abstention.py store=runs/stores/dev_clean head=runs/train/standard/reweighter.safetensors

The store should hold dev faces: this is a choice made with truth. `occluded` names a store of occluded faces, to say
what abstaining costs there.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import typer

from ray_jobs.job_cli import job_command, run_alone, with_absolute_paths
from s3pot.embedded import read_metadata, save_weights
from s3pot.evaluation import evaluate_store, mean_iou
from s3pot.head.head_file import ABSTAIN_BELOW, load_reweighter
from s3pot.metrics import AbstentionChoice, choose_abstention_threshold
from s3pot.store.prompt_store import PromptStore

_log = logging.getLogger("s3pot.abstention")


@dataclass(frozen=True, kw_only=True)
class AbstentionConfig:
    """What the threshold is chosen on.

    Attributes:
        store: store of faces without occluder (decoys may be among them), truth known to be empty.
        head: file of the head; its metadata is written anew, its weights stay.
        occluded: store of occluded faces, to report what abstaining costs; not used for the choice.
        max_share: share of the faces of `store` that may stay wrongly marked (more than 1 % of the face), in [0, 1].
    """

    store: Path
    head: Path
    occluded: Path | None = None
    max_share: float = 0.10

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0.0 <= self.max_share <= 1.0:
            raise ValueError(f"max_share must lie in [0, 1], got {self.max_share}")


def choose(config: AbstentionConfig) -> AbstentionChoice:
    """Choose, print and write the threshold.

    Raises:
        ValueError: if the store holds no face without occluder.
    """
    config = with_absolute_paths(config)
    table = _evaluated(config.store, config.head)
    clean = table[table["truth_pixels"] == 0].dropna(subset=["occlusion_score", "false_positive_area"])
    if clean.empty:
        raise ValueError(f"{config.store}: holds no face that is known to be clean (empty truth)")
    choice = choose_abstention_threshold(
        clean["occlusion_score"], clean["false_positive_area"], max_share=config.max_share
    )
    reweighter = load_reweighter(config.head)
    metadata = read_metadata(config.head) | {
        ABSTAIN_BELOW: repr(choice.threshold),
        "abstain_chosen_on": json.dumps({"store": PromptStore(config.store).description["identity"], "n": len(clean)}),
    }
    save_weights(reweighter, config.head, metadata, half=False)
    typer.echo(
        f"abstain below {choice.threshold:.4f}: {choice.share_marked:.1%} of {choice.faces} clean faces stay wrongly "
        f"marked (before: {choice.share_marked_before:.1%})"
    )
    if config.occluded is not None:
        typer.echo(_cost(_evaluated(config.occluded, config.head), choice.threshold))
    return choice


def _evaluated(store: Path, head: Path) -> pd.DataFrame:
    opened = PromptStore(store)
    sam = opened.load_sam()
    return evaluate_store(opened, sam, load_reweighter(head, sam.device, chain=opened.chain))


def _cost(table: pd.DataFrame, threshold: float) -> str:
    occluded = table[table["truth_pixels"] > 0]
    silent = occluded["occlusion_score"] < threshold
    withheld = occluded.assign(iou_face_mask=occluded["iou_face_mask"].where(~silent, 0.0))
    return (
        f"on {len(occluded)} occluded faces it abstains from {silent.mean():.1%}; mean IoU {mean_iou(occluded):.3f}, "
        f"counting those as 0: {mean_iou(withheld):.3f}"
    )


command = job_command(AbstentionConfig, choose, {}, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
