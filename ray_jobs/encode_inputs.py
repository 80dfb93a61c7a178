"""What an encoding run is to encode: the images of a folder, a glob or a manifest, local or below a URI.

A folder is listed once: the listing is kept in the store until all of it is done, so that taking up an interrupted run
lists nothing again. What was added to the folder meanwhile is found by the run after.
"""

import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ray_jobs.job_cli import absolute_place
from s3pot.alignment import image_of_face
from s3pot.chain import ChainConfig
from s3pot.config import ConfigError
from s3pot.landmark_file import LandmarkFile
from s3pot.places import join_place, list_place, parent_place, read_place
from s3pot.store.atomic_files import write_file
from s3pot.store.manifest import CARRIED

_log = logging.getLogger("s3pot.encode")
_LISTING = "listing.parquet"
_SOURCE = b"s3pot.source"


class ManifestError(ConfigError):
    """An input manifest cannot be used; the message names it and what is wrong."""

    def __init__(self, source: Path | str, problem: str) -> None:
        super().__init__(str(source), [problem])


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What there is to encode.

    Attributes:
        items: one row per image with `id`, `path`, what is carried over, and `bytes` where the listing says them.
        asked: what was asked for, by which a listing is known; None of a manifest, which is its own listing.
        resumed: whether the items come from the listing of an interrupted run.
    """

    items: pd.DataFrame
    asked: str | None = None
    resumed: bool = False


def take_inputs(source: str, limit: int, store: Path) -> Inputs:
    """List what to encode, or take the listing that an interrupted run left in the store.

    Raises:
        FileNotFoundError: if the input is neither folder, glob nor manifest.
        ImageError: if it holds no images.
        ManifestError: if a manifest cannot be used.
    """
    if _is_manifest(source):
        return Inputs(items=list_inputs(source, limit))
    saved, asked = store / _LISTING, f"{source} limit={limit}"
    if saved.is_file() and (pq.read_schema(saved).metadata or {}).get(_SOURCE) == asked.encode():
        _log.info("going on with the listing of an interrupted run (%s)", saved)
        return Inputs(items=pq.read_table(saved).to_pandas(), asked=asked, resumed=True)
    return Inputs(items=list_inputs(source, limit), asked=asked)


def keep_listing(inputs: Inputs, store: Path) -> None:
    """Write a listing into the store until all of it is done."""
    if inputs.asked is None or inputs.resumed:
        return
    table = pa.Table.from_pandas(inputs.items, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _SOURCE: inputs.asked.encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_file(store, _LISTING, sink.getvalue().to_pybytes())


def forget_listing(store: Path) -> None:
    """Note that all of a listing is done."""
    (store / _LISTING).unlink(missing_ok=True)


def read_items(source: Path | str, limit: int = 0) -> list[dict[str, Any]]:
    """List what to encode as dictionaries; absent values are None."""
    frame = list_inputs(str(source), limit)
    frame = frame.drop(columns="bytes", errors="ignore").astype(object)
    rows: list[dict[str, Any]] = frame.where(frame.notna(), None).to_dict("records")
    return rows


def list_inputs(source: str, limit: int = 0) -> pd.DataFrame:
    """List what to encode, one row per image; raises as `take_inputs`."""
    frame = _read_manifest(source) if _is_manifest(source) else _list_images(source)
    return frame.head(limit) if limit else frame


def _is_manifest(source: str) -> bool:
    return source.partition("?")[0].endswith((".parquet", ".csv")) and not Path(source).is_dir()


def _list_images(source: str) -> pd.DataFrame:
    found = list_place(source)
    if found is None:
        raise FileNotFoundError(
            f"input={source}: neither a folder of images nor a glob (`photos/**/*.jpg`) nor a .parquet or .csv manifest"
        )
    return pd.DataFrame(
        {
            "id": [image.id for image in found],
            "path": [absolute_place(image.place) for image in found],
            "bytes": [image.bytes for image in found],
        }
    )


def _read_manifest(source: str) -> pd.DataFrame:
    try:
        data = io.BytesIO(read_place(source))
    except OSError as error:
        raise FileNotFoundError(
            f"input={source}: neither a folder of images nor a .parquet or .csv manifest: {error}"
        ) from error
    text = source.partition("?")[0].endswith(".csv")
    frame = pd.read_csv(data, dtype={"id": str}) if text else pd.read_parquet(data)
    missing = {"id", "path"} - set(frame.columns)
    if missing:
        raise ManifestError(source, f"the manifest lacks the columns {', '.join(sorted(missing))}")
    # Stored ids are text: a number would never be found again, and its image be encoded at every run.
    frame["id"] = frame["id"].astype(str)
    # Relative paths are meant from the manifest's folder, wherever the job or its workers run.
    folder = parent_place(source)
    frame["path"] = [absolute_place(join_place(folder, str(path))) for path in frame["path"]]
    outside = [name for name in frame["id"] if _leads_out(Path(name))]
    if outside:
        raise ManifestError(source, f"the id {outside[0]!r} leads out of the folders that results are written to")
    twice = frame["id"][frame["id"].duplicated()]
    if len(twice):
        raise ManifestError(source, f"the id {twice.iloc[0]!r} stands there more than once")
    return frame


def _leads_out(name: Path) -> bool:
    return name.is_absolute() or ".." in name.parts


def check_ids(ids: Iterable[str], chain: ChainConfig, source: str) -> None:
    """Refuse ids that faces would take, and landmarks of other images, before anything starts.

    Raises:
        ManifestError: naming the first such id, or the landmark file.
    """
    names = list(ids)
    if chain.faces == "all":
        taken = [name for name in names if image_of_face(name) != name]
        if taken:
            problem = f"the id {taken[0]!r} ends like that of a further face (<id>#2): rename the image, or faces=main"
            raise ManifestError(source, problem)
    if chain.landmarks is not None:
        known = LandmarkFile(chain.landmarks).ids
        without = len(set(names) - set(known))
        if without == len(set(names)):
            raise ManifestError(
                chain.landmarks,
                f"has no row for any image of {source}: its ids look like {known[0]!r}, those of the images like "
                f"{names[0]!r}",
            )
        _log.info("%d of %d images have no row in %s", without, len(names), chain.landmarks)


def as_table(items: pd.DataFrame) -> pa.Table:
    """Return what workers need of the items, all of it text: id, path and what is carried over."""
    columns = [name for name in ("id", "path", *CARRIED) if name in items.columns]
    return pa.table({name: pa.array(_texts(items[name]), pa.string()) for name in columns})


def _texts(column: pd.Series) -> list[str | None]:
    return [None if value is None or value != value else str(value) for value in column]
