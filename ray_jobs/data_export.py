"""Hand masks to annotators and to other tools: PNG, COCO, or LabelMe / X-AnyLabeling, the least certain first.

    s3pot data export masks=runs/evaluate/photos format=labelme out=runs/correct order=uncertain limit=200 pictures=true
    s3pot data export masks=runs/data/real/manifest.parquet format=coco out=runs/coco
    s3pot data import format=labelme annotations=runs/correct out=runs/data/corrected roles.face=[]

`masks` is a run with masks (evaluate, overfit), a folder of <id>.png (255 = occluded), or a manifest, whose truth is
taken. `manifest` names pictures and face regions where the masks do not. Masks of a run are not clipped to the face.

Polygons leave the exact border by at most `tolerance` pixels, and by less where filling them again would not give the
mask back with an IoU of `least_iou`: <out>/index.csv says what was reached. A hole is a polygon labelled `hole` with
the group_id of the area it is cut from, because neither program knows holes. COCO masks are exact (run lengths).

order=uncertain: the distance of the image-level score from the head's abstention threshold, |log(score / threshold)|,
smallest first; or any column of per_image.parquet (by=COLUMN), largest first. No truth is looked at.
"""

import csv
import io
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from ray_jobs.data_threads import each
from ray_jobs.evaluate import head_file
from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from ray_jobs.run_folder import write_text
from s3pot.config import ConfigError, load_yaml
from s3pot.data.coco import coco_annotation, coco_content
from s3pot.data.labelme import labelme_content
from s3pot.data.manifest import ManifestError
from s3pot.data.mask_folder import read_mask
from s3pot.data.mask_list import ListedMask, MaskList, list_masks
from s3pot.data.polygons import outlines
from s3pot.data.safe_names import OutsideError, place_below
from s3pot.data.uncertainty import uncertainty
from s3pot.head.head_file import read_abstention_threshold
from s3pot.images import read_labels, write_png
from s3pot.places import is_uri, read_place

_log = logging.getLogger("s3pot.data")
_INDEX, _COCO = "index.csv", "annotations.json"


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which masks are handed out, and how.

    Attributes:
        masks: run folder, folder of <id>.png, or manifest (.parquet).
        out: folder that is written.
        format: png, coco (one annotations.json), or labelme (one JSON per picture; X-AnyLabeling reads it, too).
        manifest: Parquet file that names pictures and face regions by id, where `masks` does not.
        order: by id, or the least certain first (of a run only).
        by: column of per_image.parquet to order by, largest first; null = distance of the score from the threshold.
        threshold: of the image-level score; null = the one that came with the head of the run.
        limit: only so many, after ordering; 0 = all.
        pictures: copy the pictures beside their annotations, as annotators need them. Faces are biometric data.
        tolerance: largest distance in pixels between the border of a mask and its polygon.
        least_iou: of a mask and its polygons filled again, per picture; the tolerance gives way to it.
        specks: areas and holes of fewer pixels are left out of polygons, as long as least_iou holds.
        workers: threads; 0 = one per core.
    """

    masks: Path
    out: Path
    format: Literal["png", "coco", "labelme"] = "labelme"
    manifest: Path | None = None
    order: Literal["id", "uncertain"] = "id"
    by: str | None = None
    threshold: float | None = None
    limit: int = 0
    pictures: bool = False
    tolerance: float = 1.0
    least_iou: float = 0.98
    specks: int = 16
    workers: int = 0

    def __post_init__(self) -> None:
        """Check ranges, and that nothing is given that would not be looked at."""
        for key in ("limit", "tolerance", "specks", "workers"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} must be at least 0, got {getattr(self, key)}")
        if not 0 <= self.least_iou <= 1:
            raise ValueError(f"least_iou must be in 0..1, got {self.least_iou}")
        if self.order == "id" and (self.by is not None or self.threshold is not None):
            raise ValueError("order=uncertain is needed with by and threshold")
        if self.by is not None and self.threshold is not None:
            raise ValueError("threshold does not go with by: another column is taken as it is")
        if self.pictures and self.format == "coco":
            raise ValueError("pictures go with format=labelme or png")


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What became of one mask.

    Attributes:
        entry: the mask.
        file: what was written for it, relative to the folder.
        tolerance: of its polygons in pixels, None where the mask is exact.
        iou: of the mask and what is read back.
        coco: file name, size and annotations for the COCO file, None for other formats.
    """

    entry: ListedMask
    file: str
    tolerance: float | None = None
    iou: float = 1.0
    coco: tuple[str, tuple[int, int], list[dict[str, Any]]] | None = None


