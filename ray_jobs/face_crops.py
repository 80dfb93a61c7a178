"""Write the face crops of a store as pictures: what other methods are to be given, or faces to lay occluders on.

    python ray_jobs/face_crops.py store=runs/stores/portrait_photos out=runs/data/portrait_faces

<out>/images/<id>.png at the working size, and <out>/manifest.parquet with id, path and the map to the original pixels.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from s3pot.baselines.stored_face import aligned_picture
from s3pot.images import ImageError, write_png
from s3pot.store.prompt_store import PromptStore

_log = logging.getLogger("s3pot.face_crops")


@dataclass(frozen=True, kw_only=True)
class FaceCropsConfig:
    """What is written.

    Attributes:
        store: store of photographs; images without a face are left out.
        out: folder that is written.
    """

    store: Path
    out: Path


def face_crops(config: FaceCropsConfig) -> pd.DataFrame:
    """Write the crops; returns their manifest.

    Raises:
        PartlyFailed: if photographs could not be read any more; all others are written.
    """
    config = with_absolute_paths(config)
    rows, errors = [], []
    stored: list[Any] = list(PromptStore(config.store).rows().itertuples(index=False))
    for row in (row for row in stored if row.parsing_png is not None):
        path = config.out / "images" / f"{row.id}.png"
        try:
            write_png(path, aligned_picture(row))
        except (OSError, ImageError) as error:
            errors.append(f"{row.id}: {error}")
            continue
        rows.append({"id": row.id, "path": str(path), "to_original": list(row.to_original)})
    manifest = pd.DataFrame(rows, columns=["id", "path", "to_original"])
    config.out.mkdir(parents=True, exist_ok=True)
    manifest.to_parquet(config.out / "manifest.parquet", index=False)
    _log.info("%d faces of %d images in %s", len(manifest), len(stored), config.out)
    if errors:
        raise PartlyFailed(f"{len(errors)} of {len(stored)} images failed, first: {errors[0]}")
    return manifest


command = job_command(FaceCropsConfig, face_crops, {}, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
