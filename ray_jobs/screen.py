"""Find the occluded faces of a folder: ask a vision-language model about each picture, or take our own score.

    s3pot data screen experiments/screen_qwen_vl.yaml input=photos out=runs/screen/photos
    s3pot data screen input=photos out=runs/screen/photos             (without an endpoint: our own occlusion score)
    s3pot encode input=runs/screen/photos/chosen.parquet store=runs/stores/photos

`out` gets screening.parquet (a row per image: status, label, reason, the answer word for word, attempts, seconds) and
chosen.parquet (the images with a label that was wanted, a manifest). Running it again does only what has no answer yet,
so an answer that was paid for is never asked for twice; images that failed are tried again. --dry-run says how many
images and tokens there are, and what they cost.
"""

import io
import json
import logging
import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ray_jobs import cluster
from ray_jobs.actor_pools import PoolConfig
from ray_jobs.encode_inputs import as_table, list_inputs
from ray_jobs.job_cli import PartlyFailed, absolute_place, job_command, run_alone, with_absolute_paths
from ray_jobs.journal import Journal, JournalError, JournalInUse
from ray_jobs.progress import Progress
from ray_jobs.screen_plan import plan_screening
from ray_jobs.screen_stages import STOPPED, Asking, Scoring, run_screening
from ray_jobs.tracking import tracked_run
from s3pot.chain import ChainConfig, chain_identity
from s3pot.config import ConfigError, to_mapping
from s3pot.embedded import file_hash, weights_path
from s3pot.head.head_file import read_abstention_threshold
from s3pot.places import shown_place
from s3pot.screening.chat import Endpoint, EndpointRefused
from s3pot.screening.cost import Price
from s3pot.screening.patience import Patience
from s3pot.screening.question import Question
from s3pot.screening.rows import ANSWERED, FAILED, OCCLUDED, SCHEMA, UNPARSED, as_frame, choose, label_by_score
from s3pot.store.atomic_files import write_file

_log = logging.getLogger("s3pot.screen")
TABLE, CHOSEN = "screening.parquet", "chosen.parquet"
_JOURNAL, _ASKED = "answers.jsonl", "screening.json"


