"""Turn hand-drawn occlusions (X-AnyLabeling or LabelMe polygons) into truth masks with a manifest.

    python ray_jobs/annotations.py images=photos annotations=photos/json out=runs/data/real

An annotation belongs to the picture of the same name. Polygons are labelled `face`, `occlusion` and `hole`; truth is
occlusion minus hole inside the face. The manifest is what `s3pot encode` takes; pictures stay where they are. A broken
annotation is named and loses nothing else.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from s3pot.composite.rendering import FOLDERS
from s3pot.config import ConfigError
from s3pot.data.anylabeling import AnnotationError, read_annotation
from s3pot.images import IMAGE_SUFFIXES, ImageError, read_image, write_png

_log = logging.getLogger("s3pot.annotations")

_COLUMNS = ["id", *FOLDERS, "kind", "face_id", "cutout_id"]


@dataclass(frozen=True, kw_only=True)
class AnnotationsConfig:
    """Which annotations become masks.

    Attributes:
        images: folder of pictures.
        annotations: folder of JSON files, one for each picture and of its name.
        out: folder that is written: truth, region, manifest.parquet.
        index: CSV whose columns `id` and `occluder_kinds` give the kind of each picture; without it the kind is
            "occlusion", or "clean" where none was drawn.
    """

    images: Path
    annotations: Path
    out: Path
    index: Path | None = None


def import_annotations(config: AnnotationsConfig) -> pd.DataFrame:
    """Write masks and manifest, and return the manifest.

    Raises:
        FileNotFoundError: if there are no annotations.
        ConfigError: if the index cannot be used.
        PartlyFailed: if annotations failed; all others are in the manifest.
    """
    config = with_absolute_paths(config)
    paths = sorted(config.annotations.glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"annotations={config.annotations}: no .json files")
    pictures: dict[str, list[Path]] = {}
    for picture in sorted(config.images.iterdir()):
        if picture.suffix.lower() in IMAGE_SUFFIXES:
            pictures.setdefault(picture.stem, []).append(picture)
    kinds = None if config.index is None else _read_index(config.index)
    rows, failed = [], []
    for path in paths:
        try:
            rows.append(_import_one(path, pictures.get(path.stem, []), kinds, config.out))
        except (AnnotationError, ImageError) as error:
            failed.append(str(error))
            _log.error("failed: %s", error)
    manifest = pd.DataFrame(rows, columns=_COLUMNS, dtype=object)
    if rows:
        manifest.to_parquet(config.out / "manifest.parquet", index=False)
    unlabelled = sorted(set(pictures) - {path.stem for path in paths})
    _log.info("%d annotations, %d failed, %d pictures without one", len(paths), len(failed), len(unlabelled))
    if failed:
        raise PartlyFailed(f"{len(failed)} of {len(paths)} annotations failed, first: {failed[0]}")
    return manifest


def _import_one(path: Path, pictures: list[Path], kinds: Mapping[str, str] | None, out: Path) -> dict[str, str | None]:
    if len(pictures) != 1:
        found = f"pictures {', '.join(picture.name for picture in pictures)}" if pictures else "no picture"
        raise AnnotationError(f"{path}: {found} of this name; one is needed")
    if kinds is not None and path.stem not in kinds:
        raise AnnotationError(f"{path}: the index has no row with the id {path.stem!r}")
    height, width, _ = read_image(pictures[0]).shape
    read = read_annotation(path, (height, width))
    masks = {"truth_path": read.occlusion, "region_path": read.region}
    paths = {column: out / FOLDERS[column] / f"{path.stem}.png" for column in masks}
    for column, mask in masks.items():
        write_png(paths[column], mask.astype(np.uint8) * 255)
    drawn = "occlusion" if read.occlusion.any() else "clean"
    return dict.fromkeys(_COLUMNS) | {
        "id": path.stem,
        "path": str(pictures[0]),
        **{column: str(mask_path) for column, mask_path in paths.items()},
        "kind": drawn if kinds is None else kinds[path.stem],
        "face_id": path.stem,
    }


def _read_index(path: Path) -> dict[str, str]:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise ConfigError(str(path), [f"cannot be read as CSV: {error}"]) from error
    missing = {"id", "occluder_kinds"} - set(frame.columns)
    if missing:
        raise ConfigError(str(path), [f"the index lacks the columns {', '.join(sorted(missing))}"])
    if frame["id"].duplicated().any() or (frame["occluder_kinds"] == "").any():
        raise ConfigError(str(path), ["an id stands there twice, or a row has no occluder_kinds"])
    return dict(zip(frame["id"], frame["occluder_kinds"], strict=True))


SMOKE: dict[str, Any] = {}
command = job_command(AnnotationsConfig, import_annotations, SMOKE, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
