"""Per-image overfitting with Ray Tune: one small head per image of a store [S3POT 4, "Per-Image Overfitting"].

    python ray_jobs/overfit.py store=runs/stores/demo
    python ray_jobs/overfit.py store=runs/stores/demo start_from=runs/train/demo/reweighter.safetensors steps=60
    python ray_jobs/overfit.py store=runs/stores/demo worst=20 of=runs/evaluate/demo keep_heads=true
    python ray_jobs/overfit.py store=runs/stores/demo images=[00012,00031] patience=5

Transductive: every head has seen the image it is judged on, though never its truth. The budget counts optimizer steps;
with patience=N an image stops as soon as its objective is flat. Several images share a trial and actors are reused, so
that starting processes does not dominate; results do not depend on the packing. Running it again does only the missing
images; a failed image is a row, and retry_failed=true does it again.
"""

import json
import logging
import math
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_jobs import cluster
from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from ray_jobs.overfit_config import OverfitConfig
from ray_jobs.overfit_fleet import run_fleet
from ray_jobs.overfit_results import finish_fleet, log_children, read_rows, withdraw_failed
from ray_jobs.overfit_selection import choose_images
from ray_jobs.overfit_trial import STORE_COLUMNS, failed_row, head_path, write_part
from ray_jobs.progress import Progress
from ray_jobs.run_folder import identity, open_run, write_text
from ray_jobs.tracking import tracked_run
from s3pot.config import ConfigError, to_mapping
from s3pot.embedded import file_hash
from s3pot.head.head_file import check_prefix
from s3pot.metrics.summary import FAILED
from s3pot.store.manifest import SCHEMA
from s3pot.store.prompt_store import PromptStore

_log = logging.getLogger("s3pot.overfit")
_INPUTS = "inputs.json"


def overfit(config: OverfitConfig) -> Path:
    """Overfit every image and return the run's folder, an evaluation folder like that of `evaluate`.

    Raises:
        StoreError: if the store is missing, or was made with other weights than are installed.
        FileNotFoundError: if an image or a run that was asked for is not there.
        ConfigError: if the folder of this name holds another fleet.
        PartlyFailed: if images failed; all others have results.
    """
    config = with_absolute_paths(config)
    store = PromptStore(config.store)
    store.check_made_by(store.chain)
    if config.start_from is not None:
        check_prefix(config.start_from, store.chain)
    ids = choose_images(store, config)
    folder, inputs = _open(config, store)
    if config.retry_failed and (again := withdraw_failed(folder, set(ids))):
        _log.info("%d images that failed are done again", again)
    todo = _missing(folder, ids, config)
    _log.info("%d images, %d already done", len(ids), len(ids) - len(todo))
    with tracked_run(
        "overfit", folder.name, to_mapping(config) | inputs | {"images": len(todo)}, config.runs
    ) as tracked:
        started = time.monotonic()
        if todo:
            _run(rows_of(store, todo), config, folder)
        seconds = (time.monotonic() - started) / len(todo) if todo else math.nan
        rows = read_rows(folder)
        _log.info("%s: %s", folder, finish_fleet(rows, folder, tracked, seconds))
        if config.child_runs:
            log_children(rows[rows["id"].isin(todo)], tracked)
    asked = rows[rows["id"].isin(ids)]
    failed = asked[asked["status"] == FAILED]
    if len(failed):
        raise PartlyFailed(f"{len(failed)} of {len(asked)} images failed, first: {failed['error'].iloc[0]}")
    return folder


def _open(config: OverfitConfig, store: PromptStore) -> tuple[Path, dict[str, str]]:
    """Open the run's folder; returns it and what was put in. Another fleet must not add to its tables."""
    head = "none" if config.start_from is None else file_hash(config.start_from)
    made_by = store.description["identity"]
    hashed = identity(config.what_is_optimised(), made_by, head)
    inputs = {"fleet": hashed, "store_identity": made_by, "start_hash": head}
    folder = config.runs / "overfit" / (config.name or f"{store.root.name}-{hashed}")
    known = folder / _INPUTS
    if known.exists() and json.loads(known.read_text())["fleet"] != hashed:
        problem = "holds a fleet of another configuration or another store: choose another name=, or remove it"
        raise ConfigError(str(folder), [problem])
    open_run(config.runs, "overfit", folder.name, config)
    write_text(known, json.dumps(inputs, indent=2) + "\n")
    return folder, inputs


def _missing(folder: Path, ids: list[str], config: OverfitConfig) -> list[str]:
    def whole(image: Any) -> bool:
        return not config.keep_heads or image.status == FAILED or head_path(folder, image.id).exists()

    done = {image.id for image in read_rows(folder).itertuples() if whole(image)}
    return [image_id for image_id in ids if image_id not in done]


def rows_of(store: PromptStore, ids: list[str]) -> pa.Table:
    """Read what trials need to know of these images, in this order."""
    rows = store.rows(list(STORE_COLUMNS)).set_index("id", drop=False).loc[ids]
    schema = pa.schema([SCHEMA.field(name) for name in STORE_COLUMNS])
    return pa.Table.from_pandas(rows, schema=schema, preserve_index=False)


def _run(images: pa.Table, config: OverfitConfig, folder: Path) -> None:
    """Have Tune do all images; afterwards each of them has a row."""
    cluster.connect()
    with closing(Progress(len(images), "images", _log)) as progress:
        lost = run_fleet(images, config.images_per_trial, config, folder, progress)
        # One image may have killed the process that others of its trial were in. When every trial dies, it is none.
        if lost and (len(lost) < len(images) or len(lost) <= config.images_per_trial):
            _log.warning("%d images are done again, each in a trial of its own: %s", len(lost), lost[0].reason)
            alone = pa.Table.from_pylist([each.image for each in lost], schema=images.schema)
            lost = run_fleet(alone, 1, config, folder, progress)
        for _ in lost:
            progress.add(failed=True)
    if lost:
        write_part(folder, [failed_row(each.image, f"its trial died: {each.reason}") for each in lost])


SMOKE: dict[str, Any] = {"steps": 3, "limit": 2, "images_per_trial": 1}
command = job_command(OverfitConfig, overfit, SMOKE, __doc__ or "")

if __name__ == "__main__":
    # Trials are pickled by reference, and a worker's __main__ is not this file: run the module under its own name.
    from ray_jobs import overfit as job

    run_alone(job.command)
