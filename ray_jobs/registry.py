"""Log trained heads and whole segmenters to MLflow's model registry, and fetch a head that fits a chain.

python ray_jobs/registry.py log head=runs/train/standard/reweighter.safetensors
python ray_jobs/registry.py load version=3 out=head.safetensors chain.sam=vit_h chain.sam_checkpoint=sam_vit_h.pth
python ray_jobs/registry.py log-segmenter alias=best        (mlflow.pyfunc.load_model("models:/s3pot-segmenter@best"))

A version of a head is the head's own file and nothing else: its tags say which frozen prefix it is for, its file is
what is checked, and loading it runs no code, as an MLflow model with pickled Python would. A version of a segmenter is
a pyfunc model of all its weights, see ray_jobs/pyfunc_model.py for what it runs.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mlflow.artifacts
import typer
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ray_jobs.job_cli import job_command, with_absolute_paths
from ray_jobs.pyfunc_saving import CONTENT, HEAD_FILE, collect_segmenter, save_pyfunc
from ray_jobs.tracking import tracking_uri
from s3pot.chain import ChainConfig
from s3pot.checkpoints.reading import WeightsError
from s3pot.embedded import file_hash, weights_path
from s3pot.head.head_file import check_prefix, read_prefix, read_reweighter_config
from s3pot.head.prefix_identity import prefix_identity

_log = logging.getLogger("s3pot.registry")
NAME, SEGMENTER = "s3pot-head", "s3pot-segmenter"
_EXPERIMENT = "s3pot/registry"


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """Which head is logged.

    Attributes:
        head: a trained head's file.
        name: of the registered model.
        alias: given to the version, such as `best`; none = no alias.
        runs: folder of all runs and the MLflow database.
    """

    head: Path
    name: str = NAME
    alias: str | None = None
    runs: Path = Path("runs")


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Which segmenter is logged.

    Attributes:
        head: a trained head's file; none = the embedded one for the nano SAM.
        chain: models and frozen stages; the head must be for them.
        name: of the registered model.
        alias: given to the version, such as `best`; none = no alias.
        runs: folder of all runs and the MLflow database.
    """

    head: Path | None = None
    chain: ChainConfig = field(default_factory=ChainConfig)
    name: str = SEGMENTER
    alias: str | None = None
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Refuse what a model without names of images cannot do."""
        if self.chain.alignment == "landmarks" or self.chain.generator == "precomputed":
            raise ValueError("chain: landmarks and precomputed references belong to images with names")
        if self.chain.faces == "all":
            raise ValueError("chain: the model answers with the most prominent face, leave out faces=all")
        if self.head is None and self.chain.sam != "nano":
            raise ValueError(f"head: there is no embedded one for {self.chain.sam}, train one")


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """Which head is fetched, and what it is going to be used with.

    Attributes:
        version: number of the version, or an alias such as `best`.
        out: file to write.
        name: of the registered model.
        chain: models and frozen stages; a head for another frozen prefix is refused.
        runs: folder of all runs and the MLflow database.
    """

    version: str = "1"
    out: Path = Path("reweighter.safetensors")
    name: str = NAME
    chain: ChainConfig = field(default_factory=ChainConfig)
    runs: Path = Path("runs")


def log_head(config: LogConfig) -> ModelVersion:
    """Upload a head as the next version of a registered model.

    Raises:
        WeightsError: if the file is no head, or does not say which frozen prefix it is for.
    """
    config = with_absolute_paths(config)
    form, prefix = read_reweighter_config(config.head), read_prefix(config.head)
    if prefix is None:
        raise WeightsError(f"{config.head}: does not say which frozen prefix it is for: train it with this s3pot")
    client = MlflowClient(tracking_uri=tracking_uri(config.runs))
    tags = {"prefix_identity": prefix_identity(prefix), "head_hash": file_hash(config.head), "form": form.variant}
    with _upload(client, config.runs, config.name) as run:
        client.log_artifact(run.info.run_id, str(config.head), "head")
    return _register(client, config.name, run, f"head/{config.head.name}", tags, config.alias)


def log_segmenter(config: SegmenterConfig) -> ModelVersion:
    """Log chain and head as the next version of a pyfunc model.

    Raises:
        WeightsError: if weights are missing, or the head does not say that it is for this chain.
    """
    config = with_absolute_paths(config)
    client = MlflowClient(tracking_uri=tracking_uri(config.runs))
    with tempfile.TemporaryDirectory() as scratch:
        described = collect_segmenter(config.chain, config.head or weights_path("reweighter"), Path(scratch) / CONTENT)
        save_pyfunc(Path(scratch) / CONTENT, Path(scratch) / "model")
        with _upload(client, config.runs, config.name) as run:
            client.log_artifacts(run.info.run_id, str(Path(scratch) / "model"), "model")
    tags = {"prefix_identity": described["prefix_identity"], "head_hash": described["files"][HEAD_FILE]}
    return _register(client, config.name, run, "model", tags | {"s3pot": described["s3pot"]}, config.alias)


@contextmanager
def _upload(client: MlflowClient, runs: Path, name: str) -> Iterator[Run]:
    run = client.create_run(_experiment(client, runs), run_name=name)
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    finally:
        client.set_terminated(run.info.run_id, status)


def _register(
    client: MlflowClient, name: str, run: Run, place: str, tags: dict[str, str], alias: str | None
) -> ModelVersion:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(name, f"{run.info.artifact_uri}/{place}", run.info.run_id, tags=tags)
    if alias is not None:
        client.set_registered_model_alias(name, alias, version.version)
    called = f" @{alias}" if alias else ""
    typer.echo(f"{name} version {version.version}{called}: prefix {tags['prefix_identity']}, head {tags['head_hash']}")
    return version


def load_head(config: LoadConfig) -> Path:
    """Fetch a head from the registry; it is written to `out` only if it is for the frozen prefix of the chain.

    Raises:
        WeightsError: if it is for another prefix.
        FileNotFoundError: if there is no such version.
    """
    config = with_absolute_paths(config)
    uri = tracking_uri(config.runs)
    client = MlflowClient(tracking_uri=uri)
    try:
        if config.version.isdigit():
            version = client.get_model_version(config.name, config.version)
        else:
            version = client.get_model_version_by_alias(config.name, config.version)
    except MlflowException as error:
        raise FileNotFoundError(
            f"{config.name} {config.version}: not in the registry at {uri}: {error.message}"
        ) from error
    with tempfile.TemporaryDirectory() as scratch:
        head = Path(mlflow.artifacts.download_artifacts(version.source, dst_path=scratch, tracking_uri=uri))
        check_prefix(head, config.chain)
        config.out.parent.mkdir(parents=True, exist_ok=True)
        part = config.out.with_name(f".{config.out.name}.{os.getpid()}.part")
        part.write_bytes(head.read_bytes())
        os.replace(part, config.out)
    typer.echo(f"{config.name} version {version.version} -> {config.out}")
    return config.out


def _experiment(client: MlflowClient, runs: Path) -> str:
    experiment = client.get_experiment_by_name(_EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    # Without an explicit place, artifacts of a SQLite store land in whatever folder this was started from.
    place = None if os.environ.get("MLFLOW_TRACKING_URI") else (runs / "mlartifacts" / "registry").as_uri()
    return str(client.create_experiment(_EXPERIMENT, artifact_location=place))


app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__)
app.command("log")(job_command(LogConfig, log_head, {}, "Log a trained head to the model registry."))
app.command("log-segmenter")(job_command(SegmenterConfig, log_segmenter, {}, "Log the segmenter as a pyfunc model."))
app.command("load")(job_command(LoadConfig, load_head, {}, "Fetch a head that fits a chain from the model registry."))

if __name__ == "__main__":
    app()
