"""Upload what MLflow lacks: runs that ended, or were killed, while its server was away.

    s3pot sync                     journals of all runs below runs/
    s3pot sync /shared/runs        of another folder; --dry-run only says what would be done

To $MLFLOW_TRACKING_URI, or to where the run wanted to go. It may be run at any time, again and again: a run is there
once. Runs that still go on are left alone.
Exit codes: 0 all is there, 1 something is not (it is named), 2 no such folder.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from mlflow.tracking import MlflowClient

from ray_jobs.job_cli import setup_logging
from ray_jobs.journal import PATTERN, Event, Journal, JournalInUse
from ray_jobs.mlflow_upload import Upload, default_uri, limit_patience, one_line, without_password

Outcome = Literal["uploaded", "there already", "still running", "failed"]


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What became of one journal.

    Attributes:
        path: the journal.
        outcome: in a word.
        detail: runs, metrics and destination, or what is wrong.
    """

    path: Path
    outcome: Outcome
    detail: str = ""


def sync(runs: Path, *, dry_run: bool = False) -> list[Synced]:
    """Upload all journals below a folder; returns what became of each.

    Args:
        runs: folder of runs.
        dry_run: say "uploaded" of what would be, and send nothing.
    """
    runs = Path(os.path.abspath(runs))
    away: dict[str, str] = {}
    return [_sync_one(path, runs, away, dry_run) for path in sorted(runs.rglob(PATTERN))]


def _sync_one(path: Path, runs: Path, away: dict[str, str], dry_run: bool) -> Synced:
    """Upload one journal; `away` holds the servers that did not answer, so that each is waited for once."""
    try:
        with Journal(path) as journal:
            outcome, detail = _send(journal, runs, away, dry_run)
    except JournalInUse:
        outcome, detail = "still running", ""
    except Exception as error:
        # Whatever a client, a database driver or a storage library raises is one journal's failure; the others go on.
        outcome, detail = "failed", one_line(error)
    return Synced(path=path, outcome=outcome, detail=detail)


def _send(journal: Journal, runs: Path, away: dict[str, str], dry_run: bool) -> tuple[Outcome, str]:
    events = journal.events()
    uri = _destination(events, runs)
    name = None if uri == default_uri(runs) else without_password(uri)
    if not events or {"event": "uploaded", "to": name} in events:
        return "there already", ""
    what = f"{_count(events)} to {without_password(uri)}"
    if dry_run:
        return "uploaded", f"{what} (not sent: --dry-run)"
    if uri not in away:
        away[uri] = _problem_of(uri)
    if away[uri]:
        return "failed", f"{without_password(uri)}: {away[uri]}"
    missing = _upload(events, uri, runs)
    journal.append({"event": "uploaded", "to": name})
    if missing:
        return "failed", f"uploaded without {', '.join(map(str, missing))}: no longer there"
    return "uploaded", what


def _destination(events: list[Event], runs: Path) -> str:
    wanted = events[0].get("uri") if events else None
    return os.environ.get("MLFLOW_TRACKING_URI") or wanted or default_uri(runs)


def _problem_of(uri: str) -> str:
    """Ask the server for anything; returns what is wrong with it."""
    limit_patience()
    try:
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except Exception as error:
        return one_line(error)
    return ""


def _upload(events: list[Event], uri: str, runs: Path) -> list[Path]:
    """Send a whole journal; a run without an end was killed when it last wrote. Returns artifacts that are gone."""
    upload = Upload(uri, runs, maybe_known=True)
    logged = [event for event in events if event["event"] != "uploaded"]
    for event in logged:
        upload.send(event)
    closed = {event["run"] for event in logged if event["event"] == "close"}
    last = max(event.get("time", 0) for event in logged)
    for event in reversed(logged):
        if event["event"] == "open" and event["run"] not in closed:
            upload.send({"event": "close", "run": event["run"], "time": last, "status": "KILLED"})
    return upload.missing


def _count(events: list[Event]) -> str:
    numbers = {
        "runs": sum(event["event"] == "open" for event in events),
        "metrics": sum(len(event.get("metrics", ())) for event in events),
        "artifacts": sum(event["event"] == "artifact" for event in events),
    }
    return ", ".join(f"{number} {what if number != 1 else what[:-1]}" for what, number in numbers.items())


def command(
    runs: Annotated[Path, typer.Argument(metavar="[RUNS]", help="Folder of runs.")] = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be uploaded, and stop.")] = False,
) -> None:
    """Upload to MLflow what was logged while its server was away; each run is there once, however often this is run."""
    setup_logging()
    if not (dry_run or runs.is_dir()):
        typer.echo(f"error: {runs}: no such folder; give the `runs` of your jobs", err=True)
        raise typer.Exit(2)
    results = sync(runs, dry_run=dry_run)
    for result in results:
        if result.outcome in ("uploaded", "failed"):
            typer.echo(f"{result.outcome}: {result.path}: {result.detail}", err=result.outcome == "failed")
    outcomes = [result.outcome for result in results]
    words = [outcome for outcome in ("uploaded", "there already", "still running", "failed") if outcome in outcomes]
    typer.echo(", ".join(f"{outcomes.count(word)} {word}" for word in words) or f"{runs} holds no journals of runs")
    if "failed" in outcomes:
        raise typer.Exit(1)
