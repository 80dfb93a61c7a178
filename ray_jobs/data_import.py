"""Read a collection of faces, masks or annotations of any common format into one manifest (docs/data.md).

    s3pot data import format=folder images=photos out=runs/data/photos
    s3pot data import format=ffhq images=ffhq/images1024x1024 out=runs/data/ffhq prefix=ffhq/
    s3pot data import format=celebamask_parts images=CelebA-HQ-img annotations=CelebAMask-HQ-mask-anno out=runs/celeba
    s3pot data import format=label_maps images=faces annotations=maps labels=face_parsing_pytorch out=runs/data/faces
    s3pot data import format=labelme images=photos annotations=photos/json out=runs/data/real
    s3pot data import format=coco images=photos annotations=coco.json roles.occlusion=[hand,cup] out=runs/data/coco

labelme reads X-AnyLabeling, too. Pictures stay where they are; masks come out at their size, upright, 255 = occluded.
The manifest is what `s3pot encode input=...`, `data split`, `data composite` and `data export` take.

What is broken is listed in <out>/broken.csv and loses nothing else; the command then ends with exit code 1.
"""

import csv
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from ray_jobs.data_threads import each
from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from ray_jobs.run_folder import write_text
from s3pot.config import ConfigError
from s3pot.data.annotation import AnnotationError, LabelRoles
from s3pot.data.imported_files import write_imported
from s3pot.data.manifest import FILE, write_manifest
from s3pot.data.mask_folder import Polarity
from s3pot.data.safe_names import leads_out
from s3pot.data.sources import (
    Collection,
    Item,
    coco_collection,
    ffhq_collection,
    folder_collection,
    label_map_collection,
    labelme_collection,
    parts_collection,
)
from s3pot.images import ImageError
from s3pot.parsing.classes import LabelOrder

_log = logging.getLogger("s3pot.data")

Format = Literal["folder", "ffhq", "celebamask_parts", "label_maps", "labelme", "coco"]
_BROKEN = "broken.csv"
_INDEX_COLUMNS = ("kind", "occluder_kinds", "identity", "split")
_ANNOTATED = ("celebamask_parts", "label_maps", "labelme", "coco")


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """What is imported, and what it means.

    Attributes:
        format: what lies there; `labelme` also means X-AnyLabeling.
        out: folder that is written: manifest.parquet, broken.csv, truth/, region/; of label maps parsing/, labels/.
        images: folder of the pictures. Only labelme does without, where they lie beside or inside annotations.
        annotations: folder of parts, label maps, JSON files or masks (folder: <id>.png), or the COCO file.
        labels: order of the 19 classes of label_maps; never guessed, for a wrong one looks plausible.
        roles: what the labels of labelme and coco mean.
        polarity: of the masks of a folder; visible_face needs regions.
        regions: folder of face masks <id>.png, 255 = face with its occluders, for the masks of a folder.
        clean: the pictures are known to be free of occluders; otherwise a picture without annotation has no truth.
        index: CSV with `id` (without the prefix) and any of kind (or occluder_kinds), identity, split.
        source: name of the collection in the manifest; null = celebamask_hq for celebamask_parts, otherwise the format.
        split: name of the split that all of it belongs to.
        prefix: put before every id, to keep collections apart that number their pictures alike.
        outside: take pictures that annotations name outside `images` and their own folder, too.
        decode: read every picture to its end to find those cut short; false reads headers and is many times faster.
        workers: threads; 0 = one per core.
    """

    format: Format
    out: Path
    images: Path | None = None
    annotations: Path | None = None
    labels: LabelOrder | None = None
    roles: LabelRoles = field(default_factory=LabelRoles)
    polarity: Polarity = "occlusion"
    regions: Path | None = None
    clean: bool = False
    index: Path | None = None
    source: str | None = None
    split: str | None = None
    prefix: str = ""
    outside: bool = False
    decode: bool = True
    workers: int = 0

    def __post_init__(self) -> None:
        """Check that the format has what it needs, and that nothing is given that it would not look at."""
        if self.images is None and self.format != "labelme":
            raise ValueError(f"images is needed with format={self.format}: the folder of the pictures")
        if self.annotations is None and self.format in _ANNOTATED:
            raise ValueError(f"annotations is needed with format={self.format}")
        if self.annotations is not None and self.format == "ffhq":
            raise ValueError("annotations do not go with format=ffhq, which has none: format=folder takes masks")
        if (self.labels is None) == (self.format == "label_maps"):
            orders = ", ".join(get_args(LabelOrder))
            raise ValueError(f"labels: one of {orders} goes with format=label_maps and with nothing else")
        if self.roles != LabelRoles() and self.format not in ("labelme", "coco"):
            raise ValueError(f"roles do not go with format={self.format}")
        masks = self.format == "folder" and self.annotations is not None
        if not masks and (self.regions is not None or self.polarity != "occlusion"):
            raise ValueError("regions and polarity go with the masks of format=folder annotations=FOLDER only")
        if self.polarity == "visible_face" and self.regions is None:
            raise ValueError(
                "regions is needed with polarity=visible_face: occlusion is the face minus what is visible"
            )
        if self.clean and (masks or self.format in ("labelme", "coco")):
            raise ValueError("clean goes with pictures whose truth nobody drew")
        if self.prefix and leads_out(f"{self.prefix}x"):
            raise ValueError(f"prefix {self.prefix!r} leads out of the folders that results are written to")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")

    @property
    def source_name(self) -> str:
        """What the manifest calls the collection."""
        return self.source or ("celebamask_hq" if self.format == "celebamask_parts" else self.format)


