"""Which masks there are to hand out: of a run, of a folder, or the truth of a manifest."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from s3pot.data.manifest import ManifestError, read_manifest
from s3pot.data.safe_names import place_below
from s3pot.metrics.summary import FAILED

TABLE = "per_image.parquet"


@dataclass(frozen=True, kw_only=True)
class ListedMask:
    """One mask.

    Attributes:
        id: of its picture.
        mask: PNG of the picture's size, 255 = occluded.
        picture: path or URI of the picture; None when nothing names it.
        region: PNG of the face region; None when unknown.
    """

    id: str
    mask: Path
    picture: str | None
    region: Path | None


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskList:
    """Masks, by id.

    Attributes:
        masks: in the order of their ids.
        table: the per-image table of a run, one row per mask in the same order; None elsewhere.
        without: ids of pictures that have none, because they failed or because their truth is unknown.
    """

    masks: list[ListedMask]
    table: pd.DataFrame | None
    without: list[str]


def list_masks(place: Path, manifest: Path | None = None) -> MaskList:
    """List masks.

    Args:
        place: run folder with masks/ and per_image.parquet, folder of <id>.png, or manifest whose truth is meant.
        manifest: names pictures and regions where `place` does not.

    Raises:
        ManifestError: if a manifest cannot be used, or lacks an id.
        FileNotFoundError: if there are no masks.
    """
    known = None if manifest is None else read_manifest(manifest).set_index("id", drop=False)
    table: pd.DataFrame | None = None
    if place.suffix == ".parquet":
        rows = read_manifest(place)
        truths = zip(rows["id"].map(str), rows["truth_path"], strict=True)
        found = {name: Path(truth) for name, truth in truths if truth is not None}
        without = [str(name) for name in rows["id"] if name not in found]
        known = rows.set_index("id", drop=False) if known is None else known
    elif (place / TABLE).is_file():
        table = pd.read_parquet(place / TABLE).sort_values("id", ignore_index=True)
        paths = {str(name): place_below(place / "masks", str(name), ".png") for name in table["id"]}
        there = (table["status"] != FAILED) & np.array([path.is_file() for path in paths.values()], dtype=bool)
        without = table["id"][~there].tolist()
        table = table[there].reset_index(drop=True)
        found = {name: paths[name] for name in table["id"].map(str)}
    else:
        pngs = sorted(path for path in place.rglob("*.png") if path.is_file())
        found = {path.relative_to(place).as_posix().removesuffix(".png"): path for path in pngs}
        without = []
    if not found:
        raise FileNotFoundError(f"masks={place}: no masks there: a run with masks/, a folder of <id>.png or a manifest")
    names = sorted(found)
    pictures = {} if table is None else {str(name): str(path) for name, path in table[["id", "path"]].to_numpy()}
    masks = [_listed(name, found[name], known, pictures.get(name), manifest) for name in names]
    return MaskList(masks=masks, table=table, without=sorted(without))


def _listed(
    name: str, mask: Path, known: pd.DataFrame | None, picture: str | None, manifest: Path | None
) -> ListedMask:
    if known is None:
        return ListedMask(id=name, mask=mask, picture=picture, region=None)
    if name not in known.index:
        raise ManifestError(f"{manifest}: has no row with the id {name!r}, for which there is a mask")
    path, region = known.at[name, "path"], known.at[name, "region_path"]
    return ListedMask(id=name, mask=mask, picture=str(path), region=None if region is None else Path(str(region)))