def export(config: ExportConfig) -> Path:
    """Write the masks and index.csv; returns the folder.

    Raises:
        ConfigError: if there is no such order, or pictures have no names.
        FileNotFoundError: if there are no masks.
        PartlyFailed: if masks could not be read or pictures have none; all others are written.
    """
    config = with_absolute_paths(config)
    found, uncertain = _chosen(config)
    config.out.mkdir(parents=True, exist_ok=True)
    handed: list[Handed] = []
    failed = []
    for entry, result in each(_writer(config, found), found.masks, "masks", _log, config.workers):
        if isinstance(result, Exception):
            failed.append(f"{entry.id}: {result}")
        else:
            handed.append(result)
    if config.format == "coco":
        pictures = [(made.entry.id, *made.coco) for made in handed if made.coco is not None]
        write_text(config.out / _COCO, json.dumps(coco_content(pictures)))
    write_text(config.out / _INDEX, _index(handed, uncertain))
    _log.info("%d masks in %s; %d pictures have none", len(handed), config.out, len(found.without))
    if config.format == "labelme" and any(made.entry.region is None for made in handed):
        _log.info("where the face region is unknown no face is drawn: import with roles.face=[], or draw it")
    if failed:
        raise PartlyFailed(f"{len(failed)} of {len(found.masks)} masks failed, first: {failed[0]}")
    return config.out


def _chosen(config: ExportConfig) -> tuple[MaskList, dict[str, float]]:
    """List the masks in order, with the uncertainty of each."""
    try:
        found = list_masks(config.masks, config.manifest)
    except (ManifestError, OutsideError) as error:
        raise ConfigError("masks", [str(error)]) from error
    masks, uncertain = found.masks, {}
    if config.order == "uncertain":
        if found.table is None:
            raise ConfigError("order", [f"uncertain needs a run with per_image.parquet, which {config.masks} has not"])
        try:
            values = uncertainty(found.table, 0.0 if config.by else _threshold(config), config.by)
        except ValueError as error:
            raise ConfigError("order", [str(error)]) from error
        uncertain = dict(zip(found.table["id"], values.tolist(), strict=True))
        masks = sorted(masks, key=lambda entry: (-uncertain[entry.id], entry.id))
    masks = masks[: config.limit] if config.limit else masks
    if config.format != "png" or config.pictures:
        nameless = [entry.id for entry in masks if entry.picture is None]
        if nameless:
            raise ConfigError("manifest", [f"is needed to name the pictures, such as that of {nameless[0]!r}"])
    return MaskList(masks=masks, table=found.table, without=found.without), uncertain


def _threshold(config: ExportConfig) -> float:
    if config.threshold is not None:
        return config.threshold
    settings = config.masks / "config.yaml"
    head = load_yaml(settings).get("head") if settings.is_file() else None
    path = head_file(head) if isinstance(head, str) else None
    if path is None:
        raise ConfigError("threshold", [f"is needed: {config.masks} names no head that one came with"])
    return read_abstention_threshold(path)


