"""Predict what covers the faces of photographs: masks, overlays and a table, from one photograph to millions.

    s3pot predict photo.jpg out=masks
    s3pot predict photos/ out=masks overlays=true
    s3pot predict 'photos/**/*.jpg' out=masks per_image=20        (and fit the head to the 20 faces of the lowest score)
    s3pot predict s3://bucket/photos out=s3://bucket/masks gpus_per_actor=1

Every face counts. Masks lie in out/masks/<id>.png, in the frame of the photograph, 255 where any of its faces is
occluded; out/table.parquet has a row for every face with score, status, area and run lengths. Running it again does
only what is missing or has changed. A file that cannot be read becomes a row with its error and loses nothing else.
--dry-run tries 20 photographs and says how many there are and how long they take.
"""

import logging
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from ray_jobs import cluster
from ray_jobs.actor_pools import PoolConfig
from ray_jobs.encode_inputs import check_ids
from ray_jobs.job_cli import PartlyFailed, absolute_place, job_command, run_alone, with_absolute_paths
from ray_jobs.predict_plan import plan_prediction
from ray_jobs.predict_stages import PredictWork, run_prediction
from ray_jobs.predict_todo import list_photographs, missing, worst_faces
from ray_jobs.progress import Progress
from ray_jobs.run_folder import open_run
from ray_jobs.tracking import tracked_run
from s3pot.alignment import FaceChoice
from s3pot.chain import ChainConfig
from s3pot.config import to_mapping
from s3pot.head.face_fitting import FittingConfig
from s3pot.photo_masks import PhotoWriting, prediction_identity
from s3pot.places import shown_place
from s3pot.prediction_table import PredictionTable, TableWriter

_log = logging.getLogger("s3pot.predict")


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What is predicted, by which models, on what.

    Attributes:
        input: an image, a folder of images, a glob, or a Parquet or CSV manifest with columns `id` and `path`; a path,
            or a URI that pyarrow or fsspec knows.
        out: folder of masks, overlays and table, a path or a URI; what is there of earlier runs is added to.
        faces: every face of a photograph, or the most prominent one; chain.faces does not count here.
        head: trained head; none = the embedded one.
        abstain: keep silent on faces that score below the threshold that came with the head, most likely clean ones.
        overlays: write pictures of what was found, too; reads every photograph once more.
        per_image: fit a copy of the head to each of so many faces after the first pass, those marked with the lowest
            score, and replace their masks; transductive, and so labelled. Look at the result: on most faces it made
            the masks of the embedded models worse (docs/predict.md). 0 = none.
        fitting: how it is fitted.
        chain: models and frozen stages.
        batch_size: photographs per batch, and most faces that run through the models at once.
        actors: model-holding processes; 0 = one per GPU, or one per two CPU cores.
        max_actors: grow up to so many while batches queue up; 0 = as many as `actors`, always.
        gpus_per_actor: share of a GPU per actor; 0 = CPU.
        limit: predict at most this many photographs; 0 = all.
        check_changed: read the files of photographs that are in the table, and do again those that hold other bytes;
            reads every file once, which takes minutes for a million.
        retry_failed: do photographs again that failed before.
        runs: folder of run records and the MLflow database.
    """

    input: str
    out: str
    faces: FaceChoice = "all"
    head: Path | None = None
    abstain: bool = True
    overlays: bool = False
    per_image: int = 0
    fitting: FittingConfig = field(default_factory=FittingConfig)
    chain: ChainConfig = field(default_factory=ChainConfig)
    batch_size: int = 8
    actors: int = 0
    max_actors: int = 0
    gpus_per_actor: float = 0.0
    limit: int = 0
    check_changed: bool = True
    retry_failed: bool = False
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check ranges; a Path is as good a place as text."""
        for key in ("input", "out"):
            object.__setattr__(self, key, str(getattr(self, key)))
        if self.limit < 0 or self.per_image < 0:
            raise ValueError("limit and per_image must be at least 0")
        self.work  # noqa: B018  ranges of the pool are checked there

    @property
    def work(self) -> PredictWork:
        """What actors are told, except for the identity, which takes reading the weights."""
        pool = PoolConfig(
            batch_size=self.batch_size,
            actors=self.actors,
            max_actors=self.max_actors,
            gpus_per_actor=self.gpus_per_actor,
        )
        # A picture that is taken as an aligned face has one.
        chain = replace(self.chain, faces="main" if self.chain.alignment == "none" else self.faces)
        writing = PhotoWriting(
            out=self.out, identity="", faces=chain.faces, overlays=self.overlays, fitting=self.fitting
        )
        return PredictWork(chain=chain, head=self.head, abstain=self.abstain, writing=writing, pool=pool)