def import_data(config: ImportConfig) -> pd.DataFrame:
    """Write masks and manifest, and return the manifest.

    Raises:
        FileNotFoundError: if there is nothing to import.
        ConfigError: if the index or the COCO file cannot be used.
        PartlyFailed: if something is broken; everything else is in the manifest.
    """
    config = with_absolute_paths(config)
    index = None if config.index is None else _read_index(config.index)
    collection = collect(config)
    rows: dict[str, dict[str, Any]] = {}
    by_id: dict[str, list[str]] = {}
    broken = list(collection.broken)

    def one(item: Item) -> dict[str, Any]:
        imported = item.read()
        image_id = f"{config.prefix}{imported.id}"
        further = _from_index(index, imported.id, item.where)
        return write_imported(imported, image_id, config.out, clean=config.clean) | further

    for item, result in each(one, collection.items, "pictures", _log, config.workers):
        if isinstance(result, Exception):
            broken.append((item.where, str(result)))
            continue
        by_id.setdefault(result["id"], []).append(item.where)
        rows[result["id"]] = {"source": config.source_name, "split": config.split} | result
    for image_id, places in by_id.items():
        if len(places) > 1:  # whose masks were written last is a matter of luck: none of them is kept
            del rows[image_id]
            broken += [(where, f"the id {image_id!r} is that of {', '.join(places)}") for where in places]
    _report(config.out, broken)
    _log.info(
        "%d pictures in %s, %d broken, %d without annotation left out",
        *(len(rows), config.out / FILE, len(broken), collection.left_out),
    )
    if broken and not rows:
        raise PartlyFailed(f"nothing could be imported, see {config.out / _BROKEN}, first: {broken[0][1]}")
    manifest = write_manifest(config.out, rows.values())
    if broken:
        raise PartlyFailed(f"{len(broken)} broken, see {config.out / _BROKEN}, first: {broken[0][1]}")
    return manifest


def collect(config: ImportConfig) -> Collection:
    """List what is to be imported.

    Raises:
        FileNotFoundError: if there are no annotations.
        ImageError: if there are no pictures.
        ConfigError: if the COCO file cannot be used.
    """
    images, annotations, decode = config.images, config.annotations, config.decode
    if config.format == "labelme":
        assert annotations is not None
        return labelme_collection(annotations, images, config.roles, outside=config.outside, decode=decode)
    assert images is not None
    match config.format:
        case "folder":
            regions, polarity = config.regions, config.polarity
            return folder_collection(images, masks=annotations, regions=regions, polarity=polarity, decode=decode)
        case "ffhq":
            return ffhq_collection(images, decode=decode)
    assert annotations is not None
    if config.format == "celebamask_parts":
        return parts_collection(images, annotations, decode=decode)
    if config.format == "label_maps":
        assert config.labels is not None
        return label_map_collection(images, annotations, config.labels, decode=decode)
    try:
        return coco_collection(annotations, images, config.roles, outside=config.outside, decode=decode)
    except AnnotationError as error:
        raise ConfigError("annotations", [str(error)]) from error


def _from_index(index: Mapping[str, Mapping[str, str]] | None, image_id: str, where: str) -> dict[str, str]:
    if index is None:
        return {}
    if image_id not in index:
        raise AnnotationError(f"{where}: the index has no row with the id {image_id!r}")
    return {name: value for name, value in index[image_id].items() if value}


def _read_index(path: Path) -> dict[str, dict[str, str]]:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise ConfigError(str(path), [f"cannot be read as CSV: {error}"]) from error
    known = [name for name in _INDEX_COLUMNS if name in frame.columns]
    if "id" not in frame.columns or not known:
        raise ConfigError(str(path), [f"the index needs the column id and one of {', '.join(_INDEX_COLUMNS)}"])
    if frame["id"].duplicated().any():
        raise ConfigError(str(path), [f"the id {frame['id'][frame['id'].duplicated()].iloc[0]!r} stands there twice"])
    columns = frame[["id", *known]].rename(columns={"occluder_kinds": "kind"}).set_index("id")
    return {str(name): {str(key): str(value) for key, value in row.items()} for name, row in columns.iterrows()}


def _report(out: Path, broken: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "problem"])
    writer.writerows(broken)
    for _, problem in broken[:20]:
        _log.error("broken: %s", problem)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / _BROKEN, text.getvalue())


def plan(config: ImportConfig) -> list[str]:
    """Say what an import would read."""
    try:
        collection = collect(with_absolute_paths(config))
    except (FileNotFoundError, ImageError, ConfigError) as error:
        return [str(error)]
    lines = [f"{len(collection.items)} pictures would be read, {collection.left_out} have no annotation"]
    return lines + [f"broken: {problem}" for _, problem in collection.broken]


command = job_command(ImportConfig, import_data, {}, __doc__ or "", plan=plan)

if __name__ == "__main__":
    run_alone(command)
