"""Which images of a store a fleet overfits: all with prompts, some by id, or those that did worst in another run."""

import logging
from pathlib import Path

from analysis.results import ResultsError, read_table
from ray_jobs.overfit_config import OverfitConfig
from s3pot.metrics.summary import FAILED
from s3pot.store.manifest import PROMPTED
from s3pot.store.prompt_store import PromptStore

_log = logging.getLogger("s3pot.overfit")

# What says how an image did, best known first, and whether low is bad.
_MEASURES = {"iou_face_mask": True, "objective_after": False, "occlusion_score": True}


def choose_images(store: PromptStore, config: OverfitConfig) -> list[str]:
    """Return the ids to overfit, in the order of the store; images without any prompts are left out.

    Raises:
        FileNotFoundError: if the store does not hold an image that was asked for, or the run is not there.
        ResultsError: if the run holds no images that could be ranked.
    """
    rows = store.rows(["status"])
    known, ids = set(rows["id"]), rows["id"][rows["status"].isin(PROMPTED)].tolist()
    asked: set[str] | None = set(config.images) or None
    if config.of is not None:
        asked = set(worst_images(config.of, config.worst, among=set(ids)))
    if unknown := sorted((asked or set()) - known):
        raise FileNotFoundError(f"{store.root} holds no image {unknown[0]!r} ({len(unknown)} unknown ids in all)")
    chosen = [image_id for image_id in ids if asked is None or image_id in asked]
    return chosen[: config.limit] if config.limit else chosen


def worst_images(run: Path, count: int, among: set[str]) -> list[str]:
    """Return the ids of the images that did worst in a run, the worst first; ties in the order of their ids.

    With truth for any image the lowest IoU (clipped to the predicted face) is worst, and images without truth are not
    ranked. Without, it is the highest objective at the end of an overfit run, or the lowest occlusion score of an
    evaluation: neither needs truth, and neither promises much.

    Args:
        run: folder with a `per_image.parquet`.
        count: how many.
        among: ids that may be chosen.

    Raises:
        FileNotFoundError: if there is no such table.
        ResultsError: if it is damaged, or ranks none of these images.
    """
    path = run / "per_image.parquet"
    table = read_table(path, ("id", "status"), "name the folder of an `evaluate` or `overfit` run")
    table = table[(table["status"] != FAILED) & table["id"].isin(among)]
    for measure, low_is_bad in _MEASURES.items():
        if measure in table.columns and table[measure].notna().any():
            ranked = table.dropna(subset=[measure]).sort_values([measure, "id"], ascending=[low_is_bad, True])
            chosen: list[str] = ranked["id"].head(count).tolist()
            _log.info("the %d %s %s of %s", len(chosen), "lowest" if low_is_bad else "highest", measure, run)
            return chosen
    raise ResultsError(f"{path}: ranks no image of this store: is it of another store, or did all of its images fail?")
