"""What a prediction has to do: which photographs there are, which are missing, and on which faces to spend more."""

import logging
from pathlib import Path

import pandas as pd

from ray_jobs.encode_inputs import list_inputs
from s3pot.images import IMAGE_SUFFIXES, ImageError
from s3pot.photo_masks import PhotoWriting
from s3pot.places import join_place, shown_place
from s3pot.prediction_table import PredictionTable
from s3pot.store.stale_images import changed_ids

_log = logging.getLogger("s3pot.predict")


def list_photographs(source: str, out: str, limit: int = 0) -> pd.DataFrame:
    """List what to predict: one row per photograph with `id` and `path`.

    Args:
        source: an image, a folder, a glob or a manifest.
        out: where results go; our own masks and overlays are no photographs, should they lie below the source.
        limit: at most so many; 0 = all.

    Raises:
        FileNotFoundError, ImageError, ManifestError: as `list_inputs`.
    """
    path = Path(source)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return pd.DataFrame({"id": [path.name], "path": [source], "bytes": [path.stat().st_size]})
    items = list_inputs(source)
    own = tuple(shown_place(join_place(out, folder)) + "/" for folder in ("masks", "overlays"))
    items = items[~items["path"].map(lambda place: shown_place(place).startswith(own))]
    if not len(items):
        raise ImageError(f"{shown_place(source)}: no photographs, only masks of an earlier prediction")
    return items.head(limit) if limit else items


def missing(
    items: pd.DataFrame,
    table: PredictionTable,
    writing: PhotoWriting,
    *,
    check_changed: bool = True,
    retry_failed: bool = False,
) -> pd.DataFrame:
    """Return the items without rows that count: of this chain and head, and made from what the file holds now.

    Args:
        items: photographs.
        table: what is there.
        writing: how rows would be made; where overlays are wanted, a photograph without one is missing.
        check_changed: read all files to see whether they have changed.
        retry_failed: what failed is missing.
    """
    rows = table.rows(["status", "identity", "image_sha256", "mask", "overlay"])
    counts = rows["identity"] == writing.identity
    if writing.overlays:
        counts &= rows["overlay"].notna() | rows["mask"].isna()
    if retry_failed:
        counts &= rows["status"] != "failed"
    of_image = counts.groupby(rows["image"]).all()
    done = set(of_image.index[of_image])
    # A run that is taken up goes on where it was; the run after looks for changes.
    if check_changed and done and not table.parts():
        known = rows[rows["image"].isin(done)].drop_duplicates("image")
        made_from = {
            image: None if sha256 is None or sha256 != sha256 else sha256
            for image, sha256 in zip(known["image"], known["image_sha256"], strict=True)
        }
        changed = changed_ids(made_from, zip(items["id"].map(str), items["path"], strict=True))
        if changed:
            _log.info("%d photographs changed since they were predicted", len(changed))
        done -= set(changed)
    return items[~items["id"].map(str).isin(done)]


def worst_faces(items: pd.DataFrame, table: PredictionTable, writing: PhotoWriting, number: int) -> pd.DataFrame:
    """Choose the faces to fit the head to: those that were marked with the lowest score.

    A low score means a low IoU: rank correlation 0.83 over the 27 photographs of real_dev that are not withheld, where
    the objective and the share of uncertain pixels tell nothing.

    Args:
        items: photographs.
        table: what was found on them.
        writing: whose rows count, and how the head is fitted.
        number: how many faces.

    Returns:
        The items of their photographs, with the numbers of the faces under `fit`, such as "1,3"; without those whose
        faces have all been fitted with these settings.
    """
    rows = table.rows(["status", "abstained", "score", "score_before", "fitting", "identity"])
    # What was withheld most likely shows a clean face: a head would learn to find something on it.
    withheld = rows["abstained"].fillna(False).astype(bool) & rows["fitting"].isna()
    ours = (rows["identity"] == writing.identity) & rows["image"].isin(items["id"].map(str))
    # As it was before any fitting, so that the choice stays the same when the run is repeated.
    rows["score"] = rows["score_before"].fillna(rows["score"])
    rows = rows[ours & (rows["status"] == "ok") & (rows["score"] > 0) & ~withheld]
    worst = rows.sort_values(["score", "image", "face"]).head(number)
    unfitted = worst["image"][worst["fitting"] != writing.fitting.identity]
    worst = worst[worst["image"].isin(unfitted)].sort_values("face")
    chosen = worst["face"].map(str).groupby(worst["image"]).agg(",".join)
    found = items[items["id"].map(str).isin(chosen.index)]
    return found.assign(fit=found["id"].map(str).map(chosen))