@dataclass(frozen=True, kw_only=True)
class ScreenConfig:
    """What is screened, and by whom.

    Attributes:
        input: folder of images, glob, or Parquet or CSV manifest with columns `id` and `path`; a path, or a URI.
        out: folder that is written.
        endpoint: the vision-language model; none = our own occlusion score.
        question: what the model is asked.
        patience: when requests are made again.
        requests_per_minute: of all processes together; 0 = no limit.
        at_once: requests under way at once, per process.
        stop_after: images whose requests fail, one after the other, until the run stops: the server is down.
        retry_unparsed: ask again where the answer was not of the form asked for.
        price: of tokens, for --dry-run.
        chain: models of our own score; with faces=all its most occluded face speaks for an image.
        head: file of a trained head for our own score; none = the embedded one.
        threshold: score from which on an image is occluded; none = where the head stops abstaining.
        batch_size: images that a process scores at a time; a process that asks takes twice `at_once`.
        actors: processes; 0 = one per GPU (or share of one), or one per two CPU cores.
        gpus_per_actor: share of a GPU per process, for our own score; 0 = CPU.
        limit: screen at most this many images; 0 = all.
        seed: of the jitter between attempts.
        runs: folder of the MLflow database.
    """

    input: str
    out: Path
    endpoint: Endpoint | None = None
    question: Question | None = None
    patience: Patience = field(default_factory=Patience)
    requests_per_minute: float = 0.0
    at_once: int = 8
    stop_after: int = 50
    retry_unparsed: bool = False
    price: Price = field(default_factory=Price)
    chain: ChainConfig = field(default_factory=ChainConfig)
    head: Path | None = None
    threshold: float | None = None
    batch_size: int = 8
    actors: int = 0
    gpus_per_actor: float = 0.0
    limit: int = 0
    seed: int = 0
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check ranges, and that a model and a question come together."""
        object.__setattr__(self, "input", str(self.input))
        if self.endpoint is not None and self.question is None:
            raise ValueError("question is missing: start from experiments/screen_qwen_vl.yaml")
        for key, least in (("limit", 0), ("requests_per_minute", 0), ("at_once", 1), ("stop_after", 1)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} must be at least {least}, got {getattr(self, key)}")
        self.pool  # noqa: B018  its ranges are checked there

    @property
    def pool(self) -> PoolConfig:
        """The processes that ask or score."""
        if self.endpoint is None:
            size = self.batch_size
            return PoolConfig(batch_size=size, actors=self.actors, gpus_per_actor=self.gpus_per_actor)
        # A batch waits for its slowest image: with more of them than threads, fewer threads wait.
        return PoolConfig(batch_size=2 * self.at_once, actors=self.actors)


def screen(config: ScreenConfig) -> pd.DataFrame:
    """Screen what is missing; returns the table of all images of the input.

    Raises:
        PartlyFailed: if images failed, or answers were not of the form asked for; all others have their label. Or if
            the endpoint is down.
        ConfigError: if the input or the folder cannot be used, or the endpoint takes no request.
    """
    config = with_absolute_paths(replace(config, input=absolute_place(config.input)))
    if config.endpoint is not None:
        _check_key(config.endpoint)
    items = list_inputs(config.input, config.limit)
    items = items.assign(id=items["id"].map(str))
    _claim(config)
    with _answers(config.out) as journal:
        known = read_screening(config.out, journal)
        todo = items[~items["id"].isin(_done(known, config))]
        _log.info("%d images, %d already in %s", len(items), len(items) - len(todo), config.out)
        params = to_mapping(config) | {"input": shown_place(config.input), "images": len(todo)}
        with tracked_run("screen", config.out.name, params, config.runs) as tracked:
            try:
                if len(todo):
                    _run(todo, config, journal)
            finally:  # whoever stops a run wants to see what is there
                table = _finish(config, items, journal)
            tracked.log_metrics({f"images_{name}": count for name, count in _counts(table).items()})
    return _reported(table, config)


def read_screening(out: Path, journal: Journal) -> pd.DataFrame:
    """Read all rows of a folder: its table, and the answers that came after it was written."""
    rows = pq.read_table(out / TABLE).to_pylist() if (out / TABLE).is_file() else []
    try:
        return as_frame([*rows, *journal.events()])
    except JournalError as error:
        raise ConfigError(str(out), [f"{error}"]) from error


def _check_key(endpoint: Endpoint) -> None:
    try:
        key = endpoint.api_key()
    except EndpointRefused as error:
        raise ConfigError("endpoint.api_key_variable", [str(error)]) from error
    if key is not None and endpoint.url.startswith("http://"):
        _log.warning("the key goes to %s unencrypted: use https outside of a network of your own", endpoint.host)


def _claim(config: ScreenConfig) -> None:
    """Note in the folder who was asked what; answers to another question must not mix with these."""
    asked = json.dumps(_identity(config), indent=2, sort_keys=True).encode() + b"\n"
    path = config.out / _ASKED
    if path.is_file() and path.read_bytes() != asked:
        before, now = json.loads(path.read_bytes()), json.loads(asked)
        changed = sorted(name for name in before | now if before.get(name) != now.get(name))
        raise ConfigError(str(config.out), [f"holds answers with another {', '.join(changed)}: choose another out"])
    write_file(config.out, _ASKED, asked)


def _identity(config: ScreenConfig) -> dict[str, Any]:
    """Say what decides an answer."""
    if config.endpoint is None:
        head = config.head or weights_path("reweighter")
        return {"by": "score", "chain": chain_identity(config.chain), "head": file_hash(head)}
    assert config.question is not None
    question = to_mapping(config.question)
    del question["chosen"]  # what is done with the answers
    return {"by": "model", "question": question} | {
        name: getattr(config.endpoint, name) for name in ("model", "max_side", "temperature")
    }


def _answers(out: Path) -> Journal:
    try:
        return Journal(out / _JOURNAL)
    except JournalInUse as error:
        raise ConfigError(str(out), ["another run writes here: wait for it"]) from error


def _done(known: pd.DataFrame, config: ScreenConfig) -> set[str]:
    kept = (ANSWERED,) if config.retry_unparsed else (ANSWERED, UNPARSED)
    return set(known["id"][known["status"].isin(kept)])


def _run(todo: pd.DataFrame, config: ScreenConfig, journal: Journal) -> None:
    cluster.connect()
    progress = Progress(len(todo), "images", _log)
    failures = 0
    with closing(progress), closing(_rows(todo, config)) as rows:
        for row in rows:
            if row["status"] == STOPPED:
                raise ConfigError("endpoint", [row["error"]])
            journal.append(row)
            progress.add(failed=row["status"] == FAILED)
            if config.endpoint is None or row["attempts"] == 0:  # a file that cannot be read says nothing of a server
                continue
            failures = failures + 1 if row["status"] == FAILED else 0
            if failures >= config.stop_after:
                raise PartlyFailed(
                    f"{config.endpoint.host}: {failures} requests in a row failed (limit: stop_after), the last one: "
                    f"{row['error']}; run the same command again to go on"
                )


def _rows(todo: pd.DataFrame, config: ScreenConfig) -> Generator[dict[str, Any], None, None]:
    work: Asking | Scoring
    if config.endpoint is None:
        work = Scoring(chain=config.chain, head=config.head, pool=config.pool)
    else:
        assert config.question is not None
        work = Asking(
            endpoint=config.endpoint,
            question=config.question,
            patience=config.patience,
            requests_per_minute=config.requests_per_minute,
            at_once=config.at_once,
            seed=config.seed,
        )
    return run_screening(as_table(todo), work, config.pool)


def _finish(config: ScreenConfig, items: pd.DataFrame, journal: Journal) -> pd.DataFrame:
    """Write both tables; the journal is not needed any more then. Returns the rows of the input."""
    table = read_screening(config.out, journal)
    if config.endpoint is None:
        table = label_by_score(table, _threshold(config))
    write_file(config.out, TABLE, _parquet(table, SCHEMA))
    wanted = config.question.chosen if config.endpoint is not None and config.question is not None else (OCCLUDED,)
    write_file(config.out, CHOSEN, _parquet(choose(items, table, wanted)))
    journal.path.unlink()
    return table[table["id"].isin(items["id"])]


def _threshold(config: ScreenConfig) -> float:
    if config.threshold is not None:
        return config.threshold
    return read_abstention_threshold(config.head or weights_path("reweighter"))


def _parquet(table: pd.DataFrame, schema: pa.Schema | None = None) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False), buffer)
    return buffer.getvalue()


def _counts(table: pd.DataFrame) -> dict[str, int]:
    counts = {str(status): int(count) for status, count in table["status"].value_counts().items()}
    return counts | {f"label_{label}": int(count) for label, count in table["label"].value_counts().items()}


def _reported(table: pd.DataFrame, config: ScreenConfig) -> pd.DataFrame:
    labels = ", ".join(f"{count} {label}" for label, count in table["label"].value_counts().items())
    _log.info("%s: %s", config.out / TABLE, labels or "nothing has a label")
    sent, received = table["prompt_tokens"].sum(), table["completion_tokens"].sum()
    if sent:
        price = config.price.of(float(sent), float(received))
        cost = f", {price:.2f} at the given prices" if math.isfinite(price) and price else ""
        _log.info("%s tokens sent and %s received for these answers%s", f"{sent:,}", f"{received:,}", cost)
    wrong = table[table["status"] != ANSWERED]
    if len(wrong):
        failed = int((wrong["status"] == FAILED).sum())
        raise PartlyFailed(
            f"of {len(table)} images {failed} failed and {len(wrong) - failed} have an answer that is not of the form "
            f"asked for, first: {wrong['error'].iloc[0]}"
        )
    return table


SMOKE: dict[str, Any] = {"limit": 4}
command = job_command(ScreenConfig, screen, SMOKE, __doc__ or "", plan=plan_screening)

if __name__ == "__main__":
    run_alone(command)