def _writer(config: ExportConfig, found: MaskList) -> Callable[[ListedMask], Handed]:
    match config.format:
        case "png":
            return partial(_write_png, config)
        case "coco":
            places = [entry.picture for entry in found.masks if entry.picture and not is_uri(entry.picture)]
            root = os.path.commonpath([os.path.dirname(place) for place in places]) if places else ""
            _log.info("file names are relative to %s: import with images=%s", root, root)
            return partial(_for_coco, root)
        case "labelme":
            taken: dict[str, str] = {}
            for entry in found.masks:
                name = _stem(entry)
                if name in taken:
                    problem = f"{taken[name]!r} and {entry.id!r} would both be {name}.json: export them apart"
                    raise ConfigError("masks", [problem])
                taken[name] = entry.id
            return partial(_write_labelme, config)


def _write_png(config: ExportConfig, entry: ListedMask) -> Handed:
    occlusion, _ = _read(entry)
    path = place_below(config.out, entry.id, ".png")
    write_png(path, occlusion.astype(np.uint8) * 255)
    if config.pictures:
        _copy_picture(entry, config.out / "pictures")
    return Handed(entry=entry, file=path.relative_to(config.out).as_posix())


def _for_coco(root: str, entry: ListedMask) -> Handed:
    occlusion, region = _read(entry)
    assert entry.picture is not None
    remote = is_uri(entry.picture)
    name = PurePosixPath(entry.picture).name if remote else Path(entry.picture).relative_to(root).as_posix()
    masks = {"occlusion": occlusion} | ({} if region is None else {"face": region})
    drawn = [coco_annotation(label, mask) for label, mask in masks.items()]
    return Handed(entry=entry, file=_COCO, coco=(name, occlusion.shape, drawn))


def _write_labelme(config: ExportConfig, entry: ListedMask) -> Handed:
    occlusion, region = _read(entry)
    drawn = outlines(
        occlusion, region, tolerance_px=config.tolerance, least_iou=config.least_iou, specks_px=config.specks
    )
    path = place_below(config.out, _stem(entry), ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    assert entry.picture is not None
    if config.pictures:
        picture = _copy_picture(entry, config.out).name
    else:
        picture = entry.picture if is_uri(entry.picture) else os.path.relpath(entry.picture, path.parent)
    content = labelme_content(
        image_id=entry.id,
        picture=picture,
        size=occlusion.shape,
        drawn={"face": drawn.region, "occlusion": drawn.occlusion},
    )
    write_text(path, json.dumps(content, indent=1))
    file = path.relative_to(config.out).as_posix()
    return Handed(entry=entry, file=file, tolerance=drawn.tolerance_px, iou=drawn.iou)


def _read(entry: ListedMask) -> tuple[np.ndarray, np.ndarray | None]:
    size = read_labels(entry.mask).shape
    return read_mask(entry.mask, size), None if entry.region is None else read_mask(entry.region, size)


def _stem(entry: ListedMask) -> str:
    """Name the annotation like its picture, whose suffix is part of the id where a folder was encoded."""
    return entry.id.removesuffix(Path(entry.picture or "").suffix)


def _copy_picture(entry: ListedMask, folder: Path) -> Path:
    assert entry.picture is not None
    path = place_below(folder, _stem(entry), Path(entry.picture.partition("?")[0]).suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(read_place(entry.picture))
    return path


def _index(handed: list[Handed], uncertain: dict[str, float]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["rank", "id", "file", "uncertainty", "tolerance_px", "iou"])
    for rank, made in enumerate(handed, start=1):
        tolerance = "" if made.tolerance is None else made.tolerance
        writer.writerow(
            [rank, made.entry.id, made.file, uncertain.get(made.entry.id, ""), tolerance, f"{made.iou:.4f}"]
        )
    return text.getvalue()


def plan(config: ExportConfig) -> list[str]:
    """Say what would be written."""
    try:
        found, _ = _chosen(with_absolute_paths(config))
    except (FileNotFoundError, ConfigError) as error:
        return [str(error)]
    first = ", ".join(entry.id for entry in found.masks[:5])
    return [f"{len(found.masks)} masks would be written, {len(found.without)} pictures have none; first {first}"]


command = job_command(ExportConfig, export, {}, __doc__ or "", plan=plan)

if __name__ == "__main__":
    run_alone(command)