def predict(config: PredictConfig) -> PredictionTable:
    """Predict what is missing; returns the table.

    Raises:
        PartlyFailed: if photographs or faces failed; all others are there.
        ConfigError: if the input or the landmark file cannot be used.
        ImageError, FileNotFoundError: if there is nothing to predict.
        StoreError: if nothing more can be written, or the table is damaged.
        WeightsError: if weights are missing or do not fit.
    """
    config = absolute_places(config)
    items = list_photographs(config.input, config.out, config.limit)
    work, table = identified(config), PredictionTable(config.out)
    check_ids(items["id"].map(str), work.chain, shown_place(config.input))
    todo = missing(items, table, work.writing, check_changed=config.check_changed, retry_failed=config.retry_failed)
    _log.info("%d photographs, %d of them done already in %s", len(items), len(items) - len(todo), _out(config))
    name = Path(_out(config)).name
    places = {"input": shown_place(config.input), "out": _out(config)}
    with tracked_run("predict", name, to_mapping(config) | places | {"images": len(todo)}, config.runs) as tracked:
        open_run(config.runs, "predict", name, replace(config, **places))
        started = time.monotonic()
        if len(todo):
            _run(todo, work, table, "photographs")
        worst = worst_faces(items, table, work.writing, config.per_image)
        if len(worst):
            _run(worst, work, table, "photographs of the lowest scores")
        table.merge()
        rows = table.rows(["status", "error", "abstained", "area", "transductive"])
        rows = rows[rows["image"].isin(items["id"].map(str))]
        seconds = time.monotonic() - started
        counts = _counts(rows)
        tracked.log_metrics(counts | {"seconds": seconds, "images_per_second": len(todo) / max(seconds, 1e-9)})
    _log.info("%s: %s", _out(config), ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    failed = rows[rows["error"].notna() & (rows["status"] != "no_face")]
    if len(failed):
        raise PartlyFailed(
            f"{failed['image'].nunique()} of {rows['image'].nunique()} photographs failed, first: "
            f"{failed['error'].iloc[0]}"
        )
    return table


def absolute_places(config: PredictConfig) -> PredictConfig:
    """Make every place of a configuration absolute; URIs stay."""
    return with_absolute_paths(replace(config, input=absolute_place(config.input), out=absolute_place(config.out)))


def identified(config: PredictConfig) -> PredictWork:
    """Return what actors are told, with the identity of what they make."""
    work = config.work
    identity = prediction_identity(work.chain, work.head, abstain=work.abstain)
    return replace(work, writing=replace(work.writing, identity=identity))


def _run(todo: pd.DataFrame, work: PredictWork, table: PredictionTable, what: str) -> None:
    cluster.connect()
    columns = [name for name in ("id", "path", "fit") if name in todo.columns]
    items = pa.table({name: pa.array(todo[name].map(str), pa.string()) for name in columns})
    progress, writer = Progress(len(todo), what, _log), TableWriter(table)
    # Closed at once when it is left half-way: its actors would go on holding their share of the cluster.
    with closing(progress), closing(run_prediction(items, work)) as results:
        try:
            for image, rows in results:
                writer.add(image, rows)
                progress.add(failed=any(row["error"] for row in rows if row["status"] != "no_face"))
        finally:
            writer.flush()


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    """Count what was found, by names that MLflow takes and a sentence can hold."""
    return {
        "photographs": rows["image"].nunique(),
        "faces": int((rows["face"] > 0).sum()),
        "occluded": int((rows["area"].fillna(0) > 0).sum()),
        "abstained": int(rows["abstained"].fillna(False).astype(bool).sum()),
        "transductive": int(rows["transductive"].sum()),
        "without_face": int((rows["status"] == "no_face").sum()),
        "failed": int((rows["status"] == "failed").sum()),
    }


def _out(config: PredictConfig) -> str:
    return shown_place(config.out)


SMOKE: dict[str, Any] = {"limit": 4, "batch_size": 2}
command = job_command(PredictConfig, predict, SMOKE, __doc__ or "", plan=plan_prediction, positional="input")

if __name__ == "__main__":
    run_alone(command)
