"""Render composites to a folder with a manifest: pictures, clean pictures, truth, face region, clean parsing.

<out>/{images,clean}/<id>.png   RGB          <out>/{truth,region}/<id>.png   0 or 255
<out>/parsing/<id>.png          12 classes   <out>/manifest.parquet          one row per picture
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from s3pot.composite.compositor import Composite
from s3pot.images import write_png

FOLDERS = {
    "path": "images",
    "clean_path": "clean",
    "truth_path": "truth",
    "region_path": "region",
    "parsing_path": "parsing",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedComposite:
    """A composite with its place in a collection.

    Attributes:
        id: file stem, unique.
        face_id: id of the face below.
        composite: pictures and truth.
        parsing: (H, W) uint8 12-class parsing of the clean face.
    """

    id: str
    face_id: str
    composite: Composite
    parsing: UInt8[np.ndarray, "h w"]


def write_composites(named: Iterable[NamedComposite], out: Path) -> pd.DataFrame:
    """Write composites and their manifest.

    Args:
        named: composites in the order of the manifest.
        out: folder, made when missing.

    Returns:
        The manifest: id, paths, kind, face_id, cutout_id.

    Raises:
        ValueError: if there are none, or two of one id.
    """
    rows: list[dict[str, str | None]] = []
    seen: set[str] = set()
    for entry in named:
        if entry.id in seen:
            raise ValueError(f"the id {entry.id!r} stands for two composites: the second would overwrite the first")
        seen.add(entry.id)
        composite = entry.composite
        pictures = {
            "path": composite.image,
            "clean_path": composite.clean,
            "truth_path": composite.occlusion.astype(np.uint8) * 255,
            "region_path": composite.region.astype(np.uint8) * 255,
            "parsing_path": entry.parsing,
        }
        paths = {column: out.resolve() / FOLDERS[column] / f"{entry.id}.png" for column in FOLDERS}
        for column, picture in pictures.items():
            write_png(paths[column], picture)
        rows.append(
            {
                "id": entry.id,
                **{column: str(path) for column, path in paths.items()},
                "kind": composite.kind,
                "face_id": entry.face_id,
                "cutout_id": "+".join(composite.cutout_ids) or None,
            }
        )
    if not rows:
        raise ValueError("no composites to write")
    manifest = pd.DataFrame(rows)
    manifest.to_parquet(out / "manifest.parquet", index=False)
    return manifest
